"""A detector as it is used: fused, and computed by the runtime of ``TEST.RUNTIME``.

Where that is another one than PyTorch, it computes a trace: of the backbone (trunk and neck), with
proposals and heads in PyTorch, or of the whole detector.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone
from torch import nn

from nasnet_det.detection.calibration import read_calibration_images
from nasnet_det.detection.config_relations import refuse
from nasnet_det.detection.onnx_backbone import RuntimeBackbone, compare_backbones, export_backbone
from nasnet_det.detection.onnx_detector import RuntimeDetector, export_detector, quantize_detector
from nasnet_det.detection.step import get_precision
from nasnet_det.runtime.engines import start_engine
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.packing import pack
from nasnet_det.runtime.quantization import quantize

logger = logging.getLogger(__name__)


def prepare_inference(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """A copy of a detector that computes faster; see the module.

    Args:
        model: of the config, with the parameters that were trained.
        cfg: its ``TEST.RUNTIME`` says where the copy computes.

    Raises:
        InputError: the runtime can't run the model, or there are no pictures to calibrate it.
    """
    node = cfg.TEST.RUNTIME
    if node.NAME == "torch":
        return pack(fuse(model, precision=get_precision(cfg)))
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    with torch.autocast("cpu", enabled=False):
        if node.PART == "detector":
            return _build_detector(model, cfg)
        backbone = _build_backbone(model, cfg)
    fused: Any = fuse(model, precision=get_precision(cfg))
    fused.backbone = backbone
    return pack(fused)


def _build_backbone(model: Any, cfg: CfgNode) -> RuntimeBackbone:
    node = cfg.TEST.RUNTIME
    backbone: Any = getattr(model, "backbone", None)
    if not isinstance(backbone, Backbone):
        wanted = f"one with a backbone, since TEST.RUNTIME.NAME is {node.NAME}"
        refuse("MODEL.META_ARCHITECTURE", wanted, cfg.MODEL.META_ARCHITECTURE)
    content = export_backbone(backbone)
    image: torch.Tensor | None = None
    if node.PRECISION == "int8":
        logger.info("Calibrating the backbone for int8")
        content = quantize(content, (batch.numpy() for batch in _whiten(model, cfg)))
        image = next(_whiten(model, cfg))
    engine = start_engine(content, node.NAME, precision=node.PRECISION, is_compared=True)
    built = RuntimeBackbone(backbone, engine)
    compare_backbones(backbone, built, node.NAME, precision=node.PRECISION, image=image)
    return built


def _whiten(model: Any, cfg: CfgNode) -> Iterator[torch.Tensor]:
    """The pictures that calibrate, as the backbone gets them."""
    for image in read_calibration_images(cfg):
        yield model.preprocess_image([{"image": image}]).tensor


def _build_detector(model: nn.Module, cfg: CfgNode) -> RuntimeDetector:
    node = cfg.TEST.RUNTIME
    content = export_detector(model, cfg)
    if node.PRECISION == "int8":
        logger.info("Calibrating the detector for int8")
        content = quantize_detector(content, cfg)
    return RuntimeDetector(start_engine(content, node.NAME, precision=node.PRECISION))
