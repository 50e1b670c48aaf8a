"""Running a trained detector on pictures, and drawing what it found."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from nasnet_det.config import ConfigError
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.datasets import get_categories
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.step import autocast, device_type, get_precision
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runs.record import read_starts

FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


class Predictor:
    """A trained detector as a function of one picture.

    Unlike Detectron2's DefaultPredictor it reads weights safely, takes RGB whatever the network
    wants, computes in the precision of the config, and knows its classes by name.

    Args:
        cfg: its ``MODEL.WEIGHTS`` is a checkpoint.

    Raises:
        ConfigError: no weights are named, or the model can't be built.
        CheckpointError: the weights can't be loaded, don't fit, lack a tensor or are of other
            classes than the data sets of the config.
    """

    def __init__(self, cfg: CfgNode) -> None:
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError("MODEL.WEIGHTS: wanted a trained detector's checkpoint, got none")
        self.cfg = cfg.clone()
        self.model = Trainer.build_model(cfg).eval()
        self.categories = find_categories(cfg)
        known = [category["name"] for category in _of_datasets(cfg)]
        classes = known if len(known) == len(self.categories) else []
        Checkpointer(
            self.model, save_to_disk=False, is_trained=True, extra={"classes": classes}
        ).load(cfg.MODEL.WEIGHTS)
        self.resize = build_test_resize(cfg)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Instances:
        """Find objects.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            instances on the CPU: ``pred_boxes`` in pixels of ``image``, ``scores``,
            ``pred_classes``, and masks where the model makes them; best first.
        """
        height, width = image.shape[:2]
        given = image if self.cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
        resized = self.resize.get_transform(given).apply_image(given)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        with autocast(get_precision(self.cfg), device_type(self.cfg)):
            (result,) = self.model([{"image": tensor, "height": height, "width": width}])
        instances: Instances = result["instances"].to("cpu")
        return instances[instances.scores.argsort(descending=True, stable=True)]

    def draw(self, image: np.ndarray, instances: Instances) -> np.ndarray:
        """A copy of the picture (H, W, 3) with the instances drawn on it."""
        return draw_boxes(
            image,
            instances.pred_boxes.tensor.numpy(),
            instances.pred_classes.tolist(),
            [category["name"] for category in self.categories],
            scores=instances.scores.tolist(),
            masks=instances.pred_masks.numpy() if instances.has("pred_masks") else None,
        )

    def to_annotations(self, instances: Instances, image_id: int) -> list[dict[str, Any]]:
        """Entries of a COCO results file: boxes as x, y, width, height in pixels."""
        boxes = instances.pred_boxes.tensor.double()
        sizes = boxes[:, 2:] - boxes[:, :2]
        return [
            {
                "image_id": image_id,
                "category_id": self.categories[label]["id"],
                "bbox": [round(value, 2) for value in (*box[:2], *size)],
                "score": round(score, 5),
            }
            for box, size, label, score in zip(
                boxes.tolist(),
                sizes.tolist(),
                instances.pred_classes.tolist(),
                instances.scores.tolist(),
                strict=True,
            )
        ]


def find_categories(cfg: CfgNode) -> list[dict[str, Any]]:
    """Names and COCO ids of a model's classes, in the order of its labels.

    They stand in the ``run.json`` beside the weights; else in the data sets of the config, where
    those are at hand; else the classes are numbered.
    """
    num_classes = (
        cfg.MODEL.RETINANET.NUM_CLASSES
        if cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
        else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    )
    for categories in (_of_run(Path(cfg.MODEL.WEIGHTS).parent), _of_datasets(cfg)):
        if len(categories) == num_classes:
            return categories
    return [{"id": i, "name": f"class {i}"} for i in range(1, num_classes + 1)]


def _of_run(folder: Path) -> list[dict[str, Any]]:
    try:
        categories: list[dict[str, Any]] = read_starts(folder)[-1]["categories"]
        return [{"id": item["id"], "name": str(item["name"])} for item in categories]
    except (ValueError, LookupError, TypeError):
        return []


def _of_datasets(cfg: CfgNode) -> list[dict[str, Any]]:
    return next(filter(None, map(get_categories, (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN))), [])


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    masks: np.ndarray | None = None,
) -> np.ndarray:
    """Draw labelled boxes in one colour for each class.

    Args:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) as x0, y0, x1, y1 in pixels.
        labels: N indices into ``class_names``.
        class_names: names of all classes.
        scores: N probabilities to print, if any.
        masks: (N, H, W), if any.
    """
    texts = [class_names[label] for label in labels]
    if scores is not None:
        texts = [f"{text} {score:.0%}" for text, score in zip(texts, scores, strict=True)]
    colors = [class_color(label, len(class_names)) for label in labels]
    scale = max(1.0, 640 / max(image.shape[:2]))  # text needs pixels
    size = [round(scale * n) for n in image.shape[:2]]
    canvas = F.interpolate(
        torch.as_tensor(image.transpose(2, 0, 1)[None].astype("float32")), size, mode="bilinear"
    )[0].byte()
    if masks is not None and len(masks):
        resized = F.interpolate(torch.as_tensor(masks)[None].float(), size)[0] > 0.5
        canvas = draw_segmentation_masks(canvas, resized, alpha=0.4, colors=colors)
    if len(boxes):
        canvas = draw_bounding_boxes(
            canvas,
            torch.as_tensor(boxes) * scale,
            labels=texts,
            colors=colors,
            width=2,
            font=FONT,
            font_size=14,
            label_colors="black",
            label_background_colors=colors,
            fill_labels=True,
        )
    return canvas.permute(1, 2, 0).numpy()


def class_color(label: int, num_classes: int) -> tuple[int, int, int]:
    """A bright colour, the hues of neighbouring classes far apart."""
    hue = (label * 0.618) % 1.0 if num_classes > 1 else 0.3
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.7, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
