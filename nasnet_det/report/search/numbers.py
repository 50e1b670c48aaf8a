"""The numbers of a search's report: curves over the number of children, fronts, frequencies.

Curves have one value for each finished child, None where there is none yet. Top-k means are over
*different* architectures, as in the NASNet paper (arXiv 1707.07012, figure 6): a child that repeats
an architecture counts as a child, but not a second time among the best. Children that were pruned
count as children, but are never among the best.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from nasnet_det.runs.study_results import Child, Study
from nasnet_det.space import CELLS

TOP_KS = (1, 5, 25)
Curve = list[float | None]


def compute_top_means(children: Sequence[Child], k: int) -> Curve:
    """The mean reward of the best k different architectures among the first 1, 2, ... children."""
    best: list[float] = []
    curve: Curve = []
    for child in children:
        is_own = child.state == "complete" and child.duplicate_of is None
        if is_own and child.reward is not None:
            insort(best, child.reward)
            del best[:-k]
        curve.append(math.fsum(best) / k if len(best) == k else None)
    return curve


def compute_moving_mean(children: Sequence[Child], window: int) -> Curve:
    """The mean reward among the last ``window`` children, those without reward left out."""
    curve: Curve = []
    for stop in range(1, len(children) + 1):
        rewards = [c.reward for c in children[max(0, stop - window) : stop] if c.reward is not None]
        curve.append(math.fsum(rewards) / len(rewards) if stop >= window and rewards else None)
    return curve


def find_pareto_front(children: Iterable[Child]) -> list[Child]:
    """The children that no other beats: none has a higher reward with at most as many
    multiply-adds, or fewer with at least the reward. By multiply-adds; of equals the first.
    """
    front: list[Child] = []
    candidates = [c for c in children if c.state == "complete" and c.macs is not None]
    for child in sorted(candidates, key=lambda c: (c.macs, -(c.reward or 0), c.number)):
        if not front or child.reward > front[-1].reward:  # type: ignore[operator]
            front.append(child)
    return front


def choose_window(study: Study) -> int:
    """Children over which means and frequencies are taken.

    Two minibatches, but at least a twentieth and at most a quarter of the children.
    """
    num_children = len(study.finished)
    return max(1, min(max(2 * study.minibatch, num_children // 20), num_children // 4))


def count_operations(study: Study, window: int) -> dict[str, Any]:
    """How often each operation was proposed, in windows that slide by a minibatch at most.

    All finished children count, with a reward or not, duplicates too: this is what the sampler
    proposes.

    Returns:
        ``children``: for each window the number of children up to its end; ``normal`` and
        ``reduction``: for each operation its share in each window; ``decisions``: number of
        operations in a window of one of the cells.
    """
    operations = study.space.operations
    step = min(study.minibatch, window)
    ends = list(range(len(study.finished), window - 1, -step))[::-1]
    result: dict[str, Any] = {
        "children": ends,
        "decisions": 2 * study.space.num_blocks * window,
    }
    genotypes = [study.decode(child) for child in study.finished]
    for cell in CELLS:
        counts = [
            Counter(op for block in getattr(genotype, cell).blocks for op in block.ops)
            for genotype in genotypes
        ]
        sums = [sum(counts[end - window : end], Counter()) for end in ends]
        result[cell] = {op: [s[op] / result["decisions"] for s in sums] for op in operations}
    return result


def count_failures(study: Study) -> list[dict[str, Any]]:
    """Why children failed: the kinds with their numbers and an example, frequent first."""
    reasons = [c.failure or "no reason" for c in study.finished if c.state == "failed"]
    kinds = Counter(reason.partition(":")[0] for reason in reasons)
    return [
        {
            "kind": kind,
            "count": count,
            "example": next(r for r in reasons if r.partition(":")[0] == kind),
        }
        for kind, count in kinds.most_common()
    ]


def summarize(study: Study) -> dict[str, Any]:
    """All numbers of one study, as JSON has them."""
    finished, window, best = study.finished, choose_window(study), study.best
    states = Counter(child.state for child in study.children)
    seconds = sorted(child.seconds for child in finished if child.seconds is not None)
    moving = compute_moving_mean(finished, window)
    curves = {f"top_{k}": compute_top_means(finished, k) for k in TOP_KS}
    return {
        "title": study.title,
        "name": study.name,
        "folder": study.folder,
        "sampler": study.sampler,
        "seed": study.seed,
        "versions": dict(study.versions),
        "config": dict(study.config),
        "children": {
            "asked": study.num_trials,
            "finished": len(finished),
            "complete": states["complete"],
            "failed": states["failed"],
            "pruned": states["pruned"],
            "under_way": states["running"],
            "duplicates": sum(child.duplicate_of is not None for child in finished),
        },
        "failures": count_failures(study),
        "seconds": {
            "sum": round(math.fsum(seconds), 2),
            "median": seconds[len(seconds) // 2] if seconds else None,
        },
        "best": describe_child(best),
        "retrained": {
            "config": dict(study.retraining),
            "failures": dict(study.retraining_failures),
            "children": [describe_child(child) for child in study.retrained],
        },
        "chosen": describe_child(study.chosen),
        "chosen_genotype": study.decode(study.chosen).to_dict(),
        "top_means": {name: curve[-1] for name, curve in curves.items()},
        "rewards": [child.reward for child in finished],
        "curves": {**curves, "moving_mean": moving, "window": window},
        "pareto_front": [describe_child(child) for child in find_pareto_front(finished)],
        "operations": count_operations(study, window),
    }


def describe_child(child: Child) -> dict[str, Any]:
    """What identifies a child, and what came of it."""
    return {
        "child": child.number,
        "reward": child.reward,
        "macs": child.macs,
        "params": child.params,
        "retrained": child.retrained,
    }
