"""Find recipes and boards by name: installed with the package, in the checkout, or at a path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edgeseg.core.errors import RecipeError, UnknownNameError
from edgeseg.core.limits import TABLE_BYTES, read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(__file__).resolve().parents[1]


def catalog_folder(name: str) -> Path:
    """Find a data folder: in the installed package first, then in the checkout."""
    installed = _PACKAGE / "_catalog" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def list_recipes() -> dict[str, Path]:
    """List the recipes that come with edgeseg, by name."""
    return {path.stem: path for path in sorted(catalog_folder("quantize").glob("*.toml"))}


def list_boards() -> dict[str, Path]:
    """List the boards that edgeseg knows, by name, each with its profile."""
    return {path.parent.name: path for path in sorted(catalog_folder("devices").glob("*/profile.toml"))}


def find_recipe(name: str) -> Path:
    """Find a recipe by its name or by the path of a TOML file."""
    return _find("recipe", name, list_recipes())


def find_board(name: str) -> Path:
    """Find a board's profile by its name or by the path of a TOML file."""
    return _find("board", name, list_boards())


def _find(kind: str, name: str, known: dict[str, Path]) -> Path:
    if name in known:
        return known[name]
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    raise UnknownNameError(kind, name, known)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    try:
        table: dict[str, Any] = tomllib.loads(read_regular(path, TABLE_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also of numbers and depths that Python refuses
        raise RecipeError(f"Expected TOML in {path}, got what does not parse: {error}.", "Correct the file.") from error
    return table
