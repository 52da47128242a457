"""What a viewer chooses: classes that it hides, a picture that it pauses on, and the source that all see."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeseg.core.spec import ClassSpec
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.options import CaptureOptions
from edgeseg.streaming.sinks.base import Result
from edgeseg.streaming.sources.base import Frame
from edgeseg.streaming.switching import SourceSwitch, Turn
from edgeseg.streaming.tracking import make_picture
from edgeseg.streaming.viewer import WebViewer, state
from edgeseg.web.access import Access
from tests.results import AREA, CLASSES, make_info, make_result
from tests.unit.test_viewer import PictureClient
from tests.viewers import ask, order

FIGURES = "X-Edgeseg-Figures"
NAMES = ("phantom://?seed=1", "phantom://?seed=2")


@pytest.fixture
def viewer() -> Iterator[WebViewer]:
    with closing(WebViewer(make_info(), CLASSES, 0, track_mask=False)) as viewer:
        yield viewer


@pytest.fixture
def switch() -> SourceSwitch:
    return SourceSwitch(NAMES, False, CaptureOptions(), None)


@pytest.fixture
def switched(switch: SourceSwitch) -> Iterator[WebViewer]:
    """Serve a page whose stream has two sources; the first has begun."""
    viewer = WebViewer(replace(make_info(), switch=switch), CLASSES, 0, track_mask=False)
    viewer.on_turn(Turn(1, NAMES[0], 0), LatencyRecorder(50.0, 1.0))
    with closing(viewer):
        yield viewer


def is_coloured(image: NDArray[np.uint8]) -> bool:
    return bool(np.ptp(image, axis=2).max() > 40)


def decode(jpeg: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(image, dtype=np.uint8)


def ask_numbers(viewer: WebViewer) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads(ask(viewer, "/numbers")[2])
    return numbers


def test_a_hidden_class_is_not_drawn_and_its_figures_stay(viewer: WebViewer) -> None:
    viewer.publish(make_result())
    seen = {}
    for query in ("", "?hide=1", "?hide=2", "?hide=1,2", "?hide=", "?hide=127"):
        with closing(PictureClient(viewer, query)) as client:
            image, figures = client.read_part()
        seen[query] = is_coloured(image)
        assert figures["classes"][0]["area_px"] == AREA
    assert seen == {"": True, "?hide=1": False, "?hide=2": True, "?hide=1,2": False, "?hide=": True, "?hide=127": True}


@pytest.mark.parametrize("hide", ["0", "128", "x", "1;2", "-1", "1.5", "9" * 5000])
def test_numbers_that_are_no_class_are_refused(viewer: WebViewer, hide: str) -> None:
    for path in ("/picture", "/still"):
        assert ask(viewer, f"{path}?hide={hide}")[0] == 400


def test_a_model_of_127_classes_can_hide_all() -> None:
    classes = tuple(ClassSpec(f"class {number}", (number, 255 - number, 90)) for number in range(1, 128))
    labels = np.arange(128, dtype=np.uint8).repeat(64).reshape(64, 128)
    result = Result(Frame(np.full((64, 128), 90, np.uint8), 0, 0.0), Segmentation(labels, StageTimes(1, 1, 1)), 5.0)
    with closing(WebViewer(make_info(), classes, 0, track_mask=False)) as viewer:
        viewer.publish(result)
        with closing(PictureClient(viewer, f"?hide={','.join(map(str, range(1, 128)))}")) as client:
            image, figures = client.read_part()
    assert not is_coloured(image)
    assert len(figures["classes"]) == len(figures["hidden"]) == 127
    assert all(one["area_px"] for one in figures["classes"])


def test_a_picture_that_was_sent_is_drawn_again_otherwise_while_the_stream_goes_on(viewer: WebViewer) -> None:
    viewer.publish(make_result(7))
    with closing(PictureClient(viewer)) as client:
        _, figures = client.read_part()
    query = f"/still?picture={figures['picture']}&page=a"
    assert ask(viewer, query)[0] == 200
    with closing(PictureClient(viewer)) as client:
        for number in range(8, 8 + 2 * state.KEPT_SENT):
            viewer.publish(make_result(number))
            client.read_part()
    status, headers, jpeg = ask(viewer, f"{query}&hide=1")
    still = json.loads(headers[FIGURES])
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert not is_coloured(decode(jpeg))
    assert still["hidden"] == [1]
    assert {**still, "hidden": []} == figures


@pytest.mark.parametrize("query", ["", "picture=1", "picture=99", "picture=x", "picture=nan", "picture=inf"])
def test_a_picture_that_was_never_sent_is_not_there(viewer: WebViewer, query: str) -> None:
    viewer.publish(make_result())
    assert ask(viewer, f"/still?{query}")[0] == 404


def test_pages_hold_few_pictures_however_many_names_they_use(viewer: WebViewer) -> None:
    viewer.publish(make_result())
    with closing(PictureClient(viewer)) as client:
        _, figures = client.read_part()
    for page in range(100):
        assert ask(viewer, f"/still?picture={figures['picture']}&page={page}")[0] == 200
    assert len(viewer.context.live_state._held) == state.MAX_VIEWERS


def test_large_pictures_are_not_collected() -> None:
    live = state.LiveState()
    for number in range(8):
        result = Result(
            Frame(np.zeros((2000, 2000, 3), np.uint8), number, 0.0),
            Segmentation(np.zeros((2000, 2000), np.uint8), StageTimes(1, 1, 1)),
            1.0,
        )
        live.show(make_picture(result))
        shown = live.wait_newer(0, 1.0)
        assert shown is not None
        live.remember(shown)
    assert state._count_bytes(live._sent) <= state.SENT_BYTES


def test_the_page_lists_the_sources_and_chooses_one(switched: WebViewer, switch: SourceSwitch) -> None:
    numbers = ask_numbers(switched)
    assert [one["name"] for one in numbers["sources"]] == list(NAMES)
    assert numbers["source"] == NAMES[0]
    assert order(switched, "/source?number=2")[0] == 204
    numbers = ask_numbers(switched)
    assert numbers["chosen"] == switch.chosen == 2
    assert numbers["sources"][1]["state"] == "opening"


@pytest.mark.parametrize(
    "query", ["", "?number=0", "?number=3", "?number=1.5", "?number=nan", "?number=x", "?number=-1"]
)
def test_a_source_that_is_none_is_refused(switched: WebViewer, switch: SourceSwitch, query: str) -> None:
    assert order(switched, f"/source{query}")[0] == 400
    assert switch.chosen == 1


def test_a_stream_of_one_source_has_none_to_choose(viewer: WebViewer) -> None:
    assert ask_numbers(viewer)["sources"] == []
    status, said = order(viewer, "/source?number=1")
    assert status == 404
    assert b"--source" in said


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}], ids=str
)
def test_another_site_chooses_no_source(switched: WebViewer, switch: SourceSwitch, headers: dict[str, str]) -> None:
    assert order(switched, "/source?number=2", headers)[0] == 403
    assert ask(switched, "/source?number=2", "POST", body=b"")[0] == 403
    assert ask(switched, "/source?number=2")[0] == 404
    assert switch.chosen == 1


def test_nobody_chooses_or_sees_without_the_token(switch: SourceSwitch) -> None:
    info = replace(make_info(), switch=switch)
    with closing(WebViewer(info, CLASSES, 0, track_mask=False, access=Access("127.0.0.2", "secret"))) as viewer:
        assert order(viewer, "/source?number=2")[0] == 403
        assert ask(viewer, "/still?picture=1")[0] == 403
        assert switch.chosen == 1
        assert order(viewer, "/source?number=2&token=secret")[0] == 204


def test_nothing_of_the_last_source_is_shown_after_the_turn(switched: WebViewer) -> None:
    old = make_result(3)
    switched.publish(old)
    before = ask_numbers(switched)
    with closing(PictureClient(switched)) as client:
        _, figures = client.read_part()
        switched.on_turn(Turn(2, NAMES[1], 4), LatencyRecorder(50.0, 1.0))
        # a tracker that had begun with the last source shows what it has
        switched.publish(old)
        switched.publish(make_result(4))
        _, later = client.read_part()
    numbers = ask_numbers(switched)
    assert (figures["source"], figures["number"], figures["stream"]) == (1, 3, before["stream"])
    assert (later["source"], later["number"], later["stream"]) == (2, 4, numbers["stream"])
    assert numbers["stream"] != before["stream"]
    assert numbers["source"] == NAMES[1]
    assert ask(switched, f"/still?picture={figures['picture']}")[0] == 404


def test_figures_begin_anew_with_the_turn(switched: WebViewer) -> None:
    for number in range(5):
        switched.publish(make_result(number))
    assert ask_numbers(switched)["frames"] == 5
    recorder = LatencyRecorder(50.0, 1.0)
    switched.on_turn(Turn(2, NAMES[1], 5), recorder)
    numbers = ask_numbers(switched)
    assert (numbers["frames"], numbers["ages_ms"], numbers["idle_ms"], numbers["late"]) == (0, [], None, 0)
    recorder.record(StageTimes(1, 10, 2), 99.0)
    assert ask_numbers(switched)["late"] == 1


def test_picture_and_figures_are_of_one_frame_through_switches_toggles_and_slow_clients() -> None:
    """Frame N is N grey and its mask has N rows, whatever the source; a client that reads slowly skips frames."""
    switch = SourceSwitch(NAMES, False, CaptureOptions(), None)
    viewer = WebViewer(replace(make_info(), switch=switch), CLASSES, 0, track_mask=True)
    stop = threading.Event()

    def publish() -> None:
        number, turn = 0, 0
        while not stop.wait(0.004):
            if number % 25 == 0:
                turn = 1 + turn % 2
                viewer.on_turn(Turn(turn, NAMES[turn - 1], number), LatencyRecorder(50.0, 1.0))
            shade = 20 + number % 200
            labels = np.zeros((256, 64), np.uint8)
            labels[:shade] = 1
            frame = Frame(np.full((256, 64), shade, np.uint8), number, monotonic(), source=turn)
            viewer.on_frame(frame)
            viewer.publish(Result(frame, Segmentation(labels, StageTimes(1, 1, 1)), 1.0))
            number += 1

    thread = threading.Thread(target=publish)
    thread.start()
    seen: list[tuple[int, dict[str, Any]]] = []
    try:
        for pause, hide in ((0.0, ""), (0.05, "1"), (0.0, "1,2"), (0.1, "2")):
            with closing(PictureClient(viewer, f"?fps=60&hide={hide}")) as client:
                for _ in range(12):
                    image, figures = client.read_part()
                    seen.append((int(image[254, 5, 0]), figures))
                    sleep(pause)
    finally:
        stop.set()
        thread.join()
        viewer.close()
    for shade, figures in seen:
        expected = 20 + figures["number"] % 200
        assert abs(shade - expected) <= 3
        assert figures["classes"][0]["area_px"] == 64 * (20 + figures["mask_number"] % 200)
        assert figures["source"] == 1 + (figures["number"] // 25) % 2
        assert figures["number"] // 25 == figures["mask_number"] // 25


def try_order(viewer: WebViewer, path: str) -> int:
    """Give the status of an order; 0 where the server took no further connection of this address."""
    try:
        return order(viewer, path)[0]
    except OSError:
        return 0


def test_fifty_clients_choose_in_a_loop_and_the_page_still_answers(switched: WebViewer) -> None:
    answers: list[int] = []

    def choose(number: int) -> None:
        answers.extend(try_order(switched, f"/source?number={1 + (number + turn) % 2}") for turn in range(5))

    clients = [threading.Thread(target=choose, args=(number,)) for number in range(50)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert set(answers) <= {204, 0}
    assert answers.count(204) > 100
    assert ask_numbers(switched)["chosen"] in (1, 2)


def test_clients_that_want_a_picture_alike_share_its_encoding() -> None:
    now, written = [0.0], list[int]()

    def write(number: int) -> bytes:
        written.append(number)
        return b"%d" % number

    def take(number: int, seen: int, hidden: tuple[int, ...] = (), stream: str = "a") -> tuple[int, bytes]:
        return parts.take(hidden, 30.0, (stream, number), seen, partial(write, number))

    parts = state.SharedParts(lambda: now[0])
    assert take(7, 0) == take(7, 0) == (7, b"7")
    now[0] = 0.01
    # a fast stream has a newer one, but this one was written a moment ago
    assert take(9, 0) == (7, b"7")
    assert take(9, 7) == (9, b"9")
    now[0] = 0.04
    assert take(12, 7) == (12, b"12")
    assert take(12, 0, (1,)) == (12, b"12")
    assert take(13, 0, stream="b") == (13, b"13")
    assert written == [7, 9, 12, 12, 13]
