"""The arrow through the package: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "nasnet_det"
STAGES = ("search", "classification", "detection", "report")
DETECTRON2_USERS = ("nasnet_det.detection", "tools")

# Each core module may import the ones before it.
CORE_ORDER = (
    *("errors", "lazy", "genotype", "canonical", "space", "plan", "variants"),
    *("operations", "drop_path", "cell", "network", "complexity", "description"),
)


def _module_name(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(source: str, module: str, is_package: bool = False) -> set[str]:
    """Absolute names of all modules that a source imports, inside functions too.

    ``from a import b`` counts as ``a`` and as ``a.b``, since ``b`` may be a module.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join([*above, base] if base else above)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def find_violations(module: str, imports: set[str]) -> list[str]:
    """The imports that break a rule, each as a sentence."""
    stages = [f"{PACKAGE}.{stage}" for stage in STAGES]
    own_stage = next((stage for stage in stages if _is_in(module, stage)), None)
    in_package = _is_in(module, PACKAGE)
    faults = []
    for name in sorted(imports):
        if _is_in(name, "detectron2") and not any(_is_in(module, u) for u in DETECTRON2_USERS):
            faults.append(f"{module} imports {name}, which only {DETECTRON2_USERS} may")
        stage = next((s for s in stages if _is_in(name, s)), None)
        if in_package and stage is not None and stage != own_stage:
            kind = "stage" if own_stage else "core module"
            faults.append(f"{kind} {module} imports the stage {stage}")
        if in_package and _is_in(name, "tools"):
            faults.append(f"{module} imports {name}, a command")
    return faults


def _sources(repository: Path) -> list[Path]:
    return sorted([*(repository / PACKAGE).rglob("*.py"), *(repository / "tools").rglob("*.py")])


def test_sources_keep_to_the_arrow(repository: Path) -> None:
    sources = _sources(repository)
    assert len(sources) >= len(CORE_ORDER)
    faults = []
    for path in sources:
        module = _module_name(path, repository)
        imports = find_imports(path.read_text(), module, path.name == "__init__.py")
        faults += find_violations(module, imports)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", CORE_ORDER)
def test_core_modules_import_only_those_before_them(name: str, repository: Path) -> None:
    path = repository / PACKAGE / f"{name}.py"
    imports = find_imports(path.read_text(), f"{PACKAGE}.{name}")
    own = {i.split(".")[1] for i in imports if i.startswith(PACKAGE + ".")}
    assert own <= set(CORE_ORDER[: CORE_ORDER.index(name)])


@pytest.mark.parametrize("name", ["errors", "lazy", "genotype"])
def test_some_need_the_standard_library_only(name: str, repository: Path) -> None:
    source = (repository / PACKAGE / f"{name}.py").read_text()
    imports = find_imports(source, f"{PACKAGE}.{name}")
    assert {i.split(".")[0] for i in imports} <= {*sys.stdlib_module_names, PACKAGE}


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        (
            "nasnet_det.cell",
            "import detectron2.config",
            "nasnet_det.cell imports detectron2.config",
        ),
        ("nasnet_det.cell", "def f():\n    from detectron2 import model_zoo", "detectron2"),
        ("nasnet_det.search.ppo", "from detectron2.layers import ShapeSpec", "detectron2"),
        ("nasnet_det.network", "from nasnet_det.search import space", "core module nasnet_det.net"),
        ("nasnet_det.network", "from . import report", "core module nasnet_det.network imports"),
        ("nasnet_det.search.child", "from nasnet_det import classification", "stage nasnet_det.se"),
        ("nasnet_det.search.child", "from ..classification import loop", "stage nasnet_det.search"),
        ("nasnet_det.report.coco", "import nasnet_det.detection.data", "imports the stage nasnet"),
        ("nasnet_det.cell", "import tools.describe", "a command"),
        ("nasnet_det.network", "from nasnet_det import cell", None),
        ("nasnet_det.search.ppo", "from .space import decode\nfrom ..genotype import Block", None),
        ("nasnet_det.detection.backbone", "from detectron2.modeling import Backbone", None),
        ("tools.train_net", "import detectron2\nimport nasnet_det.detection", None),
        ("nasnet_det.detections", "import nasnet_det.searching, detectron2x", None),
    ],
)
def test_rules_find_what_they_are_for(module: str, source: str, fault: str | None) -> None:
    faults = find_violations(module, find_imports(source, module))
    if fault is None:
        assert not faults
    else:
        assert faults
        assert fault in faults[0]


def _run(code: str, repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_core_works_where_detectron2_can_not_be_imported(repository: Path) -> None:
    code = (
        "import sys; sys.modules['detectron2'] = None\n"
        "import torch, nasnet_det\n"
        "model = nasnet_det.create_model('nasnet_a_mobile', 3, channels=8, num_cells_per_stage=1)\n"
        "assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)\n"
        "for stage in ('search', 'classification', 'detection', 'report'):\n"
        "    assert f'nasnet_det.{stage}' not in sys.modules, stage\n"
        "print('built')\n"
        "import detectron2\n"
    )
    done = _run(code, repository)
    assert done.stdout == "built\n", done.stderr
    assert "import of detectron2 halted" in done.stderr, "it was really unimportable"


def test_import_is_silent_and_leaves_fvcore_for_the_count(repository: Path) -> None:
    code = "import sys, nasnet_det.network; print('fvcore' in sys.modules)"
    done = _run(code, repository)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_values_need_no_torch(repository: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import nasnet_det\n"
        "import nasnet_det.canonical, nasnet_det.network_config\n"
        "from nasnet_det.space import SearchSpace\n"
        "assert SearchSpace(num_blocks=1).count_architectures() > 1\n"
        "from nasnet_det.variants import resolve_variant\n"
        "spec, genotype = resolve_variant(nasnet_det.list_models()[0])\n"
        "print(len(nasnet_det.plan_cells(spec, genotype)))\n"
        "nasnet_det.create_model\n"
    )
    done = _run(code, repository)
    assert done.stdout == "19\n", done.stderr
    assert "import of torch halted" in done.stderr, "it was really unimportable"


def test_names_of_the_package_are_there_when_used(repository: Path) -> None:
    code = (
        "import nasnet_det\n"
        "assert set(nasnet_det.__all__) <= set(dir(nasnet_det))\n"
        "assert all(getattr(nasnet_det, name) is not None for name in nasnet_det.__all__)\n"
        "print(sorted(n for names in nasnet_det._MODULES.values() for n in names)"
        " == sorted(nasnet_det.__all__))\n"
        "nasnet_det.creat_model\n"
    )
    done = _run(code, repository)
    assert done.stdout == "True\n", done.stderr
    assert "AttributeError: module 'nasnet_det' has no attribute 'creat_model'" in done.stderr
