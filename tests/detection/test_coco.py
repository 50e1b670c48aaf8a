"""Real COCO images and the large networks: what takes minutes (``make test-slow``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import run_command

pytest.importorskip("detectron2")

pytestmark = pytest.mark.slow

ONE_IMAGE = """
import sys, torch
import nasnet_det.detection as detection
from detectron2.data.detection_utils import read_image
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

config, image_file = sys.argv[1:]
cfg = detection.get_config(config, ["MODEL.DEVICE", "cpu"])
model = build_model(cfg)
image = torch.as_tensor(read_image(image_file, "RGB").transpose(2, 0, 1).copy()).float()

def resized(side):
    scale = side / min(image.shape[1:])
    size = [round(n * scale) for n in image.shape[1:]]
    return torch.nn.functional.interpolate(image[None], size, mode="bilinear")[0]

small = resized(320)
instances = Instances(tuple(small.shape[1:]))
instances.gt_boxes = Boxes(torch.tensor([[20.0, 30, 200, 220], [100, 90, 300, 310]]))
instances.gt_classes = torch.tensor([0, 79])
with EventStorage():
    losses = model.train()([{"image": small, "instances": instances}])
total = sum(losses.values())
total.backward()
assert total.isfinite(), losses
assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
torch.optim.SGD(model.parameters(), 1e-4).step()
model.zero_grad(set_to_none=True)
big = resized(800)
with torch.no_grad():
    (result,) = model.eval()([{"image": big, "height": 800, "width": 800}])
assert result["instances"].pred_boxes.tensor.isfinite().all()
import resource
print("peak GiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.parametrize("design", ["FPN", "C4"])
def test_coco_trains_and_evaluates_through_detectron2_datasets(
    design: str, reference_data: Path, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "coco").symlink_to(reference_data / "coco_small")
    run = tmp_path / "run"
    command = [
        "train", "--config-file",
        f"quick_schedules/faster_rcnn_nasnet_a_mobile_{design}_instant_test.yaml",
        "OUTPUT_DIR", str(run), "SEED", "1",
    ]  # fmt: skip
    done = run_command(*command, env={"DETECTRON2_DATASETS": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "coco_2017_train: 208 images, 1644 boxes, 80 classes" in done.stdout + done.stderr
    (result,) = json.loads((run / "results.json").read_text())["datasets"].values()
    scores = result["results"]["bbox"]
    assert 0 <= scores["AP"] < 5, "nothing is learned in ten iterations"
    assert len([name for name in scores if name.startswith("AP-")]) == 80
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [9, 10], "ten iterations, then the evaluation"
    assert lines[-1]["bbox/AP"] == scores["AP"]
    assert (run / "model_final.pth").is_file()


@pytest.mark.parametrize("design", ["FPN_3x", "C4_800_3x", "C4_1200_3x"])
def test_large_network_trains_and_evaluates_within_24_gib(
    design: str, reference_data: Path, repository: Path
) -> None:
    """One step at a short side of 320 pixels, one image at 800."""
    image = sorted((reference_data / "coco_small" / "val2017").glob("*.jpg"))[0]
    config = f"COCO-Detection/faster_rcnn_nasnet_a_large_{design}.yaml"
    done = subprocess.run(
        [sys.executable, "-c", ONE_IMAGE, config, str(image)],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) < 24
