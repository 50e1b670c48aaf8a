"""Several processes under torchrun: what they compute, their resume, and one that fails."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_classification import CPU, make_config, quick, run_pair, torchrun
from yacs.config import CfgNode

from nasnet_det.classification import learner as learner_module
from nasnet_det.classification.checkpoint import load_checkpoint
from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.data import load_data
from nasnet_det.classification.learner import check_processes
from nasnet_det.classification.loader import build_train_loader
from nasnet_det.classification.loop import Trainer
from nasnet_det.config import ConfigError
from nasnet_det.runs.threads import one_thread

# Nothing random but the images, and the plain weights as result.
_PLAIN = {
    "MODEL.NASNET.DROP_PATH_PROB": "0",
    "MODEL.NASNET.DROPOUT": "0",
    "EMA.DECAY": "0",
    "AUX.WEIGHT": "0",
    "SOLVER.EPOCHS": "2",
}
PLAIN = [word for pair in _PLAIN.items() for word in pair]


def read_losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def test_two_processes_are_one_with_the_double_batch(tmp_path: Path) -> None:
    """Normalizations see half of the batch each, so one process computes it in two parts."""
    both = run_pair(*quick(tmp_path, "both", *PLAIN, "SOLVER.NUM_PARTS", "1"))
    for process in both:
        _, log = process.communicate(300)
        assert process.returncode == 0, log
    losses = read_losses(tmp_path / "both")
    assert len(losses) == 8

    cfg = make_config(tmp_path, *PLAIN, "SOLVER.NUM_PARTS", "2", "OUTPUT_DIR", str(tmp_path / "1"))
    Path(cfg.OUTPUT_DIR).mkdir()
    with one_thread():  # as each of the two
        Trainer(cfg, load_data(cfg), device=CPU).train()
        model, wanted = train_by_hand(cfg)
    assert losses == pytest.approx(read_losses(tmp_path / "1"), rel=1e-4)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pth") for name in ("1", "both"))
    assert len(other["random"]) == 2
    results = json.loads((tmp_path / "both" / "results.json").read_text())
    assert results["num_images"] == 16, "each test image once"

    # The same once more by hand, with the statistics that two processes end with.
    assert losses == pytest.approx(wanted, rel=1e-4)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(other["model"][name], value, rtol=1e-3, atol=1e-5)
            if "running" not in name:
                torch.testing.assert_close(one["model"][name], value, rtol=1e-3, atol=1e-5)


def train_by_hand(cfg: CfgNode) -> tuple[torch.nn.Module, list[float]]:
    """Two copies of the model, each for half of every batch; everything is averaged."""
    solver, data = cfg.SOLVER, load_data(cfg)
    trainer = Trainer(cfg, data, device=CPU)
    model, optimizer = trainer.learner.model, trainer.learner.optimizer
    predictor, losses = trainer.learner.predictor, []
    for step, batch in enumerate(build_train_loader(cfg, data, start=0, stop=8)):
        twins = [copy.deepcopy(model).train() for _ in range(2)]
        parts = []
        for twin, images, labels in zip(
            twins, batch.images.chunk(2), batch.labels.chunk(2), strict=True
        ):
            whitened = (images.float() - predictor.mean) / predictor.std
            parts.append(F.cross_entropy(twin(whitened), labels, label_smoothing=0.1))
            parts[-1].backward()
        losses.append(float(sum(parts).detach()) / 2)
        for p, one, other in zip(model.parameters(), *(t.parameters() for t in twins), strict=True):
            p.grad = (one.grad + other.grad) / 2
        for b, one, other in zip(model.buffers(), *(t.buffers() for t in twins), strict=True):
            b.copy_((one + other) / 2)
        torch.nn.utils.clip_grad_norm_(model.parameters(), solver.CLIP_NORM)
        for group in optimizer.param_groups:
            group["lr"] = trainer.learner.get_lr(step)
        optimizer.step()
    return model, losses


def test_failure_of_one_process_ends_all_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out" / "checkpoint.pth").mkdir(parents=True)  # the main one can't write it
    done = torchrun(*quick(tmp_path, "out", *PLAIN))
    _, log = done.communicate(timeout=300)
    assert done.returncode != 0
    lines = log.splitlines()
    sentences = [line for line in lines if line.startswith("nasnet-det train-classifier: ")]
    assert len(sentences) == 1, lines
    assert "checkpoint.pth can't be written (Is a directory)" in sentences[0]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_processes_go_on_to_the_same_weights(tmp_path: Path) -> None:
    """With drop path and dropout, which each process draws for itself."""
    for name in ("whole", "killed"):
        process = torchrun(*quick(tmp_path, name))
        metrics = tmp_path / name / "metrics.json"
        while name == "killed" and process.poll() is None:
            if metrics.is_file() and metrics.read_text().count("\n") >= 5:
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
                for pid in [process.pid, *map(int, children.split())]:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        _, log = process.communicate(timeout=300)
        assert process.returncode == (0 if name == "whole" else -signal.SIGKILL), log
    resumed = torchrun("--resume", *quick(tmp_path, "killed"))
    _, log = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, log
    one, other = (load_checkpoint(tmp_path / n / "checkpoint.pth") for n in ("whole", "killed"))
    for part in ("model", "ema"):
        assert all(torch.equal(one[part][k], other[part][k]) for k in one[part])
    states = [state["cpu"] for state in one["random"]]
    assert not torch.equal(*states)
    assert all(map(torch.equal, states, (state["cpu"] for state in other["random"])))


@pytest.mark.slow
def test_death_of_one_process_is_a_sentence_of_the_other(tmp_path: Path) -> None:
    """Started by hand, as nothing then ends the other one from outside."""
    processes = run_pair(*quick(tmp_path, "out", *PLAIN, "SOLVER.EPOCHS", "50"))
    metrics = tmp_path / "out" / "metrics.json"
    while processes[1].poll() is None:
        if metrics.is_file() and metrics.read_text().count("\n") >= 3:
            processes[1].kill()
        time.sleep(0.01)
    _, log = processes[0].communicate(timeout=100)
    assert processes[0].returncode == 1, log
    assert (
        "nasnet-det train-classifier: another process of this training has ended; --resume goes"
        in log
    )
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ("SOLVER.BATCH_SIZE 33", "SOLVER.BATCH_SIZE: wanted a multiple of .* processes, 2, got 33"),
        ("SOLVER.NUM_PARTS 17", "SOLVER.NUM_PARTS: wanted at most 16, the images of each process"),
        ("MODEL.NASNET.NORM SyncBN", "MODEL.NASNET.NORM: SyncBN of several processes needs GPUs"),
    ],
)
def test_batches_that_can_not_be_divided_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, opts: str, sentence: str
) -> None:
    monkeypatch.setattr(learner_module, "get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match=sentence):
        check_processes(get_classification_config(opts=opts.split()), CPU)
