"""Layouts of data folders, and the choice among them: detected from the names of the files, or given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.redact import is_printable
from edgeseg.data.layouts.annotated import CocoLayout, CvatLayout, LabelMeLayout, YoloLayout
from edgeseg.data.layouts.base import Layout
from edgeseg.data.layouts.dicom import DicomLayout
from edgeseg.data.layouts.folders import ArraysLayout, LabelMapLayout, PlainLayout
from edgeseg.data.layouts.public import BusiLayout, CamusLayout, Hc18Layout, NerveLayout

LAYOUTS: tuple[Layout, ...] = (
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
)


def choose_layout(root: Path, name: str | None) -> Layout:
    """Return the named layout, or the only one that a folder fits; no or several fitting ones are an error."""
    if not root.is_dir():
        raise DataError(f"Expected a data folder at {root}, got none.", _list_layouts(LAYOUTS))
    if not is_printable(f"{root}{root.resolve().name}"):
        raise DataError(
            f"Expected a data folder whose name is UTF-8 without control characters, got {root.resolve()}.",
            "Rename it: models and reports carry the folder's name.",
        )
    if name is not None:
        known = {layout.name: layout for layout in LAYOUTS}
        if name not in known:
            raise UnknownNameError("layout", name, known)
        return known[name]
    fitting = [layout for layout in LAYOUTS if layout.fits(root)]
    if not fitting:
        raise DataError(f"Expected labelled images in {root}, got none of the known layouts.", _list_layouts(LAYOUTS))
    if len(fitting) > 1:
        raise DataError(
            f"Expected one layout in {root}, got {len(fitting)} that fit: name one with --layout.",
            _list_layouts(fitting),
        )
    return fitting[0]


def _list_layouts(layouts: Sequence[Layout]) -> str:
    return "Layouts:\n" + "\n".join(f"    {layout.name:<9} {layout.expects}" for layout in layouts)
