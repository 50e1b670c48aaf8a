"""A tiny training with everything in it that could make a resumed one differ, to be killed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import ForkedCommand
from PIL import Image
from tiny_detection import write_tiny_config, write_tiny_genotype

from nasnet_det.runs.files import PARTIAL

# Workers that load ahead, pictures that wait for a partner of their shape, random sizes and flips,
# drop path, evaluations and precise statistics in between, batches in parts, a moving average,
# mosaics and pasted objects.
OPTIONS: dict[str, Any] = {
    "DATALOADER.NUM_WORKERS": 2,
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "INPUT.AUGMENTATIONS": ["RandomBrightness(0.8, 1.2)"],
    "INPUT.COPY_PASTE.PROB": 0.5,
    "INPUT.MIN_SIZE_TRAIN": (48, 64, 80),
    "INPUT.MAX_SIZE_TRAIN": 160,
    "INPUT.MOSAIC.PROB": 0.5,
    "MODEL.NASNET.DROP_PATH_PROB": 0.3,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "SOLVER.EMA.DECAY": 0.9,
    "SOLVER.NUM_PARTS": 2,
    "TEST.EVAL_PERIOD": 3,
    "TEST.PRECISE_BN.ENABLED": True,
    "TEST.PRECISE_BN.NUM_ITER": 2,
    "TEST.VALIDATION_LOSS": True,
}


def write_data_of_two_shapes(folder: Path) -> list[str]:
    """Seven pictures, three of them upright; the KEY VALUE pairs that name them for both uses."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(7):
        width, height = (64, 96) if i % 2 else (96, 64)
        pixels = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
        x, y = (int(value) for value in random.integers(0, 24, 2))
        pixels[y : y + 30, x : x + 40] = (255, 0, 0)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
        box = {"id": i + 1, "image_id": i, "category_id": 1 + i % 2, "iscrowd": 0}
        annotations.append({**box, "bbox": [x, y, 40, 30], "area": 1200})
    categories = [{"id": 1, "name": "first"}, {"id": 2, "name": "second"}]
    path = folder / "boxes.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return [
        word
        for split in ("TRAIN", "TEST")
        for key, value in (("JSON", str(path)), ("IMAGES", str(folder)))
        for word in (f"DATASETS.{split}_{key}", value)
    ]


def write_arguments(tmp_path: Path, output: str, **options: Any) -> list[str]:
    """``--config-file`` and the KEY VALUE pairs of the training; ``__`` stands for a dot."""
    keys = OPTIONS | {key.replace("__", "."): value for key, value in options.items()}
    pairs = [*write_data_of_two_shapes(tmp_path / "data"), "OUTPUT_DIR", str(tmp_path / output)]
    pairs += ["MODEL.NASNET.GENOTYPE", write_tiny_genotype(tmp_path)]
    pairs += [word for key, value in keys.items() for word in (key, str(value))]
    return ["--config-file", write_tiny_config(tmp_path), *pairs]


class Command:
    """The training command as a process, with what it prints in a file.

    Args:
        log: where its output goes.
        arguments: of :func:`write_arguments`.
        *flags: stand before ``arguments``.
    """

    def __init__(self, log: Path, arguments: list[str], *flags: str) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = ForkedCommand(
                *("train", *flags, *arguments), stdout=file, stderr=file, start_new_session=True
            )

    def has_started(self) -> bool:
        """Whether it has come to its first iteration."""
        return "Starting training from iteration" in self.log.read_text()

    def wait_until(self, happened: Callable[[], bool], *, seconds: float = 240) -> bool:
        """Wait for something; False if the command ended before."""
        deadline = time.monotonic() + seconds
        while not happened():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.0005)
        return True

    def wait(self, *, seconds: float = 600) -> int:
        """The status with which it ends."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, which nothing can answer."""
        self.process.kill()
        self.process.wait()

    def find_training_process(self) -> int:
        """The process that it started for the training, where there are several on the job."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)


def start_pair(log: Path, arguments: list[str], *flags: str) -> tuple[Command, Command]:
    """A training on two processes, started as on two machines, which needs no GPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    first, second = (
        Command(
            log.with_name(f"{log.name}.{rank}"),
            arguments,
            *flags,
            *("--num-machines", "2", "--machine-rank", str(rank), "--dist-url", url),
        )
        for rank in range(2)
    )
    return first, second


def find_last_iteration(run: Path) -> int:
    """The last iteration of which there is a checkpoint; -1 without any."""
    names = [path.stem.removeprefix("model_") for path in run.glob("model_*.pth")]
    return max((int(name) for name in names if name.isdigit()), default=-1)


def is_writing(run: Path) -> bool:
    """Whether a file is being written there."""
    return any(run.glob(f"*{PARTIAL}"))


def read_state(run: Path, name: str = "model_final.pth") -> dict[str, Any]:
    """Models, optimizer, schedule, iteration and best result of a run's checkpoint."""
    state = torch.load(run / name, weights_only=True)
    return {key: state[key] for key in ("model", "unaveraged", "trainer")}


def find_differences(wanted: Any, got: Any, where: str = "") -> list[str]:
    """What differs in two nested states, bit for bit, by its place."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        if wanted.keys() != got.keys():
            return [f"{where}: {sorted(map(str, wanted.keys() ^ got.keys()))}"]
        return [
            text for k in wanted for text in find_differences(wanted[k], got[k], f"{where}/{k}")
        ]
    if isinstance(wanted, list | tuple) and isinstance(got, list | tuple):
        if len(wanted) != len(got):
            return [f"{where}: {len(wanted)} and {len(got)} items"]
        pairs = zip(wanted, got, strict=True)
        return [
            text
            for i, (a, b) in enumerate(pairs)
            for text in find_differences(a, b, f"{where}/{i}")
        ]
    if isinstance(wanted, torch.Tensor):
        same = torch.equal(wanted, got)
    else:
        same = wanted == got or (wanted != wanted and got != got)
    return [] if same else [where]


def count_tensors(state: Any) -> int:
    """How many tensors are in a nested state."""
    if isinstance(state, Mapping):
        return sum(map(count_tensors, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(count_tensors, state))
    return isinstance(state, torch.Tensor)


def check_equal(wanted: dict[str, Any], got: dict[str, Any]) -> None:
    """Let two states of :func:`read_state` have the same bits."""
    assert count_tensors(wanted) > 300
    differences = find_differences(wanted, got)
    assert not differences, f"{len(differences)} of {count_tensors(wanted)}: {differences[:5]}"
