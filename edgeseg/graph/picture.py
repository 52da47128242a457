"""Draw a graph as SVG without a plotting library: a line per layer, a bar for its work, an arc for every skip."""

from __future__ import annotations

from collections.abc import Sequence

from edgeseg.core.palette import ACCENT, FAINT, INK, SOFT
from edgeseg.graph.summary import Layer

_ROW, _TOP = 20, 40
_SKIPS, _NAMES, _SHAPES, _BARS, _BAR_WIDTH, _WIDTH = 110, 130, 330, 470, 220, 780


def draw_graph(title: str, layers: Sequence[Layer], times: Sequence[float] | None = None) -> str:
    """Draw the layers from top to bottom; the longer the bar, the more milliseconds, or MACs where times are not known.

    Args:
        title: What stands above it.
        layers: The layers in the order they run.
        times: The milliseconds of each.
    """
    work = [layer.macs / 1e6 for layer in layers] if times is None else times
    most, unit = max(work, default=0) or 1, "{:.2f} MMACs" if times is None else "{:.3f} ms"
    parts = [_write(_NAMES, 20, title, INK, "bold")]
    for number, (layer, amount) in enumerate(zip(layers, work, strict=True)):
        parts += [*_draw_layer(number, layer), *_draw_bar(number, amount / most, unit.format(amount))]
        parts += [_draw_skip(source, number) for source in layer.inputs if source != number - 1]
    height = _TOP + _ROW * len(layers) + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif"'
    return "\n".join([f'{head} font-size="12"><rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _draw_layer(number: int, layer: Layer) -> list[str]:
    y, shape = _find_row(number), "x".join(str(size) for size in layer.shape[1:])
    return [_write(_NAMES, y, layer.operator, INK), _write(_SHAPES, y, f"{shape} {layer.dtype}", FAINT)]


def _draw_bar(number: int, share: float, figure: str) -> list[str]:
    y, width = _find_row(number), _BAR_WIDTH * share
    bar = f'<rect x="{_BARS}" y="{y - 11}" width="{width:.1f}" height="14" fill="{ACCENT}"/>'
    return [bar, _write(_BARS + width + 6, y, figure, INK)] if share else []


def _draw_skip(source: int, target: int) -> str:
    """Draw an arc on the left from a layer to a later one; the farther, the wider."""
    start, end = _find_row(source) - 4, _find_row(target) - 4
    left = max(5.0, _SKIPS - 6 * (target - source))
    way = f"M{_SKIPS} {start} C{left} {start} {left} {end} {_SKIPS} {end}"
    return f'<path d="{way}" fill="none" stroke="{SOFT}" stroke-width="1.5"/>'


def _find_row(number: int) -> int:
    return _TOP + _ROW * number + 14


def _write(x: float, y: int, text: str, colour: str, weight: str = "normal") -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-weight="{weight}">{safe}</text>'
