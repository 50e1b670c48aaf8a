"""Pictures in the folder of a converted data set: under safe names, copied or linked."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from nasnet_det.data.formats.labelme import extract_picture
from nasnet_det.data.formats.losses import Losses
from nasnet_det.runs.files import shorten_name, write_content

WAYS = ("copy", "link", "none")
_UNSAFE = re.compile("[\x00-\x1f\x7f:\ud800-\udfff]")  # no system has all of them in its names


def plan_names(file_names: Sequence[str], taken: set[str], *, is_flat: bool) -> list[str]:
    """Names below a folder, none outside of it, each with a stem of its own.

    Args:
        file_names: as a JSON has them.
        taken: stems in small letters that are used already; gets those of the new names.
        is_flat: folders become part of the name.
    """
    names = []
    for file_name in file_names:
        path = PurePosixPath(file_name.replace("\\", "/"))
        parts = [_UNSAFE.sub("_", p) for p in path.parts if p.strip("/") not in ("", "..", ".")]
        *folders, last = ["_".join(parts)] if is_flat or not parts else parts
        stem, suffix = os.path.splitext(last or "picture")
        folders = [shorten_name(folder) for folder in folders]
        stem = "/".join([*folders, shorten_name(stem)])
        number, free = 1, stem
        while free.lower() in taken:
            number += 1
            free = f"{stem}_{number}"
        taken.add(free.lower())
        names.append(free + shorten_name(suffix, 20))
    return names


def place_pictures(
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    how: str,
    losses: Losses,
    embedded: Mapping[str, str | None],
) -> None:
    """Copy or link each picture; one that is not there is counted.

    Args:
        sources: paths.
        targets: paths of new files, in the same order.
        how: one of :data:`WAYS`.
        losses: gets what is missing.
        embedded: source -> the JSON of labelme that holds it.

    Raises:
        DataError: a JSON holds no picture.
    """
    for source, target in zip(sources, targets, strict=True) if how != "none" else ():
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.isfile(source) and (path := embedded.get(source)):
            write_content(target, extract_picture(path))
        elif not os.path.isfile(source):
            losses.add("pictures that are not there", source)
        elif how == "link":
            os.symlink(os.path.abspath(source), target)
        else:
            shutil.copyfile(source, target)
