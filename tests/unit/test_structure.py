"""How the code is laid out: no import cycles, unique file names, files of a readable length, print in cli/ only."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "edgeseg").rglob("*.py"))
MOST_LINES = 500
SIBLINGS = {"__init__.py", "base.py", "choose.py", "dicom.py", "options.py"}
"""Names that several packages share by design: interface, choice among its implementations, format, options."""


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_module(path) for path in FILES}


def list_imports(path: Path) -> Iterator[str]:
    """All imports of a module, those in functions and under TYPE_CHECKING as well."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module for name in names if node.module in MODULES)


def test_no_module_imports_itself_through_others() -> None:
    # the package itself exports its names lazily, and modules import it for its version alone
    graph = {name_module(path): set(list_imports(path)) - {"edgeseg", name_module(path)} for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_a_file_name_is_unique_but_for_siblings() -> None:
    counts = Counter(path.name for path in FILES if path.name not in SIBLINGS)
    assert {name: count for name, count in counts.items() if count > 2} == {}


def test_no_module_is_too_long() -> None:
    lengths = {name_module(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_only_commands_print() -> None:
    printing = {
        path.relative_to(ROOT / "edgeseg").as_posix()
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {name for name in printing if not name.startswith("cli/")} == set()
