"""Running a trained detector on pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances

from nasnet_det.config import ConfigError
from nasnet_det.detection.categories import find_categories
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.inference import prepare_inference
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.step import autocast, device_type, get_precision
from nasnet_det.detection.tiles import TiledDetector
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runtime.detections import Detections


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
        self.name, self.batch_size = str(cfg.MODEL.WEIGHTS), batch_size
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

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """As :meth:`find_objects`, in plain arrays."""
        return [self.to_detections(instances) for instances in self.find_objects(images)]

    def to_detections(self, instances: Instances) -> Detections:
        """What was found, without Detectron2's classes."""
        return Detections(
            instances.pred_boxes.tensor.numpy(),
            instances.scores.numpy(),
            instances.pred_classes.numpy(),
            self.categories,
            masks=instances.pred_masks.numpy() if instances.has("pred_masks") else None,
            keypoints=instances.pred_keypoints.numpy() if instances.has("pred_keypoints") else None,
        )
