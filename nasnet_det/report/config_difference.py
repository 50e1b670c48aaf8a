"""Where the configs of several runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class HasConfig(Protocol):
    """A study or a run: it has a config, key -> value."""

    @property
    def config(self) -> Mapping[str, Any]: ...


def find_differences(runs: Sequence[HasConfig]) -> dict[str, list[Any]]:
    """The keys in which configs differ, each with every run's value (None if it has none)."""
    keys = sorted({key for run in runs for key in run.config})
    values = {key: [run.config.get(key) for run in runs] for key in keys}
    return {key: v for key, v in values.items() if any(value != v[0] for value in v)}
