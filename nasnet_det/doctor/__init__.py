"""Examinations before a training: the environment, data sets; what is wrong, and where."""

from typing import TYPE_CHECKING

from nasnet_det.doctor.findings import Examination, Finding, Level
from nasnet_det.lazy import offer

if TYPE_CHECKING:
    from nasnet_det.doctor.contact_sheet import find_format, write_contact_sheet
    from nasnet_det.doctor.datasets import DataFiles, examine_datasets
    from nasnet_det.doctor.environment import examine_environment
    from nasnet_det.doctor.scales import Scale
    from nasnet_det.doctor.writing import check_free, describe, write_findings

__all__ = [
    "DataFiles",
    "Examination",
    "Finding",
    "Level",
    "Scale",
    "check_free",
    "describe",
    "examine_datasets",
    "examine_environment",
    "find_format",
    "write_contact_sheet",
    "write_findings",
]

_MODULES = {
    "contact_sheet": ("find_format", "write_contact_sheet"),
    "datasets": ("DataFiles", "examine_datasets"),
    "environment": ("examine_environment",),
    "scales": ("Scale",),
    "writing": ("check_free", "describe", "write_findings"),
}
__getattr__ = offer(__name__, _MODULES)
