"""Checkpoints that are whole or absent, and weights that are loaded knowingly.

What :class:`Checkpointer` adds to Detectron2's:

- a file appears under its name only when all of it is on the disk, the tag ``last_checkpoint`` too;
- a resume takes the newest *whole* checkpoint: its checksums are right, and model, trainer and
  iteration are inside;
- nothing that could run code is loaded: neither from ``.pth`` nor from ``.pkl``;
- weights that don't fit the backbone are an error instead of a training from noise.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

from nasnet_det.detection.resume import check_same_run
from nasnet_det.detection.weight_matching import (
    check_classes,
    check_detector,
    check_matches,
    check_pools,
    match_prefix,
)
from nasnet_det.runs.checkpoint import CheckpointError, check_sums
from nasnet_det.runs.files import PARTIAL, write_content, write_whole_file
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.file import METADATA_KEY, read_weights

__all__ = ["CheckpointError", "Checkpointer", "WeightsError"]

BEST_NAME = "model_best"
_NUMBERED = re.compile(r"model_(\d+)\.pth").fullmatch
# Where a moving average is ``model``, the weights that go on with the training lie under this key.
UNAVERAGED = "unaveraged"

logger = logging.getLogger(__name__)


def to_plain(value: Any) -> Any:
    """``value`` with numpy's numbers and arrays replaced, so that ``weights_only`` loads it."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, torch.Tensor | str | bytes | bool | int | float):
        return value
    raise TypeError(f"a checkpoint can't hold {type(value).__qualname__}: {value!r:.60}")


class Checkpointer(DetectionCheckpointer):
    """See the module.

    Args:
        *args, **kwargs: as in Detectron2.
        average: the moving average of the model, which is what every file has under ``model``: who
            uses a file gets it, and a training goes on with the weights that lie beside it.
        extra: goes into every file; its ``classes`` are the names of the labels.
        is_trained: what is loaded is this detector, trained: every tensor has to be there, and the
            classes have to be those of ``extra``.

    Attributes:
        resumed_from: the checkpoint that :meth:`resume_or_load` resumed from; else "".
    """

    def __init__(
        self,
        *args: Any,
        average: nn.Module | None = None,
        extra: Mapping[str, Any] | None = None,
        is_trained: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.average = average
        self.extra, self.is_trained = dict(extra or {}), is_trained
        self.resumed_from = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth`` with model, trainer and ``kwargs``; make it the last one."""
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: item.state_dict() for key, item in self.checkpointables.items()}
        if self.average is not None:
            state[UNAVERAGED] = self.model.state_dict()
        self._write(name, {**state, **kwargs})
        self.tag_last_checkpoint(f"{name}.pth")

    def save_best(self, best: Mapping[str, Any]) -> None:
        """Write ``model_best.pth`` with the model and its score; the last checkpoint stays that.

        Args:
            best: ``metric``, ``score`` and ``iteration``.
        """
        if self.save_dir and self.save_to_disk:
            self._write(BEST_NAME, {"iteration": best["iteration"], "best": dict(best)})

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        model = self.model if self.average is None else self.average
        content = {"model": model.state_dict(), **to_plain({**self.extra, **data})}
        write_whole_file(path, lambda file: torch.save(content, file))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make a file of the folder the one from which a resume starts."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        write_content(path, last_filename_basename)

    def read_best(self) -> dict[str, Any]:
        """What was given to :meth:`save_best` with the model that is in the folder; {} if none."""
        path = os.path.join(self.save_dir, f"{BEST_NAME}.pth")
        if not os.path.isfile(path):
            return {}
        try:
            return dict(read_weights(path, mmap=True).get("best") or {})
        except CheckpointError as error:
            logger.warning("%s; the next evaluation counts as the best", error)
            return {}

    def remove_old(self, number: int) -> None:
        """Remove all ``model_<iteration>.pth`` but the newest ones, in the main process.

        Args:
            number: how many stay, at least 1.
        """
        if self.save_to_disk:
            paths = {
                int(found[1]): path
                for path in Path(self.save_dir).glob("model_*.pth")
                if (found := _NUMBERED(path.name))
            }
            for iteration in sorted(paths)[:-number]:
                paths[iteration].unlink(missing_ok=True)

    def remove_partial_files(self) -> None:
        """Remove what a killed run was writing."""
        for path in Path(self.save_dir).glob(f"*{PARTIAL}"):
            path.unlink(missing_ok=True)

    def has_checkpoint(self) -> bool:
        """Whether there is something to resume from; raises as :meth:`get_checkpoint_file`."""
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """The checkpoint to resume from: the tagged one if it is whole, else the newest that is.

        Returns:
            a path, or "" where no checkpoint was ever written.

        Raises:
            CheckpointError: there are checkpoints, but none is whole.
        """
        skipped: list[str] = []
        for path in self._candidates(skipped):
            if fault := _find_fault(path, *_stamp(path)):
                skipped.append(fault)
                continue
            if skipped:
                logger.warning("%s; taking %s instead", "; ".join(skipped), path)
            return path
        if skipped:
            raise CheckpointError(
                f"{self.save_dir}: no checkpoint is whole ({'; '.join(skipped)}); start anew in "
                "another OUTPUT_DIR, or put a good file there and its name in last_checkpoint"
            )
        return ""

    def last_finite_checkpoint(self) -> str:
        """The newest whole checkpoint all of whose weights are finite numbers, or ""."""
        for path in self._by_iteration([]):
            state = {} if _find_fault(path, *_stamp(path)) else read_weights(path, mmap=True)
            floats = [v for v in state.get("model", {}).values() if v.is_floating_point()]
            if floats and all(bool(torch.isfinite(value).all()) for value in floats):
                return path
        return ""

    def _candidates(self, skipped: list[str]) -> Iterator[str]:
        """The tagged file, then the others from the newest on; faults go into ``skipped``."""
        tag = Path(self.save_dir, "last_checkpoint")
        tagged = ""
        if tag.is_file():
            name = tag.read_text(errors="replace").strip()
            tagged = os.path.join(self.save_dir, name)
            if not name:
                skipped.append("last_checkpoint is empty")
            elif not os.path.isfile(tagged):
                skipped.append(f"last_checkpoint names {name!r:.80}, which is not there")
            else:
                yield tagged
        yield from (path for path in self._by_iteration(skipped) if path != tagged)

    def _by_iteration(self, skipped: list[str]) -> list[str]:
        """All loadable ``model_*.pth`` but the best, the one with the most iterations first."""
        iterations = {}
        for path in map(str, Path(self.save_dir).glob("model_*.pth")):
            if os.path.basename(path) == f"{BEST_NAME}.pth":
                continue
            try:
                iterations[path] = read_weights(path, mmap=True)["iteration"]
            except (CheckpointError, KeyError, TypeError) as error:
                if not any(path in fault for fault in skipped):
                    missing = f"{path} has no iteration"
                    skipped.append(str(error) if isinstance(error, CheckpointError) else missing)
        return sorted(iterations, key=lambda path: iterations[path], reverse=True)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the folder if asked to and if it has a checkpoint, else load ``path``.

        All processes take the file that the first one chose.

        Raises:
            CheckpointError: no checkpoint is whole, or a file can't be loaded.
            WeightsError: the weights don't fit.
        """
        if self.save_to_disk:
            self.remove_partial_files()
        found, fault = "", None
        if resume and comm.is_main_process():
            try:
                found = self.get_checkpoint_file()
            except CheckpointError as error:
                fault = error
        found, fault = comm.all_gather((found, fault))[0]
        if fault:
            raise fault
        self.resumed_from = found
        return self.load(found) if found else self.load(path, checkpointables=[])

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Detectron2's; every fault is a :class:`CheckpointError`."""
        if path:
            self._check_exists(path)
        try:
            return super().load(path, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None  # Detectron2 leaves it set after an error

    def _check_exists(self, path: str) -> None:
        fault = ""
        try:
            if not os.path.isfile(self.path_manager.get_local_path(path.split("?")[0])):
                fault = f"weights {path}: there is no such file"
        except CheckpointError as error:
            fault = str(error)
        except Exception as error:  # a download: everything that a network can do
            fault = f"weights {path}: it can't be fetched ({' '.join(str(error).split())})"
        if fault := next(filter(None, comm.all_gather(fault)), ""):  # of any process
            raise CheckpointError(fault)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith((".pkl", ".pyth", ".safetensors")):
            return read_weights(filename)
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> dict[str, Any]:
        return read_weights(f)

    def _load_model(self, checkpoint: dict[str, Any]) -> _IncompatibleKeys:
        url: Any = self._parsed_url_during_load
        file = os.path.basename(url.path) or url.netloc  # of nasnet://NAME
        if METADATA_KEY in checkpoint or not checkpoint.get("matching_heuristics"):
            checkpoint.pop("matching_heuristics", None)
            checkpoint["model"] = match_prefix(checkpoint["model"], self.model.state_dict())
        if self.resumed_from and "config" in checkpoint and "config" in self.extra:
            check_same_run(
                checkpoint["config"],
                self.extra["config"],
                self.resumed_from,
                num_done=checkpoint["iteration"] + 1,
            )
        if self.resumed_from or self.is_trained:
            check_classes(file, checkpoint.get("classes"), self.extra.get("classes"))
        described = checkpoint.get(METADATA_KEY) or {}
        check_pools(file, described, self.model)
        check_detector(file, described, self.model)
        averaged, last = checkpoint["model"], checkpoint.pop(UNAVERAGED, None)
        goes_on = bool(self.resumed_from and last) and not self.is_trained
        if goes_on:
            checkpoint["model"] = last
        incompatible = super()._load_model(checkpoint)
        if self.average is not None:
            self.average.load_state_dict(averaged if goes_on else self.model.state_dict())
        check_matches(
            file,
            incompatible,
            list(self.model.state_dict()),
            exact=self.resumed_from,
            complete=self.is_trained,
        )
        return incompatible

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        """Nothing: :func:`check_matches` has said it in one line."""


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=64)  # a resume asks more than once, and the checksums take a while
def _find_fault(path: str, _mtime_ns: int, _size: int) -> str:
    """Why a file is not a whole checkpoint, or ""."""
    try:
        state = read_weights(path, mmap=True)
        check_sums(path)
    except (CheckpointError, OSError) as error:
        return str(error)
    missing = [key for key in ("model", "trainer", "iteration") if key not in state]
    return f"{path} is not a checkpoint of a training (no {missing[0]})" if missing else ""
