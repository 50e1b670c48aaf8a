"""The command that installs Detectron2: what it builds, and what it says where it can not."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from email.parser import Parser
from pathlib import Path

import pytest

from nasnet_det.detectron2_wheel import InstallError, build_wheel, read_package, rename

INIT = 'from .config import get_cfg\n\n__version__ = "0.6"\n'
CONFIG = (
    "from LabGym.detectron2.layers import cat\n"
    "import LabGym.detectron2.data.transforms as T\n"
    "from LabGym import detectron2\n"
    'name = "LabGym.detectron2." + "config"  # LabGym/detectron2/config.py\n'
)
RENAMED = (
    "from detectron2.layers import cat\n"
    "import detectron2.data.transforms as T\n"
    "import detectron2\n"
    'name = "detectron2." + "config"  # detectron2/config.py\n'
)
FILES = {
    "LabGym/__init__.py": "raise ImportError('LabGym itself is not wanted')\n",
    "LabGym/detectron2/__init__.py": INIT,
    "LabGym/detectron2/config.py": CONFIG,
    "LabGym/detectron2/model_zoo/configs/Base.yaml": "VERSION: 2\n",
    "LabGym-3.1.2.dist-info/METADATA": "Name: LabGym\n",
}


def _write_labgym(path: Path, files: Mapping[str, str] = FILES) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def labgym(tmp_path: Path) -> Path:
    """A wheel with the layout of LabGym's."""
    return _write_labgym(tmp_path / "labgym-3.1.2-py3-none-any.whl")


@pytest.fixture
def run_tool(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the tool in a Python with no Detectron2, whose pip knows no index and no network.

    ``-S`` hides this environment's packages, a Detectron2 among them, from the tool; the pip that
    it starts is this environment's.
    """
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*arguments: str, packages: str = "") -> subprocess.CompletedProcess[str]:
        path = filter(None, (packages, str(repository)))
        inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(empty), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [sys.executable, "-S", "-m", "nasnet_det", "install-detectron2", *arguments],
            env={**inherited, **pip, "PYTHONPATH": os.pathsep.join(path)},
            cwd=empty,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def _assert_one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("nasnet-det install-detectron2: Detectron2 is not installed: ")
    assert done.stderr.count("\n") == 1
    assert "--wheel FILE" in done.stderr, "it says what to do"
    for part in parts:
        assert part in done.stderr
    assert "Successfully installed" not in done.stdout


def test_rename_knows_each_form() -> None:
    assert rename(CONFIG) == RENAMED
    assert rename("import MyLabGym.detectron2, LabGym.detectron2x") == (
        "import MyLabGym.detectron2, LabGym.detectron2x"
    )


def test_package_holds_the_files_of_detectron2_only(labgym: Path) -> None:
    assert read_package(labgym) == {
        "detectron2/__init__.py": INIT.encode(),
        "detectron2/config.py": RENAMED.encode(),
        "detectron2/model_zoo/configs/Base.yaml": b"VERSION: 2\n",
    }


def test_package_with_the_old_name_left_is_refused(tmp_path: Path) -> None:
    files = {**FILES, "LabGym/detectron2/utils.py": "import LabGym.tools\n"}
    with pytest.raises(InstallError, match=r"LabGym/detectron2/utils\.py still names LabGym"):
        read_package(_write_labgym(tmp_path / "other.whl", files))


def test_wheel_without_detectron2_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="carries no Detectron2"):
        read_package(_write_labgym(tmp_path / "other.whl", {"LabGym/__init__.py": ""}))


def test_wheel_has_metadata_and_licence(labgym: Path, tmp_path: Path) -> None:
    wheel = build_wheel(read_package(labgym), tmp_path)
    assert wheel.name == "detectron2-0.6-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read("detectron2-0.6.dist-info/METADATA").decode())
        tags = archive.read("detectron2-0.6.dist-info/WHEEL").decode()
        assert b"Apache License" in archive.read("detectron2-0.6.dist-info/LICENSE")
        assert archive.testzip() is None
    assert (metadata["Name"], metadata["Version"]) == ("detectron2", "0.6")
    assert metadata["License"] == "Apache-2.0"
    assert "omegaconf<2.4,>=2.1" in metadata.get_all("Requires-Dist", [])
    assert "LabGym 3.1.2" in metadata.get_payload(), "it says where it comes from"
    assert "Root-Is-Purelib: true\nTag: py3-none-any\n" in tags


def test_record_lists_every_file_with_its_hash(labgym: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(read_package(labgym), tmp_path)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    record = "detectron2-0.6.dist-info/RECORD"
    rows = {name: (h, size) for name, h, size in csv.reader(io.StringIO(content[record].decode()))}
    assert rows.keys() == content.keys()
    assert rows.pop(record) == ("", "")
    for name, (written, size) in rows.items():
        method, _, encoded = written.partition("=")
        assert method == "sha256"
        padded = encoded + "=" * (-len(encoded) % 4)
        assert base64.urlsafe_b64decode(padded) == hashlib.sha256(content[name]).digest()
        assert int(size) == len(content[name])


def test_wheel_is_the_same_whenever_and_in_whatever_order_it_is_built(
    labgym: Path, tmp_path: Path
) -> None:
    os.utime(labgym, (0, 0))
    (tmp_path / "again").mkdir()
    backwards = dict(reversed(FILES.items()))
    again = _write_labgym(tmp_path / "again" / "labgym.whl", backwards)
    first = build_wheel(read_package(labgym), tmp_path).read_bytes()
    assert build_wheel(read_package(again), tmp_path / "again").read_bytes() == first


def test_pip_installs_the_wheel_into_a_folder(labgym: Path, tmp_path: Path) -> None:
    wheel = build_wheel(read_package(labgym), tmp_path)
    target = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    assert (target / "detectron2" / "config.py").read_text() == RENAMED
    assert (target / "detectron2" / "model_zoo" / "configs" / "Base.yaml").exists()


def test_wrong_wheel_gives_one_sentence(
    run_tool: Callable[..., subprocess.CompletedProcess[str]], labgym: Path
) -> None:
    done = run_tool("--wheel", str(labgym))
    found = hashlib.sha256(labgym.read_bytes()).hexdigest()
    _assert_one_sentence(done, str(labgym), found, "download it again")
    for word in ("LabGym 3.1.2 on PyPI", "Apache-2.0", "January 2024", "detectron2._C"):
        assert word in done.stdout, "it said what it was about to install"


def test_missing_wheel_gives_one_sentence(
    run_tool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    _assert_one_sentence(run_tool("--wheel", str(tmp_path / "none.whl")), "none.whl", "No such")


def test_failed_download_gives_one_sentence(
    run_tool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_tool()
    _assert_one_sentence(done, "could not download LabGym 3.1.2", "check the network")


def test_wrong_option_gives_one_sentence(
    run_tool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_tool("--wheels", "x")
    assert done.returncode == 2
    assert done.stderr == "nasnet-det install-detectron2: unrecognized arguments: --wheels x\n"


def test_detectron2_that_is_there_is_left_alone(
    run_tool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    package = tmp_path / "own" / "detectron2"
    package.mkdir(parents=True)
    source = 'raise RuntimeError("imported")\n__version__ = "0.7.dev"\n'
    (package / "__init__.py").write_text(source)
    done = run_tool(packages=str(package.parent))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Detectron2 0.7.dev is there already, in {package}; left as it is.\n"
    assert [path.name for path in package.iterdir()] == ["__init__.py"]
    assert (package / "__init__.py").read_text() == source
