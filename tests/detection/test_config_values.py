"""Wrong values of a detector's config: one sentence that names the key, before a model is built."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from detectron2 import model_zoo
from detectron2.config import CfgNode
from tiny_detection import write_tiny_config, write_tiny_dataset

import nasnet_det.detection.config_values as config_values
from nasnet_det.config import ConfigError, list_configs
from nasnet_det.detection import get_config
from nasnet_det.detection.config_values import check_values
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.trainer import Trainer

WRONG = [
    ("DATALOADER.SAMPLER_TRAIN", "TrainSampler", "unknown name 'TrainSampler', did you mean"),
    ("DATALOADER.NUM_WORKERS", "-1", "wanted at least 0, got -1"),
    ("DATALOADER.REPEAT_THRESHOLD", "-0.5", "wanted at least 0, got -0.5"),
    ("DATASETS.BROKEN_IMAGES", "ignore", "unknown name 'ignore'"),
    ("INPUT.FORMAT", "GBR", "unknown name 'GBR'"),
    ("INPUT.MASK_FORMAT", "rle", "unknown name 'rle'"),
    ("INPUT.RANDOM_FLIP", "both", "unknown name 'both'"),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "choose", "did you mean 'choice'?"),
    ("INPUT.MIN_SIZE_TRAIN", "()", "wanted numbers of pixels, got ()"),
    ("INPUT.MIN_SIZE_TRAIN", "('64',)", "wanted numbers of pixels"),
    ("INPUT.MAX_SIZE_TRAIN", "0", "wanted at least 1, got 0"),
    ("INPUT.SQUARE_TEST", "-3", "wanted at least 0, got -3"),
    ("INPUT.CROP.TYPE", "relativ", "did you mean 'relative'?"),
    ("MODEL.PIXEL_STD", "[1.0, 1.0]", "wanted 3 numbers other than 0"),
    ("MODEL.PIXEL_STD", "[1.0, 0.0, 1.0]", "wanted 3 numbers other than 0"),
    ("MODEL.PIXEL_MEAN", "[]", "wanted 3 numbers, as many as INPUT.FORMAT RGB has channels"),
    ("MODEL.DEVICE", "gpu", "wanted cpu, cuda or cuda:<number>, got 'gpu'"),
    ("MODEL.BACKBONE.NAME", "build_nasnet_fpn", "did you mean 'build_nasnet_fpn_backbone'?"),
    ("MODEL.NASNET.NORM", "LN", "unknown name 'LN', valid: BN"),
    ("MODEL.NASNET.POOL_PADDING", "tensorflow", "unknown name 'tensorflow'"),
    ("MODEL.NASNET.DROP_PATH_SCHEDULE", "times", "did you mean 'time'?"),
    ("MODEL.FPN.FUSE_TYPE", "mean", "unknown name 'mean'"),
    ("MODEL.FPN.NORM", "GroupNorm", "unknown name 'GroupNorm'"),
    ("MODEL.ROI_BOX_HEAD.NORM", "batch", "unknown name 'batch'"),
    ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "smooth_l2", "did you mean 'smooth_l1'?"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "iou", "unknown name 'iou'"),
    ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV3", "did you mean 'ROIAlignV2'?"),
    ("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "0", "wanted at least 1, got 0"),
    ("MODEL.ROI_BOX_HEAD.NUM_FC", "0", "wanted at least 1, or MODEL.ROI_BOX_HEAD.NUM_CONV"),
    ("MODEL.RPN.IOU_THRESHOLDS", "[0.7, 0.3]", "wanted rising numbers above 0"),
    ("MODEL.RPN.IOU_LABELS", "[0, 1]", "wanted 3 of -1, 0 and 1"),
    ("MODEL.RPN.BBOX_REG_WEIGHTS", "(1.0, 1.0)", "wanted 4 numbers"),
    ("MODEL.RPN.POSITIVE_FRACTION", "1.5", "wanted a number in [0, 1], got 1.5"),
    ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "0", "wanted at least 1, got 0"),
    ("MODEL.ROI_HEADS.IOU_LABELS", "[0, 2]", "wanted 2 of -1, 0 and 1"),
    ("MODEL.ROI_HEADS.IOU_LABELS", "[None, []]", "wanted 2 of -1, 0 and 1"),
    ("MODEL.RETINANET.PRIOR_PROB", "0.0", "wanted a number in (0, 1), got 0.0"),
    ("MODEL.ANCHOR_GENERATOR.OFFSET", "1.0", "wanted a number in [0, 1), got 1.0"),
    ("SOLVER.OPTIMIZER", "Adam", "did you mean 'AdamW'?"),
    ("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStep", "did you mean 'WarmupMultiStepLR'?"),
    ("SOLVER.WARMUP_METHOD", "cosine", "unknown name 'cosine'"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model", "unknown name 'full_model'"),
    ("SOLVER.AMP.PRECISION", "half", "unknown name 'half'"),
    ("SOLVER.MAX_ITER", "0", "wanted at least 1, got 0"),
    ("SOLVER.IMS_PER_BATCH", "0", "wanted at least 1, got 0"),
    ("SOLVER.CHECKPOINT_PERIOD", "0", "wanted at least 1, got 0"),
    ("SOLVER.BASE_LR", "-0.01", "wanted at least 0, got -0.01"),
    ("SOLVER.BASE_LR", "1e999-1e999", "wanted a number"),
    ("SOLVER.MOMENTUM", "-0.9", "wanted at least 0, got -0.9"),
    ("SOLVER.WEIGHT_DECAY_BIAS", "none", "wanted at least 0, got 'none'"),
    ("SOLVER.NUM_PARTS", "0", "wanted at least 1, got 0"),
    ("SOLVER.MAX_EPOCHS", "-1", "wanted at least 0, got -1"),
    ("SOLVER.CHECKPOINT_MAX_TO_KEEP", "-1", "wanted at least 0, got -1"),
    ("SOLVER.EMA.DECAY", "1", "wanted a number in [0, 1), got 1.0"),
    ("SOLVER.EARLY_STOPPING.MIN_DELTA", "-1", "wanted at least 0, got -1.0"),
    ("SOLVER.STEPS", "(3, 2)", "wanted rising iterations between 0 and SOLVER.MAX_ITER, 4"),
    ("SOLVER.STEPS", "(4,)", "wanted rising iterations between 0 and SOLVER.MAX_ITER, 4"),
    ("MODEL.LOAD_PROPOSALS", "True", "wanted False, since Detectron2 reads proposals by pickle"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals", "wanted one that makes proposals"),
    ("MODEL.NASNET.UNUSED_CLASSES", "9", "wanted 0, since StandardROIHeads has no such logits"),
    ("SEED", str(2**40), "wanted at most 4294901760, got 1099511627776"),
    ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 40.0]]", "wanted [task, metric, value, tolerance]"),
]
WRONG_TOGETHER = [
    ("MODEL.PIXEL_MEAN", "[1, 2, 3]", ["INPUT.FORMAT", "RGBA"], "4 numbers, as many as INPUT"),
    (
        *("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "()"),
        [
            *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
            *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"),
            *("MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", "()"),
        ],
        "numbers",
    ),
    ("INPUT.CROP.SIZE", "[1.5, 0.5]", ["INPUT.CROP.ENABLED", "True"], "two shares in (0, 1]"),
    (
        *("INPUT.CROP.SIZE", "[64.0, 64.0]"),
        *(["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute"], "two whole numbers of"),
    ),
    (
        *("INPUT.MIN_SIZE_TRAIN", "(64, 80, 96)", ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"]),
        "the smallest and the largest",
    ),
    ("SOLVER.BASE_LR", "0", ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"], "more than 0 for"),
    ("SOLVER.BASE_LR_END", "1", ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"], "at most SOLVER."),
    (
        *("TEST.EVAL_PERIOD", "0", ["SOLVER.EARLY_STOPPING.PATIENCE", "3"]),
        "at least 1, since SOLVER.EARLY_STOPPING.PATIENCE is 3",
    ),
    (
        *("DATASETS.TEST", "()", ["TEST.VALIDATION_LOSS", "True", "DATASETS.TEST_JSON", ""]),
        "a data set, which TEST.VALIDATION_LOSS looks at",
    ),
    ("SOLVER.MOMENTUM", "0", ["SOLVER.NESTEROV", "True"], "more than 0, since SOLVER.NESTEROV"),
    ("MODEL.KEYPOINT_ON", "True", ["MODEL.ROI_HEADS.NAME", "NASNetROIHeads"], "False, since"),
    (
        "MODEL.ROI_HEADS.IN_FEATURES",
        "['p2', 'p3']",
        ["MODEL.ROI_HEADS.NAME", "Res5ROIHeads"],
        "one",
    ),
    (
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False"),
        *(["MODEL.ROI_HEADS.NAME", "CascadeROIHeads"], "True for CascadeROIHeads"),
    ),
]


@pytest.mark.parametrize(
    ("key", "value", "others", "told"),
    [*((key, value, [], told) for key, value, told in WRONG), *WRONG_TOGETHER],
)
def test_wrong_value_is_one_sentence_before_a_model_is_built(
    key: str,
    value: str,
    others: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(*_: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr("detectron2.engine.defaults.build_model", build)
    with pytest.raises(ConfigError) as info:
        Trainer(get_config(write_tiny_config(tmp_path), [key, value, *others]))
    sentence = str(info.value)
    assert sentence.startswith(f"{key}: ")
    assert told in sentence
    assert "\n" not in sentence


def test_every_model_is_guarded_that_is_built_for_an_evaluation(tmp_path: Path) -> None:
    cfg = get_config(write_tiny_config(tmp_path), ["MODEL.FPN.FUSE_TYPE", "max"])
    with pytest.raises(ConfigError, match=r"MODEL\.FPN\.FUSE_TYPE: unknown name 'max'"):
        Trainer.build_model(cfg)


def test_nan_is_no_rate(tmp_path: Path) -> None:
    cfg = get_config(write_tiny_config(tmp_path))
    cfg.SOLVER.BASE_LR = float("nan")
    with pytest.raises(ConfigError, match=r"SOLVER\.BASE_LR: wanted at least 0, got nan"):
        check_values(cfg)


@pytest.mark.parametrize(
    "name",
    [name for name in list_configs() if name.startswith(("COCO-", "quick_schedules/", "Base-"))],
)
def test_configs_of_this_package_pass(name: str) -> None:
    check_values(get_config(name))


def list_zoo() -> list[str]:
    """Detectron2's configs of boxes, masks, keypoints and panoptic segmentation."""
    folder = Path(model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml")).parents[1]
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.yaml"))


def test_detectron2_s_own_configs_pass() -> None:
    names = list_zoo()
    assert len(names) > 50
    for name in names:
        cfg = model_zoo.get_config(name)
        assert isinstance(cfg, CfgNode)
        check_values(cfg)


def test_every_key_of_the_tables_exists() -> None:
    known = dict(config_values.flatten(get_config("")))
    ranged = [key for keys, _, _ in config_values.RANGES for key in keys]
    assert {*config_values.NAMES, *config_values.REGISTRIES, *ranged} <= known.keys()


def test_value_that_detectron2_accepts_is_accepted(tmp_path: Path) -> None:
    for key, value in [
        ("SEED", "-7"),
        ("TEST.EVAL_PERIOD", "-1"),
        ("TEST.DETECTIONS_PER_IMAGE", "-1"),
        ("INPUT.MIN_SIZE_TEST", "0"),
        ("SOLVER.STEPS", "(2, 30000)"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "None"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "-1.0"),
        ("MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""),
        ("MODEL.FPN.NORM", "naiveSyncBN_N"),
        ("INPUT.FORMAT", "L"),
    ]:
        check_values(get_config(write_tiny_config(tmp_path), [key, value]))


def test_assertion_without_a_word_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no table knows: the condition itself stands in the sentence."""

    def build(_: CfgNode) -> None:
        raise AssertionError  # as an assert without a message does

    monkeypatch.setattr("detectron2.engine.defaults.build_model", build)
    with pytest.raises(ConfigError, match=r"the model can't be built: raise AssertionError"):
        Trainer.build_model(get_config(write_tiny_config(tmp_path)))


def test_one_tiny_picture_a_batch_is_a_sentence(tmp_path: Path) -> None:
    """One value of a channel has no variance; torch says so in the first step."""
    files = write_tiny_dataset(tmp_path / "data")
    sizes = ["INPUT.MIN_SIZE_TRAIN", "(16,)", "INPUT.MAX_SIZE_TRAIN", "24"]
    words = [*files, *sizes, "SOLVER.IMS_PER_BATCH", "1", "MODEL.NASNET.ALIGN_FEATURES", "False"]
    cfg = get_config(write_tiny_config(tmp_path), [*words, "OUTPUT_DIR", str(tmp_path / "run")])
    register_config_datasets(cfg)
    with pytest.raises(ConfigError, match=r"SOLVER\.IMS_PER_BATCH: wanted .* MODEL\.NASNET\.NORM"):
        Trainer(cfg).train()
