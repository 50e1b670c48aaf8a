"""The scripts that write the generated parts, on small input."""

from __future__ import annotations

from pathlib import Path

import pytest
from yacs.config import CfgNode

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _path_of_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "generate"))


SOURCE = """
def add(cfg):
    # Two keys
    # share this.
    cfg.A = 1
    cfg.B = "x"

    # A node
    cfg.NODE = type(cfg)({"C": 0.5})
    node = cfg.INNER = type(cfg)()
    node.BARE = True
"""


def test_comments_beside_the_defaults(tmp_path, monkeypatch):
    import config_reference

    path = tmp_path / "config.py"
    path.write_text(SOURCE)
    monkeypatch.setattr(config_reference, "PACKAGE", str(tmp_path))
    scope: dict = {}
    exec(compile(SOURCE, str(path), "exec"), scope)
    keys = config_reference.read_keys(scope["add"], CfgNode({"OLD": 1}))
    assert [(key.name, key.default, key.comment) for key in keys] == [
        ("A", 1, "Two keys share this."),
        ("B", "x", "Two keys share this."),
        ("NODE.C", 0.5, "A node"),
        ("INNER.BARE", True, ""),
    ]
    table = config_reference.write_tables(keys, {"A": "1 or more"})
    assert "| `A` | `1` | int | 1 or more | Two keys share this. |" in table
    assert "| `B` | `'x'` | str |  | as above |" in table
    assert "| `BARE` | `True` | bool |  |  |" in table


def test_every_key_has_a_comment():
    from config_reference import read_keys

    from nasnet_det.classification.config import add_classification_config
    from nasnet_det.pipeline.chain import add_pipeline_config
    from nasnet_det.search.config import add_search_config

    for add in (add_classification_config, add_pipeline_config, add_search_config):
        assert [key.name for key in read_keys(add, CfgNode()) if not key.comment] == []


def test_every_detector_key_has_a_comment():
    config = pytest.importorskip("detectron2.config")
    from config_reference import read_keys

    from nasnet_det.detection.config import add_nasnet_config

    keys = read_keys(add_nasnet_config, config.get_cfg())
    assert [key.name for key in keys if not key.comment] == []
    assert "MODEL.NASNET.VARIANT" in {key.name for key in keys}
    assert "MODEL.MASK_ON" not in {key.name for key in keys}  # Detectron2's


def test_a_config_says_what_it_is():
    from config_table import CONFIGS, read_summary

    assert [path.name for path in CONFIGS.rglob("*.yaml") if not read_summary(path)] == []


def test_summary_is_the_first_sentence_without_the_command(tmp_path):
    from config_table import read_summary

    path = tmp_path / "a.yaml"
    path.write_text("# python tool.py --flag \\\n#   KEY 1\n# What it is. More.\nKEY: 1\n")
    assert read_summary(path) == "What it is."


def test_what_is_public_has_a_docstring(tmp_path):
    from docstrings import find_missing

    assert find_missing() == []
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "a.py").write_text(
        '"""Said."""\ndef f(): ...\ndef _g(): ...\nclass C:\n    """C."""\n'
    )
    (folder / "b.py").write_text("")
    assert find_missing(folder) == ["package.a.f", "package.b"]
