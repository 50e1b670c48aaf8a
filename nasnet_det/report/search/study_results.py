"""What came of searches, as ``nasnet_det/search/results.py`` collects it, and files of it.

Such a file is small enough to be kept with the code, and says all that a report needs::

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

Row ``i`` is child ``i``. Its decisions are the indices of its choices, one digit of base 62 each
(0-9, a-z, A-Z), five for each block: the two inputs, the two operations, the combiner. The blocks
of the normal cell come first.
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nasnet_det.genotype import Block, CellSpec, Genotype, loose_ends
from nasnet_det.runs.files import write_content

FORMAT = "nasnet_det search results 1"
DIGITS = string.digits + string.ascii_letters
STATES = ("complete", "failed", "pruned", "running")
DECISIONS_PER_BLOCK = 5


class ResultsError(ValueError):
    """A file without results of searches; the message names it and says why."""


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
    retraining: Mapping[str, Any]
    retraining_failures: Mapping[str, str]

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
        operations = self.config["SEARCH.SPACE.OPERATIONS"]
        combiners = self.config["SEARCH.SPACE.COMBINERS"]
        digits = iter(map(DIGITS.index, child.decisions))
        blocks = tuple(
            Block((i, j), (operations[a], operations[b]), combiners[c])
            for i, j, a, b, c in zip(*[digits] * DECISIONS_PER_BLOCK, strict=True)
        )
        middle = self.config["SEARCH.SPACE.NUM_BLOCKS"]
        normal, reduction = (
            CellSpec(cell, loose_ends(cell)) for cell in (blocks[:middle], blocks[middle:])
        )
        provenance = {"study": self.name, "trial": child.number, "reward": child.reward}
        return Genotype(normal, reduction, f"{self.folder}_{child.number}", provenance)


def read_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The studies of a file, as they are in it.

    Raises:
        ResultsError: it can't be read, or holds something else.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"there is no file or folder {path}") from None
    except OSError as error:
        raise ResultsError(f"{path} can't be read ({error.strerror})") from None
    except ValueError as error:
        raise ResultsError(f"{path} holds no results of searches: no JSON ({error})") from None
    found = data.get("format") if isinstance(data, dict) else type(data).__name__
    if found != FORMAT or not isinstance(data.get("studies"), list):
        raise ResultsError(
            f"{path} holds no results of searches: wanted the format {FORMAT!r}, got {found!r}"
        )
    if not data["studies"]:
        raise ResultsError(f"{path} holds no studies")
    return data["studies"]


def save_results(studies: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write a file of results, one line for each child.

    Args:
        studies: as :func:`read_results` returns them.
        path: of the file.

    Raises:
        FileError: it can't be written.
    """
    texts = []
    for study in studies:
        rows = ",\n".join(f"   {json.dumps(row)}" for row in study["children"])
        head = json.dumps({**study, "children": []}, indent=1)
        texts.append(head.replace('"children": []', f'"children": [\n{rows}\n  ]'))
    listed = ",\n".join(texts)
    text = f'{{\n"format": {json.dumps(FORMAT)},\n"studies": [\n{listed}\n]\n}}\n'
    write_content(path, text)


def parse_study(data: Mapping[str, Any], source: str) -> Study:
    """A study from its JSON form, checked.

    Args:
        data: see above.
        source: for errors: where it comes from.

    Raises:
        ResultsError: something in it is missing or impossible.
    """
    try:
        columns: Sequence[str] = data["columns"]
        children = tuple(
            Child(number, **dict(zip(columns, row, strict=True)))
            for number, row in enumerate(data["children"])
        )
        study = Study(
            data["name"],
            data["folder"],
            data["num_trials"],
            data["config"],
            data["versions"],
            children,
            data.get("retraining", {}),
            data.get("retraining_failures", {}),
        )
        for child in children:
            _check_child(study, child)
    except KeyError as error:
        raise ResultsError(f"{source}: its results lack {error}") from None
    except (TypeError, ValueError, IndexError) as error:
        raise ResultsError(f"{source}: its results can't be read ({error})") from None
    if not study.complete:
        num_failed = sum(child.state == "failed" for child in children)
        raise ResultsError(
            f"{source}: the study {study.name!r} has no child that was trained to the end yet "
            f"({len(children)} children, {num_failed} of them failed)"
        )
    return study


def _check_child(study: Study, child: Child) -> None:
    has_reward = child.state in ("complete", "pruned")
    if child.state not in STATES or (child.reward is not None) != has_reward:
        raise ValueError(f"child {child.number}: {child.state!r} with reward {child.reward!r}")
    numbers = (child.reward, child.macs, child.params, child.seconds, child.retrained)
    if not all(isinstance(n, int | float | None) for n in numbers):
        raise ValueError(f"child {child.number}: wanted numbers, got {numbers}")
    wanted = 2 * DECISIONS_PER_BLOCK * study.config["SEARCH.SPACE.NUM_BLOCKS"]
    if len(child.decisions) != wanted:
        raise ValueError(
            f"child {child.number}: wanted {wanted} decisions, got {len(child.decisions)}"
        )
    study.decode(child).validate()
