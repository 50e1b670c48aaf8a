"""Accuracy of a classifier, single crop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.errors import InputError


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        top1, top5: accuracy, 0 to 1; top5 with fewer than 5 classes counts all of them.
        loss: mean cross entropy.
        num_images: images that were evaluated.
        num_broken: images that could not be read, which count nowhere.
        per_class: class -> top-1 accuracy; classes without images are left out.
    """

    top1: float
    top5: float
    loss: float
    num_images: int
    num_broken: int
    per_class: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor, Sequence[str]]],
    *,
    classes: Sequence[str],
    predict: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    on_broken: Callable[[str], None] = lambda name: None,
    add_up: Callable[[torch.Tensor], torch.Tensor] = lambda counts: counts,
) -> Evaluation:
    """Evaluate a model, which is left in evaluation mode.

    Args:
        model: the classifier.
        batches: images, their labels, and the names of those that can't be read.
        classes: their names.
        predict: model and images -> logits, float32.
        on_broken: gets the name of each image that can't be read.
        add_up: counts, float64 on the CPU -> their sums over all processes, where each evaluates a
            part of the images.

    Raises:
        InputError: no image can be read.
    """
    model.eval()
    num_right, num_all = (torch.zeros(len(classes), dtype=torch.int64) for _ in range(2))
    num_right_5, loss, num_broken = 0, 0.0, 0
    for images, labels, broken in (batch[:3] for batch in batches):
        num_broken += len(broken)
        for text in broken:
            on_broken(text)
        if not len(labels):
            continue
        logits, labels = predict(model, images).cpu(), labels.cpu()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        is_right = logits.argmax(dim=1) == labels
        best = logits.topk(min(5, len(classes)), dim=1).indices
        num_right_5 += int((best == labels[:, None]).any(dim=1).sum())
        num_all += torch.bincount(labels, minlength=len(classes))
        num_right += torch.bincount(labels[is_right], minlength=len(classes))
    others = torch.tensor([num_right_5, loss, num_broken], dtype=torch.float64)
    num_right, num_all, others = add_up(torch.cat([num_right, num_all, others])).split(
        [len(classes), len(classes), 3]
    )
    total, num_broken = int(num_all.sum()), int(others[2])
    if not total:
        raise InputError(f"none of the {num_broken} images to evaluate can be read")
    return Evaluation(
        top1=int(num_right.sum()) / total,
        top5=int(others[0]) / total,
        loss=float(others[1]) / total,
        num_images=total,
        num_broken=num_broken,
        per_class={
            name: int(right) / int(number)
            for name, right, number in zip(classes, num_right, num_all, strict=True)
            if number
        },
    )
