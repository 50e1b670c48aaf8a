"""benchmarks/equal_time.py: its peer and its numbers."""

from __future__ import annotations

import pytest

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

from benchmarks import equal_time as benchmark
from nasnet_det.detection import get_config


def test_the_peer_differs_in_the_backbone_alone() -> None:
    models = []
    for values in benchmark.BACKBONES.values():
        pairs = [str(word) for pair in values.items() for word in pair]
        cfg = get_config(benchmark.NARROW, [*pairs, "MODEL.DEVICE", "cpu"])
        models.append(build_model(cfg))
    ours, peer = (
        {
            name: tuple(value.shape)
            for name, value in model.state_dict().items()
            if not name.startswith(("backbone.bottom_up", "backbone.fpn_lateral"))
        }
        for model in models
    )
    assert ours == peer
    assert type(models[1].backbone.bottom_up).__name__ == "ResNet"
    assert models[1].backbone.bottom_up.res5[0].conv1.weight.shape[0] == 512


def test_seeds_that_both_have_are_compared() -> None:
    def row(backbone: str, seed: int, score: float) -> dict[str, object]:
        scores = {"AP": score, "AP50": 2 * score, "AP75": score}
        return {"backbone": backbone, "seed": seed, **scores}

    runs = [row("nasnet_a", 1, 12), row("resnet18", 1, 10), row("nasnet_a", 2, 24)]
    assert benchmark.compare(runs) == {}
    found = benchmark.compare([*runs, row("resnet18", 2, 20), row("nasnet_a", 3, 99)])
    # 2 and 4: 3 +- 12.706 * sqrt(2) / sqrt(2)
    assert found["AP"] == pytest.approx([3, -9.706, 15.706])
    assert found["AP50"] == pytest.approx([6, -19.412, 31.412])
