"""NASNet backbones for Detectron2: cells, networks and the way from a search to a detector.

The names below are imported when they are first used: genotypes, search space and plans need no
torch, networks do. ``import nasnet_det.detection`` registers the backbones with Detectron2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasnet_det.lazy import offer
from nasnet_det.version import __version__ as __version__

if TYPE_CHECKING:
    from nasnet_det.description import describe
    from nasnet_det.detector import Detector, detect
    from nasnet_det.genotype import Block, CellSpec, Genotype, GenotypeError
    from nasnet_det.network import NASNet
    from nasnet_det.plan import NetworkSpec, plan_cells
    from nasnet_det.published_cells import GENOTYPES, load_genotype
    from nasnet_det.trunk import NASNetTrunk
    from nasnet_det.variants import list_models
    from nasnet_det.weights.pretrained import create_model

__all__ = [
    "GENOTYPES",
    "Block",
    "CellSpec",
    "Detector",
    "Genotype",
    "GenotypeError",
    "NASNet",
    "NASNetTrunk",
    "NetworkSpec",
    "create_model",
    "describe",
    "detect",
    "list_models",
    "load_genotype",
    "plan_cells",
]

_MODULES = {
    "description": ("describe",),
    "detector": ("Detector", "detect"),
    "genotype": ("Block", "CellSpec", "Genotype", "GenotypeError"),
    "network": ("NASNet",),
    "plan": ("NetworkSpec", "plan_cells"),
    "published_cells": ("GENOTYPES", "load_genotype"),
    "trunk": ("NASNetTrunk",),
    "variants": ("list_models",),
    "weights.pretrained": ("create_model",),
}
__getattr__ = offer(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
