"""The keys of ``MODEL.NASNET`` that mean the same for classifiers and detectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from yacs.config import CfgNode

from nasnet_det.config import ConfigError
from nasnet_det.genotype import Genotype
from nasnet_det.plan import NetworkSpec, override_spec
from nasnet_det.published_cells import load_genotype
from nasnet_det.variants import resolve_variant

_SPEC_KEYS = ("NUM_CELLS_PER_STAGE", "CHANNELS", "STEM", "STEM_MULTIPLIER")
# With these a detector has the network of a classifier.
NETWORK_KEYS = ("VARIANT", "GENOTYPE", *_SPEC_KEYS)


def add_network_config(
    node: CfgNode, *, variant: str, drop_path_prob: float, channels_last: bool
) -> None:
    """Add the keys, some with the defaults that are given."""
    # A name from nasnet_det.list_models(), or <genotype>_<N>@<P> such as "nasnet_a_4@1056".
    node.VARIANT = variant
    # A published genotype or a genotype's JSON file in place of the variant's own cells.
    node.GENOTYPE = ""
    # Fields of nasnet_det.NetworkSpec; 0 or "" keeps the variant's own value.
    node.NUM_CELLS_PER_STAGE = 0
    node.CHANNELS = 0
    node.STEM = ""
    node.STEM_MULTIPLIER = 0
    # ScheduledDropPath's final probability; it ramps up until the end of the training.
    node.DROP_PATH_PROB = drop_path_prob
    # What scales it: time_and_depth (TF-slim's), time (the paper's text) or depth.
    node.DROP_PATH_SCHEDULE = "time_and_depth"
    # Recompute every cell in the backward pass: slower, with far less memory.
    node.ACTIVATION_CHECKPOINTING = False
    # Channels-last order in memory: faster in half precision on GPUs; on CPUs maps always have it.
    node.CHANNELS_LAST = channels_last


def get_spec_overrides(node: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of :class:`~nasnet_det.NetworkSpec` that ``MODEL.NASNET`` sets."""
    return {key.lower(): node[key] for key in _SPEC_KEYS if node.get(key)}


def resolve_network(
    variant: str, genotype: Genotype | str | None = None, **spec_overrides: Any
) -> tuple[NetworkSpec, Genotype]:
    """The spec and the cells that names mean.

    Args:
        variant: see :func:`~nasnet_det.variants.resolve_variant`.
        genotype: replaces the variant's cells: a genotype, a published name or a JSON file.
        **spec_overrides: fields of :class:`~nasnet_det.NetworkSpec`.

    Raises:
        ValueError: an unknown name or an impossible value.
    """
    cells = genotype if isinstance(genotype, Genotype) or not genotype else load_genotype(genotype)
    spec, cells = resolve_variant(variant, cells or None)
    return override_spec(spec, **spec_overrides), cells


@contextmanager
def config_errors(node: str = "MODEL.NASNET") -> Iterator[None]:
    """Say of a wrong argument that it stands in a node of the config."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{node}: {error}") from None
