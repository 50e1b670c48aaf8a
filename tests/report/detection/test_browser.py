"""The page of a detection report in a real browser: it loads alone, sorts, and fits on a phone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_browser
from PIL import Image
from simulated_detector import detect, make_truth, write_run
from tiny_pictures import write_pictures_of

from nasnet_det.report.detection.report import write_detection_report
from nasnet_det.report.detection.run_folder import read_run

NUM_CATEGORIES = 8
CATEGORY_TABLE = "[...document.querySelectorAll('table.sortable')].find(t => t.rows[0].cells[0].innerText.startsWith('category'))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two runs."""
    base = tmp_path_factory.mktemp("report")
    truth = make_truth(20, num_categories=NUM_CATEGORIES)
    write_pictures_of(truth, base / "images", (0x88, 0xAA, 0xCC))
    network = {"MODEL__BACKBONE__NAME": "build_nasnet_fpn_backbone"}
    network |= {"MODEL__NASNET__VARIANT": "nasnet_a_mobile"}
    runs = [
        read_run(write_run(base / f"run_{seed}", truth, detect(truth, seed=seed), **network))
        for seed in (0, 1)
    ]
    write_detection_report(runs, base / "out", num_draws=100)
    return base / "out" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, page: Path) -> Iterator[Browser]:
    if find_browser() is None:
        pytest.skip("no Chromium or Chrome on this machine (Debian: apt-get install chromium)")
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.resize(1200, 900)
        browser.open(page)
        yield browser


def read_column(browser: Browser, place: int) -> list[str]:
    rows = f"[...{CATEGORY_TABLE}.tBodies[0].rows].map(r => r.cells[{place}].innerText)"
    return list(browser.evaluate(rows))


def test_page_needs_no_network_and_throws_nothing(browser: Browser, page: Path) -> None:
    others = [url for url in browser.requests if not url.startswith("data:")]
    assert others == [page.as_uri()]
    assert browser.faults == []
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert browser.evaluate(broken) == 0
    assert browser.evaluate("document.images.length") > 10


def test_keyboard_sorts_a_table(browser: Browser, page: Path) -> None:
    report = json.loads((page.parent / "report.json").read_text())
    of_names = {c["name"]: c["AP"]["value"] for c in report["runs"][0]["categories"]}
    before = read_column(browser, 0)
    assert before == list(of_names), "in the order of the data set"
    wanted = f"document.activeElement === {CATEGORY_TABLE}.rows[0].cells[2].querySelector('button')"
    for _ in range(100):
        browser.press("Tab")
        if browser.evaluate(wanted):
            break
    assert browser.evaluate(wanted), "Tab leads to the column's name"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.evaluate(outline) == "solid", "one sees where the keyboard is"
    browser.press("Enter")
    falling = sorted(of_names, key=lambda name: -of_names[name])
    assert read_column(browser, 0) == falling
    state = f"{CATEGORY_TABLE}.rows[0].cells[2].getAttribute('aria-sort')"
    assert browser.evaluate(state) == "descending"
    browser.press("Enter")
    assert read_column(browser, 0) == falling[::-1]
    assert browser.evaluate(state) == "ascending"
    browser.evaluate(f"{CATEGORY_TABLE}.rows[0].cells[0].querySelector('button').click()")
    assert read_column(browser, 0) == sorted(of_names, reverse=True)
    assert browser.evaluate(state) == "none"


@pytest.mark.parametrize(("width", "is_phone"), [(1200, False), (390, True)])
def test_page_fits_and_can_be_photographed(
    width: int, is_phone: bool, browser: Browser, tmp_path: Path
) -> None:
    browser.resize(width, 900, is_phone=is_phone)
    assert browser.evaluate("window.innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, "only tables scroll"
    small = "[...document.querySelectorAll('p, td, button')].filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length"
    assert browser.evaluate(small) == 0
    picture = Image.open(io.BytesIO(browser.take_screenshot()))
    assert picture.width == width
    colors = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert len(colors) > 100, "something is drawn"
