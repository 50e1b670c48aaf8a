"""Text tables of a genotype's cells and of a network's plan."""

from __future__ import annotations

from typing import Any

import torch

from nasnet_det.complexity import count_multiply_adds, count_parameters
from nasnet_det.genotype import FIRST_BLOCK, CellSpec, Genotype
from nasnet_det.network import NASNet
from nasnet_det.plan import NetworkSpec, feature_sizes, override_spec, plan_cells, stem_channels
from nasnet_det.variants import resolve_variant


def describe_cell(spec: CellSpec) -> str:
    """One line for each block: ``2 = sep_conv_5x5(h) + sep_conv_3x3(h_prev)``."""
    names = ["h", "h_prev"] + [str(FIRST_BLOCK + k) for k in range(len(spec.blocks))]
    lines = []
    for k, block in enumerate(spec.blocks):
        left, right = (
            f"{op}({names[state]})" for op, state in zip(block.ops, block.inputs, strict=True)
        )
        combined = f"{left} + {right}" if block.combine == "add" else f"concat({left}, {right})"
        lines.append(f"  {FIRST_BLOCK + k} = {combined}")
    lines.append(f"  output = concat({', '.join(names[i] for i in spec.concat)})")
    return "\n".join(lines)


def describe_genotype(genotype: Genotype) -> str:
    """Both cells of a genotype."""
    return (
        f"genotype {genotype.name}\nnormal cell\n{describe_cell(genotype.normal)}\n"
        f"reduction cell\n{describe_cell(genotype.reduction)}"
    )


def describe_plan(spec: NetworkSpec, genotype: Genotype, input_size: int) -> str:
    """A table of the network, cell by cell, at an input of ``input_size`` pixels squared."""
    sizes = feature_sizes(spec, genotype, input_size)
    header = ("cell", "kind", "stride", "channels", "h", "h_prev", "output (HxWxC)", "feature")
    first = (
        "stem", "conv 3x3", "2" if spec.stem == "imagenet" else "1", str(stem_channels(spec)),
        "image", "-", f"{sizes['stem']}x{sizes['stem']}x{stem_channels(spec)}", "",
    )  # fmt: skip
    rows = [header, first]
    for row in plan_cells(spec, genotype):
        size = sizes[row.name]
        rows.append(
            (
                row.name,
                row.kind,
                str(row.stride),
                str(row.channels),
                row.h,
                row.h_prev or "-",
                f"{size}x{size}x{row.out_channels}",
                row.feature or "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def describe(
    name_or_genotype: str | Genotype = "nasnet_a_mobile",
    *,
    input_size: int | None = None,
    num_classes: int = 1000,
    **spec_overrides: Any,
) -> str:
    """Cells, plan, parameters and multiply-adds of a classifier, as text.

    Args:
        name_or_genotype: as for :func:`~nasnet_det.network.create_model`.
        input_size: height and width in pixels; the variant's own if None.
        num_classes: length of the logits.
        **spec_overrides: fields of :class:`~nasnet_det.plan.NetworkSpec`.
    """
    if isinstance(name_or_genotype, Genotype):
        spec, genotype = resolve_variant("nasnet_a_mobile", name_or_genotype)
    else:
        spec, genotype = resolve_variant(name_or_genotype)
    spec = override_spec(spec, **spec_overrides)
    size = spec.input_size if input_size is None else input_size
    plan = describe_plan(spec, genotype, size)
    model = NASNet(spec, genotype, num_classes=num_classes)
    parameters = count_parameters(model)
    multiply_adds = count_multiply_adds(model, torch.zeros(1, 3, size, size))
    return "\n\n".join(
        (
            describe_genotype(genotype),
            plan,
            f"parameters      {parameters.trainable:,} "
            f"({parameters.with_statistics:,} with normalization statistics)\n"
            f"multiply-adds   {multiply_adds / 1e6:,.1f} M at {size}x{size}",
        )
    )
