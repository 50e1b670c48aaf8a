"""What happens around the iterations of a training so that a kill at any moment loses nothing.

One rule orders the hooks: the checkpoint comes last. What an iteration leaves behind (its
evaluation, ``model_best.pth``, its line in ``metrics.json``) is on the disk before the checkpoint
that lets a resume skip the iteration; what is on the disk beyond a checkpoint is done again.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.engine import HookBase, hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch.utils.data import Sampler

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


class Continuation(HookBase):
    """Go on with the random numbers and the images where the checkpoint was.

    With ``DATALOADER.NUM_WORKERS 0`` and ``ASPECT_RATIO_GROUPING False``, a resumed run computes
    exactly what an uninterrupted one does. Otherwise the images go on to within those that workers
    had loaded ahead or that waited for a partner of their shape, and workers draw their random
    numbers anew.

    Args:
        images_per_iteration: ``SOLVER.IMS_PER_BATCH``.
    """

    def __init__(self, images_per_iteration: int) -> None:
        self._images_per_iteration = images_per_iteration
        self.num_images = 0
        self._random: dict[str, Any] = {}

    def before_train(self) -> None:
        """Move on in the stream of images and set the random state."""
        if not self.num_images:
            return
        skip_images(self.trainer.data_loader, self.num_images // comm.get_world_size())
        set_random_state(self._random)
        # The loader draws a seed for its workers when it starts: from this state, without using it.
        _ = self.trainer._trainer._data_loader_iter
        set_random_state(self._random)

    def after_step(self) -> None:
        """Count the images."""
        self.num_images += self._images_per_iteration

    def state_dict(self) -> dict[str, Any]:
        """The position and the random state of this process, the first."""
        return {"num_images": self.num_images, "random": get_random_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the position and the random state of a checkpoint."""
        self.num_images, self._random = state["num_images"], state["random"]


class _RestOfSampler(Sampler[int]):
    """An endless sampler without its first indices."""

    def __init__(self, sampler: Sampler[int], num_skipped: int) -> None:
        self.sampler, self.num_skipped = sampler, num_skipped

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.sampler), self.num_skipped, None)


def skip_images(data_loader: Any, num_images: int) -> None:
    """Leave out the first images of a Detectron2 loader's stream; it must not have started.

    An iterable data set has no sampler and starts from its beginning.
    """
    inner = data_loader.dataset
    if isinstance(data_loader, AspectRatioGroupedDataset):
        inner = inner.dataset
    if hasattr(inner, "sampler"):
        inner.sampler = _RestOfSampler(inner.sampler, num_images)


def get_random_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators, as plain values and tensors."""
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    state = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set what :func:`get_random_state` of the first process returned.

    The other processes get numbers of their own that follow from it.
    """
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
    if rank := comm.get_rank():
        seed_all_rng(random.getrandbits(31) + rank)
