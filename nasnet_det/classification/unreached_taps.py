"""Taps of kernels that saw nothing but padding while a classifier was trained.

A classifier of small images has maps of a few pixels in its last stages: of a 7x7 kernel on a 2x2
map, 9 taps are ever inside. The others multiply zeros, learn nothing and stay random. On the larger
maps of a detector they would add noise to what was learned; zeros in their place change nothing
for the images of the training.
"""

from __future__ import annotations

import torch
from torch import nn

from nasnet_det.trunk import NASNetTrunk


def clear_unreached_taps(trunk: NASNetTrunk, image_size: int) -> dict[str, int]:
    """Set the taps of depthwise kernels to zero that lie in the padding for images of a size.

    Args:
        trunk: changed in place.
        image_size: height and width of the images.

    Returns:
        name of each kernel that has such taps -> how many of one channel's.
    """
    convs = {
        name: module
        for name, module in trunk.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    }
    was_training, needed = trunk.training, [p.requires_grad for p in trunk.parameters()]
    trunk.eval().requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, image_size, image_size, generator=generator)
    with torch.enable_grad():
        total = torch.stack([feature.square().sum() for feature in trunk(images).values()]).sum()
    gradients = torch.autograd.grad(
        total, [conv.weight for conv in convs.values()], allow_unused=True
    )
    counts = {}
    for (name, conv), gradient in zip(convs.items(), gradients, strict=True):
        if gradient is None:
            continue
        unreached = (gradient == 0).all(dim=0).all(dim=0)  # of all channels: one may be dead
        if unreached.any() and not unreached.all():
            counts[name] = int(unreached.sum())
            with torch.no_grad():
                conv.weight[:, :, unreached] = 0
    for parameter, was in zip(trunk.parameters(), needed, strict=True):
        parameter.requires_grad_(was)
    trunk.train(was_training)
    return counts
