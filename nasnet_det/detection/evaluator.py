"""COCO's evaluation of a data set that was read already."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, LVISEvaluator, coco_evaluation
from pycocotools.coco import COCO

from nasnet_det.data.coco import CocoFile
from nasnet_det.detection.records import find_trained

MAX_DETECTIONS = [1, 10, 100]  # of COCO's AR1, AR10, and everything else

logger = logging.getLogger(__name__)


class CocoEvaluator(COCOEvaluator):
    """Detectron2's evaluator without a second reading of the JSON.

    A data set without annotations is not scored; its detections are written all the same.

    Args:
        dataset_name: of a registered set.
        coco: what its JSON holds, with shapes where there are masks or keypoints.
        output_dir: gets ``coco_instances_results.json``.
        needs_masks: whether masks are evaluated.
        max_detections: on an image that count, the best first: COCO's 100 or more.
        oks_sigmas: of keypoints; none for COCO's own.
    """

    def __init__(
        self,
        dataset_name: str,
        coco: CocoFile,
        *,
        output_dir: str,
        needs_masks: bool,
        max_detections: int = MAX_DETECTIONS[-1],
        oks_sigmas: Sequence[float] = (),
    ) -> None:
        # What the base class sets, which would read the file itself.
        self._logger = logging.getLogger(__name__)
        self._distributed = True
        self._output_dir = output_dir
        self._use_fast_impl = coco_evaluation.COCOeval_opt is not coco_evaluation.COCOeval
        self._max_dets_per_image = [*MAX_DETECTIONS[:-1], max_detections]
        self._tasks = None
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        self._kpt_oks_sigmas = tuple(oks_sigmas)
        self._coco_api = build_coco_api(coco, needs_masks=needs_masks)
        self._do_evaluation = coco.has_annotations and len(coco.objects) > 0


class LvisEvaluator(LVISEvaluator):
    """Detectron2's evaluator with a package lvis (0.5.3) that knows no NumPy of today."""

    def evaluate(self) -> Any:
        """As the base class; ``np.float``, which NumPy 1.24 took away, is there meanwhile."""
        if hasattr(np, "float"):
            return super().evaluate()
        np.float = float  # type: ignore[attr-defined]
        try:
            return super().evaluate()
        finally:
            del np.float  # type: ignore[attr-defined]


def count_detections(detections_per_image: int) -> int:
    """How many detections on an image count; more than COCO's 100 are told.

    Args:
        detections_per_image: ``TEST.DETECTIONS_PER_IMAGE``.
    """
    if detections_per_image <= MAX_DETECTIONS[-1]:
        return MAX_DETECTIONS[-1]
    logger.info(
        "TEST.DETECTIONS_PER_IMAGE %d: as many count in the evaluation, where COCO's own counts %d",
        *(detections_per_image, MAX_DETECTIONS[-1]),
    )
    return detections_per_image


def _describe(points: Sequence[float] | None, number: int) -> dict[str, Any]:
    """Keypoints as COCO's evaluation wants them; an object without any is not counted."""
    points = list(points or [0] * 3 * number)
    return {"keypoints": points, "num_keypoints": sum(seen > 0 for seen in points[2::3])}


def build_coco_api(coco: CocoFile, *, needs_masks: bool) -> COCO:
    """pycocotools' data set of a file's images, categories and objects.

    Objects are numbered from 1: a match with annotation id 0, where some tools begin, counts as a
    miss in pycocotools.
    """
    objects = coco.objects
    num_keypoints = max((len(points or ()) // 3 for points in objects.keypoints), default=0)
    annotations: list[dict[str, Any]] = [
        {
            "id": number + 1,
            "image_id": coco.image_ids[objects.image[number]],
            "category_id": coco.category_ids[objects.category[number]],
            "bbox": objects.boxes[number].tolist(),
            "area": float(objects.areas[number]),
            "iscrowd": int(objects.is_crowd[number]),
            **({"segmentation": objects.masks[number]} if needs_masks else {}),
            **(_describe(objects.keypoints[number], num_keypoints) if num_keypoints else {}),
        }
        for number in find_trained(objects, needs_masks=needs_masks).tolist()
    ]
    sizes = np.nan_to_num(coco.sizes).astype(int).tolist()
    api = COCO()
    api.dataset = {
        "images": [
            {"id": key, "file_name": name, "width": width, "height": height}
            for key, name, (width, height) in zip(
                coco.image_ids, coco.file_names, sizes, strict=True
            )
        ],
        "categories": [
            {"id": key, "name": name}
            for key, name in zip(coco.category_ids, coco.category_names, strict=True)
        ],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    return api
