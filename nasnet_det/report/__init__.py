"""Reports of what the stages wrote: tables, figures and pages. They read files only."""

from typing import TYPE_CHECKING

from nasnet_det.lazy import offer

if TYPE_CHECKING:
    from nasnet_det.report.detection.run_folder import DetectionRun, read_run
    from nasnet_det.report.front.page import write_front_report
    from nasnet_det.report.writing import find_kind, write_report

__all__ = ["DetectionRun", "find_kind", "read_run", "write_front_report", "write_report"]

_MODULES = {
    "detection.run_folder": ("DetectionRun", "read_run"),
    "front.page": ("write_front_report",),
    "writing": ("find_kind", "write_report"),
}
__getattr__ = offer(__name__, _MODULES, extra="report")
