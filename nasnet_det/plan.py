"""Plans: a spec and a genotype make rows, one for each cell, as pure numbers.

:func:`plan_cells` is a pure function; the trunk, drop path, drawings and the detector read its
rows. This module needs the standard library only.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nasnet_det.errors import InputError
from nasnet_det.genotype import CellSpec, Genotype
from nasnet_det.near_names import nearest

STEMS: tuple[str, ...] = ("imagenet", "cifar")

NORMS: tuple[str, ...] = ("BN", "SyncBN", "FrozenBN", "GN")

POOL_PADDINGS: dict[str, tuple[str, ...]] = {"tf": (), "timm": ("avg",), "keras": ("avg", "max")}
"""Implementation -> the kinds of strided pools in which it counts the padding as zeros.

TensorFlow's original, and Cadene's port at its native size, leave the padding out of the average
and of the maximum. timm's AvgPool2dSame and the ZeroPadding2D layers of Keras's NASNet do not.
"""

DROP_PATH_SCHEDULES: tuple[str, ...] = ("time_and_depth", "time", "depth")

_NAMES: dict[str, Collection[str]] = {
    "stem": STEMS,
    "pool_padding": POOL_PADDINGS,
    "norm": NORMS,
    "drop_path_schedule": DROP_PATH_SCHEDULES,
}
_FREE_FIELDS = (
    *("input_size", "drop_path_prob", "dropout", "norm_momentum", "drop_path_schedule"),
    "norm",
)
"""Fields that change nothing in evaluation. ``norm`` is seen in the weights where it does."""


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
            :data:`POOL_PADDINGS`).
        norm: normalization of every layer, of :data:`NORMS`.
        norm_momentum: weight of the new batch in the running statistics, in [0, 1]. TensorFlow's
            ImageNet recipe has 0.0003 (decay 0.9997), which short trainings can't use.
        drop_path_schedule: of :data:`DROP_PATH_SCHEDULES`; see
            :func:`~nasnet_det.drop_path.scheduled_drop_path_prob`.
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
    norm: str = "BN"
    norm_momentum: float = 0.1
    drop_path_schedule: str = "time_and_depth"

    def validate(self) -> NetworkSpec:
        """Return ``self`` or raise InputError naming every impossible value."""
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
            raise InputError("impossible network: " + "; ".join(faults))
        for key in ("num_cells_per_stage", "stem_multiplier", "input_size"):
            if getattr(self, key) < 1:
                faults.append(f"{key}: wanted at least 1, got {getattr(self, key)}")
        for key, names in _NAMES.items():
            name = getattr(self, key)
            if name not in names:
                what = key.replace("_", " ")
                faults.append(f"{key}: unknown {what} {name!r}, {nearest(name, names)}")
        # A factorized reduction needs two channels; the first stem cell has F/4.
        fewest = 8 if self.stem == "imagenet" else 2
        if self.channels < fewest:
            faults.append(
                f"channels: wanted at least {fewest} with the {self.stem} stem, got {self.channels}"
            )
        if not self.norm_eps > 0:
            faults.append(f"norm_eps: wanted a positive number, got {self.norm_eps}")
        if not 0 <= self.norm_momentum <= 1:
            faults.append(f"norm_momentum: wanted a number in [0, 1], got {self.norm_momentum}")
        for key in ("drop_path_prob", "dropout"):
            if not 0 <= getattr(self, key) < 1:
                faults.append(f"{key}: wanted a probability in [0, 1), got {getattr(self, key)}")
        if faults:
            raise InputError("impossible network: " + "; ".join(faults))
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
        InputError: the spec is impossible (all reasons at once).
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


def feature_sizes(spec: NetworkSpec, genotype: Genotype, input_size: int) -> dict[str, int]:
    """Height (or width) of every cell's output for an input of ``input_size`` pixels.

    Raises:
        InputError: the input is smaller than the stem's kernel.
    """
    smallest = 3 if spec.stem == "imagenet" else 1
    if input_size < smallest:
        raise InputError(
            f"wanted an input of at least {smallest} pixels with the {spec.stem} stem, "
            f"got {input_size}"
        )
    size = (input_size - 3) // 2 + 1 if spec.stem == "imagenet" else input_size
    sizes = {"stem": size}
    for row in plan_cells(spec, genotype):
        sizes[row.name] = -(-sizes[row.h] // row.stride)
    return sizes


def override_spec(spec: NetworkSpec, **overrides: Any) -> NetworkSpec:
    """``spec`` with some fields replaced, checked.

    Raises:
        InputError: an unknown field (the nearest is named) or an impossible value.
    """
    fields: Sequence[str] = [f.name for f in dataclasses.fields(NetworkSpec)]
    for key in overrides:
        if key not in fields:
            raise InputError(f"unknown network field {key!r}, {nearest(key, fields)}")
    return dataclasses.replace(spec, **overrides).validate()


def find_differences(
    spec: NetworkSpec, genotype: Genotype, other_spec: NetworkSpec, other_genotype: Genotype
) -> list[str]:
    """What two networks have different that matters in evaluation, as ``KEY was X, is Y``.

    Weights of another network may have the same names and shapes: a pool in another's place has no
    weights, an epsilon and a padding have none. Fields about training are not compared, nor is
    ``norm``: batch normalizations of every kind compute the same, and a group normalization's
    weights have other names.
    """
    differences = [
        f"{field.name} was {getattr(spec, field.name)!r}, is {getattr(other_spec, field.name)!r}"
        for field in dataclasses.fields(NetworkSpec)
        if field.name not in _FREE_FIELDS
        and getattr(spec, field.name) != getattr(other_spec, field.name)
    ]
    differences += [
        f"the {kind} cell is another"
        for kind in ("normal", "reduction")
        if getattr(genotype, kind) != getattr(other_genotype, kind)
    ]
    return differences
