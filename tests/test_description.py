"""The text of ``describe`` and the command ``nasnet-det describe``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import run_command
from random_genotypes import sample_genotype
from trunk_steps import list_steps

from nasnet_det.cli.describe import parse_words
from nasnet_det.cli.main import main
from nasnet_det.description import describe, describe_cell, describe_genotype, describe_plan
from nasnet_det.genotype import Block, CellSpec
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.trunk import NASNetTrunk
from nasnet_det.variants import list_models, resolve_variant

TINY_WORDS = ["channels", "8", "num_cells_per_stage", "1"]


def test_cell_is_written_with_the_papers_words() -> None:
    assert describe_cell(GENOTYPES["nasnet_a"].normal).splitlines() == [
        "  2 = sep_conv_5x5(h) + sep_conv_3x3(h_prev)",
        "  3 = sep_conv_5x5(h_prev) + sep_conv_3x3(h_prev)",
        "  4 = avg_pool_3x3(h) + identity(h_prev)",
        "  5 = avg_pool_3x3(h_prev) + avg_pool_3x3(h_prev)",
        "  6 = sep_conv_3x3(h) + identity(h)",
        "  output = concat(h_prev, 2, 3, 4, 5, 6)",
    ]
    joined = CellSpec((Block((1, 0), ("conv_1x1", "identity"), "concat"),), (2, 0))
    assert describe_cell(joined) == (
        "  2 = concat(conv_1x1(h_prev), identity(h))\n  output = concat(2, h)"
    )


def test_genotype_is_both_cells_under_its_name() -> None:
    genotype = sample_genotype(1)
    lines = describe_genotype(genotype).splitlines()
    assert lines[0] == "genotype random_1"
    assert [lines.index(title) for title in ("normal cell", "reduction cell")] == [1, 8]
    assert lines[9:] == describe_cell(genotype.reduction).splitlines()


@pytest.mark.parametrize("name", ["nasnet_a_mobile", "nasnet_a_cifar_6_768", "pnasnet_5_large"])
def test_plan_table_shows_what_the_network_produces(name: str) -> None:
    spec, genotype = resolve_variant(name)
    size = spec.input_size + 13
    header, stem, *rows = (
        line.split() for line in describe_plan(spec, genotype, size).splitlines()
    )
    assert header[:2] == ["cell", "kind"]
    assert stem[:3] == ["stem", "conv", "3x3"]
    with torch.device("meta"):
        steps = list_steps(NASNetTrunk(spec, genotype), None, torch.zeros(2, 3, size, size))
    assert len(rows) == len(steps)
    for words, (row, h, out) in zip(rows, steps, strict=True):
        shape = f"{out.shape[2]}x{out.shape[3]}x{out.shape[1]}"
        wanted = [row.name, row.kind, row.stride, row.channels, row.h, row.h_prev or "-", shape]
        assert words == [str(word) for word in wanted] + ([row.feature] if row.feature else [])
        assert h.shape[2] in (out.shape[2], 2 * out.shape[2], 2 * out.shape[2] - 1)


def test_description_ends_with_the_published_size() -> None:
    assert describe("nasnet_a_mobile").endswith(
        "parameters      5,289,978 (5,326,716 with normalization statistics)\n"
        "multiply-adds   563.6 M at 224x224"
    )


def test_description_follows_its_arguments() -> None:
    genotype = sample_genotype(2)
    text = describe(genotype, input_size=40, num_classes=7, channels=8, num_cells_per_stage=1)
    assert text.startswith("genotype random_2\n")
    assert text.endswith("M at 40x40")
    assert "cell_2" in text
    assert "cell_3" not in text
    small = describe(genotype, num_classes=1, channels=8, num_cells_per_stage=1, input_size=40)
    assert small.splitlines()[-2] != text.splitlines()[-2], "fewer classes, fewer parameters"


def test_impossible_input_size_is_explained() -> None:
    for size in (0, -5, 2):
        with pytest.raises(ValueError, match=f"wanted an input of at least 3 .* got {size}"):
            describe("nasnet_a_mobile", input_size=size)


def call(*words: str) -> int:
    """The command in this process."""
    return main(["describe", *words])


def test_command_prints_the_description() -> None:
    done = run_command(
        "describe", "nasnet_a_mobile", *TINY_WORDS, "--input-size", "40", "stem", "cifar"
    )
    wanted = describe("nasnet_a_mobile", input_size=40, channels=8, num_cells_per_stage=1,
                      stem="cifar")  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted + "\n", "")


def test_command_reports_a_mistake_in_one_sentence() -> None:
    done = run_command("describe", "nasnet_a_mobil")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "nasnet-det describe: unknown network variant 'nasnet_a_mobil', did you mean 'nasnet_a_mobile'?"
    )
    assert done.stderr.count("\n") == 1


def test_command_lists_the_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--list") == 0
    assert capsys.readouterr().out.split() == list_models()


def test_command_reads_a_genotype_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    sample_genotype(3).save(path)
    assert call(str(path), *TINY_WORDS, "--input-size", "40", "--num-classes", "7") == 0
    wanted = describe(sample_genotype(3), input_size=40, num_classes=7, channels=8,
                      num_cells_per_stage=1)  # fmt: skip
    assert capsys.readouterr().out == wanted + "\n"


def test_command_knows_the_published_cells_and_needs_no_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("amoebanet_a", *TINY_WORDS, "input_size", "40") == 0
    assert capsys.readouterr().out.startswith("genotype amoebanet_a\n")
    assert call(*TINY_WORDS, "input_size", "40") == 0
    assert capsys.readouterr().out.startswith("genotype nasnet_a\n")


def test_command_draws_the_cells_beside_the_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, word in (("pnasnet_5_large", "sep conv"), ("amoebanet_a", "avg pool")):
        path = tmp_path / f"{name}.svg"
        assert call(name, "--draw", str(path), *TINY_WORDS, "input_size", "40") == 0
        text = path.read_text()
        assert word in text
        assert f"Cells of {name.removesuffix('_large')}" in text
    assert "genotype amoebanet_a" in capsys.readouterr().out


def test_command_types_values_by_the_fields_of_the_spec() -> None:
    words = ["channels", "12", "stem", "cifar", "dropout", "0.5", "norm_eps", "1e-5", "skip_reduction_input", "True", "extra_reduction_cells", "0"]  # fmt: skip
    assert parse_words(words) == (
        "nasnet_a_mobile",
        {
            "channels": 12,
            "stem": "cifar",
            "dropout": 0.5,
            "norm_eps": 1e-5,
            "skip_reduction_input": True,
            "extra_reduction_cells": False,
        },
    )


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("nasnet_a_mobile chanels 32", "unknown network field 'chanels', did you mean 'channels'?"),
        ("chanels 32", "unknown network field 'chanels', did you mean 'channels'?"),
        ("channels", "wanted KEY VALUE pairs, got no value after 'channels'"),
        ("nasnet_a_mobile channels", "wanted KEY VALUE pairs, got no value after 'channels'"),
        ("channels 3.5", "channels: wanted a whole number, got '3.5'"),
        ("dropout half", "dropout: wanted a number, got 'half'"),
        ("dropout -0.5", "dropout: wanted a probability in [0, 1), got -0.5"),
        ("skip_reduction_input maybe", "skip_reduction_input: wanted true or false, got 'maybe'"),
        ("stem resnet", "stem: unknown stem 'resnet'"),
        ("nasnet_a_5@1538", "P must be a multiple of 24, got 1538"),
        ("--input-size 2", "wanted an input of at least 3 pixels with the imagenet stem, got 2"),
        ("--input-size big", "argument --input-size: invalid int value: 'big'"),
        ("--input-size 32 input_size 64", "--input-size and the field input_size differ"),
        ("--num-classes -1", "wanted a number of classes, or 0 for none, got num_classes=-1"),
        ("--channels 8", "unrecognized arguments: --channels"),
        (
            "--draw cells.jpg channels 8",
            "cells.jpg: wanted a name that ends with .svg, .png or .pdf, got 'jpg'",
        ),
        (
            "--draw cells channels 8",
            "cells: wanted a name that ends with .svg, .png or .pdf, got 'no ending'",
        ),
        (
            "--draw nowhere/cells.svg channels 8",
            "nowhere/cells.svg can't be written (No such file or directory)",
        ),
        ("missing.json", "no genotype 'missing.json': it is neither a file nor a published cell"),
        ("tests/conftest.py", "file 'tests/conftest.py' is not a valid genotype: it is not JSON"),
    ],
)
def test_mistakes_are_named_without_a_traceback(
    line: str,
    wanted: str,
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(repository)
    try:
        status = call(*line.split())
    except SystemExit as error:
        status = error.code
    assert status == (2 if "argument" in wanted else 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert wanted in err
    assert err.count("\n") == 1
