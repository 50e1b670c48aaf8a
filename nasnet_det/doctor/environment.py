"""The environment: versions that work together, Detectron2 and its compiled part, CUDA, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import torch
from packaging.requirements import InvalidRequirement, Requirement

from nasnet_det import __version__
from nasnet_det.detectron2_wheel import find_detectron2
from nasnet_det.doctor.findings import Examination, Finding, Level, sort_findings

PROJECT = "nasnet-det"
# Their own demands are checked too, since pip lets a later command break them.
CHECKED = (PROJECT, "detectron2", "torchvision", "optuna", "timm", "ray")
SHOWN = ("torch", "torchvision", "detectron2", "numpy", "pillow", "pycocotools", "optuna")
SHARED_MEMORY = "/dev/shm"  # through which data workers hand their pictures over
MIN_SHARED_BYTES = 1 << 30


def examine_environment() -> Examination:
    """Look at the Python that runs this and at its machine; nothing is downloaded."""
    facts: dict[str, Any] = {
        "Python": f"{platform.python_version()} in {sys.prefix}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        PROJECT: __version__,
        **{name: _find_version(name) or "not installed" for name in SHOWN},
        "CUDA": _describe_cuda(),
    }
    findings = [*_check_requirements(), *_check_detectron2(), *_check_cuda(), *_check_memory()]
    return Examination("environment", facts, sort_findings(findings))


def _find_version(name: str) -> str:
    """The version of an installed package; "" where it is not installed."""
    if name == "detectron2":  # also where it was put there without pip
        found = find_detectron2()
        return found[0] if found else ""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _list_requirements(name: str) -> Iterator[tuple[Requirement, str]]:
    """What a package demands here, and the extra that it demands it for; "" for always."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    extras = distribution.metadata.get_all("Provides-Extra") or []
    for text in distribution.requires or []:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        for extra in ("", *extras):
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                yield wanted, extra
                break


def _check_requirements() -> list[Finding]:
    findings = []
    missing: dict[str, list[str]] = {}
    for name in CHECKED:
        for wanted, extra in _list_requirements(name):
            version = _find_version(wanted.name)
            if not version:
                if name == PROJECT and extra not in ("dev", "docs"):
                    missing.setdefault(extra, []).append(wanted.name)
            elif not wanted.specifier.contains(version, prereleases=True) and not (
                extra and name != PROJECT
            ):
                what = f"{name}[{extra}]" if extra else name
                findings.append(
                    Finding(
                        level=Level.WARNING if extra else Level.ERROR,
                        kind="other_version",
                        file="",
                        text=f"{what} wants {wanted.name}{wanted.specifier}, and {version} is here",
                        advice=f"pip install '{wanted.name}{wanted.specifier}'",
                    )
                )
    for extra, names in missing.items():
        level = Level.NOTE if extra else Level.ERROR
        install = f"'{PROJECT}[{extra}]'" if extra else PROJECT
        text = f"not installed: {', '.join(names)}"
        advice = f"pip install {install}"
        findings.append(Finding(level, "missing_package", "", text, advice=advice))
    return findings


def _check_detectron2() -> list[Finding]:
    found = find_detectron2()
    if found is None:
        text = "Detectron2 is not installed, so there are no detectors"
        advice = f"{PROJECT} install-detectron2"
        return [Finding(Level.WARNING, "no_detectron2", "", text, advice=advice)]
    findings = []
    if not found[0].startswith("0.6"):
        text = f"Detectron2 {found[0]} is here; this project is tested with 0.6"
        findings.append(Finding(Level.WARNING, "other_version", "", text))
    if not any(found[1].glob("_C*")):
        text = "Detectron2 has no compiled part: no rotated boxes and no deformable convolutions"
        findings.append(Finding(Level.NOTE, "not_compiled", "", text))
    return findings


def _describe_cuda() -> str:
    built = torch.version.cuda
    if not torch.cuda.is_available():
        return f"torch is built for CUDA {built}, no GPU is found" if built else "none, CPU only"
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    gpus = ", ".join(f"{gpu.name} with {gpu.total_memory / 2**30:.0f} GiB" for gpu in names)
    return f"{built}, {gpus}"


def _check_cuda() -> list[Finding]:
    if not torch.cuda.is_available():
        if torch.version.cuda and shutil.which("nvidia-smi"):
            text = "torch finds no GPU, though NVIDIA's tools are here"
            advice = "see whether nvidia-smi works, and whether its driver is new enough for CUDA "
            advice += str(torch.version.cuda)
            return [Finding(Level.WARNING, "no_gpu", "", text, advice=advice)]
        return []
    kernels = torch.cuda.get_arch_list()
    findings = []
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        if not any(_runs_on(kernel, major, minor) for kernel in kernels):
            name = torch.cuda.get_device_name(number)
            text = f"this torch has no code for GPU {number}, {name} (sm_{major}{minor})"
            advice = "install a torch that has, see pytorch.org"
            findings.append(Finding(Level.ERROR, "no_kernels", "", text, advice=advice))
    return findings


def _runs_on(kernel: str, major: int, minor: int) -> bool:
    """Whether code such as ``sm_80`` runs on a GPU: that of an older minor version does, and
    ``compute_80`` is compiled for any newer GPU."""
    kind, _, digits = kernel.partition("_")
    number = "".join(filter(str.isdigit, digits))
    have = int(number[:-1] or 0), int(number[-1:] or 0)
    if kind == "compute":
        return have <= (major, minor)
    return have[0] == major and have[1] <= minor


def _check_memory() -> list[Finding]:
    try:
        size = shutil.disk_usage(SHARED_MEMORY).total
    except OSError:  # not Linux
        return []
    if size >= MIN_SHARED_BYTES:
        return []
    text = f"{SHARED_MEMORY} has {size / 2**20:.0f} MiB, and data workers die where it is full"
    advice = "docker run --shm-size=8g, or DATALOADER.NUM_WORKERS 0"
    return [Finding(Level.WARNING, "little_shared_memory", "", text, advice=advice)]
