"""Pictures and videos through a trained detector of Detectron2's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.config import CfgNode

from nasnet_det.data.error import DataError
from nasnet_det.detection.categories import adopt_num_classes
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.published_weights import adopt_pools
from nasnet_det.detection.run import use_available_device
from nasnet_det.prediction.writing import Predicted, write_predictions


def predict(
    cfg: CfgNode,
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    threshold: float = 0.5,
    batch_size: int = 1,
    frames_per_second: float = 0.0,
    json_file: str = "",
    with_fiftyone: bool = False,
    on_picture: Callable[[Path], object] = lambda _: None,
) -> Predicted:
    """Find objects in pictures and videos; see :func:`~nasnet_det.prediction.write_predictions`.

    Args:
        cfg: of the training; ``MODEL.WEIGHTS`` is its checkpoint. It is not changed.
        batch_size: pictures, or tiles, that the detector gets at a time.
        inputs, output, threshold, frames_per_second, json_file, with_fiftyone, on_picture: as
            there.

    Raises:
        InputError: there is no picture, or the config, the weights or the folder can't be used.
    """
    return write_predictions(
        lambda: open_predictor(cfg, batch_size=batch_size),
        inputs,
        output,
        threshold=threshold,
        frames_per_second=frames_per_second,
        json_file=json_file,
        with_fiftyone=with_fiftyone,
        on_picture=on_picture,
    )


def open_predictor(cfg: CfgNode, *, batch_size: int = 1) -> Predictor:
    """The detector of a training's config, on a device that is there.

    Raises:
        InputError: the config or the weights can't be used.
    """
    return Predictor(prepare_prediction(cfg), batch_size=batch_size)


def prepare_prediction(cfg: CfgNode) -> CfgNode:
    """The config, on a device that is there."""
    cfg = cfg.clone()
    cfg.defrost()
    check_values(cfg)
    adopt_pools(cfg)
    with contextlib.suppress(DataError):  # the training's data may be elsewhere by now
        register_config_datasets(cfg)
    adopt_num_classes(cfg)
    use_available_device(cfg)
    cfg.freeze()
    return cfg
