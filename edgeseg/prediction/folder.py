"""`predict_sources`: from sources to a folder of masks, which an interrupted run leaves to go on with."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from edgeseg.backends.cpu import CpuBackend
from edgeseg.core.errors import RunError
from edgeseg.core.files import partial_path, read_rows, refuse_taken, staged_folder, write_json
from edgeseg.core.install import need_extra
from edgeseg.core.marks import read_mark
from edgeseg.core.schema import SchemaError, read_json_table, to_plain
from edgeseg.inference.ensemble import EnsembleSegmenter, open_segmenter
from edgeseg.inference.masks import MaskOptions
from edgeseg.inference.segmenter import Segmenter
from edgeseg.prediction.batch import Batch, Failure, SegmenterPool, count_workers
from edgeseg.prediction.inputs import Item, count_kinds, list_inputs
from edgeseg.prediction.options import PredictOptions
from edgeseg.prediction.outputs import remove_parts
from edgeseg.prediction.partners import join_partners
from edgeseg.prediction.table import INSTANCES, JOURNAL, TABLE, Columns, Ledger

# What was asked for, and at the end what came out; a folder with it holds results, and is never read as a source.
RECORD = "predict.json"
_PREDICTION = "prediction"


@dataclass(frozen=True)
class PredictSummary:
    """What a finished run gave."""

    model: str
    files: int
    frames: int
    """Frames with a mask."""
    failed: tuple[Failure, ...]
    """Files of which not all frames could be read."""
    states: Mapping[str, int]
    """Frames by state: found, doubtful, nothing."""
    seconds: float
    """Of this run alone, where it went on after an interruption."""
    frames_per_s: float
    """Of this run alone."""
    workers: int
    backend: Mapping[str, Any]


@dataclass(frozen=True)
class PredictResult:
    """A finished prediction; takes the place of its folder wherever a path is expected."""

    folder: Path
    summary: PredictSummary

    @property
    def failed(self) -> tuple[Failure, ...]:
        """List the files of which not all frames could be read."""
        return self.summary.failed

    def rows(self) -> list[dict[str, str]]:
        """Read predictions.csv: a row for each frame."""
        return read_rows(self.folder / TABLE)

    def instances(self) -> list[dict[str, str]]:
        """Read instances.csv: a row for each finding of each frame."""
        return read_rows(self.folder / INSTANCES)

    def __fspath__(self) -> str:
        """Give the folder."""
        return str(self.folder)


def load_networks(
    model: Segmenter | str | os.PathLike[str],
    backend: str,
    threads: int,
    options: PredictOptions,
    enforce_parity: bool = True,
) -> tuple[Segmenter, Callable[[], Segmenter] | None]:
    """Load a model, and give what loads it again for further workers; None for a model that is loaded already."""
    if isinstance(model, Segmenter):
        return model, None
    masks = MaskOptions(fill_holes=options.fill_holes)
    load = partial(open_segmenter, Path(model), backend, threads, enforce_parity, masks)
    return load(), load


def predict_sources(
    segmenter: Segmenter,
    more: Callable[[], Segmenter] | None,
    sources: Sequence[str | Path],
    out: Path,
    options: PredictOptions,
    resume: bool = False,
    overwrite: bool = False,
) -> PredictResult:
    """Predict masks for everything that sources hold.

    Args:
        segmenter: The model.
        more: Loads the model once more, for a further worker; None where it may not be.
        sources: Files, folders and patterns.
        out: The folder to make.
        options: What is written.
        resume: Go on with an interrupted run.
        overwrite: Replace a result that stands at `out`.

    Raises:
        EdgesegError: A source holds nothing, the folder cannot be written, or the interrupted run was another one.
    """
    began = perf_counter()
    if "nifti" in options.formats:
        need_extra("medical")
    items = join_partners(list_inputs(sources, lambda folder: not _is_result(folder, out)), segmenter.card.input)
    plan = describe_plan(segmenter, sources, options)
    if resume:
        _check_interrupted(out, plan)
    else:
        refuse_taken(out, overwrite, _PREDICTION)
    with staged_folder(out, overwrite, keep_partial=True, go_on=resume) as folder:
        summary = _predict_into(folder, segmenter, more, items, options, plan, began)
    # not before: the folder could still be one to go on with
    (out / JOURNAL).unlink(missing_ok=True)
    return PredictResult(out, summary)


def _predict_into(
    folder: Path,
    segmenter: Segmenter,
    more: Callable[[], Segmenter] | None,
    items: Sequence[Item],
    options: PredictOptions,
    plan: Mapping[str, Any],
    began: float,
) -> PredictSummary:
    record = folder / RECORD
    if not record.exists():
        write_json(record, {"plan": plan})
    remove_parts(folder)
    card = segmenter.card
    columns = Columns(card)
    workers = options.workers or count_workers()
    if count_kinds(items).get("image") == len(items):
        workers = min(workers, len(items))
    # an accelerator takes one network, and all workers share it
    on_cpu = segmenter.selection.backend.name == CpuBackend.name or isinstance(segmenter, EnsembleSegmenter)
    pool = SegmenterPool(segmenter, more if on_cpu else None, workers)
    batch = Batch(folder, pool, card, options, workers)
    ledger = Ledger(folder, columns.names)
    try:
        before = sum(done.frames for done in ledger.done.values())
        batch.run(items, ledger)
        ledger.append(columns.refuse(name, None, reason) for name, reason in sorted(batch.failures.items()))
        ledger.flush()
        seconds = perf_counter() - began
        summary = _summarise(segmenter, items, ledger, batch.failures, seconds, before, workers)
        write_json(record, {"plan": plan, "summary": to_plain(summary)})
    finally:
        ledger.close()
    return summary


def _summarise(
    segmenter: Segmenter,
    items: Sequence[Item],
    ledger: Ledger,
    failures: Mapping[str, str],
    seconds: float,
    before: int,
    workers: int,
) -> PredictSummary:
    states: Counter[str] = Counter()
    for done in ledger.done.values():
        states.update(done.states)
    broken = {done.name: done.problem for done in ledger.done.values() if done.problem}
    failed = tuple(Failure(name, reason) for name, reason in sorted({**broken, **failures}.items()))
    frames = sum(states.values())
    return PredictSummary(
        segmenter.card.name,
        len(items),
        frames,
        failed,
        dict(states),
        round(seconds, 3),
        round((frames - before) / seconds, 2),
        workers,
        to_plain(segmenter.report()),
    )


def describe_plan(segmenter: Segmenter, sources: Sequence[str | Path], options: PredictOptions) -> dict[str, Any]:
    """Describe what is to be made: an interrupted run goes on only where all of it is the same."""
    card = json.dumps(to_plain(segmenter.card), sort_keys=True)
    return {
        "model": hashlib.sha256(card.encode("utf-8")).hexdigest(),
        "backend": segmenter.selection.requested,
        "sources": [str(Path(source).absolute()) for source in sources],
        "formats": sorted(set(options.formats)),
        "overlay": options.overlay,
        "show": options.show,
        "roi": to_plain(options.roi),
        "mm_per_px": options.mm_per_px,
        "fill_holes": options.fill_holes,
    }


def _check_interrupted(out: Path, plan: Mapping[str, Any]) -> None:
    """Refuse to go on where there is nothing, or another run."""
    folder = partial_path(out)
    if not folder.is_dir():
        raise RunError(f"Expected an interrupted {_PREDICTION} at {folder}, got none.", "Leave out --resume.")
    if not (folder / RECORD).is_file():
        if any(path.name != ".edgeseg" for path in folder.iterdir()):
            raise RunError(
                f"Expected an interrupted {_PREDICTION} at {folder}, got something else.", "Name another --out."
            )
        return
    try:
        before = read_json_table(folder / RECORD)["plan"]
        changed = [key for key in plan if before.get(key) != plan[key]]
    except (SchemaError, KeyError, AttributeError) as error:
        raise RunError(
            f"Expected what was to be made in {folder / RECORD}, got a damaged file.", "Begin again with --overwrite."
        ) from error
    if changed:
        raise RunError(
            f"Expected the same {' and '.join(changed)} as the interrupted {_PREDICTION} in {folder}, got another.",
            "Give what it was begun with, or begin again with --overwrite.",
        )


def _is_result(folder: Path, out: Path) -> bool:
    """Say whether a folder holds results of a prediction, this one's or an earlier one's."""
    if folder in (out.absolute(), partial_path(out).absolute()):
        return True
    return (folder / RECORD).is_file() and read_mark(folder) is not None
