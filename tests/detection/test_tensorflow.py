"""The detector for TensorFlow's weights against TensorFlow's rules, computed apart in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow_detector
import tensorflow_variables
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from nasnet_det.config import ConfigError
from nasnet_det.detection import get_config
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.resize import SquareResize, build_test_resize
from nasnet_det.detection.tensorflow import CropAndResize, suppress
from nasnet_det.detection.trainer import Trainer
from nasnet_det.weights import convert_weights, read_weights, write_weights
from nasnet_det.weights.detector import UNUSED_COCO_IDS

CONFIG = "COCO-Detection/faster_rcnn_nasnet_a_large_C4_1200_tf.yaml"
SMALL = {"num_cells": 2, "channels": 8, "stem_channels": 32, "skips_reduction": True}
SPEC: dict[str, Any] = {"num_cells_per_stage": 2, "channels": 8, "stem_multiplier": 1}
NUM_PROPOSALS, NUM_DETECTIONS, CROP = 40, 25, 4
OPTIONS = [
    *("MODEL.DEVICE", "cpu", "MODEL.NASNET.NUM_CELLS_PER_STAGE", "2", "MODEL.NASNET.CHANNELS", "8"),
    *("MODEL.NASNET.STEM_MULTIPLIER", "1", "MODEL.RPN.CONV_DIMS", "[6]"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", str(NUM_PROPOSALS)),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", str(CROP)),
    *("TEST.DETECTIONS_PER_IMAGE", str(NUM_DETECTIONS), "INPUT.SQUARE_TEST", "100"),
]
CATEGORIES = [i for i in range(1, 91) if i not in UNUSED_COCO_IDS]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    found = tensorflow_variables.fill(tensorflow_variables.list_detector(**SMALL, rpn_width=6))
    found["Conv/weights"] *= 4  # so that ReLU6 has something to cut off,
    for stage in ("First", "Second"):  # and boxes leave the image
        found[f"{stage}StageBoxPredictor/BoxEncodingPredictor/weights"] *= 6
    return found


@pytest.fixture(scope="module")
def file(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("weights") / "detector.safetensors")
    converted = convert_weights(arrays, variant="nasnet_a_large", **SPEC)
    write_weights(path, converted.weights, converted.metadata)
    return path


@pytest.fixture(scope="module")
def model(file: str) -> nn.Module:
    detector = build_model(get_config(CONFIG, OPTIONS)).eval()
    Checkpointer(detector, save_to_disk=False).load(file)
    return detector.double()


@pytest.fixture(scope="module")
def images() -> ImageList:
    generator = torch.Generator().manual_seed(2)
    return ImageList(torch.randn(1, 3, 101, 133, generator=generator).double(), [(101, 133)])


@pytest.fixture(scope="module")
def features(model: nn.Module, images: ImageList) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model.backbone(images.tensor)


@pytest.fixture(scope="module")
def wanted(
    arrays: dict[str, np.ndarray], features: dict[str, torch.Tensor]
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """TensorFlow's proposals."""
    return tensorflow_detector.propose(features["c4"].numpy(), arrays, (101, 133), NUM_PROPOSALS)


def test_file_fills_the_detector_and_another_config_is_warned_of(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = "detector.safetensors: these weights are a whole detector of TensorFlow's"
    weights = read_weights(file)["model"]
    for options in ([], ["MODEL.ROI_HEADS.NAME", "NASNetROIHeads"]):
        caplog.clear()
        detector = build_model(get_config(CONFIG, [*OPTIONS, *options]))
        Checkpointer(detector, save_to_disk=False).load(file)
        assert (told in caplog.text) == bool(options)
        if not options:
            assert detector.state_dict().keys() == weights.keys()
            assert all(torch.equal(v, weights[k]) for k, v in detector.state_dict().items())


def _swap(boxes: torch.Tensor) -> np.ndarray:
    """x0, y0, x1, y1 -> y0, x0, y1, x1."""
    return boxes.numpy()[:, [1, 0, 3, 2]]


def test_proposals_are_tensorflows(
    model: nn.Module, images: ImageList, features: dict[str, torch.Tensor], wanted: Any
) -> None:
    boxes, scores, counts = wanted
    assert counts["above 6"] > 10, "ReLU6 is not ReLU"
    assert counts["kept"] == NUM_PROPOSALS, "the limit is one"
    assert counts["without area"] > 0, "clipping after the suppression is not clipping before"
    with torch.no_grad():
        (found,), losses = model.proposal_generator(images, features)
    assert losses == {}
    assert len(found) == len(boxes) == NUM_PROPOSALS - counts["without area"]
    np.testing.assert_allclose(found.objectness_logits.sigmoid().numpy(), scores, atol=1e-5)
    np.testing.assert_allclose(_swap(found.proposal_boxes.tensor), boxes, atol=1e-3)


def test_crops_are_tensorflows(features: dict[str, torch.Tensor], wanted: Any) -> None:
    boxes = np.concatenate([wanted[0][:8], [[0, 0, 101, 133]]])  # the whole image too
    ours = [torch.from_numpy(boxes[:, [1, 0, 3, 2]])]
    found = CropAndResize(CROP)(features["c4"], ours, (101, 133))
    expected = tensorflow_detector.crop_and_resize(
        features["c4"][0].numpy(), boxes, (101, 133), CROP
    )
    assert expected.std() > 0.1
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    corners = features["c4"][0][:, [0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(found[-1][:, [0, 0, -1, -1], [0, -1, 0, -1]], corners, atol=1e-4)


def test_crops_of_two_images_are_those_of_each(features: dict[str, torch.Tensor]) -> None:
    feature = torch.cat([features["c4"], features["c4"].flip(3)])
    boxes = torch.tensor([[3.0, 5, 70, 90], [20, 0, 133, 60]]).double()
    crop = CropAndResize(CROP)
    both = crop(feature, [boxes, boxes[:1]], (101, 133))
    first = crop(feature[:1], [boxes], (101, 133))
    second = crop(feature[1:], [boxes[:1]], (101, 133))
    torch.testing.assert_close(both, torch.cat([first, second]))
    assert crop(feature, [boxes[:0], boxes[:0]], (101, 133)).shape == (0, feature.shape[1], 4, 4)


def test_detections_are_tensorflows(
    model: nn.Module,
    arrays: dict[str, np.ndarray],
    images: ImageList,
    features: dict[str, torch.Tensor],
    wanted: Any,
) -> None:
    proposals, *_ = wanted
    given = Instances((101, 133))
    given.proposal_boxes = Boxes(torch.from_numpy(proposals[:, [1, 0, 3, 2]]))
    crops = tensorflow_detector.crop_and_resize(
        features["c4"][0].numpy(), proposals, (101, 133), CROP
    )
    with torch.no_grad():
        pooled = model.roi_heads.res5(torch.from_numpy(crops)).mean(dim=(2, 3)).numpy()
        (found,), _ = model.roi_heads(images, features, [given])
    boxes, scores, categories, probabilities = tensorflow_detector.detect(
        pooled, arrays, proposals, (101, 133), CATEGORIES, NUM_DETECTIONS
    )
    assert probabilities[:, list(UNUSED_COCO_IDS)].sum(axis=1).min() > 0.05, "which count"
    assert len(found) == NUM_DETECTIONS
    np.testing.assert_allclose(found.scores.numpy(), scores, atol=1e-5)
    assert [CATEGORIES[label] for label in found.pred_classes] == categories.tolist()
    np.testing.assert_allclose(_swap(found.pred_boxes.tensor), boxes, atol=1e-3)
    assert set(found.get_fields()) == {"pred_boxes", "scores", "pred_classes"}


def test_negative_limit_gives_all_detections(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = model.roi_heads.box_predictor
    given = Instances((90, 90))
    given.proposal_boxes = Boxes(torch.tensor([[0.0, 0, 30, 30], [40, 40, 80, 80]]))
    scores, deltas = torch.full((2, 81), 1 / 81).log(), torch.zeros(2, 320)
    for limit, number in ((3, 3), (-1, 160)):
        monkeypatch.setattr(predictor, "test_topk_per_image", limit)
        (found,), (regions,) = predictor.inference((scores, deltas), [given])
        assert len(found) == len(regions) == number


def test_suppression_stops_early_with_the_same_result() -> None:
    corner = torch.rand(3000, 2) * 50
    boxes = torch.cat([corner, corner + 5 + 40 * torch.rand(3000, 2)], dim=1)
    scores = torch.rand(3000)
    everything = suppress(boxes, scores, 0.5, 3000)
    assert 20 < len(everything) < 3000
    for limit in (1, 10, len(everything) - 1, len(everything)):
        assert suppress(boxes, scores, 0.5, limit).tolist() == everything[:limit].tolist()
    by_hand = tensorflow_detector.suppress(boxes.numpy(), scores.numpy(), 0.5, 3000)
    assert everything.tolist() == by_hand
    assert len(suppress(boxes[:0], scores[:0], 0.5, 5)) == 0


@pytest.mark.parametrize(("height", "width", "side"), [(7, 5, 12), (30, 41, 9), (8, 8, 8)])
def test_square_is_tensorflows(height: int, width: int, side: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    transform = SquareResize(side).get_transform(picture)
    found = transform.apply_image(picture)
    assert (found.shape, found.dtype) == ((side, side, 3), np.float32)
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            near = [
                (picture[min(int(y) + a, height - 1), min(int(x) + b, width - 1)], weight)
                for a, wy in ((0, 1 - y % 1), (1, y % 1))
                for b, wx in ((0, 1 - x % 1), (1, x % 1))
                for weight in [wy * wx]
            ]
            expected = sum(pixel * weight for pixel, weight in near)
            np.testing.assert_allclose(found[i, j], expected, atol=1e-2)
    box = transform.apply_box(np.array([[0, 0, width, height / 2]]))
    np.testing.assert_allclose(box, [[0, 0, side, side / 2]])


def test_whole_detector_takes_a_distorted_picture_and_gives_boxes_in_its_pixels(
    model: nn.Module,
) -> None:
    cfg = get_config(CONFIG, OPTIONS)
    picture = np.random.default_rng(1).integers(0, 256, (60, 150, 3), dtype=np.uint8)
    square = build_test_resize(cfg).get_transform(picture).apply_image(picture)
    given = {"image": torch.from_numpy(square.transpose(2, 0, 1)), "height": 60, "width": 150}
    with torch.no_grad():
        (result,) = model.float()([given])
    model.double()
    assert given["image"].shape == (3, 100, 100)
    boxes = result["instances"].pred_boxes.tensor
    assert len(boxes) == NUM_DETECTIONS
    assert result["instances"].image_size == (60, 150)
    assert boxes[:, 2].max() > 100
    assert boxes[:, 3].max() <= 60


def test_detector_trains() -> None:
    model = build_model(get_config(CONFIG, OPTIONS)).train()
    instances = Instances((90, 120))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10, 60, 80], [30, 5, 110, 40]]))
    instances.gt_classes = torch.tensor([3, 79])
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    with EventStorage() as storage:
        losses = model([{"image": image, "instances": instances}])
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.roi_heads.box_predictor.cls_score.weight.grad.shape[0] == 91
    assert 0 <= storage.latest()["fast_rcnn/cls_accuracy"][0] <= 1


def test_impossible_square_is_explained() -> None:
    cfg = get_config(CONFIG, ["INPUT.SQUARE_TEST", "-1"])
    with pytest.raises(
        ConfigError, match="INPUT.SQUARE_TEST: wanted a number of pixels, or 0, got -1"
    ):
        build_test_resize(cfg)


def test_impossible_number_of_classes_is_explained() -> None:
    cfg = get_config(CONFIG, [*OPTIONS, "MODEL.NASNET.UNUSED_CLASSES", "-2"])
    with pytest.raises(ConfigError, match="UNUSED_CLASSES: wanted at least 0, got -2"):
        Trainer.build_model(cfg)
