"""The search: minibatch after minibatch of children, the same however often it is interrupted.

For each minibatch

1. the sampler proposes all its children, in a *mirror* of the study that lies in memory (in a
   storage, Optuna writes each of the 50 decisions in a transaction of its own);
2. each is written into the journal as a running trial, unless it is there already;
3. those that are too large fail, those whose architecture was seen before wait for its result, and
   the executor trains the rest, whose results are written as they come;
4. when all are finished, the mirror is told, in the order of their numbers.

What is proposed depends on the seed and on earlier minibatches alone, and a child's training on its
seed, which is mixed from the search's seed and its number, and, where children are pruned, on
earlier minibatches. So neither the number of workers nor a
kill changes anything: after it, the mirror is built from the finished minibatches, the minibatch
that was under way is proposed again (and compared with what the journal has), and what it lacks is
trained. The sampler's state is saved so that a controller need not learn everything again; whether
the file is old or missing makes no difference.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from nasnet_det.runs.seeds import derive_seed
from nasnet_det.search.executors import Executor
from nasnet_det.search.job import ChildJob, ChildResult, Curve
from nasnet_det.search.journal import Journal
from nasnet_det.search.progress import Progress, Speed
from nasnet_det.search.pruning import Pruner
from nasnet_det.search.saved_state import load_state, save_state
from nasnet_det.search.size import ChildSize, SizeLimits
from nasnet_det.search.storage import StudyError
from nasnet_det.search.streams import Stream
from nasnet_det.search.trials import get_distributions, params_to_choices, trial_to_curve
from nasnet_det.space import Choices, SearchSpace

logger = logging.getLogger(__name__)

GOALS: dict[str, StudyDirection] = {
    "accuracy": StudyDirection.MAXIMIZE,
    "macs": StudyDirection.MINIMIZE,
    "params": StudyDirection.MINIMIZE,
}
"""What a search can aim at, and which way."""


@dataclass(frozen=True)
class SearchPlan:
    """What a search is asked for.

    Attributes:
        num_trials: children in all.
        minibatch: children that are proposed together.
        seed: 0 or more.
        goals: of :data:`GOALS`, ``accuracy`` first.
        limits: what a child may have.
        time_limit_s: seconds for a child; 0 for no limit.
    """

    num_trials: int
    minibatch: int = 20
    seed: int = 0
    goals: tuple[str, ...] = ("accuracy",)
    limits: SizeLimits = field(default_factory=SizeLimits)
    time_limit_s: float = 0.0


class Search:
    """One search.

    Args:
        plan: what is asked for.
        space: of the architectures.
        sampler: proposes them.
        journal: the study.
        executor: trains them.
        measure: the size of an architecture.
        pruner: ends hopeless children early; None: all are trained to the end.
        state_file: where the sampler's state is saved; None: nowhere.
        on_progress: called whenever a child begins or ends.
        on_minibatch: called after each minibatch.
    """

    def __init__(
        self,
        plan: SearchPlan,
        space: SearchSpace,
        *,
        sampler: BaseSampler,
        journal: Journal,
        executor: Executor,
        measure: Callable[[Choices], ChildSize],
        pruner: Pruner | None = None,
        state_file: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_minibatch: Callable[[], None] | None = None,
    ) -> None:
        self.plan, self.space, self.sampler = plan, space, sampler
        self.journal, self.executor, self.measure = journal, executor, measure
        self.pruner = pruner
        self.state_file, self.on_progress, self.on_minibatch = state_file, on_progress, on_minibatch
        self.mirror = optuna.create_study(
            sampler=sampler, directions=[GOALS[goal] for goal in plan.goals]
        )
        self._distributions = get_distributions(space)
        self._first_of_key: dict[str, int] = {}
        self._speed = Speed()
        # Checksums of what a sampler can have learned from, after each minibatch.
        self._checksums = [zlib.crc32(repr(journal.identity).encode())]

    def run(self) -> None:
        """Search until all children are finished.

        Raises:
            StudyError: the journal holds trials that this search would not have proposed.
        """
        starts = range(0, self.plan.num_trials, self.plan.minibatch)
        restored = False
        for first in starts:
            numbers = range(first, min(first + self.plan.minibatch, self.plan.num_trials))
            if self._is_complete(numbers):
                for number in numbers:
                    self._remember(self.journal.trials[number])
                    self._mirror(self.journal.trials[number])
                self._close_minibatch(numbers)
                continue
            if not restored:
                restored = True
                if self.state_file:
                    load_state(self.state_file, self.sampler, self._checksums)
            self._run_minibatch(numbers)
            if self.on_minibatch:
                self.on_minibatch()
        self._report()

    def _mirror(self, trial: FrozenTrial) -> None:
        """Like ``add_trial``, which would look at every decision of it again."""
        self.mirror._storage.create_new_trial(self.mirror._study_id, trial)

    def _is_complete(self, numbers: Sequence[int]) -> bool:
        trials = self.journal.trials
        return all(n in trials and trials[n].state.is_finished() for n in numbers)

    def _run_minibatch(self, numbers: Sequence[int]) -> None:
        asked = [self.mirror.ask(self._distributions) for _ in numbers]
        if self.state_file:
            save_state(self.state_file, self.sampler, self._checksums)
        for trial in asked:
            self._enter(trial)
            self._fail_if_too_large(trial.number)
        jobs = [self._make_job(n) for n in numbers if self._waits_for_worker(n)]
        self._report()
        for result in self.executor.run(jobs):
            self._write(result)
            self._speed.count()
            self._report()
        for number in numbers:
            if not self._trial(number).state.is_finished():
                self._copy_result(number)
        for number in numbers:
            self._tell_mirror(number)
        self._close_minibatch(numbers)
        num_seen = sum("duplicate_of" in self._trial(n).user_attrs for n in numbers)
        if num_seen > len(numbers) / 2:
            logger.warning(
                "children %d to %d: %d of %d had been trained before; the search repeats itself",
                numbers[0],
                numbers[-1],
                num_seen,
                len(numbers),
            )

    def _close_minibatch(self, numbers: Sequence[int]) -> None:
        """Its children are finished: later ones are compared with them."""
        self._add_checksum(numbers)
        for number in numbers:
            self._add_to_pruner(number)

    def _add_to_pruner(self, number: int) -> None:
        """Only what was trained itself counts."""
        curve = trial_to_curve(self._trial(number))
        if self.pruner and curve and "duplicate_of" not in self._trial(number).user_attrs:
            self.pruner.add(curve)

    def _tell_mirror(self, number: int) -> None:
        stored, asked = self._trial(number), self.mirror.get_trials(deepcopy=False)[number]
        for epoch, accuracy in stored.intermediate_values.items():
            self.mirror._storage.set_trial_intermediate_value(asked._trial_id, epoch, accuracy)
        # A pruned trial's value is the last that was reported, and Optuna wants no other.
        values = None if stored.state is TrialState.PRUNED else stored.values
        self.mirror.tell(number, values, state=stored.state)

    def _trial(self, number: int) -> FrozenTrial:
        return self.journal.trials[number]

    def _enter(self, asked: Trial) -> None:
        """Write a proposal into the journal, or find it there."""
        number = asked.number
        if number in self.journal.trials:
            stored = params_to_choices(self.space, self._trial(number).params)
            if stored != params_to_choices(self.space, asked.params):
                raise StudyError(
                    f"study {self.journal.name!r}: its trial {number} is not what this search "
                    "proposes there, so it can't be continued exactly; was it made with other "
                    "versions of Optuna or PyTorch?"
                )
            self._remember(self._trial(number))
            return
        choices = params_to_choices(self.space, asked.params)
        attributes: dict[str, Any] = {
            "key": self._key(choices),
            "seed": derive_seed(self.plan.seed, Stream.CHILD, number),
            **self.measure(choices)._asdict(),
        }
        self.journal.ask(
            number,
            asked.params,
            self._distributions,
            attributes=attributes,
            system_attributes=self.mirror.get_trials(deepcopy=False)[number].system_attrs,
        )
        self._remember(self._trial(number))

    def _fail_if_too_large(self, number: int) -> None:
        trial = self._trial(number)
        size = ChildSize(trial.user_attrs["params"], trial.user_attrs["macs"])
        fault = self.plan.limits.find_fault(size)
        if fault and not trial.state.is_finished():
            self._tell(number, None, {"failure": fault})

    def _tell(
        self,
        number: int,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        curve: Curve | None = None,
    ) -> None:
        self.journal.tell(number, values, attributes, curve)

    def _key(self, choices: Choices) -> str:
        return " ".join(map(str, self.space.canonicalize(choices)))

    def _remember(self, trial: FrozenTrial) -> None:
        self._first_of_key.setdefault(trial.user_attrs["key"], trial.number)

    def _original(self, number: int) -> int:
        """The first trial with the same architecture; that is itself if it is the first."""
        return self._first_of_key[self._trial(number).user_attrs["key"]]

    def _waits_for_worker(self, number: int) -> bool:
        is_first = self._original(number) == number
        return is_first and not self._trial(number).state.is_finished()

    def _make_job(self, number: int) -> ChildJob:
        trial = self._trial(number)
        choices = params_to_choices(self.space, trial.params)
        seed, limit = trial.user_attrs["seed"], self.plan.time_limit_s
        comparison = self.pruner.compare() if self.pruner else None
        return ChildJob(number, choices, seed, limit, comparison)

    def _write(self, result: ChildResult) -> None:
        if result.reward is None:
            attributes = {"failure": result.failure, "seconds": result.seconds}
            self._tell(result.number, None, attributes)
            logger.warning("child %d failed: %s", result.number, result.failure)
            return
        measured = {"accuracy": result.reward, **self._trial(result.number).user_attrs}
        values = [float(measured[goal]) for goal in self.plan.goals]
        self._tell(result.number, values, {"seconds": result.seconds}, result.curve)

    def _copy_result(self, number: int) -> None:
        """Give an architecture that was trained before the result that it had."""
        original = self._trial(self._original(number))
        attributes: dict[str, Any] = {"duplicate_of": original.number}
        if original.state is TrialState.FAIL:
            attributes["failure"] = original.user_attrs["failure"]
        self._tell(number, original.values, attributes, trial_to_curve(original))

    def _report(self) -> None:
        if not self.on_progress:
            return
        trials = list(self.journal.trials.values())[: self.plan.num_trials]
        rewards = [t.values[0] for t in trials if t.state is TrialState.COMPLETE]
        num_finished = sum(t.state.is_finished() for t in trials)
        progress = Progress(
            total=self.plan.num_trials,
            done=len(rewards),
            failed=sum(t.state is TrialState.FAIL for t in trials),
            running=len(trials) - num_finished,
            best=max(rewards, default=None),
            seconds_left=self._speed.seconds_for(self.plan.num_trials - num_finished),
            pruned=sum(t.state is TrialState.PRUNED for t in trials),
            seen_before=sum("duplicate_of" in t.user_attrs for t in trials),
        )
        self.on_progress(progress)

    def _add_checksum(self, numbers: Sequence[int]) -> None:
        trials = [self._trial(number) for number in numbers]
        text = repr([(t.number, sorted(t.params.items()), t.values) for t in trials])
        self._checksums.append(zlib.crc32(text.encode(), self._checksums[-1]))
