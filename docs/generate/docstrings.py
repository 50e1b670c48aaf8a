"""What is public in the package and has no docstring, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "nasnet_det"
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def find_missing(package: Path = PACKAGE) -> list[str]:
    """Modules, and the classes and functions at their top, that are public and say nothing."""
    missing = []
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        missing += [f"{name}{member}" for member in _find(ast.parse(path.read_text()))]
    return missing


def _find(module: ast.Module) -> Iterator[str]:
    if ast.get_docstring(module) is None:
        yield ""
    for node in module.body:
        if not isinstance(node, DEFINITIONS) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f".{node.name}"
