"""Building and evaluating the detector of a config, by the trainer and by every other command."""

from __future__ import annotations

import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from torch import nn

from nasnet_det.detection.build_errors import explain_build_errors
from nasnet_det.detection.config_relations import check_proposals
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import adopt_sets
from nasnet_det.detection.evaluation import (
    AUGMENTED,
    add_augmented,
    build_evaluator,
    record_results,
)
from nasnet_det.detection.inference import prepare_inference
from nasnet_det.detection.mapper import PictureMapper, ReadableBatches
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.step import autocast, device_type, get_precision
from nasnet_det.detection.tiles import TiledDetector
from nasnet_det.runs.signals import leave_signals


class BaseTrainer(DefaultTrainer):
    """What Detectron2's trainer does without training: its class methods alone."""

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """As Detectron2's; what can't be built is the config's fault."""
        check_values(cfg)
        check_proposals(cfg)
        with explain_build_errors(cfg):
            return super().build_model(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> ReadableBatches:
        """As Detectron2's, with ``INPUT.SQUARE_TEST`` and without images that can't be read."""
        resize = [] if cfg.TEST.TILES.SIZE else [build_test_resize(cfg)]  # of tiles: in the model
        adopt_sets(cfg)
        mapper = PictureMapper(cfg, is_train=False, augmentations=resize)
        loader = build_detection_test_loader(cfg, dataset_name, mapper=mapper)
        loader.worker_init_fn = leave_signals
        return ReadableBatches(loader)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """See :func:`nasnet_det.detection.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name, output_folder or "")

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Any = None,
        *,
        iteration: int | None = None,
        weights: str = "",
        augment: bool = True,
    ) -> dict[str, Any]:
        """Evaluate on every set of ``DATASETS.TEST`` and write ``OUTPUT_DIR/results.json``.

        Args:
            cfg, evaluators: as in Detectron2.
            model: a copy is evaluated, see :mod:`nasnet_det.detection.inference`.
            iteration: the last iteration that the model was trained for, where known.
            weights: the file that the model came from, where it came from one.
            augment: whether ``TEST.AUG`` counts: once more with test-time augmentation, as tasks
                such as ``bbox_TTA``.

        Returns:
            task -> metric -> value; with several sets, set -> task -> metric -> value.
        """
        check_values(cfg)
        model = prepare_inference(model, cfg)
        seen = TiledDetector.from_config(cfg, model) if cfg.TEST.TILES.SIZE else model
        with autocast(get_precision(cfg), device_type(cfg)):
            results = super().test(cfg, seen, evaluators)
            if augment and cfg.TEST.AUG.ENABLED:
                folder = os.path.join(cfg.OUTPUT_DIR, f"inference{AUGMENTED}")
                augmented = super().test(
                    cfg,
                    GeneralizedRCNNWithTTA(cfg, model).train(model.training),
                    evaluators
                    or [cls.build_evaluator(cfg, name, folder) for name in cfg.DATASETS.TEST],
                )
                add_augmented(cfg, results, augmented)
        if comm.is_main_process():
            record_results(cfg, results, iteration=iteration, weights=weights)
        return results
