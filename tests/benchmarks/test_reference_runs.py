"""benchmarks/reference_runs.py: its configs are valid, and its detectors can be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from benchmarks import reference_runs as benchmark
from nasnet_det.detection import get_config
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.trainer import Trainer


def make_config(network: str) -> Any:
    options = benchmark.parse_arguments(["--bccd", "somewhere", "--found", "pnasnet_5"])
    settings = benchmark.make_settings(network, Path("run"), 2, options)
    pairs = [word for key, value in settings.items() for word in (key, str(value))]
    cfg = get_config(benchmark.NETWORKS[network][0], [*pairs, "MODEL.DEVICE", "cpu"])
    check_values(cfg)
    return cfg


def test_schedule_is_the_same_for_all() -> None:
    configs = [make_config(network) for network in benchmark.NETWORKS]
    assert len(configs) == 5
    for key in ("SOLVER", "INPUT", "DATASETS", "SEED"):
        assert all(cfg[key] == configs[0][key] for cfg in configs), key
    assert {cfg.INPUT.MIN_SIZE_TEST for cfg in configs} == {240}
    found = make_config("found_cells_FPN")
    assert found.MODEL.NASNET.GENOTYPE == "pnasnet_5"


@pytest.mark.parametrize("network", ["nasnet_a_mobile_C4", "resnet_50_FPN"])
def test_detector_can_be_built_and_run(network: str) -> None:
    cfg = make_config(network)
    model = Trainer.build_model(cfg)
    sizes = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert len(model.proposal_generator.anchor_generator.num_anchors) == len(sizes)
    with torch.no_grad():
        (found,) = model.eval()([{"image": torch.zeros(3, 64, 96)}])
    assert found["instances"].image_size == (64, 96)
    if network.startswith("resnet_50"):
        assert sum(p.numel() for p in model.backbone.bottom_up.parameters()) > 23e6


def test_nothing_to_train_on_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main([])
    assert "the following arguments are required: --bccd" in capsys.readouterr().err
