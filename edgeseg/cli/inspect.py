"""`edgeseg inspect`: what a model file is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeseg.cli.common import JsonOption, save_json
from edgeseg.cli.tables import print_table


def inspect(
    model: Annotated[Path, typer.Argument(help="A .tflite file that edgeseg wrote.")],
    json_out: JsonOption = None,
) -> None:
    """Show a model file's card, its operators and which targets take it.

    The card also opens without edgeseg: `unzip -p MODEL edgeseg.json`

    Example: `edgeseg inspect runs/demo/int8-qat.tflite`
    """
    from edgeseg.core.modelfile import read_model
    from edgeseg.core.schema import to_plain
    from edgeseg.graph.operators import read_graph
    from edgeseg.graph.summary import summarise_operators

    file = read_model(model)
    operators = summarise_operators(read_graph(file.flatbuffer))
    table = {
        "card": to_plain(file.card),
        "operators": to_plain(operators),
        "flatbuffer_bytes": len(file.flatbuffer),
        "golden_pairs": len(file.golden),
    }
    _print_card(table["card"], len(file.flatbuffer), len(file.golden))
    rows = [(o.name, str(o.version), str(o.count), o.dtype, f"{o.macs / 1e6:.2f}") for o in operators]
    print_table("Operators", ("operator", "version", "count", "type", "MMACs"), rows)
    save_json(json_out, table)


def _print_card(card: dict[str, Any], size: int, pairs: int) -> None:
    source, provenance, metrics = card["input"], card["provenance"], card["metrics"]
    lines = {
        "name": card["name"],
        "input": f"{source['width']}x{source['height']} {source['colour']}, {source['resize']}, "
        f"{card['input_quantisation']['dtype']}",
        "classes": ", ".join(spec["name"] for spec in card["output"]["classes"]),
        "recipe": f"{provenance['recipe']}, from the model size {provenance['model']}",
        "size": f"{size:,} bytes, {card['parameters']:,} parameters, {card['macs'] / 1e6:.1f} million MACs",
        "golden pairs": str(pairs),
    }
    if metrics:
        dice, drop = metrics["dice"], metrics["drop"]
        lines["Dice"] = f"{dice['mean']:.4f} ({dice['ci95'][0]:.4f} to {dice['ci95'][1]:.4f}), {metrics['cases']} cases"
        lines["drop"] = f"{drop['mean']:+.4f} ({drop['ci95'][0]:+.4f} to {drop['ci95'][1]:+.4f}) from the float parent"
    lines |= {f"on {target}": verdict for target, verdict in card["lint"].items()}
    lines["use"] = f"{card['intended_use']} {card['disclaimer']}"
    for name, value in lines.items():
        print(f"{name:<14}{value}")
