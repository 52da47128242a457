"""The functions of the front door: what `import edgeseg` offers beside the types that they take and return.

Everything that belongs to the workstation is imported inside the functions, so that the device needs none of it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.backends.select import AUTO, log_fallback
from edgeseg.core.errors import OutputError
from edgeseg.core.files import refuse_existing, staged_folder
from edgeseg.core.install import need_extra
from edgeseg.core.modelfile import find_model, read_model
from edgeseg.core.progress import progress_bar
from edgeseg.inference.ensemble import open_segmenter
from edgeseg.inference.masks import DEFAULT_MASK_OPTIONS, MaskOptions
from edgeseg.inference.segmenter import Segmenter

if TYPE_CHECKING:
    from edgeseg.bench.measure import BenchResult
    from edgeseg.compression.compress import CompressReport
    from edgeseg.compression.recipe import Recipe
    from edgeseg.data.check import CheckReport
    from edgeseg.doctor import Check
    from edgeseg.evaluation.score import Evaluation
    from edgeseg.prediction.folder import PredictResult
    from edgeseg.prediction.options import PredictOptions
    from edgeseg.training.options import TrainOptions
    from edgeseg.training.run import RunRecord

StrPath = str | os.PathLike[str]
DEFAULT_RECIPES = ("float16", "int8-ptq", "int8-qat")
_LOG = logging.getLogger(__name__)


def load(
    model: StrPath, *, backend: str = AUTO, threads: int = 1, masks: MaskOptions = DEFAULT_MASK_OPTIONS
) -> Segmenter:
    """Load a model file, to be called with frames: `edgeseg.load("int8.tflite")(frame)`.

    Args:
        model: A .tflite or .onnx file, a folder that `train` or `compress` wrote, or the folder of a cross-validation
            (`edgeseg train --folds`), whose networks then answer together.
        backend: "auto" for the best one here, or cpu, gpu, edgetpu, onnx, with a variant behind a colon.
        threads: CPU threads the model may use.
        masks: What is done to the masks beyond what the model's card says.

    Raises:
        ModelFileError: The file is missing, damaged or was not written by edgeseg.
        BackendError: It cannot be run here, or its golden pairs give other masks here.
    """
    segmenter = open_segmenter(Path(model), backend, threads, masks=masks)
    log_fallback(segmenter.selection)
    return segmenter


def predict(
    model: StrPath | Segmenter,
    source: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    options: PredictOptions | None = None,
    backend: str = AUTO,
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> PredictResult:
    """Write masks for images, folders, patterns, videos and DICOM files, and a table with a row for every frame.

    Args:
        model: As in `load`, or a loaded model, which works on one frame at a time.
        source: What to read: one or several.
        out: The folder to make.
        options: What is written; None takes the defaults.
        backend: As in `load`, for a model that is not loaded yet.
        threads: CPU threads of each worker's network.
        resume: Go on with an interrupted prediction.
        overwrite: Replace a prediction that stands at `out`; it stays until the new one is whole.
        changes: Any field of PredictOptions by its name, such as overlay=True or formats=("png", "coco").

    Returns:
        The folder, a summary, and the files that could not be read, which raise nothing.
    """
    from edgeseg.prediction.folder import load_networks, predict_sources
    from edgeseg.prediction.options import PredictOptions

    chosen = dataclasses.replace(options or PredictOptions(), **changes)
    sources = [Path(one) for one in ([source] if isinstance(source, (str, os.PathLike)) else source)]
    _keep_inputs(Path(out), *sources, None if isinstance(model, Segmenter) else Path(model))
    networks = load_networks(model, backend, threads, chosen)
    log_fallback(networks[0].selection)
    return predict_sources(*networks, sources, Path(out), chosen, resume, overwrite)


@dataclass(frozen=True)
class TrainResult:
    """A finished training; takes the place of its folder wherever a path is expected."""

    folder: Path
    record: RunRecord
    """The options, the best epoch, the validation Dice and the evaluation on the test cases."""

    def __fspath__(self) -> str:
        """Give the run folder."""
        return str(self.folder)


def train(
    data: StrPath,
    out: StrPath,
    *,
    options: TrainOptions | None = None,
    init: StrPath | None = None,
    unlabelled: StrPath | None = None,
    teacher: StrPath | None = None,
    layout: str | None = None,
    group_pattern: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> TrainResult:
    """Train a compact U-Net on a folder of labelled images.

    Args:
        data: Labelled images in any known layout.
        out: The run folder to make; it appears when the training is finished, and then its report.html.
        options: How to train; None takes the defaults.
        init: A finished run, or a result of `edgeseg pretrain`, whose encoder the new one starts from.
        unlabelled: A folder of images, clips and DICOM files without masks to train on, too.
        teacher: A finished run, or the folder of a cross-validation, to follow beside the labels.
        layout: How the files lie; None finds out.
        group_pattern: Names the group of an image, as in `check_data`.
        resume: Continue an interrupted training, with the options it was begun with.
        overwrite: Replace a run that stands at `out`; it stays until the new one is whole.
        changes: Any field of TrainOptions by its name, such as model="nano" or epochs=30.

    Raises:
        MissingExtraError: The packages of the extra `train` are not installed.
        DataError: The images cannot be used.
        ValueError, TypeError: An option has no such value, or there is no such option.
    """
    need_extra("train")
    from edgeseg.training.options import TrainOptions
    from edgeseg.training.resume import INTERRUPTED_TRAINING, find_partial
    from edgeseg.training.trainer import plain_split, resume_run, train_run

    chosen = dataclasses.replace(options or TrainOptions(), **changes)
    source, folder, start = Path(data), Path(out), Path(init) if init else None
    frames = Path(unlabelled) if unlabelled else None
    guide = Path(teacher) if teacher else None
    _keep_inputs(folder, source, start, frames, guide)
    if resume and find_partial(folder, INTERRUPTED_TRAINING).expect(INTERRUPTED_TRAINING):
        return _report(TrainResult(folder, resume_run(source, folder, overwrite, start, frames, guide)))
    if resume:
        refuse_existing(folder, overwrite, go_on=True)
    split = plain_split(chosen.seed, layout, group_pattern)
    record = train_run(
        source,
        folder,
        chosen,
        overwrite or resume,
        split,
        start,
        unlabelled=frames,
        teachers=[guide] if guide is not None else [],
    )
    return _report(TrainResult(folder, record))


def _report(result: TrainResult) -> TrainResult:
    """Leave report.html in a finished run; workers other than the chief have none."""
    from edgeseg.report.training import leave_report

    if result.record.evaluation is not None:
        leave_report(result.folder)
    return result


@dataclass(frozen=True)
class CompressResult:
    """Compressed files and how they compare; takes the place of its folder wherever a path is expected."""

    folder: Path
    report: CompressReport

    @property
    def chosen(self) -> Path:
        """Give the file to deploy."""
        return self.folder / next(one.file for one in self.report.variants if one.name == self.report.chosen)

    @property
    def held(self) -> bool:
        """Say whether the chosen file keeps the gate; where it does not, `report.advice` says what to do."""
        return bool(self.report.gate["held"])

    def __fspath__(self) -> str:
        """Give the folder, which stands for its chosen file."""
        return str(self.folder)


def compress(
    run: StrPath,
    out: StrPath,
    *,
    recipes: Sequence[str | Recipe] | None = None,
    device: str | None = None,
    max_drop: float = 0.01,
    budget_ms: float | None = None,
    teacher: StrPath | None = None,
    rename: Mapping[str, str] | None = None,
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    sensitivity: float | None = None,
    coverage: float | None = None,
) -> CompressResult:
    """Compress a run by one or several recipes, and measure what it cost.

    Args:
        run: A finished run, as `train` returns it, or its folder.
        out: The folder to make, with the files and report.html.
        recipes: What to compare, by name, file or as a Recipe; None takes the board's, else the usual three.
        device: A board's name: its recipes and budget are taken, and only files that it runs.
        max_drop: Dice that may be lost on validation cases, at the bad end of the interval.
        budget_ms: Time one inference may take on this machine (p99).
        teacher: A finished run, or the folder of a cross-validation, that is followed where a recipe trains.
        rename: Classes of the run that go by another name in the teacher.
        threads: CPU threads for the timing.
        resume: Continue an interrupted compression.
        overwrite: Replace what stands at `out`.
        sensitivity: The share of the validation cases with the structure that every file's operating point finds;
            by default as in the training.
        coverage: The same for the share of those cases in which a mask is found, wherever.

    Raises:
        MissingExtraError: The packages of the extra `train` are not installed.
        RunError, RecipeError: There is no finished run, or its network cannot give what a recipe asks for.
    """
    need_extra("train")
    from edgeseg.compression.compress import compress_run, open_folder
    from edgeseg.compression.gate import Gate
    from edgeseg.compression.recipe import load_recipe
    from edgeseg.evaluation.decide import Target
    from edgeseg.machine.boards import load_board, name_board
    from edgeseg.report.compression import write_compression_report

    source, folder, followed = Path(run), Path(out), Path(teacher) if teacher else None
    _keep_inputs(folder, source, followed)
    gate, wanted = Gate(max_drop, budget_ms), recipes or DEFAULT_RECIPES
    if device is not None:
        use = load_board(device).recommended
        budget_ms = use.budget_ms if budget_ms is None else budget_ms
        gate, wanted = Gate(max_drop, budget_ms, use.backends, name_board(device)), recipes or use.recipes
    chosen = [load_recipe(one) if isinstance(one, str) else one for one in wanted]
    if followed is not None and not any(recipe.trains for recipe in chosen):
        raise ValueError("expected a recipe that trains (int8-qat) beside a teacher, got none")
    target = Target(sensitivity, coverage) if sensitivity or coverage else None
    with open_folder(folder, overwrite, resume) as growing:
        outcome = compress_run(source, growing, chosen, gate, threads, followed, rename, target)
        write_compression_report(growing, source, outcome, out=folder)
    return CompressResult(folder, outcome.report)


def evaluate(
    model: StrPath | Segmenter,
    data: StrPath,
    *,
    split: str | None = None,
    layout: str | None = None,
    group_pattern: str | None = None,
    rename: Mapping[str, str] | None = None,
    backend: str = AUTO,
    threads: int = 1,
    sensitivity: float | None = None,
    coverage: float | None = None,
    without: Collection[str] = (),
) -> Evaluation:
    """Judge a model on labelled images: Dice and more, each with a bootstrap interval over groups.

    What counts as found, and so sensitivity and false alarms, follows the operating point on the model's card.

    Args:
        model: A loaded model, a model file, or a folder that `train` or `compress` wrote.
        data: Labelled images in any known layout.
        split: train, val, test or all; None takes test on the model's own data, else all. The networks of a
            cross-validation judge every case of their own data by the one that has not seen it.
        layout: How the files lie; None finds out.
        group_pattern: Names the group of an image, as in `check_data`.
        rename: Classes of the model that go by another name in the data.
        backend: As in `load`, for a model that is not loaded yet.
        threads: The same.
        sensitivity: Judge at another operating point, which finds this share of the validation cases that show the
            structure; needs a model file and the data that it was trained on.
        coverage: The same for the share of those cases in which a mask is found, wherever.
        without: Names of cases to leave out.

    Raises:
        DataError: The images cannot be used, or are not those that another operating point needs.
        ValueError: A share is not above 0 and at most 1, or an operating point is wanted for a loaded model.
    """
    from edgeseg.data.dataset import read_cases
    from edgeseg.evaluation.decide import Target, change_decision, decide_by_own_data
    from edgeseg.evaluation.exclusion import leave_out
    from edgeseg.evaluation.out_of_fold import list_judged_thresholds, pick_judged
    from edgeseg.evaluation.score import score_cases, summarise_cases

    target = Target(sensitivity, coverage)
    if target == Target():
        segmenter = model if isinstance(model, Segmenter) else load(model, backend=backend, threads=threads)
    elif isinstance(model, Segmenter):
        raise ValueError("expected a model file beside sensitivity or coverage, got a loaded model")
    else:
        file = read_model(find_model(Path(model)))
        decision = decide_by_own_data(file, Path(data), target, layout, group_pattern, rename)
        segmenter = Segmenter(change_decision(file, decision), backend, threads)
        log_fallback(segmenter.selection)
    card = segmenter.card
    picked = pick_judged(segmenter, Path(data), split, layout, group_pattern, renamed=rename)
    staying = leave_out(picked.cases, without, picked.known, "the cases to leave out")
    cases = [case for case in picked.cases if case.stem in staying]
    with progress_bar("Judging", len(cases)) as advance:
        scored = score_cases(segmenter, read_cases(cases, card.input), advance)
    return summarise_cases(scored, card.output.classes, list_judged_thresholds(segmenter))


def benchmark(*models: StrPath, backend: str = AUTO, threads: int = 1, runs: int = 200) -> list[BenchResult]:
    """Time model files in turn, from a camera-sized frame to its mask, stage by stage.

    Args:
        models: Model files, or folders that `train` or `compress` wrote.
        backend: As in `load`.
        threads: As in `load`.
        runs: Frames each model is timed on.

    Returns:
        A result for each model, in their order.
    """
    from edgeseg.bench.measure import bench_models, count_blocks, load_models

    loaded = load_models([Path(model) for model in models], backend, [threads])
    with progress_bar("Timing", count_blocks(runs)) as advance:
        return bench_models(loaded, runs, advance)


def check_data(data: StrPath, *, layout: str | None = None, group_pattern: str | None = None) -> CheckReport:
    """Look for defects in labelled images, and for near-duplicates that training and test would share.

    Args:
        data: Labelled images.
        layout: How the files lie; None finds out.
        group_pattern: A regular expression whose first group, found in an image's name, is the image's group.
    """
    from edgeseg.data.check import check_survey
    from edgeseg.data.dataset import survey_dataset

    survey = survey_dataset(Path(data), layout, group_pattern)
    with progress_bar("Reading images", len(survey.dataset.cases)) as advance:
        return check_survey(survey, advance)


def write_phantoms(
    out: StrPath,
    *,
    cases: int = 200,
    seed: int = 0,
    size: int = 256,
    clips: int = 2,
    clip_frames: int = 60,
    vessels: bool = False,
    overwrite: bool = False,
) -> Path:
    """Simulate ultrasound images, clips and their exact masks; gives the folder, which `train` takes.

    Args:
        out: The data folder to make.
        cases: Still images.
        seed: The same seed makes the same images.
        size: Height and width in pixels.
        clips: Moving clips.
        clip_frames: Frames of each clip.
        vessels: Also write masks of the vessels, as a class.
        overwrite: Replace what stands at `out`.
    """
    from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set

    options = SynthOptions(cases, seed, (size, size), clips, clip_frames, vessels)
    folder = Path(out)
    with staged_folder(folder, overwrite) as growing, progress_bar("Rendering phantoms", cases + clips) as advance:
        write_phantom_set(growing, options, lambda _: advance(""))
    return folder


def check_machine(device: str | None = None) -> list[Check]:
    """Check what decides how well models run on this machine: packages, processor, accelerators, cameras, heat.

    Args:
        device: A board's name, to compare the machine with its profile.
    """
    from edgeseg.doctor.run import run_checks
    from edgeseg.machine.boards import load_board
    from edgeseg.machine.host import Machine

    return run_checks(Machine(), load_board(device) if device else None)


def _keep_inputs(out: Path, *inputs: Path | None) -> None:
    """Refuse to write onto what is read, or onto a folder that holds it."""
    place = Path(os.path.realpath(out))
    for path in filter(None, inputs):
        source = Path(os.path.realpath(path))
        if place in (source, *source.parents):
            raise OutputError(
                f"Expected another folder to write than {path}, which is read, got {out}.", "Name another folder."
            )
