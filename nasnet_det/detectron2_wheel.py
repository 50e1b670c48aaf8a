"""Detectron2 0.6 as a wheel, made of the copy of its Python code that another package carries.

Detectron2 publishes no package on PyPI. The package LabGym carries a copy of its Python
code under another name (``LabGym.detectron2``). This takes that copy out of LabGym's wheel, gives
it back its name, and installs it as an ordinary wheel: ``pip uninstall detectron2`` removes it.

Standard library only: it runs before anything else is installed.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nasnet_det.errors import InputError

ORIGIN = "LabGym"
ORIGIN_VERSION = "3.1.2"
ORIGIN_SHA256 = "a2900cff8a3fb508e1975f19b5f9abd9f261966db87b0c332697fb4138c1cb2b"

PLAN = f"""\
Installing Detectron2 0.6 into {sys.prefix}
  from:     the wheel of {ORIGIN} {ORIGIN_VERSION} on PyPI, which carries a copy of its Python code
  licence:  Apache-2.0, copyright Facebook, Inc. and its affiliates
  state:    upstream's Python code of January 2024, without the compiled detectron2._C: rotated
            boxes and deformable convolutions are not available"""

OTHERWISE = (
    "or pass a downloaded LabGym wheel with --wheel FILE, or install Detectron2 yourself from its "
    "repository"
)

METADATA = f"""\
Metadata-Version: 2.1
Name: detectron2
Version: 0.6
Summary: Detectron2, its Python code only, taken from the wheel of {ORIGIN} {ORIGIN_VERSION}
Home-page: https://github.com/facebookresearch/detectron2
Author: FAIR
License: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.7
Requires-Dist: Pillow>=7.1
Requires-Dist: black
Requires-Dist: cloudpickle
Requires-Dist: fvcore<0.1.6,>=0.1.5
Requires-Dist: hydra-core>=1.1
Requires-Dist: iopath>=0.1.7
Requires-Dist: matplotlib
Requires-Dist: numpy
Requires-Dist: omegaconf<2.4,>=2.1
Requires-Dist: packaging
Requires-Dist: pycocotools>=2.0.2
Requires-Dist: setuptools<81
Requires-Dist: tabulate
Requires-Dist: tensorboard
Requires-Dist: termcolor>=1.1
Requires-Dist: torch
Requires-Dist: torchvision
Requires-Dist: tqdm>4.29.0
Requires-Dist: yacs>=0.1.8
Description-Content-Type: text/plain

Built by nasnet-det install-detectron2 from the folder {ORIGIN}/detectron2 of the wheel
{ORIGIN} {ORIGIN_VERSION} (sha256 {ORIGIN_SHA256}).
Changed: its name, {ORIGIN}.detectron2, is detectron2 again.
Copyright (c) Facebook, Inc. and its affiliates, under the Apache License, Version 2.0.
detectron2.model_zoo needs pkg_resources, hence setuptools<81.
"""

WHEEL = """\
Wheel-Version: 1.0
Generator: nasnet-det install-detectron2
Root-Is-Purelib: true
Tag: py3-none-any
"""


class InstallError(InputError):
    """Detectron2 is not installed; the message says what failed and what to do."""


def find_detectron2() -> tuple[str, Path] | None:
    """The version and the folder of the Detectron2 that is there, None if there is none.

    It is not imported: that takes seconds and could fail.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:  # no origin: a folder of that name, not a package
        return None
    source = Path(spec.origin).read_text(encoding="utf-8", errors="replace")
    version = re.search(r"""^__version__\s*=\s*["'](.+?)["']""", source, re.MULTILINE)
    return version.group(1) if version else "of unknown version", Path(spec.origin).parent


def download(folder: Path) -> Path:
    """Let pip fetch LabGym's wheel, and only that file, and check its hash.

    Raises:
        InstallError: pip could not.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{ORIGIN}=={ORIGIN_VERSION} --hash=sha256:{ORIGIN_SHA256}\n")
    # LabGym itself declares old Pythons only; the copy of Detectron2 runs on newer ones too.
    options = ["--no-deps", "--ignore-requires-python", "--only-binary=:all:", "--require-hashes"]
    run_pip(
        ["download", *options, "--dest", str(folder), "-r", str(requirements)],
        f"pip could not download {ORIGIN} {ORIGIN_VERSION} with the expected hash (its message is "
        f"above): check the network and run this again, {OTHERWISE}",
    )
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise InstallError(f"pip downloaded no wheel: run this again, {OTHERWISE}")
    return wheel


def run_pip(arguments: Sequence[str], failure: str) -> None:
    """Run this Python's pip; all it says goes to stdout, so stderr holds our sentence only."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    sys.stdout.flush()
    done = subprocess.run([*command, *arguments], stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise InstallError(failure)


def check_hash(wheel: Path) -> None:
    """Raise InstallError unless a file is LabGym's wheel, byte for byte."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != ORIGIN_SHA256:
        raise InstallError(
            f"{wheel} is not the wheel of {ORIGIN} {ORIGIN_VERSION}, or only a part of it "
            f"(sha256 {found}, wanted {ORIGIN_SHA256}): download it again, {OTHERWISE}"
        )


def rename(text: str) -> str:
    """Give the copy its own name back, in imports, in names inside strings and in paths."""
    text = re.sub(rf"\bfrom {ORIGIN} import detectron2\b", "import detectron2", text)
    return re.sub(rf"\b{ORIGIN}[./]detectron2\b", "detectron2", text)


def read_package(labgym: Path) -> dict[str, bytes]:
    """The files of Detectron2 in LabGym's wheel by their new paths, renamed.

    Raises:
        InstallError: the wheel holds none, or a name that ``rename`` does not know.
    """
    prefix = f"{ORIGIN}/detectron2/"
    files = {}
    with zipfile.ZipFile(labgym) as archive:
        for name in archive.namelist():
            if not name.startswith(prefix) or name.endswith("/"):
                continue
            data = archive.read(name)
            if name.endswith((".py", ".yaml")):
                data = rename(data.decode()).encode()
                if ORIGIN.encode() in data:
                    raise InstallError(f"{name} still names {ORIGIN}: {labgym} is not as expected")
            files[f"detectron2/{name.removeprefix(prefix)}"] = data
    if "detectron2/__init__.py" not in files:
        raise InstallError(f"{labgym} carries no Detectron2: download it again, {OTHERWISE}")
    return files


def build_wheel(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write a wheel of these files into a folder; the same files give the same bytes."""
    info = "detectron2-0.6.dist-info"
    content = {
        **dict(sorted(files.items())),
        f"{info}/LICENSE": read_license(),
        f"{info}/METADATA": METADATA.encode(),
        f"{info}/WHEEL": WHEEL.encode(),
    }
    record = [f"{name},sha256={encode_sha256(d)},{len(d)}" for name, d in content.items()]
    record.append(f"{info}/RECORD,,\n")
    content[f"{info}/RECORD"] = "\n".join(record).encode()
    wheel = folder / "detectron2-0.6-py3-none-any.whl"
    # Stored, not compressed, since other versions of zlib give other bytes.
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # a file on Unix
            archive.writestr(entry, data)
    return wheel


def read_license() -> bytes:
    """The text of the Apache License, which this package has too.

    Raises:
        InstallError: it is not there.
    """
    try:
        files = importlib.metadata.files("nasnet-det") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.name == "LICENSE"]
    for path in (*paths, Path(__file__).resolve().parents[1] / "LICENSE"):  # or of a checkout
        if path.is_file():
            return path.read_bytes()
    raise InstallError("the licence is missing from the package nasnet-det: install that again")


def encode_sha256(data: bytes) -> str:
    """A hash as RECORD writes it: base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def install_detectron2(wheel: Path | None = None, *, tell: Callable[[str], object] = print) -> None:
    """Install Detectron2 into the Python that runs this, unless it has a Detectron2 already.

    Args:
        wheel: LabGym's; None to download it.
        tell: takes the lines that say what is done.

    Raises:
        InstallError: a step failed; nothing is installed then.
    """
    found = find_detectron2()
    if found:
        tell(f"Detectron2 {found[0]} is there already, in {found[1]}; left as it is.")
        return
    tell(PLAN)
    try:
        _install(wheel)
    except InstallError as error:
        raise InstallError(f"Detectron2 is not installed: {error}.") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InstallError(
            f"Detectron2 is not installed: {error}; mend that and run this again, {OTHERWISE}."
        ) from None


def _install(wheel: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labgym = wheel or download(folder)
        check_hash(labgym)
        built = build_wheel(read_package(labgym), folder)
        run_pip(
            ["install", str(built)],  # and what it needs, where that is missing
            f"pip could not install the wheel, or what it needs, into {sys.prefix} (its message is "
            "above): mend that and run this again, or install Detectron2 yourself from its "
            "repository",
        )
