"""The report of a compression: verdict, cases, plots and tables as report.html, the figures as report.md."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeseg.compression.compress import RECIPES, ComparedCase, CompressReport, Outcome
from edgeseg.compression.gate import NOT_JUDGED, Variant
from edgeseg.compression.recipe import PARENT
from edgeseg.core.card import DISCLAIMER, read_verdict
from edgeseg.core.files import write_text
from edgeseg.core.modelfile import read_model
from edgeseg.core.stats import Estimate, show_interval
from edgeseg.data.dataset import read_case
from edgeseg.inference.segmenter import Segmenter
from edgeseg.report.cases import Drawer, Gallery, draw_gallery, list_colours, pick_kinds
from edgeseg.report.origin import list_network, write_train_command
from edgeseg.report.page import (
    BAD,
    CAUTION,
    GOOD,
    PAGE,
    Pill,
    Step,
    Table,
    Tile,
    Verdict,
    add_suffix,
    count,
    render_page,
    write_command,
)
from edgeseg.report.plots import draw_channels, draw_front, draw_history, draw_layers, draw_reliability, draw_risk
from edgeseg.report.verdict import (
    UNKNOWN,
    USELESS,
    Judged,
    explain_few,
    find_grade,
    list_fit,
    list_unfit,
    make_finding,
    make_quality,
)
from edgeseg.streaming.loop import StreamReport
from edgeseg.training.run import RunRecord, read_run
from edgeseg.training.validation import read_history


def show_point(variant: Variant, figure: str) -> str:
    """Format a figure at a file's operating point on the test cases."""
    estimate: Estimate | None = getattr(variant.point, figure, None)
    return "n/a" if estimate is None else f"{estimate.mean:.3f}"


# Formats a variant's cell; the second argument is the float parent.
Cell = Callable[[Variant, Variant], str]
TEXT = "report.md"
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
# Those that decide, for the table beside the plot.
SHORT = ("file", "test Dice", "test Dice, 95% interval", "kB", "ms p50", "ms p99")
# Up to this difference of Dice, masks fit equally well for a reader.
SAME_DICE = 0.005


def write_compression_report(
    folder: Path, run: Path, outcome: Outcome, stream: StreamReport | None = None, out: Path | None = None
) -> None:
    """Write report.html and report.md.

    Args:
        folder: The folder with the compressed files, to which the report is written.
        run: The run they were made from.
        outcome: The result of the compression.
        stream: The report of a stream with the chosen file, if there was one.
        out: Where the folder will be when it is whole, for the commands; None: where it is.
    """
    report, record, out = outcome.report, read_run(run), out or folder
    # a run inside the folder moves with it
    place = out / run.relative_to(folder) if run.is_relative_to(folder) else run
    stages = [*stream.latency_ms.items(), ("frame age (capture to mask)", stream.frame_age_ms)] if stream else []
    page = render_page(
        "compression.html.j2",
        title=report.run,
        kind="Compression report",
        verdict=judge_compression(outcome, record),
        gallery=draw_cases(folder, report, outcome.cases),
        steps=list_steps(report, out, place),
        report=report,
        record=record,
        files_note=f"{count(len(report.variants), 'file')}, {report.chosen} is chosen",
        front=draw_front(report.variants, report.chosen, report.gate["budget_ms"]),
        short=make_table(report, SHORT),
        full=make_table(report, tuple(COLUMNS)),
        remarks=list(report.remarks.values()),
        risk=draw_risk(outcome.tested),
        reliability=draw_reliability(outcome.tested[report.chosen]) if report.chosen in outcome.tested else "",
        history=draw_history(read_history(run), record.best_epoch),
        channels=draw_channels(report.variants),
        layers=draw_layers(report.variants),
        worst_layers=Table(("file", "farthest from float32"), list_worst_layers(report), words=True),
        operators=Table(("file", "operators"), list_operators(report), words=True),
        stream=stream,
        stages=Table(
            ("milliseconds", "p50", "p90", "p95", "p99", "mean"),
            tuple((name, *(f"{x:.2f}" for x in (t.p50, t.p90, t.p95, t.p99, t.mean))) for name, t in stages),
            marked=len(stages) - 1,
        ),
        commands=write_commands(report, record),
        origin=[*list_network(record), *list_facts(report, record)],
    )
    write_text(folder / PAGE, page)
    write_text(folder / TEXT, write_markdown(report, record))


def judge_compression(outcome: Outcome, record: RunRecord) -> Verdict:
    """Judge the chosen file: what it keeps of the float model, and what its masks are fit for."""
    report = outcome.report
    parent, chosen = report.variants[0], find_chosen(report)
    tested = Judged(
        outcome.tested.get(report.chosen),
        tuple(spec.name for spec in record.output.classes),
        tuple(case.chosen_dice for case in outcome.cases),
        len({case.case.group for case in outcome.cases}),
        record.near_duplicates,
    )
    grade = find_grade(tested)
    fit, unfit = list_fit(tested), list_unfit(tested)
    if not report.gate["held"]:
        verdict = "did not hold" if report.gate["judged"] else "was not judged"
        unfit.insert(0, f"Taking the place of the float model unseen: the gate below {verdict}.")
    if fit and _keeps_budget(report, chosen) and report.gate["budget_ms"] is not None:
        fit.append(f"Live use within {report.gate['budget_ms']:g} ms per inference on {_name_machine(report)}.")
    # what the card says already is not said twice
    few = explain_few(tested)
    warnings = [notice for notice in report.notices if notice != _said_in_card(grade.pill, tested)]
    return Verdict(
        pills=(grade.pill, _judge_gate(report)),
        sentence=_summarise(parent, chosen, tested),
        tiles=(
            make_quality(tested),
            _make_speed(report, parent, chosen),
            Tile(
                "Size",
                f"{chosen.bytes / 1000:,.0f} kB",
                f"{parent.bytes / chosen.bytes:.1f} times smaller than float32 ({parent.bytes / 1000:,.0f} kB)",
            ),
            make_finding(tested.evaluation),
        ),
        fit=tuple(fit),
        unfit=tuple(unfit),
        few=few,
        warnings=tuple(warnings) if report.gate["held"] else (format_verdict(report), *warnings),
        gate=format_verdict(report) if report.gate["held"] else "",
    )


def _said_in_card(pill: Pill, tested: Judged) -> str:
    """Give the notice that the sentence of a useless model repeats."""
    useless = pill == USELESS.pill and tested.evaluation is not None
    return tested.evaluation.notices[0] if useless and tested.evaluation is not None else ""


def _judge_gate(report: CompressReport) -> Pill:
    if report.gate["held"]:
        return Pill(GOOD, "Gate held")
    return Pill(CAUTION, "Gate not held") if report.gate["judged"] else Pill(BAD, "Gate not judged")


def _summarise(parent: Variant, chosen: Variant, tested: Judged) -> str:
    grade = find_grade(tested)
    if grade is USELESS and tested.evaluation is not None:
        return tested.evaluation.notices[0]
    faster = parent.latency_ms.p50 / chosen.latency_ms.p50
    speed = f"{faster:.1f} times faster" if faster >= 1.0 else f"{1 / faster:.1f} times slower"
    drop = chosen.dice_drop.mean
    kept = "its masks fit as well" if abs(drop) <= SAME_DICE else f"its masks fit {'worse' if drop > 0 else 'better'}"
    judged = "" if grade is not UNKNOWN else " Nothing is known of its masks."
    return (
        f"{chosen.file} is {parent.bytes / chosen.bytes:.1f} times smaller and {speed} than the float32 model, and "
        f"{kept} (Dice {parent.dice.mean:.3f} before, {chosen.dice.mean:.3f} after).{judged}"
    )


def _keeps_budget(report: CompressReport, chosen: Variant) -> bool:
    return report.gate["budget_ms"] is None or chosen.latency_ms.p99 <= report.gate["budget_ms"]


def _name_machine(report: CompressReport) -> str:
    board = report.gate.get("board")
    return f"the machine that wrote this page, not measured on the {board}" if board else "the machine that wrote this"


def _make_speed(report: CompressReport, parent: Variant, chosen: Variant) -> Tile:
    times, budget = chosen.latency_ms, report.gate["budget_ms"]
    note = f"median of an inference here; 99% within {times.p99:.2f} ms; float32 {parent.latency_ms.p50:.2f} ms"
    if budget is None:
        return Tile("Speed", f"{times.p50:.2f} ms", f"{note}; no budget was given")
    held = _keeps_budget(report, chosen)
    return Tile(
        "Speed",
        f"{times.p50:.2f} ms",
        f"{note}; budget {budget:g} ms {'held' if held else 'missed'}",
        GOOD if held else BAD,
    )


def find_chosen(report: CompressReport) -> Variant:
    """Find the chosen file."""
    return next(variant for variant in report.variants if variant.name == report.chosen)


def list_steps(report: CompressReport, out: Path, run: Path) -> list[Step]:
    """List what to do next, with the commands."""
    model = out / find_chosen(report).file
    if not report.gate["judged"]:
        return [
            Step("Look at the labels: a network learns what they show.", "edgeseg data check DATA --sheet labels.png"),
            Step("Train again, longer or on more images.", "edgeseg train DATA --out RUN --epochs 200"),
        ]
    steps = [
        Step(
            "Draw masks for your own images, and look at them.",
            write_command("edgeseg", "predict", model, "IMAGES", "--out", "MASKS", "--overlay"),
        ),
        Step("Watch it live, here with a camera.", write_command("edgeseg", "stream", model, "--source", "0")),
        Step(
            "Pack it for a board, which measures speed and masks there.",
            write_command(
                "edgeseg", "deploy", model, "--device", report.gate.get("board") or "BOARD", "--out", "board.tar.gz"
            ),
        ),
    ]
    if report.gate["held"]:
        return steps
    slow = not _keeps_budget(report, find_chosen(report))
    again = ("edgeseg", "compress", run, "--out", add_suffix(out, "2"))
    if slow:
        step = Step(
            "It misses the budget: make a smaller network.",
            write_command(*again, "--recipe", "prune50-int8-qat", "--budget-ms", f"{report.gate['budget_ms']:g}"),
        )
    else:
        step = Step("It loses too much: keep more precision.", write_command(*again, "--recipe", "int16x8,int8-qat"))
    return [step, *steps]


def write_markdown(report: CompressReport, record: RunRecord) -> str:
    """Write the report as Markdown."""
    blocks = [
        f"# {report.run}: compression",
        f"Chosen: {report.chosen}. {format_verdict(report)}",
        *([_list_lines([*report.notices, *report.remarks.values()])] if report.notices or report.remarks else []),
        _draw_table(list(COLUMNS), make_table(report, tuple(COLUMNS)).rows),
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


def make_table(report: CompressReport, columns: tuple[str, ...]) -> Table:
    """Make the table of all files with some of the columns."""
    parent, names = report.variants[0], [variant.name for variant in report.variants]
    rows = tuple(tuple(COLUMNS[column](variant, parent) for column in columns) for variant in report.variants)
    return Table(columns, rows, names.index(report.chosen))


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
    recipes = ",".join(f"{RECIPES}/{variant.name}.toml" for variant in report.variants if variant.requested)
    compress = f"edgeseg compress RUN --out OUT --recipe {recipes} --max-drop {report.gate['max_drop']}"
    if report.gate["board"] is not None:
        compress += f" --device {shlex.quote(report.gate['board'])}"
    if report.gate["budget_ms"] is not None:
        compress += f" --budget-ms {report.gate['budget_ms']}"
    if report.teacher is not None:
        compress += " --teacher TEACHER"
    compress += "".join(f" --{name} {share}" for name, share in report.target.items() if share is not None)
    return write_train_command(record), f"{compress} --threads {report.threads}"


def draw_cases(folder: Path, report: CompressReport, cases: Sequence[ComparedCase]) -> Gallery:
    """Draw worst, median and best test cases: truth over the float mask and over the chosen one."""
    if not cases:
        return Gallery(absence="No test case shows anything to find.")
    by_name = {case.case.stem: case for case in cases}
    parent, chosen = (Segmenter(read_model(folder / f"{name}.tflite")) for name in (PARENT, report.chosen))
    kinds = pick_kinds(
        {name: case.chosen_dice for name, case in by_name.items()},
        {name: case.parent_dice - case.chosen_dice for name, case in by_name.items()},
        each=1,
    )
    return draw_gallery(
        kinds,
        lambda name: read_case(by_name[name].case, parent.card.input),
        (Drawer(PARENT, parent), Drawer(report.chosen, chosen)),
        lambda name: f"Dice {by_name[name].chosen_dice:.3f}, float32 {by_name[name].parent_dice:.3f}",
        list_colours(parent.card.output.classes),
    )
