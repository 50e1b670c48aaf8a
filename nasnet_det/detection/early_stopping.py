"""The end of a training whose evaluations have stopped rising (``SOLVER.EARLY_STOPPING``)."""

from __future__ import annotations

import logging
import math
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class EarlyStopping(HookBase):
    """End the training after some evaluations in a row without a gain, in all processes.

    It comes after the hook that evaluates, and makes the present iteration the last one.

    Args:
        metric: such as ``bbox/AP``, of the evaluations in the trainer's storage; more is better.
        period: iterations between evaluations, as of the hook that evaluates.
        patience: the number of evaluations in a row.
        min_delta: what a gain has to be more than, in the unit of the metric.
    """

    def __init__(self, metric: str, period: int, *, patience: int, min_delta: float) -> None:
        self._metric, self._period = metric, period
        self._patience, self._min_delta = patience, min_delta
        self._best, self._num_without_gain = -math.inf, 0

    def before_train(self) -> None:
        """Do nothing more where the run that is resumed has ended already."""
        if self._num_without_gain >= self._patience:
            self._end(self.trainer.start_iter)

    def after_step(self) -> None:
        """Count, where there is an evaluation of this iteration."""
        finished = self.trainer.iter + 1
        if finished % self._period or finished >= self.trainer.max_iter:
            return
        found, iteration = self.trainer.storage.latest().get(self._metric, (math.nan, -1))
        # Only the main process has results. A metric that is none of them is no reason to end.
        score = comm.all_gather(float(found) if iteration == self.trainer.iter else None)[0]
        if score is None:
            return
        if score > self._best + self._min_delta:
            self._best, self._num_without_gain = score, 0
            return
        self._num_without_gain += 1
        if self._num_without_gain >= self._patience:
            self._end(finished)

    def _end(self, num_iterations: int) -> None:
        why = (
            f"{self._metric} has not risen by more than {self._min_delta:g} from {self._best:.4f} "
            f"in {self._num_without_gain} evaluations (SOLVER.EARLY_STOPPING)"
        )
        logger.info("The training ends after %d iterations: %s", num_iterations, why)
        self.trainer.max_iter, self.trainer.why_ended = num_iterations, why

    def state_dict(self) -> dict[str, Any]:
        """What it compares with, and its count."""
        return {
            "metric": self._metric,
            "best": self._best,
            "num_without_gain": self._num_without_gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting, unless another metric is compared from now on."""
        if state["metric"] == self._metric:
            self._best, self._num_without_gain = state["best"], state["num_without_gain"]
