"""Print the cells, the plan, the parameters and the multiply-adds of a network.

    python tools/describe.py                                   # nasnet_a_mobile
    python tools/describe.py nasnet_a_large --input-size 331
    python tools/describe.py nasnet_a_4@1056 num_cells_per_stage 2
    python tools/describe.py my_genotype.json --num-classes 10 stem cifar input_size 32
    python tools/describe.py my_genotype.json --draw cells.svg         # or .png, .pdf
    python tools/describe.py --list

KEY VALUE pairs are fields of ``nasnet_det.NetworkSpec``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from nasnet_det import GENOTYPES, Genotype, NetworkSpec, describe, list_models, load_genotype
from nasnet_det.genotype import nearest
from nasnet_det.variants import resolve_variant

FIELD_TYPES = {field.name: str(field.type) for field in dataclasses.fields(NetworkSpec)}
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def parse_value(key: str, text: str) -> Any:
    """The value of a spec's field from its text.

    Raises:
        ValueError: an unknown field, or text that is not of its type.
    """
    if key not in FIELD_TYPES:
        raise ValueError(f"unknown network field {key!r}, {nearest(key, FIELD_TYPES)}")
    kind = FIELD_TYPES[key]
    try:
        if kind == "bool":
            return BOOLEANS[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise ValueError(f"{key}: wanted {wanted}, got {text!r}") from None


def parse_words(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Split ``[NAME] KEY VALUE ...`` into the name and the spec's fields."""
    name = "nasnet_a_mobile"
    if words and words[0] not in FIELD_TYPES:
        name, words = words[0], words[1:]
        if len(words) % 2 and not is_network(name):  # rather a field than a network
            parse_value(name, words[0])
    if len(words) % 2:
        raise ValueError(f"wanted KEY VALUE pairs, got no value after {words[-1]!r}")
    return name, {
        key: parse_value(key, text) for key, text in zip(words[::2], words[1::2], strict=True)
    }


def is_network(name: str) -> bool:
    """Whether a word looks like a network rather than like a field."""
    return name in list_models() or "@" in name or is_genotype(name)


def is_genotype(name: str) -> bool:
    """Whether a word is a published cell or a file."""
    return name in GENOTYPES or name.endswith(".json") or Path(name).is_file()


def draw(network: str | Genotype, path: str) -> None:
    """Draw the cells of a network into a file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from nasnet_det.drawing.cells import draw_cells
        from nasnet_det.drawing.figure_file import save_figure
    except ImportError as error:
        raise ImportError(f"--draw: {error} (pip install 'nasnet-det[report]')") from error
    genotype = network if isinstance(network, Genotype) else resolve_variant(network)[1]
    save_figure(draw_cells(genotype), path, title=f"Cells of {genotype.name}")


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Report ``message`` and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after a mistake of the user."""
    parser = Parser(description="Print the cells, the plan and the size of a network.")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME KEY VALUE",
        help="a name from --list, <genotype>_<N>@<P>, or a genotype's JSON file (default: "
        f"nasnet_a_mobile), then pairs of a field and its value: {', '.join(FIELD_TYPES)}",
    )
    parser.add_argument("--input-size", type=int, metavar="N", help="pixels; the network's own")
    parser.add_argument("--num-classes", type=int, metavar="K", default=1000)
    parser.add_argument("--draw", metavar="FILE", help="draw the cells too: .svg, .png or .pdf")
    parser.add_argument("--list", action="store_true", help="print the names of the networks")
    options = parser.parse_intermixed_args(arguments)
    try:
        if options.list:
            print("\n".join(list_models()))
            return 0
        name, overrides = parse_words(options.words)
        overrides.setdefault("input_size", options.input_size)
        if options.input_size not in (None, overrides["input_size"]):
            raise ValueError("--input-size and the field input_size differ")
        network = load_genotype(name) if is_genotype(name) else name
        text = describe(network, num_classes=options.num_classes, **overrides)
        if options.draw:
            draw(network, options.draw)
        print(text)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
