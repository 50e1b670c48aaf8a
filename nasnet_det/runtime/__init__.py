"""Networks for other runtimes."""

from typing import TYPE_CHECKING

from nasnet_det.lazy import offer

if TYPE_CHECKING:
    from nasnet_det.runtime.formats import Exported, export

__all__ = ["Exported", "export"]

__getattr__ = offer(__name__, {"formats": ("Exported", "export")}, extra="export")
