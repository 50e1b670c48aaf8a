"""A search in TensorBoard's event files.

All of it is read from the journal, so a search that goes on writes everything again and tells
TensorBoard to forget what it had: nothing is doubled or missing, whenever the search was killed.
Children are written in the order of their numbers, so that the best so far is the same in any run.

=========================================== ===================================== ================
tag                                         what                                  step
=========================================== ===================================== ================
child/accuracy                              of children trained to the end        number of child
child/pruned_accuracy                       last accuracy of pruned children      number of child
child/macs, child/params, child/seconds     of all children that have them        number of child
search/best, search/mean_top_5              of different architectures so far     number of child
controller/<field of PPOStats>              what each update did                  number of update
=========================================== ===================================== ================
"""

from __future__ import annotations

from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from torch.utils.tensorboard import SummaryWriter

from nasnet_det.search.journal import Journal


class EventLog:
    """Writes the events of a search.

    Args:
        folder: for event files; older ones are removed.
        journal: of the search.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        older = sorted(folder.glob("events.out.tfevents.*"))
        for path in older[:-1]:  # a running TensorBoard goes on from the last
            path.unlink()
        self.journal = journal
        self._writer = SummaryWriter(str(folder), purge_step=0)
        self._next_trial = self._next_update = 0
        self._top: list[float] = []  # the five best accuracies so far, the best first

    def write(self) -> None:
        """Write what is new: updates, and children up to the first that is not finished."""
        trials, updates = self.journal.trials, self.journal.updates
        while self._next_trial in trials and trials[self._next_trial].state.is_finished():
            self._write_trial(trials[self._next_trial])
            self._next_trial += 1
        for number in sorted(n for n in updates if n >= self._next_update):
            for name, value in updates[number].items():
                self._writer.add_scalar(f"controller/{name}", value, number)
            self._next_update = number + 1

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()

    def _write_trial(self, trial: FrozenTrial) -> None:
        scalars = {
            f"child/{name}": trial.user_attrs[name]
            for name in ("macs", "params", "seconds")
            if name in trial.user_attrs
        }
        if trial.state is TrialState.PRUNED:
            scalars["child/pruned_accuracy"] = trial.values[0]
        if trial.state is TrialState.COMPLETE:
            scalars["child/accuracy"] = trial.values[0]
            if "duplicate_of" not in trial.user_attrs:
                self._top = sorted([*self._top, trial.values[0]], reverse=True)[:5]
        if self._top:
            scalars["search/best"] = self._top[0]
            scalars["search/mean_top_5"] = sum(self._top) / len(self._top)
        finished = trial.datetime_complete  # None for a child of this run: now
        for tag, value in scalars.items():
            self._writer.add_scalar(
                tag, value, trial.number, finished.timestamp() if finished else None
            )
