"""NASNet backbones and detectors for Detectron2; importing this registers them."""

from nasnet_det.config import ConfigError, get_config_file, list_configs
from nasnet_det.detection.config import add_nasnet_config, get_config

__all__ = ["ConfigError", "add_nasnet_config", "get_config", "get_config_file", "list_configs"]
