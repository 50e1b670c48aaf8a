"""Every command that the pages, the configs and the notebook's page name is one that parses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from nasnet_det.cli.main import VERBS, parse_arguments

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def list_commands(text: str, prefix: str = "") -> list[list[str]]:
    """The words after ``nasnet-det`` of each command in a text."""
    text = re.sub(rf"\\\n{prefix}\s*", " ", text)
    lines = re.findall(
        r"^[#\s$]*(?:\w+=\S+ |torchrun .*)?(?:nasnet-det|-m nasnet_det) (.*)$", text, re.M
    )
    is_message = re.compile(r"[a-z-]+: ").match  # what a command printed
    return [shlex.split(line.partition("  #")[0]) for line in lines if not is_message(line)]


def list_documented() -> list[tuple[str, list[str]]]:
    """Where a command stands, and its words."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```.*?\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
        found += [(page.name, words) for block in blocks for words in list_commands(block)]
    for config in sorted((ROOT / "configs").rglob("*.yaml")):
        found += [(config.name, words) for words in list_commands(config.read_text(), prefix="#")]
    return found


@pytest.mark.parametrize(
    ("place", "words"), list_documented(), ids=lambda v: v if isinstance(v, str) else v[0]
)
def test_documented_command_parses(place: str, words: list[str]):
    if words[:1] == ["--help"]:
        return
    assert parse_arguments(words).verb == words[0]


def test_every_verb_is_documented():
    documented = {words[0] for _, words in list_documented()}
    assert set(VERBS) <= documented


def test_a_wrong_flag_is_found(capsys):
    assert list_commands("$ nasnet-det train --config-file a \\\n    KEY 1  # why\n") == [
        ["train", "--config-file", "a", "KEY", "1"]
    ]
    with pytest.raises(SystemExit):
        parse_arguments(["train", "--no-such-flag"])
