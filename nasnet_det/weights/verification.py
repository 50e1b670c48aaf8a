"""Published weights in our network and in another implementation, on the same pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from nasnet_det.data.picture_files import find_pictures
from nasnet_det.data.pictures import read_picture
from nasnet_det.variants import resolve_variant
from nasnet_det.weights.classifier import ConvertedWeights
from nasnet_det.weights.peers import build_ours, build_peer, compare, run_ours
from nasnet_det.weights.published import load_published


class Verification(NamedTuple):
    """How our network and another implementation agree.

    Attributes:
        variant: the network.
        origin: who published the weights.
        size: height and width of the images.
        num_images: that were compared.
        differences: ``stem``, ``c2`` to ``c5`` and ``logits`` -> the largest of all images,
            relative to the largest value there.
    """

    variant: str
    origin: str
    size: tuple[int, int]
    num_images: int
    differences: dict[str, float]


def verify(
    file: str,
    against: str,
    pictures: Iterable[str | os.PathLike[str]],
    *,
    size: tuple[int, int] | None = None,
) -> Verification:
    """Run weights in both; ours with the other's pools at the borders.

    Args:
        file: converted or published weights, or a name such as ``nasnet://nasnet_a_large.timm``.
        against: a key of :data:`~nasnet_det.weights.peers.PEERS`.
        pictures: files, and folders with pictures in them.
        size: height and width to which pictures are resized; None for the network's own. Cadene's
            networks are right at that size only, where ours follow the image's.

    Raises:
        InputError: the weights or a picture can't be read, or the other implementation is not
            installed or has no such network.
    """
    paths = find_pictures(pictures)
    converted = load_published(file)
    about = converted.metadata
    native = resolve_variant(about["variant"])[0].input_size
    size = size or (native, native)
    differences = _compare_all(converted, against, paths, size)
    return Verification(about["variant"], about["origin"], size, len(paths), differences)


def _compare_all(
    converted: ConvertedWeights, against: str, paths: Sequence[Path], size: tuple[int, int]
) -> dict[str, float]:
    """The largest difference of each output over all images."""
    theirs = build_peer(against, converted, size)
    ours = build_ours(converted, against)
    differences: dict[str, list[float]] = {}
    for path in tqdm(paths, unit="image"):
        image = _read_image(path, size)
        wanted = theirs(image)
        if not converted.metadata["num_classes"]:
            del wanted["logits"]
        for name, value in compare(run_ours(ours, image), wanted).items():
            differences.setdefault(name, []).append(value)
    return {name: float(np.max(values)) for name, values in differences.items()}  # or NaN


def _read_image(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """(1, 3, height, width) in [-1, 1]."""
    resized = read_picture(path).resize(size[::-1])
    return (pil_to_tensor(resized)[None].float() / 255 - 0.5) / 0.5
