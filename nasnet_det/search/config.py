"""Config keys of the architecture search.

Where the paper (arXiv 1707.07012, section 3 and appendix A) gives a number, that is the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from yacs.config import CfgNode

from nasnet_det.config import merge_config
from nasnet_det.genotype import COMBINERS, OPERATION_NAMES
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.search.controller import Controller
from nasnet_det.search.detector_config import add_detector_config, list_extras
from nasnet_det.search.ppo import PPO
from nasnet_det.search.scaling import settle
from nasnet_det.search.streams import Stream
from nasnet_det.space import SearchSpace


def add_search_config(cfg: CfgNode) -> None:
    """Add the keys of the search, with their defaults."""
    # Gets config.yaml, study.db, controller.pth, tensorboard/ and genotype.json.
    cfg.OUTPUT_DIR = "output/search"
    cfg.SEARCH = search = CfgNode()
    # Children in all; the paper stopped at 20,000.
    search.NUM_TRIALS = 20000
    # 0 or more. One seed, one result, whatever the number of workers.
    search.SEED = 0

    # True: no worker waits for the others of a minibatch, but what is found depends on which child
    # ends first.
    search.ASYNCHRONOUS = False
    # accuracy alone, or followed by macs or params or both (not for controller and evolution); of
    # detectors ap alone, or followed by some of macs, params and latency_ms.
    search.GOALS = ["accuracy"]
    study = search.STUDY = CfgNode()
    # Of the study in its storage, which may hold several.
    study.NAME = "search"
    # SQLAlchemy's URL of Optuna's storage, or journal:///FILE for its journal file; empty: SQLite
    # in OUTPUT_DIR/study.db. postgresql+psycopg://user@host/database wants the extra postgresql.
    study.STORAGE = ""

    space = search.SPACE = CfgNode()
    # B: blocks in each of the two cells.
    space.NUM_BLOCKS = 5
    # What a block may do with each of its two inputs.
    space.OPERATIONS = list(OPERATION_NAMES)
    # How a block combines its two results; [add] is the space of NASNet-A's published cells.
    space.COMBINERS = list(COMBINERS)

    sampler = search.SAMPLER = CfgNode()
    # controller, random, evolution, predictor, tpe or nsga2 (see nasnet_det/search/samplers.py).
    sampler.NAME = "controller"
    # Architectures that are proposed together, before any of their rewards is known; 0: the root of
    # NUM_TRIALS / 2, at most 20 (see nasnet_det/search/scaling.py, also for the other zeros).
    sampler.MINIBATCH = 0

    controller = search.CONTROLLER = CfgNode()
    # Of the LSTM.
    controller.HIDDEN_SIZE = 100
    # Ours: the length of the vector that tells the LSTM its last choice.
    controller.EMBEDDING_SIZE = 100
    # Weights start within plus and minus this.
    controller.INIT_RANGE = 0.1

    ppo = search.PPO = CfgNode()
    # Of Adam; 0: by the number of updates, 0.005 for 20 of them and the paper's 0.00035 for 1,000.
    ppo.LR = 0.0
    # How much an even choice is worth beside the reward.
    ppo.ENTROPY_WEIGHT = 1e-5
    # Weight of the past in the moving average of rewards.
    ppo.BASELINE_WEIGHT = 0.95
    # Ours: how far the ratio of new to old probability may leave 1.
    ppo.CLIP = 0.2
    # Ours: gradient steps for each minibatch.
    ppo.NUM_EPOCHS = 5

    # Regularized evolution (arXiv 1802.01548): architectures alive, and in each tournament; 0: the
    # root of NUM_TRIALS, 20 to the paper's 100, and a quarter of these, at least 10.
    search.EVOLUTION = CfgNode({"POPULATION": 0, "TOURNAMENT": 0})
    # The predictor: trials with a reward before it has a model, from how many it takes each, and
    # how many of these, the best so far, it measures untrained before it takes one; 0: none.
    search.PREDICTOR = CfgNode({"NUM_STARTUP_TRIALS": 20, "NUM_CANDIDATES": 200, "NUM_MEASURED": 8})
    # Trials at random before TPE starts; Optuna's default.
    search.TPE = CfgNode({"NUM_STARTUP_TRIALS": 10})
    # Architectures in each generation; Optuna's default.
    search.NSGA2 = CfgNode({"POPULATION": 50})

    pruner = search.PRUNER = CfgNode()
    # Empty: every child is trained to the end. median or asha: one that is hopeless beside those of
    # earlier minibatches is ended early, and its reward is its last accuracy. For accuracy alone.
    pruner.NAME = ""
    # Ours, as is the rest: the first epoch after which a child can be ended.
    pruner.MIN_EPOCHS = 1
    # median: a child ends where its best accuracy is below the median of the complete ones after as
    # many epochs; how many complete ones there have to be.
    pruner.NUM_STARTUP_TRIALS = 5
    # asha: after MIN_EPOCHS and each time its epochs are this many times as many, one child of so
    # many goes on.
    pruner.REDUCTION_FACTOR = 4
    _add_child_config(search)
    add_detector_config(cfg)


def _add_child_config(search: CfgNode) -> None:
    """Add the keys of how children are trained, and by whom."""
    # The most that a child may have to be trained at all; 0: no limit.
    search.LIMITS = CfgNode({"MAX_PARAMS": 0, "MAX_MACS": 0})

    data = search.DATA = CfgNode()
    # A folder with torchvision's cifar-10-batches-py in it, an .npz file of arrays (x_train,
    # y_train) or of encoded pictures (see nasnet_det/data/encoded_pictures.py), or a folder with
    # one sub-folder of images for each class.
    data.PATH = ""
    # skip: images that can't be read are left out, named and counted; stop: the first ends the run.
    data.BROKEN_IMAGES = "skip"
    # Training images whose accuracy is the reward: 5,000 of 50,000.
    data.NUM_HELD_OUT = 5000
    # Images to train on; 0: all others.
    data.NUM_TRAIN = 0
    # Height and width of what the network sees, and before the random crop.
    data.IMAGE_SIZE = 32
    data.UPSAMPLED_SIZE = 40
    # Mirror half of the images on which children are trained.
    data.FLIP = True
    # How images get another size: bilinear, or bicubic as for classifiers.
    data.RESIZE = "bilinear"

    child = search.CHILD = CfgNode()
    # classifier, or detector: of SEARCH.DETECTOR, after a first rung of classifiers of crops.
    child.KIND = "classifier"
    # N, normal cells in each of the three stages.
    child.NUM_CELLS_PER_STAGE = 2
    # Ours, to the next comment (the paper does not say; these are TF-slim's for its final CIFAR-10
    # training): F, channels of the first stage; of the stem, as a multiple of F; and so on.
    child.CHANNELS = 32
    child.STEM_MULTIPLIER = 3
    child.BATCH_SIZE = 32
    child.LR = 0.025
    child.WEIGHT_DECAY = 5e-4
    # Largest norm of the gradient; 0: no limit.
    child.CLIP_NORM = 5.0
    # The paper's: passes over the images, within one cosine period, and SGD's momentum.
    child.EPOCHS = 20
    child.MOMENTUM = 0.9
    # Ours: ScheduledDropPath off, as 20 epochs hardly overfit.
    child.DROP_PATH_PROB = 0.0
    # Weight of the loss of the auxiliary head, as in the paper's final training (0.4); 0: no head.
    child.AUX_WEIGHT = 0.0
    # float32, or bfloat16 for GPUs that compute it faster.
    child.PRECISION = "float32"
    # Seconds after which a child has failed, also one that hangs in a worker; 0: no limit. With
    # one, results depend on the machine.
    child.TIME_LIMIT_S = 0.0

    retrain = search.RETRAIN = CfgNode()
    # After the search so many of its best architectures are trained again, for longer, and the best
    # of these is the result (the paper: 250, until they converged); 0: the search's best is.
    retrain.NUM_BEST = 0
    # Their study is <SEARCH.STUDY.NAME>.<this one>.
    retrain.NAME = "retrained"
    # Seconds after which one has failed; 0: no limit.
    retrain.TIME_LIMIT_S = 0.0
    # What is not -1 stands for the key of SEARCH.CHILD or SEARCH.DATA.
    retrain.EPOCHS = -1
    retrain.NUM_CELLS_PER_STAGE = -1
    retrain.CHANNELS = -1
    retrain.BATCH_SIZE = -1
    retrain.LR = -1.0
    retrain.WEIGHT_DECAY = -1.0
    retrain.DROP_PATH_PROB = -1.0
    retrain.AUX_WEIGHT = -1.0
    retrain.NUM_TRAIN = -1
    retrain.IMAGE_SIZE = -1
    retrain.UPSAMPLED_SIZE = -1
    # The same for what is not empty.
    retrain.RESIZE = ""

    executor = search.EXECUTOR = CfgNode()
    # in_process, local_processes or ray (see nasnet_det/search/executors.py).
    executor.NAME = "in_process"
    # Processes; 0: one for each GPU, or for each core without a GPU; of Ray, as many as have room.
    executor.NUM_WORKERS = 0
    # auto, cpu, cuda or cuda:<i>.
    executor.DEVICE = "auto"
    # How often a child whose worker was lost is given to another, before it is to blame.
    executor.MAX_RETRIES = 3
    executor.RAY = CfgNode()
    # host:port, or auto for the cluster that this machine is part of; empty: one is started here.
    executor.RAY.ADDRESS = ""
    # What a child reserves. One thread trains it, on a GPU if it has one or a part of one.
    executor.RAY.CPUS_PER_CHILD = 1.0
    executor.RAY.GPUS_PER_CHILD = 0.0


def get_search_config(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Defaults, then a config file, then overrides.

    Args:
        config_file: a path, or the name of a config that comes with this package. Empty: the
            defaults.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or a value can't be meant.
    """
    cfg = CfgNode()
    add_search_config(cfg)
    merge_config(cfg, config_file, opts)
    return cfg


def build_space(cfg: CfgNode) -> SearchSpace:
    """The search space of a config.

    Raises:
        SpaceError: there is no such space; all reasons are listed.
    """
    node = cfg.SEARCH.SPACE
    cells = (node.NUM_BLOCKS, tuple(node.OPERATIONS), tuple(node.COMBINERS))
    return SearchSpace(*cells, extras=list_extras(cfg))


def build_ppo(cfg: CfgNode, space: SearchSpace) -> PPO:
    """A new controller for a space, and its learner."""
    cfg = settle(cfg)
    seed = derive_seed(cfg.SEARCH.SEED, Stream.CONTROLLER, 0)
    node = cfg.SEARCH.CONTROLLER
    controller = Controller(
        space.num_choices,
        hidden_size=node.HIDDEN_SIZE,
        embedding_size=node.EMBEDDING_SIZE,
        init_range=node.INIT_RANGE,
        generator=torch.Generator().manual_seed(seed),
    )
    node = cfg.SEARCH.PPO
    return PPO(
        controller,
        lr=node.LR,
        entropy_weight=node.ENTROPY_WEIGHT,
        baseline_weight=node.BASELINE_WEIGHT,
        clip=node.CLIP,
        num_epochs=node.NUM_EPOCHS,
    )
