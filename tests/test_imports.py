"""The arrow through the package: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "nasnet_det"
DETECTRON2_USERS = ("nasnet_det.detection", "nasnet_det.cli", "tools")

LAYERS: dict[str, tuple[str, ...]] = {
    "values": (
        "errors",
        "lazy",
        "version",
        "detectron2_wheel",
        "near_names",
        "genotype",
        "published_cells",
        "canonical",
        "space",
        "plan",
        "cell_plan",
        "variants",
    ),
    "core": (
        *(
            "depthwise",
            "normalization",
            "same_padding",
            "operations",
            "drop_path",
            "cell",
            "trunk",
            "network",
            "complexity",
            "description",
        ),
        *("train_step", "evaluation"),
    ),
    "configs": ("config", "network_config"),
    "floor": ("runs", "data"),
    "shared": ("libraries", "weights", "drawing", "runtime", "prediction", "doctor"),
    "stages": ("search", "classification", "detection"),
    "readers": ("report",),
    "chain": ("detector", "pipeline"),
    "commands": ("cli", "__main__"),
}
"""The rooms of the package (a module or a folder each) by layer."""

ABOVE: dict[str, tuple[str, ...]] = {
    "values": (),
    "core": ("values",),
    "configs": ("values",),
    "floor": ("values", "configs"),
    "shared": ("values", "core", "configs", "floor"),
    "stages": ("values", "core", "configs", "floor", "shared"),
    "readers": ("values", "core", "configs", "floor", "shared"),
    "chain": ("values", "configs", "floor", "shared", "stages"),
    "commands": tuple(LAYERS)[:-1],
}
"""Layer -> the layers that its rooms may import; in its own, they may import those before them."""

APART = ("stages", "readers")
"""Layers whose rooms never import each other."""

ROOMS = {room for rooms in LAYERS.values() for room in rooms}


def find_allowed(room: str) -> set[str]:
    """The rooms that a room may import."""
    layer = next(layer for layer, rooms in LAYERS.items() if room in rooms)
    own = LAYERS[layer]
    before = () if layer in APART else own[: own.index(room)]
    return {room, *before, *(other for above in ABOVE[layer] for other in LAYERS[above])}


def _module_name(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(source: str, module: str, is_package: bool = False) -> set[str]:
    """Absolute names of all that a source imports, in functions and for types only too.

    ``from a import b`` is ``a.b``, whether ``b`` is a module or something in one.
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
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def find_room(name: str) -> str:
    """The room of a module; "" outside of the package and for the package itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else ""


def find_violations(module: str, imports: set[str]) -> list[str]:
    """The imports that break a rule, each as a sentence."""
    room = find_room(module)
    faults = []
    for name in sorted(imports):
        if _is_in(name, "detectron2") and not any(_is_in(module, u) for u in DETECTRON2_USERS):
            faults.append(f"{module} imports {name}, which only {DETECTRON2_USERS} may")
        other = find_room(name)
        if room and other in ROOMS and other not in find_allowed(room):
            faults.append(f"{module} imports {name}, which {room} may not")
        if room and _is_in(name, "tools"):
            faults.append(f"{module} imports {name}, a command")
    return faults


def find_circles(imports: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of modules that import each other, over whatever way round.

    Args:
        imports: module -> names that it imports, of modules or of what is in them.
    """
    graph = {
        module: {_find_module(name, imports) for name in names} - {module, ""}
        for module, names in imports.items()
    }
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = list(dict.fromkeys(error.args[1]))
        rest = {m: names - {circle[0]} for m, names in graph.items() if m != circle[0]}
        return [circle, *find_circles(rest)]
    return []


def _find_module(name: str, modules: Collection[str]) -> str:
    """The module that a name is, or is in; "" if it is none of these."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def _read_imports(repository: Path) -> dict[str, set[str]]:
    found = {}
    for path in [*(repository / PACKAGE).rglob("*.py"), *(repository / "tools").rglob("*.py")]:
        name = _module_name(path, repository)
        found[name] = find_imports(path.read_text(), name, path.name == "__init__.py")
    return found


def test_sources_keep_to_the_rules(repository: Path) -> None:
    imports = _read_imports(repository)
    rooms = {find_room(module) for module in imports} - {""}
    assert rooms - ROOMS == set(), "every room has its layer"
    faults = [
        fault for module, names in imports.items() for fault in find_violations(module, names)
    ]
    assert not faults, "\n".join(faults)


def test_no_modules_import_each_other(repository: Path) -> None:
    assert find_circles(_read_imports(repository)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import nasnet_det.cell",
        "def f():\n    from nasnet_det import cell",
        "if TYPE_CHECKING:\n    from nasnet_det.cell import Cell",
        "from .cell import Cell",
    ],
)
def test_a_planted_circle_is_found(line: str, repository: Path) -> None:
    imports = _read_imports(repository)
    imports["nasnet_det.drop_path"] |= find_imports(line, "nasnet_det.drop_path")
    (circle,) = find_circles(imports)
    assert set(circle) == {"nasnet_det.cell", "nasnet_det.drop_path"}


def test_long_and_several_circles_are_found() -> None:
    graph = {"a": ["b"], "b": ["c", "x"], "c": ["a"], "x": ["y"], "y": ["x"], "z": ["a", "z"]}
    assert sorted(map(sorted, find_circles(graph))) == [["a", "b", "c"], ["x", "y"]]


@pytest.mark.parametrize("name", LAYERS["values"])
def test_values_need_the_standard_library_only(name: str, repository: Path) -> None:
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
        ("nasnet_det.network", "from nasnet_det.search import space", "network may not"),
        ("nasnet_det.network", "from . import report", "network may not"),
        ("nasnet_det.search.child", "from nasnet_det import classification", "search may not"),
        ("nasnet_det.search.child", "from ..classification import loop", "search may not"),
        ("nasnet_det.report.coco", "import nasnet_det.detection.data", "report may not"),
        ("nasnet_det.cell", "import tools.describe", "a command"),
        ("nasnet_det.plan", "from nasnet_det import network", "plan may not"),
        ("nasnet_det.cell", "from nasnet_det.config import ConfigError", "cell may not"),
        ("nasnet_det.runs.files", "from nasnet_det.network import NASNet", "runs may not"),
        ("nasnet_det.runs.files", "from nasnet_det.data import coco", "runs may not"),
        ("nasnet_det.search.chain", "import nasnet_det.pipeline", "search may not"),
        ("nasnet_det.pipeline.chain", "import nasnet_det.search", None),
        ("nasnet_det.search.best", "import nasnet_det.cli.main", "search may not"),
        ("nasnet_det.cli.main", "import detectron2, nasnet_det.search", None),
        ("nasnet_det.__main__", "from nasnet_det.cli.main import main", None),
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
        "import sys; sys.modules['detectron2'] = sys.modules['torchvision'] = None\n"
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


def test_import_is_silent_and_needs_no_fvcore(repository: Path) -> None:
    code = "import sys, nasnet_det.complexity; print('fvcore' in sys.modules)"
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
