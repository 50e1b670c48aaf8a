"""Networks of 8-bit numbers, by ONNX Runtime's quantizer; other runtimes read its files too."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nasnet_det.errors import requires

NUM_PICTURES = 64
"""That calibrate: ranges of activations are those of so many pictures."""
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantize(content: bytes, images: Iterable[np.ndarray], *, inside: str = "") -> bytes:
    """Quantize the convolutions and linear layers of a network, and what is between them.

    Weights get a scale for each channel and 7 bits, since processors without VNNI instructions add
    pairs of 8-bit products in 16 bits; activations have 8.

    Args:
        content: of an ONNX file with one input.
        images: such inputs, as a user's pictures give them.
        inside: what the names of nodes contain that may be between them; "" for all.

    Returns:
        the content of another ONNX file, with QuantizeLinear and DequantizeLinear.

    Raises:
        MissingPackageError: the quantizer is not installed.
    """
    with requires("runtimes"):
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, name: str) -> None:
            self.feeds = ({name: image} for image in images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    model = onnx.load_from_string(content)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises a preprocessing that the export has done
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "int8.onnx")
            quantize_static(
                model,
                path,
                Reader(model.graph.input[0].name),
                nodes_to_quantize=[
                    node.name
                    for node in model.graph.node
                    if node.op_type in LAYERS or inside in node.name
                ],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return path.read_bytes()
    finally:
        logger.setLevel(level)
