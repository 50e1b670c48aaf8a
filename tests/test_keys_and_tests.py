"""Every config key stands in ``keys_and_tests.yaml`` with a test that shows its effect."""

from __future__ import annotations

import ast
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml
from yacs.config import CfgNode

pytest.importorskip("detectron2")

from detectron2.config import get_cfg

from nasnet_det.classification.config import get_classification_config
from nasnet_det.config import flatten
from nasnet_det.detection import get_config
from nasnet_det.pipeline.chain import get_pipeline_config
from nasnet_det.search.config import get_search_config

TESTS = Path(__file__).parent
TABLE = yaml.safe_load((TESTS / "keys_and_tests.yaml").read_text())


def _list_keys(cfg: CfgNode) -> set[str]:
    return {key for key, _ in flatten(cfg)}


def _list_expected(part: str) -> set[str]:
    theirs = _list_keys(get_cfg())
    match part:
        case "detector":
            return _list_keys(get_config()) - theirs
        case "classifier":
            return _list_keys(get_classification_config())
        case "search":
            return _list_keys(get_search_config())
        case "pipeline":
            return _list_keys(get_pipeline_config())
    is_left = {key for key in theirs if any(fnmatchcase(key, row) for row in TABLE["left"])}
    return theirs - (is_left - {key for keys in TABLE[part].values() for key in keys})


PARTS = sorted(TABLE.keys() - {"left"})


@pytest.mark.parametrize("part", PARTS)
def test_every_key_has_a_test_and_none_is_unknown(part: str) -> None:
    counts = Counter(key for keys in TABLE[part].values() for key in keys)
    assert set(counts) == _list_expected(part)
    assert max(counts.values()) == 1, counts.most_common(3)


@pytest.mark.parametrize("part", PARTS)
def test_every_test_is_there(part: str) -> None:
    names: dict[str, set[str]] = {}
    for test in TABLE[part]:
        file, _, name = test.partition("::")
        if file not in names:
            tree = ast.parse((TESTS / file).read_text())
            names[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names[file], test
