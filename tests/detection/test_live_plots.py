"""Curves in a notebook: when they are drawn, of what, and that they never end a training."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("detectron2")
pytest.importorskip("IPython")

import IPython
import IPython.display
from PIL import Image
from tiny_detection import write_tiny_config, write_tiny_dataset
from tiny_training import make_config

from nasnet_det.detection import live_plots, train
from nasnet_det.drawing.training_curves import draw_training_curves
from nasnet_det.runs.metrics import read_metrics


class Front:
    """Stands for the front end of a notebook, with a clock that a drawing moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, step_s: float) -> None:
        self.shown: list[bytes] = []
        self.num_displays, self.now = 0, 0.0
        self.curves: list[tuple[Any, ...]] = []
        shell = SimpleNamespace(kernel=object())
        monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
        monkeypatch.setattr(IPython.display, "display", self.display)
        monkeypatch.setattr(live_plots, "draw_training_curves", self.draw)
        monkeypatch.setattr(live_plots, "SHARE", 1e9)  # a drawing takes no time
        self.step_s = step_s
        monkeypatch.setattr(live_plots.time, "monotonic", self.tell_time)

    def tell_time(self) -> float:
        self.now += self.step_s
        return self.now

    def display(self, picture: Any, *, display_id: bool) -> Any:
        assert display_id
        self.num_displays += 1
        self.update(picture)
        return SimpleNamespace(update=self.update)

    def update(self, picture: Any) -> None:
        self.shown.append(picture.data)

    def draw(self, *curves: Any) -> Any:
        self.curves.append(curves)
        return draw_training_curves(*curves)


@pytest.fixture
def cfg(tmp_path: Path) -> Any:
    return make_config(
        tmp_path, SOLVER__MAX_ITER=6, TEST__EVAL_PERIOD=3, TEST__VALIDATION_LOSS=True
    )


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["no IPython", "a terminal"])
def test_outside_of_a_notebook_nothing_is_drawn(
    cfg: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, shell: Any
) -> None:
    front = Front(monkeypatch, step_s=100)
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    train(cfg)
    assert front.shown == []
    assert "live plots" not in caplog.text
    monkeypatch.delitem(sys.modules, "IPython")
    assert not live_plots.is_notebook()


def test_true_outside_of_a_notebook_is_said(
    cfg: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    train(cfg, live_plots=True)
    output = "".join(capfd.readouterr())
    assert "There are no live plots: this process is no notebook's" in output


def test_false_shows_none_in_a_notebook(cfg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(monkeypatch, step_s=100)
    train(cfg, live_plots=False)
    assert front.shown == []


def test_one_picture_is_exchanged_with_the_numbers_of_the_training(
    cfg: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = Front(monkeypatch, step_s=100)  # each look at the clock is later than the period
    results = train(cfg)
    assert front.num_displays == 1
    assert len(front.shown) > 2
    for data in front.shown:
        assert Image.open(io.BytesIO(data)).format == "PNG"
    assert len(set(front.shown)) > 2
    loss, validation_loss, scores, max_iter = front.curves[-1]
    assert max_iter == 6
    assert [iteration for iteration, _ in loss] == list(range(6))
    lines = [row for row in read_metrics(Path(cfg.OUTPUT_DIR, "metrics.json")) if "bbox/AP" in row]
    assert [value for _, value in scores["bbox/AP"]] == [row["bbox/AP"] for row in lines]
    assert scores["bbox/AP"][-1][1] == results["bbox"]["AP"]
    wanted = [row["validation/total_loss"] for row in lines]
    assert [value for _, value in validation_loss] == wanted
    assert len(front.curves[0][0]) < 6


def test_drawings_have_seconds_between_them(cfg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(monkeypatch, step_s=0.01)
    train(cfg)
    assert len(front.shown) == 2, "the first, and the last after the training"


def test_slow_drawing_is_drawn_less_often(cfg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, share = live_plots.LivePlots(Path()), live_plots.SHARE
    front = Front(monkeypatch, step_s=2.0)
    monkeypatch.setattr(live_plots, "SHARE", share)
    monkeypatch.setattr(hook, "_show", lambda: None)
    hook._draw()
    assert hook._next - front.now == pytest.approx(2.0 / share)


def test_resumed_training_shows_what_was_before(cfg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train(cfg, live_plots=False)
    longer = cfg.clone()
    longer.defrost()
    longer.SOLVER.MAX_ITER = 9
    front = Front(monkeypatch, step_s=100)
    train(longer, resume=True)
    loss, _, scores, max_iter = front.curves[0]
    assert max_iter == 9
    assert [n for n, _ in loss if n < 6], "from metrics.json"
    assert [n for n, _ in scores["bbox/AP"]] == [2], "what was made at the end is made again"
    numbers = [n for n, _ in front.curves[-1][0]]
    assert numbers == sorted(set(numbers))


def test_failing_front_end_ends_no_training(
    cfg: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    front = Front(monkeypatch, step_s=100)

    def fail(*_: Any, **__: Any) -> None:
        front.num_displays += 1
        raise RuntimeError("the front end is gone")

    monkeypatch.setattr(IPython.display, "display", fail)
    results = train(cfg)
    output = "".join(capfd.readouterr())
    assert "bbox" in results
    assert front.num_displays == 1
    assert output.count("Live plots failed; the training goes on without: the front end is") == 1


def test_training_is_the_same_with_and_without(
    cfg: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = cfg.clone()
    other.defrost()
    other.OUTPUT_DIR = str(tmp_path / "other")
    train(other, live_plots=False)
    logging.getLogger("nasnet_det").handlers.clear()
    Front(monkeypatch, step_s=100)
    train(cfg)
    first, second = (read_metrics(Path(c.OUTPUT_DIR, "metrics.json")) for c in (cfg, other))
    assert [row["total_loss"] for row in first if "total_loss" in row] == [
        row["total_loss"] for row in second if "total_loss" in row
    ]


def test_curves_of_many_points_are_thinned_and_keep_their_ends() -> None:
    loss = [(n, 3.0 - n / 50_000) for n in range(100_000)]
    figure = draw_training_curves(loss, [], {"bbox/AP": [(5, 1.0)]}, 100_000)
    points, smooth = figure.axes[0].lines
    assert len(points.get_xdata()) == 1000
    assert points.get_xdata()[-1] == 99_999
    assert len(smooth.get_xdata()) == 50
    np.testing.assert_allclose(smooth.get_ydata(), 3.0 - smooth.get_xdata() / 50_000, atol=1e-3)


def test_kernel_of_jupyter_shows_one_picture(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    words = [*write_tiny_dataset(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / "run")]
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from nasnet_det.detection import get_config, train\n"
        f"train(get_config({write_tiny_config(tmp_path)!r}, {words!r}))['bbox'].keys() >= {{'AP'}}"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = json.loads(json.dumps(notebook.cells[0].outputs))
    pictures = [one for one in outputs if one["output_type"] == "display_data"]
    assert len(pictures) == 1
    picture = Image.open(io.BytesIO(base64.b64decode(pictures[0]["data"]["image/png"])))
    assert picture.width > picture.height
    (result,) = (one for one in outputs if one["output_type"] == "execute_result")
    assert result["data"]["text/plain"] == "True"
