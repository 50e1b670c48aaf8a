"""What a trained detector reaches on corrupted pictures of its test set (arXiv 1907.07484)."""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    detection_utils,
)
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from PIL import Image

from nasnet_det.config import ConfigError
from nasnet_det.data.broken_pictures import describe_broken
from nasnet_det.data.corruptions import check_corruptions, corrupt_picture, name_package
from nasnet_det.data.pictures import PictureError
from nasnet_det.detection.config import get_config
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.cost import find_weights
from nasnet_det.detection.datasets import find_coco, register_config_datasets
from nasnet_det.detection.evaluation import build_evaluator, get_kind
from nasnet_det.detection.mapper import PictureMapper, ReadableBatches, Record, read_image
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.run import use_available_device
from nasnet_det.detection.step import autocast, device_type, get_precision
from nasnet_det.runs.detector_files import RecordError
from nasnet_det.runs.robustness import Corrupted, Robustness, read_robustness, write_robustness
from nasnet_det.runs.signals import leave_signals

logger = logging.getLogger(__name__)


class CorruptedMapper(PictureMapper):
    """The mapper of an evaluation, on corrupted pictures.

    Attributes:
        corruption, severity: which; ``corruption`` "" for pictures as they are.
    """

    corruption, severity = "", 0

    def _read(self, record: Record) -> np.ndarray | None:
        try:
            if not self.corruption:
                image = read_image(record["file_name"], self.image_format)
            else:
                image = corrupt_picture(
                    read_image(record["file_name"], "RGB"),
                    self.corruption,
                    self.severity,
                    key=record["image_id"],
                )
                image = detection_utils.convert_PIL_to_numpy(
                    Image.fromarray(image), self.image_format
                )
        except PictureError as error:
            self.broken.add(describe_broken(record["file_name"], error))
            return None
        detection_utils.check_image_size(record, image)
        return image


class PartEvaluator(DatasetEvaluator):
    """COCO's evaluation of some pictures of a set.

    Args:
        evaluator: of the whole set.
        image_ids: those pictures.
    """

    def __init__(self, evaluator: Any, image_ids: Sequence[Any]) -> None:
        self.evaluator, self.image_ids = evaluator, list(image_ids)

    def reset(self) -> None:
        """Forget what was found."""
        self.evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        """Take what was found in a batch."""
        self.evaluator.process(inputs, outputs)

    def evaluate(self) -> Any:
        """The scores."""
        return self.evaluator.evaluate(img_ids=self.image_ids)


def measure_robustness(
    folder: Path,
    corruptions: Sequence[str],
    severities: Sequence[int],
    *,
    num_images: int = 0,
    progress: Callable[[str], object] = lambda _: None,
) -> Robustness:
    """Evaluate the detector of a run on its first test set, once for each corruption and severity.

    ``corruptions.json`` in the folder gets each score as soon as it is known. Scores that are there
    already, of the same weights and pictures, are not computed again.

    Args:
        folder: the OUTPUT_DIR of a training.
        corruptions, severities: see :mod:`nasnet_det.data.corruptions`.
        num_images: how many pictures, evenly spread; 0 for all.
        progress: is told what is done next.

    Returns:
        the scores that were asked for.

    Raises:
        InputError: the run has no weights or no data in COCO's format, there is no such corruption,
            or the package for them is missing.
    """
    check_corruptions(corruptions, severities)
    if num_images < 0:
        raise ConfigError(f"number of pictures: wanted at least 1, or 0 for all, got {num_images}")
    weights = find_weights(folder)
    cfg = get_config(str(folder / "config.yaml"), ["MODEL.WEIGHTS", str(weights)])
    use_available_device(cfg)
    check_values(cfg)
    register_config_datasets(cfg)
    records = _choose_records(cfg, num_images)
    found = _start(folder, cfg, weights, len(records))
    cells = [("", 0), *product(corruptions, severities)]
    wanted = [cell for cell in cells if (not found.find(*cell) if cell[0] else found.clean is None)]
    if wanted:
        predictor = Predictor(cfg)
        objects = [row for record in records for row in record.get("annotations", ())]
        has_objects = not all(row.get("iscrowd") for row in objects)
    for number, (corruption, severity) in enumerate(wanted, start=1):
        shown = f"{corruption} {severity}" if corruption else "clean pictures"
        progress(f"{shown} ({number} of {len(wanted)})")
        ap = _evaluate(cfg, predictor, records, corruption, severity)
        if ap is None and has_objects:
            ap = 0.0  # nothing was found
        if corruption:
            row = Corrupted(corruption, severity, ap)
            found = replace(found, scores=(*found.scores, row))
        else:
            found = replace(found, clean=ap)
        write_robustness(folder, found)
    return found.select(corruptions, severities)


def _choose_records(cfg: CfgNode, num_images: int) -> list[Record]:
    """Pictures of the first test set, evenly spread."""
    name = cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else ""
    if not name or get_kind(name) != "coco" or find_coco(name) is None:
        raise ConfigError(
            f"DATASETS.TEST: wanted a set in COCO's format for corruptions, got {name or 'none'}"
        )
    records = DatasetCatalog.get(name)
    number = min(num_images or len(records), len(records))
    return [records[i * len(records) // number] for i in range(number)]


def _start(folder: Path, cfg: CfgNode, weights: Path, images: int) -> Robustness:
    """What is known already of these weights and pictures."""
    name = cfg.DATASETS.TEST[0]
    coco = find_coco(name)
    assert coco is not None
    digest = hashlib.sha256()
    for path in (weights, folder / "config.yaml"):
        digest.update(path.read_bytes())
    fresh = Robustness(
        weights=weights.name,
        identity=digest.hexdigest(),
        dataset=str(MetadataCatalog.get(name).get("json_file") or name),
        json_sha256=coco.sha256,
        images=images,
        package=name_package(),
    )
    try:
        known = read_robustness(folder)
    except RecordError as error:
        logger.warning("%s: measured anew", error)
        return fresh
    return known if known is not None and known.is_same(fresh) else fresh


def _evaluate(
    cfg: CfgNode, predictor: Predictor, records: list[Record], corruption: str, severity: int
) -> float | None:
    """AP of boxes in percent; None where it is undefined or nothing is found."""
    resize = [] if cfg.TEST.TILES.SIZE else [build_test_resize(cfg)]  # of tiles: in the model
    mapper = CorruptedMapper(cfg, is_train=False, augmentations=resize)
    mapper.corruption, mapper.severity = corruption, severity
    loader = build_detection_test_loader(
        records, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS
    )
    loader.worker_init_fn = leave_signals
    with (
        tempfile.TemporaryDirectory() as scratch,
        redirect_stdout(io.StringIO()),  # pycocotools prints each table
        autocast(get_precision(cfg), device_type(cfg)),
    ):
        evaluator = build_evaluator(cfg, cfg.DATASETS.TEST[0], scratch)
        results = inference_on_dataset(
            predictor.tiled or predictor.model,
            ReadableBatches(loader),
            PartEvaluator(evaluator, [record["image_id"] for record in records]),
        )
    ap = (results or {}).get("bbox", {}).get("AP")
    return None if ap is None or ap != ap else float(ap)
