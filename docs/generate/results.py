"""Tables and numbers of results, from the files that the measurements left.

A table stands between markers in a page. A number in a sentence stands before a comment with its
name, as in ``52.2<!-- bccd.nasnet.AP -->``.
"""

from __future__ import annotations

import detector_results
import search_results
import speed_results
import transfer_results

TOPICS = (detector_results, search_results, speed_results, transfer_results)
TABLES = {name: write for topic in TOPICS for name, write in topic.TABLES.items()}


def list_values() -> dict[str, str]:
    """Every number that a sentence of a page may name, as it is written there."""
    return {name: text for topic in TOPICS for name, text in topic.list_values().items()}
