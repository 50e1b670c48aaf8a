"""Pictures in the folder of a converted data set: under safe names, copied or linked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import PurePosixPath

from nasnet_det.data.formats.losses import Losses

WAYS = ("copy", "link", "none")


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
        parts = [part.replace(":", "_") for part in path.parts if part not in ("/", "..", ".")]
        name = ("_" if is_flat else "/").join(parts) or "picture"
        stem, suffix = os.path.splitext(name)
        number, free = 1, stem
        while free.lower() in taken:
            number += 1
            free = f"{stem}_{number}"
        taken.add(free.lower())
        names.append(free + suffix)
    return names


def place_pictures(
    sources: Sequence[str], targets: Sequence[str], *, how: str, losses: Losses
) -> None:
    """Copy or link each picture; one that is not there is counted.

    Args:
        sources: paths.
        targets: paths of new files, in the same order.
        how: one of :data:`WAYS`.
        losses: gets what is missing.
    """
    for source, target in zip(sources, targets, strict=True) if how != "none" else ():
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.isfile(source):
            losses.add("pictures that are not there", source)
        elif how == "link":
            os.symlink(os.path.abspath(source), target)
        else:
            shutil.copyfile(source, target)
