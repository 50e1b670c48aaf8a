"""NASNet-A mobile against the graph that Keras publishes: names, shapes, and the computation.

The graph is a file of the reference data; without them these tests are skipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_ops
import torch
from keras_names import BATCH_NORM, our_name, to_our_axes
from torch import nn

from nasnet_det.network import NASNet, create_model


@pytest.fixture(scope="module")
def keras_model(reference_data: Path) -> dict[str, Any]:
    path = reference_data / "nasnet_mobile_ref" / "keras_nasnetmobile_tfjs_model.json"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def shapes(keras_model: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keras variable -> shape."""
    return {
        weight["name"]: tuple(weight["shape"])
        for group in keras_model["weightsManifest"]
        for weight in group["weights"]
    }


@pytest.fixture(scope="module")
def model() -> NASNet:
    """NASNet-A mobile in double precision, each normalization with statistics of its own."""
    torch.manual_seed(1)
    network = create_model("nasnet_a_mobile")
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, 0.0, 0.2)
            nn.init.normal_(m.running_mean, 0.0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return network.double().eval()


def _state(model: NASNet) -> dict[str, np.ndarray]:
    return {
        name: tensor.numpy()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def test_all_tensors_map_one_to_one(shapes: dict[str, tuple[int, ...]], model: NASNet) -> None:
    assert len(shapes) == 1126
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 5_326_716
    ours = _state(model)
    mapped = {name: our_name(name) for name in shapes}
    assert len(set(mapped.values())) == 1126, "no two of them become the same"
    assert set(mapped.values()) == set(ours)
    for name, shape in shapes.items():
        assert to_our_axes(name, np.empty(shape)).shape == ours[mapped[name]].shape, name


class KerasGraph:
    """Runs the published layer graph in numpy with weights from our state dict.

    With ``pads_pools`` it is Keras's own, which pads with zeros before a strided pool; without,
    that pool does its own padding, as in TensorFlow's original.
    """

    def __init__(
        self, layers: list[dict[str, Any]], state: dict[str, np.ndarray], *, pads_pools: bool
    ) -> None:
        self.layers = layers
        self.state = state
        self.pads_pools = pads_pools

    def run(self, image: np.ndarray) -> np.ndarray:
        """Logits: the softmax of the last layer is left out."""
        outputs: dict[str, np.ndarray] = {}
        for layer in self.layers:
            nodes = layer["inbound_nodes"]
            inputs = [outputs[node[0]] for node in nodes[0]] if nodes else [image]
            run = getattr(self, f"_run_{layer['class_name']}")
            outputs[layer["name"]] = run(layer["config"], *inputs)
        return outputs[self.layers[-1]["name"]]

    def _weight(self, config: dict[str, Any], variable: str) -> np.ndarray:
        return self.state[our_name(f"{config['name']}/{variable}")]

    def _run_InputLayer(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        assert (None, *x.shape[2:], x.shape[1]) == tuple(config["batch_input_shape"])
        return x

    def _run_Conv2D(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        out = reference_ops.conv_same(x, self._weight(config, "kernel"))
        if config["kernel_size"] == [1, 1]:
            assert config["strides"] == [1, 1]
            return out
        # The stem: VALID starts at the first full window, then takes every second one.
        assert (config["padding"], config["strides"]) == ("valid", [2, 2])
        return out[:, :, 1:-1:2, 1:-1:2]

    def _run_SeparableConv2D(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        depthwise = self._weight(config, "depthwise_kernel")
        assert list(depthwise.shape[2:]) == config["kernel_size"]
        if config["padding"] == "same":
            x = reference_ops.conv_same(x, depthwise, config["strides"][0], depthwise=True)
        else:  # a layer before it has padded
            view = np.lib.stride_tricks.sliding_window_view(x, depthwise.shape[2:], axis=(2, 3))
            view = view[:, :, :: config["strides"][0], :: config["strides"][1]]
            x = np.einsum("bchwij,cij->bchw", view, depthwise[:, 0])
        return reference_ops.conv_same(x, self._weight(config, "pointwise_kernel"))

    def _run_BatchNormalization(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        gamma, beta, mean, variance = (self._weight(config, v)[:, None, None] for v in BATCH_NORM)
        return (x - mean) / np.sqrt(variance + config["epsilon"]) * gamma + beta

    def _run_Activation(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        assert config["activation"] == "relu"
        return np.maximum(x, 0)

    def _run_ZeroPadding2D(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        if config["name"].startswith("reduction_pad_") and not self.pads_pools:
            return x
        return np.pad(x, [(0, 0), (0, 0), *config["padding"]])

    def _run_Cropping2D(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        (top, bottom), (left, right) = config["cropping"]
        return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]

    def _run_AveragePooling2D(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return self._pool("avg", config, x)

    def _run_MaxPooling2D(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return self._pool("max", config, x)

    def _pool(self, kind: str, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        if config["padding"] == "valid" and self.pads_pools:
            view = np.lib.stride_tricks.sliding_window_view(x, config["pool_size"], axis=(2, 3))
            view = view[:, :, :: config["strides"][0], :: config["strides"][1]]
            return {"avg": np.mean, "max": np.max}[kind](view, axis=(4, 5))
        return reference_ops.pool_same(kind, x, config["pool_size"][0], config["strides"][0])

    def _run_Add(self, config: dict[str, Any], *inputs: np.ndarray) -> np.ndarray:
        return sum(inputs)

    def _run_Concatenate(self, config: dict[str, Any], *inputs: np.ndarray) -> np.ndarray:
        return np.concatenate(inputs, axis=1)

    def _run_GlobalAveragePooling2D(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return x.mean(axis=(2, 3))

    def _run_Dense(self, config: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return x @ self._weight(config, "kernel").T + self._weight(config, "bias")


@pytest.mark.parametrize("pool_padding", ["tf", "keras"])
def test_published_graph_computes_the_same(
    pool_padding: str, keras_model: dict[str, Any], model: NASNet
) -> None:
    """Cells, wiring, strides, padding, order of the concatenations: 771 layers, one number."""
    layers = keras_model["modelTopology"]["model_config"]["config"]["layers"]
    assert len(layers) == 771
    network = create_model("nasnet_a_mobile", pool_padding=pool_padding).double().eval()
    network.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    graph = KerasGraph(layers, _state(model), pads_pools=pool_padding == "keras")
    wanted = graph.run(image.numpy())
    with torch.no_grad():
        found = network(image).numpy()
    assert wanted.std() > 0.1, "the comparison is one of numbers that differ"
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    if pool_padding == "keras":
        with torch.no_grad():
            assert np.abs(model(image).numpy() - wanted).max() > 1e-3, "the border matters"
