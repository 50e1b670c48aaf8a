"""Small data sets for classification, and the quick config on one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from nasnet_det.classification.config import get_classification_config

CPU = torch.device("cpu")


def save_folders(root: Path, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Two classes of four images of 48x40 in each folder; the color tells the class."""
    for split in splits:
        for label, name in enumerate(("blue", "red")):
            place = root / split / name
            place.mkdir(parents=True)
            for i in range(4):
                color = (200 * label + i, 9, 200 - 200 * label)
                Image.new("RGB", (48, 40), color).save(place / f"{i}.png")
    return root


def make_config(folder: Path, *opts: str) -> CfgNode:
    """The quick config on images whose color tells their class."""
    path = folder / "data.npz"
    if not path.exists():
        rng = np.random.default_rng(0)
        labels = np.arange(80) % 4
        images = rng.integers(0, 120, (80, 32, 32, 3), dtype=np.uint8)
        images[..., 0] += (labels * 40).astype(np.uint8)[:, None, None]
        arrays = {"x_train": images[:64], "y_train": labels[:64]}
        np.savez(path, **arrays, x_test=images[64:], y_test=labels[64:])
    base = ["DATA.PATH", str(path), "OUTPUT_DIR", str(folder / "out"), "MODEL.DEVICE", "cpu"]
    name = "classification/quick.yaml"
    return get_classification_config(name, [*base, "DATA.NUM_WORKERS", "0", *opts])
