"""The check that a detector runs a backbone's network, and on the input that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from detectron2.config import CfgNode

from nasnet_det.backbone_file import read_card
from nasnet_det.config import ConfigError
from nasnet_det.detection.backbone import config_errors, network_arguments, resolve_network

# Fields of the network that decide what the weights compute; the rest is about training.
_FIELDS = (
    *("num_cells_per_stage", "channels", "stem", "stem_multiplier", "skip_reduction_input"),
    *("extra_reduction_cells", "norm_eps", "pool_padding"),
)


def compare_preprocessing(
    cfg: CfgNode, channels: str, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> list[str]:
    """What a config's input has different from that of a training, key by key.

    Args:
        cfg: the config.
        channels: ``RGB`` or ``BGR``.
        pixel_mean, pixel_std: 3 numbers in that order, in the scale of bytes.
    """
    faults = []
    if channels != cfg.INPUT.FORMAT:
        faults.append(f"INPUT.FORMAT: wanted {channels}, got {cfg.INPUT.FORMAT}")
    for key, wanted in (("PIXEL_MEAN", pixel_mean), ("PIXEL_STD", pixel_std)):
        got = cfg.MODEL[key]
        if len(got) != 3 or any(abs(a - b) > 1e-3 for a, b in zip(got, wanted, strict=True)):
            faults.append(f"MODEL.{key}: wanted {list(wanted)}, got {list(got)}")
    return faults


def check_backbone(cfg: CfgNode) -> None:
    """Compare a config with the card of ``MODEL.WEIGHTS``, where that has one.

    Raises:
        ConfigError: network or preprocessing differ; every difference is named.
        FileError: the card can't be understood.
    """
    card = read_card(cfg.MODEL.WEIGHTS) if "nasnet" in cfg.MODEL.BACKBONE.NAME else None
    if card is None:
        return
    arguments = network_arguments(cfg)
    decisive = ("variant", "genotype", *_FIELDS)
    with config_errors():
        spec, genotype = resolve_network(
            **{name: value for name, value in arguments.items() if name in decisive}
        )
    faults = compare_preprocessing(cfg, card.format, card.pixel_mean, card.pixel_std)
    if (genotype.normal, genotype.reduction) != (card.genotype.normal, card.genotype.reduction):
        faults.append("MODEL.NASNET.GENOTYPE or VARIANT: its cells are others")
    trained, now = asdict(card.spec), asdict(spec)
    faults += [
        f"MODEL.NASNET, {name}: wanted {trained[name]!r}, got {now[name]!r}"
        for name in _FIELDS
        if trained[name] != now[name]
    ]
    if faults:
        raise ConfigError(
            f"{cfg.MODEL.WEIGHTS} was trained as another backbone than this config's: "
            f"{'; '.join(faults)}"
        )
