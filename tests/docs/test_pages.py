"""The pages for people: current, linked, short sentences, and nothing that does not exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nasnet_det.config import list_configs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
MAX_WORDS = 25
GENERATED = re.compile(r"<!-- begin [\w.]+ -->.*?<!-- end -->", re.DOTALL)
CODE_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
NUMBER_COMMENT = r"<!-- [a-z][\w.]*\.[\w.]+ -->"

each_page = pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])


def list_sentences(text: str) -> list[str]:
    """The sentences of a page, without code, tables, headings and what is generated."""
    text = CODE_BLOCK.sub("\n", GENERATED.sub("", text))
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = LINK.sub(lambda m: "" if m[0].startswith("!") else m[1], text)
    text = re.sub(r"https?://\S+|`[^`]*`", "word", text)
    text = re.sub(r"^(\||#).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(-|\d+\.) ", "\n", text, flags=re.MULTILINE)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [s for part in paragraphs for s in re.split(r"(?<=[.!?])\s+", part) if s]


def list_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST name them."""
    headings = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s", "-", heading.strip()) for heading in plain}


def list_dead_links(page: Path) -> list[str]:
    """Links of a page to a file or a heading that is not there."""
    dead = []
    for _, target in LINK.findall(CODE_BLOCK.sub("", page.read_text())):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        if not path.exists() or (anchor and anchor not in list_anchors(path)):
            dead.append(target)
    return dead


def test_readme_is_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_generated_parts_are_current():
    result = subprocess.run(
        [sys.executable, "docs/generate", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_another_number_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "generate"))
    import results

    value = results.list_values()["bccd.minutes_ratio"]
    text = (ROOT / "docs" / "measurements.md").read_text()
    assert f" {value}<!-- bccd.minutes_ratio -->" in text
    assert value == "0.83"  # 14.5 of 17.4 minutes


@each_page
def test_sentences_are_short(page: Path):
    long = [s for s in list_sentences(page.read_text()) if len(s.split()) > MAX_WORDS]
    assert not long


@each_page
def test_links_are_alive(page: Path):
    assert not list_dead_links(page)


def test_dead_links_and_long_sentences_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[a](b.md) [c](#one) [d](#two) " + "word " * 26 + ".\n")
    assert list_dead_links(page) == ["b.md", "#two"]
    assert [len(s.split()) for s in list_sentences("One. " + "word " * 26 + ".")] == [1, 27]


@each_page
def test_configs_exist(page: Path):
    known = {name.rpartition("/")[2] for name in list_configs()} | set(list_configs())
    named = re.findall(r"[\w./-]+\.yaml", page.read_text())
    own = {"output/mine/config.yaml", "config.yaml", "my.yaml", "data.yaml", "pets/data.yaml"}
    own |= {"output/detector_search/front/found_12.yaml", "bccd/front/found_2.yaml"}
    own |= {f"bccd/front/nasnet_a_1x8_{size}.yaml" for size in (96, 128)}
    assert [n for n in named if re.sub(r"^(\.\./)?configs/", "", n) not in known | own] == []


def test_modules_of_the_architecture_exist():
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## Beside the package")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([\w/]+)`", cell)]
    assert len(names) > 20
    package = ROOT / "nasnet_det"
    assert [n for n in names if not (package / f"{n}.py").exists() | (package / n).is_dir()] == []


def test_every_extra_is_explained():
    project = (ROOT / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    assert {"search", "augmentation"} < extras
    in_base = {"classification", "report"}  # pip install . has all of theirs
    text = (ROOT / "docs" / "install.md").read_text()
    table = text.partition("| extra |")[2].partition("\n\n")[0]
    rows = (row.split("|")[1] for row in table.splitlines()[2:])
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == extras - in_base


def test_measured_decimals_come_from_files():
    """In prose a decimal has its file behind it; sizes are tests, the rest are conditions."""
    text = (ROOT / "docs" / "measurements.md").read_text()
    text = re.sub(r"`[^`]*`", "", CODE_BLOCK.sub("", GENERATED.sub("", text)))
    sizes, _, others = text.partition("## Sizes")[0], "", text.partition("## Where features")[2]
    loose = re.findall(rf"\d+\.\d+(?![\d]|{NUMBER_COMMENT})", sizes + others)
    conditions = {"2.14", "2.11", "0.005", "0.1", "0.7"}  # versions, a rate, a bound, a noise
    assert set(loose) <= conditions
