"""The report of a compression: table, plots and pictures as report.html, the figures as report.md."""

from __future__ import annotations

import base64
import dataclasses
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

import edgeseg
from edgeseg.compression.compress import RECIPES, ComparedCase, CompressReport, Outcome
from edgeseg.compression.gate import NOT_JUDGED, Variant
from edgeseg.compression.recipe import PARENT
from edgeseg.core.card import DISCLAIMER, read_verdict
from edgeseg.core.files import write_text
from edgeseg.core.modelfile import read_model
from edgeseg.core.stats import Estimate, show_interval
from edgeseg.data.dataset import read_case
from edgeseg.frame.images import encode_png, to_bgr
from edgeseg.inference.masks import draw_overlay
from edgeseg.inference.segmenter import Segmenter
from edgeseg.report.plots import draw_channels, draw_front, draw_history, draw_layers, draw_reliability, draw_risk
from edgeseg.streaming.loop import StreamReport
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import RunRecord, read_run
from edgeseg.training.validation import read_history

_FOLDER = Path(__file__).parent


def show_point(variant: Variant, figure: str) -> str:
    """Format a figure at a file's operating point on the test cases."""
    estimate: Estimate | None = getattr(variant.point, figure, None)
    return "n/a" if estimate is None else f"{estimate.mean:.3f}"


# Formats a variant's cell; the second argument is the float parent.
Cell = Callable[[Variant, Variant], str]
PAGE, TEXT = "report.html", "report.md"
# Width of the report's pictures in pixels.
SHOWN_WIDTH = 256
COLUMNS: dict[str, Cell] = {
    "file": lambda v, _: v.name,
    "validation Dice": lambda v, _: f"{v.validation.dice.mean:.4f}",
    "validation drop": lambda v, _: f"{v.validation.dice_drop.mean:+.4f}",
    "validation drop, 95% interval": lambda v, _: show_interval(v.validation.dice_drop.ci95, "+.4f"),
    "test Dice": lambda v, _: f"{v.dice.mean:.4f}",
    "test Dice, 95% interval": lambda v, _: show_interval(v.dice.ci95, ".3f"),
    "test drop": lambda v, _: f"{v.dice_drop.mean:+.4f}",
    "test drop, 95% interval": lambda v, _: show_interval(v.dice_drop.ci95, "+.4f"),
    "sensitivity": lambda v, _: show_point(v, "sensitivity"),
    "false alarms": lambda v, _: show_point(v, "false_alarm_rate"),
    "Dice shown": lambda v, _: show_point(v, "dice_shown"),
    "kB": lambda v, _: f"{v.bytes / 1000:.0f}",
    "gzipped": lambda v, _: f"{v.gzip_bytes / 1000:.0f}",
    "sparsity": lambda v, _: f"{v.sparsity:.1%}",
    "parameters": lambda v, _: f"{v.params:,}",
    "MMACs": lambda v, _: f"{v.macs / 1e6:.1f}",
    "ms p50": lambda v, _: f"{v.latency_ms.p50:.2f}",
    "ms p99": lambda v, _: f"{v.latency_ms.p99:.2f}",
    "faster": lambda v, parent: f"{parent.latency_ms.p50 / v.latency_ms.p50:.2f}",
    "Edge TPU": lambda v, _: read_verdict(v.lint["edgetpu"]),
}


def write_compression_report(folder: Path, run: Path, outcome: Outcome, stream: StreamReport | None = None) -> None:
    """Write report.html and report.md.

    Args:
        folder: The folder with the compressed files, to which the report is written.
        run: The run they were made from.
        outcome: The result of the compression.
        stream: The report of a stream with the chosen file, if there was one.
    """
    report, record = outcome.report, read_run(run)
    page = render_page(
        title=f"{report.run}: compression",
        report=report,
        record=record,
        verdict=format_verdict(report),
        columns=list(COLUMNS),
        table=list_rows(report),
        operators=list_operators(report),
        worst_layers=list_worst_layers(report),
        layers=draw_layers(report.variants),
        channels=draw_channels(report.variants),
        history=draw_history(read_history(run), read_run(run).best_epoch),
        front=draw_front(report.variants, report.chosen),
        risk=draw_risk(outcome.tested),
        reliability=draw_reliability(outcome.tested[report.chosen]) if report.chosen in outcome.tested else "",
        rows=draw_cases(folder, report, outcome.cases),
        stream=stream,
        commands=write_commands(report, record),
        facts=list_facts(report, record),
    )
    write_text(folder / PAGE, page)
    write_text(folder / TEXT, write_markdown(report, record))


def render_page(**content: Any) -> str:
    """Render the HTML page; plots are inserted as SVG, all other text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = show_interval
    template = environment.get_template("page.html.j2")
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return template.render(css=css, version=edgeseg.__version__, disclaimer=DISCLAIMER, **content)


def write_markdown(report: CompressReport, record: RunRecord) -> str:
    """Write the report as Markdown."""
    blocks = [
        f"# {report.run}: compression",
        f"Chosen: {report.chosen}. {format_verdict(report)}",
        *([_list_lines([*report.notices, *report.remarks.values()])] if report.notices or report.remarks else []),
        _draw_table(list(COLUMNS), [row.cells for row in list_rows(report)]),
        "Layers whose results are farthest from float32 (rms of the difference by rms of the result):",
        _draw_table(["file", "layers"], list_worst_layers(report)),
        _draw_table(["file", "operators"], list_operators(report)),
        "## To repeat it",
        "\n".join(f"    {command}" for command in write_commands(report, record)),
        _draw_table(["", ""], list_facts(report, record)),
        DISCLAIMER,
    ]
    return "\n\n".join(blocks) + "\n"


def _list_lines(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _draw_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Row:
    """One file's row of the table."""

    cells: tuple[str, ...]
    chosen: bool


def list_rows(report: CompressReport) -> tuple[Row, ...]:
    """Format the table."""
    parent = report.variants[0]
    return tuple(
        Row(tuple(cell(variant, parent) for cell in COLUMNS.values()), variant.name == report.chosen)
        for variant in report.variants
    )


def list_operators(report: CompressReport) -> tuple[tuple[str, str], ...]:
    """List the operators of every file with their counts."""
    return tuple(
        (variant.name, ", ".join(f"{count} {name}" for name, count in variant.operators.items()))
        for variant in report.variants
    )


def list_worst_layers(report: CompressReport, count: int = 3) -> tuple[tuple[str, str], ...]:
    """List every file's layers with the largest errors."""
    return tuple(
        (
            variant.name,
            ", ".join(f"{layer.layer} ({layer.error:.2%})" for layer in variant.worst_layers(count)),
        )
        for variant in report.variants
        if variant.layers
    )


def format_verdict(report: CompressReport) -> str:
    """State whether the gate held, and what to do where it did not."""
    gate = report.gate
    promise = f"at most {gate['max_drop']} Dice lost on validation cases, at the upper end of the 95% interval"
    if any(variant.alarms is not None for variant in report.variants):
        promise += f", false alarms up by at most {gate['max_false_alarms']} there"
    if gate["budget_ms"] is not None:
        promise += f", at most {gate['budget_ms']:g} ms per inference (p99, on the machine that wrote this)"
    held = "held" if gate["held"] else "not held" if gate["judged"] else "not judged"
    return f"Gate {held}: {promise}. {_begin_sentence(report.advice)}".strip()


def _begin_sentence(advice: str) -> str:
    reason = advice.removeprefix(NOT_JUDGED)
    return reason[:1].upper() + reason[1:]


def list_facts(report: CompressReport, record: RunRecord) -> list[tuple[str, str]]:
    """List seed, fingerprint, versions and host."""
    return [
        ("seed", str(report.seed)),
        ("data fingerprint", report.data_fingerprint),
        ("teacher", report.teacher or "none"),
        ("board", report.gate["board"] or "none, this machine"),
        ("trained with", ", ".join(map(" ".join, {"edgeseg": record.edgeseg, **record.libraries}.items()))),
        ("edgeseg", report.edgeseg),
        *report.libraries.items(),
        *((key, str(value)) for key, value in report.host.items() if key != "edgeseg"),
    ]


def write_commands(report: CompressReport, record: RunRecord) -> tuple[str, str]:
    """Write the commands that repeat the result; folders are placeholders (DATA, RUN), since paths may be private."""
    train = " ".join(("edgeseg train DATA --out RUN", *_list_changed(record.options), *_list_others(record)))
    recipes = ",".join(f"{RECIPES}/{variant.name}.toml" for variant in report.variants if variant.requested)
    compress = f"edgeseg compress RUN --out OUT --recipe {recipes} --max-drop {report.gate['max_drop']}"
    if report.gate["board"] is not None:
        compress += f" --device {shlex.quote(report.gate['board'])}"
    if report.gate["budget_ms"] is not None:
        compress += f" --budget-ms {report.gate['budget_ms']}"
    if report.teacher is not None:
        compress += " --teacher TEACHER"
    compress += "".join(f" --{name} {share}" for name, share in report.target.items() if share is not None)
    return train, f"{compress} --threads {report.threads}"


def _list_others(record: RunRecord) -> list[str]:
    """List the options of layout, split and initial weights."""
    split = record.split
    others = {
        "--layout": shlex.quote(split.layout) if split.layout else None,
        "--group-pattern": shlex.quote(split.group_pattern) if split.group_pattern else None,
        "--folds": split.folds or None,
        "--init": "INIT" if record.init else None,
    }
    return [f"{option} {value}" for option, value in others.items() if value is not None]


def _list_changed(options: TrainOptions) -> list[str]:
    """List the training options that differ from the defaults."""
    usual, chosen = dataclasses.asdict(TrainOptions()), dataclasses.asdict(options)
    return [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items() if value != usual[name]]


@dataclass(frozen=True)
class PictureRow:
    """One case: why it is shown, and its pictures as data URLs."""

    caption: str
    pictures: tuple[tuple[str, str], ...]


def draw_cases(folder: Path, report: CompressReport, cases: Sequence[ComparedCase]) -> list[PictureRow]:
    """Draw notable test cases: truth, float mask and chosen mask side by side."""
    parent = Segmenter(read_model(folder / f"{PARENT}.tflite"))
    chosen = Segmenter(read_model(folder / f"{report.chosen}.tflite"))
    return [_draw_case(caption, case, parent, chosen, report.chosen) for caption, case in pick_cases(cases)]


def pick_cases(cases: Sequence[ComparedCase]) -> list[tuple[str, ComparedCase]]:
    """Pick notable cases, each once: the two worst, the largest loss, median and best."""
    if not cases:
        return []
    ranked = sorted(cases, key=lambda case: case.chosen_dice)
    lost = max(cases, key=lambda case: case.parent_dice - case.chosen_dice)
    picked = [
        ("Worst case", ranked[0]),
        ("Second worst", ranked[min(1, len(ranked) - 1)]),
        ("Largest loss from float", lost),
        ("Median case", ranked[len(ranked) // 2]),
        ("Best case", ranked[-1]),
    ]
    seen: dict[str, tuple[str, ComparedCase]] = {}
    for caption, case in picked:
        seen.setdefault(case.case.stem, (caption, case))
    return list(seen.values())


def _draw_case(
    caption: str, compared: ComparedCase, parent: Segmenter, chosen: Segmenter, chosen_name: str
) -> PictureRow:
    image, classes = read_case(compared.case, parent.card.input.in_colour), parent.card.output.classes
    masks = {
        "truth": image.labels,
        f"float32, Dice {compared.parent_dice:.3f}": parent.segment(image.frame).labels,
        f"{chosen_name}, Dice {compared.chosen_dice:.3f}": chosen.segment(image.frame).labels,
    }
    pictures = [("image", _to_data_url(to_bgr(image.frame)))]
    pictures += [(label, _to_data_url(draw_overlay(image.frame, mask, classes))) for label, mask in masks.items()]
    return PictureRow(caption, tuple(pictures))


def _to_data_url(image: NDArray[np.uint8]) -> str:
    height = round(image.shape[0] * SHOWN_WIDTH / image.shape[1])
    # the page holds its pictures, so they are made small
    small = np.asarray(cv2.resize(image, (SHOWN_WIDTH, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode("ascii")
