"""nasnet-det search: a real small search, its resume, its dry run, and mistakes in one sentence."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from command import run_without
from tiny_search import SMALL_SEARCH, write_images

import nasnet_det
from nasnet_det import create_model, load_genotype
from nasnet_det.cli.main import main
from nasnet_det.config import get_config_file, list_configs
from nasnet_det.runs.lock import lock_folder
from nasnet_det.search.assemble import build_plan, build_recipe, build_source
from nasnet_det.search.child import ChildRecipe, ChildTrainer
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.data import DataSource
from nasnet_det.search.detector_config import get_first_rung_config
from nasnet_det.search.job import ChildJob, ChildResult
from nasnet_det.search.progress import Progress, format_seconds
from nasnet_det.search.retraining import get_retraining_config
from nasnet_det.search.size import SizeLimits
from nasnet_det.search.study import SearchPlan


def call(*words: str) -> int:
    """The command in this process."""
    return main(["search", *words])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_images(tmp_path_factory.mktemp("images") / "images.npz")


def arguments(folder: Path, images: str, *opts: str) -> list[str]:
    return [*SMALL_SEARCH, "SEARCH.DATA.PATH", images, "OUTPUT_DIR", str(folder), *opts]


def test_search_resumes_and_hands_on_a_genotype_with_its_origin(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments(tmp_path, images, "SEARCH.NUM_TRIALS", "2")) == 0
    assert call("--resume", *arguments(tmp_path, images)) == 0
    out, err = capsys.readouterr()
    path = tmp_path / "genotype.json"
    assert out.splitlines()[-1] == str(path)
    assert err.splitlines()[-1].startswith("5/5 children: 5 done, 0 failed, 0 running, best 0.")
    genotype = load_genotype(path)
    assert create_model(genotype, 3, channels=8, num_cells_per_stage=1)

    origin: dict[str, Any] = genotype.provenance
    assert (origin["study"], origin["num_trials"], origin["seed"]) == ("search", 5, 0)
    assert genotype.name == f"search_{origin['trial']}"
    assert origin["versions"]["nasnet_det"] == nasnet_det.__version__
    assert origin["config"]["SEARCH.CHILD.CHANNELS"] == 4

    # The file says enough to train the child again, bit for bit.
    cfg = get_search_config(str(tmp_path / "config.yaml"))
    trainer = ChildTrainer(build_recipe(cfg), build_space(cfg), build_source(cfg))
    choices = build_space(cfg).encode(genotype)
    again = trainer(ChildJob(0, choices, origin["child"]["seed"]), "cpu")
    assert again.reward == origin["reward"]


def test_best_are_retrained_and_the_genotype_says_how_well(
    tmp_path: Path,
    images: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped by SIGTERM in the middle of it, the second start trains what is left."""
    retrain = ChildTrainer.__call__
    trained: list[int] = []

    def interrupt(self: ChildTrainer, job: ChildJob, device: str) -> ChildResult:
        if self.recipe.epochs == 2:
            if len(trained) == 1:
                trained.append(-1)
                os.kill(os.getpid(), signal.SIGTERM)
            trained.append(job.number)
        return retrain(self, job, device)

    monkeypatch.setattr(ChildTrainer, "__call__", interrupt)
    words = "SEARCH.RETRAIN.NUM_BEST 3 SEARCH.RETRAIN.EPOCHS 2 SEARCH.RETRAIN.NUM_TRAIN 40"
    storage = f"sqlite:///{tmp_path / 'mine.db'}"  # not where it would be
    study = ("SEARCH.STUDY.NAME", "mine", "SEARCH.STUDY.STORAGE", storage)
    given = arguments(tmp_path, images, *words.split(), *study)
    assert call(*given) == 143
    assert call("--resume", *given) == 0
    assert trained == [0, -1, 1, 2]
    monkeypatch.undo()
    out, err = capsys.readouterr()
    assert "3/3 best children retrained: 3 done, 0 failed, 0 running, best 0." in err

    genotype = load_genotype(tmp_path / "genotype.json")
    origin: dict[str, Any] = genotype.provenance
    retrained = origin["retrained"]
    assert retrained["study"] == "mine.retrained"
    trials = _read_trials(storage, "mine.retrained")
    accuracy = max(trial.value for trial in trials)
    assert retrained["accuracy"] == trials[retrained["trial"]].value == accuracy
    assert trials[retrained["trial"]].user_attrs["searched_as"] == origin["trial"]
    assert origin["reward"] == _read_trials(storage, "mine")[origin["trial"]].value
    assert f"of held-out images, {accuracy:.4f} when retrained" in out

    # The file says enough to retrain the child again, bit for bit.
    cfg = get_search_config(str(tmp_path / "config.yaml"))
    for key, value in retrained["config"].items():
        if key.startswith("SEARCH."):
            _, node, *rest = key.split(".")
            if rest:
                cfg.SEARCH[node][rest[0]] = value
    assert (cfg.SEARCH.CHILD.EPOCHS, cfg.SEARCH.DATA.NUM_TRAIN) == (2, 40)
    trainer = ChildTrainer(build_recipe(cfg), build_space(cfg), build_source(cfg))
    choices = build_space(cfg).encode(genotype)
    again = trainer(ChildJob(0, choices, retrained["child"]["seed"]), "cpu")
    assert again.reward == accuracy


def test_search_for_several_goals_hands_on_its_whole_front(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opts = ["SEARCH.SAMPLER.NAME", "nsga2", "SEARCH.GOALS", "['accuracy','macs','params']"]
    opts += ["SEARCH.NUM_TRIALS", "12"]
    front = tmp_path / "front"
    front.mkdir()
    (front / "genotype_99.json").write_text("of an older front")
    (front / "notes.txt").write_text("the user's")
    assert call(*arguments(tmp_path, images, *opts)) == 0
    trials = {t.number: t for t in _read_trials(tmp_path)}

    def is_beaten(trial: Any, other: Any) -> bool:
        pairs = zip(trial.values, other.values, (-1, 1, 1), strict=True)
        gains = [sign * (value - others) for value, others, sign in pairs]
        return min(gains) >= 0 and max(gains) > 0

    wanted = {
        number
        for number, trial in trials.items()
        if not any(is_beaten(trial, other) for other in trials.values())
        and "duplicate_of" not in trial.user_attrs
    }
    assert len(wanted) > 1
    paths = sorted(front.glob("genotype_*.json"))
    assert {int(path.stem.removeprefix("genotype_")) for path in paths} == wanted
    for path in paths:
        origin: dict[str, Any] = load_genotype(path).provenance
        values = trials[origin["trial"]].values
        assert list(origin["goals"].values()) == values
        assert list(origin["goals"]) == ["accuracy", "macs", "params"]
    assert (front / "notes.txt").exists()
    assert f"{len(wanted)} that no other beats in all goals: {front}" in capsys.readouterr().out


def test_mistake_in_the_retraining_does_not_wait_for_the_end_of_the_search(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "SEARCH.RETRAIN.NUM_BEST 1 SEARCH.RETRAIN.NUM_TRAIN 61"
    assert call(*arguments(tmp_path, images, *words.split())) == 1
    err = capsys.readouterr().err
    assert err.startswith("nasnet-det search: SEARCH.RETRAIN: ")
    assert "wanted at least 91 training images, 30 of them held out, got 90" in err
    assert err.count("\n") == 1
    assert not _read_trials(tmp_path)


def test_search_leaves_events_for_tensorboard(tmp_path: Path, images: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert call(*arguments(tmp_path, images, "SEARCH.NUM_TRIALS", "4")) == 0
    assert call("--resume", *arguments(tmp_path, images)) == 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("child/accuracy")]
    trials = _read_trials(tmp_path)
    assert found == [(t.number, pytest.approx(t.value)) for t in trials]
    assert [event.step for event in events.Scalars("controller/entropy")] == [0]


def test_dry_run_prints_the_first_proposals_and_writes_nothing(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    opts = arguments(folder, images)
    assert call("--dry-run", "2", *opts) == 0
    out = capsys.readouterr().out
    assert not folder.exists()
    shown = [line for line in out.splitlines() if line.startswith("child ")]
    assert [line.split(":")[0] for line in shown] == ["child 0", "child 1"]
    assert call(*opts) == 0
    trials = _read_trials(folder)
    for line, trial in zip(shown, trials, strict=False):
        assert f"{trial.user_attrs['params']:,} parameters" in line
        assert f"{trial.params['normal.0.op_0']}({trial.params['normal.0.input_0']})" in out


def _read_trials(place: Path | str, name: str = "search") -> list[Any]:
    import optuna

    storage = place if isinstance(place, str) else f"sqlite:///{place / 'study.db'}"
    return optuna.load_study(study_name=name, storage=storage).trials


def test_search_without_any_reward_says_so(
    tmp_path: Path,
    images: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    opts = arguments(tmp_path, images, "SEARCH.CHILD.TIME_LIMIT_S", "1e-9")
    assert call(*opts) == 1
    err = capsys.readouterr().err
    assert (
        "nasnet-det search: no child has a reward; the study 'search' says why each failed" in err
    )
    assert "child 0 failed: out of time: 1e-09 s were up after 1 of 3 steps" in caplog.text
    assert not (tmp_path / "genotype.json").exists()


def test_second_search_in_a_folder_is_refused(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock_folder(tmp_path, "search"):
        assert call(*arguments(tmp_path, images)) == 1
    assert f"OUTPUT_DIR {tmp_path} is in use (search, process " in capsys.readouterr().err
    assert call(*arguments(tmp_path, images)) == 0


@pytest.mark.parametrize(
    ("opts", "status", "sentence"),
    [
        (
            "SEARCH.DATA.PATH /nowhere",
            1,
            "SEARCH.DATA.PATH: wanted a folder .* '/nowhere', which i",
        ),
        ("SEARCH.DATA.NUM_HELD_OUT 90", 1, "wanted at least 91 training images, 90 of them held"),
        ("SEARCH.SAMPLER.NAME tpee", 1, "unknown sampler 'tpee', did you mean 'tpe'"),
        ("SEARCH.EXECUTOR.NAME rai", 1, "unknown executor 'rai'"),
        ("SEARCH.LR 1", 1, "unknown config key 'SEARCH.LR'"),
        ("SEARCH.BUDGET_HOURS 1", 1, "SEARCH.BUDGET_HOURS: is for a search for detectors"),
        ("--dry-run 2 SEARCH.CHILD.KIND detector", 1, "SEARCH.CHILD.KIND: wanted classifier here"),
        ("SEARCH.SEED -1", 1, "wanted a seed of at least 0, got -1"),
        ("--config-file nowhere.yaml", 1, "no config file 'nowhere.yaml'"),
        ("--dry-run 0", 2, "--dry-run: wanted at least 1, got 0"),
        ("--resum", 2, "nasnet-det search: .*--resum"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path,
    images: str,
    opts: str,
    status: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    words = opts.split()
    given = arguments(tmp_path, images)
    try:
        found = call(*([*words, *given] if words[0].startswith("--") else [*given, *words]))
    except SystemExit as error:
        found = error.code
    out, err = capsys.readouterr()
    assert found == status
    assert out == ""
    assert re.search(sentence, err)
    assert err.count("\n") == 1
    assert err.startswith("nasnet-det search: ")


def test_command_runs_without_detectron2(tmp_path: Path, images: str) -> None:
    done = run_without("detectron2", "search", *arguments(tmp_path, images))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "genotype.json").is_file()


# ---- Configs


def test_default_children_are_the_papers() -> None:
    cfg = get_search_config("search/cifar10_paper.yaml")
    recipe, source, plan = build_recipe(cfg), build_source(cfg), build_plan(cfg)
    assert (recipe.num_cells_per_stage, recipe.epochs, recipe.momentum) == (2, 20, 0.9)
    assert (source.num_held_out, source.num_train) == (5000, 0)
    assert (source.image_size, source.upsampled_size) == (32, 40)
    assert (plan.num_trials, plan.minibatch) == (20000, 20)
    assert cfg.SEARCH.RETRAIN.NUM_BEST == 250


@pytest.mark.parametrize("name", [n for n in list_configs() if n.startswith("search/")])
def test_configs_can_be_searched_with(name: str) -> None:
    cfg = get_search_config(get_config_file(name))
    assert build_recipe(cfg).network(cfg.SEARCH.DATA.IMAGE_SIZE).validate()
    assert build_plan(get_first_rung_config(cfg)).num_trials > 0
    assert build_space(cfg).num_blocks == 5
    if cfg.SEARCH.CHILD.KIND == "detector":  # which has rungs in place of the retraining
        return
    assert build_recipe(get_retraining_config(cfg)).epochs > cfg.SEARCH.CHILD.EPOCHS


def test_every_key_of_children_reaches_what_it_is_for() -> None:
    text = (
        "SEARCH.CHILD.NUM_CELLS_PER_STAGE 3 SEARCH.CHILD.CHANNELS 6 SEARCH.CHILD.STEM_MULTIPLIER 2 "
        "SEARCH.CHILD.EPOCHS 4 SEARCH.CHILD.BATCH_SIZE 5 SEARCH.CHILD.LR 0.5 "
        "SEARCH.CHILD.MOMENTUM 0.8 SEARCH.CHILD.WEIGHT_DECAY 0.1 SEARCH.CHILD.CLIP_NORM 2 "
        "SEARCH.CHILD.DROP_PATH_PROB 0.3 SEARCH.CHILD.PRECISION bfloat16 "
        "SEARCH.CHILD.AUX_WEIGHT 0.4 SEARCH.DATA.RESIZE bicubic "
        "SEARCH.CHILD.TIME_LIMIT_S 9 SEARCH.DATA.PATH a SEARCH.DATA.NUM_HELD_OUT 7 "
        "SEARCH.DATA.NUM_TRAIN 8 SEARCH.DATA.IMAGE_SIZE 16 SEARCH.DATA.UPSAMPLED_SIZE 17 "
        "SEARCH.DATA.FLIP False SEARCH.DATA.BROKEN_IMAGES stop "
        "SEARCH.SEED 1 SEARCH.NUM_TRIALS 11 SEARCH.SAMPLER.MINIBATCH 12 SEARCH.SAMPLER.NAME nsga2 "
        "SEARCH.GOALS ['accuracy','params'] SEARCH.LIMITS.MAX_PARAMS 13 SEARCH.LIMITS.MAX_MACS 14"
    )
    cfg = get_search_config(opts=text.split())
    assert build_recipe(cfg) == ChildRecipe(
        3, 6, 2, epochs=4, batch_size=5, lr=0.5, momentum=0.8, weight_decay=0.1, clip_norm=2.0,
        drop_path_prob=0.3, aux_weight=0.4, precision="bfloat16",
    )  # fmt: skip
    assert build_source(cfg) == DataSource(
        "a", 7, 8, 16, 17, flip=False, resize="bicubic", broken_images="stop", seed=1
    )
    assert build_plan(cfg) == SearchPlan(
        11, 12, 1, goals=("accuracy", "params"), limits=SizeLimits(13, 14), time_limit_s=9.0
    )


# ---- The progress line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0:00:00"), (3723, "1:02:03"), (90061, "1d 1:01:01")],
)
def test_seconds_are_readable(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def test_progress_line_says_it_all() -> None:
    line = str(Progress(total=20, done=3, failed=1, running=2, best=0.51239, seconds_left=61))
    assert line == "4/20 children: 3 done, 1 failed, 2 running, best 0.5124, ETA 0:01:01"
    assert "best -" in str(Progress(20, 0, 0, 2, None, None))
