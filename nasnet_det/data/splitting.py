"""A data set in two, for training and for evaluation, by image.

Rare classes are dealt out first, each picture to the part that lacks most of the class, as
iterative stratification does (Sechidis, Tsoumakas and Vlahavas, 2011). Pictures that look the same,
as copies and frames of a video, stay in one part: a score on what was trained says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_det.data.alike import group_alike
from nasnet_det.data.coco import CocoFile, parse_coco
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import read_annotations
from nasnet_det.runs.files import new_folder, write_json

PARTS = ("train", "val")


@dataclass(frozen=True)
class Split:
    """What came of a split.

    Attributes:
        num_images, num_objects: of the parts, as in :data:`PARTS`.
        image_root: the folder that file names start from; "" where it is not known.
        num_kept: pictures that stay with another one that looks the same.
        in_one: classes that are in one part alone, though in several pictures.
    """

    num_images: tuple[int, int]
    num_objects: tuple[int, int]
    image_root: str
    num_kept: int
    in_one: tuple[str, ...]


def split_data(
    source: str,
    out: str | os.PathLike[str],
    *,
    images: str = "",
    share: float = 0.2,
    seed: int = 0,
) -> Split:
    """Write ``train.json`` and ``val.json``; the source stays as it is.

    Args:
        source: a COCO JSON, or the address of another format's set.
        out: a folder that is not there yet, or empty.
        images: the folder of the pictures; without one, pictures that look the same are not found.
        share: of the pictures that go into ``val``, between 0 and 1.
        seed: another one deals anew; the same gives the same.

    Raises:
        DataError: the source can't be read, or has too few pictures.
    """
    if not 0 < share < 1:
        raise DataError(f"--val: wanted a share between 0 and 1, got {share}")
    found = read_annotations(os.path.expanduser(source), images=os.path.expanduser(images))
    coco = parse_coco(found.where, found.content)
    root, groups = found.image_root, np.arange(len(coco.image_ids))
    if images and not os.path.isdir(root):
        raise DataError(f"--images: there is no folder {root}")
    if root:
        groups = group_alike([os.path.join(root, name) for name in coco.file_names])
    is_val = choose_val(_count_classes(coco), groups, share=share, seed=seed)
    if is_val.all() or not is_val.any():
        raise DataError(
            f"{found.where}: wanted pictures for both parts, got {len(set(groups.tolist()))} that "
            f"look different, of which {share:g} are to go into val"
        )
    names = {name for name, val in zip(coco.image_ids, is_val.tolist(), strict=True) if val}
    parts = [_take(found.content, names, inside=inside) for inside in (False, True)]
    with new_folder(out) as folder:
        for part, content in zip(PARTS, parts, strict=True):
            write_json(Path(folder, f"{part}.json"), content)
    counts = [np.bincount(coco.objects.category[is_val[coco.objects.image] == val],
                          minlength=len(coco.category_ids)) for val in (False, True)]  # fmt: skip
    shown = _count_classes(coco).astype(bool).sum(axis=0)
    in_one = np.flatnonzero((shown > 1) & ((counts[0] == 0) | (counts[1] == 0)))
    return Split(
        num_images=(int((~is_val).sum()), int(is_val.sum())),
        num_objects=(int(counts[0].sum()), int(counts[1].sum())),
        image_root=root,
        num_kept=len(groups) - len(set(groups.tolist())),
        in_one=tuple(coco.category_names[i] for i in in_one),
    )


def _count_classes(coco: CocoFile) -> np.ndarray:
    """(I, K), objects of each class in each image."""
    counts = np.zeros((len(coco.image_ids), len(coco.category_ids)), dtype=np.int64)
    np.add.at(counts, (coco.objects.image, coco.objects.category), 1)
    return counts


def _take(content: dict[str, Any], names: set[Any], *, inside: bool) -> dict[str, Any]:
    """The content with the images of ``names``, or with the others."""
    kept: dict[str, Any] = {**content}
    kept["images"] = [r for r in content["images"] if (r["id"] in names) == inside]
    if "annotations" in content:
        kept["annotations"] = [
            r for r in content["annotations"] if (r["image_id"] in names) == inside
        ]
    return kept


def choose_val(
    counts: np.ndarray, groups: Sequence[int] | np.ndarray, *, share: float, seed: int
) -> np.ndarray:
    """Which images go into the second part.

    Args:
        counts: (I, K), objects of each class in each image.
        groups: (I,), numbers; images of one number stay together.
        share: of the images.
        seed: of the order in which equal ones are dealt.

    Returns:
        (I,) bool.
    """
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    num_groups = int(group_of.max()) + 1
    has = np.zeros((num_groups, counts.shape[1] + 1))
    np.add.at(has, group_of, np.c_[counts > 0, np.ones(len(counts))])  # the last column: pictures
    wanted = np.stack([has.sum(axis=0) * (1 - share), has.sum(axis=0) * share])
    # A class of several groups is wanted at least once in each part.
    several = (has > 0).sum(axis=0) > 1
    wanted[1, several] = np.clip(wanted[1, several], 1, has.sum(axis=0)[several] - 1)
    wanted[0, several] = has.sum(axis=0)[several] - wanted[1, several]
    order = np.random.default_rng(seed).permutation(num_groups)
    part = np.full(num_groups, -1)
    while (part < 0).any():
        left = (has[part < 0, :-1] > 0).sum(axis=0)
        rarest = int(np.where(left > 0, left, np.inf).argmin()) if left.any() else -1
        for group in order[(part[order] < 0) & (has[order, rarest] > 0)]:
            # What the class lacks decides, then what pictures lack.
            lack = [(wanted[p, rarest], wanted[p, -1]) for p in (0, 1)]
            part[group] = int(lack[1] > lack[0])
            wanted[part[group]] -= has[group]
    return part[group_of] == 1
