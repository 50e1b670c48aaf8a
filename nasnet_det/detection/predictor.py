"""Running a trained detector on pictures, and drawing what it found."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.structures import Instances
from pycocotools import mask as mask_util
from torchvision.utils import draw_bounding_boxes, draw_keypoints, draw_segmentation_masks

from nasnet_det.config import ConfigError
from nasnet_det.detection.categories import find_categories
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.inference import prepare_inference
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.step import autocast, device_type, get_precision
from nasnet_det.detection.tiles import TiledDetector
from nasnet_det.detection.trainer import Trainer

FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


class Predictor:
    """A trained detector as a function of pictures.

    Unlike Detectron2's DefaultPredictor it reads weights safely, takes RGB whatever the network
    wants, computes in the precision of the config, and knows its classes by name. With
    ``TEST.TILES.SIZE`` it looks at tiles of large pictures too.

    Args:
        cfg: its ``MODEL.WEIGHTS`` is a checkpoint.
        batch_size: pictures, or tiles, that the model gets at a time.
        fused: see :meth:`fuse`; without it ``model`` has the parameters that were trained.

    Raises:
        ConfigError: no weights are named, or the model can't be built.
        CheckpointError: the weights can't be loaded, don't fit or lack a tensor.
    """

    def __init__(self, cfg: CfgNode, *, batch_size: int = 1, fused: bool = True) -> None:
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError("MODEL.WEIGHTS: wanted a trained detector's checkpoint, got none")
        if batch_size < 1:
            raise ConfigError(f"batch size: wanted at least 1, got {batch_size}")
        self.cfg = cfg.clone()
        self.batch_size = batch_size
        self.model = Trainer.build_model(cfg).eval()
        self.categories = find_categories(cfg)
        checkpointer = Checkpointer(self.model, save_to_disk=False, is_trained=True)
        checkpointer.load(cfg.MODEL.WEIGHTS)
        self.tiled: TiledDetector | None = None  # which resizes what it sees of a picture
        self.resize = build_test_resize(cfg)
        self._build_tiled()
        if fused:
            self.fuse()

    def fuse(self) -> None:
        """Compute faster from now on: see :mod:`nasnet_det.detection.inference`."""
        self.model = prepare_inference(self.model, self.cfg)
        self._build_tiled()

    @property
    def precision(self) -> str:
        """That of the network: of ``TEST.RUNTIME``, or with torch of ``SOLVER.AMP``."""
        node = self.cfg.TEST.RUNTIME
        if node.NAME != "torch":
            return str(node.PRECISION)
        return str(get_precision(self.cfg) or torch.float32).removeprefix("torch.")

    def _build_tiled(self) -> None:
        if self.cfg.TEST.TILES.SIZE:
            tiled = TiledDetector.from_config(self.cfg, self.model, batch_size=self.batch_size)
            self.tiled = tiled.eval()

    def __call__(self, image: np.ndarray) -> Instances:
        """Find objects.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            instances on the CPU: ``pred_boxes`` in pixels of ``image``, ``scores``,
            ``pred_classes``, and masks or keypoints where the model makes them; best first.
        """
        return self.find_objects([image])[0]

    @torch.no_grad()
    def find_objects(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Find objects in pictures, ``batch_size`` at a time; see :meth:`__call__`.

        Only neighbours of one size share a batch. So none is padded for another one's sake, and
        what is found in a picture does not depend on the others.
        """
        detect = self.tiled or self.model
        found: list[Instances] = []
        for _, alike in itertools.groupby(images, lambda image: image.shape):
            inputs = [self._to_input(image) for image in alike]
            for start in range(0, len(inputs), self.batch_size):
                with autocast(get_precision(self.cfg), device_type(self.cfg)):
                    results = detect(inputs[start : start + self.batch_size])
                found += [result["instances"].to("cpu") for result in results]
        return [one[one.scores.argsort(descending=True, stable=True)] for one in found]

    def _to_input(self, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[:2]
        given = image if self.cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
        if self.tiled:
            seen = given.copy()
        else:
            seen = self.resize.get_transform(given).apply_image(given).astype("float32")
        tensor = torch.as_tensor(seen.transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}

    def draw(self, image: np.ndarray, instances: Instances) -> np.ndarray:
        """A copy of the picture (H, W, 3) with the instances drawn on it."""
        return draw_boxes(
            image,
            instances.pred_boxes.tensor.numpy(),
            instances.pred_classes.tolist(),
            [category["name"] for category in self.categories],
            scores=instances.scores.tolist(),
            masks=instances.pred_masks.numpy() if instances.has("pred_masks") else None,
            keypoints=instances.pred_keypoints[:, :, :2].numpy()
            if instances.has("pred_keypoints")
            else None,
        )

    def to_annotations(self, instances: Instances, image_id: Any) -> list[dict[str, Any]]:
        """Entries of a COCO results file, which a data set may have too.

        Boxes are x, y, width and height in pixels, masks are RLE, keypoints x, y and score each.
        """
        boxes = instances.pred_boxes.tensor.double()
        sizes = boxes[:, 2:] - boxes[:, :2]
        annotations: list[dict[str, Any]] = [
            {
                "image_id": image_id,
                "category_id": self.categories[label]["id"],
                "bbox": [round(value, 2) for value in (*box[:2], *size)],
                "area": round(size[0] * size[1], 2),
                "iscrowd": 0,
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
        if instances.has("pred_masks"):
            for annotation, mask in zip(annotations, instances.pred_masks.numpy(), strict=True):
                annotation["segmentation"] = _encode(mask)
                annotation["area"] = int(mask.sum())
        if instances.has("pred_keypoints"):
            # COCO's keypoints are indices of pixels, the model's are measured from their corners.
            points = instances.pred_keypoints.double() - torch.tensor([0.5, 0.5, 0.0])
            for annotation, one in zip(annotations, points, strict=True):
                annotation["keypoints"] = [round(value, 3) for value in one.flatten().tolist()]
                annotation["num_keypoints"] = len(one)
        return annotations


def _encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed RLE, in what JSON can hold."""
    encoded = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    masks: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
) -> np.ndarray:
    """Draw labelled boxes in one colour for each class.

    Args:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) as x0, y0, x1, y1 in pixels.
        labels: N indices into ``class_names``.
        class_names: names of all classes.
        scores: N probabilities to print, if any.
        masks: (N, H, W), if any.
        keypoints: (N, K, 2) as x, y in pixels, if any.
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
    for points, color in zip(() if keypoints is None else keypoints, colors, strict=False):
        canvas = draw_keypoints(canvas, torch.as_tensor(points)[None] * scale, colors=color)
    return canvas.permute(1, 2, 0).numpy()


def class_color(label: int, num_classes: int) -> tuple[int, int, int]:
    """A bright colour, the hues of neighbouring classes far apart."""
    hue = (label * 0.618) % 1.0 if num_classes > 1 else 0.3
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.7, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
