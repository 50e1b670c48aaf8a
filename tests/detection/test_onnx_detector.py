"""A detector's ONNX file finds what PyTorch finds, at every size, with nothing but the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")
pytest.importorskip("onnxruntime")

import detectron2.data.transforms as T
from detectron2.layers import paste_masks_in_image
from PIL import Image
from tiny_detection import write_tiny_config, write_tiny_genotype

import nasnet_det
from nasnet_det.cli.main import main
from nasnet_det.data.pictures import read_pixels
from nasnet_det.detection import get_config, inference
from nasnet_det.detection.onnx_detector import RuntimeDetector
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import InputError
from nasnet_det.runtime.detector import OnnxDetector, paste_masks, resize_picture
from nasnet_det.runtime.onnx_trace import read_about

RUNTIMES = ["onnxruntime", "openvino"]
TINY = ["MODEL.DEVICE", "cpu", "MODEL.NASNET.CHANNELS", "8", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0", "MODEL.RPN.POST_NMS_TOPK_TEST", "30", "TEST.DETECTIONS_PER_IMAGE", "20", "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "160", "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16"]  # fmt: skip
FPN = "COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml"
ONE_CELL = ["MODEL.NASNET.NUM_CELLS_PER_STAGE", "1"]
KINDS = {
    "c4": ("COCO-Detection/faster_rcnn_nasnet_a_mobile_C4_1x.yaml", ["MODEL.NASNET.NUM_CELLS_PER_STAGE", "2"]),
    "mask": ("COCO-InstanceSegmentation/mask_rcnn_nasnet_a_mobile_FPN_1x.yaml", ONE_CELL),
    "retinanet": (FPN, [*ONE_CELL, "MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.BACKBONE.NAME", "build_retinanet_nasnet_fpn_backbone", "MODEL.FPN.IN_FEATURES", "['c3','c4','c5']", "MODEL.RETINANET.IN_FEATURES", "['p3','p4','p5','p6','p7']", "MODEL.ANCHOR_GENERATOR.SIZES", "[[16],[32],[64],[128],[256]]"]),
}  # fmt: skip


def _write_run(folder: Path, config: str, opts: list[str]) -> Any:
    torch.manual_seed(0)
    words = ["MODEL.NASNET.GENOTYPE", write_tiny_genotype(folder)]
    words += ["MODEL.WEIGHTS", str(folder / "model.pth")]
    cfg = get_config(config, [*TINY, *opts, *words])
    model = Trainer.build_model(cfg)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name.endswith(("bbox_pred.weight", "anchor_deltas.weight")):
            parameter.data.mul_(0.01)  # of noise they would be huge, and so would rounding
        elif name == "head.cls_score.weight":
            parameter.data.mul_(100)  # RetinaNet's begin alike, and rounding would order them
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return cfg


def _export(folder: Path, *words: str) -> Path:
    output = folder / "detector.onnx"
    arguments = [
        str(folder / "model.pth"),
        str(output),
        "--config-file",
        str(folder / "config.yaml"),
    ]
    assert main(["export", *arguments, *words]) == 0
    return output


def _make_pictures() -> list[np.ndarray]:
    sizes = ((96, 128), (57, 91), (200, 90), (33, 160))
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]


def _compare(cfg: Any, path: Path, runtime: str, pictures: list[np.ndarray]) -> None:
    in_torch, in_file = Predictor(cfg), OnnxDetector.read(path, runtime=runtime)
    for picture in pictures:
        wanted, got = in_torch(picture), in_file(picture)
        assert len(got.scores) == len(wanted) > 0
        boxes, scores = wanted.pred_boxes.tensor.numpy(), wanted.scores.numpy()
        classes = wanted.pred_classes.numpy()
        pairs: dict[int, int] = {}  # rounding may exchange those whose scores are hardly different
        for i, (box, score) in enumerate(zip(got.boxes, got.scores, strict=True)):
            is_same = (np.abs(boxes - box).max(1) <= 1e-3) & (np.abs(scores - score) <= 1e-3)
            (places,) = np.nonzero(is_same & (classes == got.classes[i]))
            free = [place for place in places.tolist() if place not in pairs.values()]
            if free:
                pairs[i] = free[0]
        # Those at the cut may be others.
        assert len(pairs) >= (scores > scores.min() + 1e-4).sum()
        if got.masks is not None:
            masks = wanted.pred_masks.numpy()[list(pairs.values())]
            assert (got.masks[list(pairs)] == masks).mean() > 0.999


@pytest.fixture(scope="module")
def fpn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The config and the file of a tiny Faster R-CNN."""
    folder = tmp_path_factory.mktemp("fpn")
    cfg = _write_run(folder, FPN, ONE_CELL)
    return cfg, _export(folder)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_file_finds_what_pytorch_finds(fpn: tuple[Any, Path], runtime: str) -> None:
    pytest.importorskip(runtime)
    _compare(*fpn, runtime, _make_pictures())


def test_runtime_may_compute_the_whole_detector(
    fpn: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = fpn[1].read_bytes()
    monkeypatch.setattr(inference, "export_detector", lambda model, cfg: content)
    cfg = fpn[0].clone()
    (picture, *_) = _make_pictures()
    wanted = Predictor(cfg)(picture)
    cfg.TEST.RUNTIME.NAME, cfg.TEST.RUNTIME.PART = "onnxruntime", "detector"
    predictor = Predictor(cfg)
    got = predictor(picture)
    assert isinstance(predictor.model, RuntimeDetector)
    torch.testing.assert_close(got.pred_boxes.tensor, wanted.pred_boxes.tensor, rtol=0, atol=1e-3)
    torch.testing.assert_close(got.scores, wanted.scores, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_detectors(tmp_path: Path, kind: str, runtime: str) -> None:
    pytest.importorskip(runtime)
    cfg = _write_run(tmp_path, *KINDS[kind])
    _compare(cfg, _export(tmp_path), runtime, _make_pictures())


@pytest.mark.slow
def test_int8_file_keeps_boxes_and_scores_of_32_bits(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    cfg = _write_run(tmp_path, FPN, ONE_CELL)
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(_make_pictures()):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i}.png")
    path = _export(tmp_path, "--int8", str(tmp_path / "photos"))
    graph = onnx.load(path).graph
    quantized = {n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    producers = {out: node for node in graph.node for out in node.output}
    kinds = {producers[name].op_type for name in quantized if name in producers}
    assert {"Conv", "Gemm"} <= kinds
    assert not {"NonMaxSuppression", "TopK", "Softmax", "Exp"} & kinds
    found = OnnxDetector.read(path)(_make_pictures()[0])
    assert abs(len(found.scores) - len(Predictor(cfg)(_make_pictures()[0]))) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", [*KINDS, "fpn"])
def test_fifty_real_pictures_of_twenty_sizes(
    tmp_path: Path, reference_data: Path, kind: str, runtime: str
) -> None:
    pytest.importorskip(runtime)
    paths = sorted((reference_data / "coco_small").rglob("*.jpg"))[:50]
    pictures = []
    for i, path in enumerate(paths):
        pixels = read_pixels(path)
        height, width = 100 + 7 * (i % 20), 240 - 5 * (i % 20)
        pictures.append(np.ascontiguousarray(pixels[:height, :width]))
    assert len({picture.shape for picture in pictures}) >= 20
    cfg = _write_run(tmp_path, *KINDS.get(kind, (FPN, ONE_CELL)))
    _compare(cfg, _export(tmp_path), runtime, pictures)


def test_picture_is_resized_as_detectron2_does() -> None:
    for height, width in ((30, 50), (200, 31), (64, 64)):
        picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
        for least, most in ((64, 96), (20, 200), (0, 10)):
            wanted = T.ResizeShortestEdge([least] * 2, most).get_transform(picture)
            assert np.array_equal(resize_picture(picture, least, most), wanted.apply_image(picture))


def test_masks_are_pasted_as_detectron2_does() -> None:
    masks = torch.rand(5, 28, 28)
    corners = 40 * torch.rand(5, 2)
    boxes = torch.cat([corners, corners + 1 + 30 * torch.rand(5, 2)], dim=1)
    wanted = paste_masks_in_image(masks, boxes, (60, 70))
    assert np.array_equal(paste_masks(masks.numpy(), boxes.numpy(), (60, 70)), wanted.numpy())
    assert paste_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), (6, 7)).shape == (0, 6, 7)


def test_file_needs_no_detectron2(fpn: tuple[Any, Path], tmp_path: Path) -> None:
    """``detect`` and ``predict`` take it, with the names and the threshold that stand in it."""
    cfg, exported = fpn
    picture = _make_pictures()[0]
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert read_about(exported.read_bytes())["score_threshold"] == 0.0
    code = (
        "import sys; sys.modules['detectron2'] = None\n"
        "import nasnet_det\n"
        "from nasnet_det.cli.main import main\n"
        f"found = nasnet_det.detect({str(exported)!r}, threshold=0.0)({str(tmp_path / 'a.png')!r})\n"
        "print(len(found), '|'.join(found.names), sep='|')\n"
        f"words = ['--input', {str(tmp_path / 'a.png')!r}, '--output', {str(tmp_path / 'out')!r}]\n"
        f"sys.exit(main(['predict', *words, 'MODEL.WEIGHTS', {str(exported)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wanted,) = Predictor(cfg).detect([picture])
    first = done.stdout.splitlines()[0].split("|")
    assert first == [str(len(wanted)), *wanted.names]
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(written["categories"]) == 80
    assert (tmp_path / "out" / written["images"][0]["drawn"]).is_file()
    boxes = np.array([one["bbox"] for one in written["annotations"]])
    np.testing.assert_allclose(boxes, [one["bbox"] for one in wanted.to_coco(1)], atol=0.02)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"opts": ["TEST.TILES.SIZE", "50"]}, "wanted no config, got TEST.TILES.SIZE"),
        ({"config_file": "a.yaml"}, "wanted no config, got a.yaml"),
        ({"runtime": "torch"}, "wanted onnxruntime or openvino on a cpu, got torch"),
        ({"device": "cuda"}, "wanted onnxruntime or openvino on a cpu, got cuda"),
        ({"runtime": "tensorrt"}, "runtime: wanted onnxruntime or openvino, got tensorrt"),
        ({"runtime": "onnxruntime:fp4"}, "precision: wanted float32, bfloat16 or int8, got fp4"),
    ],
)
def test_what_a_file_does_not_go_with_is_one_sentence(
    fpn: tuple[Any, Path], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        nasnet_det.detect(fpn[1], **options)


def test_checkpoint_of_a_training_needs_no_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = [*ONE_CELL, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"]
    cfg = _write_run(tmp_path, FPN, shared)
    checkpoint, output = tmp_path / "model_final.pth", tmp_path / "detector.onnx"
    weights = torch.load(tmp_path / "model.pth", weights_only=True)
    torch.save({**weights, "config": cfg.dump(), "classes": []}, checkpoint)
    assert main(["export", str(checkpoint), str(output)]) == 0
    _compare(cfg, output, "onnxruntime", _make_pictures()[:2])
    capsys.readouterr()
    assert main(["export-backbone", str(checkpoint), str(tmp_path / "trunk.safetensors")]) == 1
    assert "wanted a classifier's checkpoint, got a detector's" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", str(checkpoint), str(tmp_path / "out.pt2")])


def test_other_files_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"none")
    with pytest.raises(
        InputError, match=r"other.onnx: wanted a detector's file of nasnet-det export"
    ):
        OnnxDetector.read(path)
    with pytest.raises(InputError, match="can't be read"):
        OnnxDetector.read(tmp_path / "no.onnx")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["out.ts", "--config-file", "CONFIG"], "wanted an output that ends with .onnx"),
        (["out.onnx", "--int8", "photos"], "wanted a detector's checkpoint or --config-file with KEY VALUE and --int8"),
        (["out.onnx", "--config-file", "CONFIG", "MODEL.KEYPOINT_ON", "True"], "MODEL.KEYPOINT_ON"),
        (["out.onnx", "--config-file", "CONFIG", "INPUT.SQUARE_TEST", "64"], "INPUT.SQUARE_TEST: wanted 0 for an export"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    config = write_tiny_config(tmp_path)
    given = [config if word == "CONFIG" else word for word in words]
    try:
        status = main(["export", str(tmp_path / "no.pth"), *given])
    except SystemExit as stop:
        status = int(stop.code or 0)
    error = capsys.readouterr().err
    assert status
    assert sentence in error
    assert error.count("\n") == 1
