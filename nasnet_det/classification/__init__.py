"""Image classifiers: their training, their evaluation, and their trunks as backbones."""

from typing import TYPE_CHECKING

from nasnet_det.lazy import offer

if TYPE_CHECKING:
    from nasnet_det.classification.backbone import export_backbone, read_network
    from nasnet_det.classification.config import get_classification_config
    from nasnet_det.classification.session import evaluate, train

__all__ = ["evaluate", "export_backbone", "get_classification_config", "read_network", "train"]

_MODULES = {
    "backbone": ("export_backbone", "read_network"),
    "config": ("get_classification_config",),
    "session": ("evaluate", "train"),
}
__getattr__ = offer(__name__, _MODULES, extra="classification")
