"""``nasnet-det export`` of a detector: its ONNX file, which is compared before it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode

from nasnet_det.detection.calibration import find_calibration_pictures
from nasnet_det.detection.categories import get_head
from nasnet_det.detection.config_relations import refuse
from nasnet_det.detection.cost import NOISE_SIZE, read_images
from nasnet_det.detection.onnx_detector import check_export, export_detector, quantize_detector
from nasnet_det.detection.prediction import prepare_prediction
from nasnet_det.detection.predictor import Predictor
from nasnet_det.runs.files import write_content
from nasnet_det.runtime.detector import OnnxDetector
from nasnet_det.runtime.engines import EngineError
from nasnet_det.runtime.onnx_trace import OPSET

BOX_TOLERANCE, SCORE_TOLERANCE = 0.01, 1e-3  # in pixels of the picture; of 1
SHARE = 0.98  # of the objects must be the same; of two that touch, rounding may choose the other


class Compared(NamedTuple):
    """A picture in which PyTorch and the file have looked for objects.

    Attributes:
        size: its height and width.
        num_found: by PyTorch.
        num_in_file: by the file.
        num_equal: by both: the class is the same, and box and score but for the tolerances.
    """

    size: tuple[int, int]
    num_found: int
    num_in_file: int
    num_equal: int


def export_detector_file(
    cfg: CfgNode, output: str | os.PathLike[str], *, pictures: str = "", opset: int = OPSET
) -> list[Compared]:
    """Write a detector's ONNX file; see :mod:`nasnet_det.detection.onnx_detector`.

    Args:
        cfg: of the training; ``MODEL.WEIGHTS`` is its checkpoint.
        output: the file.
        pictures: a folder that calibrates it for int8; "" for float32.
        opset: of ONNX.

    Returns:
        pictures of the test set, or of noise, in which both have looked for objects; the last is
        the first one turned by 90 degrees, for another size.

    Raises:
        ConfigError: the detector can't be exported.
        EngineError: ONNX can't hold it, or the file finds something else than PyTorch, in float32.
        FileError: it can't be written.
    """
    check_export(cfg)
    if cfg.INPUT.SQUARE_TEST:
        refuse("INPUT.SQUARE_TEST", "0 for an export", cfg.INPUT.SQUARE_TEST)
    cfg = cfg.clone()
    cfg.defrost()
    # What the file is compared with: whole pictures, in float32, in PyTorch.
    cfg.merge_from_list(
        ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", False, "TEST.TILES.SIZE", 0]
        + ["TEST.RUNTIME.NAME", "torch", "TEST.RUNTIME.PART", "backbone"]
        + ["TEST.RUNTIME.PRECISION", "float32", "TEST.RUNTIME.CALIBRATION", ""]
    )
    cfg = prepare_prediction(cfg)
    calibrating = cfg.clone()
    calibrating.defrost()
    calibrating.TEST.RUNTIME.CALIBRATION = pictures
    if pictures:
        find_calibration_pictures(calibrating)  # before minutes of work
    predictor = Predictor(cfg, fused=False)
    content = export_detector(predictor.model, cfg, opset=opset)
    if pictures:
        content = quantize_detector(content, calibrating)
    predictor.fuse()
    compared = _compare_all(predictor, content, str(output))
    if not pictures:
        _check(compared, str(output), opset)
        if not any(row.num_found for row in compared):  # and so nothing is compared
            _check_without_threshold(cfg, str(output), opset)
    write_content(Path(output), content)
    return compared


def _check(compared: Sequence[Compared], output: str, opset: int) -> None:
    found, in_file, equal = (sum(column) for column in list(zip(*compared, strict=True))[1:])
    if equal < SHARE * max(found, in_file):
        other = f"give opset {OPSET}, or " if opset < OPSET else ""
        raise EngineError(
            f"{output} is not written: of {found} objects that PyTorch finds, it finds {equal}, "
            f"and {in_file - equal} others; a part of the network does something else in ONNX's "
            f"opset {opset} than in PyTorch: {other}run it there, with nasnet-det predict"
        )


def _check_without_threshold(cfg: CfgNode, output: str, opset: int) -> None:
    """Compare what both find where nothing is too unlikely to be told."""
    cfg = cfg.clone()
    cfg.defrost()
    get_head(cfg).SCORE_THRESH_TEST = 0.0
    predictor = Predictor(cfg, fused=False)
    content = export_detector(predictor.model, cfg, opset=opset)
    predictor.fuse()
    _check(_compare_all(predictor, content, output), output, opset)


def _compare_all(predictor: Predictor, content: bytes, output: str) -> list[Compared]:
    images = _find_images(predictor.cfg)
    detector = OnnxDetector(content, name=output)
    try:
        return [_compare(predictor, detector, image) for image in [*images, np.rot90(images[0])]]
    except EngineError as error:
        raise EngineError(
            f"{output} is not written: {error}; a part of the network keeps a size of the picture "
            "that was traced: use torch's operations there, or run it in PyTorch, with nasnet-det "
            "predict"
        ) from error


def _find_images(cfg: CfgNode) -> Sequence[np.ndarray]:
    return read_images(cfg.DATASETS.TEST) or [
        np.random.default_rng(i).integers(0, 256, (*NOISE_SIZE, 3), dtype=np.uint8)[i:, 3 * i :]
        for i in range(4)
    ]


def _compare(predictor: Predictor, detector: OnnxDetector, image: np.ndarray) -> Compared:
    (wanted,) = predictor.detect([image])
    got = detector(image)
    if not len(got):
        return Compared(image.shape[:2], len(wanted), 0, 0)
    near = np.abs(wanted.boxes[:, None] - got.boxes).max(axis=2) <= BOX_TOLERANCE
    near &= np.abs(wanted.scores[:, None] - got.scores) <= SCORE_TOLERANCE
    near &= wanted.classes[:, None] == got.classes
    equal = min(int(near.any(axis=axis).sum()) for axis in (0, 1))
    return Compared(image.shape[:2], len(wanted), len(got), equal)
