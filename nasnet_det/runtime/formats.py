"""Classifiers and backbones for other runtimes: ``torch.export``, ONNX and TorchScript.

The exported network takes images (B, 3, H, W) of any number and size from about 64 pixels on (8
with the CIFAR stem), whitened with the mean and deviation in its metadata; padding follows the
size, as in the network itself. It is fused first (see fuse.py). Each export is run by its own
runtime on odd and even sizes and compared with the network before it is written.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from nasnet_det.errors import InputError
from nasnet_det.network import NASNet
from nasnet_det.runs.files import write_content
from nasnet_det.runtime.fuse import fuse
from nasnet_det.runtime.onnx_trace import METADATA, OPSET
from nasnet_det.runtime.refusals import (
    check_python,
    explain,
    quiet,
    refuse_python,
    shorten,
)
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.weights.backbone_file import BackboneCard

TOLERANCE = 1e-4
FORMATS = {".pt2": "torch.export", ".onnx": "ONNX", ".ts": "TorchScript"}

Outputs = tuple[torch.Tensor, ...]


class ExportError(InputError):
    """A network that can't be exported, or whose export computes something else."""


class Exportable(nn.Module):
    """A network whose outputs are a tuple.

    Args:
        network: a classifier or a trunk.
        names: of its outputs: ``logits``, or the features.
    """

    def __init__(self, network: NASNet | NASNetTrunk, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)

    def forward(self, image: torch.Tensor) -> Outputs:
        """(B, 3, H, W) -> one tensor for each name."""
        output = self.network(image)
        return tuple(output.values()) if isinstance(output, dict) else (output,)


@dataclass(frozen=True)
class Comparison:
    """How an export and the network agree.

    Attributes:
        size: height and width of the images.
        difference: the largest of all outputs, as a part of the output's largest value where that
            is more than 1.
    """

    size: tuple[int, int]
    difference: float


class Exported(NamedTuple):
    """What was written.

    Attributes:
        names: of the outputs.
        comparisons: with the network, one for each size of image.
    """

    names: tuple[str, ...]
    comparisons: list[Comparison]


def build_exportable(
    card: BackboneCard, weights: Mapping[str, torch.Tensor], *, backbone: bool
) -> Exportable:
    """The network of a card with its weights, in evaluation mode.

    Args:
        card: says which network.
        weights: with the names of the classifier; an auxiliary head is left out.
        backbone: the trunk, whose outputs are its features, instead of the classifier.

    Raises:
        ExportError: the weights are not those of the network.
    """
    norm = str(card.config.get("MODEL.NASNET.NORM", "BN")).replace("SyncBN", "BN")
    spec = replace(card.spec, norm=norm)
    network: NASNet | NASNetTrunk
    if backbone:
        network = NASNetTrunk(spec, card.genotype)
        names = [row.feature for row in network.plan if row.feature]
        prefix = "trunk."
    else:
        network = NASNet(spec, card.genotype, num_classes=len(card.classes))
        names, prefix = ["logits"], ""
    mine = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    mine = {k: v for k, v in mine.items() if not k.startswith("aux_head.")}
    try:
        network.load_state_dict(mine)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ExportError(
            f"the weights are not those of the card's network: {reason:.200}"
        ) from None
    return Exportable(network, names).eval()


def export(
    card: BackboneCard,
    weights: Mapping[str, torch.Tensor],
    output: Path,
    *,
    backbone: bool,
    opset: int = OPSET,
) -> Exported:
    """Export a network; see :func:`build_exportable` and :func:`export_model`.

    Raises:
        ExportError: the weights are others, the format can't hold them, a package is missing, or
            the export computes something else.
        FileError: the file can't be written.
    """
    model = build_exportable(card, weights, backbone=backbone)
    return Exported(model.names, export_model(model, output, card, opset=opset))


def export_model(
    model: Exportable, path: Path, card: BackboneCard, *, opset: int = OPSET
) -> list[Comparison]:
    """Export, compare, and write the file.

    Args:
        model: see :func:`build_exportable`.
        path: its ending is one of :data:`FORMATS`.
        card: the preprocessing and the classes of which go into the metadata.
        opset: of ONNX.

    Raises:
        ExportError: another ending, a missing package, an operation that the format can't hold,
            or outputs that differ by more than :data:`TOLERANCE`.
        EngineError: a trace can't follow the network's Python.
        FileError: the file can't be written.
    """
    if path.suffix not in FORMATS:
        endings = ", ".join(f"{ending} ({name})" for ending, name in FORMATS.items())
        raise ExportError(f"{path}: wanted a name that ends with one of {endings}")
    metadata = {
        "outputs": list(model.names),
        "pixel_mean": list(card.pixel_mean),
        "pixel_std": list(card.pixel_std),
        "format": card.format,
        "classes": list(card.classes),
        "version": card.version,
    }
    example = torch.zeros(2, 3, card.spec.input_size, card.spec.input_size + 16)
    convert: Callable[[Exportable, torch.Tensor, str], bytes]
    if path.suffix == ".onnx":
        convert = partial(_to_onnx, opset=opset)
    else:
        convert = _to_torch_export if path.suffix == ".pt2" else _to_torchscript
    with torch.no_grad(), quiet():
        fused: Any = fuse(model)
        with _refuses(fused, example, path.suffix):
            content = convert(fused, example, json.dumps(metadata))
        comparisons = compare_export(content, path.suffix, model, card.spec.input_size)
    worst = max(comparisons, key=lambda comparison: comparison.difference)
    if not worst.difference <= TOLERANCE:
        raise ExportError(
            f"{path} is not written: on images of {worst.size[0]}x{worst.size[1]} the export "
            f"differs by {worst.difference:.2g} from the network, more than {TOLERANCE:g}"
        )
    write_content(path, content)
    return comparisons


def compare_export(
    content: bytes, ending: str, model: Exportable, input_size: int
) -> list[Comparison]:
    """Run an export and the network on random images of odd and even sizes.

    Raises:
        ExportError: it can't be run.
    """
    run = {".pt2": _load_torch_export, ".onnx": _load_onnx, ".ts": _load_torchscript}[ending](
        content
    )
    generator = torch.Generator().manual_seed(0)
    comparisons = []
    for extra in ((0, 0), (1, 1), (2, 5), (7, 12)):
        size = input_size + extra[0], input_size + extra[1]
        image = torch.randn(1, 3, *size, generator=generator)
        with _runs_on(size):
            outputs = run(image)
        difference = max(
            float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))
            for got, wanted in zip(outputs, model(image), strict=True)
        )
        comparisons.append(Comparison(size, difference))
    return comparisons


def _dynamic_shapes() -> tuple[dict[int, Any], ...]:
    dynamic = torch.export.Dim.DYNAMIC
    return ({0: dynamic, 2: dynamic, 3: dynamic},)


def _to_torch_export(model: Exportable, example: torch.Tensor, metadata: str) -> bytes:
    program = torch.export.export(model, (example,), dynamic_shapes=_dynamic_shapes())
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: metadata})
    return buffer.getvalue()


def _load_torch_export(content: bytes) -> Callable[[torch.Tensor], Outputs]:
    return torch.export.load(io.BytesIO(content)).module()


def _to_torchscript(model: Exportable, example: torch.Tensor, metadata: str) -> bytes:
    buffer = io.BytesIO()
    with check_python(model, example, "TorchScript"):
        traced = torch.jit.trace(model, example, check_trace=False)
    torch.jit.save(traced, buffer, _extra_files={METADATA: metadata})
    return buffer.getvalue()


def _load_torchscript(content: bytes) -> Callable[[torch.Tensor], Outputs]:
    return torch.jit.load(io.BytesIO(content))


def _to_onnx(model: Exportable, example: torch.Tensor, metadata: str, *, opset: int) -> bytes:
    with _needs("ONNX"):
        import onnx
        import onnxscript  # noqa: F401 - torch asks for it in many words
    exported = torch.export.export(model, (example,), dynamic_shapes=_dynamic_shapes())
    program = torch.onnx.export(
        exported,  # torch's own call of torch.export stumbles over the sizes of the ImageNet stem
        dynamo=True,
        opset_version=opset,
        input_names=["image"],
        output_names=list(model.names),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    written = next(entry.version for entry in proto.opset_import if not entry.domain)
    if written != opset:  # the exporter falls back without a word
        raise ExportError(
            f"opset: wanted one that this version of PyTorch can write, got {opset}, of which it "
            f"makes {written}; give that one"
        )
    proto.metadata_props.add(key=METADATA, value=metadata)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _load_onnx(content: bytes) -> Callable[[torch.Tensor], Outputs]:
    with _needs("ONNX"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised as well
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: tuple(map(torch.from_numpy, session.run(None, {"image": image.numpy()})))


@contextmanager
def _needs(what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ExportError(
            f"{what} needs the package {error.name}: pip install 'nasnet-det[export]'"
        ) from None


@contextmanager
def _refuses(model: nn.Module, example: torch.Tensor, ending: str) -> Iterator[None]:
    """One sentence for all that the exporters raise."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        refuse_python(model, example, FORMATS[ending])
        others = " or ".join(other for other in FORMATS if other != ending)
        raise ExportError(explain(error, FORMATS[ending], others)) from error


@contextmanager
def _runs_on(size: tuple[int, int]) -> Iterator[None]:
    """One sentence for all that the runtimes raise."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise ExportError(
            f"the export can't run on images of {size[0]}x{size[1]} ({shorten(error)}): a part of "
            "the network keeps a size of the image that was exported; use torch's operations there"
        ) from error
