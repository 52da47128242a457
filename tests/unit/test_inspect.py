"""What `inspect` tells of a graph: layers, the peak of memory, and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from edgeseg.backends.probe_model import SIDE, build_probe_model
from edgeseg.bench.operators import join_rounds, match_layers, parse_summary, time_operators
from edgeseg.core.errors import BackendError
from edgeseg.graph.operators import Graph, Operator, Tensor, read_graph
from edgeseg.graph.summary import ActivationPeak, Layer, draw_graph, find_peak, name_layer, summarise_layers
from tests.networks import build_network


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
    assert layer == Layer("CONV_2D", 1, "int8", (1, SIDE, SIDE, 1), SIDE * SIDE, 2, (), "mask")
    assert [layer.inputs for layer in summarise_layers(make_skip_graph())] == [(), (0,), (1, 0)]


def test_layers_have_the_names_that_the_network_was_built_with() -> None:
    assert name_layer("unet/down1_a_relu/Relu6;unet/down1_a_norm/Fused;", "CONV_2D") == "down1_a"
    assert name_layer("unet/head/BiasAdd", "CONV_2D") == "head"
    assert name_layer("StatefulPartitionedCall:0", "ADD") == "add"
    assert [layer.name for layer in summarise_layers(make_skip_graph())] == ["conv_2d", "max_pool_2d", "mask"]


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


def test_the_picture_shows_times_where_they_are_known() -> None:
    root = ElementTree.fromstring(draw_graph("timed", summarise_layers(make_skip_graph()), (0.25, 0.0, 0.5)))
    texts = [node.text for node in root.findall("{*}text")]
    assert [text for text in texts if text is not None and text.endswith(" ms")] == ["0.250 ms", "0.500 ms"]


SUMMARY = """
== Run Order ==
             [node type]    [start]    [first]   [avg ms]     [%]     [cdf%]   [mem KB] [times called]   [Name]
  Delegate/Convolution (NHWC, QC8) IGEMM  0.000  0.122  0.153  15.969%  15.969%  0.000  5   [Delegate]:0
  Delegate/Max Pooling (NHWC, S8)         0.000  0.004  0.004   0.416%  16.385%  0.000  5   [Delegate]:1
  Delegate/Add (ND)                       0.000  0.002  0.005   0.500%  16.885%  0.000  5   [Delegate]:2

== Top by Computation Time ==
  Delegate/Convolution (NHWC, QC8) IGEMM  0.000  0.122  0.153  15.969%  15.969%  0.000  5   [Delegate]:0
"""


def test_operators_are_timed_in_the_order_they_run() -> None:
    times = parse_summary(SUMMARY)
    assert [time.ms for time in times] == [0.153, 0.004, 0.005]
    assert times[0].operator == "Convolution (NHWC, QC8) IGEMM"
    assert parse_summary("nothing of it") == ()


def test_one_busy_round_changes_nothing() -> None:
    busy = SUMMARY.replace("0.153", "9.000")
    assert [time.ms for time in join_rounds([SUMMARY, busy, SUMMARY])] == [0.153, 0.004, 0.005]
    assert join_rounds([""]) == ()


def test_layers_get_times_only_where_operators_are_theirs() -> None:
    layers, times = summarise_layers(make_skip_graph()), parse_summary(SUMMARY)
    assert match_layers(layers, times) == (0.153, 0.004, 0.005)
    assert match_layers(layers, times[::-1]) is None
    assert match_layers(layers, times[:2]) is None
    unpacked = Layer("DEQUANTIZE", 1, "float32", (8,), 0, 8, ())
    assert match_layers((unpacked, *layers), times) == (0.0, 0.153, 0.004, 0.005)


def test_litert_times_a_network_for_real() -> None:
    (time,) = time_operators(build_network(), rounds=2)
    assert time.operator.startswith(("Convolution", "Fully Connected"))
    assert time.ms >= 0.0


def test_a_network_that_litert_does_not_load_is_one_sentence() -> None:
    with pytest.raises(BackendError, match=r"LiteRT.*process") as caught:
        time_operators(b"no network", rounds=1)
    assert "--times" in caught.value.hint
