"""A search out of a config."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from optuna.storages import BaseStorage
from yacs.config import CfgNode

from nasnet_det.config import ConfigError, flatten
from nasnet_det.near_names import nearest
from nasnet_det.plan import plan_cells
from nasnet_det.runs.keys import Effect, select_keys
from nasnet_det.runs.record import record_start
from nasnet_det.search.async_study import AsyncSearch
from nasnet_det.search.child import (
    RECIPE_VERSION,
    ChildRecipe,
    ChildTrainer,
    build_child,
)
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.controller_sampler import ControllerSampler
from nasnet_det.search.data import DataSource
from nasnet_det.search.devices import find_devices
from nasnet_det.search.executors import Executor, build_executor
from nasnet_det.search.job import TrainChild
from nasnet_det.search.journal import Journal, read_config, silence_optuna
from nasnet_det.search.progress import Progress
from nasnet_det.search.pruning import build_pruner
from nasnet_det.search.recipe import build_recipe
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.scaling import settle
from nasnet_det.search.size import ChildSize, SizeLimits, find_small, measure_size
from nasnet_det.search.storage import open_storage
from nasnet_det.search.study import GOALS, Search, SearchPlan
from nasnet_det.space import Choices, SearchSpace

logger = logging.getLogger(__name__)


def build_source(cfg: CfgNode) -> DataSource:
    """Where the images are."""
    return DataSource(**{k.lower(): v for k, v in cfg.SEARCH.DATA.items()}, seed=cfg.SEARCH.SEED)


def build_plan(cfg: CfgNode) -> SearchPlan:
    """What is asked for.

    Raises:
        ConfigError: a value is impossible.
    """
    search = settle(cfg).SEARCH
    for key, value, least in (
        ("NUM_TRIALS", search.NUM_TRIALS, 1),
        ("SAMPLER.MINIBATCH", search.SAMPLER.MINIBATCH, 1),
        ("LIMITS.MAX_PARAMS", search.LIMITS.MAX_PARAMS, 0),
        ("LIMITS.MAX_MACS", search.LIMITS.MAX_MACS, 0),
    ):
        if value < least:
            raise ConfigError(f"SEARCH.{key}: wanted at least {least}, got {value}")
    for goal in search.GOALS:
        if goal not in GOALS:
            raise ConfigError(f"SEARCH.GOALS: unknown goal {goal!r}, {nearest(goal, GOALS)}")
    goals = tuple(search.GOALS)
    if goals[:1] != ("accuracy",) or len(set(goals)) < len(goals):
        raise ConfigError(
            f"SEARCH.GOALS: wanted accuracy first and each goal once, got {list(goals)}"
        )
    if search.SAMPLER.NAME in ("controller", "evolution") and len(goals) > 1:
        raise ConfigError(
            f"SEARCH.GOALS: the sampler {search.SAMPLER.NAME} learns from accuracy alone, got "
            f"{list(goals)}; predictor and nsga2 take several"
        )
    return SearchPlan(
        num_trials=search.NUM_TRIALS,
        minibatch=search.SAMPLER.MINIBATCH,
        seed=search.SEED,
        goals=goals,
        limits=SizeLimits(search.LIMITS.MAX_PARAMS, search.LIMITS.MAX_MACS),
        time_limit_s=search.CHILD.TIME_LIMIT_S,
    )


def get_identity(cfg: CfgNode) -> dict[str, Any]:
    """The keys that decide what a search finds, with their values."""
    return select_keys(dict(flatten(settle(cfg))), (Effect.IDENTITY,), stage="search")


def build_measure(
    recipe: ChildRecipe, space: SearchSpace, num_classes: int, image_size: int
) -> Callable[[Choices], ChildSize]:
    """A function from choices to the child's size; it leaves torch's random numbers alone."""
    first = (0,) * len(space.decisions)
    plan_cells(recipe.network(image_size), space.decode(first))  # possible?
    size: dict[str, Any] = {"num_classes": num_classes, "image_size": image_size}
    if recipe.aux_weight:
        with torch.random.fork_rng([]):
            build_child(recipe, space, first, **size, in_training=True)

    def measure(choices: Choices) -> ChildSize:
        with torch.random.fork_rng([]):
            model = build_child(recipe, space, choices, **size)
        return measure_size(model, image_size)

    return functools.lru_cache(maxsize=1000)(measure)


def check_limits(
    limits: SizeLimits, space: SearchSpace, measure: Callable[[Choices], ChildSize]
) -> None:
    """See that some architecture keeps the limits.

    Raises:
        ConfigError: none was found, neither at random nor by going down from the smallest of those.
    """
    if not any(limits):
        return
    for place, (key, limit) in enumerate(
        (("MAX_PARAMS", limits.max_params), ("MAX_MACS", limits.max_macs))
    ):
        if limit:
            smallest = find_small(space, measure, place, limit)
            if smallest > limit:
                raise ConfigError(
                    f"SEARCH.LIMITS.{key}: wanted at least {smallest}, the smallest that was found "
                    f"for any architecture of this space with this recipe, got {limit}"
                )


def open_storage_of(cfg: CfgNode) -> BaseStorage:
    """The storage of a config; without one, a file in OUTPUT_DIR.

    Raises:
        StudyError: it can't be used.
    """
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    return open_storage(cfg.SEARCH.STUDY.STORAGE or f"sqlite:///{folder / 'study.db'}")


def write_run_info(cfg: CfgNode, command: Sequence[str]) -> None:
    """Record that a search starts; see :func:`~nasnet_det.runs.record.record_start`."""
    node = cfg.SEARCH.EXECUTOR
    is_ray = node.NAME == "ray"
    devices = ["of Ray"] if is_ray else find_devices(node.DEVICE, node.NUM_WORKERS)
    record_start(
        cfg.OUTPUT_DIR,
        cfg.dump(),
        command=command,
        seed=cfg.SEARCH.SEED,
        device=devices[0],
        processes={"ray": node.NUM_WORKERS, "in_process": 1}.get(node.NAME, len(devices)),
        packages=("torch", "optuna"),
    )


def _warn_of_idle_workers(cfg: CfgNode, num_workers: int) -> None:
    minibatch = cfg.SEARCH.SAMPLER.MINIBATCH
    if num_workers > minibatch and not cfg.SEARCH.ASYNCHRONOUS:
        logger.warning(
            "%d of the %d workers will have nothing to do, as %d children are proposed at a time: "
            "SEARCH.ASYNCHRONOUS True uses all, and so does a larger SEARCH.SAMPLER.MINIBATCH",
            num_workers - minibatch,
            num_workers,
            minibatch,
        )


@contextmanager
def open_search(
    cfg: CfgNode,
    *,
    resume: bool = False,
    train: TrainChild | None = None,
    measure: Callable[[Choices], ChildSize] | None = None,
    contents: Mapping[str, Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_minibatch: Callable[[Search], None] | None = None,
) -> Iterator[Search]:
    """The search of a config, with storage and workers open.

    Args:
        cfg: see :func:`~nasnet_det.search.config.get_search_config`.
        resume: go on with the study if it has trials.
        train: trains a child; None: as ``SEARCH.CHILD`` and ``SEARCH.DATA`` say.
        measure: the size of an architecture; None: that of the classifier.
        contents: by what the study knows its images, where ``train`` is given.
        on_progress, on_minibatch: see :class:`~nasnet_det.search.study.Search`.

    Raises:
        ValueError: something in the config can't be; the message says what was wanted.
    """
    silence_optuna()
    space, recipe, limits = build_space(cfg), build_recipe(cfg), build_plan(cfg).limits
    build_sampler(cfg, space)  # possible?
    pruner = build_pruner(cfg)
    checksum = dict(contents or {})
    num_classes, image_size = 10, cfg.SEARCH.DATA.IMAGE_SIZE
    if train is None:
        train = trainer = ChildTrainer(recipe, space, build_source(cfg))
        data = trainer.load()
        num_classes = data.num_classes
        checksum = {"data": data.checksum(), "recipe": RECIPE_VERSION}
    measure = measure or build_measure(recipe, space, num_classes, image_size)
    check_limits(limits, space, measure)
    with ExitStack() as stack:
        executor: Executor = stack.enter_context(closing(build_executor(cfg, train)))
        storage = open_storage_of(cfg)
        cfg = settle(cfg, read_config(storage, cfg.SEARCH.STUDY.NAME))
        plan, sampler = build_plan(cfg), build_sampler(cfg, space)
        _warn_of_idle_workers(cfg, executor.num_workers)
        journal = Journal(
            storage,
            cfg.SEARCH.STUDY.NAME,
            directions=[GOALS[goal] for goal in plan.goals],
            identity=get_identity(cfg) | checksum,
            defaults=get_identity(get_search_config()),
            resume=resume,
            folder=Path(cfg.OUTPUT_DIR) if cfg.SEARCH.STUDY.STORAGE else None,
        )
        stack.callback(journal.close)
        if isinstance(sampler, ControllerSampler):
            sampler.on_update = lambda number, stats: journal.write_update(number, stats._asdict())
        search = (AsyncSearch if cfg.SEARCH.ASYNCHRONOUS else Search)(
            plan,
            space,
            sampler=sampler,
            journal=journal,
            executor=executor,
            measure=measure,
            pruner=pruner,
            state_file=Path(cfg.OUTPUT_DIR) / "controller.pth",
            on_progress=on_progress,
        )
        search.on_minibatch = functools.partial(on_minibatch, search) if on_minibatch else None
        yield search
