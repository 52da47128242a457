"""Go on with a compression that was killed: every file that was finished stays, if the question is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeseg.compress.recipe import Recipe
from edgeseg.core.errors import RunError
from edgeseg.core.files import refuse_taken, staged_folder, write_json
from edgeseg.core.schema import to_plain
from edgeseg.evaluate.classes import Renaming
from edgeseg.train.partial import COMPRESSION, PLAN, find_partial, read_plan
from edgeseg.train.run import RECORD, WEIGHTS


def begin_plan(
    folder: Path, run: Path, recipes: Sequence[Recipe], teacher: Path | None, renamed: Renaming | None = None
) -> None:
    """Write down what is to be made, or compare it with what an interrupted compression was to make."""
    plan: dict[str, Any] = {
        "run": fingerprint_run(run),
        "teacher": fingerprint_run(teacher) if teacher is not None else None,
        "recipes": to_plain(recipes),
        **({"map": dict(renamed)} if renamed else {}),
    }
    path = folder / PLAN
    if not path.is_file():
        write_json(path, plan)
        return
    before = read_plan(folder)
    changed = [key for key in sorted({*plan, *before}) if before.get(key) != plan.get(key)]
    if changed:
        raise RunError(
            f"Expected the same {' and '.join(changed)} as the interrupted compression in {folder}, got another.",
            "Give what it was begun with, or begin again with --overwrite.",
        )


@contextmanager
def open_folder(out: Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Let the result's folder grow; when it is interrupted, its finished files stay for the next time.

    Args:
        out: The final folder.
        overwrite: Whether what stands there may be replaced.
        resume: Whether to go on with what an interruption left.
    """
    if not resume:
        refuse_taken(out, overwrite, "compression")
    else:
        resume = find_partial(out, COMPRESSION).expect(COMPRESSION)
    with staged_folder(out, overwrite, keep_partial=True, go_on=resume) as folder:
        yield folder


def fingerprint_run(run: Path) -> str:
    """Say which training a run is the result of."""
    digest = hashlib.sha256()
    for name in (RECORD, WEIGHTS):
        digest.update((run / name).read_bytes())
    return digest.hexdigest()
