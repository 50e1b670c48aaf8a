"""Modules as ONNX files by a trace, as Detectron2's detectors allow it.

A trace records what one example needs. What depends on a size has to be written so that it is
traced as well; Detectron2 and :mod:`nasnet_det.operations` are. (``torch.export``, which formats.py
uses for classifiers and trunks, can't follow a detector.)
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nasnet_det.errors import requires
from nasnet_det.runtime.engines import EngineError

METADATA = "nasnet_det"
OPSET = 18


def trace_to_onnx(
    model: nn.Module,
    example: torch.Tensor,
    *,
    sizes: Mapping[int, str],
    outputs: Sequence[str],
    about: Mapping[str, Any],
) -> bytes:
    """The content of an ONNX file with the input ``image``.

    Args:
        model: of one tensor, which returns a tuple of tensors; in evaluation mode.
        example: what it gets.
        sizes: the dimensions of the image that may change, with their names.
        outputs: names of what it returns.
        about: goes into the file as JSON.

    Raises:
        EngineError: ONNX can't hold the model.
        MissingPackageError: the package onnx is not installed.
    """
    with requires("runtimes"):
        import onnx
    buffer: Any = io.BytesIO()  # which this exporter takes as well as a path
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), quiet():
            torch.onnx.export(
                model,
                (example,),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_axes={"image": dict(sizes)},
            )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EngineError(f"ONNX can't hold this network ({reason:.200})") from error
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


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
