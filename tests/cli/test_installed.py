"""The installed wheel, in an environment without a checkout: from nothing to a detector's report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from tiny_detection import write_tiny_config, write_tiny_dataset

HIDDEN = ("nasnet_det", "__editable__", "detectron2")


def _link_packages(folder: Path) -> None:
    """This environment's packages, but for the project and Detectron2, so none is downloaded."""
    folder.mkdir()
    for name in ("purelib", "platlib"):
        for path in Path(sysconfig.get_paths()[name]).iterdir():
            link = folder / path.name
            if not path.name.startswith(HIDDEN) and path.suffix != ".pth" and not link.exists():
                link.symlink_to(path)


def _build_wheel(repository: Path, folder: Path) -> Path:
    source = folder / "source"  # setuptools leaves a build/ folder where it works
    for name in ("nasnet_det", "configs"):
        shutil.copytree(repository / name, source / name)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q"]
    options = ["--no-deps", "--no-build-isolation", "-w", str(folder / "dist"), "."]
    subprocess.run([*pip, *options], cwd=source, check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.mark.slow
def test_wheel_trains_predicts_and_reports_without_a_checkout(
    repository: Path, tmp_path: Path
) -> None:
    wheel = _build_wheel(repository, tmp_path)
    packages, environment = tmp_path / "packages", tmp_path / "environment"
    _link_packages(packages)
    venv.create(environment, with_pip=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(environment / "bin" / str(words[0])), *map(str, words[1:])],
            env=inherited | {"OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    run("pip", "uninstall", "-y", "setuptools")  # the environment's own is too old for torch
    done = run("pip", "install", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    where = run("python", "-c", "import nasnet_det; print(nasnet_det.__file__)").stdout
    assert where.startswith(str(site))
    done = run("nasnet-det", "install-detectron2")
    if "could not download" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr

    files = write_tiny_dataset(tmp_path / "data")
    output, config = tmp_path / "run", write_tiny_config(tmp_path)
    done = run("nasnet-det", "train", "--config-file", config, *files, "OUTPUT_DIR", output)
    assert done.returncode == 0, done.stderr
    weights = ["MODEL.WEIGHTS", output / "model_final.pth"]
    done = run(
        *("nasnet-det", "predict", "--config-file", output / "config.yaml"),
        *("--input", tmp_path / "data", "--output", tmp_path / "found", *weights),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found/predictions.json").read_text())
    assert len(found["images"]) == 6
    assert [category["name"] for category in found["categories"]] == ["first", "second"]
    done = run("nasnet-det", "report", output, "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "report/report.json").read_text())["runs"]
    assert row["cost"]
    assert (tmp_path / "report/report.html").stat().st_size > 10_000
