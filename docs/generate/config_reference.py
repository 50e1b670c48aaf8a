"""The configuration reference, from the defaults and the comments beside them in the source.

Each ``add_*_config`` is called while every assignment to a node of the config is recorded with its
line; a comment above an assignment is the meaning of its key, and of the keys after it up to the
next comment or empty line. So the source stays the only place where a key is explained.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

PACKAGE = str(Path(__file__).resolve().parents[2] / "nasnet_det")


@dataclass(frozen=True)
class Key:
    """One key: its full name, its default, and the comment above it ("" where there is none)."""

    name: str
    default: Any
    comment: str


def read_keys(add_config: Callable[[CfgNode], None], cfg: CfgNode) -> list[Key]:
    """The keys that a function adds to a config, in the order of the source."""
    with _record_assignments() as places:
        add_config(cfg)
    keys = []
    for name, node, last, value in _walk(cfg):
        if (id(node), last) in places and not isinstance(value, CfgNode):
            path, line = places[id(node), last]
            siblings = {places[id(node), key][1] for key in node if (id(node), key) in places}
            keys.append(Key(name, value, read_comment(path, line, siblings)))
    return keys


@contextmanager
def _record_assignments() -> Iterator[dict[tuple[int, str], tuple[str, int]]]:
    """(node, key) -> the file and the line of this package that set it.

    A node that is made of a dictionary sets its keys where it is assigned itself.
    """
    places: dict[tuple[int, str], tuple[str, int]] = {}
    plain = CfgNode.__setattr__

    def set_and_record(node: CfgNode, key: str, value: Any) -> None:
        plain(node, key, value)
        frame = sys._getframe(1)
        while not frame.f_code.co_filename.startswith(PACKAGE):  # yacs, Detectron2
            if frame.f_back is None:
                return
            frame = frame.f_back
        place = (frame.f_code.co_filename, frame.f_lineno)
        places[id(node), key] = place
        if isinstance(value, CfgNode):
            places.update({(id(value), inner): place for inner in value})

    CfgNode.__setattr__ = set_and_record
    try:
        yield places
    finally:
        CfgNode.__setattr__ = plain


def _walk(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, CfgNode, str, Any]]:
    """All keys, those of a node before those of the nodes in it."""
    inner = {key: value for key, value in node.items() if isinstance(value, CfgNode)}
    for key, value in node.items():
        if key not in inner:
            yield prefix + key, node, key, value
    for key, value in inner.items():
        yield from _walk(value, f"{prefix}{key}.")


def read_comment(path: str, line: int, siblings: Container[int]) -> str:
    """The comment of the assignment in a line: above it, or above those of its node before it."""
    comments = _read_comments(path)
    while line - 1 in siblings and line - 1 not in comments:
        line -= 1
    words: list[str] = []
    while line - 1 in comments:
        line -= 1
        words.insert(0, comments[line])
    return " ".join(words)


@cache
def _read_comments(path: str) -> dict[int, str]:
    """The comments that have a line of their own, by line."""
    tokens = tokenize.generate_tokens(io.StringIO(Path(path).read_text()).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def write_tables(keys: Sequence[Key], allowed: Mapping[str, str]) -> str:
    """Markdown: a table for each node of the config.

    Args:
        keys: see :func:`read_keys`.
        allowed: key -> the values that it may have, in words.
    """
    lines: list[str] = []
    last_node, last_comment = None, ""
    for key in keys:
        node, _, name = key.name.rpartition(".")
        if node != last_node:
            lines += ["", f"**`{node}`**" if node else "**Top level**", ""]
            lines += ["| key | default | type | values | meaning |", "|---|---|---|---|---|"]
            last_node, last_comment = node, ""
        meaning = "as above" if key.comment and key.comment == last_comment else key.comment
        last_comment = key.comment
        default, kind = f"`{key.default!r}`", type(key.default).__name__
        cells = (f"`{name}`", default, kind, allowed.get(key.name, ""), _escape(meaning))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines[1:])


def _escape(text: str) -> str:
    """Text of a comment as Markdown would show it."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)
