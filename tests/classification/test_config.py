"""Config keys of the classification: the published recipes, and values that can't be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasnet_det.classification.config import build_model, get_classification_config
from nasnet_det.complexity import count_parameters
from nasnet_det.config import ConfigError, list_configs
from nasnet_det.genotype import GENOTYPES

RECIPES = [
    name
    for name in list_configs()
    if name.startswith("classification/") and not name.startswith("classification/Base")
]


def test_recipes_are_there() -> None:
    assert {f"classification/{n}.yaml" for n in ("cifar10_paper", "imagenet_mobile")} <= set(
        RECIPES
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_read(name: str) -> None:
    assert get_classification_config(name).OUTPUT_DIR.startswith("output/")


def test_cifar10_recipe_is_the_papers() -> None:
    cfg = get_classification_config("classification/cifar10_paper.yaml")
    model = build_model(cfg, 10)
    assert model.aux_head is not None
    total = count_parameters(model).trainable - count_parameters(model.aux_head).trainable
    assert abs(total - 3.347e6) < 1e3  # facts: TF-slim's rules
    assert model.trunk.spec.drop_path_prob == 0.4
    solver = cfg.SOLVER
    assert (solver.OPTIMIZER, solver.MOMENTUM, solver.SCHEDULE) == ("SGD", 0.9, "cosine")
    assert (solver.EPOCHS, solver.CLIP_NORM, cfg.AUX.WEIGHT) == (600, 5.0, 0.4)
    assert (solver.LR, solver.BATCH_SIZE, solver.WEIGHT_DECAY) == (0.025, 32, 5e-4)


@pytest.mark.parametrize(
    ("name", "size", "drop_path", "replicas", "lr", "weight_decay"),
    [
        ("imagenet_mobile", 224, 0.0, (50, 32), 0.04, 4e-5),
        ("imagenet_large", 331, 0.3, (100, 16), 0.015, 5e-5),
    ],
)
def test_imagenet_recipes_are_tf_slims(
    name: str,
    size: int,
    drop_path: float,
    replicas: tuple[int, int],
    lr: float,
    weight_decay: float,
) -> None:
    cfg = get_classification_config(f"classification/{name}.yaml")
    solver, net = cfg.SOLVER, cfg.MODEL.NASNET
    assert size == cfg.DATA.IMAGE_SIZE
    assert (drop_path, 0.5) == (net.DROP_PATH_PROB, net.DROPOUT)
    assert replicas[0] * replicas[1] == solver.REFERENCE_BATCH_SIZE
    assert pytest.approx(lr * replicas[0]) == solver.LR
    assert weight_decay == solver.WEIGHT_DECAY
    assert solver.OPTIMIZER == "RMSpropTF"
    assert dict(solver.RMSPROP) == {"DECAY": 0.9, "EPSILON": 1.0}
    assert (solver.DECAY_RATE, solver.DECAY_EPOCHS, solver.CLIP_NORM) == (0.97, 2.4, 10.0)
    assert (solver.LABEL_SMOOTHING, cfg.AUX.WEIGHT, cfg.EMA.DECAY) == (0.1, 0.4, 0.9999)
    assert pytest.approx(1 - 0.9997) == net.NORM_MOMENTUM


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("SOLVER.LRR 1", "unknown config key 'SOLVER.LRR' .* mean 'SOLVER.LR'"),
        ("SOLVER.OPTIMIZER Adam", "SOLVER.OPTIMIZER: unknown name 'Adam', did you mean 'AdamW'"),
        ("SOLVER.LR -1", "SOLVER.LR: wanted at least 0, got -1"),
        ("SOLVER.LR nan", "SOLVER.LR: wanted a number .* got 'nan'"),
        ("SOLVER.EPOCHS 0", "SOLVER.EPOCHS: wanted at least 1, got 0"),
        ("EMA.DECAY 1", r"EMA.DECAY: wanted a number in \[0, 1\), got 1"),
        ("TEST.CROP_FRACTION 0", r"TEST.CROP_FRACTION: wanted a number in \(0, 1\], got 0"),
        ("SOLVER.NUM_PARTS 64", "SOLVER.NUM_PARTS: wanted at most SOLVER.BATCH_SIZE, 32, got 64"),
        ("DATA.PIXEL_MEAN [1,2]", r"DATA.PIXEL_MEAN: wanted 3 numbers, got \[1, 2\]"),
        ("DATA.PIXEL_STD [1,2,0]", "DATA.PIXEL_STD: wanted more than 0"),
        ("SEED -1", "SEED: wanted at least 0, got -1"),
    ],
)
def test_values_that_can_not_be_meant_are_one_sentence(opts: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        get_classification_config(opts=opts.split())


def test_modern_recipe_is_torchvisions() -> None:
    cfg = get_classification_config("classification/imagenet_modern.yaml")
    solver = cfg.SOLVER
    assert (solver.OPTIMIZER, solver.LR, solver.REFERENCE_BATCH_SIZE) == ("SGD", 0.5, 1024)
    assert (solver.SCHEDULE, solver.WARMUP_EPOCHS, solver.WEIGHT_DECAY) == ("cosine", 5, 2e-5)
    assert (cfg.AUGMENT.MIXUP, cfg.AUGMENT.CUTMIX, solver.LABEL_SMOOTHING) == (0.2, 1.0, 0.1)


def test_genotype_that_makes_no_network_is_one_sentence(tmp_path: Path) -> None:
    content = GENOTYPES["nasnet_a"].to_dict()
    content["normal"]["blocks"][0]["inputs"] = [0, 9]
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(content))
    cfg = get_classification_config(opts=["MODEL.NASNET.GENOTYPE", str(path)])
    sentence = r"MODEL.NASNET: .*cells.json' is not a valid genotype: normal.blocks\[0\].*got 9"
    with pytest.raises(ConfigError, match=sentence) as error:
        build_model(cfg, 10)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("MODEL.NASNET.GENOTYPE nasnet_z", "MODEL.NASNET: no genotype 'nasnet_z'"),
        ("MODEL.NASNET.VARIANT nasnet_a_mobil", "MODEL.NASNET: unknown network variant"),
        ("MODEL.NASNET.CHANNELS 1", "MODEL.NASNET: impossible network: channels: wanted at least"),
        ("DATA.IMAGE_SIZE 8", "MODEL.NASNET: the auxiliary head needs a feature map of at least 5x5"),
    ],
)  # fmt: skip
def test_networks_that_can_not_be_are_one_sentence(opts: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_model(get_classification_config(opts=opts.split()), 10)
