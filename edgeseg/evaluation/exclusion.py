"""Cases that are left out of figures, such as those whose labels are in doubt, by a list of their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.redact import show_name
from edgeseg.data.groups import read_table
from edgeseg.data.reading import plain_name
from edgeseg.evaluation.score import ScoredCase

STEM = "stem"
_NAMED = 3


def read_stems(path: Path) -> tuple[str, ...]:
    """Read a list of case names: one in each line, or the column `stem` of a table."""
    try:
        lines = read_regular(path, TABLE_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"Expected a list of cases in {path}, got: {error.strerror}.", "Name a text file.") from error
    except UnicodeDecodeError:
        # spreadsheets write UTF-16, which the reader of tables knows
        return tuple(dict.fromkeys(row[STEM] for row in read_table(path, (STEM,))))
    header = [cell.strip(' "') for cell in re.split("[,;\t]", lines[0])] if lines else []
    if STEM in header:
        return tuple(dict.fromkeys(row[STEM] for row in read_table(path, (STEM,))))
    stems = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not stems:
        raise DataError(
            f"Expected the name of a case in each line of {path}, got none.", "List the cases to leave out."
        )
    return stems


def leave_out(
    scored: Sequence[ScoredCase], stems: Collection[str], known: Collection[str], where: object
) -> list[ScoredCase]:
    """Leave out the listed cases.

    Args:
        scored: The cases.
        stems: The names of those to leave out; some may be in another part of the data.
        known: The names of all cases of the data.
        where: The list, for messages.

    Raises:
        DataError: A name is no case's, or no case is left.
    """
    everything = {plain_name(stem) for stem in known}
    wanted = {plain_name(stem) for stem in stems}
    unknown = sorted(wanted - everything)
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        named = ", ".join(show_name(stem[:80]) for stem in unknown[:_NAMED])
        raise DataError(
            f"Expected names of cases in {where}, got {named}{more}, which the data do not have.",
            "Correct the names: a case's name is that of its image without the ending.",
        )
    kept = [case for case in scored if plain_name(case.stem) not in wanted]
    if scored and not kept:
        raise DataError(f"Expected cases that are left beside those of {where}, got none.", "List fewer cases.")
    return kept
