"""nasnet-det pipeline: what its configs plan, mistakes before anything starts, and a real small chain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import start_command

pytest.importorskip("detectron2")

from tiny_detection import write_tiny_config, write_tiny_dataset

from nasnet_det.classification.config import get_classification_config
from nasnet_det.cli.main import main
from nasnet_det.config import ConfigError, list_configs
from nasnet_det.detection import get_config
from nasnet_det.detection.checkpoint import read_weights
from nasnet_det.pipeline.chain import get_pipeline_config, plan_stages
from nasnet_det.pipeline.stages import Stage
from nasnet_det.published_cells import load_genotype
from nasnet_det.search import collect_results
from nasnet_det.search.config import get_search_config
from nasnet_det.weights.backbone_file import read_card

READERS = {  # without looking for the data
    "search": get_search_config,
    "classifier": get_classification_config,
    "detector": get_config,
}
ALL = ["search", "search_report", "classifier", "export", "detector", "evaluation", "report"]


def _plan(config: str, *opts: str) -> dict[str, Stage]:
    stages = plan_stages(get_pipeline_config(config, opts), READERS)
    return {stage.name: stage for stage in stages}


def _value(stage: Stage, key: str) -> str:
    """What the command gives a key: its last value counts."""
    words = list(stage.command)
    return words[len(words) - words[::-1].index(key)]


@pytest.mark.parametrize(
    "config",
    [n for n in list_configs() if n.startswith("pipelines/") and n != "pipelines/demo.yaml"],
)
def test_detector_has_the_classifiers_network_input_and_weights(config: str) -> None:
    stages = _plan(config)
    assert list(stages) == ALL
    root = stages["search"].folder.parent
    found = str(root / "search" / "genotype.json")
    trained, detected = (
        read(stages[name].command[stages[name].command.index("--config-file") + 1], words)
        for name, read in (("classifier", get_classification_config), ("detector", get_config))
        for words in [stages[name].command[stages[name].command.index("--config-file") + 2 :]]
    )
    for key in ("VARIANT", "GENOTYPE", "NUM_CELLS_PER_STAGE", "CHANNELS", "STEM_MULTIPLIER"):
        assert trained.MODEL.NASNET[key] == detected.MODEL.NASNET[key]
    assert found == trained.MODEL.NASNET.GENOTYPE
    assert detected.MODEL.PIXEL_MEAN == trained.DATA.PIXEL_MEAN
    assert detected.MODEL.PIXEL_STD == trained.DATA.PIXEL_STD
    assert detected.INPUT.FORMAT == "RGB"
    assert _value(stages["detector"], "MODEL.WEIGHTS") == detected.MODEL.WEIGHTS
    assert stages["export"].outputs == (Path(detected.MODEL.WEIGHTS),)
    assert _value(stages["evaluation"], "MODEL.WEIGHTS") == str(root / "detector/model_final.pth")
    written = {path for stage in stages.values() for path in stage.outputs}
    for stage in stages.values():
        assert set(stage.inputs) <= written
        assert stage.outputs[0].parent == stage.folder
        assert not any(found in str(value) for value in stage.config.values()), "content counts"


def test_without_a_classifier_a_detector_with_weights_keeps_their_network() -> None:
    stages = _plan("pipelines/demo.yaml")
    assert list(stages) == ["search", "search_report", "detector", "evaluation", "report"]
    command = list(stages["detector"].command)
    i = command.index("--config-file")
    detected = get_config(command[i + 1], command[i + 2 :])
    assert detected.MODEL.WEIGHTS == "nasnet://nasnet_a_small"
    assert detected.MODEL.NASNET.VARIANT == "nasnet_a_1@1536"
    assert detected.MODEL.NASNET.GENOTYPE == ""


def test_pairs_reach_their_stage() -> None:
    stages = _plan(
        "pipelines/digits.yaml", "OUTPUT_DIR", "here", "search.SEARCH.NUM_TRIALS", "7",
        "detector.SOLVER.MAX_ITER", "9", "evaluation.INPUT.MIN_SIZE_TEST", "100", "NUM_GPUS", "2",
    )  # fmt: skip
    assert stages["search"].config["SEARCH.NUM_TRIALS"] == 7
    assert stages["search"].folder == Path("here/search")
    for name, size in (("detector", 240), ("evaluation", 100)):
        assert stages[name].config["SOLVER.MAX_ITER"] == 9
        assert stages[name].config["INPUT.MIN_SIZE_TEST"] == size
        assert stages[name].command[4:6] == ("--num-gpus", "2")
    assert " ".join(stages["classifier"].command).startswith(
        "-m torch.distributed.run --standalone --nproc-per-node 2 -m nasnet_det train-classifier"
    )


def test_workers_and_places_do_not_make_a_stage_another_one() -> None:
    first = _plan("pipelines/digits.yaml")
    other = _plan(
        "pipelines/digits.yaml", "OUTPUT_DIR", "elsewhere", "classifier.DATA.NUM_WORKERS", "9",
        "search.SEARCH.EXECUTOR.NUM_WORKERS", "9", "detector.DATALOADER.NUM_WORKERS", "9",
    )  # fmt: skip
    assert [stage.config for stage in first.values()] == [stage.config for stage in other.values()]
    changed = _plan("pipelines/digits.yaml", "classifier.SOLVER.EPOCHS", "9")
    assert changed["classifier"].config != first["classifier"].config


def test_detector_with_weights_of_its_own_stays_as_its_config_says() -> None:
    opts = ["CLASSIFIER.CONFIG", "", "detector.MODEL.WEIGHTS", "own.safetensors"]
    stages = _plan("pipelines/cifar10_cpu_bccd.yaml", *opts)
    assert list(stages) == [ALL[0], ALL[1], *ALL[4:]]
    assert stages["detector"].config["MODEL.WEIGHTS"] == "own.safetensors"
    assert stages["detector"].config["MODEL.NASNET.GENOTYPE"] == ""
    assert stages["detector"].cells == stages["evaluation"].cells == ()
    assert _value(stages["evaluation"], "MODEL.WEIGHTS").endswith("detector/model_final.pth")
    stages = _plan("pipelines/cifar10_cpu_bccd.yaml", "CLASSIFIER.CONFIG", "")
    assert _value(stages["detector"], "MODEL.NASNET.GENOTYPE").endswith("genotype.json")


def test_parts_can_be_left_out() -> None:
    assert list(_plan("pipelines/digits.yaml", "SEARCH.CONFIG", "")) == ALL[2:]
    assert list(_plan("pipelines/digits.yaml", "DETECTOR.CONFIG", "")) == ALL[:4]
    only = _plan("pipelines/digits.yaml", "SEARCH.CONFIG", "", "CLASSIFIER.CONFIG", "")
    assert list(only) == ALL[4:]
    assert only["detector"].config["MODEL.WEIGHTS"] == ""
    with pytest.raises(ConfigError, match="wanted a CONFIG of SEARCH, CLASSIFIER or DETECTOR"):
        _plan("", "OUTPUT_DIR", "x")


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["SERCH.CONFIG", "x"], "unknown config key 'SERCH.CONFIG' (value 'x'), did you mean 'SEARCH.CONFIG'"),
        (["search.SEARCH.NUM_TRAILS", "3"], "search: unknown config key 'SEARCH.NUM_TRAILS'"),
        (["classifier.SOLVER.EPOCHS", "0"], "classifier: SOLVER.EPOCHS: wanted at least 1, got 0"),
        (["detector.SOLVER.MAX_ITER", "many"], "detector: SOLVER.MAX_ITER: wanted a whole number"),
        (["detector.SOLVER.MAX_ITER"], "wanted KEY VALUE pairs, got no value after 'detector.SOLVER.MAX_ITER'"),
        (["DETECTOR.CONFIG", "quick_schedules/no.yaml"], "detector: no config file 'quick_schedules/no.yaml'"),
        (["classifier.DATA.PATH", "nowhere"], "classifier: DATA.PATH: wanted a file or a folder, got 'nowhere'"),
        (["detector.DATASETS.TEST_JSON", "no.json"], "detector: DATASETS.TEST_JSON: wanted a file or a folder, got 'no.json'"),
    ],
)  # fmt: skip
def test_mistake_in_any_stage_is_told_before_the_first_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], opts: list[str], sentence: str
) -> None:
    images = tmp_path / "images.npz"
    images.touch()
    files = write_tiny_dataset(tmp_path / "data")
    detector = [f"detector.{w}" if w.startswith("DATASETS") else w for w in files]
    given = ["search.SEARCH.DATA.PATH", str(images), "classifier.DATA.PATH", str(images), *detector]
    arguments = ["--config-file", "pipelines/digits.yaml", "OUTPUT_DIR", str(tmp_path / "out")]
    assert main(["pipeline", *arguments, *given, *opts]) == 1
    output = capsys.readouterr()
    assert output.err.startswith(f"nasnet-det pipeline: {sentence}")
    assert output.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---- The real commands


def _write_pipeline(folder: Path) -> Path:
    """The smallest chain: two children, a classifier of two epochs, a detector of four steps."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 120, (90, 32, 32, 3), dtype=np.uint8)
    images[..., 0] += (labels * 60).astype(np.uint8)[:, None, None]
    arrays = {"x_train": images[:60], "y_train": labels[:60]}
    np.savez(folder / "images.npz", **arrays, x_test=images[60:], y_test=labels[60:])
    search = {
        "SEARCH.NUM_TRIALS": 2, "SEARCH.SAMPLER.MINIBATCH": 1, "SEARCH.SPACE.NUM_BLOCKS": 1,
        "SEARCH.SPACE.OPERATIONS": ["identity", "sep_conv_3x3"], "SEARCH.CHILD.EPOCHS": 1,
        "SEARCH.CHILD.NUM_CELLS_PER_STAGE": 1, "SEARCH.CHILD.CHANNELS": 4,
        "SEARCH.CHILD.BATCH_SIZE": 16, "SEARCH.DATA.NUM_HELD_OUT": 20, "SEARCH.DATA.IMAGE_SIZE": 8,
        "SEARCH.DATA.UPSAMPLED_SIZE": 10, "SEARCH.DATA.NUM_TRAIN": 0, "SEARCH.RETRAIN.NUM_BEST": 1,
        "SEARCH.DATA.PATH": str(folder / "images.npz"),
    }  # fmt: skip
    classifier = {
        "MODEL.NASNET.VARIANT": "nasnet_a_mobile", "MODEL.NASNET.CHANNELS": 8, "AUX.WEIGHT": 0.0,
        "MODEL.NASNET.STEM_MULTIPLIER": 0, "SOLVER.EPOCHS": 2, "DATA.NUM_TRAIN": 0,
        "DATA.PATH": str(folder / "images.npz"), "DATA.PIXEL_MEAN": [90, 100, 110],
    }  # fmt: skip
    files = write_tiny_dataset(folder / "data")
    lists = {
        "SEARCH": ["search/cifar10_cpu.yaml", *(w for pair in search.items() for w in pair)],
        "CLASSIFIER": ["classification/quick.yaml", *(w for p in classifier.items() for w in p)],
        "DETECTOR": [write_tiny_config(folder), *files],
    }
    path = folder / "pipeline.yaml"
    content: dict[str, Any] = {k: {"CONFIG": v[0], "OPTS": v[1:]} for k, v in lists.items()}
    path.write_text(json.dumps({"OUTPUT_DIR": str(folder / "out"), **content}))
    return path


def _start(config: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    options = {"stderr": None, "start_new_session": True, **options}
    return start_command("pipeline", "--config-file", config, *words, **options)


@pytest.mark.slow
def test_chain_killed_in_every_stage_ends_with_a_detector_of_the_found_cells(
    tmp_path: Path,
) -> None:
    config, out = _write_pipeline(tmp_path), tmp_path / "out"
    for number, name in enumerate(ALL):
        process = _start(config, stdout=subprocess.DEVNULL)
        while not (out / name).is_dir():
            assert process.poll() is None, f"{name} is not reached"
            time.sleep(0.05)
        time.sleep(number)  # into its start, or into its work
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = _start(config, stdout=subprocess.PIPE)
    output, _ = done.communicate(timeout=600)
    assert done.returncode == 0, output
    told = [line for line in output.splitlines() if line.startswith("[")]
    assert "done already" in told[0], "what was finished before the kills is skipped"

    genotype = load_genotype(out / "search" / "genotype.json")
    card = read_card(out / "export" / "backbone.safetensors")
    assert card is not None
    assert (card.genotype.normal, card.genotype.reduction) == (genotype.normal, genotype.reduction)
    described = read_weights(str(out / "detector" / "model_final.pth"))["backbone"]
    assert described["cells"] == {k: genotype.to_dict()[k] for k in ("normal", "reduction")}
    assert described["pixel_mean"] == [90, 100, 110]
    assert json.loads((out / "evaluation" / "results.json").read_text())["iteration"] == 3
    assert not [path.name for path in out.iterdir() if path.suffix == ".1"]

    again = _start(config, stdout=subprocess.PIPE)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    told = [line.split(" (")[0] for line in output.splitlines()]
    assert told == [f"[{i}/{len(ALL)}] {name}: done already" for i, name in enumerate(ALL, 1)]


def _ask(config: Path, *words: str) -> dict[str, str]:
    """What each stage of a finished chain does when it is asked for something else."""
    process = _start(config, *words, stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    begins = [f"[{i}/{len(ALL)}] {name}: " for i, name in enumerate(ALL, 1)]
    lines = output.splitlines()
    return {
        name: next(line.removeprefix(b) for line in lines if line.startswith(b)).split(" (")[0]
        for name, b in zip(ALL, begins, strict=True)
    }


@pytest.mark.slow
def test_finished_chain_asked_for_more_goes_on_and_keeps_what_is_there(tmp_path: Path) -> None:
    config, out = _write_pipeline(tmp_path), tmp_path / "out"
    assert set(_ask(config).values()) == {"to be made"}
    done = dict.fromkeys(ALL, "done already")

    workers = [
        "search.SEARCH.EXECUTOR.NUM_WORKERS", "1", "classifier.DATA.NUM_WORKERS", "1",
        "detector.DATALOADER.NUM_WORKERS", "1", "detector.SOLVER.CHECKPOINT_PERIOD", "3",
        "detector.TEST.EVAL_PERIOD", "2", "classifier.TEST.EVAL_PERIOD", "2",
    ]  # fmt: skip
    assert _ask(config, *workers) == done

    detector = torch.load(out / "detector/model_final.pth", weights_only=True)["model"]
    longer = [*workers, "detector.SOLVER.MAX_ITER", "6"]
    told = _ask(config, *longer)
    assert told["detector"] == "goes on: SOLVER.MAX_ITER was 4, is 6"
    assert {told[name] for name in ALL[:4]} == {"done already"}
    assert told["evaluation"].startswith("made anew: ")
    grown = torch.load(out / "detector/model_final.pth", weights_only=True)
    assert grown["iteration"] == 5
    assert any(not torch.equal(grown["model"][name], value) for name, value in detector.items())

    epochs = (out / "classifier/metrics.json").read_text().splitlines()
    longer += ["classifier.SOLVER.EPOCHS", "3"]
    told = _ask(config, *longer)
    assert told["classifier"] == "goes on: SOLVER.EPOCHS was 2, is 3"
    assert told["detector"].startswith("made anew: export/backbone.safetensors is another")
    lines = (out / "classifier/metrics.json").read_text().splitlines()
    assert lines[: len(epochs)] == epochs
    assert len(lines) > len(epochs)

    children = collect_results(out / "search").children
    told = _ask(config, *longer, "search.SEARCH.NUM_TRIALS", "4")
    assert told["search"] == "goes on: SEARCH.NUM_TRIALS was 2, is 4"
    assert told["search_report"].startswith("made anew: ")
    grown_children = collect_results(out / "search").children
    assert (grown_children[:2], len(grown_children)) == (children, 4)
    assert not (out / "search.1").exists()
