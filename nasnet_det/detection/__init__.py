"""NASNet backbones and detectors for Detectron2; importing this registers them."""

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ModuleNotFoundError(
        "nasnet_det.detection needs Detectron2: run python tools/install_detectron2.py",
        name="detectron2",
    ) from None

from nasnet_det.config import ConfigError, get_config_file, list_configs
from nasnet_det.detection.backbone import NASNetBackbone, NASNetC4Backbone
from nasnet_det.detection.config import add_nasnet_config, get_config
from nasnet_det.detection.lazy_config import check_lazy_config, get_lazy_config, put_nasnet
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.roi_heads import NASNetBoxHead, NASNetROIHeads
from nasnet_det.detection.tensorflow import TFRPN, TFNASNetROIHeads, TFRPNHead

__all__ = [
    "TFRPN",
    "ConfigError",
    "NASNetBackbone",
    "NASNetBoxHead",
    "NASNetC4Backbone",
    "NASNetROIHeads",
    "TFNASNetROIHeads",
    "TFRPNHead",
    "add_nasnet_config",
    "adopt_pools",
    "check_lazy_config",
    "get_config",
    "get_config_file",
    "get_lazy_config",
    "list_configs",
    "put_nasnet",
]
