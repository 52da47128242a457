"""`edgeseg inspect`: the card, layers, memory and target support of a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeseg.cli.arguments import take_model
from edgeseg.cli.common import JsonOption, keep_inputs, save_json
from edgeseg.cli.tables import print_table, show_share

if TYPE_CHECKING:
    from edgeseg.graph.findings import Finding
if TYPE_CHECKING:
    from edgeseg.bench.operators import OperatorTime
    from edgeseg.graph.summary import Layer, OperatorGroup

# Names of the linter's targets.
TARGETS = {"cpu": "CPU", "edgetpu": "Edge TPU"}


def print_findings(target: str, findings: Sequence[Finding]) -> None:
    """Print which operators a target supports by the linter's rules, and how to fix the others."""
    from edgeseg.core.card import MAPPED
    from edgeseg.graph.findings import group_findings

    mapped = sum(finding.verdict == MAPPED for finding in findings)
    print(f"{target}, by the linter's rules: {mapped} of {len(findings)} operators mapped")
    for group in group_findings(findings):
        print(f"  {group.operators} ({group.verdict}): {group.rule}\n    {group.cure}")


def inspect(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or a run folder.", metavar="MODEL|RUN")],
    picture: Annotated[
        Path | None,
        typer.Option(metavar="F.svg", help="Draw the layers as SVG, with their MACs or --times.", show_default=False),
    ] = None,
    times: Annotated[
        bool, typer.Option("--times", help="Let LiteRT time its operators on this CPU, on one thread.")
    ] = False,
    json_out: JsonOption = None,
) -> None:
    """Show a model file's card, its layers with shapes, MACs and parameters, its memory, and which targets support it.

    The peak of activations is computed from the graph: the tensors that are alive at the same time. LiteRT does not
    report the size of its arena.

    The card also opens without edgeseg: `unzip -p MODEL edgeseg.json`

    Example: `edgeseg inspect runs/demo/int8-qat.tflite`
    """
    from edgeseg.bench.operators import match_layers, time_operators
    from edgeseg.core.files import write_text
    from edgeseg.core.modelfile import read_any
    from edgeseg.core.schema import to_plain
    from edgeseg.graph.lint import lint_targets
    from edgeseg.graph.operators import read_graph
    from edgeseg.graph.summary import draw_graph, find_peak, summarise_layers, summarise_operators

    model = take_model(model, "edgeseg inspect MODEL")
    keep_inputs([model], [picture, json_out])
    file = read_any(model)
    graph = read_graph(file.flatbuffer)
    operators, layers, peak = summarise_operators(graph), summarise_layers(graph), find_peak(graph)
    lint = lint_targets(graph)
    timed = time_operators(file.flatbuffer) if times else ()
    layer_ms = match_layers(layers, timed) if times else None
    table = {
        "card": to_plain(file.card),
        "operators": to_plain(operators),
        "layers": to_plain(layers),
        "activation_peak": to_plain(peak) | {"source": "graph"},
        "lint": to_plain(lint),
        "flatbuffer_bytes": len(file.flatbuffer),
        "golden_pairs": len(file.golden),
        "sealed": file.sealed,
        "operator_times": to_plain(timed),
        "layer_ms": layer_ms,
    }
    _print_card(table["card"], len(file.flatbuffer), len(file.golden), file.sealed)
    _print_operators(operators)
    _print_layers(layers, layer_ms)
    if times and layer_ms is None:
        _print_times(timed)
    print(f"Activations need at most {peak.bytes / 1024:,.0f} KiB, at layer {peak.layer} (computed from the graph).")
    for target, findings in lint.items():
        print_findings(TARGETS[target], findings)
    if picture is not None:
        write_text(picture, draw_graph(file.card.name, layers, layer_ms))
    save_json(json_out, table)


def _print_operators(operators: Sequence[OperatorGroup]) -> None:
    rows = [(o.name, str(o.version), str(o.count), o.dtype, f"{o.macs / 1e6:.2f}") for o in operators]
    print_table("Operators", ("operator", "version", "count", "type", "MMACs"), rows)


def _print_times(times: Sequence[OperatorTime]) -> None:
    """Print LiteRT's operators, where they do not match the layers one to one."""
    print_table("Operators as LiteRT runs them", ("operator", "ms"), [(t.operator, f"{t.ms:.3f}") for t in times])


def _print_layers(layers: Sequence[Layer], times: Sequence[float] | None) -> None:
    from edgeseg.core.redact import to_one_line

    rows = [
        (
            f"{number} {to_one_line(layer.name, 24)}",
            layer.operator,
            str(layer.version),
            "x".join(map(str, layer.shape)),
            layer.dtype,
            f"{layer.macs / 1e6:.2f}",
            f"{layer.parameters:,}",
            *([f"{times[number]:.3f}"] if times is not None else []),
        )
        for number, layer in enumerate(layers)
    ]
    columns = (
        "layer",
        "operator",
        "version",
        "result",
        "type",
        "MMACs",
        "parameters",
        *(["ms"] if times is not None else []),
    )
    print_table("Layers", columns, rows)


def _print_card(card: dict[str, Any], size: int, pairs: int, sealed: bool) -> None:
    from edgeseg.core.stats import show_interval

    source, provenance, metrics = card["input"], card["provenance"], card["metrics"]
    if "task" in card:
        _print_registration_card(card, size, pairs, sealed)
        return
    lines = {
        "name": card["name"],
        "input": f"{source['width']}x{source['height']} {source['colour']}, {source['resize']}, "
        f"{card['input_quantisation']['dtype']}",
        "classes": ", ".join(spec["name"] for spec in card["output"]["classes"]),
        "shape": card["output"]["shape"],
        **_describe_finding(card),
        **describe_decision(card["decision"]),
        "recipe": f"{provenance['recipe']}, from the model size {provenance['model']}",
        "size": f"{size:,} bytes, {card['parameters']:,} parameters, {card['macs'] / 1e6:.1f} million MACs",
        "golden pairs": str(pairs),
        "seal": "intact: card and golden pairs are unchanged" if sealed else "none: an older file",
    }
    if provenance["header_region"]:
        lines["region"] = "trained on the ultrasound region that DICOM headers name"
    if metrics:
        dice, drop = metrics["dice"], metrics["drop"]
        lines["Dice"] = f"{dice['mean']:.4f} ({show_interval(dice['ci95'])}), {metrics['cases']} cases"
        lines["drop"] = f"{drop['mean']:+.4f} ({show_interval(drop['ci95'], '+.4f')}) from the float parent"
    lines |= {f"on {target}": verdict for target, verdict in card["lint"].items()}
    lines["use"] = f"{card['intended_use']} {card['disclaimer']}"
    for name, value in lines.items():
        print(f"{name:<14}{value}")


def _print_registration_card(card: dict[str, Any], size: int, pairs: int, sealed: bool) -> None:
    from edgeseg.core.stats import show_interval

    source, provenance, metrics = card["input"], card["provenance"], card["metrics"]
    lines = {
        "name": card["name"],
        "task": "registers two frames: edgeseg register FIXED MOVING --method learned --model FILE",
        "input": f"two frames of {source['width']}x{source['height']} {source['colour']}, {source['resize']}, "
        f"{card['input_quantisation']['dtype']}",
        "reach": f"{card['reach_px']:g} px of the input for each pass",
        "recipe": f"{provenance['recipe']}, from the model size {provenance['model']}",
        "trained on": f"{provenance['frames']:,} frames of {provenance['clips']} clips, without labels",
        "size": f"{size:,} bytes, {card['parameters']:,} parameters, {card['macs'] / 1e6:.1f} million MACs",
        "golden pairs": str(pairs),
        "seal": "intact: card and golden pairs are unchanged" if sealed else "none: an older file",
    }
    if metrics:
        error, before = metrics["error_px"], metrics["before_px"]
        lines["distance"] = (
            f"{error['mean']:.2f} px ({show_interval(error['ci95'], '.2f')}) from the true place, one pass, "
            f"{before['mean']:.2f} px without; {metrics['pairs']} pairs of {metrics['clips']} clips kept apart"
        )
    lines |= {f"on {target}": verdict for target, verdict in card["lint"].items()}
    lines["use"] = f"{card['intended_use']} {card['disclaimer']}"
    for name, value in lines.items():
        print(f"{name:<14}{value}")


def _describe_finding(card: dict[str, Any]) -> dict[str, str]:
    """Describe the second output, where there is one."""
    if not card["finding"]:
        return {}
    classes = ", ".join(card["finding"]["frame_classes"])
    return {
        "finding": f"presence of {', '.join(spec['name'] for spec in card['output']['classes'])}"
        f"{f'; frame classes {classes}' if classes else ''}; {card['finding_quantisation']['dtype']}"
    }


def describe_decision(decision: dict[str, Any] | None) -> dict[str, str]:
    """Describe what counts as found, and whether frames unlike the training are told."""
    rules = decision["classes"] if decision else []
    points = [(rule["name"], rule["operating_point"]) for rule in rules]
    lines = [f"{name}: {_describe_point(point)}" for name, point in points]
    known = (
        "told, and show no mask" if decision and decision["known"] else "not told: the file does not describe its own"
    )
    return {
        "found": "; ".join(lines)
        or "every mask: no operating point; evaluate --sensitivity 0.9 --save-model F adds one",
        "other frames": known,
    }


def _describe_point(point: dict[str, Any] | None) -> str:
    if point is None:
        return "every mask, no operating point"
    alarms = point["false_alarm_rate"]
    return (
        f"from a confidence of {point['threshold']:.3f}, for a {point['target']} of {point['wanted']:.0%}; on "
        f"{point['cases']} {point['chosen_on']} cases that show it: sensitivity {show_share(point['sensitivity'])}, "
        f"coverage {show_share(point['coverage'])}"
        + (f"; on {point['empty_cases']} that do not: false alarms {show_share(alarms)}" if alarms else "")
    )
