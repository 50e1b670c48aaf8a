"""NAME is a name from --list, <genotype>_<N>@<P>, or a genotype's JSON file (nasnet_a_mobile, if
none is given). KEY VALUE pairs are fields of nasnet_det.NetworkSpec.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasnet_det.errors import InputError, requires

if TYPE_CHECKING:
    from nasnet_det.genotype import Genotype

SUMMARY = "Print the cells, the plan, the parameters and the multiply-adds of a network."
EXAMPLES = (
    "nasnet_a_large --input-size 331",
    "nasnet_a_4@1056 num_cells_per_stage 2",
    "my_genotype.json --num-classes 10 stem cifar input_size 32",
    "my_genotype.json --draw cells.svg",
    "--list",
)
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``opts``, ``input_size``, ``num_classes``, ``draw`` and ``list``."""
    parser.add_argument("opts", nargs="*", metavar="NAME KEY VALUE", help="see above")
    parser.add_argument("--input-size", type=int, metavar="N", help="pixels; the network's own")
    parser.add_argument("--num-classes", type=int, metavar="K", default=1000)
    parser.add_argument("--draw", metavar="FILE", help="draw the cells too: .svg, .png or .pdf")
    parser.add_argument("--list", action="store_true", help="print the names of the networks")


def run(options: argparse.Namespace) -> None:
    """Print, and draw where that is asked for."""
    from nasnet_det import describe, list_models, load_genotype

    if options.list:
        print("\n".join(list_models()))
        return
    name, overrides = parse_words(options.opts)
    overrides.setdefault("input_size", options.input_size)
    if options.input_size not in (None, overrides["input_size"]):
        raise InputError("--input-size and the field input_size differ")
    network = load_genotype(name) if is_genotype(name) else name
    text = describe(network, num_classes=options.num_classes, **overrides)
    if options.draw:
        draw(network, options.draw)
    print(text)


def parse_words(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Split ``[NAME] KEY VALUE ...`` into the name and the spec's fields."""
    from nasnet_det import NetworkSpec

    types = {field.name: str(field.type) for field in dataclasses.fields(NetworkSpec)}
    name = "nasnet_a_mobile"
    if words and words[0] not in types:
        name, words = words[0], words[1:]
        if len(words) % 2 and not is_network(name):  # rather a field than a network
            parse_value(name, words[0], types)
    if len(words) % 2:
        raise InputError(f"wanted KEY VALUE pairs, got no value after {words[-1]!r}")
    pairs = zip(words[::2], words[1::2], strict=True)
    return name, {key: parse_value(key, text, types) for key, text in pairs}


def parse_value(key: str, text: str, types: Mapping[str, str]) -> Any:
    """The value of a spec's field from its text.

    Raises:
        InputError: an unknown field, or text that is not of its type.
    """
    from nasnet_det.near_names import nearest

    if key not in types:
        raise InputError(f"unknown network field {key!r}, {nearest(key, types)}", where=key)
    kind = types[key]
    try:
        if kind == "bool":
            return BOOLEANS[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise InputError(
            f"{key}: wanted {wanted}, got {text!r}", where=key, wanted=wanted, got=text
        ) from None


def is_network(name: str) -> bool:
    """Whether a word looks like a network rather than like a field."""
    from nasnet_det import list_models

    return name in list_models() or "@" in name or is_genotype(name)


def is_genotype(name: str) -> bool:
    """Whether a word is a published cell or a file."""
    from nasnet_det import GENOTYPES

    return name in GENOTYPES or name.endswith(".json") or Path(name).is_file()


def draw(network: str | Genotype, path: str) -> None:
    """Draw the cells of a network into a file.

    Raises:
        InputError: matplotlib is not installed, or the file can't be written.
    """
    from nasnet_det.variants import resolve_variant

    with requires("report"):
        from nasnet_det.drawing.cells import draw_cells
        from nasnet_det.drawing.figure_file import save_figure

    genotype = resolve_variant(network)[1] if isinstance(network, str) else network
    save_figure(draw_cells(genotype), path, title=f"Cells of {genotype.name}")
