"""A search for detectors: three rungs, on each of which fewer candidates are trained for longer.

1. Many candidates (cells, N, F and the size of pictures) are trained as classifiers of crops of the
   user's own objects; that is a search like every other, with any sampler.
2. Those that come to the front of accuracy and cost are trained as detectors for a while, and known
   backbones beside them.
3. Of both, those on the front of the goals are trained for longer. They make the front.

Each result is in a study, so a search that was killed goes on, to the same front. What is measured
on the clock (latencies, and by a budget the numbers of candidates) is written down when it is known
and not measured again.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from yacs.config import CfgNode

from nasnet_det.runs.candidates import Candidate, DetectorTask, Front, Latency, Trained, write_front
from nasnet_det.search.assemble import build_recipe, build_source, get_identity, open_search
from nasnet_det.search.best import find_best_trials
from nasnet_det.search.budget import Budget
from nasnet_det.search.config import build_space
from nasnet_det.search.crop_child import CropTrainer
from nasnet_det.search.detector_config import PROXIES, SIGNS, get_first_rung_config
from nasnet_det.search.detector_rung import (
    CandidateTrainer,
    DetectorRung,
    DetectorStage,
    open_rung_journal,
)
from nasnet_det.search.devices import find_devices
from nasnet_det.search.known_backbones import find_ends, list_known, spread
from nasnet_det.search.latencies import Stopwatch
from nasnet_det.search.progress import Progress
from nasnet_det.search.promotion import Costs, find_front, promote
from nasnet_det.search.seeds_of_rung import list_runs, merge_runs
from nasnet_det.search.size import ChildSize
from nasnet_det.search.storage import StudyError
from nasnet_det.search.trials import params_to_choices
from nasnet_det.space import Choices

logger = logging.getLogger(__name__)

MOST_HELD_OUT = 0.25  # of the crops


class Ladder:
    """A search for detectors.

    Args:
        cfg: of the search; it is checked.
        stage: builds, trains and measures detectors.
        task: what they are trained for.
        crops: the folder of crops of the training pictures' objects.
        num_crops: how many they are.
        contents: what the studies know the data by.
        resume: go on with a study that has trials.
        on_progress: called whenever a child begins or ends.
        tell: takes lines for people.
    """

    def __init__(
        self,
        cfg: CfgNode,
        *,
        stage: DetectorStage,
        task: DetectorTask,
        crops: Path,
        num_crops: int,
        contents: Mapping[str, Any],
        resume: bool,
        on_progress: Callable[[Progress], None],
        tell: Callable[[str], None],
    ) -> None:
        self.cfg, self.stage, self.task, self.contents = cfg, stage, task, contents
        self.resume, self.on_progress, self.tell = resume, on_progress, tell
        self.folder, self.goals = Path(cfg.OUTPUT_DIR), tuple(cfg.SEARCH.GOALS)
        self.iterations = tuple(cfg.SEARCH.DETECTOR.ITERATIONS)
        self.num_seeds = cfg.SEARCH.DETECTOR.NUM_SEEDS
        self.space = build_space(cfg)
        self.known = list_known(cfg)
        self.sizes: dict[str, ChildSize] = {}  # of candidates, by name
        held_out = min(cfg.SEARCH.DATA.NUM_HELD_OUT, max(1, int(MOST_HELD_OUT * num_crops)))
        source = replace(
            build_source(cfg),
            path=str(crops),
            num_held_out=held_out,
            num_train=min(cfg.SEARCH.DATA.NUM_TRAIN, num_crops - held_out),
        )
        self.crop_trainer = CropTrainer(build_recipe(cfg), self.space, source)
        node = cfg.SEARCH.EXECUTOR
        number = 1 if node.NAME == "in_process" else node.NUM_WORKERS
        devices = find_devices(node.DEVICE, number)
        self.device, num_workers = devices[0], len(devices)
        self.stopwatch = Stopwatch(stage, task, self.device, self.folder, tell)
        self.budget = Budget(self.folder, cfg, num_workers=num_workers, num_known=len(self.known))

    def run(self) -> Front:
        """Search to the end.

        Raises:
            InputError: the data can't be trained on, the device can't be measured, the hours don't
                suffice, or nothing was trained to its end.
        """
        if not self.budget.plan:
            self._plan()
        self.tell(self.budget.describe())
        first = self._run_first()
        found = [one.candidate for one in self._promote(first, self.budget.choose(1))]
        number = min(self.budget.choose(1), len(self.known))
        short = self._run_rung(2, [*found, *spread(self.known, number)])
        long_s = self._estimate_long(short)
        self.budget.end_rung(1, sum(one.seconds for one in short), long_s)
        number = self.budget.choose(2)
        chosen = [
            one.candidate
            for is_known in (False, True)
            for one in self._promote(
                [one for one in short if one.candidate.is_known == is_known], number
            )
        ]
        last = self._run_rung(3, chosen, self.num_seeds)
        self.budget.end_rung(2, sum(one.seconds for one in last), None)
        return self._finish(first, short, last)

    def _plan(self) -> None:
        """Estimate what children cost, before the first is trained."""
        least, most = find_ends(self.space)
        ends = [self.stage.measure_speeds(one, self.task, self.device) for one in (least, most)]
        setup, iteration, picture = (statistics.fmean(values) for values in zip(*ends, strict=True))
        if "latency_ms" in self.goals:
            self.stopwatch.measure([(least, "")])
        once = setup + int(self.contents["num_held_out"]) * picture
        detectors = [once + number * iteration for number in self.iterations]
        detectors[-1] *= self.num_seeds
        self.budget.begin([self.crop_trainer.estimate_seconds(self.device), *detectors])

    def _estimate_long(self, short: Sequence[Trained]) -> float | None:
        """Seconds of a detector of the third rung, from those of the second."""
        seconds = [one.seconds for one in short if not one.failure]
        costs = self.budget.plan["costs"]
        return statistics.fmean(seconds) * costs[2] / costs[1] if seconds else None

    # ---- The rungs

    def _run_first(self) -> list[Trained]:
        cfg = get_first_rung_config(self.cfg)
        cfg.SEARCH.NUM_TRIALS = self.budget.choose(0)
        seconds_after = self.budget.seconds_after(0)

        def show(progress: Progress) -> None:
            what = "classifiers of crops (rung 1 of 3)"
            self.on_progress(replace(progress, what=what, seconds_after=seconds_after))

        with open_search(
            cfg,
            resume=self.resume,
            train=self.crop_trainer,
            measure=self._measure_choices,
            contents=self.contents,
            on_progress=show,
        ) as search:
            search.run()
            trials = list(search.journal.trials.values())
            best = find_best_trials(search.journal, len(trials))
        if not best:
            raise StudyError(
                f"no child has a reward; the study {cfg.SEARCH.STUDY.NAME!r} says why each failed"
            )
        self.budget.end_rung(0, sum(t.user_attrs.get("seconds", 0.0) for t in trials), None)
        return [self._read_first(trial) for trial in best]

    def _read_first(self, trial: optuna.trial.FrozenTrial) -> Trained:
        candidate = self._to_candidate(
            params_to_choices(self.space, trial.params), f"found_{trial.number}"
        )
        values = {key: trial.user_attrs[key] for key in ("macs", "params")}
        self.sizes[candidate.name] = ChildSize(**values)
        seconds = trial.user_attrs.get("seconds", 0.0)
        return Trained(candidate, {"accuracy": trial.values[0], **values}, seconds)

    def _to_candidate(self, choices: Choices, name: str) -> Candidate:
        extras: dict[str, Any] = self.space.get_extras(choices)
        return Candidate(name, genotype=self.space.decode(choices, name=name), **extras)

    def _measure_choices(self, choices: Choices) -> ChildSize:
        return ChildSize(*self.stage.measure_size(self._to_candidate(choices, "one"), self.task))

    def _measure_size(self, candidate: Candidate) -> ChildSize:
        if candidate.name not in self.sizes:
            size = ChildSize(*self.stage.measure_size(candidate, self.task))
            self.sizes[candidate.name] = size
        return self.sizes[candidate.name]

    def _run_rung(
        self, number: int, candidates: Sequence[Candidate], num_seeds: int = 1
    ) -> list[Trained]:
        runs = [list_runs(candidate, num_seeds) for candidate in candidates]
        for candidate, own in zip(candidates, runs, strict=True):
            size = self._measure_size(candidate)
            self.sizes.update({run.name: size for run in own})
        iterations = self.iterations[number - 2]
        identity = {
            **get_identity(get_first_rung_config(self.cfg)),
            **self.contents,
            "iterations": iterations,
        }
        folder = self.folder / f"rung_{number}"
        trainer = CandidateTrainer(self.stage, self.task, iterations, folder)
        with open_rung_journal(self.cfg, number, identity) as journal:
            trained = DetectorRung(
                number,
                self.cfg,
                journal,
                trainer,
                on_progress=self.on_progress,
                seconds_after=self.budget.seconds_after(number - 1),
                measure_size=self._measure_size,
            ).run([run for own in runs for run in own])
        done = [one for one in trained if not one.failure]
        if not done:
            raise StudyError(
                f"no detector of rung {number} was trained to its end, the first failed with: "
                f"{trained[0].failure}"
            )
        if "latency_ms" in self.goals:
            latencies = self.stopwatch.measure_rung([one.candidate for one in done], folder)
            trained = [_add_latency(one, latencies.get(one.candidate.name)) for one in trained]
        for one in done:
            (folder / one.candidate.name / "model_final.pth").unlink(missing_ok=True)
        results = {one.candidate.name: one for one in trained}
        return [
            merge_runs(candidate, [results[run.name] for run in own])
            for candidate, own in zip(candidates, runs, strict=True)
        ]

    # ---- Who goes on

    def _promote(self, trained: Sequence[Trained], number: int) -> list[Trained]:
        done = [one for one in trained if not one.failure]
        goals = [g if all(g in one.values for one in done) else PROXIES[g] for g in self.goals]
        goals = list(dict.fromkeys(goals))
        return [done[p] for p in promote([_cost(one, goals) for one in done], number)]

    def _finish(self, *rungs: Sequence[Trained]) -> Front:
        done = [one for one in rungs[-1] if not one.failure]
        best = [done[p] for p in find_front([_cost(one, self.goals) for one in done])]
        names = tuple(one.candidate.name for one in best)
        front = Front(
            self.goals,
            tuple(map(tuple, rungs)),
            names,
            self.iterations,
            self.task,
            self.budget.plan,
            get_identity(self.cfg),
        )
        place = self.folder / "front"
        place.mkdir(exist_ok=True)
        for one in best:
            self.stage.write_config(one.candidate, self.task, place / f"{one.candidate.name}.yaml")
        for path in place.iterdir():
            if path.stem not in names and path.suffix in (".yaml", ".json"):
                path.unlink()
        write_front(self.folder, front)
        return front


def _cost(one: Trained, goals: Sequence[str]) -> Costs:
    """Its values as something to minimize."""
    return tuple(SIGNS[goal] * one.values[goal] for goal in goals)


def _add_latency(one: Trained, latency: Latency | None) -> Trained:
    if latency is None:
        return one
    return replace(one, values={**one.values, "latency_ms": latency.ms}, latency=latency)
