"""The controller: a one-layer LSTM that makes the decisions of an architecture one after another.

Source: arXiv 1707.07012, appendix A.2: 100 hidden units, one softmax for each decision, weights
uniform in [-0.1, 0.1], and the probability of an architecture is the product over its decisions.
How a choice is fed into the next step is not in the paper; here it is embedded, each choice of each
decision with a vector of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import nn


class Rollout(NamedTuple):
    """A batch of architectures as the controller sees them.

    Attributes:
        choices: (B, decisions) int64, the index of each choice.
        log_probs: (B,) natural logarithm of each architecture's probability.
        entropies: (B,) in nats, the sum over an architecture's decisions of the softmax's entropy.
    """

    choices: torch.Tensor
    log_probs: torch.Tensor
    entropies: torch.Tensor


class Controller(nn.Module):
    """A distribution over lists of decisions.

    Args:
        num_choices: number of choices of each decision
            (:attr:`~nasnet_det.space.SearchSpace.num_choices`).
        hidden_size: units of the LSTM.
        embedding_size: length of the vector that stands for a choice. Ours: as many as units.
        init_range: all weights and biases start uniform in [-init_range, init_range].
        generator: source of the first weights; torch's own if None.
    """

    def __init__(
        self,
        num_choices: Sequence[int],
        *,
        hidden_size: int = 100,
        embedding_size: int = 100,
        init_range: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_choices = tuple(num_choices)
        ends = list(accumulate(self.num_choices))
        # Where each decision's choices lie in the two tables below.
        self._ranges = list(zip([0, *ends], ends, strict=False))
        self.start = nn.Parameter(torch.empty(embedding_size))  # the first step's input
        self.embedding = nn.Embedding(ends[-1], embedding_size)
        self.lstm = nn.LSTMCell(embedding_size, hidden_size)
        self.logits = nn.Linear(hidden_size, ends[-1])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -init_range, init_range, generator=generator)

    def sample(self, number: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw ``number`` architectures; no gradients are kept."""

        def draw(_: int, log_probs: torch.Tensor) -> torch.Tensor:
            return torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(1)

        with torch.no_grad():
            return self._unroll(number, draw)

    def score(self, choices: torch.Tensor) -> Rollout:
        """The same for given choices (B, decisions) int64, with gradients."""
        return self._unroll(len(choices), lambda step, _: choices[:, step])

    def _unroll(self, number: int, choose: Callable[[int, torch.Tensor], torch.Tensor]) -> Rollout:
        """Run all decisions; ``choose(step, log_probs (B, choices))`` returns (B,) indices."""
        x = self.start.expand(number, -1)
        state = None
        choices, log_probs, entropies = [], [], []
        for step, (first, last) in enumerate(self._ranges):
            state = self.lstm(x, state)
            logits = nn.functional.linear(
                state[0], self.logits.weight[first:last], self.logits.bias[first:last]
            )
            log_p = logits.log_softmax(dim=1)
            choice = choose(step, log_p)
            choices.append(choice)
            log_probs.append(log_p.gather(1, choice[:, None]).squeeze(1))
            entropies.append(-(log_p.exp() * log_p).sum(dim=1))
            x = self.embedding(choice + first)
        return Rollout(
            torch.stack(choices, dim=1),
            torch.stack(log_probs, dim=1).sum(dim=1),
            torch.stack(entropies, dim=1).sum(dim=1),
        )
