"""Accuracy of a classifier, single crop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.classification.data import Batch


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
    batches: Iterable[Batch],
    *,
    classes: Sequence[str],
    predict: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    on_broken: Callable[[str], None],
) -> Evaluation:
    """Evaluate a model, which is left in evaluation mode.

    Args:
        model: the classifier.
        batches: see :func:`~nasnet_det.classification.data.build_test_loader`.
        classes: their names.
        predict: model and images of bytes -> logits, float32.
        on_broken: gets the name of each image that can't be read.

    Raises:
        ValueError: no image can be read.
    """
    model.eval()
    num_right, num_all = (torch.zeros(len(classes), dtype=torch.int64) for _ in range(2))
    num_right_5, loss, num_broken = 0, 0.0, 0
    for images, labels, broken in batches:
        num_broken += len(broken)
        for text in broken:
            on_broken(text)
        if not len(labels):
            continue
        logits = predict(model, images).cpu()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        best = logits.topk(min(5, len(classes)), dim=1).indices
        is_right = best == labels[:, None]
        num_right_5 += int(is_right.any(dim=1).sum())
        num_all += torch.bincount(labels, minlength=len(classes))
        num_right += torch.bincount(labels[is_right[:, 0]], minlength=len(classes))
    total = int(num_all.sum())
    if not total:
        raise ValueError(f"none of the {num_broken} images to evaluate can be read")
    return Evaluation(
        top1=int(num_right.sum()) / total,
        top5=num_right_5 / total,
        loss=loss / total,
        num_images=total,
        num_broken=num_broken,
        per_class={
            name: int(right) / int(number)
            for name, right, number in zip(classes, num_right, num_all, strict=True)
            if number
        },
    )
