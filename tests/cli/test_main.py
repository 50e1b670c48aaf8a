"""The command's habits, the same for every verb: help, arguments, mistakes, Ctrl-C, quick start."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from command import ENVIRONMENT, run_command, run_without, start_command
from tiny_search import SMALL_SEARCH, write_images

from nasnet_det.cli import convert_weights, export, report, verify_weights
from nasnet_det.cli.main import PROGRAM, VERBS, main, parse_arguments

HEAVY = ("torch", "numpy", "yacs", "detectron2", "optuna", "matplotlib")


def find_module(verb: str) -> ModuleType:
    return import_module(f"nasnet_det.cli.{verb.replace('-', '_')}")


def call(*words: str) -> int:
    """The status, in this process."""
    try:
        return main(words)
    except SystemExit as error:
        return int(error.code or 0)


# ---- Help


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    words = capsys.readouterr().out.split()
    assert set(VERBS) <= set(words)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_two_examples_that_parse(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(verb, "--help") == 0
    _, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    lines = examples.strip().splitlines()
    assert len(lines) >= 2
    for line in lines:
        program, *words = shlex.split(line)
        assert program == PROGRAM
        assert parse_arguments(words).verb == verb


def test_help_loads_no_library() -> None:
    code = (
        "import sys\nfrom nasnet_det.cli.main import build_parser\n"
        f"build_parser().format_help()\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert _run_python(code) == "[]\n"


def test_describe_loads_no_detectron2() -> None:
    done = run_without("detectron2", "describe", "channels", "8", "num_cells_per_stage", "1")
    assert (done.returncode, done.stderr) == (0, "")


def _run_python(code: str) -> str:
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


# ---- Arguments: status 2


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_option_is_one_sentence(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    required = ["a.safetensors", "b.safetensors", "--out", "c", "--against", "timm", "--images"]
    needs = {
        "export-backbone": required[:2],
        "export": ["a.pth", "b.onnx"],
        "draw-training": ["--out", "a.jpg"],
        "predict": ["--config-file", "a", "--input", "b", "--output", "c"],
        "report": ["a", "--out", "b"],
        "pipeline": ["--config-file", "a"],
        "convert-data": ["a", "--out", "b"],
        "split": ["a", "--out", "b"],
        "crops": ["a", "--out", "b"],
        "convert-weights": ["a.pth", "--out", "b.pth"],
        "verify-weights": [required[0], *required[4:], "a.jpg"],
    }
    assert call(verb, *needs.get(verb, []), "--no-such-option") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"nasnet-det {verb}: unrecognized arguments: --no-such-option\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nasnet-det: the following arguments are required: VERB"),
        (["trian"], "nasnet-det: argument VERB: invalid choice: 'trian'"),
        (["export-backbone", "a.pth"], "export-backbone: the following arguments are required: o"),
        (["export"], "nasnet-det export: the following arguments are required: weights, output"),
        (["export", "a.pth", "b.bin"], "export: wanted an output that ends with .pt2, .onnx, .ts"),
        (["predict"], "required: --input, --output"),
        (["report"], "nasnet-det report: the following arguments are required: RUN"),
        (["report", "a"], "report: wanted --out DIR for a report, or --save-results FILE, or both"),
        (["report", "a", "--out", "b", "--draws", "9"], "--draws: wanted at least 100, got 9"),
        (["pipeline"], "nasnet-det pipeline: the following arguments are required: --config-file"),
        (["convert-weights", "a.pth"], "the following arguments are required: --out"),
        (["convert-weights", "a", "--out", "b", "--origin", "tf"], "--origin: invalid choice: 'tf'"),
        (["verify-weights", "a"], "the following arguments are required: --against, --images"),
        (["search", "--dry-run", "0"], "nasnet-det search: --dry-run: wanted at least 1, got 0"),
        (["doctor", "--train", "a", "b", "c"], "doctor: --train: wanted JSON IMAGES, or one folder"),
        (["doctor", "--contact-sheet", "a.png"], "--contact-sheet: wanted a data set, by --train"),
        (["train", "--num-gpus", "two"], "argument --num-gpus: invalid int value: 'two'"),
        (["train", "--resum"], "nasnet-det train: unrecognized arguments: --resum"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_wrong_arguments_are_told_by_one_of_torchruns_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, number in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert call("train-classifier", "--no-such-option") == 2
        assert capsys.readouterr().err.count("\n") == number


def test_pairs_may_stand_between_options_and_be_negative() -> None:
    words = [
        "train",
        "A",
        "1",
        "--resume",
        "B",
        "-1e-5",
        "--config-file",
        "f",
        "C",
        "-3",
        "--num-gpus",
        "2",
        "D",
        "(1,)",
    ]
    options = parse_arguments(words)
    assert options.opts == ["A", "1", "B", "-1e-5", "C", "-3", "D", "(1,)"]
    assert (options.resume, options.config_file, options.num_gpus) == (True, "f", 2)
    assert options.command == [PROGRAM, *words]


def test_pairs_after_the_pictures_are_no_pictures(tmp_path: Path) -> None:
    from nasnet_det.cli.predict import split_pairs

    (tmp_path / "SEED").touch()
    words = [str(tmp_path / "SEED"), "a.jpg", "MODEL.WEIGHTS", "w.pth", "SEED", "1"]
    assert split_pairs(words) == (words[:2], words[2:])
    assert split_pairs(words[:2]) == (words[:2], [])


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (convert_weights.ORIGINS, "weights.classifier.ORIGINS"),
        (verify_weights.PEERS, "weights.peers.PEERS"),
        (export.FORMATS, "runtime.formats.FORMATS"),
        (export.OPSET, "runtime.formats.OPSET"),
        (report.NUM_DRAWS, "report.detection.intervals.NUM_DRAWS"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_choices_are_those_of_the_packages(mine: object, theirs: str) -> None:
    """They are written twice, so that help need not load what knows them."""
    module, _, name = theirs.rpartition(".")
    value = getattr(import_module(f"nasnet_det.{module}"), name)
    assert mine == (tuple(value) if isinstance(mine, tuple) else value)


# ---- Mistakes: status 1


MISTAKES = [
    ("describe nasnet_a_mobil", "unknown network variant 'nasnet_a_mobil', did you mean"),
    ("search SEARCH.SEDE 1", "unknown config key 'SEARCH.SEDE' (value '1'), did you mean"),
    ("search SEARCH.DATA.PATH nowhere", "SEARCH.DATA.PATH: wanted "),
    ("train-classifier SEDE 1", "unknown config key 'SEDE' (value '1'), did you mean 'SEED'"),
    ("train-classifier DATA.PATH nowhere", "DATA.PATH: wanted "),
    ("export-backbone no.pth b.safetensors", "no.pth can't be read (No such file or directory)"),
    ("export no.pth b.onnx", "no.pth can't be read (No such file or directory)"),
    ("train --config-file no.yaml", "no config file 'no.yaml'"),
    ("train MODEL.NASNET.VARIANT", "wanted KEY VALUE pairs, got no value after 'MODEL.NASNET"),
    ("draw-training --config-file no.yaml --out a.jpg", "no config file 'no.yaml'"),
    ("find-lr --config-file no.yaml", "no config file 'no.yaml'"),
    ("find-batch-size --config-file no.yaml", "no config file 'no.yaml'"),
    ("predict --config-file no.yaml --input a --output b", "no config file 'no.yaml'"),
    ("report nowhere --out b", "nowhere: there is no such folder or file"),
    ("report . --out b", ". holds no run: wanted the OUTPUT_DIR of nasnet-det train or"),
    ("pipeline --config-file no.yaml", "no config file 'no.yaml'"),
    ("convert-data nowhere --out b", "nowhere: there is no such file or folder"),
    ("split nowhere --out b", "nowhere: there is no such file or folder"),
    ("crops nowhere --out b", "nowhere: there is no such file or folder"),
    ("convert-weights no.pth --out b.pth", "no.pth can't be read (No such file or directory)"),
    ("verify-weights no.pth --against timm --images .", "no pictures found: wanted "),
    ("doctor --train a b --contact-sheet a.txt", "a.txt: wanted a name that ends as a picture's"),
    ("install-detectron2 --wheel no.whl", ""),  # there is one already, so nothing is read
]


def test_every_verb_has_a_mistake() -> None:
    assert {line.split()[0] for line, _ in MISTAKES} == set(VERBS)


@pytest.mark.parametrize(("line", "sentence"), MISTAKES)
def test_mistake_is_one_sentence(
    line: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if line.startswith(("train ", "draw-", "predict", "install", "find-")):
        pytest.importorskip("detectron2")
    monkeypatch.chdir(tmp_path)
    words = line.split()
    status = call(*words)
    out, err = capsys.readouterr()
    if words[0] == "install-detectron2":
        assert (status, err) == (0, "")
        return
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"nasnet-det {words[0]}: {sentence}")


@pytest.mark.parametrize(
    ("package", "line", "command"),
    [
        ("optuna", "search", "pip install 'nasnet-det[search]'"),
        ("tensorboard", "train-classifier", "pip install 'nasnet-det[classification]'"),
        ("detectron2", "train", "nasnet-det install-detectron2"),
        ("detectron2", "predict --config-file a --input b --output c", "nasnet-det install-det"),
        ("matplotlib", "report . --out b", "pip install 'nasnet-det[report]'"),
        ("matplotlib", "describe channels 8 --draw a.svg", "pip install 'nasnet-det[report]'"),
    ],
)
def test_missing_package_is_one_sentence_that_says_what_to_install(
    package: str, line: str, command: str
) -> None:
    done = run_without(package, *line.split())
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    verb = line.split()[0]
    start = f"nasnet-det {verb}: the package {package} is not installed: run {command}"
    assert done.stderr.startswith(start), done.stderr
    assert done.stderr.count("\n") == 1


def test_fault_of_the_code_is_no_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(find_module("describe"), "run", fail)
    with pytest.raises(ValueError, match="a bug"):
        main(["describe"])


# ---- Ctrl-C and SIGTERM: status 130 and 143


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("describe", ""),
        ("search", "; --resume goes on from the last child"),
        ("train-classifier", "; --resume goes on from the last checkpoint"),
        ("export-backbone a b", ""),
        ("export a b", ""),
        ("train", "; --resume goes on from the last checkpoint"),
        (
            "predict --config-file a --input b --output c",
            "; predictions.json has what was found so far",
        ),
        ("report a --out b", ""),
        ("pipeline --config-file a", "; the same command goes on"),
        ("convert-weights a --out b", ""),
        ("verify-weights a --against timm --images b", ""),
        ("install-detectron2", ""),
        ("doctor", ""),
    ],
)
def test_signal_is_one_sentence(
    line: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    verb = line.split()[0]
    monkeypatch.setattr(find_module(verb), "run", interrupt)
    assert call(*line.split()) == 130
    assert capsys.readouterr() == ("", f"nasnet-det {verb}: interrupted{advice}\n")

    def terminate(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(find_module(verb), "run", terminate)
    assert call(*line.split()) == 143
    assert capsys.readouterr() == ("", f"nasnet-det {verb}: stopped by SIGTERM{advice}\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_in_a_real_search(tmp_path: Path) -> None:
    pairs = [*SMALL_SEARCH, "SEARCH.DATA.PATH", write_images(tmp_path / "images.npz")]
    pairs += ["SEARCH.NUM_TRIALS", "1000", "OUTPUT_DIR", tmp_path / "run"]
    with start_command("search", *pairs) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "genotype.json").is_file():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    told = "nasnet-det search: interrupted; --resume goes on from the last child"
    assert err.splitlines()[-1] == told
    assert "Traceback" not in err


# ---- Its names


def test_name_that_is_no_unicode_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a class, after its folder, or of a file."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(find_module("describe"), "run", lambda options: print(options.opts[0]))
    assert call("describe", os.fsdecode(b"\xff\xc3\xa9")) == 0
    out.flush()
    assert out.buffer.getvalue() == "\\udcffé\n".encode()


def test_version_and_the_two_names_of_the_command() -> None:
    import nasnet_det

    done = run_command("--version")
    assert (done.returncode, done.stdout) == (0, f"nasnet-det {nasnet_det.__version__}\n")


def test_train_net_is_the_verb_train(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "tools" / "train_net.py"), "SEDE", "1"],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("nasnet-det train: ")
