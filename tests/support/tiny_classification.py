"""Small data sets for classification, the quick config on one of them, and the command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import ENVIRONMENT, ForkedCommand
from tiny_pictures import write_class
from yacs.config import CfgNode

from nasnet_det.classification.config import get_classification_config

CPU = torch.device("cpu")


def save_folders(root: Path, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Two classes of four images of 48x40 in each folder; the color tells the class."""
    for split in splits:
        for label, name in enumerate(("blue", "red")):
            colors = [(200 * label + i, 9, 200 - 200 * label) for i in range(4)]
            write_class(root / split / name, colors)
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


def quick(folder: Path, output: str, *opts: str) -> list[str]:
    """Arguments of the quick config."""
    make_config(folder)  # writes the images
    path = folder / "data.npz"
    base = ["DATA.PATH", str(path), "OUTPUT_DIR", str(folder / output), "MODEL.DEVICE", "cpu"]
    return ["--config-file", "classification/quick.yaml", *base, *opts]


def run(*arguments: str, wait: bool = True, **options: Any) -> ForkedCommand:
    """The command on one thread, with ``options`` of it; with ``wait``, until it is done."""
    process = ForkedCommand("train-classifier", *arguments, **options)
    if wait:
        process.wait(300)
    return process


def run_pair(*arguments: str) -> tuple[ForkedCommand, ForkedCommand]:
    """Two processes of a training, started by hand as on two machines, which goes on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    first, second = (
        run(*arguments, wait=False, env={**shared, "RANK": str(rank)}) for rank in range(2)
    )
    return first, second


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """The command in two processes that torchrun starts."""
    words = [*("--standalone", "--nproc-per-node", "2"), "-m", "nasnet_det", "train-classifier"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words, *arguments],
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
