"""What a config key changes in a run that is there already: the one table of it.

A run that is started again may have other values than before. Whether it is the same run, goes on
with the new values, or has to be made anew depends on what each key does. :data:`KEYS` says it for
each stage, with the reason. A key that is not in it decides what comes out
(:attr:`Effect.IDENTITY`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, NamedTuple


class Effect(Enum):
    """What another value of a key does to a run that is there already."""

    NOTHING = "changes how fast, where or how visibly it runs, not what comes out"
    PLACE = "is where something lies: a resume has or checks the content, a new run depends on it"
    LENGTH = "is how long it goes on: with more, a finished run goes on"
    END = "is what is made at the end of what is there: that is made again"
    COURSE = "is how the rest is trained: a resume obeys and says it, and the result is another"
    IDENTITY = "decides what comes out: it is another run"


class Key(NamedTuple):
    """A row of the table.

    Attributes:
        pattern: a key, or many with ``*``; of several that fit, the longest counts.
        effect: of another value.
        reason: for it.
    """

    pattern: str
    effect: Effect
    reason: str


_PLACE_OF_OUTPUT = Key("OUTPUT_DIR", Effect.NOTHING, "where the files are written")
_DEVICE = Key("MODEL.DEVICE", Effect.NOTHING, "the same numbers but for their rounding")
_MEMORY = Key(
    "MODEL.NASNET.ACTIVATION_CHECKPOINTING", Effect.NOTHING, "the same numbers in less memory"
)
_CHECKPOINTS = Key(
    "SOLVER.CHECKPOINT_PERIOD", Effect.NOTHING, "a training goes on exactly from any checkpoint"
)
_EVALUATIONS = Key(
    "TEST.EVAL_PERIOD", Effect.NOTHING, "evaluations disturb no training; the last one is made"
)
_OTHER_OPTIMIZER = Key(
    "SOLVER.OPTIMIZER", Effect.IDENTITY, "its state in the checkpoint fits no other"
)

KEYS: Mapping[str, tuple[Key, ...]] = {
    "search": (
        _PLACE_OF_OUTPUT,
        Key("SEARCH.EXECUTOR.*", Effect.NOTHING, "a child is the same whoever trains it"),
        Key("SEARCH.STUDY.*", Effect.PLACE, "where the children are recorded"),
        Key("SEARCH.DATA.PATH", Effect.PLACE, "the study knows its images by their checksum"),
        Key("SEARCH.DATA.BROKEN_IMAGES", Effect.COURSE, "what happens to images from now on"),
        Key("DATASETS.*", Effect.PLACE, "the study knows its pictures by their annotations"),
        Key("SEARCH.BUDGET_HOURS", Effect.NOTHING, "it is in the plan, which is compared"),
        Key("SEARCH.DETECTOR.ITERATIONS", Effect.END, "each rung of detectors has its own"),
        Key("SEARCH.DETECTOR.NUM_CANDIDATES", Effect.END, "of the rungs after the first"),
        Key("SEARCH.DETECTOR.NUM_SEEDS", Effect.END, "of the third rung"),
        Key("SEARCH.DETECTOR.RESNETS", Effect.END, "trained beside the search's candidates"),
        Key("SEARCH.DETECTOR.NASNET_A", Effect.END, "trained beside the search's candidates"),
        Key("SEARCH.NUM_TRIALS", Effect.LENGTH, "the first children are the same"),
        Key("SEARCH.RETRAIN.*", Effect.END, "the best are retrained when all have been found"),
    ),
    "classifier": (
        _PLACE_OF_OUTPUT,
        _DEVICE,
        _MEMORY,
        _CHECKPOINTS,
        _EVALUATIONS,
        _OTHER_OPTIMIZER,
        Key("DATA.NUM_WORKERS", Effect.NOTHING, "an image depends on its position alone"),
        Key("TEST.BATCH_SIZE", Effect.NOTHING, "each image is evaluated by itself"),
        Key("SOLVER.LOG_PERIOD", Effect.NOTHING, "only lines of the log and of metrics.json"),
        Key("SOLVER.COMPILE", Effect.NOTHING, "the same numbers but for their rounding"),
        Key("DATA.PATH", Effect.PLACE, "a resume compares the classes and counts the images"),
        Key("MODEL.WEIGHTS", Effect.PLACE, "read when a training begins, not by a resume"),
        Key("MODEL.PRETRAINED", Effect.PLACE, "read when a training begins, not by a resume"),
        Key("DATA.BROKEN_IMAGES", Effect.COURSE, "what happens to images from now on"),
        Key("SOLVER.EPOCHS", Effect.LENGTH, "more of the same"),
        Key("TEST.CROP_FRACTION", Effect.END, "of evaluations only"),
        Key("DISTILL.IMAGES", Effect.PLACE, "a resume counts the images"),
        Key("DISTILL.*WEIGHT", Effect.COURSE, "each step is computed as the config says now"),
        Key("DISTILL.TEMPERATURE", Effect.COURSE, "each step is computed as the config says now"),
        Key("SOLVER.*", Effect.COURSE, "each step is computed as the config says now"),
        Key("AUGMENT.*", Effect.COURSE, "each image is changed as the config says now"),
    ),
    "detector": (
        _PLACE_OF_OUTPUT,
        _DEVICE,
        _MEMORY,
        _CHECKPOINTS,
        _EVALUATIONS,
        _OTHER_OPTIMIZER,
        Key("DATALOADER.NUM_WORKERS", Effect.NOTHING, "an image depends on its position alone"),
        Key("CUDNN_BENCHMARK", Effect.NOTHING, "the same numbers but for their rounding"),
        Key("VIS_PERIOD", Effect.NOTHING, "only pictures for TensorBoard"),
        Key("TRACKERS", Effect.NOTHING, "where numbers are shown beside metrics.json"),
        Key("MODEL.WEIGHTS", Effect.PLACE, "read when a training begins, not by a resume"),
        Key("MODEL.TIMM.PRETRAINED", Effect.PLACE, "read when a training begins, not by a resume"),
        Key("MODEL.TORCHVISION.WEIGHTS", Effect.PLACE, "read when a training begins, as above"),
        Key("SOLVER.BACKBONE_LR_FACTOR", Effect.IDENTITY, "the optimizer's groups fit no others"),
        Key("SOLVER.MAX_ITER", Effect.LENGTH, "more of the same"),
        Key("SOLVER.MAX_EPOCHS", Effect.LENGTH, "more of the same"),
        Key("SOLVER.CHECKPOINT_MAX_TO_KEEP", Effect.NOTHING, "old files that nothing reads"),
        Key("TEST.VALIDATION_LOSS", Effect.NOTHING, "only lines of metrics.json"),
        Key("TEST.*", Effect.END, "of evaluations only"),
        Key("DATASETS.*TEST*", Effect.END, "of evaluations only"),
        Key("INPUT.*TEST", Effect.END, "of evaluations only"),
        Key("MODEL.*_TEST", Effect.END, "of evaluations only"),
        Key("TEST.PRECISE_BN.*", Effect.COURSE, "its statistics stay in the weights"),
        Key("SOLVER.*", Effect.COURSE, "each step is computed as the config says now"),
        Key("INPUT.*", Effect.COURSE, "each image is changed as the config says now"),
        Key("INPUT.FORMAT", Effect.IDENTITY, "the weights know one order of the colours"),
        Key("DATASETS.*", Effect.COURSE, "the images from now on; their classes are compared"),
        Key("DATALOADER.*", Effect.COURSE, "the order of the images from now on"),
        Key("SEED", Effect.COURSE, "random numbers from now on"),
    ),
}

SAMPLER_KEYS = {
    "": ("SEARCH.SAMPLER.*", "SEARCH.GOALS"),
    "controller": ("SEARCH.CONTROLLER.*", "SEARCH.PPO.*"),
    "evolution": ("SEARCH.EVOLUTION.*",),
    "predictor": ("SEARCH.PREDICTOR.*",),
    "tpe": ("SEARCH.TPE.*",),
    "nsga2": ("SEARCH.NSGA2.*",),
}
"""What decides which architectures a search proposes: of all samplers (""), and of each alone."""

CHILD_KEYS = ("SEARCH.SEED", "SEARCH.SPACE.*", "SEARCH.CHILD.*", "SEARCH.DATA.*")
"""What decides the accuracy that one architecture reaches."""


class Change(NamedTuple):
    """A key that has another value than before."""

    key: str
    was: Any
    now: Any
    effect: Effect

    def __str__(self) -> str:
        return f"{self.key} was {self.was!r}, is {self.now!r}"

    @property
    def arrow(self) -> str:
        """``KEY was -> is``, for a log."""
        return f"{self.key} {self.was!r} -> {self.now!r}"

    @property
    def goes_on(self) -> bool:
        """Whether a finished run goes on, to come where one with this value comes."""
        return self.effect is Effect.END or (self.effect is Effect.LENGTH and self.now > self.was)


@cache
def get_effect(stage: str, key: str) -> Effect:
    """What another value of a key does to a run of a stage; see :data:`KEYS`."""
    rows = [row for row in KEYS.get(stage, ()) if fnmatchcase(key, row.pattern)]
    return max(rows, key=lambda row: len(row.pattern)).effect if rows else Effect.IDENTITY


def is_like(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether a key fits one of the patterns."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def select_keys(
    config: Mapping[str, Any], effects: Container[Effect], *, stage: str
) -> dict[str, Any]:
    """The keys of a flat config that have one of these effects; tuples become lists."""
    return {k: _to_plain(v) for k, v in config.items() if get_effect(stage, k) in effects}


def find_changes(was: Mapping[str, Any], now: Mapping[str, Any], *, stage: str) -> list[Change]:
    """The keys of two flat configs that have other values; those with no effect are left out.

    A key that only one of them has is none: a newer version may have more.
    """
    return [
        Change(key, was[key], value, effect)
        for key, value in now.items()
        if key in was and _to_plain(was[key]) != _to_plain(value)
        if (effect := get_effect(stage, key)) is not Effect.NOTHING
    ]


def list_changes(changes: Sequence[object], most: int = 5) -> str:
    """Changes for a sentence."""
    more = " and more" if len(changes) > most else ""
    return "; ".join(map(str, changes[:most])) + more


def _to_plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
