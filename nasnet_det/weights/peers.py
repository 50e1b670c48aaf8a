"""Our networks beside those that the weights come from: timm's, Cadene's and Keras's.

Both get the same tensors, each under its own names, and run on the same images.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from nasnet_det.network import NASNet
from nasnet_det.plan import CellRow, plan_cells
from nasnet_det.variants import resolve_variant
from nasnet_det.weights.classifier import ORIGINS, ConvertedWeights, export_weights
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.naming import SCHEMES

Outputs = dict[str, torch.Tensor]
"""``stem``, ``c2`` to ``c5`` after ReLU, and ``logits`` where the weights have a classifier."""
Peer = Callable[[torch.Tensor], Outputs]
"""An image (1, 3, H, W) in [-1, 1] -> the outputs of another implementation."""

_TIMM = {"nasnet_a_large": "nasnetalarge", "pnasnet_5_large": "pnasnet5large"}
_CADENE = {
    "nasnet_a_large": ("nasnet", "NASNetALarge"),
    "nasnet_a_mobile": ("nasnet_mobile", "NASNetAMobile"),
    "pnasnet_5_large": ("pnasnet", "PNASNet5Large"),
}
_KERAS = {"nasnet_a_large": "NASNetLarge", "nasnet_a_mobile": "NASNetMobile"}

PEERS: dict[str, tuple[str, ...]] = {
    "timm": tuple(_TIMM),
    "cadene": tuple(_CADENE),
    "keras": tuple(_KERAS),
}
"""Who else has which networks."""


def build_ours(converted: ConvertedWeights, peer: str) -> NASNet:
    """Our network with a peer's pools, whoever the weights are from."""
    metadata = {**converted.metadata, "pool_padding": ORIGINS[peer][1]}
    return replace(converted, metadata=metadata).build_model()


def build_peer(peer: str, converted: ConvertedWeights, size: tuple[int, int]) -> Peer:
    """Another implementation with the same tensors.

    Args:
        peer: a key of :data:`PEERS`.
        converted: the weights.
        size: height and width of the images.

    Raises:
        WeightsError: it does not have this network, or is not installed.
    """
    variant = converted.metadata["variant"]
    if variant not in PEERS[peer]:
        raise WeightsError(f"{peer} has no {variant}: wanted weights of {' or '.join(PEERS[peer])}")
    num_classes = converted.metadata["num_classes"] or 1
    theirs = export_weights(converted.weights, ORIGINS[peer][0], variant)
    try:
        if peer == "keras":
            return _build_keras(variant, theirs, num_classes, size)
        model = (_build_timm if peer == "timm" else _build_cadene)(variant, num_classes)
    except ImportError as error:
        missing = str(error.name).partition(".")[0]
        raise WeightsError(
            f"the comparison with {peer} needs {missing}: pip install 'nasnet-det[peers]'"
        ) from None
    unknown = model.load_state_dict(theirs, strict=False).unexpected_keys
    assert not unknown, unknown
    rows = plan_cells(*resolve_variant(variant))
    return lambda image: run_torch_peer(model.eval(), image, rows)


@torch.no_grad()
def run_ours(model: NASNet, image: torch.Tensor) -> Outputs:
    """(1, 3, H, W) in [-1, 1] -> all outputs."""
    assert model.trunk.stem is not None
    features = model.trunk(image)
    pooled = features[model.final_feature].mean(dim=(2, 3))
    return {"stem": model.trunk.stem(image), **features, "logits": model.classifier(pooled)}


@torch.no_grad()
def run_torch_peer(model: nn.Module, image: torch.Tensor, rows: Iterable[CellRow]) -> Outputs:
    """Run timm's or Cadene's network.

    Args:
        model: the network.
        image: (1, 3, H, W).
        rows: its plan. A feature is read where the next cell has applied its ReLU.
    """
    relu, stem = (
        next(name for name in names if hasattr(model, name))
        for names in (("act", "relu"), ("conv0", "conv_0"))
    )
    taps, feature = {stem: "stem"}, None
    for row in rows:
        if feature:
            taps[f"{row.name}.conv_1x1.{relu}"] = feature
        feature = row.feature
    taps[relu] = str(feature)
    found: Outputs = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.update({name: output.clone()})

    hooks = [
        model.get_submodule(module).register_forward_hook(keep(name))
        for module, name in taps.items()
    ]
    try:
        logits = model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return {**found, "logits": logits}


def compare(found: Mapping[str, torch.Tensor], wanted: Outputs) -> dict[str, float]:
    """The largest difference of each output, relative to its largest value.

    Raises:
        WeightsError: an output has another shape.
    """
    differences = {}
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)} and {tuple(tensor.shape)}"
            raise WeightsError(f"{name} has another shape in ours than in the other: {shapes}")
        largest = tensor.abs().max()
        differences[name] = float((found[name] - tensor).abs().max() / largest)
    return differences


def _build_timm(variant: str, num_classes: int) -> nn.Module:
    import timm

    return timm.create_model(_TIMM[variant], pretrained=False, num_classes=num_classes)


def _build_cadene(variant: str, num_classes: int) -> nn.Module:
    import importlib

    module, name = _CADENE[variant]
    file = importlib.import_module(f"pretrainedmodels.models.{module}")
    model: nn.Module = getattr(file, name)(num_classes=num_classes)
    model.avg_pool = nn.AdaptiveAvgPool2d(1)  # theirs has the size of the native map
    return model


def _build_keras(variant: str, theirs: Outputs, num_classes: int, size: tuple[int, int]) -> Peer:
    os.environ.setdefault("KERAS_BACKEND", "jax")  # on PyTorch Keras refuses NASNetMobile
    import keras

    model = getattr(keras.applications, _KERAS[variant])(
        input_shape=(*size, 3), weights=None, classes=num_classes, classifier_activation=None
    )
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            if name in theirs:
                variable.assign(theirs[name].numpy())
    spec, genotype = resolve_variant(variant)
    scheme = next(s for s in SCHEMES if s.name == "keras")
    taps = {
        row.feature: f"{row.kind}_concat_{scheme.cell(row.name, spec.num_cells_per_stage)}"
        for row in plan_cells(spec, genotype)
        if row.feature
    }
    layers = {"stem": "stem_bn1", **taps, "logits": "predictions"}
    outputs = {name: model.get_layer(layer).output for name, layer in layers.items()}
    whole = keras.Model(model.input, outputs)

    def run(image: torch.Tensor) -> Outputs:
        found = {}
        for name, array in whole(image.permute(0, 2, 3, 1).numpy(), training=False).items():
            tensor = torch.from_numpy(keras.ops.convert_to_numpy(array).copy())
            tensor = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
            found[name] = F.relu(tensor) if name in taps else tensor
        return found

    return run
