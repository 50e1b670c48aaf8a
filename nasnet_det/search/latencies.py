"""Times of detectors on this machine: measured in a process of its own, when no worker computes."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from nasnet_det.runs.candidates import Candidate, DetectorTask, Latency
from nasnet_det.runs.files import write_json
from nasnet_det.search.detector_rung import DetectorStage
from nasnet_det.search.devices import ExecutorError

LATENCIES, LOG = "latencies.json", "measure.log"


@dataclass(frozen=True)
class Stopwatch:
    """Measures detectors.

    Attributes:
        stage, task: see :class:`~nasnet_det.search.detector_rung.DetectorStage`.
        device: of the detectors.
        folder: gets what libraries print meanwhile.
        tell: takes lines for people.
    """

    stage: DetectorStage
    task: DetectorTask
    device: str
    folder: Path
    tell: Callable[[str], None]

    def measure_rung(self, candidates: Sequence[Candidate], folder: Path) -> dict[str, Latency]:
        """The times of a rung's candidates, by name; what was measured before is read.

        Args:
            candidates: those with weights in ``folder/<name>``.
            folder: of the rung; gets ``latencies.json``.
        """
        path, known = folder / LATENCIES, dict[str, Latency]()
        if path.is_file():
            texts = json.loads(path.read_text())
            known = {name: Latency(**data) for name, data in texts.items()}
        new = [one for one in candidates if one.name not in known]
        if new:
            self.tell(f"measuring {len(new)} detectors on {self.device}")
            measured = self.measure([(one, str(folder / one.name)) for one in new])
            known |= {c.name: latency for c, latency in zip(new, measured, strict=True)}
            write_json(path, {name: asdict(latency) for name, latency in known.items()})
        return known

    def measure(self, items: Sequence[tuple[Candidate, str]]) -> list[Latency]:
        """Measure in a process of its own; see the stage's function.

        Raises:
            ExecutorError: the device can't be measured; the message says why.
        """
        context, log = multiprocessing.get_context("spawn"), str(self.folder / LOG)
        try:
            with ProcessPoolExecutor(1, context, _write_errors_into, (log,)) as pool:
                measure = self.stage.measure_latencies
                return pool.submit(measure, items, self.task, self.device).result()
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise ExecutorError(
                f"SEARCH.GOALS: latency_ms can't be measured on {self.device}: {reason:.200}"
            ) from error


def _write_errors_into(path: str) -> None:
    """Libraries warn of what nobody can change; what fails is raised all the same."""
    with open(path, "a") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
