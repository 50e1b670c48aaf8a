"""What an installed package carries: the code and the configs, nothing of the checkout beside them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from nasnet_det import __version__
from nasnet_det.config import list_configs


def test_wheel_carries_all_configs_and_they_are_found(repository: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = tmp_path / "source"  # setuptools leaves a build/ folder where it works
    for folder in ("nasnet_det", "configs"):
        shutil.copytree(repository / folder, source / folder)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    subprocess.run(build, cwd=source, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"nasnet_det-{__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {f"nasnet_det/configs/{name}" for name in list_configs()} <= names
    assert "nasnet_det/configs/common/models/faster_rcnn_nasnet_fpn.py" in names
    assert "nasnet_det/detection/backbone.py" in names
    templates = (repository / "nasnet_det/report/templates").iterdir()
    assert {f"nasnet_det/report/templates/{path.name}" for path in templates} <= names
    weights = (repository / "nasnet_det/weights/files").iterdir()
    assert {f"nasnet_det/weights/files/{path.name}" for path in weights} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"nasnet_det"}

    code = (
        "import nasnet_det.config as c; name = c.list_configs()[0]\n"
        "print(c.__file__); print(c.get_config_file(name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        assert line.startswith(str(tmp_path / "site")), "not the checkout's"
