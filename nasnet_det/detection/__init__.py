"""NASNet backbones and detectors for Detectron2; importing this registers them."""

from typing import TYPE_CHECKING

from nasnet_det.errors import MissingPackageError
from nasnet_det.lazy import offer

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise MissingPackageError("detectron2", "nasnet-det install-detectron2") from None

from nasnet_det.config import ConfigError, get_config_file, list_configs
from nasnet_det.detection.backbone import NASNetBackbone, NASNetC4Backbone
from nasnet_det.detection.config import add_nasnet_config, get_config
from nasnet_det.detection.lazy_config import check_lazy_config, get_lazy_config, put_nasnet
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.roi_heads import NASNetBoxHead, NASNetROIHeads
from nasnet_det.detection.tensorflow import TFRPN, TFNASNetROIHeads, TFRPNHead
from nasnet_det.detection.timm_backbone import TimmBackbone
from nasnet_det.detection.torchvision_backbone import TorchvisionBackbone

if TYPE_CHECKING:
    from nasnet_det.detection.batch_size import MemoryTrial, find_batch_size
    from nasnet_det.detection.learning_rate import RateTrial, find_learning_rate
    from nasnet_det.detection.prediction import Predicted, predict
    from nasnet_det.detection.results import ResultsError, read_results
    from nasnet_det.detection.session import Processes, evaluate, train
    from nasnet_det.detection.training_sheet import draw_training

__all__ = [
    "TFRPN",
    "ConfigError",
    "MemoryTrial",
    "NASNetBackbone",
    "NASNetBoxHead",
    "NASNetC4Backbone",
    "NASNetROIHeads",
    "Predicted",
    "Processes",
    "RateTrial",
    "ResultsError",
    "TFNASNetROIHeads",
    "TFRPNHead",
    "TimmBackbone",
    "TorchvisionBackbone",
    "add_nasnet_config",
    "adopt_pools",
    "check_lazy_config",
    "draw_training",
    "evaluate",
    "find_batch_size",
    "find_learning_rate",
    "get_config",
    "get_config_file",
    "get_lazy_config",
    "list_configs",
    "predict",
    "put_nasnet",
    "read_results",
    "train",
]

_MODULES = {
    "batch_size": ("MemoryTrial", "find_batch_size"),
    "learning_rate": ("RateTrial", "find_learning_rate"),
    "prediction": ("Predicted", "predict"),
    "results": ("ResultsError", "read_results"),
    "session": ("Processes", "evaluate", "train"),
    "training_sheet": ("draw_training",),
}
__getattr__ = offer(__name__, _MODULES, extra="detection")
