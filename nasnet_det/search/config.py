"""Config keys of the architecture search.

Where the paper (arXiv 1707.07012, section 3 and appendix A) gives a number, that is the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from yacs.config import CfgNode

from nasnet_det.config import merge_config
from nasnet_det.genotype import COMBINERS, OPERATION_NAMES
from nasnet_det.search.controller import Controller
from nasnet_det.search.ppo import PPO
from nasnet_det.search.seed import Stream, derive_seed
from nasnet_det.search.space import SearchSpace


def add_search_config(cfg: CfgNode) -> None:
    """Add the keys of the search, with their defaults."""
    cfg.SEARCH = search = CfgNode()
    # 0 or more. One seed, one result, whatever the number of workers.
    search.SEED = 0

    space = search.SPACE = CfgNode()
    # B: blocks in each of the two cells.
    space.NUM_BLOCKS = 5
    space.OPERATIONS = list(OPERATION_NAMES)
    # How a block combines its two results; [add] is the space of NASNet-A's published cells.
    space.COMBINERS = list(COMBINERS)

    sampler = search.SAMPLER = CfgNode()
    # controller, random, evolution, tpe or nsga2 (see nasnet_det/search/samplers.py).
    sampler.NAME = "controller"
    # Architectures that are proposed together, before any of their rewards is known.
    sampler.MINIBATCH = 20

    controller = search.CONTROLLER = CfgNode()
    controller.HIDDEN_SIZE = 100
    # Ours: the length of the vector that tells the LSTM its last choice.
    controller.EMBEDDING_SIZE = 100
    controller.INIT_RANGE = 0.1

    ppo = search.PPO = CfgNode()
    ppo.LR = 3.5e-4
    ppo.ENTROPY_WEIGHT = 1e-5
    ppo.BASELINE_WEIGHT = 0.95
    # Ours: how far the ratio of new to old probability may leave 1.
    ppo.CLIP = 0.2
    # Ours: gradient steps for each minibatch.
    ppo.NUM_EPOCHS = 5

    # Regularized evolution (arXiv 1802.01548): architectures alive, and in each tournament.
    search.EVOLUTION = CfgNode({"POPULATION": 100, "TOURNAMENT": 25})
    # Optuna's defaults: trials at random before TPE starts, and NSGA-II's population.
    search.TPE = CfgNode({"NUM_STARTUP_TRIALS": 10})
    search.NSGA2 = CfgNode({"POPULATION": 50})


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
    return SearchSpace(node.NUM_BLOCKS, tuple(node.OPERATIONS), tuple(node.COMBINERS))


def build_ppo(cfg: CfgNode, space: SearchSpace) -> PPO:
    """A new controller for a space, and its learner."""
    seed = derive_seed(cfg.SEARCH.SEED, Stream.CONTROLLER)
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
