"""What a person looks at before a training: a contact sheet, contradictory labels, and augmented images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeseg.core.errors import OutputError
from edgeseg.core.files import write_rows
from edgeseg.core.progress import Advance, ignore
from edgeseg.core.spec import ClassSpec, InputSpec
from edgeseg.data.augment import AugmentSpec, vary_case
from edgeseg.data.dataset import LabelledImage, find_white, read_case, view_case
from edgeseg.data.pictures import TILE, Picture, draw_marks, lay_tiles, list_truth
from edgeseg.data.reading import Case
from edgeseg.data.sheets import (
    PER_PAGE,
    ROWS,
    Legend,
    Tile,
    add_caption,
    count_pages,
    draw_page,
    name_page,
    number_case,
    refuse_taken_pages,
    remove_later_pages,
    write_page,
    write_pages,
)
from edgeseg.frame.preprocess import Pixels, frame_to_grid, mask_to_grid

# Rows and variants of a preview.
CASES, VARIANTS = 6, 7
# Pairs in a row of a page.
PAIRS_IN_ROW = 3
PAIRS_PER_PAGE = PAIRS_IN_ROW * ROWS
LABELLED, EMPTY = "as labelled", "nothing marked"
NAMES = ("number", "page", "stem", "group", "marked")


@dataclass(frozen=True)
class SheetPlan:
    """The files of a contact sheet: the first page shows all cases, or some of them evenly and the others show all."""

    path: Path
    cases: tuple[Case, ...]

    @property
    def divided(self) -> bool:
        """Say whether one page is too small."""
        return len(self.cases) > PER_PAGE

    @property
    def shown(self) -> list[int]:
        """List the indices of the cases on the pages after the overview: all, or as many as the most pages hold."""
        return pick_evenly(len(self.cases), count_pages(len(self.cases)) * PER_PAGE)

    @property
    def pages(self) -> tuple[Path, ...]:
        """Name the pages after the overview."""
        more = count_pages(len(self.cases)) if self.divided else 0
        return tuple(name_page(self.path, number) for number in range(2, more + 2))

    @property
    def tiles(self) -> int:
        """Count the tiles to draw."""
        return min(PER_PAGE, len(self.cases)) + (len(self.shown) if self.divided else 0)

    @property
    def names(self) -> Path:
        """Name the table that says which case has which number."""
        return name_names(self.path)

    def describe(self) -> str:
        """Say in a sentence what was written."""
        if not self.divided:
            return f"Contact sheet: {self.path} shows {count_cases(len(self.cases))}; {self.names.name} names them."
        which = "all of them" if len(self.shown) == len(self.cases) else f"{len(self.shown):,} of them, evenly picked,"
        return (
            f"Contact sheet: {self.path} is an overview of {len(self.cases):,} cases; {which} are on "
            f"{len(self.pages)} pages, {self.pages[0].name} to {self.pages[-1].name}; {self.names.name} names them."
        )


def name_names(path: Path) -> Path:
    """Name the table of a sheet's cases."""
    return path.with_name(f"{path.stem}-names.csv")


def name_pairs(path: Path) -> Path:
    """Name the first page of a sheet's near-duplicates with contradictory labels."""
    return path.with_name(f"{path.stem}-pairs{path.suffix}")


def count_cases(count: int) -> str:
    """Say how many cases there are."""
    return "1 case" if count == 1 else f"{count:,} cases"


def pick_evenly(total: int, count: int) -> list[int]:
    """Pick indices evenly from first to last."""
    return [int(index) for index in np.linspace(0, total - 1, min(count, total)).astype(int)]


def refuse_taken_names(plan: SheetPlan) -> None:
    """Refuse, before long work, to replace files that are no part of an earlier contact sheet."""
    refuse_taken_pages(plan.path, plan.pages)
    refuse_taken_pages(name_pairs(plan.path), [name_pairs(plan.path)])
    names = plan.names
    if names.exists() and not _is_table(names):
        raise OutputError(
            f"Expected a free name for the names of the contact sheet, got another file, {names}.",
            "Give the sheet another name, or move that file away.",
        )


def _is_table(path: Path) -> bool:
    start = ",".join(NAMES).encode("ascii")
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


def write_contact_sheet(plan: SheetPlan, name: str, classes: Sequence[ClassSpec], on_case: Advance = ignore) -> None:
    """Write a contact sheet of labelled cases with their names, and remove later pages of an earlier one.

    Args:
        plan: What to write where.
        name: Of the data.
        classes: Of the data.
        on_case: Called with the name of each case that was drawn.
    """
    refuse_taken_names(plan)
    marked: dict[int, str] = {}

    def draw(indices: Sequence[int]) -> Iterator[Tile]:
        for index in indices:
            image = view_case(plan.cases[index])
            shown = [number for number, count in enumerate(image.marked) if count]
            marked[index] = "; ".join(classes[number].name for number in shown)
            on_case(image.case.stem)
            yield make_tile(image, classes, number_case(index + 1, image.case.stem), *([] if shown else [EMPTY]))

    total, paths = len(plan.cases), plan.pages
    first = pick_evenly(total, PER_PAGE)
    part = f"an overview of {total:,} cases, all of them on the next pages" if plan.divided else count_cases(total)
    legend = Legend(f"{name}: {part}", tuple(classes), LABELLED)
    write_page(plan.path, draw_page(list(draw(first)), legend), plan.path.name)
    write_pages(
        paths,
        draw(plan.shown if plan.divided else ()),
        lambda page: dataclasses.replace(legend, title=f"{name}: page {page + 2} of {len(paths) + 1}"),
        first=plan.path.name,
    )
    pages = {index: 2 + place // PER_PAGE for place, index in enumerate(plan.shown)} if plan.divided else {}
    rows = [
        (index + 1, pages.get(index, 1), case.stem, case.group, marked[index])
        for index, case in enumerate(plan.cases)
        if index in marked
    ]
    write_rows(plan.names, NAMES, rows)
    remove_later_pages(plan.path, len(paths) + 1)


def write_pairs(
    path: Path, pairs: Sequence[tuple[Case, Case]], classes: Sequence[ClassSpec], name: str
) -> tuple[Path, ...]:
    """Write pages of pairs side by side, numbered from 1, and remove those of an earlier, longer list.

    Args:
        path: Of the first page.
        pairs: Near-duplicates with contradictory labels, the worst first.
        classes: Of the data.
        name: Of the data.

    Returns:
        The pages.
    """
    count = count_pages(len(pairs), PAIRS_PER_PAGE)
    paths = tuple(name_page(path, number) for number in range(1, count + 1))
    refuse_taken_pages(path, paths)
    tiles = (draw_pair(number, pair, classes) for number, pair in enumerate(pairs, start=1))
    legend = Legend(f"{name}: near-duplicates with contradictory labels", tuple(classes), LABELLED)
    write_pages(paths, tiles, lambda _: legend, PAIRS_IN_ROW)
    remove_later_pages(path, count)
    return paths


def draw_pair(number: int, pair: tuple[Case, Case], classes: Sequence[ClassSpec]) -> Tile:
    """Draw two cases side by side, each with its name under it."""
    images = [view_case(case) for case in pair]
    tiles = [make_tile(image, classes, number_case(number, image.case.stem)) for image in images]
    both = lay_tiles([add_caption(tile.picture, *tile.lines) for tile in tiles], columns=2)
    return Tile(both, (), tuple(number for tile in tiles for number in tile.classes))


def make_tile(image: LabelledImage, classes: Sequence[ClassSpec], *lines: str) -> Tile:
    """Draw a case with its labels into a square tile."""
    picture = draw_marks(image.frame, list_truth(image, classes), TILE, square=True)
    return Tile(picture, lines, tuple(number for number, count in enumerate(image.marked) if count))


def draw_preview(
    cases: Sequence[Case], classes: Sequence[ClassSpec], spec: InputSpec, augment: AugmentSpec | None, seed: int
) -> Picture:
    """Draw a sheet (BGR): one row for each case, first as it is, then augmented and denoised as for training.

    Args:
        cases: The cases, of which some are picked evenly.
        classes: The classes, whose masks are outlined.
        spec: The preprocessing.
        augment: The augmentation; None leaves images as they are.
        seed: Of the augmentation.
    """
    picked = pick_evenly(len(cases), CASES)
    images = [read_case(cases[index], spec) for index in picked]
    spec = dataclasses.replace(spec, white=find_white(images))
    tiles = []
    for number, (index, image) in enumerate(zip(picked, images, strict=True)):
        tiles += _draw_row(number_case(index + 1, image.case.stem), image, classes, spec, augment, (seed, number))
    title = "the first column as it is, the others as a training would see it"
    return draw_page(tiles, Legend(title, tuple(classes), LABELLED), 1 + VARIANTS)


def _draw_row(
    name: str,
    image: LabelledImage,
    classes: Sequence[ClassSpec],
    spec: InputSpec,
    augment: AugmentSpec | None,
    seed: tuple[int, int],
) -> list[Tile]:
    pixels = frame_to_grid(image.frame, spec)
    masks = np.stack([mask_to_grid(mask, spec) for mask in image.masks], axis=-1)
    randoms = [np.random.default_rng((*seed, variant)) for variant in range(VARIANTS)]
    varied = [vary_case(pixels, masks, augment, spec.denoise, random) for random in randoms]
    lines = [name, *(f"variant {variant}" for variant in range(1, VARIANTS + 1))]
    images = [_as_image(image.case, *pair) for pair in [(pixels, masks), *varied]]
    return [make_tile(one, classes, line) for one, line in zip(images, lines, strict=True)]


def _as_image(case: Case, pixels: Pixels, masks: Pixels) -> LabelledImage:
    """Wrap pixels on the network's grid as an image; OpenCV draws BGR, and they are RGB."""
    if pixels.shape[2] > 1 and case.modalities:
        # side by side, each with the outlines
        planes = np.concatenate(np.moveaxis(pixels, -1, 0), axis=1)
        marked = np.concatenate([masks] * pixels.shape[2], axis=1)
        return LabelledImage(case, planes, tuple(np.moveaxis(marked, -1, 0)))
    return LabelledImage(case, pixels[:, :, ::-1], tuple(np.moveaxis(masks, -1, 0)))
