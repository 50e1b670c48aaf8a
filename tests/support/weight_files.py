"""Networks with random weights, and files like those that are published."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import nn

from nasnet_det.network import NASNet, create_model

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def make_random(variant: str, num_classes: int = 7, **options: Any) -> NASNet:
    """A network in which no two tensors are equal."""
    return randomize_norms(create_model(variant, num_classes, **options))


def randomize_norms(model: NetworkT) -> NetworkT:
    """Give every batch normalization statistics of its own; the model is left in evaluation."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, 0.0, 0.2)
            nn.init.normal_(m.running_mean, 0.0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


def get_weights(model: NASNet) -> dict[str, torch.Tensor]:
    """The state dict without the counters of batch normalizations."""
    return {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def write_keras_file(path: Path, tensors: dict[str, torch.Tensor], *, whole_model: bool) -> None:
    """The layout of Keras's published files, with the scopes of TensorFlow 1 in the names."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["layer_names"] = sorted({name.split("/")[0].encode() for name in tensors})
        for name, tensor in tensors.items():
            layer, variable = name.split("/")
            scope = "" if layer.startswith("stem") else "normal_A_block_0/adjust_block/"
            root[f"{layer}/{scope}{layer}/{variable}:0"] = tensor.numpy()
        if whole_model:
            file["optimizer_weights/Adam/m:0"] = np.zeros(3)


def write_torch_file(folder: Path, stem: str, tensors: dict[str, torch.Tensor]) -> Path:
    """``<stem>-<first digits of its SHA-256>.pth``, as torch's hub wants the name."""
    torch.save(tensors, folder / "new.pth")
    digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()
    return (folder / "new.pth").rename(folder / f"{stem}-{digest[:8]}.pth")
