"""Where the numbers of a training are shown beside ``metrics.json``: ``TRACKERS``.

Which server and project are the library's own affair (``WANDB_PROJECT``, ``MLFLOW_TRACKING_URI``).
Whatever goes wrong there is one line of the log, and the training goes on.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, TensorboardXWriter, get_event_storage

from nasnet_det.detection.config_relations import refuse
from nasnet_det.runs.files import write_content

IDS = "trackers.json"  # of the runs, so that a resume goes on with them
WINDOW = 20  # iterations whose median is shown, as in Detectron2's writers
INIT_TIMEOUT_S = 30

logger = logging.getLogger(__name__)


class Run(Protocol):
    """A run of a tracker, with the ``id`` under which the tracker knows it."""

    id: str

    def log(self, values: Mapping[str, float], iteration: int) -> None:
        """Take the numbers of an iteration."""

    def close(self) -> None:
        """Send what is left."""


class WandbRun:
    """Weights & Biases; see :class:`Run`."""

    def __init__(self, cfg: CfgNode, run_id: str | None) -> None:
        import wandb

        settings = wandb.Settings(init_timeout=INIT_TIMEOUT_S, console="off")
        self._run = wandb.init(
            dir=cfg.OUTPUT_DIR, config=cfg, id=run_id, resume="allow", settings=settings
        )
        self.id = str(self._run.id)

    def log(self, values: Mapping[str, float], iteration: int) -> None:
        """Iterations that it has already are done again by a resume: it passes them over."""
        self._run.log(dict(values), step=iteration)

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


class MlflowRun:
    """MLflow; see :class:`Run`."""

    def __init__(self, cfg: CfgNode, run_id: str | None) -> None:
        # Its own seven attempts at a server that is away take minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        import mlflow

        self._mlflow = mlflow
        self.id = mlflow.start_run(run_id=run_id).info.run_id
        mlflow.log_text(cfg.dump(), "config.yaml")

    def log(self, values: Mapping[str, float], iteration: int) -> None:
        """Its names have fewer characters than names of classes may have."""
        names = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in values.items()}
        self._mlflow.log_metrics(names, step=iteration)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


RUNS: Mapping[str, Callable[[CfgNode, str | None], Run]] = {"wandb": WandbRun, "mlflow": MlflowRun}
NAMES = ("tensorboard", *RUNS)


class TrackerWriter(EventWriter):
    """Detectron2's writer for a run.

    Args:
        name: of the tracker.
        run: that is open.
    """

    def __init__(self, name: str, run: Run) -> None:
        self._name, self._run, self._last = name, run, -1
        self._is_lost = False

    def write(self) -> None:
        """Send what is new since the last time."""
        new: dict[int, dict[str, float]] = defaultdict(dict)
        for key, (value, step) in get_event_storage().latest_with_smoothing_hint(WINDOW).items():
            if step > self._last:
                new[step][key] = float(value)
        for step in sorted(new):
            self._try(partial(self._run.log, new[step], step))
            self._last = step

    def close(self) -> None:
        """Send the rest."""
        self._try(self._run.close)

    def _try(self, work: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            work()
        except Exception as error:  # theirs raise anything
            self._is_lost = True
            _warn(self._name, error)


def check_trackers(cfg: CfgNode) -> None:
    """See that ``TRACKERS`` are known.

    Raises:
        ConfigError: one is not, or ``VIS_PERIOD`` wants one that is not among them.
    """
    trackers = cfg.get("TRACKERS")
    if trackers is None:
        return
    if any(name not in NAMES for name in trackers) or len(set(trackers)) != len(trackers):
        refuse("TRACKERS", f"a list with some of {', '.join(NAMES)}", trackers)
    if cfg.VIS_PERIOD > 0 and "tensorboard" not in trackers:
        wanted = f"tensorboard among them, since VIS_PERIOD is {cfg.VIS_PERIOD}"
        refuse("TRACKERS", wanted, trackers)


def build_trackers(cfg: CfgNode, *, start_iter: int) -> list[EventWriter]:
    """The writers of ``TRACKERS``; one that is not installed or reachable is left out, and said.

    Args:
        cfg: of the training; ``OUTPUT_DIR`` is there.
        start_iter: the iteration that is done next. After a resume a run goes on.
    """
    file = Path(cfg.OUTPUT_DIR, IDS)
    ids = _read_ids(file) if start_iter else {}
    writers: list[EventWriter] = []
    for name in cfg.TRACKERS:
        if find_spec(name) is None:
            logger.warning(
                "TRACKERS: %s is not installed, and the training goes on without it: "
                "pip install 'nasnet-det[%s]'",
                *(name, name),
            )
        elif name == "tensorboard":
            # Events of iterations that are done again disappear.
            purge = {"purge_step": start_iter} if start_iter else {}
            writers.append(TensorboardXWriter(cfg.OUTPUT_DIR, WINDOW, **purge))
        else:
            try:
                run = RUNS[name](cfg, ids.get(name))
            except Exception as error:  # theirs raise anything
                _warn(name, error)
                continue
            ids[name] = run.id
            write_content(file, json.dumps(ids))
            writers.append(TrackerWriter(name, run))
    return writers


def _read_ids(file: Path) -> dict[str, str]:
    try:
        ids = json.loads(file.read_text())
        return {name: ids[name] for name in RUNS if isinstance(ids.get(name), str)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _warn(name: str, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    logger.warning("TRACKERS: %s failed, and the training goes on without it: %.300s", name, reason)
