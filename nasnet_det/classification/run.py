"""A run's folder: whose it is, how it began, and its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from yacs.config import CfgNode

from nasnet_det.classification.checkpoint import BEST, FINAL, LAST
from nasnet_det.classification.distributed import choose_gpu, get_world_size
from nasnet_det.classification.library_classifier import LibraryClassifier
from nasnet_det.config import ConfigError, flatten
from nasnet_det.genotype import Genotype
from nasnet_det.network import NASNet
from nasnet_det.plan import NetworkSpec, find_differences
from nasnet_det.runs.checkpoint import CheckpointError
from nasnet_det.runs.keys import Change, Effect, find_changes, list_changes, select_keys
from nasnet_det.runs.metrics import METRICS, append_metrics, drop_metrics
from nasnet_det.runs.record import OutputDirError, record_start, refuse_evaluation


def choose_device(name: str) -> torch.device:
    """The device that ``MODEL.DEVICE`` means; of several processes each has its own GPU.

    Raises:
        ConfigError: there is no such device.
    """
    has_gpu = torch.cuda.is_available()
    if name == "auto":
        return choose_gpu(torch.device("cuda" if has_gpu else "cpu"))
    try:
        device = torch.device(name)
        if device.type == "cpu" or (
            device.type == "cuda" and has_gpu and (device.index or 0) < torch.cuda.device_count()
        ):
            return choose_gpu(device)
    except RuntimeError:
        pass
    have = f"{torch.cuda.device_count()} CUDA devices" if has_gpu else "no CUDA device"
    raise ConfigError(
        f"MODEL.DEVICE: wanted auto, cpu, cuda or cuda:<i>, got {name!r}; this machine has {have}"
    )


def check_output_dir(folder: Path, *, resume: bool) -> None:
    """Keep a run from overwriting another one.

    Raises:
        OutputDirError: it would.
    """
    names = [name for name in (LAST, BEST, FINAL, METRICS) if (folder / name).is_file()]
    if names and not resume:
        raise OutputDirError(
            f"OUTPUT_DIR {folder} holds another run ({names[0]}); give --resume to go on with it, "
            "or another OUTPUT_DIR"
        )
    if not names:
        refuse_evaluation(folder)


def get_identity(cfg: CfgNode) -> dict[str, Any]:
    """The keys that decide what comes of a training, as plain values."""
    decisive = (Effect.IDENTITY, Effect.COURSE, Effect.LENGTH)
    return select_keys(dict(flatten(cfg)), decisive, stage="classifier")


def check_same_run(
    state: Mapping[str, Any], cfg: CfgNode, classes: Sequence[str], num_images: int, path: Path
) -> list[Change]:
    """See that a training can go on from a checkpoint with this config and this data set.

    Returns:
        what is otherwise from now on.

    Raises:
        CheckpointError: it is of another training; the differences are named.
    """
    changes = find_changes(state["config"], get_identity(cfg), stage="classifier")
    differing = [str(change) for change in changes if change.effect is Effect.IDENTITY]
    if list(classes) != list(state["classes"]):
        differing.append(f"there were {len(state['classes'])} classes, are {len(classes)} (others)")
    if num_images != state.get("num_images", num_images):
        differing.append(f"there were {state['num_images']} training images, are {num_images}")
    if differing:
        raise CheckpointError(
            f"{path} is of another training: {list_changes(differing)}; give its config or another "
            "OUTPUT_DIR"
        )
    return changes


def describe_network(model: NASNet | LibraryClassifier) -> dict[str, Any]:
    """What a checkpoint says about the network whose weights it has."""
    if isinstance(model, LibraryClassifier):
        return {"network": model.network}
    trunk = model.trunk
    return {"genotype": trunk.genotype.to_dict(), "spec": asdict(trunk.spec)}


def check_same_network(
    state: Mapping[str, Any], model: NASNet | LibraryClassifier, path: Path
) -> None:
    """See that the weights of a checkpoint are those of this very network.

    Raises:
        CheckpointError: it is another network, or does not say which.
    """
    if isinstance(model, LibraryClassifier) or "network" in state:
        was = state.get("network", "")
        now = model.network if isinstance(model, LibraryClassifier) else ""
        if was != now:
            raise CheckpointError(
                f"{path} does not fit MODEL.NETWORK: it was {was!r}, is {now!r}; give the config "
                "that it was trained with"
            )
        return
    try:
        spec = NetworkSpec(**state["spec"]).validate()
        genotype = Genotype.from_dict(state["genotype"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say which network it is of: {error}") from None
    differing = find_differences(spec, genotype, model.trunk.spec, model.trunk.genotype)
    if differing:
        raise CheckpointError(
            f"{path} does not fit MODEL.NASNET: {'; '.join(differing)}; give the config that it "
            "was trained with"
        )


def write_run_info(cfg: CfgNode, command: Sequence[str], device: torch.device) -> None:
    """Record that a training starts; see :func:`~nasnet_det.runs.record.record_start`."""
    record_start(
        cfg.OUTPUT_DIR,
        cfg.dump(),
        command=command,
        seed=cfg.SEED,
        device=device,
        processes=get_world_size(),
        packages=("torch", "torchvision"),
    )


class Metrics:
    """``metrics.json``, and the same as TensorBoard's events.

    Args:
        folder: OUTPUT_DIR.
        start: iterations that are done; what was written about later ones is dropped, as these
            will be done again.
        scale: iterations that were done are counted anew, so many times as many.
    """

    def __init__(self, folder: Path, start: int, *, scale: float = 1.0) -> None:
        self._path = folder / METRICS
        drop_metrics(self._path, start + 1, scale=scale)
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add the values after an iteration.

        Raises:
            FileError: the disk is full.
        """
        append_metrics(self._path, iteration, values)
        for name, value in values.items():
            self._events.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        self._events.close()
