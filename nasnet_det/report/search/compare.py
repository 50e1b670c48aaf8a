"""Which searches may be compared, and how: seeds of one sampler are averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasnet_det.report.config_difference import find_differences
from nasnet_det.report.search.numbers import TOP_KS, Curve, compute_top_means
from nasnet_det.runs.keys import SAMPLER_KEYS, is_like
from nasnet_det.runs.study_results import ResultsError, Study

SEED_KEY = "SEARCH.SEED"
DATA_KEY = "data"  # checksum of the images; the seed decides the split, so it differs between seeds


@dataclass(frozen=True)
class Group:
    """Studies that differ in nothing but their seed.

    Attributes:
        title: the sampler, and where that is not enough, what is special.
        studies: by seed.
    """

    title: str
    studies: tuple[Study, ...]

    @property
    def num_children(self) -> int:
        """Finished children that all of them have."""
        return min(len(study.finished) for study in self.studies)

    def top_means(self, k: int) -> dict[str, Curve]:
        """Mean, lowest and highest over the seeds of the mean of the best k."""
        curves = [compute_top_means(study.finished, k) for study in self.studies]
        columns = [
            [value for value in values if value is not None]
            for values in zip(*curves, strict=False)  # as far as the shortest goes
        ]
        whole = [column if len(column) == len(curves) else [] for column in columns]
        return {
            "mean": [math.fsum(c) / len(c) if c else None for c in whole],
            "lowest": [min(c, default=None) for c in whole],
            "highest": [max(c, default=None) for c in whole],
        }


def is_sampler_key(key: str) -> bool:
    """Whether a key says how architectures are proposed, rather than how they are trained."""
    return any(is_like(key, patterns) for patterns in SAMPLER_KEYS.values())


def _own_config(study: Study) -> dict[str, Any]:
    """The config without the seed, and without what belongs to other samplers."""
    own = (*SAMPLER_KEYS[""], *SAMPLER_KEYS.get(study.sampler, ()))
    return {
        key: value
        for key, value in study.config.items()
        if key not in (SEED_KEY, DATA_KEY) and (is_like(key, own) or not is_sampler_key(key))
    }


def group_studies(studies: Sequence[Study]) -> list[Group]:
    """Put together what differs in its seed only, in the order of the studies.

    Raises:
        ResultsError: the same search is there twice.
    """
    members: list[list[Study]] = []
    for study in studies:
        for group in members:
            twin = next((s for s in group if s.seed == study.seed), None)
            same_images = twin is None or twin.config.get(DATA_KEY) == study.config.get(DATA_KEY)
            if not same_images or _own_config(group[0]) != _own_config(study):
                continue
            if twin is not None:
                raise ResultsError(
                    f"{twin.folder} and {study.folder} are the same search ({study.title}, equal "
                    "configs): give it once"
                )
            group.append(study)
            break
        else:
            members.append([study])
    groups: dict[str, Group] = {}
    for group in members:
        title = _name_group(group[0], [g[0] for g in members])
        title += f" #{len(groups) + 1}" if title in groups else ""  # other images
        groups[title] = Group(title, tuple(sorted(group, key=lambda study: study.seed)))
    return list(groups.values())


def _name_group(study: Study, others: Sequence[Study]) -> str:
    """The sampler, and the keys in which it differs from others of the same sampler."""
    rivals = [other for other in others if other.sampler == study.sampler]
    own = _own_config(study)
    special = [
        f"{key.removeprefix('SEARCH.')} {own[key]}"
        for key in find_differences(rivals)
        if key in own
    ]
    return study.sampler + (f" ({', '.join(special)})" if special else "")


def find_recipe_differences(studies: Sequence[Study]) -> list[str]:
    """The keys, other than the sampler's and the seed, in which studies differ."""
    keys = [
        key
        for key in find_differences(studies)
        if key not in (SEED_KEY, DATA_KEY) and not is_sampler_key(key)
    ]
    data: dict[int, set[Any]] = {}
    for study in studies:
        data.setdefault(study.seed, set()).add(study.config.get(DATA_KEY))
    return keys + [DATA_KEY] * any(len(sums) > 1 for sums in data.values())


def warn_of_differences(studies: Sequence[Study]) -> str:
    """A sentence if the studies' curves should not be compared; else ""."""
    keys = find_recipe_differences(studies)
    if not keys:
        return ""
    return (
        f"These searches differ in more than sampler and seed ({', '.join(keys)}): differences "
        "between their curves are not the samplers' alone."
    )


def compare(groups: Sequence[Group]) -> dict[str, Any]:
    """Top-k means of the groups, and each group's at the number of children that all have."""
    num_children = min(group.num_children for group in groups)
    curves = {group.title: {f"top_{k}": group.top_means(k) for k in TOP_KS} for group in groups}
    return {
        "num_children": num_children,
        "groups": {
            group.title: {
                "seeds": [study.seed for study in group.studies],
                "num_children": group.num_children,
                "curves": curves[group.title],
                "at_equal_number": {
                    name: {key: curve[num_children - 1] for key, curve in top.items()}
                    for name, top in curves[group.title].items()
                },
            }
            for group in groups
        },
    }
