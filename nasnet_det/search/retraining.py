"""After the search: its best children are trained for longer, and the best of these is the result.

So did the paper with its 250 best, until they converged (arXiv 1707.07012, appendix A.3): the order
after a short training is not that after a long one. They are compared on the same held-out images.

They are trials of a study of their own in the same storage, written as those of the search are, so
a kill loses nothing and none is retrained twice. What an architecture reaches depends on it, on the
recipe and on the search's seed alone, not on how many are retrained, by whom, and in which order.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.runs.keys import CHILD_KEYS, is_like
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.search.assemble import (
    build_measure,
    build_recipe,
    build_source,
    get_identity,
    open_storage_of,
)
from nasnet_det.search.child import RECIPE_VERSION, ChildTrainer
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.data import load_child_data
from nasnet_det.search.executors import build_executor
from nasnet_det.search.job import ChildJob, TrainChild
from nasnet_det.search.journal import Journal, silence_optuna
from nasnet_det.search.progress import Progress, Speed
from nasnet_det.search.size import ChildSize
from nasnet_det.search.streams import Stream
from nasnet_det.search.trials import get_distributions, params_to_choices
from nasnet_det.space import Choices, SearchSpace

logger = logging.getLogger(__name__)

INHERITED = (-1, "")
"""Values of a key of ``SEARCH.RETRAIN`` that is as in ``SEARCH.CHILD`` or ``SEARCH.DATA``."""


class Retraining:
    """The retraining of a search's best children.

    Args:
        cfg: with ``SEARCH.CHILD`` and ``SEARCH.DATA`` as they are for it.
        space: of the architectures.
        journal: the study of retrained children.
        train: trains one.
        measure: the size of an architecture with this recipe.
        on_progress: called whenever a child ends.
    """

    def __init__(
        self,
        cfg: CfgNode,
        space: SearchSpace,
        *,
        journal: Journal,
        train: TrainChild,
        measure: Callable[[Choices], ChildSize],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.cfg, self.space, self.journal = cfg, space, journal
        self.train, self.measure, self.on_progress = train, measure, on_progress
        self._distributions = get_distributions(space)
        self._speed = Speed()

    def run(self, best: Sequence[FrozenTrial]) -> tuple[FrozenTrial, FrozenTrial] | None:
        """Retrain what has no result yet.

        Args:
            best: trials of the search, the best first, each of another architecture.

        Returns:
            Of all these the one that is best when retrained, the first of equal ones: its trial in
            the search, and its trial in the study of retrained children. None if all failed.
        """
        known = {t.user_attrs["key"]: t.number for t in self.journal.trials.values()}
        numbers = []
        for trial in best:
            number = known.get(trial.user_attrs["key"])
            numbers.append(self._enter(trial) if number is None else number)
        trials = [self.journal.trials[number] for number in numbers]
        self._report(trials)
        jobs = [self._make_job(trial) for trial in trials if not trial.state.is_finished()]
        if jobs:
            self._train(jobs, trials)
        pairs = [
            pair for pair in zip(best, trials, strict=True) if pair[1].state is TrialState.COMPLETE
        ]
        return max(pairs, key=lambda pair: pair[1].values[0], default=None)

    def describe(self, trial: FrozenTrial) -> dict[str, Any]:
        """The provenance of a retrained child."""
        keys = ("params", "macs", "seed", "seconds")
        return {
            "accuracy": trial.values[0],
            "study": self.journal.name,
            "trial": trial.number,
            "child": {key: trial.user_attrs[key] for key in keys},
            "config": self.journal.identity,
        }

    def _enter(self, trial: FrozenTrial) -> int:
        """Write an architecture into the journal; returns its number there."""
        number = len(self.journal.trials)
        key = trial.user_attrs["key"]
        size = self.measure(params_to_choices(self.space, trial.params))
        attributes = {
            "key": key,
            "seed": derive_seed(self.cfg.SEARCH.SEED, Stream.RETRAIN, zlib.crc32(key.encode())),
            "searched_as": trial.number,
            **size._asdict(),
        }
        self.journal.ask(
            number,
            trial.params,
            self._distributions,
            attributes=attributes,
            system_attributes={},
        )
        return number

    def _make_job(self, trial: FrozenTrial) -> ChildJob:
        choices = params_to_choices(self.space, trial.params)
        limit = self.cfg.SEARCH.CHILD.TIME_LIMIT_S
        return ChildJob(trial.number, choices, trial.user_attrs["seed"], limit)

    def _train(self, jobs: Sequence[ChildJob], trials: Sequence[FrozenTrial]) -> None:
        executor = build_executor(self.cfg, self.train)
        try:
            for result in executor.run(jobs):
                attributes: dict[str, Any] = {"seconds": result.seconds}
                if result.reward is None:
                    attributes["failure"] = result.failure
                    number = self.journal.trials[result.number].user_attrs["searched_as"]
                    logger.warning("child %d failed when retrained: %s", number, result.failure)
                values = None if result.reward is None else [result.reward]
                self.journal.tell(result.number, values, attributes)
                self._speed.count()
                self._report(trials)
        finally:
            executor.close()

    def _report(self, trials: Sequence[FrozenTrial]) -> None:
        if not self.on_progress:
            return
        rewards = [t.values[0] for t in trials if t.state is TrialState.COMPLETE]
        num_failed = sum(t.state is TrialState.FAIL for t in trials)
        num_left = len(trials) - len(rewards) - num_failed
        progress = Progress(
            total=len(trials),
            done=len(rewards),
            failed=num_failed,
            running=num_left,
            best=max(rewards, default=None),
            seconds_left=self._speed.seconds_for(num_left),
            what="best children retrained",
        )
        self.on_progress(progress)


def get_retraining_config(cfg: CfgNode) -> CfgNode:
    """The config with ``SEARCH.CHILD`` and ``SEARCH.DATA`` as they are for the retraining."""
    changed = cfg.clone()
    for node in (changed.SEARCH.CHILD, changed.SEARCH.DATA):
        for key in node:
            value = cfg.SEARCH.RETRAIN.get(key, "")
            if value not in INHERITED:
                node[key] = value
    return changed


def _get_retraining_identity(cfg: CfgNode) -> dict[str, Any]:
    """The keys that decide how well an architecture does when it is retrained."""
    identity = get_identity(get_retraining_config(cfg))
    return {key: value for key, value in identity.items() if is_like(key, CHILD_KEYS)}


@contextmanager
def open_retraining(
    cfg: CfgNode,
    *,
    train: TrainChild | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[Retraining]:
    """The retraining of a config, with its study open; everything is checked, nothing is trained.

    Args:
        cfg: of the search.
        train: trains a child; None: as ``SEARCH.RETRAIN`` says.
        on_progress: called whenever a child ends.

    Raises:
        ValueError: something in the config can't be; the message says what was wanted.
    """
    silence_optuna()
    if cfg.SEARCH.RETRAIN.NUM_BEST < 0:
        raise ConfigError(
            f"SEARCH.RETRAIN.NUM_BEST: wanted 0 or more, got {cfg.SEARCH.RETRAIN.NUM_BEST}"
        )
    changed, space = get_retraining_config(cfg), build_space(cfg)
    identity = _get_retraining_identity(cfg)
    num_classes, image_size = 10, changed.SEARCH.DATA.IMAGE_SIZE
    try:
        recipe = build_recipe(changed)
        if train is None:
            train = ChildTrainer(recipe, space, build_source(changed))
            # Not train.load(): the images would stay in memory during the search.
            data = load_child_data(train.source)
            num_classes = data.num_classes
            identity |= {"data": data.checksum(), "recipe": RECIPE_VERSION}
        measure = build_measure(recipe, space, num_classes, image_size)
    except ValueError as error:
        raise ConfigError(f"SEARCH.RETRAIN: {error}") from error
    journal = Journal(
        open_storage_of(cfg),
        f"{cfg.SEARCH.STUDY.NAME}.{cfg.SEARCH.RETRAIN.NAME}",
        directions=[StudyDirection.MAXIMIZE],
        identity=identity,
        defaults=_get_retraining_identity(get_search_config()),
        resume=True,
        remedy="give another SEARCH.RETRAIN.NAME",
    )
    try:
        yield Retraining(
            changed, space, journal=journal, train=train, measure=measure, on_progress=on_progress
        )
    finally:
        journal.close()
