"""Tables as values: computed once, shown on a page by a template and in Markdown by a formatter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

DASH = "\N{EN DASH}"
ESCAPED = r"\|"  # in Markdown
Item = TypeVar("Item")


@dataclass(frozen=True)
class Cell:
    """What stands in a table.

    Attributes:
        text: as it is shown.
        value: what a number is sorted by; None comes last.
        is_number: set to the right, and sorted by ``value`` instead of the text.
    """

    text: str
    value: float | None = None
    is_number: bool = False


def number(value: float | None, form: str = ",") -> Cell:
    """A number in a format, None as a dash."""
    return Cell(DASH if value is None else format(value, form), value, is_number=True)


def quantity(value: float | None) -> Cell:
    """A large number: ``5.3 M``, ``23.8 G``."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value is not None and value >= factor:
            return Cell(f"{value / factor:.3g} {unit}", value, is_number=True)
    return number(value, ".0f")


def text(value: object) -> Cell:
    """A text, or a value that is not to be compared with others; None as a dash."""
    return Cell(DASH if value is None else str(value))


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: their names, all different where columns are selected.
        rows: as many cells each.
        is_sortable: by the names of its columns, on a page.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    is_sortable: bool = True

    def select(self, *columns: str) -> Table:
        """The table of these columns alone."""
        places = [self.columns.index(name) for name in columns]
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return replace(self, columns=columns, rows=rows)

    def write_markdown(self) -> list[str]:
        """Lines of Markdown."""
        texts = [[cell.text for cell in row] for row in self.rows]
        lines = [self.columns, ["---"] * len(self.columns), *texts]
        return [f"| {' | '.join(word.replace('|', ESCAPED) for word in line)} |" for line in lines]


def make_table(
    columns: Sequence[str], rows: Iterable[Iterable[object]], *, is_sortable: bool = True
) -> Table:
    """A table of texts, numbers, :class:`Cell` or None, which is shown as a dash."""
    cells = tuple(tuple(map(_make_cell, row)) for row in rows)
    return Table(tuple(columns), cells, is_sortable)


def tabulate(
    items: Iterable[Item],
    columns: Mapping[str, Callable[[Item], object]],
    *,
    is_sortable: bool = True,
) -> Table:
    """A table with a row for each item; a column says what of the item stands in it."""
    rows = ([get(item) for get in columns.values()] for item in items)
    return make_table(tuple(columns), rows, is_sortable=is_sortable)


def _make_cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return number(value) if is_number else text(value)
