"""Folders of images and masks under any usual names, and masks beside their images; with parts and patients."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice, takewhile
from pathlib import Path

from edgeseg.core.errors import DataError
from edgeseg.core.redact import show_name
from edgeseg.data.coding import Coding, ValueSurvey, find_coding, make_reader, read_joined
from edgeseg.data.defects import (
    MASK_VALUES,
    DataWarning,
    DefectError,
    coded_classes,
    jpeg_masks,
    missing_images,
    missing_masks,
    repeated_names,
    unlabelled_part,
)
from edgeseg.data.layouts.base import UNNAMED_CLASS, Found, collect_cases, number_classes
from edgeseg.data.layouts.tree import (
    FINDINGS,
    IMAGE,
    MASK,
    OTHER,
    Folder,
    Place,
    is_mask_name,
    list_bases,
    read_places,
    reduce_name,
    scan_images,
)
from edgeseg.data.reading import Case

# Entries of a folder that a message shows.
_SHOWN = 20
# A part, and the folders (patients) in it: images and masks of one scope have names of their own.
Scope = tuple[str, Folder]


@dataclass(frozen=True)
class Picture:
    """An image or a mask: its file, and where it stands."""

    folder: Path
    name: str
    place: Place

    @cached_property
    def path(self) -> Path:
        """Return the file; of a large folder only few are needed to recognise it."""
        return self.folder / self.name

    @cached_property
    def stem(self) -> str:
        """Return the name without its ending."""
        return self.name.rpartition(".")[0]

    @property
    def scope(self) -> Scope:
        """Return the part and the folders that an image shares with its masks."""
        return self.place.part, self.place.rest


@dataclass(frozen=True)
class Pairing:
    """Images with the masks of each class; `spare` masks have no image."""

    masks: dict[Path, dict[str, list[Picture]]]
    images: tuple[Picture, ...]
    spare: tuple[Picture, ...]


class FoldersLayout:
    """Images in one folder and masks in another: Images/ and Masks/, img/ and gt/, train/image/ and train/label/ ...

    Args:
        images: The folder of images, below the data folder or anywhere; None finds it by its name.
        masks: The folder of masks, likewise.
        threshold: Masks are marked where they are brighter; None takes their values for classes.
    """

    name = "folders"
    expects = (
        "a folder of images and one of masks, such as Images/ and Masks/, image/ and label/, imgs/ and gt/; also in "
        "train/, val/ and test/, and with a subfolder for each patient"
    )

    def __init__(self, images: Path | None = None, masks: Path | None = None, threshold: int | None = None) -> None:
        self.images, self.masks, self.threshold = images, masks, threshold

    def fits(self, root: Path) -> bool:
        """Look for a folder that is named as one of masks, with masks of some images."""
        images, masks = sort_folders(root, self.images, self.masks)
        return _have_pairs(images, masks)

    def find(self, root: Path) -> Found:
        """Pair images with masks by name; subfolders are patients, and the values of masks say what the classes are."""
        images, masks = sort_folders(root, self.images, self.masks)
        if not masks or not images:
            raise DataError(
                f"Expected a folder of images and one of masks in {root}, got no {'images' if masks else 'masks'}.",
                "Name them: --images DIR --masks DIR",
            )
        return build_found(root, match_masks(images, masks), self.threshold)


class BesideLayout:
    """x.png and x_mask.png in one folder (or _seg, _label, _gt), also in subfolders for parts and patients.

    Args:
        threshold: Masks are marked where they are brighter; None takes their values for classes.
    """

    name = "beside"
    expects = (
        "x.png and x_mask.png in one folder (or _seg, _label, _gt); also in train/, val/, test/ and with a subfolder "
        "for each patient"
    )

    def __init__(self, threshold: int | None = None) -> None:
        self.threshold = threshold

    def fits(self, root: Path) -> bool:
        """Look for a mask beside its image."""
        images, masks = sort_names(root)
        return _have_pairs(images, masks)

    def find(self, root: Path) -> Found:
        """Pair images with the masks beside them; subfolders are patients."""
        images, masks = sort_names(root)
        return build_found(root, match_masks(images, masks), self.threshold)


def sort_folders(root: Path, images: Path | None, masks: Path | None) -> tuple[list[Picture], list[Picture]]:
    """Divide the pictures of a folder into images and masks by the names of their folders.

    Args:
        root: The data folder.
        images: The folder of images, if it was given.
        masks: The folder of masks, if it was given.
    """
    own, other = _enter(root, images), _enter(root, masks)
    if own is not None and own == other:
        return sort_names(own)
    found = [] if own is not None and other is not None else _list_pictures(root)
    free = [one for one in found if not _is_in(one, own) and not _is_in(one, other)]
    marked = [one for one in free if one.place.kind == MASK] if other is None else _list_pictures(other)
    if own is not None:
        return [one for one in _list_pictures(own) if not _is_in(one, other)], marked
    return [one for one in free if one.place.kind == IMAGE] or [one for one in free if one.place.kind == OTHER], marked


def _is_in(picture: Picture, folder: Path | None) -> bool:
    return folder is not None and picture.folder.is_relative_to(folder)


def _enter(root: Path, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    place = root / folder
    if not place.is_dir():
        there = ", ".join(sorted(show_name(path.name) for path in islice(root.iterdir(), _SHOWN) if path.is_dir()))
        raise DataError(
            f"Expected a folder at {place}, got none.",
            f"--images and --masks are folders in DATA, which holds {there or 'none'}.",
        )
    return place


def _list_pictures(root: Path) -> list[Picture]:
    tree = scan_images(root)
    folders = {folder: root.joinpath(*folder) for folder in tree}
    return [
        Picture(folders[folder], name, place) for folder, place in read_places(tree).items() for name in tree[folder]
    ]


def sort_names(root: Path) -> tuple[list[Picture], list[Picture]]:
    """Divide the pictures of each folder into images and masks by their own names."""
    pictures = _list_pictures(root)
    return (
        [picture for picture in pictures if not is_mask_name(picture.stem)],
        [picture for picture in pictures if is_mask_name(picture.stem)],
    )


def match_masks(images: Sequence[Picture], masks: Sequence[Picture]) -> Pairing:
    """Find the image of every mask: by the same name in the same part and patient, else by a similar or unique one."""
    images, masks = _drop_common(images), _drop_common(masks)
    index = _ImageIndex(images)
    classes = _name_classes(images, masks)
    found: dict[Path, dict[str, list[Picture]]] = {}
    spare = []
    for mask in masks:
        image = index.find(mask)
        if image is None:
            spare.append(mask)
        else:
            found.setdefault(image.path, {}).setdefault(classes[mask.path], []).append(mask)
    # a folder whose name says nothing is one of images only if it has masks
    folders = {path.parent for path in found}
    kept = [image for image in images if image.place.kind != OTHER or image.folder in folders]
    return Pairing(found, tuple(kept), tuple(spare))


def _drop_common(pictures: Sequence[Picture]) -> list[Picture]:
    """Drop the folders that all pictures are in: one folder for all is no patient."""
    rests = [picture.place.rest for picture in pictures] or [()]
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(min(rests), max(rests), strict=False))))
    if not same:
        return list(pictures)
    return [
        dataclasses.replace(one, place=dataclasses.replace(one.place, rest=one.place.rest[same:])) for one in pictures
    ]


def _have_pairs(images: Sequence[Picture], masks: Sequence[Picture]) -> bool:
    index = _ImageIndex(_drop_common(images))
    return any(index.find(mask) is not None for mask in _drop_common(masks))


class _ImageIndex:
    """Finds images by their names, exact or reduced, in a scope or everywhere."""

    def __init__(self, images: Sequence[Picture]) -> None:
        self._images = images
        self._exact = {(image.scope, image.stem): image for image in reversed(images)}

    @cached_property
    def _reduced(self) -> dict[tuple[Scope, str], list[Picture]]:
        found: dict[tuple[Scope, str], list[Picture]] = {}
        for image in self._images:
            found.setdefault((image.scope, reduce_name(image.stem)), []).append(image)
        return found

    @cached_property
    def _anywhere(self) -> dict[str, list[Picture]]:
        found: dict[str, list[Picture]] = {}
        for image in self._images:
            found.setdefault(image.stem, []).append(image)
        return found

    def find(self, mask: Picture) -> Picture | None:
        """Find the image of a mask; None where there is none, or several that fit as well."""
        for scope in _list_scopes(mask):
            for stem in list_bases(mask.stem):
                if (scope, stem) in self._exact:
                    return self._exact[scope, stem]
            for stem in (mask.stem, *list_bases(mask.stem)):
                alike = self._reduced.get((scope, reduce_name(stem)), [])
                if len(alike) == 1:
                    return alike[0]
        for stem in list_bases(mask.stem):
            if len(self._anywhere.get(stem, [])) == 1:
                return self._anywhere[stem][0]
        return None


def _list_scopes(mask: Picture) -> Iterator[Scope]:
    part, rest = mask.scope
    yield part, rest
    if rest:
        # the innermost folder may name a class: masks/liver/a.png
        yield part, rest[:-1]


def _name_classes(images: Sequence[Picture], masks: Sequence[Picture]) -> dict[Path, str]:
    """Name the class of every mask: the words of its folder's name, or the subfolder that images have not."""
    scopes = {image.scope for image in images}
    named = {mask.path: _name_class(mask, scopes) for mask in masks}
    return named if len(set(named.values())) > 1 else dict.fromkeys(named, UNNAMED_CLASS)


def _name_class(mask: Picture, scopes: set[Scope]) -> str:
    part, rest = mask.scope
    if rest and mask.scope not in scopes and (part, rest[:-1]) in scopes:
        return rest[-1]
    return "_".join(mask.place.words) or UNNAMED_CLASS


def build_found(root: Path, pairing: Pairing, threshold: int | None = None) -> Found:
    """Make cases of pairs: names, groups and classes."""
    classes = sorted({name for masks in pairing.masks.values() for name in masks}) or [UNNAMED_CLASS]
    images, warnings = _leave_unlabelled(root, pairing)
    stems = name_pictures(images)
    names = Counter(stems.values())
    repeated = sorted(name for name, count in names.items() if count > 1)
    without = [stems[one.path] for one in images if len(pairing.masks.get(one.path, {})) < len(classes)]
    cases = [
        _make_case(image, stems[image.path], [pairing.masks[image.path][name] for name in classes])
        for image in images
        if len(pairing.masks.get(image.path, {})) == len(classes) and names[stems[image.path]] == 1
    ]
    defects = [repeated_names(root, repeated)] if repeated else []
    defects += [missing_masks(root, without)] if without else []
    defects += [missing_images(root, sorted(mask.stem for mask in pairing.spare))] if pairing.spare else []
    twice = _list_repeated([mask for masks in pairing.masks.values() for several in masks.values() for mask in several])
    defects += [repeated_names(root, twice)] if twice else []
    if len(classes) > 1 or threshold is not None or not cases:
        return Found(tuple(cases), tuple(classes), tuple(defects), tuple(warnings))
    found = code_cases(cases, _find_folder(root, cases), UNNAMED_CLASS)
    return dataclasses.replace(found, defects=(*defects, *found.defects), warnings=(*warnings, *found.warnings))


def _find_folder(root: Path, cases: Sequence[Case]) -> Path:
    """Find the folder to name in messages about masks."""
    folders = {path.parent for case in cases for path in case.masks}
    return folders.pop() if len(folders) == 1 else root


def code_cases(cases: Sequence[Case], where: Path, single: str, numbered: bool = False) -> Found:
    """Find the classes of cases from the values in their masks, which are all read once.

    Args:
        cases: The cases, with mask files that hold all classes.
        where: The folder of the masks, for messages.
        single: The name of the class where there is one.
        numbered: Whether the values are those of label maps: 2 alone is not the only class, but class 1 is missing.
    """
    survey = ValueSurvey()
    readable, failed = collect_cases(cases, lambda case: _survey_case(case, survey))
    blurred = [defect for defect in failed if defect.kind == MASK_VALUES]
    unreadable = [defect for defect in failed if defect.kind != MASK_VALUES]
    if blurred:  # a folder of JPEGs is one defect
        unreadable.append(jpeg_masks(str(where), [stem for defect in blurred for stem in defect.stems]))
    if not readable:
        return Found((), (single,), tuple(unreadable))
    try:
        coding = find_coding(survey, where, numbered)
    except DefectError as error:
        return Found(tuple(readable), (single,), (*unreadable, error))
    names = number_classes(coding.classes) if coding.classes > 1 else (single,)
    reader = make_reader(coding)
    return Found(
        tuple(dataclasses.replace(case, read=reader) for case in readable),
        names,
        tuple(unreadable),
        _tell_coding(coding, where, names),
    )


def _survey_case(case: Case, survey: ValueSurvey) -> Case:
    for path in case.masks:
        survey.add(path)
    return case


def _tell_coding(coding: Coding, where: Path, names: Sequence[str]) -> tuple[DataWarning, ...]:
    """Say which class is which where the values are no numbers of classes."""
    numbered = coding.values == tuple(range(1, coding.classes + 1))
    return () if coding.classes == 1 or numbered else (coded_classes(where, names, coding.describe()),)


def _leave_unlabelled(root: Path, pairing: Pairing) -> tuple[list[Picture], list[DataWarning]]:
    """Leave out parts without any mask, as a test part without labels is often given."""
    labelled = {image.place.part for image in pairing.images if image.path in pairing.masks}
    left = Counter(image.place.part for image in pairing.images if image.place.part not in labelled)
    gone = {part: count for part, count in left.items() if part}
    kept = [image for image in pairing.images if image.place.part not in gone]
    if len({image.place.part for image in kept}) == 1:
        # a lone part is divided like any other data
        kept = [dataclasses.replace(one, place=dataclasses.replace(one.place, part="")) for one in kept]
    return kept, [unlabelled_part(root, part, count) for part, count in gone.items()]


def name_pictures(images: Sequence[Picture]) -> dict[Path, str]:
    """Name images by their files; with part and subfolder where several files have one name."""
    stems = {image.path: image.stem for image in images}
    if _are_unique(stems):
        return stems
    for sign in ("_", "__", "-"):
        stems = {
            image.path: sign.join([*filter(None, [image.place.part]), *image.place.rest, image.stem])
            for image in images
        }
        if _are_unique(stems):
            break
    return stems


def _are_unique(stems: dict[Path, str]) -> bool:
    return len(set(stems.values())) == len(stems)


def _list_repeated(masks: Sequence[Picture]) -> list[str]:
    """List the names that several masks of one folder share but for their ending."""
    counts = Counter((mask.folder, mask.stem) for mask in masks)
    return sorted({stem for (_, stem), count in counts.items() if count > 1})


def _make_case(image: Picture, stem: str, masks: Sequence[list[Picture]]) -> Case:
    findings = [name for name in image.place.rest if name.lower() in FINDINGS]
    patient = "/".join(name for name in image.place.rest if name not in findings)
    files = tuple(mask.path for several in masks for mask in several)
    label = findings[-1].lower() if findings else ""
    case = Case(stem, image.path, files, patient or stem, part=image.place.part, label=label)
    if len(files) == len(masks):
        return case
    return dataclasses.replace(case, read=partial(read_joined, counts=tuple(len(several) for several in masks)))
