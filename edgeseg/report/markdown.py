"""The report as text, for a repository or a message; the pictures are in the page."""

from __future__ import annotations

from collections.abc import Sequence

from edgeseg.compress.plan import CompressReport
from edgeseg.core.card import DISCLAIMER
from edgeseg.report.repeat import write_commands
from edgeseg.report.table import COLUMNS, list_operators, list_rows, list_worst_layers
from edgeseg.train.run import RunRecord


def write_markdown(report: CompressReport, record: RunRecord) -> str:
    """Write the figures of a report as Markdown."""
    blocks = [
        f"# {report.run}: compression",
        f"Chosen: {report.chosen}. {say_verdict(report)}",
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


def say_verdict(report: CompressReport) -> str:
    """Say whether the gate held, and what to do if it did not."""
    gate = report.gate
    promise = f"at most {gate['max_drop']} Dice lost on validation cases, at the interval's bad end"
    if gate["budget_ms"] is not None:
        promise += f", at most {gate['budget_ms']:g} ms per inference (p99, on the machine that wrote this)"
    held = "held" if gate["held"] else "not held" if gate["judged"] else "not judged"
    return f"Gate {held}: {promise}. {report.advice}".strip()


def list_facts(report: CompressReport, record: RunRecord) -> list[tuple[str, str]]:
    """List what else decides how a compression comes out."""
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


def _list_lines(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _draw_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
