"""The architecture search: what proposes cells, what trains them, and the record of it."""

from typing import TYPE_CHECKING

from nasnet_det.lazy import offer

if TYPE_CHECKING:
    from nasnet_det.search.config import get_search_config
    from nasnet_det.search.results import collect_results
    from nasnet_det.search.session import Found, Proposal, propose, search

__all__ = ["Found", "Proposal", "collect_results", "get_search_config", "propose", "search"]

_MODULES = {
    "config": ("get_search_config",),
    "results": ("collect_results",),
    "session": ("Found", "Proposal", "propose", "search"),
}
__getattr__ = offer(__name__, _MODULES, extra="search")
