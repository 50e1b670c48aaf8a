"""The published networks by name, and ``<genotype>_<N>@<P>`` for any other size."""

from __future__ import annotations

import re
from dataclasses import replace

from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.near_names import nearest
from nasnet_det.plan import NetworkSpec
from nasnet_det.published_cells import GENOTYPES

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
VARIANTS: dict[str, tuple[NetworkSpec, str]] = {
    "nasnet_a_mobile": (_MOBILE, "nasnet_a"),
    "nasnet_a_large": (_LARGE, "nasnet_a"),
    "nasnet_a_cifar_6_768": (_CIFAR, "nasnet_a"),
    "nasnet_a_cifar_7_2304": (replace(_CIFAR, num_cells_per_stage=7, channels=96), "nasnet_a"),
    # Printed as 5 @ 1538 in the paper, which is no multiple of 24.
    "nasnet_a_5_1536": (
        replace(_LARGE, num_cells_per_stage=5, channels=64, input_size=299),
        "nasnet_a",
    ),
    "nasnet_a_7_1920": (
        replace(_LARGE, num_cells_per_stage=7, channels=80, input_size=299),
        "nasnet_a",
    ),
    "pnasnet_5_large": (_PNAS_LARGE, "pnasnet_5"),
    "pnasnet_5_mobile": (
        replace(
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
        InputError: unknown name (the nearest is named), or P does not divide into cells.
    """
    if name in VARIANTS:
        spec, genotype_name = VARIANTS[name]
        return spec, genotype or GENOTYPES[genotype_name]
    match = _N_AT_P.fullmatch(name)
    if match is None or match["genotype"] not in GENOTYPES:
        raise InputError(f"unknown network variant {name!r}, {nearest(name, VARIANTS)}")
    genotype = genotype or GENOTYPES[match["genotype"]]
    base = _PNAS_LARGE if match["genotype"] == "pnasnet_5" else _MOBILE
    n, p = int(match["n"]), int(match["p"])
    # The last stage has 4F channels in each state of the normal cell's output.
    num_states = len(genotype.normal.concat)
    per_channel = 4 * num_states
    if p % per_channel:
        below = p - p % per_channel
        raise InputError(
            f"channels do not divide in {name!r}: with {num_states} states in the normal "
            f"cell's concat, P must be a multiple of {per_channel}, got {p} "
            f"(nearest: {max(below, per_channel)} or {below + per_channel})"
        )
    return replace(base, num_cells_per_stage=n, channels=p // per_channel), genotype
