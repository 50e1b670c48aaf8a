"""How the controller learns from a minibatch of rewards: proximal policy optimization.

What the paper says (arXiv 1707.07012, appendix A.2 and A.3): PPO with learning rate 0.00035,
entropy weight 0.00001, an exponential moving average of past rewards with weight 0.95 as the
baseline, and minibatches of 20 architectures. The rest is ours and marked so.

The details, with the numbers that stand beside their lines in :meth:`PPO.update`:

1. One action is a whole architecture: its probability is the product over its decisions. There
   are no values, no discounts and nothing else to estimate.
2. The advantage is the reward less the baseline of the rewards *before* this minibatch. It is not
   normalized (ours; Adam's step hardly depends on the scale of the rewards).
3. The very first minibatch has no past; its own mean is its baseline (ours).
4. The baseline then takes in the rewards one after another, in the order of the minibatch:
   ``baseline = 0.95 * baseline + 0.05 * reward``.
5. All epochs (ours: 5) use the whole minibatch at once, so there is no order to shuffle.
6. The ratio of new to old probability is clipped to [1 - clip, 1 + clip] (ours: 0.2, as in the
   paper on PPO, arXiv 1707.06347), and the smaller of the two objectives counts.
7. The entropy of an architecture is the sum over its decisions; its mean, times the entropy
   weight, is added to the objective.
8. Adam (ours) with PyTorch's other defaults; gradients are not clipped (ours).
9. Logged: ``approx_kl`` is the mean of ratio - 1 - log ratio, an unbiased estimate of the
   divergence of the new from the old policy that is never negative. It, the clip fraction and the
   entropy are those after the last step; the gradient norm is the mean over the epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from nasnet_det.search.controller import Controller, Rollout


class PPOStats(NamedTuple):
    """What one update did.

    Attributes:
        mean_reward: mean of the minibatch.
        baseline: the baseline that was subtracted.
        approx_kl: in nats; how far the update moved the policy.
        clip_fraction: part of the minibatch, 0 to 1, whose ratio left the clip range.
        entropy: in nats, mean over the minibatch of the sum over the decisions.
        grad_norm: Euclidean norm of the gradient of all weights, mean over the epochs.
    """

    mean_reward: float
    baseline: float
    approx_kl: float
    clip_fraction: float
    entropy: float
    grad_norm: float


class PPO:
    """The learner of a controller.

    Args:
        controller: changed in place.
        lr: Adam's learning rate.
        entropy_weight: weight of the entropy in the objective.
        baseline_weight: weight of the past in the moving average, 0 to 1.
        clip: how far the ratio may leave 1 before its gradient stops.
        num_epochs: gradient steps for each minibatch.
    """

    def __init__(
        self,
        controller: Controller,
        *,
        lr: float = 3.5e-4,
        entropy_weight: float = 1e-5,
        baseline_weight: float = 0.95,
        clip: float = 0.2,
        num_epochs: int = 5,
    ) -> None:
        self.controller = controller
        self.optimizer = torch.optim.Adam(controller.parameters(), lr=lr)
        self.entropy_weight = entropy_weight
        self.baseline_weight = baseline_weight
        self.clip = clip
        self.num_epochs = num_epochs
        self.baseline: float | None = None
        self.num_updates = 0

    def update(
        self,
        choices: torch.Tensor,
        rewards: Sequence[float],
        old_log_probs: torch.Tensor | None = None,
    ) -> PPOStats:
        """Learn from one minibatch.

        Args:
            choices: (B, decisions) int64.
            rewards: B finite numbers.
            old_log_probs: (B,) at the time of sampling; None if the controller has not changed
                since then.

        Raises:
            ValueError: no reward, one that is not finite, or not one for each architecture.
        """
        if not len(rewards) == len(choices) > 0 or not all(map(math.isfinite, rewards)):
            raise ValueError(
                f"wanted one finite reward for each of {len(choices)} architectures, "
                f"got {list(rewards)}"
            )
        mean_reward = math.fsum(rewards) / len(rewards)
        if old_log_probs is None:
            with torch.no_grad():
                old_log_probs = self.controller.score(choices).log_probs  # 1
        baseline = mean_reward if self.baseline is None else self.baseline  # 3
        advantage = old_log_probs.new_tensor(rewards) - baseline  # 2
        self.baseline = baseline
        for r in rewards:
            self.baseline = (
                self.baseline_weight * self.baseline + (1 - self.baseline_weight) * r
            )  # 4

        grad_norms = []
        for _ in range(self.num_epochs):  # 5
            rollout = self.controller.score(choices)
            ratio = (rollout.log_probs - old_log_probs).exp()
            clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
            objective = torch.minimum(ratio * advantage, clipped * advantage).mean()  # 6
            loss = -objective - self.entropy_weight * rollout.entropies.mean()  # 7
            self.optimizer.zero_grad()
            loss.backward()
            grads = [p.grad for p in self.controller.parameters() if p.grad is not None]
            grad_norms.append(float(torch.nn.utils.get_total_norm(grads)))
            self.optimizer.step()  # 8
        self.num_updates += 1
        return self._describe(choices, old_log_probs, mean_reward, baseline, grad_norms)

    @torch.no_grad()
    def _describe(
        self,
        choices: torch.Tensor,
        old_log_probs: torch.Tensor,
        mean_reward: float,
        baseline: float,
        grad_norms: Sequence[float],
    ) -> PPOStats:
        rollout: Rollout = self.controller.score(choices)
        log_ratio = rollout.log_probs - old_log_probs
        ratio = log_ratio.exp()
        return PPOStats(
            mean_reward=mean_reward,
            baseline=baseline,
            approx_kl=float((ratio - 1 - log_ratio).mean()),  # 9
            clip_fraction=float(((ratio - 1).abs() > self.clip).float().mean()),
            entropy=float(rollout.entropies.mean()),
            grad_norm=math.fsum(grad_norms) / len(grad_norms),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next updates depend on; as elsewhere in torch, not a copy."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": self.baseline,
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, exactly."""
        self.controller.load_state_dict(state["controller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline = state["baseline"]
        self.num_updates = state["num_updates"]
