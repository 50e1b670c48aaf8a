"""``nasnet-det export`` of a detector: its ONNX file, which is compared before it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode

from nasnet_det.detection.calibration import find_calibration_pictures
from nasnet_det.detection.config_relations import refuse
from nasnet_det.detection.cost import NOISE_SIZE, read_images
from nasnet_det.detection.onnx_detector import check_export, export_detector, quantize_detector
from nasnet_det.detection.prediction import prepare_prediction
from nasnet_det.detection.predictor import Predictor
from nasnet_det.runs.files import write_content
from nasnet_det.runtime.detector import OnnxDetector
from nasnet_det.runtime.engines import EngineError

BOX_TOLERANCE, SCORE_TOLERANCE = 0.01, 1e-3  # in pixels of the picture; of 1
SHARE = 0.98  # of the objects must be the same; of two that touch, rounding may choose the other


class Compared(NamedTuple):
    """A picture in which PyTorch and the file have looked for objects.

    Attributes:
        size: its height and width.
        num_found: by PyTorch.
        num_equal: of these, by the file as well: the class is the same, and box and score but for
            the tolerances.
    """

    size: tuple[int, int]
    num_found: int
    num_equal: int


def export_detector_file(
    cfg: CfgNode, output: str | os.PathLike[str], *, pictures: str = ""
) -> list[Compared]:
    """Write a detector's ONNX file; see :mod:`nasnet_det.detection.onnx_detector`.

    Args:
        cfg: of the training; ``MODEL.WEIGHTS`` is its checkpoint.
        output: the file.
        pictures: a folder that calibrates it for int8; "" for float32.

    Returns:
        pictures of the test set, or of noise, in which both have looked for objects.

    Raises:
        ConfigError: the detector can't be exported.
        EngineError: the file finds something else than PyTorch, in float32.
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
    content = export_detector(predictor.model, cfg)
    if pictures:
        content = quantize_detector(content, calibrating)
    predictor.fuse()
    detector = OnnxDetector(content, name=str(output))
    compared = [_compare(predictor, detector, image) for image in _find_images(cfg)]
    found, equal = (sum(column) for column in list(zip(*compared, strict=True))[1:])
    if not pictures and equal < SHARE * found:
        raise EngineError(
            f"{output} is not written: of {found} objects that PyTorch finds, it finds {equal}"
        )
    write_content(Path(output), content)
    return compared


def _find_images(cfg: CfgNode) -> Sequence[np.ndarray]:
    return read_images(cfg.DATASETS.TEST) or [
        np.random.default_rng(i).integers(0, 256, (*NOISE_SIZE, 3), dtype=np.uint8)[i:, 3 * i :]
        for i in range(4)
    ]


def _compare(predictor: Predictor, detector: OnnxDetector, image: np.ndarray) -> Compared:
    (wanted,) = predictor.detect([image])
    got = detector(image)
    if not len(got):
        return Compared(image.shape[:2], len(wanted), 0)
    near = np.abs(wanted.boxes[:, None] - got.boxes).max(axis=2) <= BOX_TOLERANCE
    near &= np.abs(wanted.scores[:, None] - got.scores) <= SCORE_TOLERANCE
    near &= wanted.classes[:, None] == got.classes
    return Compared(image.shape[:2], len(wanted), int(near.any(axis=1).sum()))
