"""The page of several sources: small pictures of all, the page of each below it, and the same access control."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgeseg.core.decision import FOUND
from edgeseg.core.errors import OutputError
from edgeseg.streaming.latency import LatencyRecorder
from edgeseg.streaming.sinks.base import LatestResultSink, Member, Result, StreamInfo, Writer
from edgeseg.streaming.sinks.metrics import MetricsServer, SourceCounts
from edgeseg.streaming.sources.address import Size, show_source
from edgeseg.streaming.sources.base import LatestSlot, Notice
from edgeseg.streaming.switching import FAILED, LIVE, SourceStatus
from edgeseg.streaming.viewer import state
from edgeseg.streaming.viewer.encoding import TILE_PX
from edgeseg.streaming.viewer.grid import GridViewer
from edgeseg.streaming.viewer.state import LiveState, ViewerContext, Viewers
from edgeseg.streaming.viewer.viewer import SourceView
from edgeseg.web.access import THIS_MACHINE, Access
from tests.results import CLASSES, REPORT, make_decided, make_result
from tests.viewers import ask_url

LABELS = ("1", "left", "3")
SHOWN = show_source("rtsp://doctor:hush@10.0.0.4/us")
SLOT = LatestSlot(Size(64, 48), 10.0)


def make_member_info(number: int) -> StreamInfo:
    slot = SLOT if number == 3 else None
    member = Member(number, LABELS[number - 1], slot is not None, lambda: slot, lambda: LIVE)
    return StreamInfo("small", SHOWN, lambda: REPORT, LatencyRecorder(50.0, 80.0), member=member)


def open_grid(
    access: Access = THIS_MACHINE, recordings: Sequence[LatestResultSink | None] = (None, None, None)
) -> GridViewer:
    viewers = Viewers()
    contexts = [
        ViewerContext(make_member_info(number), CLASSES, recording, LiveState(number), viewers)
        for number, recording in enumerate(recordings, 1)
    ]
    statuses = (
        SourceStatus(1, SHOWN, LIVE, ""),
        SourceStatus(2, SHOWN, FAILED, "Expected frames, got none."),
        SourceStatus(3, SHOWN, LIVE, ""),
    )
    views = [SourceView(context, False, "doubtful") for context in contexts]
    return GridViewer(views, lambda: statuses, 0, access)


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Iterator[GridViewer]:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.05)
    with closing(open_grid()) as grid:
        yield grid


def ask_json(grid: GridViewer, path: str) -> dict[str, Any]:
    status, _, body = ask_url(grid.url, path)
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def read_parts(grid: GridViewer, count: int, least: int = 1) -> list[tuple[dict[str, Any], bytes]]:
    """Read parts of the small pictures."""
    where = urlsplit(grid.url)
    parts: list[tuple[dict[str, Any], bytes]] = []
    with closing(http.client.HTTPConnection(str(where.hostname), int(where.port or 0), timeout=10)) as connection:
        connection.request("GET", "/tiles")
        answer = connection.getresponse()
        assert answer.status == 200
        while len(parts) < count:
            head = {}
            while line := answer.readline().strip():
                name, _, value = line.decode().partition(": ")
                head[name.lower()] = value
            if "content-length" in head:
                parts.append((json.loads(head["x-edgeseg-figures"]), answer.read(int(head["content-length"]))))
    assert len(parts) >= least
    return parts


def test_the_figures_of_all_sources_name_each_and_tell_no_secret(grid: GridViewer) -> None:
    grid.views[0].publish(make_result())
    numbers = ask_json(grid, "/numbers")
    assert [(one["label"], one["state"], one["frames"]) for one in numbers["sources"]] == [
        ("1", "live", 1),
        ("left", "failed", 0),
        ("3", "live", 0),
    ]
    assert numbers["sources"][1]["sentence"] == "Expected frames, got none."
    assert "hush" not in json.dumps(numbers)
    assert not numbers["ended"]


def test_small_pictures_of_all_sources_come_in_one_response(grid: GridViewer) -> None:
    large = make_decided(FOUND, 0.9)
    image, labels = np.zeros((1080, 3840, 3), np.uint8), np.zeros((1080, 3840), np.uint8)
    labels[200:600, 1000:2000] = 1
    large = replace(
        large, frame=replace(large.frame, image=image), segmentation=replace(large.segmentation, mask=labels)
    )
    grid.views[0].publish(make_result())
    grid.views[2].publish(large)
    parts = {figures["source"]: (figures, jpeg) for figures, jpeg in read_parts(grid, 2)}
    assert set(parts) == {1, 3}
    figures, jpeg = parts[3]
    assert figures["classes"][0]["state"] == FOUND
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (135, TILE_PX, 3)
    assert picture.any()


def test_every_source_has_its_whole_page_below_the_grid(grid: GridViewer) -> None:
    grid.views[1].publish(make_result())
    for path in ("/2/", "/2/page.js", "/2/parts.js", "/grid.js", "/grid.css", "/page.css"):
        assert ask_url(grid.url, path)[0] == 200
    numbers = ask_json(grid, "/2/numbers?page=a")
    assert (numbers["label"], numbers["frames"], numbers["sources"]) == ("left", 1, [])
    assert ask_json(grid, "/1/numbers")["frames"] == 0
    grid.views[1].on_notice(Notice(FAILED, "Gone."))
    assert ask_json(grid, "/2/numbers")["notices"][0]["sentence"] == "Gone."


@pytest.mark.parametrize(
    "path",
    [
        *("/0/", "/4/", "/17/", "/01/", "/-1/", "/1", "/1/1/", "/1/grid.js", "/picture", "/still"),
        *("/\u0661/", "/1/../2/", "/%31/"),
    ],
)
def test_paths_that_are_no_source_lead_nowhere(grid: GridViewer, path: str) -> None:
    where = urlsplit(grid.url)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert b" 404 " in connection.recv(100)


def test_the_camera_of_the_page_belongs_to_its_source_alone(grid: GridViewer) -> None:
    own = {"Origin": f"http://{urlsplit(grid.url).netloc}", "Content-Type": "image/jpeg"}
    answers = {path: ask_url(grid.url, path, "POST", own, b"jpeg")[0] for path in ("/camera", "/1/camera", "/3/camera")}
    assert answers == {"/camera": 404, "/1/camera": 404, "/3/camera": 204}
    assert SLOT.take(0.1) is not None
    assert "camera=(self)" in ask_url(grid.url, "/3/")[1]["Permissions-Policy"]
    assert "camera=()" in ask_url(grid.url, "/1/")[1]["Permissions-Policy"]


class Tape(Writer):
    """Counts what is recorded; one that is full fails."""

    name = "the recording"

    def __init__(self, is_full: bool = False) -> None:
        self._is_full = is_full

    def write(self, result: Result) -> bool:
        if self._is_full:
            raise OutputError(f"Expected room for frame {result.frame.number}, got a full disk.")
        return True


def test_one_button_switches_the_recordings_of_all_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.05)
    tapes = [LatestResultSink(Tape(number == 2), is_on=False) for number in (1, 2, 3)]
    with closing(open_grid(recordings=tapes)) as grid:
        own = {"Origin": f"http://{urlsplit(grid.url).netloc}"}
        assert ask_json(grid, "/numbers")["recording"]["on"] is False
        assert ask_url(grid.url, "/recording/start", "POST", own)[0] == 204
        for view, tape in zip(grid.views, tapes, strict=True):
            assert tape.is_on
            tape.publish(make_result())
            tape.close()
            view.publish(make_result())
        numbers = ask_json(grid, "/numbers")
        assert (numbers["recording"]["on"], numbers["recording"]["taken"]) == (True, 2)
        told = [one["recording"] for one in numbers["sources"]]
        assert (told[0], told[2], told[1].startswith("recording ended: Expected room")) == ("recording",) * 2 + (True,)
        assert ask_url(grid.url, "/2/recording/stop", "POST", own)[0] == 204
        assert [tape.is_on for tape in tapes] == [True, False, True]
        assert ask_url(grid.url, "/recording/stop", "POST", own)[0] == 204
        assert not any(tape.is_on for tape in tapes)
        assert ask_url(grid.url, "/recording/start", "POST", {"Origin": "http://evil.example"})[0] == 403
    with closing(open_grid()) as grid:
        assert ask_json(grid, "/numbers")["recording"] is None
        own = {"Origin": f"http://{urlsplit(grid.url).netloc}"}
        assert ask_url(grid.url, "/recording/start", "POST", own)[0] == 404


@pytest.mark.parametrize("path", ["/", "/numbers", "/tiles", "/2/", "/2/numbers", "/2/picture", "/2/still?picture=1"])
def test_nothing_is_shown_without_the_token_or_to_another_site(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAREWELL_SECONDS", 0.05)
    with closing(open_grid(Access("127.0.0.1", "token"))) as grid:
        url = grid.url.partition("?")[0]
        assert ask_url(url, path)[0] == 403
        assert ask_url(url, path, headers={"Host": "evil.example"})[0] == 403
        assert ask_url(url, "/2/numbers?token=token", headers={"Origin": "http://evil.example"})[0] == 403
        assert ask_url(url, "/2/recording/start?token=token", "POST")[0] == 403
        assert ask_url(url, "/2/numbers?token=token")[0] == 200


def test_clients_that_do_not_read_are_few_and_delay_neither_results_nor_the_end(
    grid: GridViewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeseg.streaming.viewer.grid.TILE_FPS", 500.0)
    where = urlsplit(grid.url)
    with ExitStack() as clients:
        statuses = []
        for _ in range(state.MAX_VIEWERS_PER_ADDRESS + 1):
            client = clients.enter_context(socket.create_connection((str(where.hostname), int(where.port or 0)), 10))
            client.sendall(b"GET /tiles HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            statuses.append(client.recv(12)[-3:])
        for number in range(50):
            grid.views[number % 3].publish(make_result(number))
        assert statuses == [*state.MAX_VIEWERS_PER_ADDRESS * [b"200"], b"503"]
        assert not grid.views[0].context.viewers.has_any(1)
        grid.close()


def test_figures_of_prometheus_carry_the_source_once_per_name(grid: GridViewer) -> None:
    counted = [SourceCounts(view.context.info) for view in grid.views]
    counted[1].publish(make_decided(FOUND, 0.5))
    with closing(MetricsServer(counted, 0)) as server:
        text = ask_url(server.url, "/metrics")[2].decode()
    assert 'edgeseg_frames_processed_total{source="left"} 1' in text
    assert 'edgeseg_frames_processed_total{source="1"} 0' in text
    assert 'edgeseg_state_frames_total{source="left",class="lesion",state="found"} 1' in text
    assert text.count("# TYPE edgeseg_frames_processed_total") == 1
    assert 'edgeseg_source_state{source="left",state="live"} 1\n' in text
    assert 'edgeseg_source_state{source="left",state="connecting"} 0\n' in text
    assert "hush" not in text
    assert "10.0.0.4" not in text
