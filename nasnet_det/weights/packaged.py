"""Trained weights that come with the package: ``nasnet://nasnet_a_small``.

Each is the file of a backbone in half precision (``backbone_file.py``) with a card of the same name
beside it, a JSON that says what it was trained on, how, by which commands, and how good it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PREFIX = "nasnet://"
FOLDER = Path(__file__).with_name("files")
"""Where they lie; a part of the installed package."""


def list_packaged() -> tuple[str, ...]:
    """Their names, which stand behind ``nasnet://``."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def find_packaged(name: str) -> str:
    """The path of the weights with a name, or "" where there are none."""
    return str(FOLDER / f"{name}.safetensors") if name in list_packaged() else ""


def resolve_packaged(path: str) -> str:
    """The path of packaged weights that are named as ``nasnet://NAME``; any other path as it is."""
    return (path.startswith(PREFIX) and find_packaged(path.removeprefix(PREFIX))) or path


def read_packaged_card(name: str) -> dict[str, Any]:
    """What is known about packaged weights; the keys stand in ``docs/weights.md``.

    Args:
        name: one of :func:`list_packaged`.
    """
    card: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return card
