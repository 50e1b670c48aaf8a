"""NASNet as a Detectron2 backbone: shapes, positions, freezing, and the config that builds it."""

from __future__ import annotations

import math
import random
import weakref
from typing import Any

import pytest
import torch
from random_genotypes import sample_genotype
from torch import nn

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d as TheirFrozenBatchNorm2d
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.utils.events import EventStorage

from nasnet_det.detection import (
    ConfigError,
    NASNetBackbone,
    NASNetBoxHead,
    NASNetC4Backbone,
    NASNetROIHeads,
    get_config,
)
from nasnet_det.network import create_model
from nasnet_det.normalization import FrozenBatchNorm2d
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.same_padding import Pool2dSame

FPN = ("MODEL.BACKBONE.NAME", "build_nasnet_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", "0")
FPN += ("MODEL.FPN.IN_FEATURES", "['c2', 'c3', 'c4', 'c5']", "MODEL.DEVICE", "cpu")
SMALL = ("MODEL.NASNET.CHANNELS", "8", "MODEL.NASNET.NUM_CELLS_PER_STAGE", "1")
SIZES = [(32, 32), (64, 96), (33, 31), (1, 1), (3, 200), (127, 65), (224, 224)]


def _small(**arguments: Any) -> NASNetBackbone:
    return NASNetBackbone(channels=8, num_cells_per_stage=1, **arguments)


def _build(*opts: str) -> nn.Module:
    return build_backbone(get_config("", opts))


@pytest.mark.parametrize("size", SIZES)
def test_features_have_the_declared_channels_and_sizes(size: tuple[int, int]) -> None:
    backbone = _small().eval()
    features = backbone(torch.randn(2, 3, *size))
    shapes = backbone.output_shape()
    assert list(features) == list(shapes) == ["c2", "c3", "c4", "c5"]
    for name, feature in features.items():
        wanted = [math.ceil(n / shapes[name].stride) for n in size]
        assert list(feature.shape) == [2, shapes[name].channels, *wanted]
        assert feature.min() >= 0, "after ReLU"


@pytest.mark.parametrize("seed", range(12))
def test_declared_shapes_hold_for_random_genotypes(seed: int) -> None:
    genotype = sample_genotype(seed)
    rng = random.Random(seed)
    backbone = _small(genotype=genotype).eval()
    size = (rng.randint(3, 120), rng.randint(3, 120))
    for name, feature in backbone(torch.randn(1, 3, *size)).items():
        shape = backbone.output_shape()[name]
        assert list(feature.shape[1:]) == [shape.channels, *(-(-n // shape.stride) for n in size)]


@pytest.mark.parametrize("size", [(96, 64), (97, 130), (20, 300), (600, 31), (7, 7)])
def test_fpn_fits_after_detectron2_pads_the_image(size: tuple[int, int]) -> None:
    backbone = _build(*FPN, *SMALL).eval()
    assert backbone.size_divisibility == 32
    padded = [math.ceil(n / 32) * 32 for n in size]
    maps = backbone(torch.randn(1, 3, *padded))
    assert list(maps) == ["p2", "p3", "p4", "p5", "p6"]
    for name, feature in maps.items():
        stride = backbone.output_shape()[name].stride
        assert list(feature.shape[2:]) == [math.ceil(n / stride) for n in padded]


def _make_linear(module: nn.Module) -> None:
    """Every convolution averages its window, so that a gradient shows the window alone."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.constant_(m.weight, 1.0 / m.weight[0].numel())
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, Pool2dSame):
            m.kind = "avg"  # a maximum would look at one random pixel of its window


def _centres(backbone: nn.Module, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Where the middle position of each map looks: (x, y) of its gradient's centre of mass."""
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) + 0.5
    centres = {}
    for name, feature in backbone(image.requires_grad_()).items():
        i, j = feature.shape[2] // 2, feature.shape[3] // 2
        (gradient,) = torch.autograd.grad(feature[0, :, i, j].sum(), image, retain_graph=True)
        weight = gradient[0].abs().sum(0)
        pixel_centres = [torch.arange(n) + 0.5 for n in size]
        y = (weight.sum(1) * pixel_centres[0]).sum() / weight.sum()
        x = (weight.sum(0) * pixel_centres[1]).sum() / weight.sum()
        centres[name] = torch.stack([x, y])
    return centres


def _offsets_from_anchors(backbone: nn.Module, size: tuple[int, int]) -> dict[str, float]:
    """Largest distance, in strides, between where a position looks and where its anchor lies."""
    maps = backbone(torch.zeros(1, 3, *size))
    strides = [backbone.output_shape()[name].stride for name in maps]
    generator = DefaultAnchorGenerator(
        sizes=[[4 * stride] for stride in strides],
        aspect_ratios=[[1.0]],
        strides=strides,
        offset=get_config().MODEL.ANCHOR_GENERATOR.OFFSET,
    )
    anchors = dict(zip(maps, generator(list(maps.values())), strict=True))
    offsets = {}
    for (name, centre), stride in zip(_centres(backbone, size).items(), strides, strict=True):
        height, width = maps[name].shape[2:]
        boxes = anchors[name].get_centers().reshape(height, width, 2)
        offset = (centre - boxes[height // 2, width // 2]).abs().max() / stride
        offsets[name] = offset.item()
    return offsets


@pytest.mark.parametrize("size", [(512, 512), (480, 544)])
@pytest.mark.parametrize("variant", ["nasnet_a_mobile", "pnasnet_5_mobile"])
def test_positions_look_where_their_anchors_lie(variant: str, size: tuple[int, int]) -> None:
    """Within half a stride: no other anchor is nearer."""
    backbone = NASNetBackbone(variant, num_cells_per_stage=1, channels=8).eval()
    _make_linear(backbone)
    offsets = _offsets_from_anchors(backbone, size)
    assert max(offsets.values()) < 0.5, offsets


def test_tensorflow_positions_drift_from_the_anchors() -> None:
    """The reason for ``align_features``, and the proof that the test above can fail."""
    backbone = _small(align_features=False).eval()
    _make_linear(backbone)
    offsets = _offsets_from_anchors(backbone, (512, 512))
    assert min(offsets["c3"], offsets["c4"], offsets["c5"]) > 0.5, offsets


def test_fpn_levels_look_where_their_anchors_lie() -> None:
    """P2 is left out: most of what it sees comes from above, where upsampling loses the place."""
    backbone = _build(*FPN, *SMALL).eval()
    _make_linear(backbone)
    offsets = _offsets_from_anchors(backbone, (512, 512))
    del offsets["p2"]
    assert list(offsets) == ["p3", "p4", "p5", "p6"]
    assert max(offsets.values()) < 0.5, offsets


def test_unaligned_features_are_those_of_the_network() -> None:
    backbone = _small(align_features=False).eval()
    model = create_model("nasnet_a_mobile", channels=8, num_cells_per_stage=1).eval()
    model.trunk.load_state_dict(backbone.trunk.state_dict())
    image = torch.randn(1, 3, 77, 90)
    for name, feature in model.trunk(image).items():
        torch.testing.assert_close(backbone(image)[name], feature, rtol=0, atol=0)


@pytest.mark.parametrize("align", [True, False])
def test_c4_is_the_raw_pair_of_the_last_two_cells(align: bool) -> None:
    arguments = {"channels": 8, "num_cells_per_stage": 2, "align_features": align}
    backbone = NASNetC4Backbone(**arguments).eval()
    plain = NASNetBackbone(**arguments, out_features=("c4",)).eval()
    plain.load_state_dict(backbone.state_dict())
    image = torch.randn(2, 3, 65, 97)
    pair = backbone(image)["c4"]
    shape = backbone.output_shape()["c4"]
    assert (shape.channels, shape.stride) == (pair.shape[1], 16)
    h_prev, h = pair.split(pair.shape[1] // 2, dim=1)
    assert h_prev.min() < 0, "no ReLU"
    torch.testing.assert_close(h.relu(), plain(image)["c4"], rtol=0, atol=0)
    size = [5, 7] if align else [4, 6]  # TensorFlow's VALID stem loses a row and a column
    assert list(pair.shape[2:]) == size


def test_published_c4_pairs_have_the_published_channels() -> None:
    assert NASNetC4Backbone("nasnet_a_mobile").output_shape()["c4"].channels == 2 * 528
    assert NASNetC4Backbone("nasnet_a_large").output_shape()["c4"].channels == 4032


def test_c4_needs_two_cells_at_stride_16() -> None:
    with pytest.raises(ValueError, match="num_cells_per_stage: wanted at least 2 for C4, got 1"):
        NASNetC4Backbone("pnasnet_5_mobile", num_cells_per_stage=1)


@pytest.mark.parametrize(
    ("freeze_at", "trained"),
    [(0, "stem"), (1, "cell_stem_0"), (2, "cell_stem_1"), (3, "reduction_cell_0"), (5, None)],
)
def test_freezing_stops_at_the_named_feature(freeze_at: int, trained: str | None) -> None:
    backbone = _small(freeze_at=freeze_at)
    modules = {"stem": backbone.trunk.stem, **backbone.trunk.cells}
    first = list(modules).index(trained) if trained else len(modules)
    for index, (name, module) in enumerate(modules.items()):
        frozen = index < first
        assert all(p.requires_grad is not frozen for p in module.parameters()), name
        kinds = {type(m) for m in module.modules() if "Norm" in type(m).__name__}
        assert kinds == {FrozenBatchNorm2d if frozen else nn.BatchNorm2d}, name


@pytest.mark.parametrize("freeze_at", [-1, 6, 50])
def test_freezing_more_than_there_is_is_refused(freeze_at: int) -> None:
    with pytest.raises(ValueError, match=rf"FREEZE_AT\): wanted 0 .* to 5 .*, got {freeze_at}"):
        _small(freeze_at=freeze_at)
    with pytest.raises(ConfigError, match=f"FREEZE_AT.*got {freeze_at}"):
        _build(*FPN, *SMALL, "MODEL.BACKBONE.FREEZE_AT", str(freeze_at))


def test_freezing_ends_where_the_trunk_ends() -> None:
    _small(freeze_at=4, out_features=("c4",))
    with pytest.raises(ValueError, match=r"up to 4 for all up to c4, where the trunk ends, got 5"):
        _small(freeze_at=5, out_features=("c4",))


def test_frozen_norms_are_those_of_detectron2() -> None:
    ours = _small(freeze_at=1).trunk.stem.norm
    theirs = TheirFrozenBatchNorm2d(len(ours.weight), ours.eps)
    assert theirs.load_state_dict(ours.state_dict()).missing_keys == []
    for needs_gradient in (False, True):
        x = torch.randn(1, len(ours.weight), 4, 4).requires_grad_(needs_gradient)
        assert torch.equal(ours(x), theirs(x))


def test_no_path_is_dropped_in_frozen_cells() -> None:
    backbone = _small(freeze_at=3, drop_path_prob=0.9).train()
    images = torch.randn(4, 3, 64, 64)
    first, second = backbone(images), backbone(images)
    assert all(torch.equal(first[name], second[name]) for name in ("c2", "c3"))
    assert not torch.equal(first["c5"], second["c5"]), "the others drop"


def test_frozen_noise_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    backbone, image = _small(freeze_at=2), torch.zeros(2, 3, 64, 64)
    backbone.eval()(image)
    assert not caplog.records, "an evaluation is no training"
    for _ in range(2):
        backbone.train()(image)
    (record,) = caplog.records
    assert (record.levelname, "FREEZE_AT 0" in record.message) == ("WARNING", True)
    other = _small(freeze_at=2)
    weights = other.state_dict()
    weights["trunk.stem.norm.bias"] += 1
    other.load_state_dict(weights)
    other.train()(image)
    _small().train()(image)
    assert len(caplog.records) == 1


def test_frozen_part_stays_as_it_is_in_training() -> None:
    backbone = _small(freeze_at=3).train()
    before = {name: t.clone() for name, t in backbone.state_dict().items()}
    sum(f.sum() for f in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    backbone.eval().train()
    changed = {n for n, t in backbone.state_dict().items() if not torch.equal(t, before[n])}
    assert changed, "the other part's statistics move"
    frozen = ("trunk.stem", "trunk.cells.cell_stem", "trunk.cells.cell_0.")
    assert not any(name.startswith(frozen) for name in changed)


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN", "GN"])
def test_every_norm_trains(norm: str) -> None:
    backbone = _build(*FPN, *SMALL, "MODEL.NASNET.NORM", norm).train()
    sum(f.square().sum() for f in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_drop_path_follows_detectron2_s_iteration() -> None:
    cfg = get_config(
        "", [*FPN, *SMALL, "MODEL.NASNET.DROP_PATH_PROB", "0.4", "SOLVER.MAX_ITER", "10"]
    )
    backbone = build_backbone(cfg).train()
    trunk = backbone.bottom_up.trunk
    rates = []
    for iteration in (0, 5, 10):
        with EventStorage(iteration):
            backbone(torch.randn(1, 3, 64, 64))
        rates.append(list(trunk.cells.values())[-1].drop_path.current_prob())
    assert rates == pytest.approx([0.0, 0.2, 0.4])


def test_channels_last_changes_no_value() -> None:
    plain, other = _small().eval(), _small(channels_last=True).eval()
    other.load_state_dict(plain.state_dict())
    assert other.trunk.stem.conv.weight.stride(1) == 1, "also after loading"
    image = torch.randn(1, 3, 60, 64)
    for name, feature in other(image).items():
        torch.testing.assert_close(feature, plain(image)[name], rtol=1e-3, atol=1e-3)


def test_retinanet_pyramid_has_p3_to_p7() -> None:
    backbone = _build(
        *FPN, *SMALL, "MODEL.BACKBONE.NAME", "build_retinanet_nasnet_fpn_backbone",
        "MODEL.FPN.IN_FEATURES", "['c3', 'c4', 'c5']",
    )  # fmt: skip
    maps = backbone(torch.randn(1, 3, 64, 96))
    assert {name: list(f.shape[2:]) for name, f in maps.items()} == {
        "p3": [8, 12], "p4": [4, 6], "p5": [2, 3], "p6": [1, 2], "p7": [1, 1],
    }  # fmt: skip
    assert backbone.output_shape()["p7"].stride == 128


def test_pyramid_ends_where_its_features_end() -> None:
    backbone = _build(
        *FPN, *SMALL, "MODEL.NASNET.OUT_FEATURES", "['c2', 'c3', 'c4']",
        "MODEL.FPN.IN_FEATURES", "['c3', 'c4']",
    )  # fmt: skip
    assert list(backbone(torch.randn(1, 3, 32, 32))) == ["p3", "p4", "p5"]
    assert not any("cell_2" in name for name, _ in backbone.named_parameters()), "not built"


def test_config_keys_reach_the_network(tmp_path: Any) -> None:
    GENOTYPES["amoebanet_a"].save(tmp_path / "cells.json")
    backbone = _build(
        "MODEL.BACKBONE.NAME", "build_nasnet_backbone", "MODEL.BACKBONE.FREEZE_AT", "0",
        "MODEL.NASNET.VARIANT", "nasnet_a_large",
        "MODEL.NASNET.GENOTYPE", str(tmp_path / "cells.json"),
        "MODEL.NASNET.NUM_CELLS_PER_STAGE", "2", "MODEL.NASNET.CHANNELS", "12",
        "MODEL.NASNET.STEM_MULTIPLIER", "1", "MODEL.NASNET.NORM", "GN",
        "MODEL.NASNET.OUT_FEATURES", "['c3']", "MODEL.NASNET.ALIGN_FEATURES", "False",
        "MODEL.NASNET.ACTIVATION_CHECKPOINTING", "True", "MODEL.NASNET.DROP_PATH_SCHEDULE", "time",
        "MODEL.NASNET.POOL_PADDING", "keras",
    )  # fmt: skip
    trunk = backbone.trunk
    assert trunk.genotype == GENOTYPES["amoebanet_a"]
    spec = trunk.spec
    assert (spec.num_cells_per_stage, spec.channels, spec.stem_multiplier) == (2, 12, 1)
    assert spec.skip_reduction_input, "the rest is the variant's"
    assert spec.drop_path_prob == 0.0
    assert trunk.activation_checkpointing
    assert not backbone.align_features
    assert list(backbone.output_shape()) == ["c3"]
    assert any(isinstance(m, nn.GroupNorm) for m in trunk.modules())
    pools = [m for m in trunk.modules() if isinstance(m, Pool2dSame)]
    assert {pool.padding for pool in pools} == {"keras"}
    assert any(pool.pads_with_zeros for pool in pools)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["VARIANT", "nasnet_a_mobil"], "MODEL.NASNET: unknown network variant 'nasnet_a_mobil', did you mean 'nasnet_a_mobile'"),
        (["VARIANT", "nasnet_a_4@1000"], "channels do not divide in 'nasnet_a_4@1000'.*nearest: 984 or 1008"),
        (["GENOTYPE", "nasnet_b"], "no genotype 'nasnet_b'.*did you mean 'nasnet_a'"),
        (["NORM", "LN"], "unknown norm 'LN'"),
        (["CHANNELS", "2"], "channels: wanted at least 8 with the imagenet stem, got 2"),
        (["NUM_CELLS_PER_STAGE", "-1"], "num_cells_per_stage: wanted at least 1, got -1"),
        (["STEM", "imagenets"], "unknown stem 'imagenets', did you mean 'imagenet'"),
        (["POOL_PADDING", "tensorflow"], "unknown pool padding 'tensorflow'"),
        (["DROP_PATH_PROB", "1"], r"drop_path_prob: wanted a probability in \[0, 1\), got 1.0"),
        (["DROP_PATH_SCHEDULE", "tim"], "unknown drop path schedule 'tim', did you mean 'time'"),
        (["OUT_FEATURES", "['c2', 'c6']"], r"out_features: wanted some of \['c2', 'c3', 'c4', 'c5'\], got \['c2', 'c6'\]"),
        (["OUT_FEATURES", "['c2', 'c3']"], r"MODEL.FPN.IN_FEATURES: wanted neighbours of"),
    ],
)  # fmt: skip
def test_impossible_key_is_one_sentence(opts: list[str], sentence: str) -> None:
    key, value = opts
    with pytest.raises(ConfigError, match=sentence) as caught:
        _build(*FPN, f"MODEL.NASNET.{key}", value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["[]", "['c3', 'c2']", "['c2', 'c4']", "['res2']"])
def test_fpn_features_must_be_neighbours(given: str) -> None:
    with pytest.raises(ConfigError, match="MODEL.FPN.IN_FEATURES: wanted neighbours"):
        _build(*FPN, *SMALL, "MODEL.FPN.IN_FEATURES", given)


def test_grey_images_are_refused() -> None:
    cfg = get_config("", [*FPN, *SMALL])
    cfg.MODEL.PIXEL_MEAN = [1.0]
    with pytest.raises(ConfigError, match=r"MODEL.PIXEL_MEAN: wanted 3 values, got \[1.0\]"):
        build_backbone(cfg, ShapeSpec(channels=1))


@pytest.mark.parametrize(
    "name", ["build_nasnet_fpn_backbone", "build_retinanet_nasnet_fpn_backbone"]
)
def test_trunk_ends_with_the_last_feature_that_the_pyramid_reads(name: str) -> None:
    backbone = _build(
        *FPN, *SMALL, "MODEL.BACKBONE.NAME", name, "MODEL.FPN.IN_FEATURES", "['c3', 'c4']",
    ).train()  # fmt: skip
    assert list(backbone.bottom_up.output_shape()) == ["c2", "c3", "c4"]
    assert backbone.bottom_up.trunk.plan[-1].out_stride == 16
    sum(f.square().sum() for f in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    unused = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert not unused, "DDP would stop at these"


def test_only_the_features_that_are_asked_for_are_kept() -> None:
    backbone = _small(out_features=("c3", "c5")).eval()
    image = torch.randn(1, 3, 40, 40)
    assert list(backbone.trunk(image)) == ["c3", "c5"] == list(backbone(image))


class _Outputs:
    """How many outputs of cells are alive when each cell starts."""

    def __init__(self, trunk: nn.Module) -> None:
        self.references: list[weakref.ref[torch.Tensor]] = []
        self.num_alive: list[int] = []
        for cell in trunk.cells.values():
            cell.register_forward_pre_hook(self.count)
            cell.register_forward_hook(self.note)

    def count(self, *_: object) -> None:
        self.num_alive.append(sum(r() is not None for r in self.references))

    def note(self, _: nn.Module, __: object, out: torch.Tensor) -> None:
        self.references.append(weakref.ref(out))


def test_c4_s_trunk_and_head_hold_only_what_the_next_cell_reads() -> None:
    arguments = {"channels": 8, "num_cells_per_stage": 3}
    backbone, head = NASNetC4Backbone(**arguments).eval(), NASNetBoxHead(**arguments).eval()
    parts = _Outputs(backbone.trunk), _Outputs(head.trunk)
    with torch.no_grad():
        head(backbone(torch.randn(1, 3, 64, 64))["c4"])
    for part in parts:
        assert len(part.num_alive) >= 4
        assert max(part.num_alive) <= 2, part.num_alive
        part.count()
        assert part.num_alive[-1] == 0


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_reaches_c4_s_head(channels_last: bool) -> None:
    """The weights, by which GPUs choose the order of maps; on CPUs all maps have it."""
    heads = _build_head(), _build_head("MODEL.NASNET.CHANNELS_LAST", str(channels_last))
    heads[1].load_state_dict(heads[0].state_dict())
    weight = heads[1].trunk.cells["cell_4"].blocks[0].left.separable_1.depthwise.weight
    assert (weight.stride(1) == 1) == channels_last
    regions = torch.randn(2, sum(heads[0].state_channels), 17, 17)
    out = heads[1].eval()(regions)
    assert out.stride(1) == 1
    torch.testing.assert_close(out, heads[0].eval()(regions), rtol=1e-3, atol=1e-3)


def _build_head(*opts: str) -> NASNetBoxHead:
    cfg = get_config("", [*SMALL[:2], "MODEL.NASNET.NUM_CELLS_PER_STAGE", "2", *opts])
    return NASNetROIHeads._build_res5_block(cfg)[0]
