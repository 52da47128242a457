"""`edgeseg data`: make phantoms, import public layouts, and look at data before training on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeseg.cli.arguments import take_model
from edgeseg.cli.common import (
    GATE_NOT_HELD,
    BackendOption,
    ClassNameOption,
    GroupPatternOption,
    ImagesOption,
    JsonOption,
    LayoutOption,
    MasksOption,
    OverwriteOption,
    ThreadsOption,
    join_layout,
    keep_apart,
    keep_inputs,
    save_json,
    usage_errors,
)
from edgeseg.cli.tables import count_sets, print_cache, print_check, print_warnings
from edgeseg.core.redact import make_printable, show_name
from edgeseg.core.spec import DENOISES, check_choice

if TYPE_CHECKING:
    from edgeseg.data.check import CheckReport
    from edgeseg.data.dataset import Dataset
    from edgeseg.data.overview import SheetPlan

# Of the pages of a sheet, those whose names are printed.
SHOWN_PAGES = 5
# As the formats of edgeseg/data/exporting.py, which loads NumPy and OpenCV.
FORMATS = ("coco", "labelme", "yolo", "cvat", "nnunet")
app = typer.Typer(no_args_is_help=True, help="Make, import and check labelled images.")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="The data folder to make.")],
    cases: Annotated[int, typer.Option(help="Number of still images.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    size: Annotated[int, typer.Option(help="Height and width in pixels.", min=32, max=4096)] = 256,
    clips: Annotated[int, typer.Option(help="Number of moving clips.", min=0)] = 2,
    clip_frames: Annotated[int, typer.Option(help="Number of frames per clip.", min=1)] = 60,
    vessels: Annotated[bool, typer.Option("--vessels", help="Also write masks of the vessels, as a class.")] = False,
    second: Annotated[
        str, typer.Option("--modality", help="Also a second modality: doppler or elastography.", show_default=False)
    ] = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Make ultrasound phantoms: images, masks and clips.

    Speckle, time gain, shadows and fan shapes are simulated; every image and every frame of a clip has its exact mask.

    Example: `edgeseg data synth data/phantom --cases 200 --seed 1`
    """
    from edgeseg.core.files import staged_folder
    from edgeseg.core.progress import progress_bar
    from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set

    options = SynthOptions(cases, seed, (size, size), clips, clip_frames, vessels, second)
    with staged_folder(out, overwrite) as folder, progress_bar("Rendering phantoms", cases + clips) as advance:
        write_phantom_set(folder, options, lambda _: advance(""))
    print(f"{out}: {cases} images with masks, {clips} clips of {clip_frames} frames")


@app.command("import")
def import_data(
    source: Annotated[Path, typer.Argument(help="Labelled images in any known layout.", metavar="SRC")],
    out: Annotated[Path, typer.Argument(help="The data folder to make.")],
    layout: LayoutOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
    group_pattern: GroupPatternOption = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            "--threshold-masks",
            metavar="N",
            help="Mark what is brighter in a mask: for masks of one class whose borders JPEG or smoothing has blurred.",
            min=0,
            max=65534,
            show_default=False,
        ),
    ] = None,
    add: Annotated[
        bool,
        typer.Option("--add", help="Add to the data folder that is there; names that it has already are refused."),
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write labelled images in the plain layout: images/, masks/ or masks_CLASS/, and groups.csv.

    groups.csv keeps the groups, given parts and pixel sizes. Where the images come from is yours to note, in SOURCE.md.

    With --add the images go into a data folder in the plain layout, such as the corrected ones of `data select`: all of
    them or none, with their groups, and without a change to any image that is there.

    Example: `edgeseg data import Dataset_BUSI_with_GT data/busi`
    """
    from edgeseg.core.files import staged_folder
    from edgeseg.core.progress import progress_bar
    from edgeseg.data.adding import add_dataset
    from edgeseg.data.check import CROPPED
    from edgeseg.data.dataset import import_dataset, open_dataset

    keep_inputs([source], [out])
    if images is None and masks is None:
        keep_apart(source, out)
    layout = join_layout(source, layout, images, masks, class_name, threshold)
    if add and overwrite:
        raise typer.BadParameter("expected --add or --overwrite, got both")
    dataset = open_dataset(source, layout, group_pattern)
    if add:
        if not out.is_dir():
            raise typer.BadParameter(f"expected a data folder to add to, got none: {out}. Leave --add out to make it")
        with progress_bar("Adding", len(dataset.cases)) as advance:
            whole = add_dataset(dataset, out, advance)
        groups = len({case.group for case in whole.cases})
        print(make_printable(f"{out}: {len(dataset.cases)} images added, now {len(whole.cases)} in {groups} groups"))
        return
    with staged_folder(out, overwrite) as folder, progress_bar("Importing", len(dataset.cases)) as advance:
        import_dataset(dataset, folder, advance)
    print_warnings(dataset.warnings)
    groups = len({case.group for case in dataset.cases})
    print(make_printable(f"{out}: {len(dataset.cases)} images in {groups} groups, from the layout {dataset.layout}"))
    if dataset.header_region:
        print(CROPPED)
    modalities = dataset.cases[0].modalities
    if modalities:
        colours = len(modalities) == len(("red", "green", "blue"))
        print(
            f"Red, green and blue are {', '.join(modalities)}: train with --colour rgb, and stream such frames."
            if colours
            else f"Modalities: {', '.join(modalities)}"
        )


@app.command("export")
def export_data(
    source: Annotated[Path, typer.Argument(help="Labelled images in any known layout.", metavar="DATA")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    name: Annotated[
        str,
        typer.Option("--format", metavar="|".join(FORMATS), help="The labelling tool's format.", show_default=False),
    ],
    layout: LayoutOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
    group_pattern: GroupPatternOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write labelled images for a labelling tool: their labels in its format, and the images beside them.

    Every pixel of the masks is kept. groups.csv and labels.csv keep what the format has no place for; `data import`
    reads all of it back.

    Example: `edgeseg data export data/busi for-cvat --format cvat`
    """
    from edgeseg.core.files import staged_folder
    from edgeseg.core.progress import progress_bar
    from edgeseg.data.dataset import open_dataset
    from edgeseg.data.exporting import export_dataset

    with usage_errors():
        check_choice("format", name, FORMATS)
    keep_inputs([source], [out])
    if images is None and masks is None:
        keep_apart(source, out)
    dataset = open_dataset(source, join_layout(source, layout, images, masks, class_name), group_pattern)
    with staged_folder(out, overwrite) as folder, progress_bar("Exporting", len(dataset.cases)) as advance:
        export_dataset(dataset, folder, name, advance)
    print_warnings(dataset.warnings)
    print(make_printable(f"{out}: {len(dataset.cases)} images with labels for {name}"))


@app.command()
def check(
    source: Annotated[Path, typer.Argument(help="Labelled images in any known layout.", metavar="DATA")],
    layout: LayoutOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
    group_pattern: GroupPatternOption = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="F.png", help="Draw a contact sheet with outlines.", show_default=False)
    ] = None,
    groups_out: Annotated[
        Path | None,
        typer.Option(
            "--write-groups",
            metavar="F.csv",
            help="Write groups that hold near-duplicates together.",
            show_default=False,
        ),
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Look at labelled images before training on them: sizes, classes, defects, near-duplicates, a contact sheet.

    The contact sheet shows all cases, on more pages (F-2.png ...) where one is too small; F-names.csv lists their
    numbers. Near-duplicates whose labels contradict one another are listed, and drawn side by side in F-pairs.png.
    Exit code 3 where a training would be refused, or where near-duplicates stand in different groups.

    Example: `edgeseg data check data/busi --sheet busi.png`
    """
    from edgeseg.core.progress import progress_bar
    from edgeseg.data.check import READY, check_survey, describe_verdict
    from edgeseg.data.dataset import survey_dataset
    from edgeseg.data.groups import write_groups
    from edgeseg.data.overview import SheetPlan, name_names, name_pairs, refuse_taken_names

    pages = [] if sheet is None else [sheet, name_names(sheet), name_pairs(sheet)]
    keep_inputs([source], [*pages, groups_out, json_out])
    survey = survey_dataset(source, join_layout(source, layout, images, masks, class_name), group_pattern)
    if sheet is not None:
        refuse_taken_names(SheetPlan(sheet, survey.dataset.cases))
    with progress_bar("Reading images", len(survey.dataset.cases)) as advance:
        report = check_survey(survey, advance)
    print_check(make_printable(source.name), report)
    cases = [facts.case for facts in report.facts]
    if sheet is not None and cases:
        _write_sheets(SheetPlan(sheet, tuple(cases)), make_printable(source.name), report)
    print(make_printable(describe_verdict(report)))
    if groups_out is not None:
        write_groups(groups_out, report.join_groups())
    save_json(json_out, report.to_json())
    if report.verdict != READY:
        raise typer.Exit(GATE_NOT_HELD)


def _write_sheets(plan: SheetPlan, name: str, report: CheckReport) -> None:
    """Write the contact sheet and, where there are any, the pairs with contradictory labels."""
    from edgeseg.core.progress import progress_bar
    from edgeseg.data.overview import name_pairs, write_contact_sheet, write_pairs

    classes, doubtful = report.dataset.classes, [one.pair for one in report.contradictions]
    with progress_bar("Drawing the contact sheet", plan.tiles) as advance:
        write_contact_sheet(plan, name, classes, advance)
    print(make_printable(plan.describe()))
    pairs = write_pairs(name_pairs(plan.path), [(pair.first, pair.second) for pair in doubtful], classes, name)
    if pairs:
        print(make_printable(f"Near-duplicates with contradictory labels: {', '.join(map(str, pairs[:SHOWN_PAGES]))}"))


@app.command("cache")
def show_cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all stored images.")] = False,
    json_out: JsonOption = None,
) -> None:
    """Show or clear the images that trainings on large data keep on disk: where, how much, and when last used.

    EDGESEG_CACHE names another folder, or is `off`: then nothing is stored, and images must fit into memory.

    Example: `edgeseg data cache --clear`
    """
    from edgeseg.core.cache import OFF, VARIABLE, clear_cache, find_cache, list_cache

    place = find_cache()
    if place is None:
        print(f"The cache is off ({VARIABLE}={OFF}): nothing is stored.")
        save_json(json_out, {"folder": None, "sets": []})
        return
    entries = list_cache(place)
    if clear:
        removed, kept = clear_cache(place)
        stay = f", {kept} stay: another edgeseg writes them" if kept else ""
        print(f"{show_name(str(place))}: {count_sets(removed)} removed{stay}")
    else:
        print_cache(place, entries)
    sets = [
        {"name": entry.path.name, "bytes": entry.size, "used": entry.used, "whole": entry.whole} for entry in entries
    ]
    save_json(json_out, {"folder": str(place), "sets": sets, "cleared": clear})


@app.command()
def preview(
    source: Annotated[Path, typer.Argument(help="Labelled images in any known layout.", metavar="DATA")],
    out: Annotated[Path, typer.Option(metavar="F.png", help="The picture to write.")],
    augment: Annotated[str, typer.Option(metavar="NAMES", help="Augmentations, as `train` takes them.")] = "all",
    denoise: Annotated[
        str, typer.Option(metavar="|".join(DENOISES), help="Filter in front of the network, as `train` takes it.")
    ] = "none",
    size: Annotated[int, typer.Option(help="Height and width of the network's input.", min=16, max=1024)] = 256,
    seed: Annotated[int, typer.Option(help="Random seed of the variants.", min=0)] = 0,
    layout: LayoutOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    class_name: ClassNameOption = None,
    group_pattern: GroupPatternOption = None,
) -> None:
    """Draw how a training would vary and denoise some images: first as they are, then seven variants of each.

    Outlines are the masks, moved along. Nothing is trained and no TensorFlow is needed.

    Example: `edgeseg data preview data/busi --out preview.png --augment -elastic`
    """
    from edgeseg.core.spec import InputSpec
    from edgeseg.data.augment import choose_variations
    from edgeseg.data.check import CROPPED
    from edgeseg.data.dataset import open_dataset
    from edgeseg.data.overview import draw_preview
    from edgeseg.frame.images import write_image

    with usage_errors():
        variations = choose_variations(augment)
        spec = InputSpec(size, size, denoise=denoise)
    dataset = open_dataset(source, join_layout(source, layout, images, masks, class_name), group_pattern)
    if dataset.cases[0].modalities:
        spec = dataclasses.replace(spec, modalities=dataset.cases[0].modalities)
    write_image(out, draw_preview(dataset.cases, dataset.classes, spec, variations, seed))
    print(make_printable(f"{out}: some images of {source}, as they are and as a training would see them"))
    if dataset.header_region:
        print(CROPPED)


@app.command()
def select(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Unlabelled frames: images, videos, DICOM files, folders with subfolders, patterns.",
            metavar="SOURCE...",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path, typer.Option(metavar="MODEL|RUN", help="A model file, a run, or the folder of a cross-validation.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.")],
    count: Annotated[int, typer.Option(metavar="N", help="Number of frames to select.", min=1, max=5000)] = 40,
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Labelling tool: labelme, coco, cvat or yolo.")
    ] = "labelme",
    labelled: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="The data set so far: what looks like one of its images is not selected.",
            show_default=False,
        ),
    ] = None,
    group_pattern: GroupPatternOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 1,
) -> None:
    """Select the unlabelled frames that are worth labelling, and draw masks on them for a person to correct.

    The model's doubt decides, and the disagreement of its networks where it is a cross-validation; no two frames look
    nearly the same, and all groups have their share. A group is a folder of SOURCE, else a file; groups.csv in SOURCE,
    or --group-pattern, says otherwise. Frames unlike those of the training come last, and have no mask.

    selected.csv lists the frames with their doubt, the most important first. The corrected labels go back into the data
    set, with their groups: edgeseg data import DIR DATA --add

    Example: `edgeseg data select clips/ --model runs/first --labelled data/busi --count 40 --out to-label`
    """
    from edgeseg.core.files import staged_folder
    from edgeseg.core.progress import progress_bar
    from edgeseg.data.dataset import open_dataset
    from edgeseg.inference.ensemble import open_segmenter
    from edgeseg.prediction.inputs import list_inputs
    from edgeseg.prediction.labelling import (
        check_classes,
        check_format,
        check_ranked,
        describe_selection,
        group_items,
        is_no_selection,
        look_at_cases,
        refuse_taken,
        survey_frames,
        tell_unreadable,
        write_selection,
    )
    from edgeseg.prediction.selection import rank_frames

    model = take_model(model, f"edgeseg data select {sources[0]} --model MODEL --out {out}", ensembles=True)
    keep_inputs([model, *map(Path, sources), labelled], [out])
    check_format(form)
    refuse_taken(out)
    known = None if labelled is None else open_dataset(labelled)
    items = list_inputs(sources, is_no_selection)
    folder = Path(sources[0]) if len(sources) == 1 and Path(sources[0]).is_dir() else None
    groups = group_items(items, group_pattern, folder)
    segmenter = open_segmenter(model, backend, threads)
    looks = []
    if known is not None:
        check_classes(segmenter, known)
        with progress_bar("Reading labelled images", len(known.cases)) as advance:
            looks = look_at_cases(segmenter, known, advance)
    with progress_bar("Looking at files", len(items)) as advance:
        survey = survey_frames(items, segmenter, groups, advance)
    tell_unreadable(survey.unreadable)
    ranked = rank_frames(survey.candidates, count, looks)
    check_ranked(ranked, survey)
    with staged_folder(out) as place, progress_bar("Writing", len(ranked)) as advance:
        stems = [] if known is None else [case.stem for case in known.cases]
        selected = write_selection(place, ranked, items, segmenter, form, stems, advance)
    for line in describe_selection(survey, selected, count):
        print(make_printable(f"{out}: {line}"))
    print(make_printable(f"Correct the masks, then: {name_way_back(out, known)}"))


def name_way_back(out: Path, known: Dataset | None) -> str:
    """Name the commands that take corrected labels back; images are added to the plain layout alone."""
    if known is None or known.layout == "plain":
        return f"edgeseg data import {out} {known.root if known else 'DATA'} --add"
    return f"edgeseg data import {known.root} NEW (once), and edgeseg data import {out} NEW --add"
