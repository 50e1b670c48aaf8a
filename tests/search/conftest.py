"""Workers of a search start at once: forked from a process that has imported what they need.

What they are given is pickled as for a spawned one; test_workers_end_with_a_killed_search spawns.
"""

from __future__ import annotations

import multiprocessing

import pytest

PRELOAD = ["optuna", "nasnet_det.search.assemble", "nasnet_det.search.local_processes"]


@pytest.fixture(autouse=True)
def _forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    get_context, server = multiprocessing.get_context, multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    monkeypatch.setattr(
        multiprocessing,
        "get_context",
        lambda method=None: server if method == "spawn" else get_context(method),
    )
