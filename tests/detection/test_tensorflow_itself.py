"""The detector for TensorFlow's weights beside TensorFlow itself, which runs in processes apart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_variables
import torch
from command import run_command

pytest.importorskip("detectron2")

from nasnet_det.detection.resize import SquareResize
from nasnet_det.detection.tensorflow import CropAndResize, suppress

pytestmark = pytest.mark.peers


def _run_tensorflow(code: str, folder: Path, **arrays: np.ndarray) -> np.ndarray:
    """``out`` of a piece of code that sees ``tf`` and the arrays, run in a process of its own."""
    tensorflow_variables.skip_without_tensorflow()
    np.savez(folder / "in.npz", **arrays)
    program = (
        "import numpy as np, tensorflow as tf\n"
        "globals().update(np.load('in.npz'))\n"
        f"{code}\n"
        "np.save('out.npy', out)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npy")


def test_operations_are_those_of_tensorflow_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    feature = rng.normal(size=(2, 6, 9, 13)).astype(np.float32)
    corner = rng.uniform(0, 60, (50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (50, 2))], axis=1).astype("float32")
    picture = rng.integers(0, 256, (37, 23, 3), dtype=np.uint8)
    code = (
        "normal = boxes[:, [1, 0, 3, 2]] / np.float32([100, 120, 100, 120])\n"
        "which = np.int32([0] * 30 + [1] * 20)\n"
        "crops = tf.image.crop_and_resize(feature.transpose(0, 2, 3, 1), normal, which, [5, 5])\n"
        "square = tf.compat.v1.image.resize_images(picture, [50, 50])\n"
        "kept = tf.image.non_max_suppression(boxes, scores, 12, 0.3)\n"
        "out = np.concatenate([np.ravel(v).astype('float32') for v in (crops, square, kept)])"
    )
    scores = rng.random(50, np.float32)
    wanted = _run_tensorflow(
        code, tmp_path, feature=feature, boxes=boxes, picture=picture, scores=scores
    )
    ours = torch.from_numpy(boxes)
    crops = CropAndResize(5)(torch.from_numpy(feature), [ours[:30], ours[30:]], (100, 120))
    square = SquareResize(50).get_transform(picture).apply_image(picture)
    kept = suppress(ours, torch.from_numpy(scores), 0.3, 12)
    found = [crops.permute(0, 2, 3, 1).numpy(), square, kept.numpy()]
    np.testing.assert_allclose(
        np.concatenate([np.ravel(v) for v in found]), wanted, rtol=1e-5, atol=1e-4
    )


def test_checkpoint_that_tensorflow_wrote_becomes_a_detector_of_coco(
    repository: Path, reference_data: Path, tmp_path: Path
) -> None:
    """All of it at full size: converted, loaded, and run on two pictures, small ones for time."""
    shapes = tensorflow_variables.list_detector(**tensorflow_variables.LARGE)
    prefix = tmp_path / "model.ckpt"
    tensorflow_variables.write_checkpoint(prefix, tensorflow_variables.fill(shapes))
    out = tmp_path / "detector.safetensors"
    done = _run_tool(repository, "convert_weights.py", str(prefix), "--out", str(out))
    first, *_, config, weights = done.stdout.splitlines()
    assert first == f"nasnet_a_large of tf_detection: {len(shapes)} tensors, 80 classes"
    coco = tmp_path / "two.json"
    data = json.loads((reference_data / "coco_small" / "annotations" / "instances_val2017.json").read_text())  # fmt: skip
    keep = {item["id"] for item in data["images"][:2]}
    data["images"] = data["images"][:2]
    data["annotations"] = [item for item in data["annotations"] if item["image_id"] in keep]
    coco.write_text(json.dumps(data))
    options = [
        *("DATASETS.TEST_JSON", str(coco)),
        *("DATASETS.TEST_IMAGES", str(reference_data / "coco_small" / "val2017")),
        *("INPUT.SQUARE_TEST", "160", "MODEL.RPN.POST_NMS_TOPK_TEST", "6"),
        *("DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(tmp_path / "output")),
    ]
    done = _run_tool("train", "--eval-only", "--config-file", config.strip(), *weights.split(), *options
    )  # fmt: skip
    log = done.stdout + done.stderr
    assert re.search(r"(\d+) of \1 tensors of the backbone and (\d+) of \2 of the model", log)
    assert (tmp_path / "output" / "results.json").is_file()


def _run_tool(*words: str) -> subprocess.CompletedProcess[str]:
    done = run_command(*words, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done
