"""A bar with the time that is left, where somebody looks on: on a terminal."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys

from detectron2.engine import HookBase
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LOGGERS = ("detectron2", "fvcore", "nasnet_det")
PERIOD = 20  # iterations between two looks at the loss, as in the log


class ProgressBar(HookBase):
    """Show the bar on standard error if that is a terminal; else do nothing.

    The lines about losses then go to ``log.txt`` alone, and all others above the bar.
    ``TQDM_DISABLE=1`` in the environment takes the bar away.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._bar: tqdm | None = None

    def before_train(self) -> None:
        """Open the bar where the training goes on."""
        if not sys.stderr.isatty():
            return
        size = shutil.get_terminal_size()  # tqdm takes the 0 that some terminals say
        bar = tqdm(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            smoothing=0.05,  # evaluations in between are no speed
            ncols=size.columns,
            nrows=size.lines,
        )
        if bar.disable:
            return
        self._bar = self._stack.enter_context(bar)
        loggers = [logging.getLogger(name) for name in LOGGERS]
        self._stack.enter_context(logging_redirect_tqdm(loggers))
        for handler in loggers[0].handlers:
            if type(handler).__module__.startswith("tqdm."):
                handler.addFilter(lambda record: not record.name.endswith("utils.events"))

    def after_step(self) -> None:
        """Move on."""
        if self._bar is None:
            return
        losses = self.trainer.storage.histories().get("total_loss")
        if losses is not None and (self.trainer.iter + 1) % PERIOD == 0:
            self._bar.set_postfix(loss=f"{losses.median(PERIOD):.3g}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Leave the terminal to the log."""
        self._stack.close()
