"""The notebook: without outputs in the checkout, and run from a data set to a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "from_coco_json_to_report.ipynb"


def test_notebook_has_no_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_notebook_goes_from_a_coco_json_to_a_report(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("detectron2")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["runs"][0]["data"]["images"] == 8
    assert report["runs"][0]["scores"]["AP"]["value"] >= 0
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    assert "# Detection report" in notebook.cells[-2].outputs[0]["data"]["text/markdown"]
