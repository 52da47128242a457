"""Bring the classes of labelled data into a model's order: by name, never by their place."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import Dataset
from edgeseg.data.layouts.base import UNNAMED_CLASS
from edgeseg.data.layouts.folders import number_classes
from edgeseg.data.reading import Case, CaseReader, Reading

Renaming = Mapping[str, str]
"""Classes that go by another name elsewhere: the model's name, then the other one."""

NO_NAMES = frozenset({UNNAMED_CLASS, *number_classes(1)})
"""What a single class is called where nobody gave it a name: a folder `masks`, or the only value of a label map."""


def match_classes(
    wanted: Sequence[str], found: Sequence[str], where: object, renamed: Renaming | None = None
) -> tuple[int, ...]:
    """Find the place of each of a model's classes among others of the same names.

    A single class without a name matches any other single class.

    Args:
        wanted: The model's classes.
        found: The classes to match them with.
        where: What has those, for the message.
        renamed: Classes that go by another name there.

    Returns:
        For each of the model's classes its place among the others.

    Raises:
        DataError: The names are not the same, one to one.
        UnknownNameError: A class that is to be renamed is none of the model's.
    """
    renamed = renamed or {}
    for name in renamed:
        if name not in wanted:
            raise UnknownNameError("class of the model", name, wanted)
    if not renamed and len(wanted) == len(found) == 1 and NO_NAMES & {*wanted, *found}:
        return (0,)
    names = [renamed.get(name, name) for name in wanted]
    if len({*names}) < len(names) or Counter(names) != Counter(found):
        raise _refuse(wanted, found, where)
    return tuple(list(found).index(name) for name in names)


def _refuse(wanted: Sequence[str], found: Sequence[str], where: object) -> DataError:
    lacking = [name for name in wanted if name not in found] or list(wanted)
    spare = [name for name in found if name not in wanted] or ["NAME"]
    pairs = " ".join(f"--map {shlex.quote(f'{name}={other}')}" for name, other in zip(lacking, spare, strict=False))
    return DataError(
        f"Expected the model's {len(wanted)} classes ({', '.join(wanted)}) in {where}, "
        f"got {len(found)} ({', '.join(found) or 'none'}).",
        f"Say which of them is which, the model's name first, as in: {pairs}",
    )


@dataclass(frozen=True)
class _Reordered:
    """Reads a case with its masks in another order."""

    read: CaseReader
    order: tuple[int, ...]

    def __call__(self, case: Case, colour: bool) -> Reading:
        """Read the files of a case."""
        frame, masks = self.read(case, colour)
        return frame, tuple(masks[place] for place in self.order)


def arrange_dataset(dataset: Dataset, classes: Sequence[ClassSpec], renamed: Renaming | None = None) -> Dataset:
    """Give data a model's classes in the model's order; data of other classes are refused.

    Args:
        dataset: The data.
        classes: The model's classes.
        renamed: Classes that go by another name in the data.
    """
    found = [spec.name for spec in dataset.classes]
    order = match_classes([spec.name for spec in classes], found, dataset.root, renamed)
    cases = tuple(dataclasses.replace(case, read=_Reordered(case.read, order)) for case in dataset.cases)
    return dataclasses.replace(dataset, cases=cases, classes=tuple(classes))


def parse_renaming(pairs: Sequence[str]) -> dict[str, str]:
    """Read pairs of names as they stand on the command line: MODEL_CLASS=OTHER_CLASS."""
    renamed: dict[str, str] = {}
    for pair in pairs:
        name, sign, other = (part.strip() for part in pair.partition("="))
        if not (name and sign and other) or "=" in other:
            raise ValueError(f"expected --map MODEL_CLASS=DATA_CLASS, got {pair!r}")
        if name in renamed or other in renamed.values():
            raise ValueError(f"expected every class once in --map, got {pair!r} beside another")
        renamed[name] = other
    return renamed
