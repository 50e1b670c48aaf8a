"""A classifier's trunk as the detector's backbone: the same weights, network and preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import DefaultPredictor
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_classification import CPU, make_config
from tiny_detection import write_tiny_dataset
from yacs.config import CfgNode

from nasnet_det.classification.backbone import read_network
from nasnet_det.classification.checkpoint import load_checkpoint
from nasnet_det.classification.data import load_data
from nasnet_det.classification.loop import Trainer
from nasnet_det.classification.models import build_model
from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.detection import get_config
from nasnet_det.detection.backbone_card import check_backbone
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.predictor import Predictor
from nasnet_det.detection.trainer import Trainer as DetectorTrainer
from nasnet_det.network import create_model
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.runs.files import FileError
from nasnet_det.runtime.formats import build_exportable
from nasnet_det.weights import CheckpointError, write_weights
from nasnet_det.weights.backbone_file import read_card

NETWORK = {"VARIANT": "nasnet_a_mobile", "NUM_CELLS_PER_STAGE": 1, "CHANNELS": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CfgNode, Path, Path]:
    """A config, the best checkpoint of its short training, and its backbone's file."""
    folder = tmp_path_factory.mktemp("trained")
    network = [w for k, v in NETWORK.items() for w in (f"MODEL.NASNET.{k}", str(v))]
    cfg = make_config(folder, *network, "AUX.WEIGHT", "0", "SOLVER.EPOCHS", "1")
    Path(cfg.OUTPUT_DIR).mkdir()
    Trainer(cfg, load_data(cfg), device=CPU).train()
    checkpoint = Path(cfg.OUTPUT_DIR) / "model_best.pth"
    return cfg, checkpoint, folder / "backbone.safetensors"


@pytest.fixture(scope="module")
def exported(trained: tuple[CfgNode, Path, Path]) -> Path:
    """The file, made by the command."""
    _, checkpoint, output = trained
    assert main(["export-backbone", str(checkpoint), str(output)]) == 0
    return output


def _detector_config(weights: Path, *opts: str) -> CfgNode:
    network = [w for k, v in NETWORK.items() for w in (f"MODEL.NASNET.{k}", str(v))]
    means = ["MODEL.PIXEL_MEAN", "[125.3,123.0,113.9]", "MODEL.PIXEL_STD", "[63.0,62.1,66.7]"]
    base = ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu", "INPUT.FORMAT", "RGB"]
    name = "quick_schedules/faster_rcnn_nasnet_a_mobile_FPN_small.yaml"
    return get_config(name, [*base, *network, *means, *opts])


def test_card_says_what_was_trained(trained: tuple[CfgNode, Path, Path], exported: Path) -> None:
    cfg, checkpoint, _ = trained
    state, card = load_checkpoint(checkpoint), read_card(exported)
    assert card is not None
    assert (card.genotype.normal, card.genotype.reduction) == (
        GENOTYPES["nasnet_a"].normal,
        GENOTYPES["nasnet_a"].reduction,
    )
    assert card.spec == build_model(cfg, 4).trunk.spec
    assert card.pixel_mean == (125.3, 123.0, 113.9)
    assert card.format == "RGB"
    assert card.score == state["score"]
    assert 0 <= card.score["top1"] <= card.score["top5"] <= 1
    assert card.config["SOLVER.EPOCHS"] == 1


def test_file_has_the_trunk_alone(trained: tuple[CfgNode, Path, Path], exported: Path) -> None:
    weights = load_checkpoint(trained[1])["model"]
    tensors = load_file(exported)
    assert set(tensors) == {key for key in weights if key.startswith("trunk.")}
    for key, tensor in tensors.items():
        assert torch.equal(tensor, torch.where(tensor == 0, 0, weights[key])), key
    cleared = [k for k in tensors if not torch.equal(tensors[k], weights[k])]
    assert cleared
    assert all("depthwise" in key for key in cleared), "see the test of unreached taps"


def test_detector_computes_the_classifiers_features(
    trained: tuple[CfgNode, Path, Path], exported: Path
) -> None:
    """Bit for bit: both in channels-last order, as another order is computed by other kernels."""
    detector = DetectorTrainer.build_model(_detector_config(exported))
    Checkpointer(detector, save_to_disk=False).load(str(exported))
    classifier = build_model(trained[0], 4)
    classifier.load_state_dict(load_checkpoint(trained[1])["model"])
    classifier.to(memory_format=torch.channels_last)
    size = trained[0].DATA.IMAGE_SIZE  # at others, taps that saw only padding would count
    image = torch.randint(0, 256, (3, size, size)).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]))
    seen = detector.preprocess_image([{"image": image}]).tensor
    torch.testing.assert_close(seen[0], (image - mean) / std)
    seen = seen.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        got = detector.eval().backbone.bottom_up.trunk(seen)
        expected = classifier.eval().trunk(seen)
    assert set(got) == set(expected)
    for name in got:
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=0)


def test_converted_weights_have_no_card_and_are_no_mistake(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "converted.safetensors"
    about = {"variant": "nasnet_a_mobile", "origin": "keras", "pool_padding": "keras"}
    write_weights(str(path), load_file(exported), about)
    assert read_card(path) is None
    check_backbone(_detector_config(path, "MODEL.NASNET.POOL_PADDING", "keras"))


def test_backbone_of_other_pools_is_refused(exported: Path) -> None:
    cfg = _detector_config(exported)
    cfg.MODEL.NASNET.POOL_PADDING = "keras"
    with pytest.raises(ConfigError, match="pool_padding was 'tf', is 'keras'"):
        check_backbone(cfg)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["INPUT.FORMAT", "BGR"], "INPUT.FORMAT: wanted RGB, got BGR"),
        (["MODEL.PIXEL_MEAN", "[113.9,123.0,125.3]"], r"MODEL.PIXEL_MEAN: wanted \[125.3, .* got \[113.9"),
        (["MODEL.PIXEL_STD", "[1,1,1]"], r"MODEL.PIXEL_STD: wanted \[63.0"),
        (["MODEL.NASNET.GENOTYPE", "amoebanet_a"], "the normal cell is another"),
        (["MODEL.NASNET.CHANNELS", "12"], "channels was 8, is 12"),
        (["MODEL.NASNET.VARIANT", "nasnet_a_large"], "skip_reduction_input was False, is True"),
    ],
)  # fmt: skip
def test_other_preprocessing_or_network_is_refused(
    exported: Path, opts: list[str], sentence: str
) -> None:
    cfg = _detector_config(exported, *opts)
    with pytest.raises(ConfigError, match=f"was trained as another backbone .*{sentence}"):
        check_backbone(cfg)


@pytest.mark.parametrize("kind", ["exported", "classifier", "detector"])
@pytest.mark.parametrize("builder", [DetectorTrainer.build_model, Predictor, DefaultPredictor])
def test_whatever_builds_a_detector_refuses_another_preprocessing(
    trained: tuple[CfgNode, Path, Path],
    exported: Path,
    tmp_path: Path,
    kind: str,
    builder: Callable[[CfgNode], Any],
) -> None:
    path = {"exported": exported, "classifier": trained[1], "detector": tmp_path / "model_0.pth"}[
        kind
    ]
    if kind == "detector":
        cfg = _detector_config(exported, "OUTPUT_DIR", str(tmp_path), *write_tiny_dataset(tmp_path))
        register_config_datasets(cfg)
        DetectorTrainer(cfg).checkpointer.save("model_0")
    if builder is not Predictor:  # which demands the heads and the classes too: test_predict.py
        builder(_detector_config(path))
    with pytest.raises(ConfigError, match="another backbone .*INPUT.FORMAT: wanted RGB, got BGR"):
        builder(_detector_config(path, "INPUT.FORMAT", "BGR"))


@pytest.mark.parametrize("verb", ["predict", "train"])
def test_tools_say_it_in_one_sentence(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(_detector_config(exported, "INPUT.FORMAT", "BGR").dump())
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    words = ["--input", str(tmp_path), "--output", str(tmp_path / "found")]
    assert main([verb, "--config-file", str(config), *(words if verb == "predict" else [])]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"nasnet-det {verb}: {exported} was trained as another backbone than this "
        "config's: INPUT.FORMAT: wanted RGB, got BGR"
    )


def test_files_without_a_card_are_none_of_its_business(tmp_path: Path, exported: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    save_file(load_file(exported), plain)
    assert read_card(plain) is None
    assert read_card(tmp_path / "missing.safetensors") is None
    assert read_card("") is None
    broken = tmp_path / "broken.safetensors"
    save_file(load_file(exported), broken, {"nasnet_det_backbone": '{"genotype": 3}'})
    with pytest.raises(FileError, match="its card can't be understood"):
        read_card(broken)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["no.pth", "out.safetensors"], 1, "no.pth can't be read (No such file or directory)"),
        (["no.pth", "out.pth"], 2, "wanted an output that ends with .safetensors, got out.pth"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    sentence: str,
) -> None:
    def call() -> int:
        try:
            return main(["export-backbone", *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)

    assert call() == status
    assert capsys.readouterr().err == f"nasnet-det export-backbone: {sentence}\n"


def test_converted_weights_are_exported(tmp_path: Path) -> None:
    small = {"num_cells_per_stage": 1, "channels": 8}
    model = create_model("nasnet_a_mobile", 5, pool_padding="keras", **small).eval()
    about = {
        **{"variant": "nasnet_a_mobile", "spec": small, "origin": "keras", "num_classes": 5},
        **{"pool_padding": "keras", "class_order": "the source's"},
        "preprocessing": {
            "channels": "RGB",
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "input_size": 224,
        },
    }
    weights = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    write_weights(str(tmp_path / "c.safetensors"), weights, about)
    card, state, is_trunk = read_network(tmp_path / "c.safetensors")
    assert (card.pixel_mean, len(card.classes), is_trunk) == ((127.5,) * 3, 5, False)
    image = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        (logits,) = build_exportable(card, state, backbone=False)(image)
        torch.testing.assert_close(logits, model(image))
    with pytest.raises(CheckpointError, match="nasnet://nasnet_b: there is no such file"):
        read_network(Path("nasnet://nasnet_b"))
