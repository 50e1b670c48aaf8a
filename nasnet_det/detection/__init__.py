"""NASNet backbones and detectors for Detectron2; importing this registers them."""

from nasnet_det.config import ConfigError, get_config_file, list_configs
from nasnet_det.detection.backbone import NASNetBackbone, NASNetC4Backbone
from nasnet_det.detection.config import add_nasnet_config, get_config
from nasnet_det.detection.roi_heads import NASNetBoxHead, NASNetROIHeads

__all__ = [
    "ConfigError",
    "NASNetBackbone",
    "NASNetBoxHead",
    "NASNetC4Backbone",
    "NASNetROIHeads",
    "add_nasnet_config",
    "get_config",
    "get_config_file",
    "list_configs",
]
