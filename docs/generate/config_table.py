"""The linked table of configs, from the files: what each is made on, and its first sentence."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
FOLDERS = {
    "search": "Searches",
    "classification": "Classifiers",
    ".": "Bases of detectors",
    "COCO-Detection": "Detectors on COCO",
    "COCO-InstanceSegmentation": "Detectors with masks on COCO",
    "COCO-Keypoints": "Detectors with keypoints on COCO",
    "COCO-PanopticSegmentation": "Panoptic segmentation on COCO",
    "quick_schedules": "Detectors in minutes",
    "pipelines": "Pipelines",
}


def write_table() -> str:
    """Markdown: a table for each folder of ``configs/``."""
    paths = sorted(CONFIGS.rglob("*.yaml"))
    unknown = {_folder(path) for path in paths} - set(FOLDERS)
    if unknown:
        raise ValueError(f"FOLDERS lacks a title for {', '.join(sorted(unknown))}")
    lines: list[str] = []
    for folder, title in FOLDERS.items():
        lines += [f"## {title}", "", "| config | base | what it is |", "|---|---|---|"]
        for path in paths:
            if _folder(path) == folder:
                base = yaml.safe_load(path.read_text()).get("_BASE_", "")
                base = base and _link((path.parent / base).resolve())
                lines.append(f"| {_link(path)} | {base} | {read_summary(path)} |")
        lines.append("")
    return "\n".join(lines[:-1])


def read_summary(path: Path) -> str:
    """The first sentence of a config's comment, without the command that calls it."""
    words: list[str] = []
    in_command = False
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ")
        if in_command or re.match(r"(python|torchrun|make|nasnet-det|[A-Z0-9_]+=) ?", text):
            in_command = text.endswith("\\")
        else:
            words.append(text)
    sentence = re.match(r"(.+?[.:;])(?= [A-Z]|$)", " ".join(words).strip())
    return sentence.group(1).rstrip(":;") if sentence else ""


def _folder(path: Path) -> str:
    return path.parent.relative_to(CONFIGS).as_posix()


def _link(path: Path) -> str:
    return f"[{path.name}](../{path.relative_to(ROOT).as_posix()})"
