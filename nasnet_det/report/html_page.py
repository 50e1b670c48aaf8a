"""One self-contained HTML page: text, tables and pictures, nothing that a network must fetch."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 70rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figure img { max-width: max(100%, 40rem); height: auto; } /* on a phone it scrolls */
figure img.photo { max-width: 100%; }
figcaption { color: #555; font-size: .9rem; }
.table { overflow-x: auto; overflow-wrap: normal; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left;
         vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th button { font: inherit; font-weight: bold; color: inherit; background: none; border: 0;
            padding: 0; cursor: pointer; text-align: left; white-space: nowrap; }
th button::after { content: " \\2195"; color: #767676; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: " \\2193"; color: inherit; }
:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.warning { border-left: .3rem solid #D55E00; padding: .3rem .8rem; background: #fdf3ec; }
summary { cursor: pointer; }
"""

# A click, Enter or the space bar on a column's name sorts by it; what has no value stays last.
SCRIPT = """
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const header = button.closest("th"), table = button.closest("table");
    const order = header.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    for (const other of table.querySelectorAll("th")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
    const key = row => row.cells[header.cellIndex].dataset.value ??
      row.cells[header.cellIndex].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const isText = isNaN(x) || isNaN(y);
      const difference = isText ? x.localeCompare(y) : x - y;
      return order === "ascending" ? difference : -difference;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  });
}
"""


class Number(NamedTuple):
    """A number as it is shown, and the value that it is sorted by (None comes last)."""

    text: str
    value: float | None


def make_page(title: str, parts: Sequence[str]) -> str:
    """The page of parts that the functions below make."""
    body = "\n".join(parts)
    script = f"<script>{SCRIPT}</script>\n" if 'class="sortable"' in body else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n{script}</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """Begins a section, or with level 3 a part of one."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def warning(text: str) -> str:
    """Text that must not be overlooked."""
    return f'<p class="warning" role="note">{escape(text)}</p>'


def details(summary: str, parts: Sequence[str]) -> str:
    """Parts that are folded away."""
    body = "\n".join(parts)
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, sortable: bool = False
) -> str:
    """A table; numbers are set to the right.

    Args:
        header: names of the columns.
        rows: of texts, numbers, :class:`Number` or None.
        sortable: whether the names of the columns are buttons that sort.
    """
    names = [escape(name) for name in header]
    if sortable:
        names = [f'<button type="button">{name}</button>' for name in names]
    sort = ' aria-sort="none"' if sortable else ""
    head = "".join(f'<th scope="col"{sort}>{name}</th>' for name in names)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="table" tabindex="0"><table{kind}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(value: object) -> str:
    if isinstance(value, Number):
        key = "" if value.value is None else repr(float(value.value))
        return f'<td class="number" data-value="{key}">{escape(value.text)}</td>'
    text = format_value(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number" data-value="{value!r}">{text}</td>'
    return f"<td>{escape(text)}</td>"


def format_value(value: object) -> str:
    """Whole numbers with separators, others as they are, None as a dash."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def picture(
    data: bytes,
    description: str,
    caption: str = "",
    *,
    kind: str = "svg+xml",
    is_photo: bool = False,
) -> str:
    """A picture inside the page.

    Args:
        data: of the file.
        description: what is to be seen on it, for those who don't see it.
        caption: below it.
        kind: ``svg+xml``, ``png`` or ``jpeg``.
        is_photo: it shrinks to the width of a phone, where a drawing scrolls.
    """
    content = base64.b64encode(data).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    photo = ' class="photo"' if is_photo else ""
    return (
        f'<figure tabindex="0"><img{photo} alt="{escape(description)}" '
        f'src="data:image/{kind};base64,{content}">{below}</figure>'
    )
