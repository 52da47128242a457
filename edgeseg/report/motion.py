"""The report of a registering training: how near it comes, a phantom before and after, and what to do next."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.files import write_text
from edgeseg.core.marks import add_to_mark
from edgeseg.core.modelfile import RUN_FILE, read_registering
from edgeseg.core.redact import to_one_line
from edgeseg.core.stats import FEWEST_GROUPS, Estimate, show_interval
from edgeseg.phantom.pairs import render_pair
from edgeseg.registration.displacement import warp_image
from edgeseg.registration.learned import LearnedRegistration
from edgeseg.registration.quality import draw_checkerboard
from edgeseg.report.cases import to_data_url
from edgeseg.report.origin import list_changed
from edgeseg.report.page import (
    BAD,
    CAUTION,
    GOOD,
    PAGE,
    Pill,
    Step,
    Tile,
    Verdict,
    add_suffix,
    count,
    render_page,
    write_command,
)
from edgeseg.report.plots import draw_distances
from edgeseg.training.registration import RegistrationRecord, read_registering_run, read_registration_history

_LOG = logging.getLogger(__name__)
# Shares of the distance without registration: up to the first a network is near, from the second on it does nothing.
NEAR, IDLE = 0.5, 0.95
# The phantom that is shown, and its motion.
_SEED, _LEVEL = 21, 2


def leave_registration_report(run: Path, out: Path | None = None) -> Path | None:
    """Write the report of a finished registering run; where that fails, say so and leave the rest alone.

    Args:
        run: The run folder.
        out: Where it will be, for the commands; None: where it is.

    Returns:
        The page; None where there is none.
    """
    try:
        write_text(run / PAGE, render_page("registration.html.j2", **describe_registering_run(run, out or run)))
        add_to_mark(run, PAGE)
    except Exception as error:  # noqa: BLE001 - the training is whole, whatever is wrong with its picture
        _LOG.warning("The training is whole, but its report.html could not be written: %s.", to_one_line(error))
        _LOG.debug("why report.html could not be written", exc_info=True)
        return None
    return run / PAGE


def describe_registering_run(run: Path, out: Path) -> dict[str, Any]:
    """Collect what the page shows."""
    record, history = read_registering_run(run), read_registration_history(run)
    before = record.before_px.mean if record.before_px is not None else None
    verdict = judge_registering(record, (run / RUN_FILE).stat().st_size)
    return {
        "title": record.name,
        "kind": "Training report",
        "verdict": verdict,
        "pictures": draw_phantom(run, record),
        "steps": list_steps(out, verdict.pills[0].level == BAD),
        "history": draw_distances([(row[0], row[2]) for row in history], record.best_epoch, before),
        "history_note": f"epoch {record.best_epoch} of {history[-1][0]} was kept",
        "repeat": " ".join(("edgeseg train --task register CLIPS --out RUN", *list_changed(record.options))),
        "origin": list_origin(record),
    }


def judge_registering(record: RegistrationRecord, size: int) -> Verdict:
    """Say what the run is good for, from the distances on clips that were kept apart."""
    error, before, rise = record.error_px, record.before_px, record.similarity
    if error is None or before is None:
        pill, sentence = Pill(CAUTION, "Not measured"), "No clip was kept apart, so nothing is known of it."
    else:
        share = error.mean / max(before.mean, 1e-6)
        pill = Pill(GOOD, "Near") if share <= NEAR else Pill(CAUTION, "Part of the way")
        pill = Pill(BAD, "No use") if share >= IDLE else pill
        sentence = (
            f"On clips that it has not learned from, pixels lie {error.mean:.2f} px from their true place, and "
            f"{before.mean:.2f} px without registration."
        )
    tiles = [
        _make_tile("Distance", error, " px", pill.level),
        _make_tile("Without registration", before, " px"),
        _make_tile("Correlation of neighbours rises by", rise, ""),
        Tile("File", f"{size / 1e6:.2f} MB", "float32, before compression"),
    ]
    few = (
        f"Fewer than {FEWEST_GROUPS} clips were kept apart: other clips may well give another distance altogether."
        if error is not None and error.ci95 is None
        else ""
    )
    fit = ("moving masks along with a live image, and registering frames like those of the clips",)
    return Verdict(
        pills=(pill,),
        sentence=sentence,
        tiles=tuple(tiles),
        fit=() if pill.level == BAD else fit,
        unfit=("the most accurate result: optical flow is more accurate, where there is time for it.",),
        few=few,
    )


def _make_tile(label: str, figure: Estimate | None, unit: str, level: str = "") -> Tile:
    if figure is None:
        return Tile(label, "-", "not measured", level)
    note = "too few clips for an interval" if figure.ci95 is None else show_interval(figure.ci95, ".2f")
    return Tile(label, f"{figure.mean:.2f}{unit}", note, level)


def draw_phantom(run: Path, record: RegistrationRecord) -> list[tuple[str, str]]:
    """Draw a phantom that moved as checkerboards before and after: no patient's image is on the page."""
    pair = render_pair(_SEED, 0, (record.input.height, record.input.width), "deformable", _LEVEL)
    fixed, moving = pair.fixed.image, pair.moving.image
    field = LearnedRegistration(read_registering(run / RUN_FILE), "cpu")(fixed, moving)
    moved = np.asarray(warp_image(moving, field), dtype=np.uint8)
    return [
        (to_data_url(draw_checkerboard(fixed, other)), words) for other, words in ((moving, "before"), (moved, "after"))
    ]


def list_steps(out: Path, useless: bool) -> list[Step]:
    """List what to do next; a network that is of no use yet is trained again first."""
    small = add_suffix(out, "small")
    file = small / "int8-ptq.tflite"
    register: list[str | Path] = ["--method", "learned", "--model", file, "--out", "DIR"]
    again = Step(
        "Train it again, with more clips or more --epochs: it hardly brings frames nearer yet.",
        write_command("edgeseg", "train", "--task", "register", "CLIPS", "--out", "NEW"),
    )
    return [
        *([again] if useless else []),
        Step("Make it small and fast.", write_command("edgeseg", "compress", out, "--out", small)),
        Step("Register two images with it.", write_command("edgeseg", "register", "FIXED", "MOVING", *register)),
        Step(
            "Let it move the masks of a live stream.",
            write_command("edgeseg", "stream", "MODEL", "SOURCE", "--track-model", file),
        ),
    ]


def list_origin(record: RegistrationRecord) -> list[tuple[str, str]]:
    """List clips, network and versions."""
    options = record.options
    return [
        ("clips", f"{count(record.frames.frames, 'frame')} of {count(record.clips, 'clip')}"),
        ("network", f"{options.network}, {record.input.width}x{record.input.height}"),
        ("training", f"batch {options.batch}, learning rate {options.rate}, seed {options.seed}"),
        ("reach", f"{record.reach_px:g} px"),
        ("time", f"{record.seconds:,.0f} s"),
        ("data fingerprint", record.frames.fingerprint),
        ("edgeseg", record.edgeseg),
        *record.libraries.items(),
    ]
