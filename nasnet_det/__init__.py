"""NASNet backbones for Detectron2: cells, networks and the way from a search to a detector.

The core below needs torch only. ``import nasnet_det.detection`` registers the backbones with
Detectron2.
"""

from nasnet_det.describe import describe
from nasnet_det.genotype import GENOTYPES, Block, CellSpec, Genotype, GenotypeError, load_genotype
from nasnet_det.network import (
    NASNet,
    NASNetTrunk,
    NetworkSpec,
    create_model,
    list_models,
    plan_cells,
)

__version__ = "0.1.0"

__all__ = [
    "GENOTYPES",
    "Block",
    "CellSpec",
    "Genotype",
    "GenotypeError",
    "NASNet",
    "NASNetTrunk",
    "NetworkSpec",
    "create_model",
    "describe",
    "list_models",
    "load_genotype",
    "plan_cells",
]
