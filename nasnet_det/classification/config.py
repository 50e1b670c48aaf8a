"""Config keys of the classification.

The defaults are TF-slim's for its final CIFAR-10 network (nasnet.py ``cifar_config``), which are
the paper's (arXiv 1707.07012) where that gives a number.
"""

from __future__ import annotations

from collections.abc import Sequence

from yacs.config import CfgNode

from nasnet_det.classification.config_checks import check_config
from nasnet_det.config import merge_config
from nasnet_det.network_config import (
    add_network_config,
)


def add_classification_config(cfg: CfgNode) -> None:
    """Add the keys of the classification, with their defaults."""
    # Gets config.yaml, run.json, log.txt, metrics.json, tensorboard/, checkpoint.pth (the last
    # one), model_best.pth, model_final.pth and results.json.
    cfg.OUTPUT_DIR = "output/classification"
    # 0 or more. One seed, one result on one kind of CPU.
    cfg.SEED = 0
    _add_model_config(cfg)
    _add_data_config(cfg)
    _add_solver_config(cfg)

    _add_distillation_config(cfg)

    # Moving average of weights and statistics, which is what is evaluated; 0: none. Early on the
    # decay is less, (1 + n) / (10 + n) after n steps, as in TensorFlow.
    cfg.EMA = CfgNode({"DECAY": 0.0})
    # The auxiliary head's share of the loss; 0: no such head.
    cfg.AUX = CfgNode({"WEIGHT": 0.4})

    test = cfg.TEST = CfgNode()
    # Images at once in an evaluation; the result is the same.
    test.BATCH_SIZE = 500
    # Epochs between evaluations; there is one at the end too. 0: only that one.
    test.EVAL_PERIOD = 1
    # The shorter side of an image is made IMAGE_SIZE / CROP_FRACTION, and its centre is taken.
    test.CROP_FRACTION = 1.0


def _add_model_config(cfg: CfgNode) -> None:
    cfg.MODEL = CfgNode()
    # auto (a GPU where there is one), cpu, cuda or cuda:<i>.
    cfg.MODEL.DEVICE = "auto"
    # What --eval-only evaluates, and where a training starts: model_best.pth, model_final.pth or
    # checkpoint.pth, or published weights (nasnet://nasnet_a_large.timm, or a file of nasnet-det
    # convert-weights); a training also takes the file of export-backbone. Its last layer is made
    # anew where the classes are others.
    cfg.MODEL.WEIGHTS = ""
    # A network of another library, in the place of the one that MODEL.NASNET says: timm:NAME or
    # torchvision:NAME, such as timm:resnet18. "": the NASNet.
    cfg.MODEL.NETWORK = ""
    # Start it from its library's weights.
    cfg.MODEL.PRETRAINED = False
    # VARIANT, GENOTYPE, the sizes, DROP_PATH_*, ACTIVATION_CHECKPOINTING and CHANNELS_LAST, which
    # detectors have too.
    node = cfg.MODEL.NASNET = CfgNode()
    add_network_config(node, variant="nasnet_a_cifar_6_768", drop_path_prob=0.4, channels_last=True)
    # What strided pools make of the padding at the border: tf as in the paper's networks, timm or
    # keras as in those libraries. Published weights that are evaluated bring their own.
    node.POOL_PADDING = "tf"
    # BN, SyncBN or GN in every cell.
    node.NORM = "BN"
    # How much of the running statistics each step replaces: 1 - TensorFlow's decay.
    node.NORM_MOMENTUM = 0.1
    # Before the last linear layer.
    node.DROPOUT = 0.0


def _add_data_config(cfg: CfgNode) -> None:
    data = cfg.DATA = CfgNode()
    # A folder with torchvision's cifar-10-batches-py in it, an .npz file of arrays (x_train,
    # y_train, x_test, y_test) or of encoded pictures (see nasnet_det/data/encoded_pictures.py), a
    # folder with train/ and val/, each with one sub-folder of images for each class, or a .json
    # file that names shards (see nasnet_det/classification/shards.py).
    data.PATH = ""
    # skip: images that can't be read are left out, named and counted; stop: the first ends the run.
    data.BROKEN_IMAGES = "skip"
    # Height and width of what the network sees.
    data.IMAGE_SIZE = 32
    # The first so many of the shuffled training images; 0: all.
    data.NUM_TRAIN = 0
    # RGB in the scale of bytes, as the detector's MODEL.PIXEL_MEAN. These are CIFAR-10's own.
    data.PIXEL_MEAN = [125.3, 123.0, 113.9]
    data.PIXEL_STD = [63.0, 62.1, 66.7]
    # Processes that decode and augment; 0: the main one does. The result is the same.
    data.NUM_WORKERS = 2

    augment = cfg.AUGMENT = CfgNode()
    # pad: black borders, then a random crop; upsample: larger by the borders, then a random crop;
    # inception: a random part of any shape, resized; none: the centre, as for evaluation.
    augment.CROP = "pad"
    # Pixels on each side for pad and upsample.
    augment.BORDER = 4
    # Smallest part of the area for inception; its width is 3/4 to 4/3 of its height.
    augment.MIN_AREA = 0.08
    # Mirror half of the images.
    augment.FLIP = True
    # Side of the square that is cut out of each image (arXiv 1708.04552); 0: none.
    augment.CUTOUT = 0
    # Change brightness, contrast, saturation and hue at random.
    augment.COLOR = False
    # Operations of RandAugment (arXiv 1909.13719) for each image, and their strength of 30.
    augment.RAND_AUGMENT = CfgNode({"NUM_OPS": 0, "MAGNITUDE": 9})
    # Mix each image with another of its batch, and their classes too: all of it by weights (mixup,
    # arXiv 1710.09412), or a rectangle of it (cutmix, arXiv 1905.04899). The values are alpha of
    # the share's Beta(alpha, alpha); 0: not so. With both, each batch is mixed by one at random.
    augment.MIXUP = 0.0
    augment.CUTMIX = 0.0


def _add_distillation_config(cfg: CfgNode) -> None:
    node = cfg.DISTILL = CfgNode()
    # Whose outputs are learned beside the labels: timm:NAME, torchvision:NAME, efficientnet-lite:0
    # to :4, or a classifier of this project (a checkpoint, or nasnet://NAME). Empty: nobody's.
    node.TEACHER = ""
    # The teacher's share of the loss, 0 to 1; the labels have the rest.
    node.WEIGHT = 0.5
    # What both logits are divided by; the loss is multiplied by its square (arXiv 1503.02531).
    node.TEMPERATURE = 2.0
    # Weight of one minus the cosine between the teacher's pooled features and a linear map of the
    # network's own; 0: they are not learned.
    node.FEATURE_WEIGHT = 0.0
    # Height and width to which images are resized for the teacher; 0: those of its own training.
    node.IMAGE_SIZE = 0
    # Ask the teacher once about each image, whole, instead of about each augmented one: what it
    # says is kept in OUTPUT_DIR.
    node.CACHE = False
    # A folder with pictures without labels, at any depth, from which only the teacher's outputs are
    # learned; they are added to the training images. Empty: none.
    node.IMAGES = ""


def _add_solver_config(cfg: CfgNode) -> None:
    solver = cfg.SOLVER = CfgNode()
    # SGD, AdamW, or RMSpropTF: RMSProp as TensorFlow computes it.
    solver.OPTIMIZER = "SGD"
    # Passes over the training images.
    solver.EPOCHS = 600
    # Images in each step of all processes, and in how many parts each computes its own to save
    # memory. What is left of an epoch is left out.
    solver.BATCH_SIZE = 32
    solver.NUM_PARTS = 1
    # LR is for REFERENCE_BATCH_SIZE images a step and is scaled with BATCH_SIZE; 0: it is not.
    solver.LR = 0.025
    solver.REFERENCE_BATCH_SIZE = 0
    # cosine: half a period over the training; exponential: times DECAY_RATE each DECAY_EPOCHS.
    solver.SCHEDULE = "cosine"
    solver.DECAY_RATE = 0.97
    solver.DECAY_EPOCHS = 2.4
    # The rate rises along a line at first.
    solver.WARMUP_EPOCHS = 0.0
    # Of SGD and RMSpropTF.
    solver.MOMENTUM = 0.9
    # RMSpropTF: weight of the past, and what is added inside the root.
    solver.RMSPROP = CfgNode({"DECAY": 0.9, "EPSILON": 1.0})
    # L2 (AdamW: decoupled) on convolutions and linear layers; biases and normalizations have none.
    solver.WEIGHT_DECAY = 5e-4
    # Largest norm of the gradient; 0: no limit.
    solver.CLIP_NORM = 5.0
    # Share of the target that all classes get in equal parts.
    solver.LABEL_SMOOTHING = 0.0
    # float32, bfloat16 or float16 (autocast; float16 with loss scaling, on GPUs only).
    solver.PRECISION = "float32"
    # torch.compile for the training's steps: minutes of compilation, then faster ones on GPUs.
    solver.COMPILE = False
    # Iterations between checkpoints beside those at the end of each epoch; 0: none.
    solver.CHECKPOINT_PERIOD = 0
    # Iterations between lines of the log and of metrics.json.
    solver.LOG_PERIOD = 100


def get_classification_config(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Defaults, then a config file, then overrides, checked.

    Args:
        config_file: a path, or the name of a config that comes with this package. Empty: the
            defaults.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or a value can't be meant.
    """
    cfg = CfgNode()
    add_classification_config(cfg)
    merge_config(cfg, config_file, opts)
    check_config(cfg)
    return cfg
