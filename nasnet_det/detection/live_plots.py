"""Curves of a training in the notebook that runs it, drawn again while it goes on."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase

from nasnet_det.drawing.figure_file import render_figure
from nasnet_det.drawing.training_curves import draw_training_curves
from nasnet_det.runs.files import FileError
from nasnet_det.runs.metrics import METRICS, read_metrics

PERIOD_S = 5.0  # at least, between two drawings
SHARE = 0.05  # of the time that goes into them, at most
LOSS, VALIDATION_LOSS = "total_loss", "validation/total_loss"

logger = logging.getLogger(__name__)


def is_notebook() -> bool:
    """Whether this process is IPython's kernel, whose front end shows pictures."""
    ipython = sys.modules.get("IPython")  # it is loaded wherever one runs
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class LivePlots(HookBase):
    """Show the losses and APs of a training below the cell that runs it; else do nothing.

    The picture is exchanged, :data:`PERIOD_S` seconds after the last one at the earliest. Whatever
    goes wrong is one line of the log, and the training goes on.

    Args:
        folder: of the training, whose ``metrics.json`` has what was before a resume.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._handle: Any = None
        self._next = 0.0
        self._is_on = False

    def before_train(self) -> None:
        """Read what was before a resume."""
        self._is_on = is_notebook()
        if not self._is_on:
            return
        try:
            lines = read_metrics(self.folder / METRICS)
        except FileError:
            return
        for line in lines:
            for key in filter(_is_shown, line):
                if line["iteration"] < self.trainer.start_iter:
                    self._before[key].append((line["iteration"], line[key]))

    def after_step(self) -> None:
        """Draw if it is time."""
        if self._is_on and time.monotonic() >= self._next:
            self._draw()

    def after_train(self) -> None:
        """Draw what it came to, the last evaluation too."""
        if self._is_on:
            self._draw()

    def _draw(self) -> None:
        started = time.monotonic()
        try:
            self._show()
        except Exception as error:  # of matplotlib, IPython or the front end
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("Live plots failed; the training goes on without: %.200s", reason)
            self._is_on = False
        ended = time.monotonic()
        self._next = ended + max(PERIOD_S, (ended - started) / SHARE)

    def _show(self) -> None:
        from IPython.display import Image, display

        curves = self._find_curves()
        scores = {key: curve for key, curve in curves.items() if key not in (LOSS, VALIDATION_LOSS)}
        figure = draw_training_curves(
            curves.get(LOSS, []), curves.get(VALIDATION_LOSS, []), scores, self.trainer.max_iter
        )
        picture = Image(data=render_figure(figure, "png"), width=int(72 * figure.get_figwidth()))
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)

    def _find_curves(self) -> dict[str, list[tuple[int, float]]]:
        """Key of a metric -> iterations and values, without those that are undefined."""
        curves = {key: list(points) for key, points in self._before.items()}
        for key, history in self.trainer.storage.histories().items():
            if _is_shown(key):
                curves.setdefault(key, []).extend((n, value) for value, n in history.values())
        finite = {
            key: [(int(n), value) for n, value in points if math.isfinite(value)]
            for key, points in curves.items()
        }
        return {key: points for key, points in finite.items() if points}


def _is_shown(key: str) -> bool:
    return key in (LOSS, VALIDATION_LOSS) or key.split("/")[-1] == "AP"
