"""How masks for files are predicted and written: the options of `edgeseg predict` and `edgeseg.predict`."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.errors import UnknownNameError
from edgeseg.core.schema import check_options, option
from edgeseg.core.spec import Region
from edgeseg.streaming.options import SHOWS, read_roi

# Label maps, a file for each frame; and labels as a labelling tool keeps them.
MASK_FORMATS = ("png", "npy", "nifti")
LABEL_FORMATS = ("coco", "labelme", "yolo")
FORMATS = (*MASK_FORMATS, *LABEL_FORMATS)
# Beyond, threads wait for one another; each of them holds a network.
MOST_WORKERS = 64


@dataclass(frozen=True)
class PredictOptions:
    """What is written about every frame, and how many are worked on at once."""

    formats: tuple[str, ...] = ("png",)
    """Some of `FORMATS`."""
    overlay: bool = option(False, "Draw the masks over every image as JPEG, and over every video as a video.")
    show: str = option(
        "doubtful", "Write masks that are found, or doubtful ones too, which overlays show dashed.", choices=SHOWS
    )
    roi: Region | str | None = option(
        None,
        "Region of the image that shows the ultrasound picture; auto detects it.",
        metavar="X,Y,W,H|auto",
        default_text="as the file or the card says",
        parse=read_roi,
    )
    mm_per_px: float | None = option(
        None, "Pixel size in mm, for areas in mm2; overrides what DICOM files say.", minimum=1e-6
    )
    fill_holes: bool = option(False, "Fill holes: background that a class encloses becomes that class.")
    workers: int | None = option(
        None,
        "Images that are worked on at once.",
        minimum=1,
        maximum=MOST_WORKERS,
        default_text="one for each processor, at most 8",
    )

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError("expected a format to write, got none")
        for name in self.formats:
            if name not in FORMATS:
                raise UnknownNameError("format", name, FORMATS)
        check_options(self)
        if self.mm_per_px is not None:
            from edgeseg.inference.masks import check_pixel_size

            check_pixel_size(self.mm_per_px)

    @property
    def states(self) -> tuple[str, ...]:
        """List the states of the classes whose masks are written."""
        return SHOWS if self.show == "doubtful" else ("found",)


DEFAULT_PREDICT_OPTIONS = PredictOptions()
