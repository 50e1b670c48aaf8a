"""One update written out by hand, and what the learner saves and refuses."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nasnet_det.search.controller import Controller
from nasnet_det.search.ppo import PPO
from nasnet_det.space import SearchSpace

NUM_CHOICES = (2, 3, 2)
STARTS = (0, 2, 5)
"""First row of each decision in the tables of embeddings and logits."""


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def score_by_hand(weights: dict[str, np.ndarray], choices: list[int]) -> tuple[float, float]:
    """Log-probability and entropy of one list of decisions, from the LSTM's equations."""
    size = weights["lstm.weight_hh"].shape[1]
    h, c = np.zeros(size), np.zeros(size)
    x = weights["start"]
    log_prob = entropy = 0.0
    for start, number, choice in zip(STARTS, NUM_CHOICES, choices, strict=True):
        gates = weights["lstm.weight_ih"] @ x + weights["lstm.bias_ih"]
        gates += weights["lstm.weight_hh"] @ h + weights["lstm.bias_hh"]
        enter, forget, candidate, leave = np.split(gates, 4)
        c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(candidate)
        h = sigmoid(leave) * np.tanh(c)
        scores = [
            math.exp(weights["logits.weight"][start + i] @ h + weights["logits.bias"][start + i])
            for i in range(number)
        ]
        probs = [score / sum(scores) for score in scores]
        log_prob += math.log(probs[choice])
        entropy -= sum(p * math.log(p) for p in probs)
        x = weights["embedding.weight"][start + choice]
    return log_prob, entropy


def loss_by_hand(
    weights: dict[str, np.ndarray],
    lists: list[list[int]],
    advantages: list[float],
    old: list[float],
    clip: float,
    entropy_weight: float,
) -> tuple[float, int]:
    """The loss and how many ratios are clipped."""
    total, num_clipped = 0.0, 0
    for choices, advantage, old_log_prob in zip(lists, advantages, old, strict=True):
        log_prob, entropy = score_by_hand(weights, choices)
        ratio = math.exp(log_prob - old_log_prob)
        clipped = max(1 - clip, min(1 + clip, ratio))
        total -= min(ratio * advantage, clipped * advantage) + entropy_weight * entropy
        num_clipped += ratio != clipped
    return total / len(lists), num_clipped


def differentiate(weights: dict[str, np.ndarray], loss: Callable) -> dict[str, np.ndarray]:
    """Central differences, weight by weight."""
    grads = {name: np.zeros_like(value) for name, value in weights.items()}
    for name, value in weights.items():
        for index in np.ndindex(value.shape):
            centre, losses = value[index], []
            for step in (1e-5, -1e-5):
                value[index] = centre + step
                losses.append(loss(weights)[0])
            value[index] = centre
            grads[name][index] = (losses[0] - losses[1]) / 2e-5
    return grads


def test_two_updates_equal_those_by_hand() -> None:
    """Loops in numpy: LSTM, objective, numerical gradients, Adam, baseline, all that is logged."""
    lr, clip, entropy_weight, num_epochs = 0.01, 0.03, 0.1, 3
    controller = Controller(
        NUM_CHOICES,
        hidden_size=3,
        embedding_size=2,
        init_range=1.0,
        generator=torch.Generator().manual_seed(7),
    ).double()
    weights = {k: v.detach().numpy().copy() for k, v in controller.named_parameters()}
    ppo = PPO(controller, lr=lr, clip=clip, entropy_weight=entropy_weight, num_epochs=num_epochs)
    first = {k: np.zeros_like(v) for k, v in weights.items()}
    second = {k: np.zeros_like(v) for k, v in weights.items()}
    step, baseline = 0, None
    minibatches = [
        ([[0, 0, 0], [1, 2, 1], [0, 1, 1], [1, 2, 0]], [0.9, 0.2, 0.5, 0.1]),
        ([[1, 1, 1], [0, 2, 0], [1, 0, 0], [1, 0, 0]], [0.6, 0.8, 0.3, 0.3]),
    ]
    for lists, rewards in minibatches:
        if baseline is None:
            baseline = sum(rewards) / 4
        advantages = [reward - baseline for reward in rewards]
        used_baseline = baseline
        for reward in rewards:
            baseline = 0.95 * baseline + 0.05 * reward
        old = [score_by_hand(weights, choices)[0] for choices in lists]

        def loss(w: dict[str, np.ndarray]) -> tuple[float, int]:
            return loss_by_hand(w, lists, advantages, old, clip, entropy_weight)  # noqa: B023

        norms, num_clipped = [], 0
        for _ in range(num_epochs):
            step += 1
            num_clipped += loss(weights)[1]
            grads = differentiate(weights, loss)
            norms.append(math.sqrt(sum((g**2).sum() for g in grads.values())))
            for name, g in grads.items():
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                mean = first[name] / (1 - 0.9**step)
                square = second[name] / (1 - 0.999**step)
                weights[name] -= lr * mean / (np.sqrt(square) + 1e-8)
        assert num_clipped > 0, "clipping was part of it"

        stats = ppo.update(torch.tensor(lists), rewards)
        for name, parameter in controller.named_parameters():
            np.testing.assert_allclose(parameter.detach(), weights[name], atol=1e-6, err_msg=name)
        after = [score_by_hand(weights, choices) for choices in lists]
        log_ratios = [new - o for (new, _), o in zip(after, old, strict=True)]
        assert stats.mean_reward == pytest.approx(sum(rewards) / 4)
        assert stats.baseline == pytest.approx(used_baseline)
        assert ppo.baseline == pytest.approx(baseline)
        kl = sum(math.exp(d) - 1 - d for d in log_ratios) / 4
        assert stats.approx_kl == pytest.approx(kl, rel=1e-3)
        outside = sum(abs(math.exp(d) - 1) > clip for d in log_ratios) / 4
        assert stats.clip_fraction == outside
        assert stats.entropy == pytest.approx(sum(e for _, e in after) / 4, rel=1e-6)
        assert stats.grad_norm == pytest.approx(sum(norms) / num_epochs, rel=1e-4)


def build_ppo(seed: int) -> PPO:
    generator = torch.Generator().manual_seed(seed)
    return PPO(Controller(SearchSpace(num_blocks=2).num_choices, generator=generator))


def learn(ppo: PPO, first: int, last: int) -> list[tuple[float, ...]]:
    """Updates ``first`` to ``last`` with a reward for small choices."""
    stats = []
    for number in range(first, last):
        choices = ppo.controller.sample(20, torch.Generator().manual_seed(number)).choices
        stats.append(ppo.update(choices, (-choices.float().mean(dim=1)).tolist()))
    return stats


def test_saved_state_continues_exactly() -> None:
    ppo = build_ppo(0)
    learn(ppo, 0, 3)
    file = io.BytesIO()
    torch.save(ppo.state_dict(), file)
    wanted = learn(ppo, 3, 6)
    file.seek(0)
    other = build_ppo(1)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert learn(other, 3, 6) == wanted
    assert other.num_updates == 6
    assert other.baseline == ppo.baseline
    for one, two in zip(ppo.controller.parameters(), other.controller.parameters(), strict=True):
        assert torch.equal(one, two)


def test_rewarded_choices_become_likelier() -> None:
    ppo = build_ppo(0)
    stats = learn(ppo, 0, 20)
    assert stats[-1].mean_reward > stats[0].mean_reward + 0.2
    assert stats[-1].entropy < stats[0].entropy


def test_older_log_probs_change_the_ratio() -> None:
    choices = build_ppo(0).controller.sample(20).choices
    rewards = (-choices.float().mean(dim=1)).tolist()
    one, other = build_ppo(0), build_ppo(0)
    assert one.update(choices, rewards).approx_kl < 1
    assert other.update(choices, rewards, torch.full((20,), -5.0)).approx_kl > 1


@pytest.mark.parametrize("rewards", [[], [0.5], [0.5, math.nan], [math.inf, 0.5], [0.1, 0.2, 0.3]])
def test_rewards_that_can_not_be_are_refused(rewards: list[float]) -> None:
    ppo = build_ppo(0)
    choices = ppo.controller.sample(2).choices
    with pytest.raises(ValueError, match="wanted one finite reward for each of 2 architectures"):
        ppo.update(choices, rewards)
    assert ppo.num_updates == 0
