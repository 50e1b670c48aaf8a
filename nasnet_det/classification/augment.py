"""Augmentation of the recipes, out of torchvision's transforms v2.

Everything stays bytes until the device: mixing and whitening are done there, on whole batches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from yacs.config import CfgNode


class Cutout(nn.Module):
    """Cut a square out of an image (arXiv 1708.04552).

    Its centre is any pixel, so that it may reach over the border. It is filled with the mean color,
    which whitening makes zero (but for rounding).

    Args:
        size: side of the square in pixels.
        fill: color, in the scale of bytes.
    """

    def __init__(self, size: int, fill: list[float]) -> None:
        super().__init__()
        self.size = size
        self.fill = torch.tensor(fill).round().byte().view(3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(3, H, W) uint8 -> the same, a copy."""
        centres = [int(torch.randint(n, ())) for n in image.shape[1:]]
        (top, bottom), (left, right) = (
            (max(0, c - self.size // 2), c + self.size - self.size // 2) for c in centres
        )
        image = image.clone()
        image[:, top:bottom, left:right] = self.fill
        return image


def build_train_transform(cfg: CfgNode) -> v2.Compose:
    """A PIL image or a tensor (3, H, W) of bytes -> an augmented (3, IMAGE_SIZE, IMAGE_SIZE)."""
    node, size = cfg.AUGMENT, cfg.DATA.IMAGE_SIZE
    steps: list[Any] = []
    if node.CROP == "inception":
        steps.append(v2.RandomResizedCrop(size, scale=(node.MIN_AREA, 1.0), antialias=True))
    elif node.CROP == "none":
        steps += _central_crop(size, cfg.TEST.CROP_FRACTION)
    else:
        larger = size + 2 * node.BORDER if node.CROP == "upsample" else size
        padding = node.BORDER if node.CROP == "pad" else 0
        steps += [*_central_crop(larger, 1.0), v2.RandomCrop(size, padding=padding or None)]
    if node.FLIP:
        steps.append(v2.RandomHorizontalFlip())
    if node.COLOR:  # the strengths are those of TF-slim's inception_preprocessing.py
        steps.append(v2.ColorJitter(brightness=32 / 255, contrast=0.5, saturation=0.5, hue=0.2))
    if node.RAND_AUGMENT.NUM_OPS:
        operations, magnitude = node.RAND_AUGMENT.NUM_OPS, node.RAND_AUGMENT.MAGNITUDE
        steps.append(v2.RandAugment(operations, magnitude))
    steps.append(v2.PILToTensor())
    if node.CUTOUT:
        steps.append(Cutout(node.CUTOUT, cfg.DATA.PIXEL_MEAN))
    return v2.Compose(steps)


def build_eval_transform(cfg: CfgNode) -> v2.Compose:
    """A PIL image or a tensor (3, H, W) of bytes -> its centre, (3, IMAGE_SIZE, IMAGE_SIZE)."""
    crop = _central_crop(cfg.DATA.IMAGE_SIZE, cfg.TEST.CROP_FRACTION)
    return v2.Compose([*crop, v2.PILToTensor()])


def build_whole_transform(size: int) -> v2.Compose:
    """A PIL image or a tensor (3, H, W) of bytes -> its largest square, (3, size, size)."""
    return v2.Compose([*_central_crop(size, 1.0), v2.PILToTensor()])


def build_mixing(cfg: CfgNode, num_classes: int) -> v2.Transform | None:
    """What mixes the images of a batch, or None.

    Of (B, 3, H, W) float and (B,) int64 it makes as many images, each of two, and the shares
    (B, num_classes) of their classes.
    """
    node = cfg.AUGMENT
    mixings: list[v2.Transform] = []
    if node.MIXUP:
        mixings.append(v2.MixUp(alpha=node.MIXUP, num_classes=num_classes))
    if node.CUTMIX:
        mixings.append(v2.CutMix(alpha=node.CUTMIX, num_classes=num_classes))
    if len(mixings) > 1:
        return v2.RandomChoice(mixings)
    return mixings[0] if mixings else None


def _central_crop(size: int, fraction: float) -> list[Any]:
    resize = v2.Resize(
        round(size / fraction), interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return [resize, v2.CenterCrop(size)]
