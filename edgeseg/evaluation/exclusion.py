"""Cases that are left out of figures, such as those whose labels are in doubt, by a list of their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.redact import show_name
from edgeseg.data.groups import decode_text, read_table
from edgeseg.data.reading import Case, plain_name

STEM = "stem"
_NAMED = 3


def read_stems(path: Path) -> tuple[str, ...]:
    """Read a list of case names: one in each line, or the column `stem` of a table."""
    try:
        lines = decode_text(read_regular(path, TABLE_BYTES), path).splitlines()
    except OSError as error:
        raise DataError(f"Expected a list of cases in {path}, got: {error.strerror}.", "Name a text file.") from error
    header = [cell.strip(' "') for cell in re.split("[,;\t]", lines[0])] if lines else []
    if STEM in header:
        return tuple(dict.fromkeys(row[STEM] for row in read_table(path, (STEM,))))
    stems = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not stems:
        raise DataError(
            f"Expected the name of a case in each line of {path}, got none.", "List the cases to leave out."
        )
    return stems


def leave_out(cases: Sequence[Case], stems: Collection[str], known: Collection[str], where: object) -> frozenset[str]:
    """Find which cases stay when the listed ones are left out.

    Args:
        cases: The cases.
        stems: The names of those to leave out; some may be in another part of the data.
        known: The names of all cases of the data.
        where: The list, for messages.

    Returns:
        The names of the cases that stay.

    Raises:
        DataError: A name is no case's, or no case is left.
    """
    wanted = {plain_name(stem) for stem in stems}
    unknown = sorted(wanted - {plain_name(stem) for stem in known})
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        named = ", ".join(show_name(stem[:80]) for stem in unknown[:_NAMED])
        raise DataError(
            f"Expected names of cases in {where}, got {named}{more}, which the data do not have.",
            "Correct the names: a case's name is that of its image without the ending.",
        )
    kept = frozenset(case.stem for case in cases if plain_name(case.stem) not in wanted)
    if cases and not kept:
        raise DataError(f"Expected cases that are left beside those of {where}, got none.", "List fewer cases.")
    return kept
