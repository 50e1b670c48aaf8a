"""Config keys of the classification: the published recipes, and values that can't be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.learner import check_processes
from nasnet_det.classification.models import build_model
from nasnet_det.classification.optimizers import RMSpropTF, build_optimizer, get_lr
from nasnet_det.classification.predictor import Predictor
from nasnet_det.complexity import count_parameters
from nasnet_det.config import ConfigError, list_configs
from nasnet_det.published_cells import GENOTYPES

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
        ("SEED 99999999999999999999", "SEED: wanted at most 9223372036854775807, got 9999"),
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


def test_every_key_of_the_network_reaches_it() -> None:
    values = {
        "VARIANT": "nasnet_a_cifar_6_768", "GENOTYPE": "amoebanet_a", "NUM_CELLS_PER_STAGE": "1",
        "CHANNELS": "8", "STEM": "imagenet", "STEM_MULTIPLIER": "2", "DROP_PATH_PROB": "0.3",
        "DROP_PATH_SCHEDULE": "time", "ACTIVATION_CHECKPOINTING": "True", "POOL_PADDING": "keras",
        "NORM": "GN", "NORM_MOMENTUM": "0.25", "DROPOUT": "0.5",
    }  # fmt: skip
    opts = [word for key, value in values.items() for word in (f"MODEL.NASNET.{key}", value)]
    opts += ["DATA.IMAGE_SIZE", "64", "AUX.WEIGHT", "0"]
    model = build_model(get_classification_config(opts=opts), 3)
    spec = model.trunk.spec
    assert model.trunk.genotype == GENOTYPES["amoebanet_a"]
    assert (spec.num_cells_per_stage, spec.channels, spec.stem_multiplier) == (1, 8, 2.0)
    assert (spec.stem, spec.norm, spec.norm_momentum) == ("imagenet", "GN", 0.25)
    assert (spec.drop_path_prob, spec.drop_path_schedule) == (0.3, "time")
    assert (spec.pool_padding, spec.dropout, spec.input_size) == ("keras", 0.5, 64)
    assert model.trunk.activation_checkpointing


def test_channels_last_reaches_the_weights() -> None:
    for name, layout in (("True", torch.channels_last), ("False", torch.contiguous_format)):
        opts = ["MODEL.NASNET.CHANNELS_LAST", name, "MODEL.NASNET.VARIANT", "nasnet_a_cifar_6_768"]
        cfg = get_classification_config(opts=opts)
        model = Predictor(cfg, torch.device("cpu")).place(build_model(cfg, 3))
        weight = next(p for p in model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1)
        assert weight.is_contiguous(memory_format=layout)


def test_precision_is_the_config_s() -> None:
    seen = []
    model = torch.nn.Conv2d(3, 3, 1)
    model.register_forward_hook(lambda *values: seen.append(values[-1].dtype))
    for name in ("float32", "bfloat16"):
        cfg = get_classification_config(opts=["SOLVER.PRECISION", name])
        Predictor(cfg, torch.device("cpu"))(model, torch.zeros(1, 3, 2, 2))
    assert seen == [torch.float32, torch.bfloat16]


def test_every_key_of_the_optimizer_reaches_it() -> None:
    model = torch.nn.Linear(2, 2)
    text = "SOLVER.LR 0.5 SOLVER.MOMENTUM 0.7 SOLVER.WEIGHT_DECAY 0.2"
    rms = "SOLVER.RMSPROP.DECAY 0.8 SOLVER.RMSPROP.EPSILON 0.3"
    for name, kind in (
        ("SGD", torch.optim.SGD),
        ("AdamW", torch.optim.AdamW),
        ("RMSpropTF", RMSpropTF),
    ):
        opts = ["SOLVER.OPTIMIZER", name, *text.split(), *rms.split()]
        optimizer = build_optimizer(get_classification_config(opts=opts), model)
        assert type(optimizer) is kind
        weights, biases = optimizer.param_groups
        assert (weights["lr"], weights["weight_decay"], biases["weight_decay"]) == (0.5, 0.2, 0.0)
        if name != "AdamW":
            assert weights["momentum"] == 0.7
        if name == "RMSpropTF":
            assert (weights["decay"], weights["epsilon"]) == (0.8, 0.3)


def test_every_key_of_the_schedule_reaches_it() -> None:
    text = (
        "SOLVER.LR 1 SOLVER.BATCH_SIZE 64 SOLVER.REFERENCE_BATCH_SIZE 32 SOLVER.EPOCHS 9 "
        "SOLVER.SCHEDULE exponential SOLVER.DECAY_RATE 0.5 SOLVER.DECAY_EPOCHS 2 "
        "SOLVER.WARMUP_EPOCHS 1"
    )
    solver = get_classification_config(opts=text.split()).SOLVER
    # Ten steps an epoch: in the warm-up, at its end, and after each two epochs.
    rates = [get_lr(solver, iteration, 10) for iteration in (0, 10, 20, 40)]
    assert rates == pytest.approx([2 / 11, 2.0, 1.0, 0.5])
    solver.SCHEDULE = "cosine"
    assert get_lr(solver, 45, 10) == pytest.approx(1.0), "the middle of nine epochs"


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (3, 3), (5, 3), (4, 3), (2, 1)])
def test_part_of_one_image_is_refused_where_an_auxiliary_head_normalizes(
    size: int, parts: int
) -> None:
    words = ["SOLVER.BATCH_SIZE", str(size), "SOLVER.NUM_PARTS", str(parts), "AUX.WEIGHT"]
    plain, with_head = (get_classification_config(opts=[*words, w]) for w in ("0", "0.4"))
    check_processes(plain, torch.device("cpu"))
    if min(map(len, torch.arange(size).chunk(parts))) > 1:
        check_processes(with_head, torch.device("cpu"))
        return
    with pytest.raises(ConfigError, match=r"BATCH_SIZE: wanted at least 2 images .* a part of 1"):
        check_processes(with_head, torch.device("cpu"))
