"""What an ONNX detector can't hold is one sentence: the part, the target, what to do."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")
pytest.importorskip("onnxruntime")

import odd_networks
from command import ENVIRONMENT
from tiny_detection import write_tiny_config, write_tiny_dataset, write_tiny_genotype

from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.detection import get_config
from nasnet_det.detection.trainer import Trainer

ONE_MAP = ["MODEL.RPN.IN_FEATURES", "['c4']", "MODEL.ROI_HEADS.IN_FEATURES", "['c4']", "MODEL.ANCHOR_GENERATOR.SIZES", "[[32]]"]  # fmt: skip
ROTATED = ["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator", "MODEL.ANCHOR_GENERATOR.ANGLES", "[[-90,0,90]]", "MODEL.PROPOSAL_GENERATOR.NAME", "RRPN", "MODEL.RPN.BBOX_REG_WEIGHTS", "(1.0,1.0,1.0,1.0,1.0)", "MODEL.ROI_HEADS.NAME", "RROIHeads", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(10.0,10.0,5.0,5.0,1.0)"]  # fmt: skip
HOLDS = "an ONNX detector holds upright boxes, scores, classes and masks"
PYTHON = "ONNX can't hold this network: odd_networks.py, line {line} of it reads numbers of the picture's maps into Python ({method}), and the file would keep those of one picture; use torch's operations there (torch.where for a branch), or run the network in PyTorch, which needs no export"  # fmt: skip


def _write_run(folder: Path, *words: str) -> list[str]:
    """The words that export a detector with random weights."""
    torch.manual_seed(0)
    words = ("MODEL.NASNET.GENOTYPE", write_tiny_genotype(folder), *words)
    words += ("MODEL.ROI_HEADS.NUM_CLASSES", "2", *write_tiny_dataset(folder / "data"))
    weights = folder / "model.pth"
    cfg = get_config(write_tiny_config(folder), [*words, "MODEL.WEIGHTS", str(weights)])
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, weights)
    (folder / "config.yaml").write_text(cfg.dump())
    out = str(folder / "out.onnx")
    return ["export", str(weights), out, "--config-file", str(folder / "config.yaml")]


def _refuse(folder: Path, capfd: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The sentence of an export that leaves nothing behind."""
    before = sorted(folder.rglob("*"))
    capfd.readouterr()
    assert main(words) == 1
    output, error = capfd.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return error.strip().removeprefix("nasnet-det export: ")


@pytest.mark.parametrize(
    ("backbone", "method"), [("NumpyMap", "numpy"), ("BranchMap", "bool")]
)  # fmt: skip
def test_python_that_a_trace_cannot_follow_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], backbone: str, method: str
) -> None:
    words = _write_run(tmp_path, "MODEL.BACKBONE.NAME", backbone, *ONE_MAP)
    source, start = inspect.getsourcelines(getattr(odd_networks, backbone))
    (offset,) = (i for i, line in enumerate(source) if "numpy()" in line or "# the branch" in line)
    assert _refuse(tmp_path, capfd, words) == PYTHON.format(line=start + offset, method=method)


def test_python_that_reads_sizes_and_weights_is_exported(tmp_path: Path) -> None:
    words = _write_run(tmp_path, "MODEL.BACKBONE.NAME", "WeightMap", *ONE_MAP)
    assert main(words) == 0
    assert (tmp_path / "out.onnx").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["MODEL.BACKBONE.NAME", "FourierMap", *ONE_MAP], "ONNX in opset 18 can't hold the operation aten::fft_fft2 of this network: put another in its place, or run the network in PyTorch, which needs no export"),
        (["MODEL.BACKBONE.NAME", "SizedMap", *ONE_MAP], "out.onnx is not written: onnxruntime can't run this network on an input of 3x64x96 ("),
        (["MODEL.BACKBONE.NAME", "RandomMap", *ONE_MAP], "out.onnx is not written: of "),
        (["MODEL.ROI_HEADS.NAME", "DepthHeads"], f"DepthHeads finds pred_depth as well, and {HOLDS} alone: run it in PyTorch, with nasnet-det predict, or let it find these alone while torch.jit.is_tracing()"),
        (ROTATED, f"MODEL.ANCHOR_GENERATOR.NAME: wanted one for upright boxes for an export, since {HOLDS}, got 'RotatedAnchorGenerator'"),
        (["MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.MASK_ON", "True"], f"MODEL.META_ARCHITECTURE: wanted GeneralizedRCNN or RetinaNet or FCOS for an export, since {HOLDS}, got 'PanopticFPN'"),
    ],
)  # fmt: skip
def test_part_that_onnx_cannot_hold_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    told = _refuse(tmp_path, capfd, _write_run(tmp_path, *words))
    assert told.removeprefix(f"{tmp_path}/").startswith(sentence)


def test_detector_that_is_sure_of_nothing_is_compared_all_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sure = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.999"]
    words = _write_run(tmp_path, "MODEL.BACKBONE.NAME", "RandomMap", *ONE_MAP, *sure)
    told = _refuse(tmp_path, capfd, words)
    assert "out.onnx is not written: of " in told
    assert "a part of the network does something else in ONNX's opset 18 than in PyTorch" in told


@pytest.mark.parametrize(
    ("opset", "sentence"),
    [
        (9, "ONNX in opset 9 can't hold the operation Pad of this network: opset 11 has it"),
        (11, "than in PyTorch: give opset 18, or run it there, with nasnet-det predict"),
        (1000, "opset: wanted one from 7 to "),
        (20, ""),
    ],
)
def test_opset_of_a_detector_is_the_one_that_was_asked_for_or_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], opset: int, sentence: str
) -> None:
    onnx = pytest.importorskip("onnx")
    words = [*_write_run(tmp_path), "--opset", str(opset)]
    if sentence:
        assert sentence in _refuse(tmp_path, capfd, words)
        return
    assert main(words) == 0
    written = {entry.domain: entry.version for entry in onnx.load(words[2]).opset_import}
    assert written[""] == opset


def test_new_process_says_it_in_one_line(tmp_path: Path) -> None:
    words = _write_run(tmp_path, "MODEL.BACKBONE.NAME", "FourierMap", *ONE_MAP)
    code = "import sys, odd_networks\nfrom nasnet_det.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    support = str(Path(odd_networks.__file__).parent)
    path = os.pathsep.join([support, ENVIRONMENT["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *words],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("nasnet-det export: ONNX in opset 18 can't hold the operation")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_part_that_needs_compiled_operations_is_one_sentence(tmp_path: Path) -> None:
    try:
        import detectron2._C  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("this Detectron2 has them")
    words = ["MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.FPN.IN_FEATURES", "['res4','res5']"]  # fmt: skip
    words += ["MODEL.RESNETS.OUT_FEATURES", "['res4','res5']"]
    words += ["MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[False,True,True,True]"]
    cfg = get_config(write_tiny_config(tmp_path), words)
    with pytest.raises(
        ConfigError, match="DeformConv needs Detectron2's compiled operations.*compile Detectron2"
    ):
        Trainer.build_model(cfg)
