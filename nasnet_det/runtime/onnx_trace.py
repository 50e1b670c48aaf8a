"""Modules as ONNX files by a trace, as Detectron2's detectors allow it.

A trace records what one example needs. What depends on a size has to be written so that it is
traced as well; Detectron2 and :mod:`nasnet_det.same_padding` are. (``torch.export``, which
formats.py uses for classifiers and trunks, can't follow a detector.)
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from nasnet_det.errors import requires
from nasnet_det.runtime.engines import EngineError
from nasnet_det.runtime.refusals import check_python, explain

METADATA = "nasnet_det"
OPSET = 18


def trace_to_onnx(
    model: nn.Module,
    example: torch.Tensor,
    *,
    sizes: Mapping[int, str],
    outputs: Sequence[str],
    about: Mapping[str, Any],
    opset: int = OPSET,
) -> bytes:
    """The content of an ONNX file with the input ``image``.

    Args:
        model: of one tensor, which returns a tuple of tensors; in evaluation mode.
        example: what it gets.
        sizes: the dimensions of the image that may change, with their names.
        outputs: names of what it returns.
        about: goes into the file as JSON.
        opset: of ONNX.

    Raises:
        EngineError: ONNX in this opset can't hold an operation of the model, or a trace can't
            follow its Python.
        MissingPackageError: the package onnx is not installed.
    """
    with requires("runtimes"):
        import onnx
    _check_opset(opset)
    buffer: Any = io.BytesIO()  # which this exporter takes as well as a path
    try:
        with (
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            check_python(model, example, "ONNX"),
        ):
            torch.onnx.export(
                model,
                (example,),
                buffer,
                dynamo=False,
                opset_version=opset,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_axes={"image": dict(sizes)},
            )
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(explain(error, f"ONNX in opset {opset}")) from error
    proto = onnx.load_from_string(buffer.getvalue())
    proto.metadata_props.add(key=METADATA, value=json.dumps(about))
    return bytes(proto.SerializeToString())


def read_about(content: bytes) -> dict[str, Any]:
    """What :func:`trace_to_onnx` wrote about the network; {} of other files."""
    with requires("runtimes"):
        import onnx
    try:
        entries = onnx.load_from_string(content).metadata_props
        return dict(json.loads(next(e.value for e in entries if e.key == METADATA)))
    except Exception:  # no ONNX, or none of ours
        return {}


def _check_opset(opset: int) -> None:
    """See that PyTorch can write an opset of a trace."""
    with suppress(ImportError):  # where this PyTorch keeps them
        from torch.onnx import _constants

        lowest, highest = (
            getattr(_constants, f"ONNX_{name}_OPSET", opset)
            for name in ("MIN", "TORCHSCRIPT_EXPORTER_MAX")
        )
        if not lowest <= opset <= highest:
            raise EngineError(
                f"opset: wanted one from {lowest} to {highest}, which this version of PyTorch can "
                f"write of a trace, got {opset}; {OPSET} is the usual one"
            )
