"""Valid content that something happened to, for Hypothesis."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# `HYPOTHESIS_PROFILE=thorough pytest tests/test_hostile_input.py` tries 10,000 of each kind.
NUM_EXAMPLES = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 40

many_examples = settings(
    max_examples=NUM_EXAMPLES,
    derandomize=True,
    database=None,
    deadline=10_000,  # ms: what takes longer counts as a hang
    suppress_health_check=list(HealthCheck),
)

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1.0, 0.5, 2**31, 2**63, 10**400, float("nan"), float("inf"), -0.0]),
    st.integers(),
    st.floats(),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "0", "../../x", "/etc/passwd", "a\\b", "\0", "~", "__import__('os')", "é"]
    ),
    st.text(max_size=12),
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _list_places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every part of a JSON."""
    if isinstance(value, dict):
        inner = [(key, item) for key, item in value.items()]
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    below = [p for key, item in inner for p in _list_places(item, (*place, key))]
    return [*([place] if place else []), *below]


@st.composite
def mutate_json(draw: Callable[[Any], Any], document: Any) -> Any:
    """A JSON in which up to four parts were replaced, dropped, repeated or renamed."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        places = _list_places(document)
        if not places:
            return draw(VALUES)
        *path, last = draw(st.sampled_from(places))
        node = document
        for key in path:
            node = node[key]
        action = draw(st.sampled_from(["replace", "replace", "drop", "repeat", "rename"]))
        if action == "replace":
            node[last] = draw(VALUES)
        elif action == "drop":
            del node[last]
        elif isinstance(node, list):
            node.append(copy.deepcopy(node[last]))
        else:
            node[draw(TEXTS)] = node.pop(last) if action == "rename" else node[last]
    return document


@st.composite
def mutate_bytes(draw: Callable[[Any], Any], contents: list[bytes]) -> bytes:
    """One of some contents in which bits are flipped, or of which a part is gone, new or twice."""
    data = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        # Most of what decides lies at the beginning.
        stop = min(len(data), draw(st.sampled_from([16, 64, 512, 1 << 30])))
        place = draw(st.integers(0, max(0, stop - 1)))
        action = draw(st.sampled_from(["flip", "flip", "set", "cut", "insert", "drop", "repeat"]))
        if action == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif action == "set" and data:
            data[place] = draw(st.sampled_from([0, 1, 127, 128, 255]))
        elif action == "cut":
            del data[place:]
        elif action == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif action == "drop":
            del data[place : place + draw(st.integers(1, 64))]
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
    return bytes(data)
