"""How each published implementation names and lays out the tensors of our networks.

A tensor of ours has a role, such as the first convolution of a separable one, and a place: cell,
block, side. A :class:`Scheme` has one template for each role. Sources: TF-slim's nasnet_utils.py
and pnasnet.py, Keras's applications/nasnet.py, timm's and Cadene's nasnet.py and pnasnet.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from nasnet_det.network import NASNet

_CELL = r"trunk\.cells\.(?P<cell>\w+)\."
_OP = _CELL + r"blocks\.(?P<block>\d)\.(?P<side>left|right)\."
ROLES: dict[str, str] = {
    "stem_conv": r"trunk\.stem\.conv",
    "stem_norm": r"trunk\.stem\.norm",
    "h_conv": _CELL + r"project_h\.conv",
    "h_norm": _CELL + r"project_h\.norm",
    "h_prev_conv": _CELL + r"project_h_prev\.conv",
    "h_prev_norm": _CELL + r"project_h_prev\.norm",
    "reduction_conv": _CELL + r"project_h_prev\.1\.path_(?P<n>[12])",
    "reduction_norm": _CELL + r"project_h_prev\.1\.norm",
    "depthwise": _OP + r"separable_(?P<n>[12])\.depthwise",
    "pointwise": _OP + r"separable_(?P<n>[12])\.pointwise",
    "separable_norm": _OP + r"separable_(?P<n>[12])\.norm",
    "op_conv": _OP + r"conv",
    "op_norm": _OP + r"norm",
    "output_conv": _CELL + r"project_output\.(?P<state>[01])\.path_1",
    "output_norm": _CELL + r"project_output\.(?P<state>[01])\.norm",
    "linear": r"classifier",
    "aux_conv_1": r"aux_head\.project",
    "aux_norm_1": r"aux_head\.norm_1",
    "aux_conv_2": r"aux_head\.conv",
    "aux_norm_2": r"aux_head\.norm_2",
    "aux_linear": r"aux_head\.linear",
}
"""Role -> our module. A normalization's role ends with ``_norm`` or ``_norm_<n>``."""

_TORCH = {
    "stem_conv": "conv0.conv.{tensor}",
    "stem_norm": "conv0.bn.{tensor}",
    "h_conv": "{cell}.conv_1x1.conv.{tensor}",
    "h_norm": "{cell}.conv_1x1.bn.{tensor}",
    "h_prev_conv": "{cell}.conv_prev_1x1.conv.{tensor}",
    "h_prev_norm": "{cell}.conv_prev_1x1.bn.{tensor}",
    "reduction_conv": "{cell}.path_{n}.conv.{tensor}",
    "reduction_norm": "{cell}.final_path_bn.{tensor}",
    "depthwise": "{cell}.comb_iter_{block}_{side}.separable_{n}.depthwise_conv2d.{tensor}",
    "pointwise": "{cell}.comb_iter_{block}_{side}.separable_{n}.pointwise_conv2d.{tensor}",
    "separable_norm": "{cell}.comb_iter_{block}_{side}.bn_sep_{n}.{tensor}",
    "op_conv": "{cell}.comb_iter_{block}_{side}.conv.{tensor}",
    "op_norm": "{cell}.comb_iter_{block}_{side}.bn.{tensor}",
    "linear": "last_linear.{tensor}",
}
_TORCH_PNASNET = {
    **_TORCH,
    "stem_conv": "conv_0.conv.{tensor}",
    "stem_norm": "conv_0.bn.{tensor}",
    "reduction_conv": "{cell}.conv_prev_1x1.path_{n}.conv.{tensor}",
    "reduction_norm": "{cell}.conv_prev_1x1.final_path_bn.{tensor}",
}
_KERAS = {
    "stem_conv": "stem_conv1/{tensor}",
    "stem_norm": "stem_bn1/{tensor}",
    "h_conv": "{kind}_conv_1_{cell}/{tensor}",
    "h_norm": "{kind}_bn_1_{cell}/{tensor}",
    "h_prev_conv": "adjust_conv_projection_{cell}/{tensor}",
    "h_prev_norm": "adjust_bn_{cell}/{tensor}",
    "reduction_conv": "adjust_conv_{n}_{cell}/{tensor}",
    "reduction_norm": "adjust_bn_{cell}/{tensor}",
    "depthwise": "separable_conv_{n}_{kind}_{side}{number}_{cell}/depthwise_{tensor}",
    "pointwise": "separable_conv_{n}_{kind}_{side}{number}_{cell}/pointwise_{tensor}",
    "separable_norm": "separable_conv_{n}_bn_{kind}_{side}{number}_{cell}/{tensor}",
    "linear": "predictions/{tensor}",
}
_SLIM = {
    "stem_conv": "conv0/{tensor}",
    "stem_norm": "conv0_bn/{tensor}",
    "h_conv": "{cell}/1x1/{tensor}",
    "h_norm": "{cell}/beginning_bn/{tensor}",
    "h_prev_conv": "{cell}/prev_1x1/{tensor}",
    "h_prev_norm": "{cell}/prev_bn/{tensor}",
    "reduction_conv": "{cell}/path{n}_conv/{tensor}",
    "reduction_norm": "{cell}/final_path_bn/{tensor}",
    "depthwise": "{cell}/comb_iter_{block}/{side}/separable_{kernel}_{n}/depthwise_{tensor}",
    "pointwise": "{cell}/comb_iter_{block}/{side}/separable_{kernel}_{n}/pointwise_{tensor}",
    "separable_norm": "{cell}/comb_iter_{block}/{side}/bn_sep_{kernel}_{n}/{tensor}",
    "op_conv": "{cell}/comb_iter_{block}/{side}/1x1/{tensor}",
    "op_norm": "{cell}/comb_iter_{block}/{side}/bn_1/{tensor}",
    "output_conv": "{cell}/cell_output/reduction_{state}/path_conv/{tensor}",
    "output_norm": "{cell}/cell_output/reduction_{state}/path_bn/{tensor}",
    "linear": "final_layer/FC/{tensor}",
    "aux_conv_1": "aux_{aux}/aux_logits/proj/{tensor}",
    "aux_norm_1": "aux_{aux}/aux_logits/aux_bn0/{tensor}",
    "aux_conv_2": "aux_{aux}/aux_logits/Conv/{tensor}",
    "aux_norm_2": "aux_{aux}/aux_logits/aux_bn1/{tensor}",
    "aux_linear": "aux_{aux}/aux_logits/FC/{tensor}",
}
_SLIM_CIFAR = {**_SLIM, "stem_conv": "l1_stem_3x3/{tensor}", "stem_norm": "l1_stem_bn/{tensor}"}

_TF_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def _same_cell(cell: str, num_cells_per_stage: int) -> str:
    return cell


def _cadene_mobile_cell(cell: str, num_cells_per_stage: int) -> str:
    """Two numbers are left out before each further stage: 0-3, 6-9, 12-15."""
    kind, _, number = cell.rpartition("_")
    if kind != "cell":
        return cell
    return f"cell_{int(number) + 2 * (int(number) // num_cells_per_stage)}"


def _keras_cell(cell: str, num_cells_per_stage: int) -> str:
    """``stem_1``, ``stem_2``, 0 to N - 1, ``reduce_N``, N + 1 to 2N, ``reduce_2N``, and so on."""
    kind, _, text = cell.rpartition("_")
    number = int(text)
    if kind == "cell_stem":
        return f"stem_{number + 1}"
    if kind == "reduction_cell":
        return f"reduce_{(number + 1) * num_cells_per_stage}"
    return str(number + (number >= num_cells_per_stage))


@dataclass(frozen=True)
class Scheme:
    """The names and the layout of one implementation.

    Attributes:
        name: what an error or a user calls it.
        variants: the published networks that it has.
        templates: role -> name, with the fields of the tensor's place.
        cell: our name of a cell and the cells per stage -> its name.
        norm_tensors, other_tensors: our names of a layer's tensors -> its names.
        channels_last: convolutions are HWIO and linear layers (in, out), as in TensorFlow.
    """

    name: str
    variants: tuple[str, ...]
    templates: Mapping[str, str]
    cell: Callable[[str, int], str] = _same_cell
    norm_tensors: Mapping[str, str] = field(default_factory=dict)
    other_tensors: Mapping[str, str] = field(default_factory=dict)
    channels_last: bool = False

    @property
    def stem(self) -> str:
        """The name of the stem's convolution, by which a source is recognised."""
        return self.templates["stem_conv"].format(tensor=self.other_tensors.get("weight", "weight"))

    def to_ours(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Their axes -> ours, for the tensor that we call ``name``."""
        axes = self._axes(name)
        return tensor.permute(axes) if len(axes) == tensor.ndim else tensor

    def to_theirs(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Our axes -> theirs."""
        axes = self._axes(name)
        back = [axes.index(i) for i in range(len(axes))]
        return tensor.permute(back) if len(axes) == tensor.ndim else tensor

    def _axes(self, name: str) -> tuple[int, ...]:
        if not self.channels_last:
            return ()
        if name.endswith(".depthwise.weight"):  # [k, k, C, 1] -> [C, 1, k, k]
            return (2, 3, 0, 1)
        is_linear = name in ("classifier.weight", "aux_head.linear.weight")
        return (1, 0) if is_linear else (3, 2, 0, 1)  # HWIO -> OIHW


_SLIM_TENSORS = {"weight": "weights", "bias": "biases"}
SCHEMES: tuple[Scheme, ...] = (
    Scheme("torch", ("nasnet_a_large",), _TORCH),
    Scheme("torch", ("nasnet_a_mobile",), _TORCH, _cadene_mobile_cell),
    Scheme("torch", ("pnasnet_5_large",), _TORCH_PNASNET),
    Scheme(
        "keras",
        ("nasnet_a_large", "nasnet_a_mobile"),
        _KERAS,
        _keras_cell,
        _TF_NORM,
        {"weight": "kernel"},
        channels_last=True,
    ),
    Scheme(
        "tf_slim",
        ("nasnet_a_large", "nasnet_a_mobile", "pnasnet_5_large", "pnasnet_5_mobile"),
        _SLIM,
        norm_tensors=_TF_NORM,
        other_tensors=_SLIM_TENSORS,
        channels_last=True,
    ),
    Scheme(
        "tf_slim",
        ("nasnet_a_cifar_6_768", "nasnet_a_cifar_7_2304"),
        _SLIM_CIFAR,
        norm_tensors=_TF_NORM,
        other_tensors=_SLIM_TENSORS,
        channels_last=True,
    ),
)
"""``torch`` is timm's and Cadene's: they share the names."""


def their_names(scheme: Scheme, model: NASNet) -> dict[str, str]:
    """Our name -> theirs for every tensor of a model, without the counters of normalizations.

    Raises:
        KeyError: a tensor whose role the scheme does not have.
    """
    rows = {row.name: row for row in model.trunk.plan}
    num_cells = model.trunk.spec.num_cells_per_stage
    names = {}
    for ours in model.state_dict():
        module, _, tensor = ours.rpartition(".")
        if tensor == "num_batches_tracked":
            continue
        role, place = _find_role(module)
        renamed = scheme.norm_tensors if "_norm" in role else scheme.other_tensors
        fields = {**place, "tensor": renamed.get(tensor, tensor), "aux": str(2 * num_cells - 1)}
        if "cell" in place:
            row = rows[place["cell"]]
            fields |= {"cell": scheme.cell(row.name, num_cells), "kind": row.kind}
            if "block" in place:
                block = getattr(model.trunk.genotype, row.kind).blocks[int(place["block"])]
                fields["kernel"] = block.ops[place["side"] == "right"].rpartition("_")[2]
                fields["number"] = _keras_number(row.kind, int(place["block"]))
        names[ours] = scheme.templates[role].format(**fields)
    return names


def _find_role(module: str) -> tuple[str, dict[str, str]]:
    for role, pattern in ROLES.items():
        if match := re.fullmatch(pattern, module):
            return role, match.groupdict()
    raise KeyError(module)


def _keras_number(kind: str, block: int) -> str:
    """Keras counts the blocks from 1, and uses 4 again for the reduction cell's last."""
    return "4" if (kind, block) == ("reduction", 4) else str(block + 1)
