"""Running statistics of batch normalizations: precise ones, and those of several processes."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.layers import NaiveSyncBatchNorm
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

from nasnet_det.detection.loader import start_from
from nasnet_det.detection.processes import average_in_place
from nasnet_det.detection.seeds import Purpose, seed_step

SYNCHRONIZED = (nn.SyncBatchNorm, NaiveSyncBatchNorm)  # the same in all processes


class PreciseStatistics(hooks.PreciseBN):
    """Detectron2's precise statistics, as a function of the iteration.

    Args:
        *args: as in Detectron2; the loader is one of ``loader.py``.
        seed: of the loader and of the model's random numbers.
    """

    def __init__(self, *args: Any, seed: int) -> None:
        super().__init__(*args)
        self._seed = seed

    def update_stats(self) -> None:
        """Compute them with pictures and random numbers of this iteration."""
        start_from(self._data_loader, self.trainer.iter)
        self._data_iter = iter(self._data_loader)
        seed_step(self._seed, Purpose.STEP, self.trainer.iter)
        super().update_stats()
        average_statistics(self._model)


class StatisticsAverage(HookBase):
    """Give all processes the means of their running statistics, after every iteration.

    With ``BN`` each process has its own, and an evaluation or a checkpoint would take the first
    one's. Each iteration, since a checkpoint holds one set from which all processes go on.
    """

    def after_step(self) -> None:
        """Average running means and variances over all processes."""
        average_statistics(self.trainer.model)


class LossNormalizer(HookBase):
    """Keep the running mean of matched anchors, by which RetinaNet and FCOS divide their losses.

    Detectron2 keeps it in no checkpoint, and each process has its own. Here it is the same in all,
    and a resume goes on with it. Other detectors have none.

    Args:
        detector: in training, not wrapped.
    """

    NAME = "loss_normalizer"

    def __init__(self, detector: nn.Module) -> None:
        self._detector = detector

    def after_step(self) -> None:
        """Average it over all processes."""
        value = getattr(self._detector, self.NAME, None)
        if value is not None:
            device = next(self._detector.parameters()).device
            mean = torch.tensor([value], dtype=torch.float64, device=device)
            average_in_place([mean])
            setattr(self._detector, self.NAME, float(mean))

    def state_dict(self) -> dict[str, float]:
        """The mean, where the detector has one."""
        value = getattr(self._detector, self.NAME, None)
        return {} if value is None else {self.NAME: value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on with it."""
        setattr(self._detector, self.NAME, state[self.NAME])


def average_statistics(model: nn.Module) -> None:
    """Average what processes have each for itself: running means and variances of a model."""
    layers: list[Any] = [
        layer
        for layer in get_bn_modules(model)
        if layer.track_running_stats and not isinstance(layer, SYNCHRONIZED)
    ]
    average_in_place([value for m in layers for value in (m.running_mean, m.running_var)])
