"""Match the classes of labelled data to a model's classes: by name, never by index."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import Dataset
from edgeseg.data.layouts.base import UNNAMED_CLASS, number_classes
from edgeseg.data.reading import Case, CaseReader, Reading, WeakReader
from edgeseg.data.weak_labels import WeakLabels

# A model's class name to the data's name of the same class.
Renaming = Mapping[str, str]

# Names of a single class that nobody named: a folder `masks`, or the only value of a label map.
DEFAULT_NAMES = frozenset({UNNAMED_CLASS, *number_classes(1)})


def match_classes(
    wanted: Sequence[str], found: Sequence[str], where: object, renamed: Renaming | None = None
) -> tuple[int, ...]:
    """Find the index of each of a model's classes among other classes.

    A single class with a default name matches any other single class.

    Args:
        wanted: The model's classes.
        found: The classes to match them with.
        where: What has those classes, for the message.
        renamed: Classes with another name there.

    Returns:
        For each of the model's classes its index in `found`.

    Raises:
        DataError: The names do not match one to one.
        UnknownNameError: `renamed` names a class that the model does not have.
    """
    renamed = renamed or {}
    for name in renamed:
        if name not in wanted:
            raise UnknownNameError("class of the model", name, wanted)
    if not renamed and len(wanted) == len(found) == 1 and DEFAULT_NAMES & {*wanted, *found}:
        return (0,)
    names = [renamed.get(name, name) for name in wanted]
    # two classes of the model must not share one of the data
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
        f"Map the names, the model's first, for example: {pairs}",
    )


def arrange_dataset(dataset: Dataset, classes: Sequence[ClassSpec], renamed: Renaming | None = None) -> Dataset:
    """Return a data set with a model's classes, in the model's order.

    Args:
        dataset: The data.
        classes: The model's classes.
        renamed: Classes with another name in the data.

    Raises:
        DataError: The data have other classes.
    """
    found = [spec.name for spec in dataset.classes]
    order = match_classes([spec.name for spec in classes], found, dataset.root, renamed)
    cases = tuple(
        dataclasses.replace(
            case,
            read=_ReorderedReader(case.read, order),
            read_weak=None if case.read_weak is None else _ReorderedWeakReader(case.read_weak, order),
        )
        for case in dataset.cases
    )
    return dataclasses.replace(dataset, cases=cases, classes=tuple(classes))


@dataclass(frozen=True)
class _ReorderedReader:
    """Reads a case with its masks in another order."""

    read: CaseReader
    order: tuple[int, ...]

    def __call__(self, case: Case, colour: bool) -> Reading:
        frame, masks = self.read(case, colour)
        return frame, tuple(masks[index] for index in self.order)


@dataclass(frozen=True)
class _ReorderedWeakReader:
    """Reads the weak labels of a case with its classes in another order."""

    read: WeakReader
    order: tuple[int, ...]

    def __call__(self, case: Case, size: tuple[int, int]) -> WeakLabels | None:
        weak = self.read(case, size)
        return None if weak is None else weak.reorder(self.order)


def parse_renaming(pairs: Sequence[str]) -> dict[str, str]:
    """Parse the pairs MODEL_CLASS=DATA_CLASS of the command line."""
    renamed: dict[str, str] = {}
    for pair in pairs:
        name, sign, other = (part.strip() for part in pair.partition("="))
        if not (name and sign and other) or "=" in other:
            raise ValueError(f"expected --map MODEL_CLASS=DATA_CLASS, got {pair!r}")
        if name in renamed or other in renamed.values():
            raise ValueError(f"expected every class once in --map, got {pair!r} beside another")
        renamed[name] = other
    return renamed
