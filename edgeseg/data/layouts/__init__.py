"""Layouts of data folders, and the choice among them: detected from the names of the files, or given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.redact import is_printable
from edgeseg.data.layouts.annotated import CocoLayout, CvatLayout, LabelMeLayout, YoloLayout
from edgeseg.data.layouts.base import Layout
from edgeseg.data.layouts.choice import LayoutChoice, parse_layout
from edgeseg.data.layouts.dicom import DicomLayout
from edgeseg.data.layouts.folders import ArraysLayout, LabelMapLayout, PlainLayout
from edgeseg.data.layouts.nnunet import NnunetLayout
from edgeseg.data.layouts.paired import BesideLayout, FoldersLayout
from edgeseg.data.layouts.public import BusiLayout, CamusLayout, Hc18Layout, NerveLayout
from edgeseg.data.layouts.seen import explain_folder, find_inner
from edgeseg.frame.images import holds_images

# Each of these is recognised by names that nothing else has.
SPECIFIC: tuple[Layout, ...] = (
    PlainLayout(),
    LabelMapLayout(),
    BusiLayout(),
    Hc18Layout(),
    NerveLayout(),
    CamusLayout(),
    ArraysLayout(),
    DicomLayout(),
    CocoLayout(),
    LabelMeLayout(),
    YoloLayout(),
    CvatLayout(),
    NnunetLayout(),
)
# These fit many folders, so they are tried, in this order, where no other layout fits.
GENERAL = (FoldersLayout(), BesideLayout())
LAYOUTS: tuple[Layout, ...] = (*SPECIFIC, *GENERAL)


def choose_layout(root: Path, name: str | None) -> Layout:
    """Return the given layout, or the only one that a folder fits; no or several fitting ones are an error.

    Args:
        root: The folder.
        name: A layout's name, or a text that `write_layout` has written; None finds the layout.
    """
    if not root.is_dir():
        raise DataError(f"Expected a data folder at {root}, got none.", "Name a folder of labelled images.")
    if not is_printable(f"{root}{root.resolve().name}"):
        raise DataError(
            f"Expected a data folder whose name is UTF-8 without control characters, got {root.resolve()}.",
            "Rename it: models and reports carry the folder's name.",
        )
    choice = parse_layout(name)
    if choice.images is not None or choice.masks is not None:
        images, masks = (Path(one) if one is not None else None for one in (choice.images, choice.masks))
        return FoldersLayout(images, masks, choice.threshold)
    return _adapt(_find_layout(root, choice.name), choice)


def name_fitting(root: Path, given: str) -> str | None:
    """Name the first layout that a folder fits, where it does not fit the given one; else None."""
    fitting = [layout.name for layout in LAYOUTS if layout.fits(root)]
    return fitting[0] if fitting and given not in fitting else None


def _find_layout(root: Path, name: str | None) -> Layout:
    if name is not None:
        known = {layout.name: layout for layout in LAYOUTS}
        if name not in known:
            raise UnknownNameError("layout", name, known)
        return known[name]
    fitting: list[Layout] = [layout for layout in SPECIFIC if layout.fits(root)]
    if not fitting and (holds_images(root) or find_inner(root, ()) is None):
        fitting += [layout for layout in GENERAL if layout.fits(root)][:1]
    if not fitting:
        raise explain_folder(root, LAYOUTS)
    if len(fitting) > 1:
        raise DataError(
            f"Expected one layout in {root}, got {len(fitting)} that fit: name one with --layout.",
            _list_layouts(fitting),
        )
    return fitting[0]


def _adapt(layout: Layout, choice: LayoutChoice) -> Layout:
    """Let a layout that takes the values of masks for classes divide them by brightness instead."""
    if choice.threshold is None:
        return layout
    if isinstance(layout, BesideLayout):
        return BesideLayout(choice.threshold)
    return FoldersLayout(threshold=choice.threshold) if isinstance(layout, FoldersLayout | LabelMapLayout) else layout


def _list_layouts(layouts: Sequence[Layout]) -> str:
    return "Layouts:\n" + "\n".join(f"    {layout.name:<9} {layout.expects}" for layout in layouts)
