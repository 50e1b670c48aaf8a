"""A search for detectors on the user's own data, from its config to its front.

The pictures are split by ``data/splitting.py``, so that AP is measured on some that nothing was
trained on. Objects of the others are cut out for the first rung. The search itself is in
``search/ladder.py``; what builds and trains detectors, in ``detection/candidates.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.data.coco import parse_coco
from nasnet_det.data.crops import crop_objects
from nasnet_det.data.error import DataError
from nasnet_det.data.formats.recognition import (
    find_address,
    find_images,
    is_coco,
    read_annotations,
)
from nasnet_det.data.splitting import PARTS, split_data
from nasnet_det.errors import requires
from nasnet_det.runs.candidates import DetectorTask, Front
from nasnet_det.runs.files import write_json
from nasnet_det.runs.lock import lock_folder

FEWEST_HELD_OUT = 5
"""Held-out pictures below which an AP says nothing (ours)."""
DATA = "data.json"


def search_detectors(
    cfg: CfgNode,
    *,
    resume: bool = False,
    on_progress: Callable[[Any], None] = lambda _: None,
    tell: Callable[[str], None] = print,
    command: Sequence[str] = (),
) -> Front:
    """Search, or go on with a search.

    ``OUTPUT_DIR`` gets data/ and crops/, study.db (Optuna's storage), config.yaml, run.json,
    plan.json, a folder for each rung of detectors, front.json, and front/, a config for each
    candidate of the front.

    Args:
        cfg: see :func:`~nasnet_det.search.config.get_search_config`.
        resume: go on with the study if it has children.
        on_progress: is told after each child, see ``search/progress.py``.
        tell: takes lines for people.
        command: what ``run.json`` says; empty for that of this process.

    Raises:
        InputError: the config can't be meant, the folder is in use or holds another search, the
            data can't be used or is too small, the hours don't suffice, or nothing was trained.
    """
    with requires("search"):
        from nasnet_det.search.assemble import build_plan, build_recipe, write_run_info
        from nasnet_det.search.detector_config import check_detector_config, get_first_rung_config
        from nasnet_det.search.journal import silence_optuna
        from nasnet_det.search.ladder import Ladder
    with requires("detection"):
        from nasnet_det.detection.candidates import CandidateStage

    silence_optuna()
    check_detector_config(cfg)
    first = get_first_rung_config(cfg)
    build_plan(first), build_recipe(first)  # possible?
    folder = Path(cfg.OUTPUT_DIR)
    with lock_folder(folder, "search"):
        task, contents = prepare_data(cfg, folder)
        crops, num_crops = _cut_crops(folder, task)
        ladder = Ladder(
            cfg,
            stage=CandidateStage(),
            task=task,
            crops=crops,
            num_crops=num_crops,
            contents=contents,
            resume=resume,
            on_progress=on_progress,
            tell=tell,
        )
        write_run_info(cfg, command or sys.argv)
        return ladder.run()


def prepare_data(cfg: CfgNode, folder: Path) -> tuple[DetectorTask, dict[str, Any]]:
    """Split the pictures, where that was not done before.

    Returns:
        the task, and what the search's studies know the data by.

    Raises:
        DataError: there are too few pictures, or they can't be read.
        ConfigError: the folder has the pictures of another search.
    """
    path, images = (os.path.expanduser(cfg.DATASETS[f"TRAIN_{key}"]) for key in ("JSON", "IMAGES"))
    if is_coco(path) and not images:
        raise ConfigError(
            "DATASETS.TRAIN_IMAGES: wanted the folder that the JSON's file_name entries start from"
        )
    address = path if is_coco(path) else find_address(path, is_train=True)
    images = os.path.abspath(images or find_images(address))
    found = read_annotations(address, images=images)
    share, num_pictures = cfg.SEARCH.DETECTOR.HELD_OUT, len(found.content.get("images", ()))
    parse_coco(found.where, found.content)
    if round(share * num_pictures) < FEWEST_HELD_OUT:
        raise DataError(
            f"DATASETS.TRAIN_JSON: wanted at least {FEWEST_HELD_OUT} pictures to hold out, got "
            f"{round(share * num_pictures)} of {num_pictures} (SEARCH.DETECTOR.HELD_OUT {share:g})"
        )
    content = json.dumps(found.content, sort_keys=True, default=str).encode()
    contents: dict[str, Any] = {
        "annotations": hashlib.sha256(content).hexdigest(),
        "held_out": share,
        "seed": cfg.SEARCH.SEED,
    }
    record = folder / DATA
    if record.is_file():
        known = json.loads(record.read_text())
        if {key: known.get(key) for key in contents} != contents:
            raise ConfigError(
                f"OUTPUT_DIR {folder} holds a search on other pictures, or on another part of "
                "them; give another one"
            )
        contents = known
    else:
        place = folder / "data"
        if not place.is_dir():
            split_data(address, place, images=images, share=share, seed=cfg.SEARCH.SEED)
        pictures = json.loads((place / f"{PARTS[1]}.json").read_text())["images"]
        contents["num_held_out"] = len(pictures)
        write_json(record, contents)
    train, held_out = (str((folder / "data" / f"{part}.json").resolve()) for part in PARTS)
    return DetectorTask(cfg.SEARCH.DETECTOR.CONFIG, train, held_out, images), contents


def _cut_crops(folder: Path, task: DetectorTask) -> tuple[Path, int]:
    """The folder of crops, made where it is not there, and how many they are."""
    place = folder / "crops"
    if not place.is_dir():
        crop_objects([task.train_json], place, images=task.images, with_background=True)
    return place, sum(1 for _ in place.rglob("*.png"))
