"""Networks: a spec and a genotype make a plan, one row for each cell; the trunk runs the plan.

:func:`plan_cells` is a pure function of numbers. Everything else here is a loop over its rows:
:class:`NASNetTrunk` (any range of the rows, from an explicit state) and :class:`NASNet` (the
classifier).
"""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from nasnet_det.cell import Cell
from nasnet_det.drop_path import DROP_PATH_SCHEDULES, DropPathProgress
from nasnet_det.genotype import GENOTYPES, CellSpec, Genotype, nearest
from nasnet_det.operations import POOL_PADDINGS, Conv2dSame, NormLayer, get_norm_layer

STEMS: tuple[str, ...] = ("imagenet", "cifar")


@dataclass(frozen=True)
class NetworkSpec:
    """The size of a network and the switches on which published sizes depend.

    Attributes:
        num_cells_per_stage: N, normal cells in each of the three stages.
        channels: F, channels inside the cells of the first stage; doubled at each reduction.
        stem: ``imagenet`` (3x3 convolution of stride 2 and two reduction cells with F/4 and F/2
            channels, stride 8 in all) or ``cifar`` (3x3 convolution of stride 1).
        stem_multiplier: the stem convolution has 32 (imagenet) or F (cifar) times this many
            channels.
        skip_reduction_input: ``h_prev`` of the cell after a reduction cell is the reduction cell's
            own ``h_prev`` (NASNet-A large) instead of its ``h`` (mobile, CIFAR).
        extra_reduction_cells: reductions are cells of their own before a stage (NASNet) instead of
            a stage's first cell at stride 2 (PNASNet).
        input_size: height and width, in pixels, that the network was made for.
        norm_eps: added to the variance in each normalization.
        drop_path_prob: final drop probability of ScheduledDropPath.
        dropout: drop probability before the last linear layer.
        pool_padding: whose strided pools to compute at the borders: those of ``tf``, where the
            networks come from, ``timm`` or ``keras`` (see
            :data:`~nasnet_det.operations.POOL_PADDINGS`).
    """

    num_cells_per_stage: int
    channels: int
    stem: str = "imagenet"
    stem_multiplier: int = 3
    skip_reduction_input: bool = False
    extra_reduction_cells: bool = True
    input_size: int = 224
    norm_eps: float = 1e-3
    drop_path_prob: float = 0.0
    dropout: float = 0.0
    pool_padding: str = "tf"

    def validate(self) -> NetworkSpec:
        """Return ``self`` or raise ValueError naming every impossible value."""
        faults = []
        kinds: dict[Any, Any] = {"int": numbers.Integral, "float": numbers.Real}
        kinds |= {"str": str, "bool": bool}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, kinds[field.type]) or (
                isinstance(value, bool) and field.type != "bool"
            ):
                faults.append(f"{field.name}: wanted a value of type {field.type}, got {value!r}")
        if faults:
            raise ValueError("impossible network: " + "; ".join(faults))
        for key in ("num_cells_per_stage", "stem_multiplier", "input_size"):
            if getattr(self, key) < 1:
                faults.append(f"{key}: wanted at least 1, got {getattr(self, key)}")
        if self.stem not in STEMS:
            faults.append(f"stem: unknown stem {self.stem!r}, {nearest(self.stem, STEMS)}")
        if self.pool_padding not in POOL_PADDINGS:
            faults.append(
                f"pool_padding: unknown pool padding {self.pool_padding!r}, "
                + nearest(self.pool_padding, POOL_PADDINGS)
            )
        # A factorized reduction needs two channels; the first stem cell has F/4.
        fewest = 8 if self.stem == "imagenet" else 2
        if self.channels < fewest:
            faults.append(
                f"channels: wanted at least {fewest} with the {self.stem} stem, got {self.channels}"
            )
        if not self.norm_eps > 0:
            faults.append(f"norm_eps: wanted a positive number, got {self.norm_eps}")
        for key in ("drop_path_prob", "dropout"):
            if not 0 <= getattr(self, key) < 1:
                faults.append(f"{key}: wanted a probability in [0, 1), got {getattr(self, key)}")
        if faults:
            raise ValueError("impossible network: " + "; ".join(faults))
        return self


class CellRow(NamedTuple):
    """One cell of a plan.

    Attributes:
        name: module name, as in TF-slim (``cell_stem_0``, ``cell_3``, ``reduction_cell_0``).
        kind: ``normal`` or ``reduction``: the cell of the genotype.
        stride: 1 or 2.
        channels: channels inside the cell.
        h, h_prev: names of the rows (or ``stem``) whose outputs it reads; None: no ``h_prev``.
        h_channels, h_prev_channels: their channels.
        h_prev_stride: 2 where ``h_prev`` is twice as large as ``h``, else 1.
        out_channels: channels of its output.
        out_stride: input pixels per output pixel.
        depth_ratio: (cell index + 1) / number of cells, for ScheduledDropPath.
        feature: ``c<log2 of out_stride>`` if it is the last cell at its stride, else None.
        keeps_h_prev: the next cell reads the same ``h_prev`` instead of this cell's ``h``.
    """

    name: str
    kind: str
    stride: int
    channels: int
    h: str
    h_channels: int
    h_prev: str | None
    h_prev_channels: int | None
    h_prev_stride: int
    out_channels: int
    out_stride: int
    depth_ratio: float
    feature: str | None
    keeps_h_prev: bool

    @property
    def pair_channels(self) -> int:
        """Channels of the pair (this cell's ``h``, its output) that the C4 detector crops."""
        return self.h_channels + self.out_channels


def stem_channels(spec: NetworkSpec) -> int:
    """Channels of the stem convolution."""
    return spec.stem_multiplier * (32 if spec.stem == "imagenet" else spec.channels)


def plan_cells(spec: NetworkSpec, genotype: Genotype) -> tuple[CellRow, ...]:
    """The cells of a network in running order. Source: TF-slim nasnet.py and pnasnet.py.

    Raises:
        ValueError: the spec is impossible (all reasons at once).
        GenotypeError: the genotype is not valid.
    """
    spec.validate()
    genotype.validate()
    # (name, kind, stride, channels inside, keeps_h_prev)
    cells: list[tuple[str, str, int, int, bool]] = []
    if spec.stem == "imagenet":
        cells += [
            (f"cell_stem_{i}", "reduction", 2, spec.channels // (4 >> i), False) for i in (0, 1)
        ]
    n = spec.num_cells_per_stage
    for i in range(3 * n):
        channels = spec.channels << (i // n)
        reduces = i in (n, 2 * n)
        if reduces and spec.extra_reduction_cells:
            name = f"reduction_cell_{i // n - 1}"
            cells.append((name, "reduction", 2, channels, spec.skip_reduction_input))
            reduces = False
        cells.append((f"cell_{i}", "normal", 2 if reduces else 1, channels, False))

    rows: list[CellRow] = []
    h = ("stem", stem_channels(spec), 2 if spec.stem == "imagenet" else 1)
    h_prev: tuple[str, int, int] | None = None
    for index, (name, kind, stride, channels, keeps_h_prev) in enumerate(cells):
        cell: CellSpec = getattr(genotype, kind)
        is_last = index + 1 == len(cells)
        out = (name, len(cell.concat) * channels, h[2] * stride)
        rows.append(
            CellRow(
                name=name,
                kind=kind,
                stride=stride,
                channels=channels,
                h=h[0],
                h_channels=h[1],
                h_prev=h_prev[0] if h_prev else None,
                h_prev_channels=h_prev[1] if h_prev else None,
                h_prev_stride=h[2] // h_prev[2] if h_prev else 1,
                out_channels=out[1],
                out_stride=out[2],
                depth_ratio=(index + 1) / len(cells),
                feature=f"c{int(math.log2(out[2]))}"
                if is_last or cells[index + 1][2] == 2
                else None,
                keeps_h_prev=keeps_h_prev,
            )
        )
        h_prev, h = (h_prev if keeps_h_prev else h), out
    return tuple(rows)


class NASNetTrunk(nn.Module):
    """The convolutional part of a network, or any range of its cells.

    Args:
        spec, genotype: see :func:`plan_cells`.
        start: name of the first cell to run; None runs from the image, the stem included.
        stop: name of the last cell to run; None runs to the end.
        norm_layer: factory of normalizations; batch normalization with the spec's epsilon if None.
        activation_checkpointing: recompute each cell in the backward pass to save memory.
        drop_path_schedule: see :func:`~nasnet_det.drop_path.scheduled_drop_path_prob`.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        genotype: Genotype,
        *,
        start: str | None = None,
        stop: str | None = None,
        norm_layer: NormLayer | None = None,
        activation_checkpointing: bool = False,
        drop_path_schedule: str = "time_and_depth",
    ) -> None:
        super().__init__()
        if drop_path_schedule not in DROP_PATH_SCHEDULES:
            raise ValueError(
                f"unknown drop path schedule {drop_path_schedule!r}, "
                + nearest(drop_path_schedule, DROP_PATH_SCHEDULES)
            )
        plan = plan_cells(spec, genotype)
        names = [row.name for row in plan]
        for name in (start, stop):
            if name is not None and name not in names:
                raise ValueError(f"unknown cell {name!r}, {nearest(name, names)}")
        first = names.index(start) if start else 0
        last = names.index(stop) if stop else len(plan) - 1
        if last < first:
            raise ValueError(f"the trunk would stop at {stop!r}, before it starts at {start!r}")
        self.spec, self.genotype = spec, genotype
        self.plan = plan[first : last + 1]
        self.activation_checkpointing = activation_checkpointing
        self.drop_path_progress = DropPathProgress()
        norm_layer = norm_layer or get_norm_layer("BN", eps=spec.norm_eps)

        self.stem: nn.Module | None = None
        if start is None:
            self.stem = nn.Sequential()
            width = stem_channels(spec)
            if spec.stem == "imagenet":  # VALID: no padding
                self.stem.add_module("conv", nn.Conv2d(3, width, 3, stride=2, bias=False))
            else:
                self.stem.add_module("conv", Conv2dSame(3, width, 3))
            self.stem.add_module("norm", norm_layer(width))
        self.cells = nn.ModuleDict(
            {
                row.name: Cell(
                    getattr(genotype, row.kind),
                    row.h_channels,
                    h_prev_channels=row.h_prev_channels,
                    channels=row.channels,
                    stride=row.stride,
                    h_prev_stride=row.h_prev_stride,
                    norm_layer=norm_layer,
                    drop_path_prob=spec.drop_path_prob,
                    depth_ratio=row.depth_ratio,
                    drop_path_progress=self.drop_path_progress,
                    drop_path_schedule=drop_path_schedule,
                    pool_padding=spec.pool_padding,
                )
                for row in self.plan
            }
        )
        _initialize(self)

    def run(
        self, h_prev: torch.Tensor | None, h: torch.Tensor
    ) -> Iterator[tuple[CellRow, torch.Tensor, torch.Tensor]]:
        """Run the cells on the state ``(h_prev, h)`` and yield (row, its ``h``, its output)."""
        for row in self.plan:
            out = self._run_cell(self.cells[row.name], h_prev, h)
            yield row, h, out
            h_prev, h = (h_prev if row.keeps_h_prev else h), out

    def run_image(
        self, image: torch.Tensor
    ) -> Iterator[tuple[CellRow, torch.Tensor, torch.Tensor]]:
        """:meth:`run` from an image (B, 3, H, W), the stem first."""
        assert self.stem is not None, "this trunk starts behind the stem"
        return self.run(None, self.stem(image))

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features after ReLU, one for each stride.

        Args:
            image: (B, 3, H, W).

        Returns:
            ``c<k>`` -> (B, channels, about H / 2**k, about W / 2**k); sizes follow VALID padding
            in the stem and SAME padding after it.
        """
        return {row.feature: F.relu(out) for row, _, out in self.run_image(image) if row.feature}

    def _run_cell(self, cell: nn.Module, h_prev: Any, h: torch.Tensor) -> torch.Tensor:
        if not (self.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return cell(h_prev, h)
        return checkpoint(
            cell,
            h_prev,
            h,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _unchanged_running_statistics(cell)),
        )


@contextmanager
def _unchanged_running_statistics(module: nn.Module) -> Iterator[None]:
    """Recompute a forward pass without counting its batch twice in batch normalizations."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    saved = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:  # SyncBatchNorm insists on a counter
        m.momentum = 0.0
        m.num_batches_tracked = copy.deepcopy(m.num_batches_tracked)
    try:
        yield
    finally:
        for m, (momentum, num_batches_tracked) in zip(norms, saved, strict=True):
            m.momentum, m.num_batches_tracked = momentum, num_batches_tracked


def _initialize(module: nn.Module) -> None:
    """Variance scaling by fan-out, counted per group (TF-slim's initializer)."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.out_channels // m.groups * m.kernel_size[0] * m.kernel_size[1]
            nn.init.normal_(m.weight, std=math.sqrt(2.0 / fan_out))


class AuxiliaryHead(nn.Module):
    """The training-only classifier two thirds down the network.

    Average pooling 5x5 stride 3 without padding, 1x1 convolution to 128, a convolution over the
    whole remaining map to 768, linear. Source: TF-slim nasnet.py ``_build_aux_head``.

    Args:
        in_channels: channels of the feature.
        map_size: height and width of the feature at the network's input size.
        num_classes: number of classes.
        norm_layer: see :func:`~nasnet_det.operations.get_norm_layer`.
    """

    def __init__(
        self, in_channels: int, map_size: int, num_classes: int, norm_layer: NormLayer
    ) -> None:
        super().__init__()
        self._check_size(map_size, map_size)
        self.kernel_size = (map_size - 5) // 3 + 1
        self.project = nn.Conv2d(in_channels, 128, 1, bias=False)
        self.norm_1 = norm_layer(128)
        self.conv = nn.Conv2d(128, 768, self.kernel_size, bias=False)
        self.norm_2 = norm_layer(768)
        self.linear = nn.Linear(768, num_classes)
        _initialize(self)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) after ReLU -> logits (B, num_classes)."""
        self._check_size(*feature.shape[2:])
        x = F.avg_pool2d(feature, 5, stride=3)
        if x.shape[2:] != (self.kernel_size, self.kernel_size):  # another input size
            x = F.adaptive_avg_pool2d(x, self.kernel_size)
        x = F.relu(self.norm_1(self.project(x)))
        x = F.relu(self.norm_2(self.conv(x)))
        return self.linear(x.flatten(1))

    @staticmethod
    def _check_size(height: int, width: int) -> None:
        if min(height, width) < 5:
            raise ValueError(
                "the auxiliary head needs a feature map of at least 5x5, "
                f"got {height}x{width}: use a larger input_size or no auxiliary head"
            )


class NASNetOutput(NamedTuple):
    """What a classifier with an auxiliary head returns in training."""

    logits: torch.Tensor
    aux_logits: torch.Tensor


class NASNet(nn.Module):
    """The image classifier.

    Args:
        spec, genotype: see :func:`plan_cells`.
        num_classes: length of the logits.
        aux_head: build the auxiliary head; it runs in training only.
        norm, norm_momentum: see :func:`~nasnet_det.operations.get_norm_layer`. TensorFlow's
            ImageNet recipe has momentum 0.0003 (decay 0.9997), which short trainings can't use.
        activation_checkpointing, drop_path_schedule: see :class:`NASNetTrunk`.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        genotype: Genotype,
        *,
        num_classes: int = 1000,
        aux_head: bool = False,
        norm: str = "BN",
        norm_momentum: float = 0.1,
        activation_checkpointing: bool = False,
        drop_path_schedule: str = "time_and_depth",
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"wanted at least 1 class, got num_classes={num_classes}")
        norm_layer = get_norm_layer(norm, eps=spec.norm_eps, momentum=norm_momentum)
        self.trunk = NASNetTrunk(
            spec,
            genotype,
            norm_layer=norm_layer,
            activation_checkpointing=activation_checkpointing,
            drop_path_schedule=drop_path_schedule,
        )
        stages = [row for row in self.trunk.plan if row.feature]
        self.aux_feature = stages[-2].feature
        self.aux_head: AuxiliaryHead | None = None
        if aux_head:
            map_size = feature_sizes(spec, genotype, spec.input_size)[stages[-2].name]
            self.aux_head = AuxiliaryHead(
                stages[-2].out_channels, map_size, num_classes, norm_layer
            )
        self.final_feature = stages[-1].feature
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(stages[-1].out_channels, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor | NASNetOutput:
        """(B, 3, H, W) -> logits (B, num_classes), with an auxiliary head's beside them."""
        features = self.trunk(image)
        pooled = features[self.final_feature].mean(dim=(2, 3))
        logits = self.classifier(self.dropout(pooled))
        if self.training and self.aux_head is not None:
            return NASNetOutput(logits, self.aux_head(features[self.aux_feature]))
        return logits


def feature_sizes(spec: NetworkSpec, genotype: Genotype, input_size: int) -> dict[str, int]:
    """Height (or width) of every cell's output for an input of ``input_size`` pixels.

    Raises:
        ValueError: the input is smaller than the stem's kernel.
    """
    smallest = 3 if spec.stem == "imagenet" else 1
    if input_size < smallest:
        raise ValueError(
            f"wanted an input of at least {smallest} pixels with the {spec.stem} stem, "
            f"got {input_size}"
        )
    size = (input_size - 3) // 2 + 1 if spec.stem == "imagenet" else input_size
    sizes = {"stem": size}
    for row in plan_cells(spec, genotype):
        sizes[row.name] = -(-sizes[row.h] // row.stride)
    return sizes


_CIFAR = NetworkSpec(
    num_cells_per_stage=6,
    channels=32,
    stem="cifar",
    input_size=32,
    norm_eps=1e-5,
    drop_path_prob=0.4,
)
_LARGE = NetworkSpec(
    num_cells_per_stage=6,
    channels=168,
    skip_reduction_input=True,
    input_size=331,
    drop_path_prob=0.3,
    dropout=0.5,
)
_MOBILE = NetworkSpec(num_cells_per_stage=4, channels=44, stem_multiplier=1, dropout=0.5)
_PNAS_LARGE = NetworkSpec(
    num_cells_per_stage=4,
    channels=216,
    extra_reduction_cells=False,
    input_size=331,
    drop_path_prob=0.4,
    dropout=0.5,
)
_replace = dataclasses.replace

VARIANTS: dict[str, tuple[NetworkSpec, str]] = {
    "nasnet_a_mobile": (_MOBILE, "nasnet_a"),
    "nasnet_a_large": (_LARGE, "nasnet_a"),
    "nasnet_a_cifar_6_768": (_CIFAR, "nasnet_a"),
    "nasnet_a_cifar_7_2304": (_replace(_CIFAR, num_cells_per_stage=7, channels=96), "nasnet_a"),
    # Printed as 5 @ 1538 in the paper, which is no multiple of 24.
    "nasnet_a_5_1536": (
        _replace(_LARGE, num_cells_per_stage=5, channels=64, input_size=299),
        "nasnet_a",
    ),
    "nasnet_a_7_1920": (
        _replace(_LARGE, num_cells_per_stage=7, channels=80, input_size=299),
        "nasnet_a",
    ),
    "pnasnet_5_large": (_PNAS_LARGE, "pnasnet_5"),
    "pnasnet_5_mobile": (
        _replace(
            _PNAS_LARGE,
            num_cells_per_stage=3,
            channels=54,
            stem_multiplier=1,
            input_size=224,
            drop_path_prob=0.0,
        ),
        "pnasnet_5",
    ),
}
"""Published networks: name -> (spec, genotype name). Source: TF-slim's hyperparameters."""

_N_AT_P = re.compile(r"(?P<genotype>\w+)_(?P<n>\d+)@(?P<p>\d+)")


def list_models() -> list[str]:
    """Names of the published networks.

    Beside these, ``<genotype>_<N>@<P>`` names any network with the ImageNet stem: N normal cells
    a stage and P channels at its end, for example ``nasnet_a_4@1056``.
    """
    return sorted(VARIANTS)


def resolve_variant(name: str, genotype: Genotype | None = None) -> tuple[NetworkSpec, Genotype]:
    """The spec and genotype behind a name from :func:`list_models` or ``<genotype>_<N>@<P>``.

    Args:
        name: the variant.
        genotype: replaces the variant's own genotype.

    Raises:
        ValueError: unknown name (the nearest is named), or P does not divide into cells.
    """
    if name in VARIANTS:
        spec, genotype_name = VARIANTS[name]
        return spec, genotype or GENOTYPES[genotype_name]
    match = _N_AT_P.fullmatch(name)
    if match is None or match["genotype"] not in GENOTYPES:
        raise ValueError(f"unknown network variant {name!r}, {nearest(name, VARIANTS)}")
    genotype = genotype or GENOTYPES[match["genotype"]]
    base = _PNAS_LARGE if match["genotype"] == "pnasnet_5" else _MOBILE
    n, p = int(match["n"]), int(match["p"])
    # The last stage has 4F channels in each state of the normal cell's output.
    num_states = len(genotype.normal.concat)
    per_channel = 4 * num_states
    if p % per_channel:
        below = p - p % per_channel
        raise ValueError(
            f"channels do not divide in {name!r}: with {num_states} states in the normal "
            f"cell's concat, P must be a multiple of {per_channel}, got {p} "
            f"(nearest: {max(below, per_channel)} or {below + per_channel})"
        )
    return _replace(base, num_cells_per_stage=n, channels=p // per_channel), genotype


def create_model(
    name_or_genotype: str | Genotype = "nasnet_a_mobile",
    num_classes: int = 1000,
    *,
    norm: str = "BN",
    norm_momentum: float = 0.1,
    aux_head: bool = False,
    activation_checkpointing: bool = False,
    drop_path_schedule: str = "time_and_depth",
    **spec_overrides: Any,
) -> NASNet:
    """Build an image classifier.

    Args:
        name_or_genotype: a name from :func:`list_models`, ``<genotype>_<N>@<P>``, or a genotype
            (which takes the mobile network's size unless overridden).
        num_classes: length of the logits.
        norm, norm_momentum, aux_head, activation_checkpointing, drop_path_schedule: see
            :class:`NASNet`.
        **spec_overrides: fields of :class:`NetworkSpec`, such as ``channels=32``.

    Raises:
        ValueError: an unknown name or field, or an impossible value.
    """
    if isinstance(name_or_genotype, Genotype):
        spec, genotype = resolve_variant("nasnet_a_mobile", name_or_genotype)
    else:
        spec, genotype = resolve_variant(name_or_genotype)
    return NASNet(
        override_spec(spec, **spec_overrides),
        genotype,
        num_classes=num_classes,
        aux_head=aux_head,
        norm=norm,
        norm_momentum=norm_momentum,
        activation_checkpointing=activation_checkpointing,
        drop_path_schedule=drop_path_schedule,
    )


def override_spec(spec: NetworkSpec, **overrides: Any) -> NetworkSpec:
    """``spec`` with some fields replaced, checked.

    Raises:
        ValueError: an unknown field (the nearest is named) or an impossible value.
    """
    fields: Sequence[str] = [f.name for f in dataclasses.fields(NetworkSpec)]
    for key in overrides:
        if key not in fields:
            raise ValueError(f"unknown network field {key!r}, {nearest(key, fields)}")
    return _replace(spec, **overrides).validate()
