"""Config keys of the NASNet detectors.

``add_nasnet_config`` is all that a Detectron2 project of its own needs; ``get_config`` is what the
commands read their configs with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from nasnet_det.config import ConfigError, merge_config, merge_text
from nasnet_det.network_config import add_network_config, get_spec_overrides
from nasnet_det.weights.file import read_weights


def add_nasnet_config(cfg: CfgNode) -> None:
    """Add the keys of this project, with their defaults, to a Detectron2 config."""
    node = cfg.MODEL.NASNET = CfgNode()
    # VARIANT, GENOTYPE, the sizes, DROP_PATH_*, ACTIVATION_CHECKPOINTING and CHANNELS_LAST, which
    # classifiers have too.
    add_network_config(node, variant="nasnet_a_mobile", drop_path_prob=0.0, channels_last=False)
    # What strided pools make of the padding at the border: "tf" as in the paper's networks, "timm"
    # or "keras" as in those libraries, for features equal to theirs. "": as the file of
    # MODEL.WEIGHTS says (published_weights.py), else "tf".
    node.POOL_PADDING = ""
    # BN, SyncBN, FrozenBN or GN in every cell. How many stages are frozen is
    # MODEL.BACKBONE.FREEZE_AT, as for ResNets: 0 none, 1 the stem, k >= 2 all up to c<k>.
    node.NORM = "BN"
    # What leaves the backbone: c<k> has stride 2**k.
    node.OUT_FEATURES = ["c2", "c3", "c4", "c5"]
    # Position (i, j) of every feature map looks at pixel (i, j) * stride of the image, where
    # Detectron2 puts its anchors. False: TensorFlow's positions, which drift by up to a stride.
    node.ALIGN_FEATURES = True
    # Logits of the box head that stand for no class, for TFNASNetROIHeads (tensorflow.py).
    node.UNUSED_CLASSES = 0

    add_library_config(cfg)

    # A data set by its files, in place of a registered name in DATASETS.TRAIN / TEST: a COCO JSON
    # and its folder of images, or, in *_JSON alone, a folder of Pascal VOC or a data.yaml of YOLO,
    # of which the training and the validation part are taken, or the one named as VOC2007#trainval.
    # The classes, and the number of classes of the heads, are read from the annotations.
    cfg.DATASETS.TRAIN_JSON = ""
    cfg.DATASETS.TRAIN_IMAGES = ""
    cfg.DATASETS.TEST_JSON = ""
    cfg.DATASETS.TEST_IMAGES = ""
    # skip: images that can't be read are left out, named and counted; stop: the first ends the run.
    cfg.DATASETS.BROKEN_IMAGES = "skip"
    # Where a picture has another size than its annotations say: stop, or take the picture's.
    cfg.DATASETS.SIZE_MISMATCH = "stop"

    # The side in pixels of the square to which test images are distorted, as TensorFlow's
    # detectors want them. 0 keeps their shape, with INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
    cfg.INPUT.SQUARE_TEST = 0

    # Detectron2's augmentations of training pictures, after INPUT.CROP and before the resize and
    # the flip, in their order: "RandomBrightness(0.8, 1.2)", "RandomRotation([-10, 10])", with the
    # arguments of detectron2.data.transforms. Where one sets a size, MIN_SIZE_TRAIN is [0].
    cfg.INPUT.AUGMENTATIONS = []
    # A pipeline file of albumentations.save, JSON or YAML, for training pictures; before the crop.
    cfg.INPUT.ALBUMENTATIONS = ""
    # The probability that a training picture is a mosaic of four, and the smallest and the largest
    # SCALE of each; 1 fits into the mosaic.
    cfg.INPUT.MOSAIC = CfgNode({"PROB": 0.0, "SCALE": (0.5, 1.0)})
    # The probability that objects of another picture are pasted into a training picture, along
    # their masks or else their boxes, and the SCALE of that picture.
    cfg.INPUT.COPY_PASTE = CfgNode({"PROB": 0.0, "SCALE": (0.5, 1.0)})

    # Side in pixels of the overlapping tiles in which large test pictures are looked at, beside the
    # whole; 0: the whole alone. Each tile is resized as INPUT says of a picture. OVERLAP is the
    # share of its side that a tile has in common with the next.
    cfg.TEST.TILES = CfgNode({"SIZE": 0, "OVERLAP": 0.2})

    # What computes the detector in tests: torch, or on a CPU onnxruntime or openvino. PART is what
    # of it these compute: the backbone, or the detector. PRECISION is float32, bfloat16 or int8.
    # CALIBRATION is a folder with pictures that int8 is calibrated on; "": those of the training.
    cfg.TEST.RUNTIME = CfgNode(
        {"NAME": "torch", "PART": "backbone", "PRECISION": "float32", "CALIBRATION": ""}
    )

    # What shows the numbers of a training beside metrics.json: tensorboard (its files lie in
    # OUTPUT_DIR), wandb, mlflow. One that is not installed or reachable is left out, and said.
    cfg.TRACKERS = ["tensorboard"]

    # SGD as in Detectron2, or AdamW, whose decoupled SOLVER.WEIGHT_DECAY is larger (0.05, say).
    cfg.SOLVER.OPTIMIZER = "SGD"
    # What the learning rate is multiplied with in the backbone (with C4, in its last cells too, not
    # in a pyramid): less than 1 where MODEL.WEIGHTS have trained it.
    cfg.SOLVER.BACKBONE_LR_FACTOR = 1.0
    # float16 (with loss scaling) or bfloat16; a CPU always computes in bfloat16.
    cfg.SOLVER.AMP.PRECISION = "float16"
    # Gradient accumulation: in how many parts each process computes its share of IMS_PER_BATCH, in
    # the memory of one part. Losses and steps are those of the whole batch, as on as many GPUs;
    # batch normalizations see a part.
    cfg.SOLVER.NUM_PARTS = 1
    # Above 0, the length of the training in passes over the data set in place of MAX_ITER, to which
    # STEPS keep their proportion. Other keys still count iterations.
    cfg.SOLVER.MAX_EPOCHS = 0
    # How many checkpoints at CHECKPOINT_PERIOD are kept, the newest; 0: all. model_final.pth and
    # model_best.pth always stay.
    cfg.SOLVER.CHECKPOINT_MAX_TO_KEEP = 0
    # Above 0, the weight of the past in a moving average of the weights, which is evaluated and
    # saved in place of them: 0.999, say. WARMUP lets it rise with the iterations, as timm's
    # ModelEmaV3: to 0.99 in 1,000 and to 0.999 in 31,600.
    cfg.SOLVER.EMA = CfgNode({"DECAY": 0.0, "WARMUP": True})
    # Above 0, the training ends after so many evaluations (TEST.EVAL_PERIOD) in a row in which
    # TEST.BEST_METRIC has not risen by more than MIN_DELTA.
    cfg.SOLVER.EARLY_STOPPING = CfgNode({"PATIENCE": 0, "MIN_DELTA": 0.0})
    # Measure the losses on the pictures of the tests with every evaluation, as validation/<loss> in
    # metrics.json.
    cfg.TEST.VALIDATION_LOSS = False
    # The result that chooses model_best.pth, as metrics.json names it; with several test sets that
    # of the first, or of the one named before it: SET/bbox/AP.
    cfg.TEST.BEST_METRIC = "bbox/AP"


def add_library_config(cfg: CfgNode) -> None:
    """Add the keys of timm's and torchvision's backbones."""
    timm = cfg.MODEL.TIMM = CfgNode()
    # A network of timm with features, with or without the tag of its weights: resnet50,
    # convnext_tiny.fb_in22k, hf-hub:owner/name. For MODEL.BACKBONE.NAME build_timm_fpn_backbone,
    # build_retinanet_timm_fpn_backbone or build_timm_backbone.
    timm.NAME = ""
    # Start from timm's weights, where MODEL.WEIGHTS is ''.
    timm.PRETRAINED = False
    # What takes the place of batch normalizations: FrozenBN or SyncBN; "": the network's own.
    timm.NORM = ""
    # What leaves the backbone: c<k> has stride 2**k.
    timm.OUT_FEATURES = ["c2", "c3", "c4", "c5"]
    # Stochastic depth's rate in the last block, for the networks of timm that have it.
    timm.DROP_PATH_RATE = 0.0

    torchvision = cfg.MODEL.TORCHVISION = CfgNode()
    # A classifier of torchvision, such as resnet50. For MODEL.BACKBONE.NAME
    # build_torchvision_fpn_backbone, build_retinanet_torchvision_fpn_backbone or
    # build_torchvision_backbone.
    torchvision.NAME = ""
    # Start from these weights of torchvision, such as IMAGENET1K_V2 or DEFAULT, where MODEL.WEIGHTS
    # is ''; "": from none.
    torchvision.WEIGHTS = ""
    # What takes the place of batch normalizations: FrozenBN or SyncBN; "": the network's own.
    torchvision.NORM = ""
    # What leaves the backbone: c<k> has stride 2**k.
    torchvision.OUT_FEATURES = ["c2", "c3", "c4", "c5"]


def get_config(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Defaults, then a config file, then overrides.

    Args:
        config_file: a path, or the name of a config that comes with this package, such as
            ``COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml``. Empty: the defaults.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or a value can't be meant.
    """
    cfg = get_cfg()
    add_nasnet_config(cfg)
    merge_config(cfg, config_file, opts)
    return cfg


def get_checkpoint_config(weights: str, opts: Sequence[str] = ()) -> CfgNode:
    """The config of the training that wrote a checkpoint, which becomes its ``MODEL.WEIGHTS``.

    It stands in the checkpoint; else in the ``config.yaml`` beside it.

    Args:
        weights: the path of the checkpoint.
        opts: ``KEY VALUE`` pairs.

    Raises:
        CheckpointError: it can't be read.
        ConfigError: it has no config, or this can't be meant.
    """
    saved = read_weights(weights, mmap=True).get("config")
    beside = Path(weights).parent / "config.yaml"
    pairs = [*opts, "MODEL.WEIGHTS", weights]
    if not isinstance(saved, str):
        if not beside.is_file():
            raise ConfigError(
                f"{weights} has no config in it, and no config.yaml beside it: wanted the "
                "checkpoint of a training, or its config file"
            )
        return get_config(str(beside), pairs)
    cfg = get_config()
    merge_text(cfg, saved, weights)
    merge_config(cfg, opts=pairs)
    return cfg


def network_arguments(cfg: CfgNode) -> dict[str, Any]:
    """The arguments that the backbone and the C4 box head have in common, from a config."""
    node = cfg.MODEL.NASNET
    return {
        "variant": node.VARIANT,
        "genotype": node.GENOTYPE,
        "norm": node.NORM,
        "activation_checkpointing": node.ACTIVATION_CHECKPOINTING,
        "drop_path_prob": node.DROP_PATH_PROB,
        "drop_path_schedule": node.DROP_PATH_SCHEDULE,
        "drop_path_iters": cfg.SOLVER.MAX_ITER,
        **get_spec_overrides(node),
        **({"pool_padding": node.POOL_PADDING} if node.POOL_PADDING else {}),
    }
