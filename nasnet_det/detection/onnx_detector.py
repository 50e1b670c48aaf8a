"""Whole detectors as ONNX files, with the suppression of what is found twice inside.

The file takes one picture as INPUT wants it, (3, H, W) in the scale of bytes, of any size, and
gives ``boxes`` (N, 4) in its pixels, ``scores`` (N,), ``classes`` (N,), and with masks ``masks``
(N, 1, S, S), the probabilities within each box. What it needs to know of pictures and classes
stands in its metadata, so nothing but the file and a runtime is needed to use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, RotatedBoxes
from torch import nn

from nasnet_det.detection.calibration import read_calibration_images
from nasnet_det.detection.categories import find_categories, get_head
from nasnet_det.detection.config_relations import refuse
from nasnet_det.detection.onnx_backbone import prepare_trace
from nasnet_det.runtime.engines import Engine, EngineError
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.onnx_trace import OPSET, trace_to_onnx
from nasnet_det.runtime.quantization import quantize
from nasnet_det.version import __version__

FIELDS = {
    "boxes": "pred_boxes",
    "scores": "scores",
    "classes": "pred_classes",
    "masks": "pred_masks",
}
"""Output -> Detectron2's name for it."""
ARCHITECTURES = ("GeneralizedRCNN", "RetinaNet", "FCOS")
ROTATED = {
    "ANCHOR_GENERATOR": "RotatedAnchorGenerator",
    "PROPOSAL_GENERATOR": "RRPN",
    "ROI_HEADS": "RROIHeads",
}
"""Part of the model -> the name of Detectron2's for rotated boxes."""
HOLDS = "an ONNX detector holds upright boxes, scores, classes and masks"
OTHERWISE = "run it in PyTorch, with nasnet-det predict"
TRACED_SIZE = (128, 160)


class TracedDetector(nn.Module):
    """A detector of one picture that returns tensors.

    Args:
        model: of Detectron2's, in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.outputs = ["boxes", "scores", "classes"]
        if getattr(getattr(model, "roi_heads", None), "mask_on", False):
            self.outputs.append("masks")

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(3, H, W) -> the outputs; see the module."""
        model: Any = self.model
        with patch_builtin_len():
            if isinstance(model, GeneralizedRCNN):
                (found,) = model.inference([{"image": image}], do_postprocess=False)
            else:
                images = model.preprocess_image([{"image": image}])
                maps = model.backbone(images.tensor)
                features = [maps[name] for name in model.head_in_features]
                (found,) = model.forward_inference(images, features, model.head(features))
        self._check_found(found)
        tensors = (getattr(found, FIELDS[name]) for name in self.outputs)
        return tuple(t.tensor if isinstance(t, Boxes) else t for t in tensors)

    def _check_found(self, found: Instances) -> None:
        """See that the file can hold all that is found."""
        wanted, got = {FIELDS[name] for name in self.outputs}, found.get_fields()
        heads = type(getattr(self.model, "roi_heads", self.model)).__name__
        if isinstance(got.get("pred_boxes"), RotatedBoxes):
            raise EngineError(f"{heads} finds rotated boxes, and {HOLDS}: {OTHERWISE}")
        if wanted - got.keys():
            lacking = ", ".join(sorted(wanted - got.keys()))
            raise EngineError(f"{heads} finds no {lacking}, and {HOLDS}: {OTHERWISE}")
        if got.keys() - wanted:
            more = ", ".join(sorted(got.keys() - wanted))
            raise EngineError(
                f"{heads} finds {more} as well, and {HOLDS} alone: {OTHERWISE}, or let it find "
                "these alone while torch.jit.is_tracing()"
            )


def check_export(cfg: CfgNode) -> None:
    """See that the detector of a config can be exported.

    Raises:
        ConfigError: it finds no boxes, or more than boxes and masks.
    """
    why = f"for an export, since {HOLDS}"
    if cfg.MODEL.META_ARCHITECTURE not in ARCHITECTURES:
        wanted = f"{' or '.join(ARCHITECTURES)} {why}"
        refuse("MODEL.META_ARCHITECTURE", wanted, cfg.MODEL.META_ARCHITECTURE)
    if cfg.MODEL.KEYPOINT_ON:
        refuse("MODEL.KEYPOINT_ON", f"False {why}", True)
    for node, name in ROTATED.items():
        if name == cfg.MODEL[node].NAME:
            refuse(f"MODEL.{node}.NAME", f"one for upright boxes {why}", name)


def export_detector(model: nn.Module, cfg: CfgNode, *, opset: int = OPSET) -> bytes:
    """The content of a detector's ONNX file; see the module.

    Args:
        model: of the config, with trained weights.
        cfg: its preprocessing and the names of the classes go into the file.
        opset: of ONNX.

    Raises:
        ConfigError: see :func:`check_export`.
        EngineError: ONNX can't hold it, or not what it finds.
    """
    check_export(cfg)
    traced = TracedDetector(prepare_trace(fuse(model))).eval()
    about = {
        "part": "detector",
        "version": __version__,
        "categories": find_categories(cfg),
        "format": cfg.INPUT.FORMAT,
        "min_size": cfg.INPUT.MIN_SIZE_TEST,
        "max_size": cfg.INPUT.MAX_SIZE_TEST,
        "score_threshold": get_head(cfg).SCORE_THRESH_TEST,
    }
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *TRACED_SIZE), generator=generator).float()
    return trace_to_onnx(
        traced,
        image,
        sizes={1: "height", 2: "width"},
        outputs=traced.outputs,
        about=about,
        opset=opset,
    )


def quantize_detector(content: bytes, cfg: CfgNode) -> bytes:
    """The same with numbers of 8 bits in the backbone and the layers of the heads.

    Boxes and scores keep 32 bits.

    Args:
        content: of :func:`export_detector`.
        cfg: its ``TEST.RUNTIME.CALIBRATION`` or its training set has the pictures.

    Raises:
        InputError: there are none.
    """
    images = (image.numpy() for image in read_calibration_images(cfg))
    return quantize(content, images, inside="/backbone/")


class RuntimeDetector(nn.Module):
    """A detector's ONNX file in a runtime, called as Detectron2's models are.

    Args:
        engine: runs the file.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.device = torch.device("cpu")

    def forward(self, inputs: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Records with ``image`` (3, H, W), ``height`` and ``width`` -> what is found in each."""
        return [{"instances": self._find(one)} for one in inputs]

    def _find(self, one: dict[str, Any]) -> Instances:
        image = one["image"]
        height, width = image.shape[-2:]
        arrays = self.engine.run([np.ascontiguousarray(image.numpy(), np.float32)])
        outputs = dict(zip(self.engine.outputs, map(torch.from_numpy, arrays), strict=True))
        found = Instances((height, width))
        for name, tensor in outputs.items():
            found.set(FIELDS[name], Boxes(tensor) if name == "boxes" else tensor)
        return detector_postprocess(found, one.get("height", height), one.get("width", width))
