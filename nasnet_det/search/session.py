"""A search from its config to the best architecture, with every check on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.exceptions import StorageInternalError
from yacs.config import CfgNode

from nasnet_det.genotype import Genotype
from nasnet_det.runs.lock import lock_folder
from nasnet_det.search.assemble import (
    build_measure,
    build_recipe,
    build_source,
    open_search,
    write_run_info,
)
from nasnet_det.search.best import find_best, find_best_trials, make_genotype, write_front
from nasnet_det.search.config import build_space
from nasnet_det.search.data import load_child_data
from nasnet_det.search.detector_config import check_classifier_config
from nasnet_det.search.event_log import EventLog
from nasnet_det.search.journal import silence_optuna
from nasnet_det.search.progress import Progress
from nasnet_det.search.retraining import open_retraining
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.scaling import settle
from nasnet_det.search.storage import StudyError
from nasnet_det.search.study import Search
from nasnet_det.search.trials import get_distributions, params_to_choices

CIFAR10_CLASSES = 10  # of proposals without images


class Found(NamedTuple):
    """What a search found.

    Attributes:
        child: the number of the best one.
        accuracy: of held-out images, 0 to 1.
        retrained: its accuracy when it was trained for longer; None without.
        path: of its genotype.
        front: genotypes that no other beats in all goals, where there are several.
        num_duplicates: children that were not trained, as their architecture had been.
    """

    child: int
    accuracy: float
    retrained: float | None
    path: Path
    front: tuple[Path, ...] = ()
    num_duplicates: int = 0


class Proposal(NamedTuple):
    """An architecture that a search would train.

    Attributes:
        child: its number.
        params, macs: trainable parameters, and multiply-adds for one image.
        genotype: its cells.
    """

    child: int
    params: int
    macs: int
    genotype: Genotype


def search(
    cfg: CfgNode,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    command: Sequence[str] = (),
) -> Found:
    """Search, or go on with a search; then retrain the best where the config says so.

    ``OUTPUT_DIR`` gets study.db (Optuna's storage), config.yaml, controller.pth and, after every
    minibatch, genotype.json; with several goals also front/, a genotype for each architecture that
    no other beats in all of them. Killed at any moment, ``resume`` goes on, and the result is that
    of a search that was not killed.

    Args:
        cfg: see :func:`~nasnet_det.search.config.get_search_config`.
        resume: go on with the study if it has children.
        on_progress: is told after each child.
        command: what ``run.json`` says; empty for that of this process.

    Raises:
        InputError: the config can't be meant, the folder is in use or holds another study, the
            images can't be read, the storage failed, or no child has a reward.
    """
    try:
        return _search(cfg, resume=resume, on_progress=on_progress, command=command or sys.argv)
    except StorageInternalError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise StudyError(
            f"the storage failed ({reason}); nothing that was written is lost, go on with --resume"
        ) from error


def _search(
    cfg: CfgNode,
    *,
    resume: bool,
    on_progress: Callable[[Progress], None],
    command: Sequence[str],
) -> Found:
    check_classifier_config(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    path = folder / "genotype.json"
    num_best = cfg.SEARCH.RETRAIN.NUM_BEST

    def write_best(search: Search) -> None:
        best = find_best(search.journal)
        if best is not None:
            make_genotype(cfg, search.journal, search.space, best).save(path)
            if len(cfg.SEARCH.GOALS) > 1:
                write_front(folder / "front", cfg, search.journal, search.space)

    with ExitStack() as stack:
        stack.enter_context(lock_folder(folder, "search"))
        opened = stack.enter_context(open_search(cfg, resume=resume, on_minibatch=write_best))
        journal = opened.journal
        retraining = None
        if num_best:  # opened before the search, as a mistake in it should not wait for its end
            retraining = stack.enter_context(open_retraining(cfg, on_progress=on_progress))
        events = stack.enter_context(closing(EventLog(folder / "tensorboard", journal)))

        def show(progress: Progress) -> None:
            on_progress(progress)
            events.write()

        opened.on_progress = show
        write_run_info(cfg, command)
        opened.run()
        opened.executor.close()  # the machine is free for the retraining
        best = find_best(journal)
        if best is None:
            raise StudyError(
                f"no child has a reward; the study {journal.name!r} says why each failed"
            )
        retrained: dict[str, Any] | None = None
        if retraining:
            pair = retraining.run(find_best_trials(journal, num_best))
            if pair:
                best, retrained = pair[0], retraining.describe(pair[1])
        write_best(opened)
        front = sorted((folder / "front").glob("genotype_*.json"))
        make_genotype(cfg, journal, opened.space, best, retrained).save(path)
    return Found(
        best.number,
        best.values[0],
        retrained["accuracy"] if retrained else None,
        path,
        tuple(front) if len(cfg.SEARCH.GOALS) > 1 else (),
        sum("duplicate_of" in trial.user_attrs for trial in journal.trials.values()),
    )


def propose(cfg: CfgNode, number: int) -> Iterator[Proposal]:
    """The first architectures of a search, one minibatch at most; nothing is trained or written.

    Args:
        cfg: see :func:`~nasnet_det.search.config.get_search_config`; its images need not be there.
        number: how many.

    Raises:
        InputError: the config can't be meant.
    """
    check_classifier_config(cfg)
    silence_optuna()
    space, recipe = build_space(cfg), build_recipe(cfg)
    source = build_source(cfg)
    num_classes = load_child_data(source).num_classes if source.path else CIFAR10_CLASSES
    measure = build_measure(recipe, space, num_classes, source.image_size)
    study = optuna.create_study(sampler=build_sampler(cfg, space), direction="maximize")
    for _ in range(min(number, settle(cfg).SEARCH.SAMPLER.MINIBATCH)):
        trial = study.ask(get_distributions(space))
        choices = params_to_choices(space, trial.params)
        params, macs = measure(choices)
        yield Proposal(trial.number, params, macs, space.decode(choices))
