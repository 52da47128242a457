"""Read JSON that a person or another program may have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.schema import MisfitError
from edgeseg.core.strictjson import parse_json


def read_json_table(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a table.

    Raises:
        OSError: It is not there or may not be read.
        LimitError: It is no regular file, or far too large.
        MisfitError: It holds something else than a table in JSON; the caller says what was expected.
    """
    try:
        table = parse_json(read_regular(path, TABLE_BYTES).decode("utf-8"))
    except ValueError as error:
        raise MisfitError(str(error)) from error
    if not isinstance(table, dict):
        raise MisfitError(f"expected a table, got {type(table).__name__}")
    return table
