"""Config keys of the search: the paper's numbers, strict reading, and what is built from them."""

from __future__ import annotations

import pytest
import torch

from nasnet_det.config import ConfigError
from nasnet_det.search.config import build_ppo, build_space, get_search_config
from nasnet_det.search.scaling import settle
from nasnet_det.space import SearchSpace


def test_defaults_are_the_papers() -> None:
    cfg = get_search_config()
    assert build_space(cfg) == SearchSpace()
    ppo = build_ppo(cfg, SearchSpace())
    assert ppo.controller.lstm.hidden_size == 100
    assert ppo.optimizer.param_groups[0]["lr"] == 3.5e-4
    assert (ppo.entropy_weight, ppo.baseline_weight) == (1e-5, 0.95)
    assert settle(cfg).SEARCH.SAMPLER.MINIBATCH == 20
    assert cfg.SEARCH.SAMPLER.NAME == "controller"


def test_every_key_reaches_what_it_is_for() -> None:
    text = (
        "SEARCH.SPACE.NUM_BLOCKS 2 SEARCH.SPACE.OPERATIONS ['identity','conv_1x1'] "
        "SEARCH.SPACE.COMBINERS ['add'] SEARCH.CONTROLLER.HIDDEN_SIZE 7 "
        "SEARCH.CONTROLLER.EMBEDDING_SIZE 3 SEARCH.CONTROLLER.INIT_RANGE 0.01 SEARCH.PPO.LR 1 "
        "SEARCH.PPO.ENTROPY_WEIGHT 2 SEARCH.PPO.BASELINE_WEIGHT 0.5 SEARCH.PPO.CLIP 0.1 "
        "SEARCH.PPO.NUM_EPOCHS 9"
    )
    cfg = get_search_config(opts=text.split())
    space = build_space(cfg)
    assert space == SearchSpace(2, ("identity", "conv_1x1"), ("add",))
    ppo = build_ppo(cfg, space)
    assert (ppo.controller.lstm.hidden_size, ppo.controller.embedding.embedding_dim) == (7, 3)
    assert max(p.abs().max() for p in ppo.controller.parameters()) <= 0.01
    assert ppo.optimizer.param_groups[0]["lr"] == 1.0
    assert (ppo.entropy_weight, ppo.baseline_weight, ppo.clip) == (2.0, 0.5, 0.1)
    assert ppo.num_epochs == 9


def test_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = build_ppo(get_search_config(), SearchSpace()).controller
    torch.manual_seed(2)
    again = build_ppo(get_search_config(), SearchSpace()).controller
    other = build_ppo(get_search_config(opts=["SEARCH.SEED", "1"]), SearchSpace()).controller
    assert torch.equal(one.start, again.start)
    assert not torch.equal(one.start, other.start)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["SEARCH.PPO.LRR", "1"], "unknown config key 'SEARCH.PPO.LRR' .* mean 'SEARCH.PPO.LR'"),
        (["SEARCH.PPO.LR", "fast"], "SEARCH.PPO.LR: wanted a number .* got 'fast'"),
        (["SEARCH.PPO", "1"], "SEARCH.PPO: wanted one of its keys"),
    ],
)
def test_keys_and_values_that_can_not_be_meant_are_refused(opts: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        get_search_config(opts=opts)
