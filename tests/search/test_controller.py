"""The controller as a distribution."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from nasnet_det.search.controller import Controller
from nasnet_det.space import SearchSpace

NUM_CHOICES = (2, 3, 1, 2)


def build_controller(num_choices: tuple[int, ...] = NUM_CHOICES, seed: int = 0) -> Controller:
    """A small controller with opinions."""
    return Controller(
        num_choices,
        hidden_size=8,
        embedding_size=5,
        init_range=1.0,
        generator=torch.Generator().manual_seed(seed),
    ).double()


def all_lists() -> torch.Tensor:
    return torch.tensor(list(itertools.product(*map(range, NUM_CHOICES))))


def test_controller_is_the_papers() -> None:
    controller = Controller(SearchSpace().num_choices)
    assert isinstance(controller.lstm, torch.nn.LSTMCell)
    assert controller.lstm.hidden_size == 100
    for name, parameter in controller.named_parameters():
        assert parameter.abs().max() <= 0.1, name
        assert parameter.abs().max() > 0.09, name
        assert parameter.mean().abs() < 0.03, name


def test_score_of_samples_equals_their_log_probs() -> None:
    controller = Controller(SearchSpace().num_choices)
    sampled = controller.sample(20, torch.Generator().manual_seed(1))
    assert sampled.choices.shape == (20, 50)
    scored = controller.score(sampled.choices)
    torch.testing.assert_close(scored.log_probs, sampled.log_probs, rtol=0, atol=1e-4)
    torch.testing.assert_close(scored.entropies, sampled.entropies, rtol=0, atol=1e-4)
    assert scored.log_probs.requires_grad
    assert not sampled.log_probs.requires_grad
    one_by_one = torch.cat([controller.score(c[None]).log_probs for c in sampled.choices])
    torch.testing.assert_close(one_by_one, scored.log_probs, rtol=0, atol=1e-4)


def test_probabilities_of_all_lists_sum_to_one() -> None:
    controller = build_controller()
    rollout = controller.score(all_lists())
    assert rollout.log_probs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert rollout.log_probs.exp().max() > 2 / len(all_lists()), "it is not uniform"


def test_expected_entropy_is_that_of_the_whole_distribution() -> None:
    """The chain rule of entropy: the sum over the decisions, averaged over the lists."""
    rollout = build_controller().score(all_lists())
    probs = rollout.log_probs.exp()
    of_lists = -(probs * rollout.log_probs).sum()
    assert (probs * rollout.entropies).sum().item() == pytest.approx(of_lists.item(), abs=1e-12)


def test_samples_have_the_scored_frequencies() -> None:
    controller = build_controller()
    number = 20_000
    samples = controller.sample(number, torch.Generator().manual_seed(2)).choices
    counts = Counter(map(tuple, samples.tolist()))
    probs = controller.score(all_lists()).log_probs.exp()
    for choices, prob in zip(all_lists().tolist(), probs.tolist(), strict=True):
        deviation = (number * prob * (1 - prob)) ** 0.5
        assert abs(counts[tuple(choices)] - number * prob) < 4.5 * deviation + 1


def test_a_decision_depends_on_the_choice_before_the_last() -> None:
    controller = build_controller((2, 2, 2), seed=3)
    lists = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]])
    last = controller.score(lists).log_probs.view(2, 2).softmax(dim=1)
    assert (last[0] - last[1]).abs().max() > 1e-3


def test_samples_repeat_with_the_generator() -> None:
    controller = Controller(SearchSpace().num_choices)
    first, again, other = (
        controller.sample(20, torch.Generator().manual_seed(seed)).choices for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
