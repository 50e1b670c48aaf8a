"""Files of weights: nothing inside runs, and what does not fit the model is told."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from tiny_detection import Payload, make_toy_detector

from nasnet_det.detection import NASNetBackbone
from nasnet_det.detection.checkpoint import Checkpointer, CheckpointError, WeightsError
from nasnet_det.network import create_model
from nasnet_det.weights import convert_weights, write_weights
from nasnet_det.weights.classifier import export_weights


def _make_checkpointer(folder: Path) -> Checkpointer:
    return Checkpointer(make_toy_detector(), str(folder))


# ---- Refusing code


@pytest.mark.parametrize("extension", ["pth", "pkl", "pyth"])
def test_weights_that_run_code_are_refused(extension: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / f"evil.{extension}"
    content = {"model": {"weight": Payload(mark)}, "model_state": {}, "__author__": "someone"}
    if extension == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="is refused: it holds Python objects") as info:
        _make_checkpointer(tmp_path).resume_or_load(str(path), resume=False)
    assert str(path) in str(info.value)
    assert not mark.exists()
    if extension == "pkl":
        pickle.loads(path.read_bytes())
        assert mark.exists(), "the payload works where nobody stops it"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_of_arrays_loads_like_those_of_the_model_zoo(tmp_path: Path, protocol: int) -> None:
    weight = np.arange(8, dtype=np.float32).reshape(2, 4)
    counter = np.asfortranarray(np.ones((2, 3)))
    content = {
        "model": {"head.weight": weight, "extra": counter, "scalar": np.array(3)},
        "__author__": "Detectron2 Model Zoo",
        "score": np.float32(1.5),
        "bytes": b"\xff\x00",
        "set": {1, 2},
    }
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    checkpointer = Checkpointer(nn.ModuleDict({"head": nn.Linear(4, 2)}), str(tmp_path))
    data = checkpointer.load(str(path), checkpointables=[])
    assert torch.equal(checkpointer.model["head"].weight, torch.from_numpy(weight))
    assert (data["score"], data["bytes"], data["set"]) == (1.5, b"\xff\x00", {1, 2})


# ---- Weights


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module.net.body."])
def test_weights_of_a_bare_trunk_find_their_place(
    prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trunk = make_toy_detector().backbone.bottom_up.trunk
    nn.init.constant_(trunk[0].bias, 7.0)
    state = {prefix + key: value for key, value in trunk.state_dict().items()}
    head = {f"{prefix}classifier.weight": torch.zeros(2)}
    torch.save({"state_dict": {**state, **head}}, tmp_path / "w.pth")
    checkpointer = _make_checkpointer(tmp_path)
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        checkpointer.resume_or_load(str(tmp_path / "w.pth"), resume=False)
    assert checkpointer.model.backbone.bottom_up.trunk[0].bias.tolist() == [7.0] * 4
    assert (
        "w.pth: 6 of 6 tensors of the backbone and 7 of 11 of the model matched, 4 missing "
        "(backbone.fpn_lateral2.weight, backbone.fpn_lateral2.bias, head.weight, ...), "
        "1 unexpected (classifier.weight), 0 of another shape"
    ) in caplog.text


def test_weights_of_a_trunk_are_split_between_both_halves_of_a_c4_detector(tmp_path: Path) -> None:
    def make(*names: str) -> nn.Module:
        holder = nn.Module()
        holder.trunk = nn.ModuleDict({name: nn.Linear(1, 1) for name in names})
        return holder

    model = nn.ModuleDict({"backbone": make("cell_0", "cell_1"), "roi_heads": nn.Module()})
    model["roi_heads"].res5 = make("cell_2")
    source = make("cell_0", "cell_1", "cell_2").trunk
    torch.save(source.state_dict(), tmp_path / "w.pth")
    Checkpointer(model, "").load(str(tmp_path / "w.pth"), checkpointables=[])
    assert torch.equal(model["backbone"].trunk["cell_1"].weight, source["cell_1"].weight)
    assert torch.equal(model["roi_heads"].res5.trunk["cell_2"].weight, source["cell_2"].weight)


def test_weights_of_another_architecture_stop_the_training(tmp_path: Path) -> None:
    other = nn.ModuleDict({"layer1": nn.Linear(2, 2), "layer2": nn.Linear(2, 2)})
    torch.save(other.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="training would start from noise") as info:
        _make_checkpointer(tmp_path).resume_or_load(str(tmp_path / "w.pth"), resume=False)
    message = str(info.value)
    assert message.startswith("w.pth: 0 of 6 tensors of the backbone")
    assert "4 unexpected (layer1.weight, layer1.bias, layer2.weight, ...)" in message
    assert "\n" not in message


def test_weights_with_another_number_of_classes_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_toy_detector()
    source.head = nn.Linear(4, 9)
    torch.save({"model": source.state_dict()}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="nasnet_det"):
        _make_checkpointer(tmp_path).resume_or_load(str(tmp_path / "w.pth"), resume=False)
    assert "0 missing, 0 unexpected, 2 of another shape (head.weight, head.bias)" in caplog.text


def test_training_from_a_part_of_the_weights_warns_of_what_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = make_toy_detector().state_dict()
    del state["head.weight"], state["backbone.bottom_up.trunk.1.bias"]
    torch.save({"model": state}, tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING, logger="nasnet_det"):
        _make_checkpointer(tmp_path).resume_or_load(str(tmp_path / "w.pth"), resume=False)
    assert "1 tensors of the trunk are not in it and start anew (backbone.bottom_up" in caplog.text
    assert "w.pth: not in it, so made anew: head.weight" in caplog.text


@pytest.mark.parametrize("fault", ["backbone only", "other classes"])
def test_trained_detector_without_every_tensor_is_refused(fault: str, tmp_path: Path) -> None:
    source = make_toy_detector()
    if fault == "other classes":
        source.head = nn.Linear(4, 9)
    state = {
        k: v
        for k, v in source.state_dict().items()
        if fault != "backbone only" or "fpn" in k or "trunk" in k
    }
    torch.save({"model": state}, tmp_path / "w.pth")
    trained = Checkpointer(make_toy_detector(), save_to_disk=False, is_trained=True)
    with pytest.raises(WeightsError, match="wants every tensor, so give the checkpoint of a trai"):
        trained.load(str(tmp_path / "w.pth"))


def test_classes_lie_in_the_file_and_are_compared(tmp_path: Path) -> None:
    def make(*classes: str, **options: Any) -> Checkpointer:
        extra = {"classes": list(classes)}
        return Checkpointer(make_toy_detector(), str(tmp_path), extra=extra, **options)

    make("cat", "dog").save("model_0000001", iteration=1, trainer={})
    path = str(tmp_path / "model_0000001.pth")
    told = "label 0 is 'cat' in the file and 'dog' in the data"
    with pytest.raises(WeightsError, match=told):
        make("dog", "cat").resume_or_load("", resume=True)
    with pytest.raises(WeightsError, match=told):
        make("dog", "cat", is_trained=True).load(path)
    with pytest.raises(WeightsError, match="label 1 is 'dog' in the file and 'none' in the data"):
        make("cat", is_trained=True).load(path)
    make("cat", "dog", is_trained=True).load(path)
    make(is_trained=True).load(path)
    make("dog", "cat").resume_or_load(path, resume=False)  # new classes for old weights


def test_safetensors_load(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    source = make_toy_detector()
    safetensors.save_file(source.state_dict(), tmp_path / "w.safetensors")
    checkpointer = _make_checkpointer(tmp_path)
    checkpointer.resume_or_load(str(tmp_path / "w.safetensors"), resume=False)
    assert torch.equal(checkpointer.model.head.weight, source.head.weight)


@pytest.mark.parametrize("extension", ["safetensors", "pth"])
def test_converted_weights_load_and_other_pools_are_told(
    extension: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = {"channels": 8, "num_cells_per_stage": 1, "stem_multiplier": 1}
    network = create_model("nasnet_a_large", 10, **size)
    theirs = export_weights(network.state_dict(), "torch", "nasnet_a_large", **size)
    converted = convert_weights(theirs, variant="nasnet_a_large", **size)
    path = str(tmp_path / f"w.{extension}")
    write_weights(path, converted.weights, converted.metadata)
    told = f"w.{extension}: these weights are timm's; MODEL.NASNET.POOL_PADDING timm gives"
    for pool_padding in ("tf", "timm"):
        caplog.clear()
        model = nn.Module()
        model.backbone = NASNetBackbone("nasnet_a_large", pool_padding=pool_padding, **size)
        Checkpointer(model, "").load(path, checkpointables=[])
        loaded = model.backbone.trunk.state_dict()
        for name, tensor in network.trunk.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                assert torch.equal(loaded[name], tensor), name
        assert (told in caplog.text) == (pool_padding == "tf")


def test_weights_by_detectron2s_heuristics_still_load(tmp_path: Path) -> None:
    from detectron2.config import get_cfg
    from detectron2.modeling.backbone import build_backbone

    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    model = nn.ModuleDict({"backbone": build_backbone(cfg)})
    caffe2 = {"conv1_w": np.full((64, 3, 7, 7), 0.25, dtype=np.float32)}
    for key, value in model["backbone"].state_dict().items():  # names as in Caffe2's files
        if key.startswith("res") and key.endswith("weight") and value.dim() == 4:
            stage, block, conv = key.split(".")[:3]
            branch = {"conv1": "branch2a", "conv2": "branch2b", "shortcut": "branch1"}[conv]
            caffe2[f"{stage}_{block}_{branch}_w"] = np.full(value.shape, 0.5, dtype=np.float32)
    for name in [name for name in caffe2 if "_branch" in name]:
        width = caffe2[name].shape[0]
        for suffix in ("s", "b"):
            caffe2[f"{name[:-2]}_bn_{suffix}"] = np.ones(width, dtype=np.float32)
    caffe2.update({f"res_conv1_bn_{s}": np.ones(64, dtype=np.float32) for s in "sb"})
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps({"blobs": caffe2}))
    Checkpointer(model, "").load(str(tmp_path / "R-18.pkl"), checkpointables=[])
    assert model["backbone"].stem.conv1.weight.unique().tolist() == [0.25]
    assert model["backbone"].res3[0].conv2.weight.unique().tolist() == [0.5]


def _bytes_of(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("absent.pth", None, "there is no such file"),
        ("text.pth", b"hello", "is truncated or no file of weights"),
        ("letter.pth", b"x", "is truncated or no file of weights"),
        ("empty.pth", b"", "is truncated or no file of weights"),
        ("half.pth", _bytes_of({"model": {"w": torch.zeros(99)}})[:700], "is truncated or no file"),
        ("half.pkl", pickle.dumps({"model": {"w": 1.0}})[:9], "is truncated or no file of weights"),
        ("text.safetensors", b"hello", "is truncated or no file of weights"),
        ("other.pth", _bytes_of({"epoch": 3, "net": [1]}), "got keys epoch, net"),
        ("list.pth", _bytes_of([1, 2]), "holds no weights: wanted names and tensors"),
        ("no_tensors.pkl", pickle.dumps({"blobs": {"a": "b"}}), "holds no weights"),
    ],
)
def test_weights_that_are_none_give_one_sentence(
    name: str, content: bytes | None, told: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    checkpointer = _make_checkpointer(tmp_path)
    for _ in range(2):  # the first fault leaves the checkpointer usable
        with pytest.raises(CheckpointError, match=told.replace("(", r"\(")) as info:
            checkpointer.resume_or_load(str(tmp_path / name), resume=False)
        assert name in str(info.value)
        assert "\n" not in str(info.value)
