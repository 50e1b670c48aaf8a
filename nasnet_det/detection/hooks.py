"""What happens around the iterations of a training so that a kill at any moment loses nothing.

One rule orders the hooks: the checkpoint comes last. What an iteration leaves behind (its
evaluation, ``model_best.pth``, its line in ``metrics.json``) is on the disk before the checkpoint
that lets a resume skip the iteration; what is on the disk beyond a checkpoint is done again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.engine import hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter

from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.runs.files import FileError
from nasnet_det.runs.metrics import drop_metrics

logger = logging.getLogger(__name__)


class BestCheckpoint(hooks.EvalHook):
    """Evaluate like Detectron2's hook, and keep the best model as ``model_best.pth``.

    The score lies in that file too. After a resume the file's own score counts, so the two can't
    disagree, whether the run was killed before or after the checkpoint of the same iteration.

    Args:
        period: iterations between evaluations; 0 evaluates at the end only.
        evaluate: returns Detectron2's nested dict of results.
        checkpointer: writes the file.
        metric: such as ``bbox/AP``; more is better, and NaN is never best.
    """

    def __init__(
        self,
        period: int,
        evaluate: Callable[[], dict[str, Any]],
        *,
        checkpointer: Checkpointer,
        metric: str,
    ) -> None:
        self.checkpointer, self.metric = checkpointer, metric
        self.best: dict[str, Any] = {}
        self._results: dict[str, Any] = {}

        def remember() -> dict[str, Any]:
            self._results = evaluate()
            return self._results

        super().__init__(period, remember)

    def before_train(self) -> None:
        """Agree with ``model_best.pth``."""
        if not (comm.is_main_process() and self.checkpointer.resumed_from):
            return
        known, self.best = self.best, self.checkpointer.read_best()
        if known and not self.best:
            logger.warning("model_best.pth is gone; the next evaluation counts as the best")
        if self.best and self.best["metric"] != self.metric:
            logger.warning(
                "model_best.pth was chosen by %s; from now on by %s",
                self.best["metric"],
                self.metric,
            )
            self.best = {}

    def _do_eval(self) -> None:
        super()._do_eval()
        if comm.is_main_process() and self._results:
            self._keep_best(flatten_results_dict(self._results))

    def _keep_best(self, results: dict[str, float]) -> None:
        if self.metric not in results:
            available = ", ".join(name for name in results if "-" not in name) or "none"
            logger.warning(
                "TEST.BEST_METRIC %s is not among the results, so no model_best.pth is kept; "
                "available: %s",
                self.metric,
                available,
            )
            return
        score = float(results[self.metric])
        if math.isnan(score) or score <= self.best.get("score", -math.inf):
            return
        # After the training, iter counts what is done; before, it is the last that is done.
        iteration = self.trainer.iter - (self.trainer.iter >= self.trainer.max_iter)
        self.best = {"metric": self.metric, "score": score, "iteration": int(iteration)}
        self.checkpointer.save_best(self.best)
        logger.info("Best %s so far: %.4f, kept as model_best.pth", self.metric, score)

    def after_train(self) -> None:
        """Evaluate after the last iteration, unless it failed."""
        if self.trainer.iter >= self.trainer.max_iter:
            super().after_train()

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best": self.best} if self.best else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best of a checkpoint."""
        self.best = dict(state["best"])


class MetricsWriter(hooks.PeriodicWriter):
    """Write metrics as Detectron2 does, and with each evaluation and before each checkpoint.

    Args:
        metrics_file: ``metrics.json``; its lines of iterations that will be done again are dropped.
        *periods: numbers of iterations; it is written after any multiple of any.
    """

    def __init__(self, metrics_file: Path, *periods: int) -> None:
        super().__init__([])
        self._file = metrics_file
        self._periods = [period for period in (self._period, *periods) if period > 0]
        self._written = -1

    def before_train(self) -> None:
        """Open the files where the training goes on."""
        drop_metrics(self._file, self.trainer.start_iter)
        self._writers = self.trainer.build_writers()

    def after_step(self) -> None:
        """Write if it is time."""
        finished = self.trainer.iter + 1
        if finished == self.trainer.max_iter or any(finished % p == 0 for p in self._periods):
            self._written = self.trainer.iter
            self._write()

    def after_train(self) -> None:
        """Write what is new and close."""
        if self.trainer.iter >= self.trainer.max_iter:  # no line about an iteration that is none
            self._writers = [w for w in self._writers if not isinstance(w, CommonMetricPrinter)]
        if self.trainer.iter != self._written:  # the printer divides by their difference
            self._write()
        for writer in self._writers:
            writer.close()

    def _write(self) -> None:
        try:
            for writer in self._writers:
                writer.write()
        except OSError as error:
            raise FileError(f"{self._file} can't be written ({error.strerror})") from error
