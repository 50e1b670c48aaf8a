"""What do measures of untrained children tell of their rewards? On 200 random ones, trained before.

    python benchmarks/zero_cost.py          # 3 minutes

The children are those of the study ``random_0`` in results/search_cifar10.json, with rewards of two
epochs. Ridge regressions as the predictor has them are fitted on some of them, drawn at random, and
their predictions of the others are compared with the rewards, by ranks. It writes
results/zero_cost.json: mean and standard deviation over the draws.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from nasnet_det.runs.files import write_json
from nasnet_det.runs.study_results import read_studies
from nasnet_det.search.child import ChildRecipe
from nasnet_det.search.graph_features import compute_graph_features
from nasnet_det.search.predictor_sampler import MEASURE_WEIGHT, choose_ridge, fit_ridge
from nasnet_det.search.zero_cost import MEASURES, ZeroCostMeasures

RESULTS = Path(__file__).resolve().parent / "results"
NUM_FITTED = (20, 50, 100)
NUM_DRAWS = 40
STUDY = "random_0"


def main() -> int:
    """Measure, fit, compare, write."""
    torch.set_num_threads(1)
    (study,) = (s for s in read_studies(RESULTS / "search_cifar10.json") if s.folder == STUDY)
    children = [child for child in study.finished if child.duplicate_of is None]
    node = {key.rpartition(".")[2].lower(): value for key, value in study.config.items()}
    sizes = ("num_cells_per_stage", "channels", "stem_multiplier")
    recipe = ChildRecipe(**{key: node[key] for key in sizes})
    measure = ZeroCostMeasures(recipe, study.space, image_size=node["image_size"])
    architectures = [tuple(int(d, 36) for d in child.decisions) for child in children]
    rewards = np.array([child.reward for child in children])
    graph = np.stack([compute_graph_features(study.space, c) for c in architectures])
    start = time.process_time()
    measures = np.stack([measure(choices) for choices in architectures])
    seconds = (time.process_time() - start) / len(children)
    rows = []
    for num in NUM_FITTED:
        for name, parts in {
            "graph": [(graph, 1.0)],
            "measures": [(measures, 1.0)],
            "both": [(graph, 1.0), (measures, MEASURE_WEIGHT)],
        }.items():
            found = [compare(parts, rewards, num, seed) for seed in range(NUM_DRAWS)]
            row = {"fitted": num, "features": name, "mean": np.mean(found), "std": np.std(found)}
            rows.append(row)
            print(f"{num} fitted, {name}: {row['mean']:.2f} ({row['std']:.2f})")
    alone = {m: correlate(measures[:, i], rewards) for i, m in enumerate(MEASURES)}
    content = {"children": len(children), "seconds": seconds, "alone": alone, "rows": rows}
    write_json(RESULTS / "zero_cost.json", content)
    return 0


def compare(
    parts: list[tuple[np.ndarray, float]], rewards: np.ndarray, num_fitted: int, seed: int
) -> float:
    """Rank correlation of prediction and reward over the children that the model was not fitted to.

    Args:
        parts: features (n, F) of all children, and what each counts after standardization.
        rewards: (n,).
        num_fitted: children that the model is fitted to.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(rewards))
    fitted, others = order[:num_fitted], order[num_fitted:]
    return correlate(predict_rewards(parts, rewards, fitted)[others], rewards[others])


def predict_rewards(
    parts: list[tuple[np.ndarray, float]], rewards: np.ndarray, fitted: np.ndarray
) -> np.ndarray:
    """Predictions (n,) for all children, up to what all have in common.

    Args:
        parts, rewards: as of :func:`compare`; of the children that are not fitted no reward counts.
        fitted: places of the children that the model is fitted to.
    """
    scaled = []
    for raw, weight in parts:
        std = raw[fitted].std(0)
        standard = (raw - raw[fitted].mean(0)) * np.divide(1, std, where=std > 0, out=0 * std)
        scaled.append(weight * standard)
    features = torch.from_numpy(np.concatenate(scaled, axis=1))
    known = torch.from_numpy(rewards[fitted])
    ridge = choose_ridge(features[fitted], known - known.mean())
    model = fit_ridge(features[fitted], known, torch.ones(len(fitted)), ridge)
    return (features @ model).numpy()


def correlate(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation."""
    first, second = (np.argsort(np.argsort(x)).astype(float) for x in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


if __name__ == "__main__":
    sys.exit(main())
