"""Checkpoints at a period and at the end, of which the newest are kept."""

from __future__ import annotations

from detectron2.engine import HookBase

from nasnet_det.detection.checkpoint import Checkpointer


class PeriodicCheckpoint(HookBase):
    """Save after every ``period`` iterations and after the last one, as Detectron2's hook of a
    similar name, which forgets at a resume what it has saved, and does not see an early end.

    Args:
        checkpointer: writes the files.
        period: a number of iterations.
        max_to_keep: how many ``model_<iteration>.pth`` stay beside ``model_final.pth`` and
            ``model_best.pth``; 0: all.
    """

    def __init__(self, checkpointer: Checkpointer, period: int, *, max_to_keep: int = 0) -> None:
        self._checkpointer, self._period, self._max_to_keep = checkpointer, period, max_to_keep

    def after_step(self) -> None:
        """Save if it is time, the end first: it is never missing where its twin is there."""
        iteration = self.trainer.iter
        is_last = iteration + 1 == self.trainer.max_iter
        if is_last:
            self._checkpointer.save("model_final", iteration=iteration)
        if (iteration + 1) % self._period == 0:
            self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
            if is_last:
                self._checkpointer.tag_last_checkpoint("model_final.pth")
        if self._max_to_keep:
            self._checkpointer.remove_old(self._max_to_keep)
