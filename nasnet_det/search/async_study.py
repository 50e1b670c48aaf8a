"""The search for clusters where speed matters more than exactness: no child waits for another.

As soon as a worker is free, the sampler proposes one more child for it, having been told all
results that are there. So what is found depends on which child ends first, and with more than one
worker no two searches are the same. With one worker they are, and so after a kill.

All else is as in :mod:`~nasnet_det.search.study`. Each finished trial has ``order``, how many were
finished before it, as one more user attribute: after a kill the sampler is told all results in that
order again, so it goes on as if nothing had happened; the children that were under way are asked
again, and the others are neither lost nor trained again.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.trial import TrialState

from nasnet_det.search.job import ChildJob, Curve
from nasnet_det.search.saved_state import load_state, save_state
from nasnet_det.search.study import Search


class AsyncSearch(Search):
    """One search without minibatches that wait; see :class:`~nasnet_det.search.study.Search`.

    A minibatch is here as many trials as have finished one after another, and ``on_minibatch`` is
    called after each.
    """

    def run(self) -> None:
        """Search until all children are finished."""
        self._finished: list[int] = []  # in this order
        self._duplicates: dict[int, list[int]] = defaultdict(list)  # of children under way
        self._restore()
        for result in self.executor.run(self._propose()):
            self._write(result)
            for number in self._duplicates.pop(result.number, []):
                self._copy_result(number)
            self._speed.count()
            self._report()
        self._report()

    def _restore(self) -> None:
        """Tell the sampler what the journal has."""
        trials = list(self.journal.trials.values())
        for trial in trials:
            self._remember(trial)
            running = copy.deepcopy(trial)
            running.state, running.values = TrialState.RUNNING, None
            running.intermediate_values, running.datetime_complete = {}, None
            self._mirror(running)
        finished = [trial for trial in trials if trial.state.is_finished()]
        finished.sort(key=lambda trial: trial.user_attrs["order"])
        for stop in range(self.plan.minibatch, len(finished) + 1, self.plan.minibatch):
            minibatch = finished[stop - self.plan.minibatch : stop]
            self._add_checksum([trial.number for trial in minibatch])
        if self.state_file:
            load_state(self.state_file, self.sampler, self._checksums)
        for trial in finished:
            self._finished.append(trial.number)
            self._tell_mirror(trial.number)
            self._add_to_pruner(trial.number)
        if self.state_file:
            save_state(self.state_file, self.sampler, self._checksums)

    def _propose(self) -> Iterator[ChildJob | None]:
        """The next child, whenever a worker is free: first those that were under way."""
        for number, trial in list(self.journal.trials.items()):
            if not trial.state.is_finished() and self._needs_training(number):
                yield self._make_job(number)
        while (number := len(self.journal.trials)) < self.plan.num_trials:
            if sum(map(len, self._duplicates.values())) >= self.plan.minibatch:
                yield None  # or a sampler that proposes one child again and again would use up all
                continue
            self._enter(self.mirror.ask(self._distributions))
            if self._needs_training(number):
                self._report()
                yield self._make_job(number)

    def _needs_training(self, number: int) -> bool:
        """Whether a child is for a worker; if not, it gets its result, at once if that is known."""
        self._fail_if_too_large(number)
        if self._trial(number).state.is_finished():
            return False
        original = self._original(number)
        if original == number:
            return True
        if self._trial(original).state.is_finished():
            self._copy_result(number)
        else:
            self._duplicates[original].append(number)
        return False

    def _tell(
        self,
        number: int,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        curve: Curve | None = None,
    ) -> None:
        super()._tell(number, values, {**attributes, "order": len(self._finished)}, curve)
        self._finished.append(number)
        is_minibatch = len(self._finished) % self.plan.minibatch == 0
        if is_minibatch:
            self._add_checksum(self._finished[-self.plan.minibatch :])
        self._tell_mirror(number)
        self._add_to_pruner(number)
        if is_minibatch and self.state_file:
            save_state(self.state_file, self.sampler, self._checksums)
        if is_minibatch and self.on_minibatch:
            self.on_minibatch()
