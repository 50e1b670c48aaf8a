"""``tools/train_net.py`` as users meet it: killed at any moment, on a full disk, with mistakes."""

from __future__ import annotations

import json
import random
import re
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from command import run_command, run_without, start_command
from detectron2.utils.env import seed_all_rng
from tiny_detection import write_tiny_config, write_tiny_dataset
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError
from nasnet_det.detection import adopt_pools, get_config, session
from nasnet_det.detection.datasets import register_config_datasets
from nasnet_det.detection.processes import StoppedProcessError, raise_sentences
from nasnet_det.detection.trainer import Trainer
from nasnet_det.errors import InputError
from nasnet_det.published_cells import GENOTYPES
from nasnet_det.runs.files import PARTIAL
from nasnet_det.runs.signals import StoppedBySignal

START_LINE = re.compile(r"Starting training from iteration (\d+)")


def _arguments(tmp_path: Path, *words: str) -> list[str]:
    """Flags first, then KEY VALUE pairs."""
    flags = [word for word in words if word.startswith("--")]
    pairs = [word for word in words if not word.startswith("--")]
    files = write_tiny_dataset(tmp_path / "data")
    pairs = [*files, "OUTPUT_DIR", str(tmp_path / "run"), *pairs]
    return ["--config-file", write_tiny_config(tmp_path), *flags, *pairs]


def _popen(repository: Path, arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    return start_command("train", *arguments, **options)


def _run(repository: Path, arguments: list[str], **options: Any) -> tuple[int, str, str]:
    """Status, standard output and the sentence on standard error, without warnings."""
    done = run_command("train", *arguments, **options)
    output, errors = done.stdout, done.stderr
    sentences = [line for line in errors.splitlines() if line.startswith("nasnet-det train: ")]
    assert "Traceback" not in output + errors, errors
    return done.returncode, output, "\n".join(sentences)


# ---- Killed again and again


def _wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.0002)


def _kill_and_check(tmp_path: Path, repository: Path, num_kills: int) -> None:
    """Kill the real command and resume it; every other kill hits a file that is being written."""
    moments = random.Random(0)
    run = tmp_path / "run"
    arguments = _arguments(tmp_path, "SOLVER.MAX_ITER", "100000", "TEST.EVAL_PERIOD", "3")
    starts, expected_starts = [], [0]
    num_partial = 0
    for i in range(num_kills):
        output = tmp_path / f"output_{i}.txt"
        with output.open("w") as file:
            process = start_command(
                "train", "--resume", *arguments, stdout=file, stderr=subprocess.STDOUT
            )
        try:
            _wait_until(process, lambda path=output: bool(START_LINE.search(path.read_text())))
            time.sleep(moments.uniform(0.0, 1.5))
            if i % 2 == 0:
                _wait_until(process, lambda: any(run.glob(f"*{PARTIAL}")))
        finally:
            process.kill()
            process.wait()
        starts.append(int(START_LINE.search(output.read_text())[1]))
        num_partial += any(run.glob(f"*{PARTIAL}"))
        expected_starts.append(_check_resumes_whole(tmp_path, arguments))
    assert starts == expected_starts[:-1], "every start went on from the last whole checkpoint"
    assert expected_starts == sorted(expected_starts), "progress never decreased"
    assert expected_starts[-1] > 0
    assert num_partial > 0, "a kill hit a file that was being written"

    last = expected_starts[-1] + 2
    status, _, _ = _run(repository, ["--resume", *arguments, "SOLVER.MAX_ITER", str(last)])
    assert status == 0
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(last + 1))
    # The evaluation after the last iteration, whatever the period, has a line of its own.
    evaluated = {i for i, line in enumerate(lines) if "bbox/AP" in line}
    assert evaluated == {last, *range(2, last - 1, 3)}
    history = json.loads((run / "run.json").read_text())
    assert len(history) == num_kills + 1
    assert {entry["seed"] for entry in history} == {1}
    assert not list(run.glob(f"*{PARTIAL}"))


def _check_resumes_whole(tmp_path: Path, arguments: list[str]) -> int:
    """Build the trainer that a resume builds and compare it with the tagged file.

    Returns:
        the iteration from which it goes on.
    """
    run = tmp_path / "run"
    cfg = get_config(arguments[1], arguments[2:])
    adopt_pools(cfg, resume=True)
    register_config_datasets(cfg)
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    leftovers = {path.name: path.read_bytes() for path in run.glob(f"*{PARTIAL}")}
    trainer.resume_or_load(resume=True)
    for name, content in leftovers.items():  # so that the command itself meets them too
        (run / name).write_bytes(content)
    tag = run / "last_checkpoint"
    if not tag.exists():  # killed before the first checkpoint was whole
        assert trainer.start_iter == 0
        return 0
    saved = torch.load(run / tag.read_text(), weights_only=True)
    assert trainer.start_iter == saved["iteration"] + 1 == trainer.scheduler.last_epoch
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, saved["model"][key]), key
    wanted = saved["trainer"]["_trainer"]["optimizer"]["state"]
    for key, state in trainer.optimizer.state_dict()["state"].items():
        assert torch.equal(state["momentum_buffer"], wanted[key]["momentum_buffer"])
    best = saved["trainer"]["hooks"].get("BestCheckpoint", {"best": {}})["best"]
    in_file = trainer.checkpointer.read_best()
    assert in_file.get("score", 0) >= best.get("score", 0)
    assert in_file == best or in_file["iteration"] > saved["iteration"]
    return trainer.start_iter


@pytest.mark.slow  # the short form is in test_exact_continuation.py
def test_kills_at_random_moments_lose_nothing(tmp_path: Path, repository: Path) -> None:
    _kill_and_check(tmp_path, repository, 3)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing(tmp_path: Path, repository: Path) -> None:
    _kill_and_check(tmp_path, repository, 20)


# ---- One run from its start to its evaluation


def test_command_trains_evaluates_and_guards_its_folder(tmp_path: Path, repository: Path) -> None:
    run = tmp_path / "run"
    expect = ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 90.0, 1.0], ['bbox', 'mAP', 0, 100]]")
    status, output, sentence = _run(
        repository, _arguments(tmp_path, "SOLVER.MAX_ITER", "2", "SEED", "-1", *expect)
    )
    assert status == 1
    assert re.fullmatch(
        r"nasnet-det train: TEST.EXPECTED_RESULTS: bbox/AP: wanted 90.0 \+- 1.0, got [\d.]+; "
        r"bbox/mAP: wanted 0 \+- 100, got nan",
        sentence,
    )
    for name in ("model_final.pth", "metrics.json", "results.json"):
        assert f"\n{run / name}\n" in output
        assert (run / name).is_file()
    assert "bbox/AP50" in output
    log = (run / "log.txt").read_text()
    assert "nasnet_det.detection" in log, "our own lines are in the log"
    (start,) = json.loads((run / "run.json").read_text())
    assert 0 <= start["seed"] < 2**31
    config = (run / "config.yaml").read_text()
    assert f"SEED: {start['seed']}" in config
    assert start["versions"]["torch"] == torch.__version__
    assert start["command"][:3] == ["nasnet-det", "train", "--config-file"]

    evaluate = _arguments(tmp_path, "--eval-only", "MODEL.WEIGHTS", str(run / "model_final.pth"))
    status, output, sentence = _run(repository, evaluate)
    assert (status, sentence) == (0, "")
    results = json.loads((run / "results.json").read_text())
    assert (results["iteration"], results["weights"]) == (1, str(run / "model_final.pth"))
    assert json.loads((run / "run.json").read_text()) == [start], "the training's record"
    assert (run / "config.yaml").read_text() == config

    alone = tmp_path / "alone"  # has what a report wants
    assert main(["train", *evaluate, "OUTPUT_DIR", str(alone)]) == 0
    assert f"OUTPUT_DIR: {alone}" in (alone / "config.yaml").read_text()
    assert main(["report", str(alone), "--out", str(tmp_path / "report")]) == 0
    reported = json.loads((tmp_path / "report" / "report.json").read_text())["runs"]
    (dataset,) = results["datasets"].values()
    assert [row["scores"]["AP"]["value"] for row in reported] == pytest.approx(
        [dataset["results"]["bbox"]["AP"]]  # of another process: its sums may round otherwise
    )
    alone_results = (alone / "results.json").read_text()
    for resume in ([], ["--resume"]):
        assert main(["train", *_arguments(tmp_path, *resume, "OUTPUT_DIR", str(alone))]) == 1
    assert (alone / "results.json").read_text() == alone_results
    assert main(["train", *evaluate, "OUTPUT_DIR", str(alone)]) == 0, "evaluated again"

    assert main(["train", *_arguments(tmp_path)]) == 1
    assert main(["train", *_arguments(tmp_path, "--resume", "MODEL.NASNET.CHANNELS", "12")]) == 1


@pytest.mark.parametrize("left", ["run.json", "metrics.json", ""])
def test_evaluation_leaves_a_training_s_config(left: str, tmp_path: Path) -> None:
    """Also that of a training that was killed before its first line of numbers."""
    from nasnet_det.detection.run import record_evaluation

    if left:
        (tmp_path / left).write_text("[]")
    (tmp_path / "config.yaml").write_text("a training's" if left else "another evaluation's")
    cfg = get_config("", ["OUTPUT_DIR", str(tmp_path)])
    record_evaluation(cfg)
    assert (tmp_path / "config.yaml").read_text() == ("a training's" if left else cfg.dump())


def test_folder_of_another_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "model_0000004.pth").write_bytes(b"of another run")
    cfg = get_config("", ["MODEL.RPN.IN_FEATURES", "('p2',)"])
    (run / "config.yaml").write_text(cfg.dump())
    assert main(["train", *_arguments(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"nasnet-det train: OUTPUT_DIR {run} holds another run (model_0000004.pth); give --resume to "
        "go on with it, or another OUTPUT_DIR\n"
    )
    assert main(["train", *_arguments(tmp_path, "--resume")]) == 1
    error = capsys.readouterr().err
    assert f"OUTPUT_DIR {run} holds the run of another model: INPUT.FORMAT was " in error
    assert re.search(r"MODEL.ANCHOR_GENERATOR.SIZES was .*, is \[\[8\]", error)
    assert (run / "model_0000004.pth").read_bytes() == b"of another run"


def test_config_cut_off_by_a_kill_does_not_stop_a_resume(tmp_path: Path) -> None:
    from nasnet_det.detection.run import check_output_dir

    run = tmp_path / "run"
    run.mkdir()
    (run / "model_0000004.pth").write_bytes(b"some")
    cfg = get_config("", ["OUTPUT_DIR", str(run)])
    text = cfg.dump()
    (run / "config.yaml").write_text(text[: text.index("build_resnet_backbone") + 9])
    check_output_dir(cfg, resume=True, eval_only=False)


# ---- Mistakes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["SOLVER.BASE_RL", "0.1"], "unknown config key 'SOLVER.BASE_RL' (value '0.1'), did you"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER: wanted a whole number"),
        (["SOLVER.MAX_ITER"], "wanted KEY VALUE pairs, got no value after 'SOLVER.MAX_ITER'"),
        (["SOLVER.AMP.PRECISION", "half"], "SOLVER.AMP.PRECISION: unknown name 'half'"),
        (["SOLVER.IMS_PER_BATCH", "0"], "SOLVER.IMS_PER_BATCH: wanted at least 1, got 0"),
        (
            ["MODEL.BACKBONE.NAME", "build_nasnet_fpn"],
            "MODEL.BACKBONE.NAME: unknown name 'build_nasnet_fpn', did you mean 'build_nasnet_",
        ),
        (["MODEL.META_ARCHITECTURE", "FasterRCNN"], "MODEL.META_ARCHITECTURE: unknown name"),
        (["DATASETS.TRAIN_JSON", "/absent.json"], "/absent.json: there is no such file"),
        (["--num-gpus=64"], "--num-gpus 64: MODEL.DEVICE is not cuda; leave --num-gpus out for"),
    ],
)
def test_mistake_before_the_start_is_one_sentence(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *_arguments(tmp_path, *words)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"nasnet-det train: {told}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("VARIANT", "nasnet_a_mobil", "unknown network variant 'nasnet_a_mobil', did you mean"),
        ("VARIANT", "nasnet_a_4@1000", "channels do not divide in 'nasnet_a_4@1000'"),
    ],
)
def test_impossible_network_is_one_sentence(
    key: str, value: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *_arguments(tmp_path, f"MODEL.NASNET.{key}", value)]) == 1
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith(f"nasnet-det train: MODEL.NASNET: {told}")


def test_genotype_s_faults_are_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = GENOTYPES["nasnet_a"].to_dict()
    cells["normal"]["blocks"][1]["ops"][0] = "sep_conv_9x9"
    cells["reduction"]["blocks"][0]["inputs"][1] = 5
    file = tmp_path / "cells.json"
    file.write_text(json.dumps(cells))
    assert main(["train", *_arguments(tmp_path, "MODEL.NASNET.GENOTYPE", str(file))]) == 1
    error = capsys.readouterr().err
    assert f"nasnet-det train: MODEL.NASNET: file '{file}' is not a valid genotype: " in error
    assert (
        "normal.blocks[1].ops[0]: unknown operation 'sep_conv_9x9', did you mean 'sep_con" in error
    )
    assert "reduction.blocks[0].inputs[1]: wanted a state from 0 to 1, got 5" in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--num-gpus", "two"], "argument --num-gpus: invalid int value: 'two'"),
        (["SEED", "1", "--resum", "yes"], "unrecognized arguments: --resum yes"),
    ],
)
def test_mistake_in_the_arguments_has_status_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as info:
        main(["train", *arguments])
    assert info.value.code == 2
    assert capsys.readouterr().err == f"nasnet-det train: {told}\n"


def test_mistake_in_a_process_of_its_own_is_told_without_its_traceback() -> None:
    head = (
        "\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n"
    )
    mistake = "nasnet_det.detection.step.NonFiniteLossError: the loss: loss_cls nan"
    with pytest.raises(InputError, match="^the loss: loss_cls nan$"), raise_sentences():
        raise ProcessRaisedException(head + mistake + "\n", 0, 1)
    with pytest.raises(ProcessRaisedException), raise_sentences():
        raise ProcessRaisedException(head + "ValueError: a bug\n", 0, 1)


def test_end_of_a_process_of_its_own_is_raised_and_ends_no_caller() -> None:
    stop = StoppedProcessError(StoppedBySignal(15, "3 iterations are saved"))
    text = f"\n-- Process 0 terminated\n{type(stop).__module__}.StoppedProcessError: {stop}\n"
    with pytest.raises(StoppedBySignal) as info, raise_sentences():
        raise ProcessRaisedException(text, 0, 1)
    assert (info.value.status, info.value.what_now) == (143, "3 iterations are saved")
    assert str(info.value) == "stopped by SIGTERM; 3 iterations are saved"
    with pytest.raises(InputError, match="process 1 ended with status 3"), raise_sentences():
        raise ProcessExitedException("", error_index=1, error_pid=1, exit_code=3)


def test_gpu_that_is_not_there_gives_way_to_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    cfg = get_config("")
    assert cfg.MODEL.DEVICE == "cuda"
    with pytest.raises(ConfigError, match="--num-gpus 2: this machine has 0; leave --num-gpus out"):
        session._choose_device(cfg, 2)
    assert session._choose_device(cfg, None) == 1
    assert cfg.MODEL.DEVICE == "cpu"


def test_weights_of_another_architecture_stop_the_command(tmp_path: Path, repository: Path) -> None:
    torch.save({"layer1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    status, _, sentence = _run(
        repository, _arguments(tmp_path, "MODEL.WEIGHTS", str(tmp_path / "other.pth"))
    )
    assert status == 1
    assert sentence.startswith("nasnet-det train: other.pth: 0 of ")
    assert "training would start from noise" in sentence


def test_loss_of_nan_and_full_disk_stop_the_command(tmp_path: Path, repository: Path) -> None:
    status, output, sentence = _run(repository, _arguments(tmp_path, "SOLVER.BASE_LR", "1e30"))
    assert status == 1
    assert sentence.startswith("nasnet-det train: the loss is not a finite number at iteration ")
    assert "Training stopped: the loss is not a finite number" in output
    assert "Training stopped: the loss" in (tmp_path / "run" / "log.txt").read_text()

    def fill_the_disk() -> None:  # a checkpoint has 1 MB, and everything else is smaller
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    full = ("OUTPUT_DIR", str(tmp_path / "full"))
    status, _, sentence = _run(repository, _arguments(tmp_path, *full), preexec_fn=fill_the_disk)
    assert status == 1
    assert sentence == (
        f"nasnet-det train: {tmp_path}/full/model_0000000.pth can't be written (File too large); what "
        "was there before is unchanged"
    )
    assert not list((tmp_path / "full").glob("*.p*"))


def test_missing_detectron2_is_one_sentence(repository: Path) -> None:
    done = run_without("detectron2", "train")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "nasnet-det train: the package detectron2 is not installed: run nasnet-det "
        "install-detectron2\n"
    )
