"""Tables as values: on a page, in Markdown, and what they show."""

from __future__ import annotations

import pytest

from nasnet_det.report.html import render_page
from nasnet_det.report.tables import make_table, number, quantity, text


def test_markdown_escapes_what_ends_a_cell() -> None:
    table = make_table(["a|b", "n"], [["x|y", 1234], [None, 2.5]])
    assert table.write_markdown() == [
        "| a\\|b | n |", "| --- | --- |", "| x\\|y | 1,234 |", "| \N{EN DASH} | 2.5 |",
    ]  # fmt: skip


def test_columns_are_selected_by_name() -> None:
    table = make_table(["a", "b", "c"], [[1, 2, 3], [4, 5, 6]], is_sortable=False)
    chosen = table.select("c", "a")
    assert (chosen.columns, chosen.is_sortable) == (("c", "a"), False)
    assert [[cell.value for cell in row] for row in chosen.rows] == [[3, 1], [6, 4]]


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "\N{EN DASH}"), (7, "7"), (5.3e6, "5.3 M"), (2.38e10, "23.8 G")]
)
def test_large_numbers_are_short_and_sort_by_their_value(value: float | None, shown: str) -> None:
    cell = quantity(value)
    assert (cell.text, cell.value, cell.is_number) == (shown, value, True)


def test_only_numbers_sort_by_value() -> None:
    assert number(0.25, ".1f").value == 0.25
    assert not text(5).is_number


def test_page_escapes_what_a_folder_is_called() -> None:
    table = make_table(["<i>"], [["<script>alert(1)</script> & co"]])
    tables = dict.fromkeys(("studies", "groups", "failures", "versions", "config"), table)
    page = render_page(
        "search", title="<b>", warning_text="<u>", named_studies=[], num_children=1,
        svgs=dict.fromkeys(("top_means", "rewards", "accuracy_macs"), b"<svg/>"),
        tables=tables | {"config_differences": table}, retrained=[], percent=str, show_number=str,
    )  # fmt: skip
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in page
    for tag in ("<script>alert", "<i>", "<b>", "<u>"):
        assert tag not in page
