"""Annotations from one format to another, with a report of what was lost on the way.

What a reader leaves out is counted while it reads. What a writer can't say is measured: the written
files are read again and compared with what was to be written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_det.data.coco import parse_coco
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.annotated_set import AnnotatedSet
from nasnet_det.data.formats.comparison import find_losses
from nasnet_det.data.formats.labelme import name_labelme_folder, write_labelme
from nasnet_det.data.formats.losses import Losses
from nasnet_det.data.formats.picture_copies import WAYS, place_pictures, plan_names
from nasnet_det.data.formats.recognition import list_addresses, parse_address, read_annotations
from nasnet_det.data.formats.table import write_table
from nasnet_det.data.formats.voc import PICTURES, name_voc_list, write_voc
from nasnet_det.data.formats.yolo import name_yolo_split, write_yolo
from nasnet_det.data.picture_sizes import (
    check_sizes,
    compare_sizes,
    fill_sizes,
    settle_sizes,
)
from nasnet_det.near_names import nearest
from nasnet_det.runs.files import new_folder, write_content, write_json

REPORT = "report.json"


@dataclass(frozen=True)
class Target:
    """How a format is written.

    Attributes:
        write: (set, names of the pictures, folder, split).
        pictures: the folder of a split's pictures, with ``{split}``; None where they stay.
        prefix: of the pictures' names in the format, before those in their folder.
        is_flat: whether pictures lie in one folder.
        address: where a split is read again.
        name_split: the name that the format has for a split.
    """

    write: Callable[[AnnotatedSet, Sequence[str], str, str], None]
    address: str
    pictures: str | None = None
    prefix: str = ""
    is_flat: bool = False
    name_split: Callable[[str], str] = str


@dataclass(frozen=True)
class Converted:
    """One split.

    Attributes:
        source: its address.
        split: its name.
        image_root: where the pictures of the source lie.
        num_images, num_objects, num_classes: of the source.
        losses: what the source has, and what was written has not.
    """

    source: str
    split: str
    image_root: str
    num_images: int
    num_objects: int
    num_classes: int
    losses: Losses

    def describe(self) -> str:
        """Lines for a person."""
        lost = self.losses.describe() or ["nothing"]
        return "\n  lost: ".join(
            [
                f"{self.split} from {self.source}: {self.num_images:,} images, "
                f"{self.num_objects:,} objects, {self.num_classes} classes",
                *lost,
            ]
        )


def convert_data(
    sources: Sequence[str],
    out: str | os.PathLike[str],
    *,
    to: str = "coco",
    images: str | Sequence[str] = "",
    pictures: str = "copy",
    size_mismatch: str = "stop",
    **options: Any,
) -> list[Converted]:
    """Convert data sets; all splits of a source, unless its address names one.

    Args:
        sources: addresses, see ``formats/recognition.py``.
        out: a folder that is not there yet, or empty.
        to: a name of :data:`TARGETS`.
        images: the folder of the sources' pictures, or one a source, where the format does not say
            it.
        pictures: ``copy``, ``link`` or ``none``; for COCO and CSV they stay where they are.
        size_mismatch: what is done about sizes that pictures don't have; see ``picture_sizes.py``.
        **options: of the sources' readers.

    Returns:
        what came of each split. ``report.json`` and ``report.txt`` in the folder say the same.

    Raises:
        DataError: a source can't be read; nothing is written then.
    """
    if to not in TARGETS:
        raise DataError(f"--to: unknown format {to!r}, {nearest(to, TARGETS)}")
    if pictures not in WAYS:
        raise DataError(f"--pictures: unknown way {pictures!r}, {nearest(pictures, WAYS)}")
    sets = _read_sources(sources, images, size_mismatch, options, TARGETS[to].name_split)
    with new_folder(out) as folder:
        names = _write(TARGETS[to], sets, folder, pictures)
        _measure_losses(to, sets, names, folder)
        converted = [_describe(split, found) for split, found in sets.items()]
        report = [{**vars(split), "losses": split.losses.to_records()} for split in converted]
        write_json(os.path.join(folder, REPORT), report)
        text = "".join(split.describe() + "\n" for split in converted)
        write_content(os.path.join(folder, "report.txt"), text.encode(errors="backslashreplace"))
    return converted


def _read_sources(
    sources: Sequence[str],
    images: str | Sequence[str],
    size_mismatch: str,
    options: Mapping[str, Any],
    name_split: Callable[[str], str],
) -> dict[str, AnnotatedSet]:
    """Split -> set."""
    sets: dict[str, AnnotatedSet] = {}
    for source, folder in pair_folders(sources, images):
        for split, address in list_addresses(os.path.expanduser(source)).items():
            found = read_annotations(address, images=folder, **options)
            parse_coco(found.where, found.content)
            _settle_sizes(found, size_mismatch)
            name = name_split(split.replace("/", "_") or get_split_name(address))
            if name in sets:
                raise DataError(f"{source}: there is another split of the name {name!r}")
            sets[name] = found
    return sets


def _settle_sizes(found: AnnotatedSet, policy: str) -> None:
    """See that every image has its size, in place."""
    images = found.content["images"]
    names = [image["file_name"].replace("\\", "/") for image in images]
    keys = ("width", "height")
    claimed = np.array([[image.get(k) or np.nan for k in keys] for image in images], np.float64)
    root, settled = found.image_root, claimed
    if root and policy == "picture":
        settled = settle_sizes(found.where, names, claimed, image_root=root)
    elif root:
        settled = fill_sizes(found.where, names, claimed, image_root=root)
        compared = compare_sizes([os.path.join(root, name) for name in names], settled)
        check_sizes(found.where, names, settled, compared.other)
    for image, size in zip(images, settled.tolist(), strict=True):
        if size[0] != size[0]:
            raise DataError(
                f"{found.where}: no size of {image['file_name']}, and no picture that says it"
                + (f" in {found.image_root}" if found.image_root else "; name their folder")
            )
        image.update(zip(keys, map(int, size), strict=True))


def pair_folders(sources: Sequence[str], images: str | Sequence[str]) -> list[tuple[str, str]]:
    """Each source with the folder of its pictures, "" where none is named.

    Raises:
        DataError: there are neither one folder for all nor as many as sources.
    """
    folders = [images] if isinstance(images, str) else [*images] or [""]
    if len(folders) not in (1, len(sources)):
        raise DataError(
            f"--images: wanted one folder, or one for each of {len(sources)} sources, got "
            f"{len(folders)}"
        )
    folders = [os.path.expanduser(folder) for folder in folders]
    return list(zip(sources, folders * (len(sources) // len(folders)), strict=True))


def get_split_name(address: str) -> str:
    """``train`` of ``instances_train.json``."""
    name = Path(os.path.abspath(parse_address(address)[0])).name.removesuffix(".gz")
    return Path(name).stem.removeprefix("instances_")


def _write(
    target: Target, sets: Mapping[str, AnnotatedSet], folder: str, how: str
) -> dict[str, list[str]]:
    """Write all splits and place their pictures; split -> the names of its pictures."""
    taken: set[str] = set()
    names: dict[str, list[str]] = {}
    for split, found in sets.items():
        file_names = [image["file_name"].replace("\\", "/") for image in found.content["images"]]
        if target.pictures is None:
            names[split] = file_names
        else:
            names[split] = plan_names(file_names, taken, is_flat=target.is_flat)
            place = os.path.join(folder, target.pictures.format(split=split))
            sources = [os.path.join(found.image_root, name) for name in file_names]
            targets = [os.path.join(place, name) for name in names[split]]
            embedded = {s: found.embedded.get(n) for s, n in zip(sources, file_names, strict=True)}
            place_pictures(sources, targets, how=how, losses=found.losses, embedded=embedded)
        target.write(found, names[split], folder, split)
    return names


def _write_coco(found: AnnotatedSet, names: Sequence[str], folder: str, split: str) -> None:
    """The content as it is; pictures stay where they are."""
    write_json(os.path.join(folder, f"{split}.json"), found.content)


def _measure_losses(
    to: str, sets: Mapping[str, AnnotatedSet], names: Mapping[str, list[str]], folder: str
) -> None:
    """Read what was written, and count in each set what did not come back."""
    for split, found in sets.items():
        written = read_annotations(TARGETS[to].address.format(folder=folder, split=split))
        prefix = TARGETS[to].prefix.format(split=split)
        lost = find_losses(found.content, written.content, [prefix + n for n in names[split]])
        for kind, count in lost.counts.items():
            found.losses.add(kind, count=count)
            found.losses.examples[kind] += lost.examples[kind]


def _describe(split: str, found: AnnotatedSet) -> Converted:
    images, objects, classes = (
        len(found.content.get(key, ())) for key in ("images", "annotations", "categories")
    )
    return Converted(found.where, split, found.image_root, images, objects, classes, found.losses)


TARGETS: Mapping[str, Target] = {
    "coco": Target(_write_coco, "{folder}/{split}.json"),
    "voc": Target(write_voc, "{folder}#{split}", PICTURES, is_flat=True, name_split=name_voc_list),
    "yolo": Target(
        write_yolo,
        "{folder}/data.yaml#{split}",
        "images/{split}",
        prefix="images/{split}/",
        name_split=name_yolo_split,
    ),
    "labelme": Target(
        write_labelme,
        "{folder}#{split}",
        "{split}",
        prefix="{split}/",
        name_split=name_labelme_folder,
    ),
    "csv": Target(write_table, "{folder}/{split}.csv"),
}
