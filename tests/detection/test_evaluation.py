"""Which evaluator, test-time augmentation, and several test sets."""

from __future__ import annotations

import gzip
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("detectron2")

from detectron2 import evaluation as evaluators
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.pascal_voc import register_pascal_voc
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances
from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError
from nasnet_det.detection import evaluation, get_config
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.evaluation import build_evaluator, check_evaluators, find_best_metric
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import MissingPackageError

VOC_OBJECT = """<annotation><filename>{0}.jpg</filename>
<size><width>96</width><height>64</height></size><object><name>dog</name><pose>x</pose>
<difficult>0</difficult><truncated>0</truncated><bndbox><xmin>21</xmin><ymin>11</ymin>
<xmax>60</xmax><ymax>40</ymax></bndbox></object></annotation>"""
BOX = [20.0, 10.0, 60.0, 40.0]  # the same in Detectron2's way


def _config(folder: Path, *words: Any) -> CfgNode:
    pairs = [*write_tiny_dataset(folder / "data"), "OUTPUT_DIR", str(folder / "run")]
    cfg = get_config(write_tiny_config(folder), [*pairs, *map(str, words)])
    register_config_datasets(cfg)
    return cfg


@pytest.fixture
def registered() -> Iterator[list[str]]:
    """Names that are forgotten at the end."""
    names: list[str] = []
    yield names
    for name in names:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def _register(names: list[str], name: str, **metadata: Any) -> str:
    DatasetCatalog.register(name, list)
    names.append(name)
    MetadataCatalog.get(name).set(**metadata)
    return name


class _Finder(nn.Module):
    """Finds the one box in every picture."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        found = Instances((64, 96), pred_boxes=Boxes(torch.tensor([BOX])))
        found.scores, found.pred_classes = torch.ones(1), torch.tensor([self.label])
        return [{"instances": found} for _ in batch]


# ---- By type


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("pascal_voc", ["PascalVOCDetectionEvaluator"]),
        ("sem_seg", ["SemSegEvaluator"]),
        ("cityscapes_instance", ["CityscapesInstanceEvaluator"]),
        ("cityscapes_sem_seg", ["CityscapesSemSegEvaluator"]),
        ("coco_panoptic_seg", ["SemSegEvaluator", "COCOEvaluator", "COCOPanopticEvaluator"]),
    ],
)
def test_evaluator_is_detectron2s_of_the_type(
    kind: str, names: list[str], tmp_path: Path, registered: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    things = {"thing_classes": ["a"], "thing_dataset_id_to_contiguous_id": {1: 0}}
    stuff = {"stuff_classes": ["b"], "stuff_dataset_id_to_contiguous_id": {2: 0}}
    name = _register(
        *(registered, f"told_{kind}"),
        evaluator_type=kind, dirname=str(tmp_path), split="test", year=2007, ignore_label=255,
        **things, **stuff,
    )  # fmt: skip
    monkeypatch.setattr(evaluation, "_build_coco", lambda *_: evaluators.COCOEvaluator.__new__(
        evaluators.COCOEvaluator))  # fmt: skip
    built = build_evaluator(_config(tmp_path, "DATASETS.TEST", (name,)), name)
    parts = getattr(built, "_evaluators", [built])
    assert [type(part).__name__ for part in parts] == names


def test_lvis_gets_as_many_detections_as_the_model_gives(
    tmp_path: Path, registered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(evaluation, "LvisEvaluator", lambda *_, **options: given.update(options))
    name = _register(registered, "told_lvis", evaluator_type="lvis", json_file="absent.json")
    for limit, wanted in ((100, 300), (1000, 1000)):
        build_evaluator(_config(tmp_path, "TEST.DETECTIONS_PER_IMAGE", limit), name)
        assert given["max_dets_per_image"] == wanted


def test_pascal_voc_is_evaluated_by_its_own_rules(tmp_path: Path, registered: list[str]) -> None:
    root = tmp_path / "VOC2007"
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / part).mkdir(parents=True)
    numbers = [f"{i:06}" for i in range(3)]
    for number in numbers:
        Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(root / "JPEGImages" / f"{number}.jpg")
        (root / "Annotations" / f"{number}.xml").write_text(VOC_OBJECT.format(number))
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join(numbers))
    register_pascal_voc("told_voc", str(root), "test", 2007, class_names=["cat", "dog"])
    registered.append("told_voc")
    MetadataCatalog.get("told_voc").set(evaluator_type="pascal_voc")
    cfg = get_config(write_tiny_config(tmp_path), ["OUTPUT_DIR", str(tmp_path / "run")])
    cfg.DATASETS.TEST = ("told_voc",)
    check_evaluators(cfg)
    results = Trainer.test(cfg, _Finder(label=1))
    # Of the class that is nowhere in the data the AP is 0, so the mean is a half.
    assert results == {"bbox": pytest.approx({"AP": 50.0, "AP50": 50.0, "AP75": 50.0})}
    (recorded,) = json.loads((tmp_path / "run" / "results.json").read_text())["datasets"].values()
    assert recorded["results"] == results


def test_set_that_nothing_can_evaluate_is_one_sentence(
    tmp_path: Path, registered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _config(tmp_path)
    cfg.DATASETS.TEST = (_register(registered, "told_odd", evaluator_type="pascal_vok"),)
    with pytest.raises(DataError, match="unknown evaluator_type 'pascal_vok', did you mean 'pasc"):
        check_evaluators(cfg)
    with pytest.raises(DataError, match="unknown evaluator_type"):  # before a model is built
        Trainer(cfg)
    cfg.DATASETS.TEST = (_register(registered, "told_seg", evaluator_type="sem_seg"),)
    with pytest.raises(DataError, match="wanted MODEL.META_ARCHITECTURE SemanticSegmentor or Pan"):
        check_evaluators(cfg)
    cfg.DATASETS.TEST = (_register(registered, "told_lvis_2", evaluator_type="lvis"),)
    monkeypatch.setattr(evaluation, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="lvis is not installed: run pip install lvis"):
        check_evaluators(cfg)


def test_sigmas_of_keypoints_reach_coco_and_are_as_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(evaluation, "CocoEvaluator", lambda *_, **options: given.update(options))
    two = ("MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 2)
    cfg = _config(tmp_path, *two, "TEST.KEYPOINT_OKS_SIGMAS", [0.1, 0.2])
    check_evaluators(cfg)
    build_evaluator(cfg, cfg.DATASETS.TEST[0])
    assert tuple(given["oks_sigmas"]) == (0.1, 0.2)
    for sigmas in ([], [0.1]):
        with pytest.raises(ConfigError, match="TEST.KEYPOINT_OKS_SIGMAS: wanted 2 numbers, one"):
            check_evaluators(_config(tmp_path, *two, "TEST.KEYPOINT_OKS_SIGMAS", sigmas))
    check_evaluators(_config(tmp_path, "MODEL.KEYPOINT_ON", True))  # COCO's 17 have theirs


def _write_keypoints(folder: Path) -> dict[str, Any]:
    """Persons of two keypoints in pictures 1 and 2, and one without any in picture 2."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 64} for i in (1, 2)]
    for image in images:
        Image.new("RGB", (96, 64)).save(folder / image["file_name"])
    person = {"category_id": 1, "iscrowd": 0, "bbox": [20, 10, 40, 30], "area": 1200}
    points = {"keypoints": [30, 20, 2, 50, 30, 1], "num_keypoints": 2}
    return {
        "images": images,
        "annotations": [
            {**person, "id": 1, "image_id": 2, "bbox": [1, 1, 9, 9]},
            *({**person, **points, "id": i + 1, "image_id": i} for i in (1, 2)),
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": ["left", "right"]}],
    }


@pytest.mark.parametrize(("shift", "score"), [(0.0, 100.0), (6.0, 40.0)])
def test_keypoints_of_a_json_as_tools_write_it(tmp_path: Path, shift: float, score: float) -> None:
    """Gzipped, with a mark, ids as 1.0, and an object without keypoints."""
    content = _write_keypoints(tmp_path)
    for annotation in content["annotations"]:
        annotation["image_id"] = float(annotation["image_id"])
    path = tmp_path / "boxes.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content).encode("utf-8-sig")))
    words = ["MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 2]
    words += ["TEST.KEYPOINT_OKS_SIGMAS", [0.1, 0.1], "DATASETS.TEST_JSON", path]
    cfg = _config(tmp_path, *words, "DATASETS.TEST_IMAGES", tmp_path)
    evaluator = build_evaluator(cfg, cfg.DATASETS.TEST[0])
    evaluator.reset()
    for image in (1, 2):
        found = Instances((64, 96), pred_boxes=Boxes(torch.tensor([[20.0, 10, 60, 40]])))
        found.scores, found.pred_classes = torch.ones(1), torch.zeros(1, dtype=torch.long)
        points = [[30.5 + shift, 20.5, 0.9], [50.5 + shift, 30.5, 0.9]]
        found.pred_keypoints = torch.tensor([points])
        evaluator.process([{"image_id": image}], [{"instances": found}])
    scores = evaluator.evaluate()["keypoints"]
    oks = math.exp(-(shift**2) / (2 * 0.1) ** 2 / 1200 / 2)  # of each: the share of limits below it
    wanted = 100 * np.mean([oks > limit for limit in np.arange(0.5, 1, 0.05)])
    assert scores["AP"] == pytest.approx(wanted, abs=0.01)
    assert wanted == pytest.approx(score)


# ---- Test-time augmentation


AUGMENTED = ("TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (48, 80), "TEST.AUG.MAX_SIZE", 120)


def test_augmented_test_is_detectron2s_at_the_end_and_not_in_between(tmp_path: Path) -> None:
    cfg = _config(tmp_path, *AUGMENTED, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert results is not None
    assert list(results) == ["bbox", "bbox_TTA"]
    assert results["bbox_TTA"].keys() == results["bbox"].keys()
    run = tmp_path / "run"
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert ["bbox_TTA/AP" in line for line in lines if "bbox/AP" in line] == [False, True]
    (recorded,) = json.loads((run / "results.json").read_text())["datasets"].values()
    assert list(recorded["results"]) == ["bbox", "bbox_TTA"]

    # Detectron2's own way to the same detections, with normalizations that are not folded.
    model = GeneralizedRCNNWithTTA(cfg, trainer.model.eval())
    loader = Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
    with torch.no_grad():
        wanted = [
            score for batch in loader for out in model(batch) for score in out["instances"].scores
        ]
    found = json.loads((run / "inference_TTA" / "coco_instances_results.json").read_text())
    scores = [float(score) for score in wanted]
    assert [item["score"] for item in found] == pytest.approx(scores, abs=1e-5)
    plain = json.loads((run / "inference" / "coco_instances_results.json").read_text())
    assert [item["bbox"] for item in plain] != [item["bbox"] for item in found]


def test_augmented_test_leaves_the_model_in_its_mode(tmp_path: Path) -> None:
    cfg = _config(tmp_path, *AUGMENTED)
    for mode in (True, False):
        model = Trainer.build_model(cfg).train(mode)
        assert "bbox_TTA" in Trainer.test(cfg, model)
        assert "bbox_TTA" not in Trainer.test(cfg, model, augment=False)
        assert model.training == mode


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("MODEL.META_ARCHITECTURE", "RetinaNet"), "wanted GeneralizedRCNN, since TEST.AUG.ENAB"),
        (("MODEL.KEYPOINT_ON", True), "MODEL.KEYPOINT_ON: wanted False, since TEST.AUG.ENABLED"),
        (("MODEL.LOAD_PROPOSALS", True), "MODEL.LOAD_PROPOSALS: wanted False"),
        (("TEST.TILES.SIZE", 100), "TEST.TILES.SIZE: wanted 0, since TEST.AUG.ENABLED is True"),
        (("TEST.AUG.MIN_SIZES", ()), "TEST.AUG.MIN_SIZES: wanted numbers of pixels"),
        (("TEST.AUG.MAX_SIZE", 0), "TEST.AUG.MAX_SIZE: wanted at least 1"),
    ],
)
def test_augmented_test_that_can_not_be_is_refused(
    words: tuple[Any, ...], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        check_values(_config(tmp_path, *AUGMENTED, *words))


# ---- Several test sets


def test_best_metric_is_the_first_sets_unless_it_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _config(tmp_path, "SOLVER.MAX_ITER", 1)
    assert find_best_metric(cfg) == "bbox/AP"
    first = cfg.DATASETS.TEST[0]
    cfg.DATASETS.TEST = (first, "other")
    MetadataCatalog.get("other").set(evaluator_type="coco")
    scores = {first: {"bbox": {"AP": 3.0}}, "other": {"bbox": {"AP": 8.0}}}
    monkeypatch.setattr(Trainer, "test", lambda *_, **__: scores)
    for metric, wanted in (("bbox/AP", (f"{first}/bbox/AP", 3.0)), ("other/bbox/AP", 8.0)):
        cfg.TEST.BEST_METRIC = metric
        name, score = wanted if isinstance(wanted, tuple) else (metric, wanted)
        assert find_best_metric(cfg) == name
        trainer = Trainer(cfg)
        with caplog.at_level(logging.WARNING, logger="nasnet_det"):
            trainer.train()
        best = trainer.checkpointer.read_best()
        assert (best["metric"], best["score"]) == (name, score)
    assert "TEST.BEST_METRIC" not in caplog.text


def test_augmented_results_lie_beside_the_others_set_by_set(tmp_path: Path) -> None:
    cfg = _config(tmp_path)
    cfg.DATASETS.TEST = ("a", "b")
    results = {name: {"bbox": {"AP": 1.0}} for name in "ab"}
    evaluation.add_augmented(cfg, results, {name: {"bbox": {"AP": math.nan}} for name in "ab"})
    assert [list(tasks) for tasks in results.values()] == [["bbox", "bbox_TTA"]] * 2
