"""The chain of stages: search, classifier, backbone, detector, evaluation, reports."""

from typing import TYPE_CHECKING

from nasnet_det.lazy import offer

if TYPE_CHECKING:
    from nasnet_det.pipeline.chain import get_pipeline_config
    from nasnet_det.pipeline.session import describe, run

__all__ = ["describe", "get_pipeline_config", "run"]

_MODULES = {"chain": ("get_pipeline_config",), "session": ("describe", "run")}
__getattr__ = offer(__name__, _MODULES)
