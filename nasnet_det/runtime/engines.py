"""ONNX files run by other libraries than PyTorch: ONNX Runtime and OpenVINO, on a CPU.

A network comes as the content of an ONNX file and becomes a function of arrays, whose sizes may
change from call to call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from nasnet_det.errors import InputError, requires

RUNTIMES = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("float32", "bfloat16", "int8")
"""int8 is a property of the file (see quantization.py), the others of the computation."""


class EngineError(InputError):
    """A runtime that can't run a network, or not like this."""


class Engine(NamedTuple):
    """A network in a runtime.

    Attributes:
        outputs: their names.
        run: arrays in the order of the network's inputs -> arrays in the order of ``outputs``.
    """

    outputs: tuple[str, ...]
    run: Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def start_engine(
    content: bytes, runtime: str, *, precision: str = "float32", is_compared: bool = False
) -> Engine:
    """Load a network into a runtime, with as many threads as PyTorch has.

    Args:
        content: of an ONNX file.
        runtime: ``onnxruntime`` or ``openvino``.
        precision: one of :data:`PRECISIONS`.
        is_compared: the caller compares what it computes with PyTorch. OpenVINO's int8 needs that:
            on processors with AVX2 and no VNNI it was seen to compute something else.

    Raises:
        EngineError: the runtime has no such precision on this processor, can't run the network, or
            may compute something else.
        MissingPackageError: the runtime is not installed.
    """
    if runtime == "openvino" and not is_compared and b"QuantizeLinear" in content:
        raise EngineError(
            "openvino computes some networks of int8 wrongly, and nothing compares this one: "
            "wanted onnxruntime, or a network of float32"
        )
    starts = {"onnxruntime": _start_onnxruntime, "openvino": _start_openvino}
    if runtime not in starts:
        raise EngineError(f"runtime: wanted {' or '.join(starts)}, got {runtime}")
    if precision not in PRECISIONS:
        raise EngineError(f"precision: wanted float32, bfloat16 or int8, got {precision}")
    start = starts[runtime]
    try:
        with requires("runtimes"):
            engine = start(content, precision)
    except InputError:
        raise
    except Exception as error:  # each has its own
        raise EngineError(f"{runtime} can't run this network ({_words(error)})") from error
    return Engine(engine.outputs, partial(_run, engine, runtime))


def _run(engine: Engine, runtime: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a network, whose failure is one sentence: the runtimes' own errors have no class."""
    try:
        return engine.run(arrays)
    except Exception as error:
        sizes = " and ".join("x".join(map(str, array.shape)) for array in arrays)
        raise EngineError(
            f"{runtime} can't run this network on an input of {sizes} ({_words(error)})"
        ) from error


def check_runtime(runtime: str, precision: str) -> None:
    """See that a runtime is installed and computes in a precision here.

    Raises:
        EngineError: it has no such precision on this processor.
        MissingPackageError: it is not installed.
    """
    with requires("runtimes"):
        if runtime == "onnxruntime":
            import onnxruntime  # noqa: F401

            if precision == "bfloat16":
                raise EngineError(
                    "onnxruntime computes in bfloat16 on no CPU: wanted float32 or int8"
                )
        elif runtime == "openvino":
            import openvino

            abilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if precision == "bfloat16" and "BF16" not in abilities:
                raise EngineError(
                    "openvino computes in bfloat16 only on processors with instructions for it "
                    f"(AVX-512 or AMX), and this one has {', '.join(sorted(abilities))}: wanted "
                    "float32 or int8"
                )


def _start_onnxruntime(content: bytes, precision: str) -> Engine:
    import onnxruntime

    check_runtime("onnxruntime", precision)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised as well
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(session.run(None, dict(zip(names, arrays, strict=True))))

    return Engine(tuple(entry.name for entry in session.get_outputs()), run)


def _start_openvino(content: bytes, precision: str) -> Engine:
    import onnx
    import openvino

    check_runtime("openvino", precision)
    core = openvino.Core()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(content), "CPU", settings)
    # It knows several names of each output.
    names = tuple(output.name for output in onnx.load_from_string(content).graph.output)

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        results = compiled(list(arrays))
        return [np.array(results[i]) for i in range(len(names))]  # copies, for it reuses them

    return Engine(names, run)


def _words(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.200}"
