"""Names of keypoints as Detectron2 wants them: with the pairs that a mirrored picture exchanges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_RIGHT = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}
_OTHER = {**_RIGHT, **{right: left for left, right in _RIGHT.items()}}
_SIDE = re.compile(r"left|right|Left|Right|LEFT|RIGHT|(?<![A-Za-z])[lrLR](?![A-Za-z])")


def describe_keypoints(names: Sequence[str]) -> dict[str, Any]:
    """The metadata of a data set whose categories name their keypoints; nothing without names.

    Args:
        names: of the keypoints in their order. ``left_eye`` and ``right_eye``, or ``eye_l`` and
            ``eye_r``, are a pair.

    Returns:
        ``keypoint_names`` and ``keypoint_flip_map``, a list of pairs.
    """
    if not names:
        return {}
    others = [_SIDE.sub(lambda side: _OTHER[side[0]], name) for name in names]
    pairs = [pair for pair in zip(names, others, strict=True) if pair[0] < pair[1] in names]
    return {"keypoint_names": list(names), "keypoint_flip_map": pairs}
