"""Networks of 8-bit numbers: their ranges are those of the pictures that they were shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxruntime")

from nasnet_det.runtime.engines import EngineError, start_engine
from nasnet_det.runtime.onnx_trace import read_about, trace_to_onnx
from nasnet_det.runtime.quantization import quantize


class Tiny(nn.Module):
    """Two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.last(torch.relu(self.first(image)))
        return (x + x.mean(),)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_is_calibrated_on_the_user_s_pictures(runtime: str) -> None:
    pytest.importorskip(runtime)
    image = torch.randn(1, 3, 20, 30)
    content = trace_to_onnx(
        Tiny().eval(), image, sizes={2: "h", 3: "w"}, outputs=["out"], about={"part": "test"}
    )
    (wanted,) = start_engine(content, runtime).run([image.numpy()])
    errors = []
    for factor in (1, 0.01):  # of what it is calibrated on
        quantized = quantize(content, [factor * image.numpy()] * 2)
        assert b"QuantizeLinear" in quantized
        assert read_about(quantized) == {"part": "test"}
        engine = start_engine(quantized, runtime, precision="int8", is_compared=True)
        (got,) = engine.run([image.numpy()])
        errors.append(float(np.abs(got - wanted).mean() / np.abs(wanted).mean()))
    assert 0 < errors[0] < 0.1
    assert errors[1] > 0.3, "larger numbers than it was shown are cut off"


def test_int8_that_nothing_compares_is_not_openvino_s() -> None:
    with pytest.raises(EngineError, match="wanted onnxruntime, or a network of float32"):
        start_engine(b"... QuantizeLinear ...", "openvino", precision="int8")


def test_what_is_between_layers_may_stay_as_it_is() -> None:
    onnx = pytest.importorskip("onnx")
    image = torch.randn(1, 3, 20, 30)
    content = trace_to_onnx(Tiny().eval(), image, sizes={}, outputs=["out"], about={})

    def count(inside: str) -> int:
        quantized = onnx.load_from_string(quantize(content, [image.numpy()], inside=inside))
        (addition,) = (node for node in quantized.graph.node if node.op_type == "Add")
        return sum("DequantizeLinear" in addition.input[i] for i in (0, 1))

    assert (count(""), count("/backbone/")) == (2, 1), "what a convolution returns is quantized"
