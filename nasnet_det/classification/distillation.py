"""Distillation: a student learns what a teacher says of images, beside their labels or without.

The loss of the logits is Hinton's (arXiv 1503.02531): the divergence of the distributions at a
temperature T, times T squared. That of the features is one minus the cosine between the teacher's
pooled features and a linear map of the student's. Where the teacher tells other classes apart than
the data set has, the student gets linear layers of its own for the teacher's; they are trained with
it and are no part of the network that is saved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from yacs.config import CfgNode

from nasnet_det.classification.data import NO_LABEL
from nasnet_det.classification.library_classifier import LibraryClassifier
from nasnet_det.classification.teachers import Teacher, TeacherOutput
from nasnet_det.config import ConfigError
from nasnet_det.network import NASNet


class Student(nn.Module):
    """A classifier, and the layers with which it learns from a teacher.

    Args:
        model: the classifier.
        num_logits: classes of the teacher; 0: the classifier's own logits are compared.
        num_features: length of the teacher's features; 0: they are not learned.
    """

    def __init__(
        self, model: NASNet | LibraryClassifier, num_logits: int, num_features: int
    ) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ModuleDict()
        if num_logits:
            self.heads["logits"] = nn.Linear(model.num_features, num_logits)
        if num_features:
            self.heads["features"] = nn.Linear(model.num_features, num_features)
        self._pooled: list[torch.Tensor] = []
        model.dropout.register_forward_pre_hook(
            lambda _, arguments: self._pooled.append(arguments[0])
        )

    def forward(self, images: torch.Tensor) -> tuple[Any, dict[str, torch.Tensor]]:
        """(B, 3, H, W) -> the model's output, and that of each layer for the teacher."""
        output = self.model(images)
        pooled = self._pooled.pop()
        return output, {name: head(pooled) for name, head in self.heads.items()}


def build_student(
    model: NASNet | LibraryClassifier, teacher: Teacher, cfg: CfgNode, classes: Sequence[str]
) -> Student:
    """A student of the right size for what a teacher says.

    Args:
        model: the classifier, on the teacher's device.
        teacher: is asked once, about a black image.
        cfg: the config.
        classes: names of the data set's classes.

    Raises:
        ConfigError: what the teacher gives is no logits.
    """
    size, like = cfg.DATA.IMAGE_SIZE, next(model.parameters())
    output = teacher(torch.zeros(1, 3, size, size, device=like.device))
    if output.logits.ndim != 2 or output.logits.shape[0] != 1:
        raise ConfigError(
            f"DISTILL.TEACHER: wanted logits (images, classes) of {teacher.name}, got shape "
            f"{tuple(output.logits.shape)} for one image"
        )
    num_logits = output.logits.shape[1]
    num_features = 0 if output.features is None else output.features.shape[1]
    own = has_classes(teacher, num_logits, classes)
    return Student(model, 0 if own else num_logits, num_features).to(like.device)


def has_classes(teacher: Teacher, num_logits: int, classes: Sequence[str]) -> bool:
    """Whether a teacher tells these very classes apart, in this order.

    Of a teacher that does not name them, a thousand are ImageNet's, by WordNet id.
    """
    if teacher.classes:
        return teacher.classes == tuple(classes)
    wordnet = all(re.fullmatch(r"n\d{8}", name) for name in classes)
    return wordnet and len(classes) == num_logits == 1000


def compute_label_loss(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Mean cross entropy over the images that have a label, 0 where none has.

    Args:
        logits: (B, C).
        labels: (B,) int64, :data:`NO_LABEL` where there is none.
        label_smoothing: share of the target that all classes get in equal parts.
    """
    has_label = labels != NO_LABEL
    if not has_label.any():
        return logits.sum() * 0
    return F.cross_entropy(logits[has_label], labels[has_label], label_smoothing=label_smoothing)


def compute_teacher_loss(
    logits: torch.Tensor, taught: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Divergence of the student's distribution from the teacher's, times T squared.

    Args:
        logits: (B, C), the student's.
        taught: (B, C), the teacher's.
        temperature: T, by which both are divided.
    """
    student, teacher = (x.div(temperature).log_softmax(1) for x in (logits, taught))
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def compute_distillation_loss(
    label_loss: torch.Tensor,
    logits: torch.Tensor,
    outputs: dict[str, torch.Tensor],
    taught: TeacherOutput,
    node: CfgNode,
) -> torch.Tensor:
    """The loss of a distillation.

    Args:
        label_loss: that of the labels.
        logits: of the classifier.
        outputs: of the layers for the teacher.
        taught: what the teacher said.
        node: ``cfg.DISTILL``.
    """
    mine = outputs.get("logits", logits)
    teacher_loss = compute_teacher_loss(mine, taught.logits, node.TEMPERATURE)
    loss = (1 - node.WEIGHT) * label_loss + node.WEIGHT * teacher_loss
    if "features" in outputs and taught.features is not None:
        distance = 1 - F.cosine_similarity(outputs["features"], taught.features)
        loss = loss + node.FEATURE_WEIGHT * distance.mean()
    return loss
