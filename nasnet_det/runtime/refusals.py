"""Why a format can't hold a network, in one sentence: the part, the format, and what to do."""

from __future__ import annotations

import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasnet_det.runtime.engines import EngineError
from nasnet_det.runtime.python_values import Place, find_foreign, find_python_values, is_known

IN_PYTORCH = "run the network in PyTorch, which needs no export"
OPERATION = re.compile(
    r"(?:ONNX export of (?:operator )?|operator (?:with unrecognized namespace )?|OpOverload\(op=)"
    r"'?([\w:.]+)"
)
NEWER = re.compile(r"(?:added in|try opset) version (\d+)")


@contextmanager
def check_python(model: nn.Module, example: torch.Tensor, target: str) -> Iterator[None]:
    """Trace a network inside; what a trace can't follow of its Python is refused.

    Args:
        model: that is traced.
        example: what it gets.
        target: what the trace is for, such as ``TorchScript``.

    Raises:
        EngineError: the network's own code turns numbers that depend on the picture into Python's.
    """
    with quiet(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    refuse_python(model, example, target, find_foreign(caught))


def refuse_python(
    model: nn.Module, example: torch.Tensor, target: str, places: set[Place] | None = None
) -> None:
    """Run a network and see where its own code reads numbers of a picture.

    Args:
        model, example, target: see :func:`check_python`.
        places: where to look; None for everywhere but in the libraries.

    Raises:
        EngineError: it does somewhere.
    """
    found = find_python_values(model, example, places)
    if found:
        place, method = min(found.items())
        raise EngineError(
            f"{target} can't hold this network: {place} of it reads numbers of the picture's maps "
            f"into Python ({method}), and the file would keep those of one picture; use torch's "
            f"operations there (torch.where for a branch), or {IN_PYTORCH}"
        )


def explain(error: BaseException, target: str, others: str = "") -> str:
    """Which operation or line a format can't hold, and what to do.

    Args:
        error: of the exporter.
        target: the format, such as ``ONNX in opset 18``.
        others: formats that may hold it.
    """
    otherwise = f"another format may: {others}" if others else IN_PYTORCH
    reason = shorten(error)
    for one in _walk_causes(error):
        operation, newer = OPERATION.search(str(one)), NEWER.search(str(one))
        if operation:
            what = f"the operation {operation[1]} of this network"
            advice = f"opset {newer[1]} has it" if newer else ""
            advice = advice or f"put another in its place, or {otherwise}"
            return f"{target} can't hold {what}: {advice}"
    steps = traceback.extract_tb(error.__traceback__)
    own = [step for step in steps if step.lineno and not is_known(step.filename)]
    place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}: " if own else ""
    return f"{target} can't hold this network ({place}{reason}): change that part, or {otherwise}"


def shorten(error: BaseException) -> str:
    """At most 200 characters of what an error says, in one line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines and "Traceback of TorchScript" in str(error):
        lines = lines[-1:]
    return f"{' '.join(' '.join(lines).split()) or type(error).__name__:.200}"


def _walk_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks about themselves."""
    torch_c: Any = torch._C
    print_graph = getattr(torch_c, "_jit_onnx_log", None)
    torch_c._jit_onnx_log = lambda *_: None  # prints whole graphs, whatever its switch says
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    scratch = io.StringIO()  # torch.export prints graphs of what it can't follow
    try:
        with warnings.catch_warnings(), redirect_stdout(scratch), redirect_stderr(scratch):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        torch_c._jit_onnx_log = print_graph
