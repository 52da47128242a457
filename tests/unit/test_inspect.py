"""What `inspect` tells of a graph: layers, the peak of memory, and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from edgeseg.backends.probe_model import SIDE, build_probe_model
from edgeseg.graph.operators import Graph, Operator, Tensor, read_graph
from edgeseg.graph.picture import draw_graph
from edgeseg.graph.summary import ActivationPeak, Layer, find_peak, summarise_layers


def make_tensor(index: int, size: int) -> Tensor:
    return Tensor((1, 1, 1, size), "int8", constant=False, index=index)


def make_skip_graph() -> Graph:
    """Make a graph whose first result is needed again at the end: 10 -> 20 -> 5, and 20 with 5 -> 1."""
    image, wide, small, result = (make_tensor(number, size) for number, size in enumerate((10, 20, 5, 1)))
    steps = [
        Operator("CONV_2D", 1, (image,), (wide,), 2_000_000),
        Operator("MAX_POOL_2D", 1, (wide,), (small,), 0),
        Operator("ADD", 1, (small, wide), (result,), 0),
    ]
    return Graph(tuple(steps), 0, (image,), (result,))


def test_layers_tell_their_work_and_where_they_take_from() -> None:
    (layer,) = summarise_layers(read_graph(build_probe_model()))
    assert layer == Layer("CONV_2D", 1, "int8", (1, SIDE, SIDE, 1), SIDE * SIDE, 2, ())
    assert [layer.inputs for layer in summarise_layers(make_skip_graph())] == [(), (0,), (1, 0)]


def test_the_peak_counts_what_is_alive_at_the_same_time() -> None:
    assert find_peak(make_skip_graph()) == ActivationPeak(30, 0)
    assert find_peak(read_graph(build_probe_model())) == ActivationPeak(2 * SIDE * SIDE, 0)


def test_the_picture_is_whole_svg_with_an_arc_for_the_skip() -> None:
    picture = draw_graph("a <name> & more", summarise_layers(make_skip_graph()))
    root = ElementTree.fromstring(picture)
    assert len(root.findall("{*}path")) == 1
    texts = [node.text for node in root.findall("{*}text")]
    assert texts[0] == "a <name> & more"
    assert "2.00 MMACs" in texts
