"""torch's files, read without running what is inside: checkpoints, weights, saved states."""

from __future__ import annotations

import os
import pickle
import zipfile
from typing import Any

import torch

from nasnet_det.runs.files import FileError


class CheckpointError(FileError):
    """A checkpoint or a file of weights that can't be read, or is not the one that was meant."""


def broken_file(path: str | os.PathLike[str]) -> CheckpointError:
    """The error for a file whose bytes make no sense to its reader."""
    return CheckpointError(f"{path} {_describe_bytes(path)}")


def refused_file(path: str | os.PathLike[str]) -> CheckpointError:
    """The error for a file that names what could run code."""
    return CheckpointError(
        f"{path} is refused: it holds Python objects, which could run code, instead of only "
        "tensors, numbers and plain containers; where you trust it, save its weights alone: "
        f"data = torch.load({os.path.basename(path)!r}, weights_only=False), then "
        "torch.save(data['state_dict'], 'weights.pth'), or data.state_dict() of a whole model"
    )


def _describe_bytes(path: str | os.PathLike[str]) -> str:
    """What a file is instead of weights."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
        if head.lstrip()[:1] == b"<":
            return "is a web page, no file of weights: download the file itself"
        if head.startswith(b"version https://git-lfs"):
            return "is a pointer of Git LFS, no file of weights: run git lfs pull"
        if head[257:262] == b"ustar":
            return "is a tar archive, no file of weights: unpack it, or save its weights anew"
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any("/code/" in name for name in archive.namelist()):
                    return (
                        "is a TorchScript program, no file of weights: save those by "
                        "torch.save(torch.jit.load(...).state_dict(), 'weights.pth')"
                    )
    except Exception:  # zipfile raises anything on broken bytes
        pass
    return "is truncated or no file of weights"


def load_tensors(path: str | os.PathLike[str], *, mmap: bool = False) -> Any:
    """Read a file of ``torch.save``: tensors (on the CPU), numbers, texts and plain containers.

    Args:
        path: of the file.
        mmap: leave the tensors on the disk until they are used. Their checksums, which take a read
            of the whole file, are not compared then; see :func:`check_sums`.

    Raises:
        CheckpointError: the file is missing, damaged or refused.
    """
    try:
        if not mmap:
            check_sums(path)
        return _load(path, mmap=mmap)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read ({error.strerror or error})") from None
    except pickle.UnpicklingError as error:
        raise (refused_file if "GLOBAL" in str(error) else broken_file)(path) from None
    except Exception:  # torch raises anything from EOFError to KeyError on broken bytes
        raise broken_file(path) from None


def _load(path: str | os.PathLike[str], *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap or None)
    except RuntimeError as error:
        if mmap and "mmap" in str(error):  # torch's format before 1.6
            return torch.load(path, map_location="cpu", weights_only=True)
        raise


def check_sums(path: str | os.PathLike[str]) -> None:
    """Compare the checksums that torch writes and does not look at; before 1.6 there were none.

    Raises:
        CheckpointError: a part is damaged.
        OSError: the file can't be read.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except zipfile.BadZipFile:
        raise broken_file(path) from None
    if broken:
        raise CheckpointError(f"{path} is damaged (checksum of {broken})")
