"""``--runtime NAME[:PRECISION]``, short for keys of ``TEST.RUNTIME``."""

from __future__ import annotations


def list_runtime_pairs(word: str | None) -> list[str]:
    """The KEY VALUE pairs of such a word; [] of none."""
    if not word:
        return []
    name, precision = split_runtime(word)
    return ["TEST.RUNTIME.NAME", name, "TEST.RUNTIME.PRECISION", precision]


def split_runtime(word: str) -> tuple[str, str]:
    """``openvino:int8`` -> its name and its precision, float32 without one."""
    name, _, precision = word.partition(":")
    return name, precision or "float32"
