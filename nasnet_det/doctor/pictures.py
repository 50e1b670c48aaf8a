"""What lies at the places that a data set names: pictures, their headers and their content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from nasnet_det.data.alike import make_thumbnail
from nasnet_det.data.coco import CocoFile
from nasnet_det.data.pictures import Header, PictureError, read_header, read_picture
from nasnet_det.doctor.findings import Finding, Level


@dataclass(frozen=True)
class Look:
    """What one look at a file shows.

    Attributes:
        header: None where it is missing or no picture.
        fault: why it can't be read; "" where it can.
        num_bytes: of the file; -1 where it is missing.
        thumbnail: (16, 16) uint8, grey; None where the picture was not decoded or can't be.
    """

    header: Header | None
    fault: str
    num_bytes: int
    thumbnail: np.ndarray | None = None


def look_at_pictures(paths: Sequence[str], *, decode: bool) -> list[Look]:
    """Look at files, on all processors.

    Args:
        paths: of the files.
        decode: decode each picture, which alone shows that one is cut off; else headers only.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(partial(_look, decode=decode), paths))


def _look(path: str, *, decode: bool) -> Look:
    try:
        num_bytes = os.stat(path).st_size if os.path.isfile(path) else -1
    except (OSError, ValueError):  # a name that no file can have
        num_bytes = -1
    if num_bytes < 0:
        return Look(None, "there is no such file", num_bytes)
    header = None
    try:
        header = read_header(path)
        thumbnail = make_thumbnail(read_picture(path)) if decode else None
    except PictureError as error:
        return Look(header, error.reason, num_bytes)
    return Look(header, "", num_bytes, thumbnail)


def check_pictures(coco: CocoFile, paths: Sequence[str], looks: Sequence[Look]) -> list[Finding]:
    """Files that are missing, broken, of another size, turned, or named twice.

    Args:
        coco: the data set.
        paths, looks: of its images, in its order.
    """
    groups = _sort_faults(coco, paths, looks)
    findings = []
    for kind, (level, text, advice) in _KINDS.items():
        places = groups.get(kind, [])
        if places:
            findings.append(
                Finding(
                    level=level,
                    kind=kind,
                    file=coco.path,
                    text=_count(text, len(places), _describe(kind, coco, places[0], paths, looks)),
                    of="images",
                    ids=[coco.image_ids[i] for i in places],
                    pictures=[paths[i] for i in places],
                    advice=advice,
                )
            )
    return findings


# kind -> level, text of one and of many, advice
_KINDS: dict[str, tuple[Level, str, str]] = {
    "missing_picture": (
        Level.ERROR,
        "{n} not there: {first}",
        "file_name must be relative to the folder of pictures, in the same capitals",
    ),
    "broken_picture": (
        Level.ERROR,
        "{n} can't be read: {first}",
        "copy it again, or take it out of the JSON; a training skips it",
    ),
    "turned_by_exif": (
        Level.ERROR,
        "{n} turned by EXIF, with the size of the picture before it is turned in the JSON: {first}",
        "annotate pictures as they are shown, or take the EXIF orientation out of them",
    ),
    "other_size": (
        Level.ERROR,
        "{n} of another size than the JSON says: {first}",
        "the boxes may be of another version of the picture; see DATASETS.SIZE_MISMATCH",
    ),
    "listed_twice": (
        Level.WARNING,
        "{n} listed more than once: {first}",
        "one entry a picture, or its objects are background in the other entry",
    ),
    "turned_picture": (
        Level.NOTE,
        "{n} turned or mirrored by EXIF, and its size fits both ways: {first}",
        "see on the contact sheet whether the boxes fit",
    ),
}


def _sort_faults(
    coco: CocoFile, paths: Sequence[str], looks: Sequence[Look]
) -> dict[str, list[int]]:
    """Kind -> places of the images."""
    groups: dict[str, list[int]] = {}
    seen: set[str] = set()
    for place, (path, look) in enumerate(zip(paths, looks, strict=True)):
        kinds = []
        real = os.path.normpath(path)
        if real in seen:
            kinds.append("listed_twice")
        seen.add(real)
        claimed = coco.sizes[place]
        is_known = np.isfinite(claimed).all()
        if look.fault:
            kinds.append("missing_picture" if look.num_bytes < 0 else "broken_picture")
        elif look.header is not None:
            width, height, orientation, _ = look.header
            if is_known and (width, height) != tuple(claimed):
                is_turned = orientation > 4 and (height, width) == tuple(claimed)
                kinds.append("turned_by_exif" if is_turned else "other_size")
            elif orientation > 1 and (orientation < 5 or width == height):
                kinds.append("turned_picture")
        for kind in kinds:
            groups.setdefault(kind, []).append(place)
    return groups


def _describe(
    kind: str, coco: CocoFile, place: int, paths: Sequence[str], looks: Sequence[Look]
) -> str:
    """The first picture of a finding, in words."""
    name, look = coco.file_names[place], looks[place]
    if kind == "broken_picture":
        return f"{name} ({look.fault})"
    if kind == "missing_picture":
        near = _find_other_capitals(paths[place])
        return f"{name}, but {near} is" if near else name
    if kind in ("other_size", "turned_by_exif") and look.header is not None:
        claimed = "x".join(f"{side:g}" for side in coco.sizes[place])
        return f"{name} is {look.header.width}x{look.header.height}, not {claimed}"
    return name


def _find_other_capitals(path: str) -> str:
    """A file of the same folder and the same name but for its capitals; "" without one."""
    folder, name = os.path.split(path)
    try:
        return next((n for n in os.listdir(folder) if n.lower() == name.lower()), "")
    except (OSError, ValueError):
        return ""


def _count(text: str, number: int, first: str) -> str:
    subject = "1 picture is" if number == 1 else f"{number} pictures are"
    if "{n} can't" in text:
        subject = subject.rpartition(" ")[0]
    return text.format(n=subject, first=first if number == 1 else f"the first, {first}")
