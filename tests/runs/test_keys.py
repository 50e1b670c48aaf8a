"""The one table: for each of its rows, what a pipeline and a resume do about another value."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.run import check_same_run, get_identity
from nasnet_det.config import flatten
from nasnet_det.detection import get_config
from nasnet_det.detection.resume import check_same_run as check_checkpoint
from nasnet_det.detection.run import OutputDirError, check_output_dir
from nasnet_det.pipeline.chain import get_pipeline_config, plan_stages
from nasnet_det.pipeline.stages import Stage, find_state
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.keys import KEYS, Effect, Key, find_changes, get_effect
from nasnet_det.search import assemble
from nasnet_det.search.config import get_search_config

READERS = {
    "search": get_search_config,
    "classifier": get_classification_config,
    "detector": get_config,
}
ROWS = [(stage, row) for stage, rows in KEYS.items() for row in rows]
NAMES = [f"{stage}-{row.pattern}" for stage, row in ROWS]
OTHERS = [  # not in the table
    ("search", Key("SEARCH.CHILD.EPOCHS", Effect.IDENTITY, "")),
    ("search", Key("SEARCH.SEED", Effect.IDENTITY, "")),
    ("classifier", Key("SEED", Effect.IDENTITY, "")),
    ("classifier", Key("DATA.NUM_TRAIN", Effect.IDENTITY, "")),
    ("classifier", Key("MODEL.NASNET.CHANNELS", Effect.IDENTITY, "")),
    ("detector", Key("MODEL.ROI_HEADS.NUM_CLASSES", Effect.IDENTITY, "")),
]
EVERY_ROW = pytest.mark.parametrize(
    ("stage", "row"),
    [*ROWS, *OTHERS],
    ids=[*NAMES, *(f"{stage}-{row.pattern}" for stage, row in OTHERS)],
)


def _find_key(stage: str, row: Key) -> tuple[str, Any]:
    """A key of the stage's config for which the row counts, and its default."""
    for key, value in flatten(READERS[stage]("", [])):
        if fnmatchcase(key, row.pattern) and get_effect(stage, key) is row.effect:
            return key, value
    raise AssertionError(f"{row.pattern} fits no key of {stage}")


def _alter(value: Any) -> Any:
    """Another value of the same type, larger if it is a number."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list | tuple):
        return [*value, "more"]
    return f"{value}_other" if isinstance(value, str) else 0.5


def _make_finished(tmp_path: Path, stage: str, config: dict[str, Any]) -> tuple[Stage, dict]:
    """A stage of a pipeline that is done with a config, and the pipeline's record of it."""
    planned = Stage("it", ("tool.py",), tmp_path / "it", config, stage)
    return planned, {"it": {"config": config, "inputs": {}, "outputs": {}}}


STATES = {
    Effect.NOTHING: "done",
    Effect.PLACE: "outdated",
    Effect.LENGTH: "unfinished",
    Effect.END: "unfinished",
    Effect.COURSE: "outdated",
    Effect.IDENTITY: "outdated",
}


@EVERY_ROW
def test_finished_stage_of_a_pipeline(tmp_path: Path, stage: str, row: Key) -> None:
    key, value = _find_key(stage, row)
    config = {key: value, "OTHER": 1}
    _, record = _make_finished(tmp_path, stage, json.loads(json.dumps(config)))
    now, _ = _make_finished(tmp_path, stage, {**config, key: _alter(value)})
    state, reason = find_state(now, record)
    assert state == STATES[row.effect]
    assert reason == (
        "" if state == "done" else f"{key} was {_json(value)!r}, is {_alter(value)!r}"
    )
    if row.effect is Effect.LENGTH:
        less, _ = _make_finished(tmp_path, stage, {**config, key: value - 1})
        assert find_state(less, record)[0] == "outdated", "what is done can't be undone"


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(("stage", "row"), ROWS, ids=NAMES)
def test_pipeline_gives_the_key_to_its_stage(stage: str, row: Key) -> None:
    """The plan holds what counts, and nothing else."""
    key, _ = _find_key(stage, row)
    config = get_pipeline_config("pipelines/digits.yaml")
    planned = {one.name: one for one in plan_stages(config, READERS)}[stage]
    assert planned.part == stage
    if row.effect is Effect.NOTHING:
        assert key not in planned.config
    elif row.effect is not Effect.PLACE:  # of what an earlier stage wrote the content counts
        assert key in planned.config


@EVERY_ROW
def test_resume(tmp_path: Path, stage: str, row: Key, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused for another run, and says what is otherwise where that matters."""
    key, value = _find_key(stage, row)
    cfg, changed = (READERS[stage]("", []) for _ in range(2))
    _set(changed, key, _alter(value))
    refused = row.effect is Effect.IDENTITY
    said = row.effect in (Effect.LENGTH, Effect.COURSE, Effect.END, Effect.PLACE)
    if stage == "search":
        same = assemble.get_identity(cfg) == assemble.get_identity(changed)
        assert same != refused
    elif stage == "classifier":
        state = {"config": get_identity(cfg), "classes": ["a"]}
        if refused:
            with pytest.raises(CheckpointError, match=f"another training: {key} was "):
                check_same_run(state, changed, ["a"], 1, tmp_path)
        else:
            changes = check_same_run(state, changed, ["a"], 1, tmp_path)
            listed = [key] if row.effect in (Effect.LENGTH, Effect.COURSE) else []
            assert [change.key for change in changes] == listed
    else:
        for config in (cfg, changed):
            config.OUTPUT_DIR = str(tmp_path)
        (tmp_path / "config.yaml").write_text(cfg.dump())
        (tmp_path / "last_checkpoint").write_text("model_final.pth")
        with caplog.at_level("INFO", logger="nasnet_det"):
            if refused:
                with pytest.raises(OutputDirError, match=f"another model: {key} was "):
                    check_output_dir(changed, resume=True, eval_only=False)
            else:
                check_output_dir(changed, resume=True, eval_only=False)
                check_checkpoint(cfg.dump(), changed.dump(), "model_final.pth", num_done=1)
        assert (f"From now on {key} " in caplog.text) == said


def _set(cfg: Any, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        cfg = cfg[part]
    cfg[last] = type(cfg[last])(value) if isinstance(cfg[last], tuple) else value


def test_rows_have_reasons_and_none_stands_twice() -> None:
    for rows in KEYS.values():
        assert all(row.reason for row in rows)
        assert len({row.pattern for row in rows}) == len(rows)


def test_record_of_an_older_version_that_knew_fewer_keys_is_the_same_run() -> None:
    was, now = {"SEED": 1, "OUTPUT_DIR": "a"}, {"SEED": 1, "OUTPUT_DIR": "b", "NEW.KEY": 3}
    assert find_changes(was, now, stage="classifier") == []


def test_tuples_and_lists_are_the_same() -> None:
    assert find_changes({"SOLVER.STEPS": (1, 2)}, {"SOLVER.STEPS": [1, 2]}, stage="detector") == []
