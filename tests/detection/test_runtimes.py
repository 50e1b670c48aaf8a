"""Detectors whose backbone ONNX Runtime or OpenVINO computes find what they find in PyTorch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")
pytest.importorskip("onnxruntime")

from detectron2.modeling import Backbone
from tiny_detection import write_tiny_config, write_tiny_dataset, write_tiny_genotype

from nasnet_det.cli import report
from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.detection import evaluate, get_config, inference
from nasnet_det.detection.calibration import (
    find_calibration_pictures,
    read_calibration_images,
)
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.cost import measure_run
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.onnx_backbone import export_backbone
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import InputError, MissingPackageError
from nasnet_det.runs.detector_files import read_cost
from nasnet_det.runtime.engines import Engine, EngineError, start_engine

RUNTIMES = ["onnxruntime", "openvino"]
SIZES = ((64, 96), (33, 70), (121, 50))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a tiny detector, whose normalizations are not those of a new one."""
    base = tmp_path_factory.mktemp("runtimes")
    data = write_tiny_dataset(base / "data")
    opts = ["MODEL.NASNET.CHANNELS_LAST", "True", "OUTPUT_DIR", str(base / "run")]
    opts += ["MODEL.NASNET.GENOTYPE", write_tiny_genotype(base)]
    cfg = get_config(write_tiny_config(base), [*data, *opts])
    register_config_datasets(cfg)
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    (base / "run").mkdir()
    (base / "run" / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, base / "run" / "model_final.pth")
    return base / "run"


def _get_config(run: Path, *opts: str) -> Any:
    words = ["MODEL.WEIGHTS", str(run / "model_final.pth"), *opts]
    cfg = get_config(str(run / "config.yaml"), words)
    register_config_datasets(cfg)
    return cfg


@pytest.fixture(scope="module")
def in_torch(run: Path) -> Predictor:
    return Predictor(_get_config(run))


@pytest.fixture(scope="module")
def traced(run: Path) -> bytes:
    """The ONNX file of the backbone, since a trace takes seconds."""
    return export_backbone(Predictor(_get_config(run), fused=False).model.backbone)


@pytest.fixture(autouse=True)
def _trace_once(traced: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "export_backbone", lambda backbone: traced)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_backbone_elsewhere_gives_the_same_boxes_at_every_size(
    run: Path, in_torch: Predictor, runtime: str
) -> None:
    pytest.importorskip(runtime)
    elsewhere = Predictor(_get_config(run, "TEST.RUNTIME.NAME", runtime), batch_size=2)
    assert not list(elsewhere.model.backbone.parameters()), "nothing is left of torch's"
    for size in ((64, 96), (32, 160), (128, 32)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            wanted, got = in_torch.model.backbone(images), elsewhere.model.backbone(images)
        assert list(got) == list(wanted)
        for name, feature in wanted.items():
            scale = float(feature.abs().max())
            torch.testing.assert_close(got[name], feature, rtol=0, atol=1e-4 * scale)
    pictures = [np.random.default_rng(0).integers(0, 255, (*s, 3), dtype=np.uint8) for s in SIZES]
    found = zip(in_torch.find_objects(pictures), elsewhere.find_objects(pictures), strict=True)
    for wanted, got in found:
        torch.testing.assert_close(
            got.pred_boxes.tensor, wanted.pred_boxes.tensor, rtol=0, atol=0.01
        )
        torch.testing.assert_close(got.scores, wanted.scores, rtol=0, atol=1e-4)
        assert got.pred_classes.tolist() == wanted.pred_classes.tolist()


def test_training_s_pictures_calibrate(run: Path) -> None:
    cfg = _get_config(run, "INPUT.FORMAT", "BGR")
    assert [path.name for path in find_calibration_pictures(cfg)] == [f"{i}.png" for i in range(6)]
    images = list(read_calibration_images(cfg))
    assert [tuple(image.shape) for image in images] == 6 * [(3, 64, 96)]
    assert images[0][:, 20, 30].tolist() == [0, 0, 255], "a red box, in the order of the config"


@pytest.mark.slow
def test_int8_is_near_what_pytorch_computes(run: Path, in_torch: Predictor) -> None:
    opts = ("TEST.RUNTIME.NAME", "onnxruntime", "TEST.RUNTIME.PRECISION", "int8")
    quantized = Predictor(_get_config(run, *opts))
    (image,) = next(iter(read_calibration_images(_get_config(run))))[None]
    batch = quantized.model.preprocess_image([{"image": image}]).tensor
    with torch.no_grad():
        wanted, got = in_torch.model.backbone(batch)["p3"], quantized.model.backbone(batch)["p3"]
    error = float((got - wanted).abs().mean() / wanted.abs().mean())
    assert 0 < error < 0.3


def test_folder_of_pictures_calibrates_and_none_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures found"):
        find_calibration_pictures(_get_config(run, "TEST.RUNTIME.CALIBRATION", str(tmp_path)))
    (tmp_path / "mine.png").write_bytes((run.parent / "data" / "0.png").read_bytes())
    cfg = _get_config(run, "TEST.RUNTIME.CALIBRATION", str(tmp_path))
    assert find_calibration_pictures(cfg) == [tmp_path / "mine.png"]
    cfg = get_config("", [])
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ConfigError, match=r"TEST.RUNTIME.CALIBRATION: wanted a folder with pictu"):
        find_calibration_pictures(cfg)


def test_evaluation_and_prediction_obey(run: Path, tmp_path: Path) -> None:
    cfg = _get_config(run, "TEST.RUNTIME.NAME", "onnxruntime", "OUTPUT_DIR", str(tmp_path / "eval"))
    results = [evaluate(cfg)]
    cfg.TEST.RUNTIME.NAME = "torch"
    results.append(evaluate(cfg))
    assert results[0]["bbox"]["AP"] == pytest.approx(results[1]["bbox"]["AP"], abs=1e-4)

    words = ["predict", "--config-file", run / "config.yaml", "--input", run.parent / "data"]
    words += ["--output", tmp_path / "found", "--runtime", "onnxruntime"]
    assert main([*map(str, words), "MODEL.WEIGHTS", str(run / "model_final.pth")]) == 0
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())["images"]) == 6


def test_report_has_ap_beside_milliseconds(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
        try:
            return function(*arguments), ""
        except InputError as error:
            return None, str(error)

    monkeypatch.setattr(report, "_run_apart", run_here)
    words = ["report", run, "--out", tmp_path / "report", "--draws", "100", "--no-photos"]
    runtimes = ["torch", "onnxruntime", "onnxruntime:bfloat16"]
    assert main([*map(str, words), "--runtimes", *runtimes]) == 0
    said = capsys.readouterr().err
    assert "onnxruntime, bfloat16 can't be measured: onnxruntime computes in bfloat16 on no" in said
    cost = read_cost(run)
    assert cost is not None
    in_torch, elsewhere = cost.runtimes
    assert (in_torch.runtime, elsewhere.runtime) == ("torch", "onnxruntime")
    assert elsewhere.ap == pytest.approx(in_torch.ap, abs=1e-4)
    assert 0 < elsewhere.ms_per_image["low"] <= elsewhere.ms_per_image["median"]
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert f"| run | onnxruntime | float32 | {elsewhere.ap:.2f} |" in markdown
    assert main([*map(str, words), "--runtimes", *runtimes[:2]]) == 0
    assert "float32" not in capsys.readouterr().err, "each is measured once"


def test_cost_of_a_run_that_names_a_runtime(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(_get_config(run, "TEST.RUNTIME.NAME", "onnxruntime").dump())
    (folder / "model_final.pth").write_bytes((run / "model_final.pth").read_bytes())
    cost = measure_run(folder)
    assert (cost.runtime, cost.precision) == ("onnxruntime", "float32")
    assert cost.parameters["trunk"] > 0, "the runtime's are torch's"


# ---- What can't be


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["TEST.RUNTIME.NAME", "onnx"], "TEST.RUNTIME.NAME: unknown name 'onnx'"),
        (["TEST.RUNTIME.PRECISION", "int4"], "TEST.RUNTIME.PRECISION: unknown name 'int4'"),
        (["TEST.RUNTIME.PRECISION", "int8"], "TEST.RUNTIME.PRECISION: wanted float32, since TEST.RUNTIME.NAME is torch"),
        (["TEST.RUNTIME.PART", "trunk"], "TEST.RUNTIME.PART: unknown name 'trunk'"),
        (["TEST.RUNTIME.PART", "detector"], "TEST.RUNTIME.PART: wanted backbone, since TEST.RUNTIME.NAME is torch"),
        (["TEST.RUNTIME.NAME", "onnxruntime", "TEST.RUNTIME.PART", "detector", "TEST.AUG.ENABLED", "True"], "TEST.RUNTIME.PART: wanted backbone, since TEST.AUG.ENABLED"),
        (["TEST.RUNTIME.CALIBRATION", "p"], "TEST.RUNTIME.CALIBRATION: wanted none, since TEST.RUNTIME.PRECISION is float32"),
        (["TEST.RUNTIME.NAME", "onnxruntime", "TEST.RUNTIME.PRECISION", "bfloat16"], "onnxruntime computes in bfloat16 on no CPU"),
    ],
)  # fmt: skip
def test_wrong_keys_are_one_sentence(opts: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_values(get_config("", ["MODEL.DEVICE", "cpu", *opts]))


def test_processor_without_bfloat16_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")

    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "Core", Core)
    opts = ["TEST.RUNTIME.NAME", "openvino", "TEST.RUNTIME.PRECISION", "bfloat16"]
    with pytest.raises(EngineError, match="and this one has FP32, INT8: wanted float32 or int8"):
        check_values(get_config("", ["MODEL.DEVICE", "cpu", *opts]))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_missing_runtime_is_named_with_its_extra(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(
        MissingPackageError, match=rf"{runtime} is not installed: run pip install 'na"
    ):
        check_values(get_config("", ["MODEL.DEVICE", "cpu", "TEST.RUNTIME.NAME", runtime]))


def test_what_is_no_network_is_one_sentence() -> None:
    with pytest.raises(EngineError, match="onnxruntime can't run this network"):
        start_engine(b"no network", "onnxruntime")


def test_runtime_that_computes_something_else_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_wrong(*arguments: Any, **options: Any) -> Engine:
        engine = start_engine(*arguments, **options)
        return Engine(engine.outputs, lambda images: [1.01 * a for a in engine.run(images)])

    monkeypatch.setattr(inference, "start_engine", start_wrong)
    with pytest.raises(EngineError, match="the backbone's p2 differs by 0.01 of its mean"):
        Predictor(_get_config(run, "TEST.RUNTIME.NAME", "onnxruntime"))


class _Strange(Backbone):
    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"p2": torch.linalg.eigvals(image[..., :2, :2]).real.mean() + image}


def test_operation_that_onnx_lacks_is_one_sentence() -> None:
    sentence = "ONNX in opset 18 can't hold the operation aten::linalg_eigvals of this network"
    with pytest.raises(EngineError, match=sentence):
        export_backbone(_Strange())
