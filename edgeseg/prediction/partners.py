"""Which image files are the modalities of one frame, found by the rules of labelled data (docs/decisions/0073)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core.spec import InputSpec
from edgeseg.data.layouts.folders import FIRST, NAMES, read_names
from edgeseg.data.layouts.nnunet import CHANNEL, TABLE, read_channel_names
from edgeseg.frame.images import list_images
from edgeseg.prediction.inputs import Item


@dataclass(frozen=True)
class _Group:
    """The files of one frame, by modality; `key` tells it from all others."""

    key: tuple[Path, str]
    files: Mapping[str, Path]


def join_partners(items: Sequence[Item], spec: InputSpec) -> tuple[Item, ...]:
    """Join the files that are modalities of one frame to one item, named as that of the first modality.

    A file whose partners are not there keeps a problem, with which opening it fails.

    Args:
        items: As `list_inputs` gives them.
        spec: The model's input; without modalities nothing is joined.

    Raises:
        DataError: The names of the modalities in a folder cannot be read.
    """
    if not spec.modalities:
        return tuple(items)
    finder = _Finder(spec)
    joined: dict[object, Item] = {}
    for item in items:
        group = finder.find(item.path) if item.kind == "image" else None
        if group is None:
            joined[item.path] = _name_problem(item, spec)
            continue
        is_first = item.path == group.files.get(spec.modalities[0])
        if is_first or group.key not in joined:
            joined[group.key] = _join(item, group, spec)
    return tuple(joined.values())


def _name_problem(item: Item, spec: InputSpec) -> Item:
    """Refuse a file that can hold one modality only, where the model takes several."""
    if not spec.is_stack:
        return item
    names = ", ".join(spec.modalities)
    got = f"{Path(item.name).name} without a partner" if item.kind == "image" else f"a {item.kind} that holds one"
    return dataclasses.replace(item, problem=f"Expected a picture of each of the modalities {names}, got {got}.")


def _join(item: Item, group: _Group, spec: InputSpec) -> Item:
    lacking = [name for name in spec.modalities if name not in group.files]
    if lacking:
        problem = f"Expected {' and '.join(lacking)} beside {Path(item.name).name}, got no such file."
        return dataclasses.replace(item, problem=problem)
    return dataclasses.replace(item, pictures=tuple(group.files[name] for name in spec.modalities), spec=spec)


class _Finder:
    """Finds the partners of a file, and reads every folder once."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._files: dict[Path, dict[str, Path]] = {}
        self._folders: dict[Path, dict[str, Path]] = {}
        self._channels: dict[Path, tuple[str, ...]] = {}

    def find(self, path: Path) -> _Group | None:
        """Find the files beside one that show the same frame; None where no rule names them."""
        folder = path.parent
        if folder.name == FIRST or folder.name.startswith(f"{FIRST}_"):
            named = self._name_folders(folder.parent)
        elif folder.name in self._spec.modalities:
            named = {name: folder.parent / name for name in self._spec.modalities}
        else:
            return self._find_channels(path)
        if len(named) < 2 and not self._spec.is_stack:
            return None
        files = {name: self._list(one)[path.stem] for name, one in named.items() if path.stem in self._list(one)}
        return _Group((folder.parent, path.stem), files)

    def _name_folders(self, root: Path) -> dict[str, Path]:
        """Name images/ and images_*/ by modality."""
        if root not in self._folders:
            further = [path for path in sorted(root.glob(f"{FIRST}_*")) if path.is_dir()]
            folders = (root / FIRST, *further)
            own = tuple(path.name.removeprefix(f"{FIRST}_") for path in folders)
            names = read_names(root / NAMES, own)
            free = [name for name in self._spec.modalities if name not in own]
            if not os.path.lexists(root / NAMES) and FIRST in names and len(free) == 1:
                # without names images/ is the modality that no other folder is named for
                names = tuple(free[0] if name == FIRST else name for name in names)
            self._folders[root] = dict(zip(names, folders, strict=True))
        return self._folders[root]

    def _find_channels(self, path: Path) -> _Group | None:
        """Find NAME_0000, NAME_0001 and so on, in the order of dataset.json, else of the model."""
        found = CHANNEL.fullmatch(path.stem)
        if found is None:
            return None
        files = self._list(path.parent)
        stems = [f"{found['name']}_{number:04d}" for number in range(10)]
        names = self._name_channels(path.parent.parent) or (self._spec.modalities if self._spec.is_stack else ())
        if not names:
            return None
        return _Group(
            (path.parent, found["name"]),
            {name: files[stem] for name, stem in zip(names, stems, strict=False) if stem in files},
        )

    def _name_channels(self, root: Path) -> tuple[str, ...]:
        if root not in self._channels:
            self._channels[root] = read_channel_names(root / TABLE) if (root / TABLE).is_file() else ()
        return self._channels[root]

    def _list(self, folder: Path) -> dict[str, Path]:
        if folder not in self._files:
            self._files[folder] = {path.stem: path for path in list_images(folder)} if folder.is_dir() else {}
        return self._files[folder]
