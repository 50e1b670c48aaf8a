"""Write what the pages have from elsewhere, or see whether it is current.

    python docs/generate            # write
    python docs/generate --check    # exit status 1, and the pages that are out of date

In README.md and docs/*.md, ``<!-- begin NAME -->`` and ``<!-- end -->`` enclose a generated table;
``<!-- NAME -->`` stands behind a number of a result.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import config_reference
import config_table
import results
from detectron2.config import get_cfg
from yacs.config import CfgNode

from nasnet_det.classification import config_checks
from nasnet_det.classification.config import add_classification_config
from nasnet_det.detection import config_values
from nasnet_det.detection.config import add_nasnet_config
from nasnet_det.pipeline.chain import add_pipeline_config
from nasnet_det.search.config import add_search_config

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- begin ([\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"[\d.,]*\d(?:e-?\d+)?(<!-- ([a-z][\w.]*\.[\w.]+) -->)")

Reference = Callable[[], str]


def list_blocks() -> dict[str, Reference]:
    """Name -> what writes the block."""
    return {
        **{f"results.{name}": write for name, write in results.TABLES.items()},
        "configs": config_table.write_table,
        "config.search": partial(_reference, add_search_config, {}),
        "config.classification": partial(
            _reference, add_classification_config, _classifier_values()
        ),
        "config.detection": partial(_reference, add_nasnet_config, _detector_values(), get_cfg),
        "config.pipeline": partial(_reference, add_pipeline_config, {}),
    }


def _reference(
    add_config: Callable[[CfgNode], None],
    allowed: dict[str, str],
    new: Callable[[], CfgNode] = CfgNode,
) -> str:
    keys = config_reference.read_keys(add_config, new())
    return config_reference.write_tables(keys, allowed)


def _classifier_values() -> dict[str, str]:
    """The allowed values of a classifier's keys, in words."""
    return {
        **{key: ", ".join(names) for key, names in config_checks.NAMES.items()},
        **dict.fromkeys(config_checks.AT_LEAST_ONE, "1 or more"),
        **dict.fromkeys(config_checks.BELOW_ONE, "0 to below 1"),
        **dict.fromkeys(config_checks.SHARES, "above 0, to 1"),
    }


def _detector_values() -> dict[str, str]:
    """The allowed values of a detector's keys, in words."""
    return {
        **{key: ", ".join(n or '""' for n in names) for key, names in config_values.NAMES.items()},
        **{key: wanted for keys, _, wanted in config_values.RANGES for key in keys},
    }


def fill(text: str) -> str:
    """A page with its blocks and its numbers as they are now.

    Raises:
        KeyError: a marker names nothing.
    """
    blocks, values = list_blocks(), results.list_values()
    text = BLOCK.sub(lambda m: f"{m[1]}\n{blocks[m[2]]()}\n\n{m[3]}", text)
    return NUMBER.sub(lambda m: values[m[2]] + m[1], text)


def main() -> int:
    """Write the pages, or name those that are out of date."""
    status = 0
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        old = path.read_text()
        new = fill(old)
        if new != old and "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is out of date: run python docs/generate")
            status = 1
        elif new != old:
            path.write_text(new)
    return status


if __name__ == "__main__":
    sys.exit(main())
