"""What came of a search as plain values, and files of them: written, read and checked here.

A search makes a :class:`Study` of its journal, a report reads it without Optuna or the storage. A
file of studies is small enough to be kept with the code, and says all that a report needs::

    {
     "format": "nasnet_det search results 1",
     "studies": [
      {
       "name": "search", "folder": "rl_0", "num_trials": 200,
       "config": {"SEARCH.SEED": 0, "SEARCH.SAMPLER.NAME": "controller", ...},
       "versions": {"nasnet_det": "0.1.0", ...},
       "columns": ["state", "decisions", "reward", "params", "macs", "seconds", ...],
       "children": [
        ["complete", "1023100401...", 0.4135, 91210, 5512704, 12.6, null, null, null],
        ...

Row ``i`` is child ``i``. Its decisions are the indices of its choices in the order of
:class:`~nasnet_det.space.SearchSpace`, one digit of base 62 each (0-9, a-z, A-Z).
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.runs.files import write_content
from nasnet_det.space import SearchSpace

FORMAT = "nasnet_det search results 1"
DIGITS = string.digits + string.ascii_letters
STATES = ("complete", "failed", "pruned", "running")


class ResultsError(InputError):
    """Results of a search that can't be used; the message names their place and says why."""


@dataclass(frozen=True)
class Child:
    """One architecture that a search proposed.

    Attributes:
        number: of the child, from 0.
        state: of :data:`STATES`; the last are not finished.
        decisions: one digit of base 62 each.
        reward: accuracy on held-out images, 0 to 1; of a pruned child when it was ended; None
            without one.
        params, macs: trainable parameters, and multiply-adds for one image.
        seconds: of its training; None where there was none.
        failure: why it has no reward.
        duplicate_of: the child of the same architecture whose result this one was given.
        retrained: its accuracy when it was trained again for longer; None if it was not.
    """

    number: int
    state: str
    decisions: str
    reward: float | None
    params: int | None
    macs: int | None
    seconds: float | None
    failure: str | None
    duplicate_of: int | None
    retrained: float | None = None


COLUMNS = tuple(key.name for key in fields(Child))[1:]


@dataclass(frozen=True)
class Study:
    """One search.

    Attributes:
        name: of the study.
        folder: name of the folder it was in.
        num_trials: children that it was asked for.
        config: keys and values that decide what it finds.
        versions: of the software.
        children: by number.
        retraining: keys and values of the config that were others when the best were retrained.
        retraining_failures: why some of these have no result, by number of the child.
    """

    name: str
    folder: str
    num_trials: int
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    children: tuple[Child, ...]
    retraining: Mapping[str, Any] = field(default_factory=dict)
    retraining_failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def sampler(self) -> str:
        """What proposed the architectures."""
        return self.config["SEARCH.SAMPLER.NAME"]

    @property
    def seed(self) -> int:
        """Of the search."""
        return self.config["SEARCH.SEED"]

    @property
    def minibatch(self) -> int:
        """Architectures that were proposed together."""
        return self.config["SEARCH.SAMPLER.MINIBATCH"]

    @property
    def title(self) -> str:
        """For figures and tables."""
        return f"{self.sampler}, seed {self.seed}"

    @cached_property
    def space(self) -> SearchSpace:
        """What it searched in."""
        keys = ("NUM_BLOCKS", "OPERATIONS", "COMBINERS")
        return SearchSpace(*(self.config[f"SEARCH.SPACE.{key}"] for key in keys))

    @cached_property
    def finished(self) -> tuple[Child, ...]:
        """Children that are not under way any more, by number."""
        return tuple(child for child in self.children if child.state != "running")

    @cached_property
    def complete(self) -> tuple[Child, ...]:
        """Children that were trained to the end, by number; all have a reward."""
        return tuple(child for child in self.children if child.state == "complete")

    @property
    def best(self) -> Child:
        """The child of the highest reward, the first of equal ones."""
        return max(self.complete, key=lambda child: (child.reward, -child.number))

    @property
    def retrained(self) -> tuple[Child, ...]:
        """The children that were retrained, the best then first."""
        retrained = (child for child in self.children if child.retrained is not None)
        order = sorted(retrained, key=lambda c: (c.retrained, c.reward, -c.number), reverse=True)
        return tuple(order)

    @property
    def chosen(self) -> Child:
        """What the search hands on: the best when retrained, else the best."""
        return self.retrained[0] if self.retrained else self.best

    def decode(self, child: Child) -> Genotype:
        """The architecture of a child."""
        choices = [DIGITS.index(digit) for digit in child.decisions]
        genotype = self.space.decode(choices, name=f"{self.folder}_{child.number}")
        provenance = {"study": self.name, "trial": child.number, "reward": child.reward}
        return replace(genotype, provenance=provenance)

    def check(self, source: str) -> Study:
        """The study itself, if a report can be made of it.

        Args:
            source: for errors: where it comes from.

        Raises:
            ResultsError: something in it is missing or impossible.
        """
        try:
            for child in self.children:
                _check_child(self, child)
        except KeyError as error:
            raise ResultsError(f"{source}: its results lack {error}") from None
        except (TypeError, ValueError) as error:
            raise ResultsError(f"{source}: its results can't be read ({error})") from None
        if not self.complete:
            num_failed = sum(child.state == "failed" for child in self.children)
            raise ResultsError(
                f"{source}: the study {self.name!r} has no child that was trained to the end yet "
                f"({len(self.children)} children, {num_failed} of them failed)"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "folder": self.folder,
            "num_trials": self.num_trials,
            "config": dict(self.config),
            "versions": dict(self.versions),
            "columns": list(COLUMNS),
            "children": [[getattr(child, key) for key in COLUMNS] for child in self.children],
            "retraining": dict(self.retraining),
            "retraining_failures": dict(self.retraining_failures),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str) -> Study:
        """The inverse of :meth:`to_dict`, checked.

        Raises:
            ResultsError: something in it is missing or impossible.
        """
        try:
            columns = data["columns"]
            children = tuple(
                Child(number, **dict(zip(columns, row, strict=True)))
                for number, row in enumerate(data["children"])
            )
            study = cls(
                **{
                    key: data[key] for key in ("name", "folder", "num_trials", "config", "versions")
                },
                children=children,
                retraining=data.get("retraining", {}),
                retraining_failures=data.get("retraining_failures", {}),
            )
        except KeyError as error:
            raise ResultsError(f"{source}: its results lack {error}") from None
        except (TypeError, ValueError) as error:
            raise ResultsError(f"{source}: its results can't be read ({error})") from None
        return study.check(source)


def _check_child(study: Study, child: Child) -> None:
    has_reward = child.state in ("complete", "pruned")
    if child.state not in STATES or (child.reward is not None) != has_reward:
        raise ValueError(f"child {child.number}: {child.state!r} with reward {child.reward!r}")
    numbers = (child.reward, child.macs, child.params, child.seconds, child.retrained)
    if not all(isinstance(n, int | float | None) for n in numbers):
        raise ValueError(f"child {child.number}: wanted numbers, got {numbers}")
    try:
        study.decode(child)
    except ValueError as error:
        raise ValueError(f"child {child.number}: {error}") from None


def write_decisions(choices: Sequence[int]) -> str:
    """Choices as digits.

    Raises:
        ResultsError: a decision has more choices than there are digits.
    """
    if max(choices) >= len(DIGITS):
        raise ResultsError(f"wanted decisions among at most {len(DIGITS)} choices, got more")
    return "".join(DIGITS[choice] for choice in choices)


def read_studies(path: str | os.PathLike[str]) -> list[Study]:
    """The studies of a file.

    Raises:
        ResultsError: it can't be read, or holds something else.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"there is no file or folder {path}") from None
    except OSError as error:
        raise ResultsError(f"{path} can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} holds no results of searches: no JSON ({error})") from None
    found = data.get("format") if isinstance(data, dict) else type(data).__name__
    if found != FORMAT or not isinstance(data.get("studies"), list):
        raise ResultsError(
            f"{path} holds no results of searches: wanted the format {FORMAT!r}, got {found!r}"
        )
    if not data["studies"]:
        raise ResultsError(f"{path} holds no studies")
    return [Study.from_dict(study, str(path)) for study in data["studies"]]


def save_studies(studies: Sequence[Study], path: str | os.PathLike[str]) -> None:
    """Write a file of studies, one line for each child.

    Raises:
        FileError: it can't be written.
    """
    texts = []
    for study in map(Study.to_dict, studies):
        rows = ",\n".join(f"   {json.dumps(row)}" for row in study["children"])
        head = json.dumps({**study, "children": []}, indent=1)
        texts.append(head.replace('"children": []', f'"children": [\n{rows}\n  ]'))
    listed = ",\n".join(texts)
    write_content(path, f'{{\n"format": {json.dumps(FORMAT)},\n"studies": [\n{listed}\n]\n}}\n')
