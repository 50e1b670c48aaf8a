"""Weights that were read, matched with a model."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

from nasnet_det.detection.tensorflow import TFNASNetROIHeads
from nasnet_det.same_padding import Pool2dSame
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.prefixes import drop_wrappers, list_shared_prefixes

# Where a file with the keys of a classifier or of its trunk may belong. What is left over goes to
# the second half of a C4 detector.
BACKBONE_PREFIXES = (
    "",
    *("backbone.", "backbone.bottom_up."),
    *("backbone.trunk.", "backbone.bottom_up.trunk."),
)
HEAD_PREFIXES = ("roi_heads.res5.", "roi_heads.res5.trunk.")
FPN_PARTS = ("backbone.fpn_", "backbone.top_block.")
COUNTER = "num_batches_tracked"  # of a batch normalization, which nothing depends on

logger = logging.getLogger(__name__)


def match_prefix(state: Mapping[str, Any], model_keys: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a bare backbone to those of the detector, by the best of the prefixes.

    What all keys begin with, such as ``module.`` or ``model.``, is taken off where more fit then.
    """
    state = drop_wrappers(state)
    shared = max(
        list_shared_prefixes(state),
        key=lambda prefix: max(
            sum(own + k.removeprefix(prefix) in model_keys for k in state)
            for own in BACKBONE_PREFIXES
        ),
    )
    state = {key.removeprefix(shared): value for key, value in state.items()}
    own = max(BACKBONE_PREFIXES, key=lambda prefix: sum(prefix + k in model_keys for k in state))
    if not own:
        return dict(state)
    rest = [key for key in state if own + key not in model_keys]
    head = max(HEAD_PREFIXES, key=lambda prefix: sum(prefix + k in model_keys for k in rest))
    renamed = {}
    for key, value in state.items():
        name = next((p + key for p in (own, head) if p + key in model_keys), key)
        renamed[name] = value
    return renamed


def check_matches(
    file: str,
    incompatible: _IncompatibleKeys,
    model_keys: list[str],
    *,
    exact: str = "",
    complete: bool = False,
) -> None:
    """Log how well a file fitted; raise :class:`WeightsError` if it hardly did.

    Args:
        file: its name.
        incompatible: what Detectron2 found.
        model_keys: all keys of the model.
        exact: if true, everything must fit.
        complete: every tensor of the model must be there.
    """
    shapes = [key for key, _, _ in incompatible.incorrect_shapes]
    unfit = set(incompatible.missing_keys) | set(shapes)
    missing = [key for key in incompatible.missing_keys if key not in shapes]
    unexpected = incompatible.unexpected_keys
    trunk = _trunk_keys(model_keys)
    num_matched = sum(key not in unfit for key in trunk)
    counts = (
        f"{file}: {num_matched} of {len(trunk)} tensors of the backbone and "
        f"{len(model_keys) - len(unfit)} of {len(model_keys)} of the model matched, "
        f"{len(missing)} missing{_first(missing)}, {len(unexpected)} unexpected"
        f"{_first(unexpected)}, {len(shapes)} of another shape{_first(shapes)}"
    )
    if exact and (unfit or unexpected):
        raise WeightsError(f"{counts}; it is a checkpoint of another model")
    absent = [key for key in model_keys if key in unfit and not key.endswith(COUNTER)]
    if complete and absent:
        raise WeightsError(
            f"{counts}; a prediction, a measurement or an evaluation wants every tensor, so give "
            "the checkpoint of a trained detector of this config"
        )
    if 2 * num_matched < len(trunk):
        raise WeightsError(
            f"{counts}; training would start from noise, so give MODEL.WEIGHTS of this backbone, "
            "the MODEL.BACKBONE and the network (such as MODEL.NASNET) of these weights, or "
            "MODEL.WEIGHTS ''"
        )
    logger.info("%s", counts)
    if random := [key for key in trunk if key in unfit]:
        logger.warning(
            "%s: %d tensors of the trunk are not in it and start anew%s",
            *(file, len(random), _first(random)),
        )
    if heads := {".".join(key.split(".")[:2]): None for key in absent if key not in set(trunk)}:
        logger.warning("%s: not in it, so made anew: %s", file, ", ".join(heads))


def check_classes(file: str, saved: Sequence[str] | None, wanted: Sequence[str] | None) -> None:
    """See that the labels of a trained detector mean what those of the data mean.

    Args:
        file: its name.
        saved: class names in the file, in the order of the labels; None or empty: unknown.
        wanted: those of the data.

    Raises:
        WeightsError: they are others, or in another order.
    """
    if not saved or not wanted or list(saved) == list(wanted):
        return
    pairs = enumerate(itertools.zip_longest(saved, wanted, fillvalue="none"))
    label, (was, now) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise WeightsError(
        f"{file}: its classes are not those of the data: label {label} is {was!r} in the file and "
        f"{now!r} in the data; give the categories of its training, in their order"
    )


def check_pools(file: str, described: Mapping[str, Any], model: nn.Module) -> None:
    """Warn if converted weights come from a network with other pools than the model's."""
    wanted = described.get("pool_padding")
    found = {m.padding for m in model.modules() if isinstance(m, Pool2dSame)}
    if wanted and found - {wanted}:
        logger.warning(
            "%s: these weights are %s's; MODEL.NASNET.POOL_PADDING %s gives its features at the "
            "borders, the model has %s",
            *(file, described.get("origin"), wanted, ", ".join(sorted(found))),
        )


def check_detector(file: str, described: Mapping[str, Any], model: nn.Module) -> None:
    """Warn if a detector of TensorFlow's is loaded into one that goes by Detectron2's rules."""
    is_theirs = isinstance(getattr(model, "roi_heads", None), TFNASNetROIHeads)
    if described.get("origin") == "tf_detection" and not is_theirs:
        logger.warning(
            "%s: these weights are a whole detector of TensorFlow's, whose results come only with "
            "COCO-Detection/faster_rcnn_nasnet_a_large_C4_1200_tf.yaml; this model's are others",
            file,
        )


def _trunk_keys(model_keys: list[str]) -> list[str]:
    """Keys of the backbone without its FPN and without the counters of batch normalizations."""
    keys = [key for key in model_keys if key.startswith("backbone.bottom_up.")] or [
        key for key in model_keys if key.startswith("backbone.")
    ]
    return [key for key in keys if not key.startswith(FPN_PARTS) and not key.endswith(COUNTER)]


def _first(keys: list[str]) -> str:
    return f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""
