"""What a stream says of its classes: states that hold, JSON, metrics, and what of it is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.decision import DOUBTFUL, FOUND, NOTHING
from edgeseg.inference.masks import choose_labels, draw_overlay
from edgeseg.streaming.sinks.json_lines import describe_result
from edgeseg.streaming.sinks.metrics import Metrics
from edgeseg.streaming.sinks.recording import Recording
from edgeseg.streaming.sinks.window import draw_picture
from edgeseg.streaming.states import StateKeeper
from edgeseg.streaming.tracking import make_picture, move_points
from edgeseg.streaming.viewer.encoding import JpegOptions, encode_picture, read_jpeg_options
from edgeseg.streaming.viewer.figures import measure_picture
from tests.results import AREA, CLASSES, make_decided, make_info, make_result

SHOWN = frozenset({FOUND, DOUBTFUL})


def keep(states: list[tuple[str, float | None]], is_steady: bool = True) -> list[str]:
    """Give the state of the lesion in every frame of a stream of 30 frames per second."""
    keeper = StateKeeper(CLASSES, is_steady)
    kept = (keeper.take(make_decided(*state).segmentation, number / 30) for number, state in enumerate(states))
    return [one.findings[0].state for one in kept]


def test_a_stream_holds_states_and_can_leave_each_frame_to_itself() -> None:
    wavering = [(FOUND, 0.7), (DOUBTFUL, 0.5), (FOUND, 0.7), (NOTHING, None), (FOUND, 0.7)]
    assert keep(wavering) == 5 * [FOUND]
    assert keep(wavering, is_steady=False) == [state for state, _ in wavering]


def test_nothing_is_found_in_frames_out_of_distribution() -> None:
    keeper = StateKeeper(CLASSES)
    kept = [keeper.take(make_decided(FOUND, 0.9, distance=distance).segmentation, 0.0) for distance in 3 * [0.5]]
    kept += [keeper.take(make_decided(FOUND, 0.9, distance=2.0).segmentation, 0.0) for _ in range(4)]
    kept += [keeper.take(make_decided(FOUND, 0.9, distance=0.5).segmentation, 0.0) for _ in range(6)]
    states, out = [one.findings[0].state for one in kept], [one.out_of_distribution for one in kept]
    assert (states[2], states[6], states[-1]) == (FOUND, NOTHING, FOUND)
    assert all(state == NOTHING for state, is_out in zip(states, out, strict=True) if is_out)
    assert keeper.report().out_of_distribution == sum(out) > 0


def test_a_scene_that_is_cut_to_a_far_frame_shows_nothing_of_the_last_one() -> None:
    keeper = StateKeeper(CLASSES)
    distances = [*5 * [0.5], *5 * [3.5], *5 * [0.5]]
    kept = [
        keeper.take(make_decided(FOUND, 0.9, distance=distance).segmentation, number / 30)
        for number, distance in enumerate(distances)
    ]
    assert "".join(one.findings[0].state[0] for one in kept) == 5 * "f" + 7 * "n" + 3 * "f"
    assert [one.out_of_distribution for one in kept] == [*5 * [False], *7 * [True], *3 * [False]]


def test_nothing_is_held_over_a_pause() -> None:
    keeper = StateKeeper(CLASSES)
    for number in range(5):
        keeper.take(make_decided(FOUND, 0.9).segmentation, number / 30)
    back = keeper.take(make_decided(NOTHING, None).segmentation, 60.0)
    assert back.findings[0].state == NOTHING
    again = keeper.take(make_decided(FOUND, 0.9).segmentation, 0.0)
    assert again.findings[0].state == FOUND


def test_report_has_seconds_flicker_and_operating_points() -> None:
    keeper = StateKeeper(CLASSES, is_steady=False)
    for number in range(61):
        keeper.take(make_decided(FOUND if number < 30 else NOTHING, 0.8).segmentation, number / 30)
    lesion, vessel = keeper.report().classes
    assert lesion.seconds == {FOUND: 1.0, DOUBTFUL: 0.0, NOTHING: 1.0}
    assert (lesion.changes, lesion.flicker_per_minute, lesion.area_jitter) == (1, 30.0, 0.0)
    assert (vessel.changes, vessel.area_jitter) == (0, None)
    assert keeper.report().operating_points == {"lesion": 0.6}


def test_results_without_findings_are_kept_as_they_are() -> None:
    segmentation = make_result().segmentation
    assert StateKeeper(CLASSES).take(segmentation, 0.0) is segmentation


def test_json_lines_have_states_and_the_band() -> None:
    line = json.loads(json.dumps(describe_result(make_decided(DOUBTFUL, 0.51239), CLASSES, None)))
    assert line["findings"] == [
        {"class": "lesion", "state": DOUBTFUL, "confidence": 0.5124, "probability": 0.9, "threshold": 0.6},
        {"class": "vessel", "state": NOTHING, "confidence": None, "probability": 0.1, "threshold": None},
    ]
    assert line["frame_classes"] == {"benign": 0.7, "normal": 0.2}
    assert line["out_of_distribution"] is False
    band = line["classes"][0]["band"]
    outer, inner = (np.array(band[which][0]) for which in ("outer", "inner"))
    assert (outer.min(axis=0) < inner.min(axis=0)).all()
    assert (outer.max(axis=0) > inner.max(axis=0)).all()
    assert line["classes"][1]["band"] == {"outer": [], "inner": []}


def test_json_lines_of_a_result_without_scores_have_no_band() -> None:
    line = describe_result(make_result(), CLASSES, None)
    assert [one["band"] for one in line["classes"]] == [None, None]
    assert line["findings"] == []


def test_recordings_keep_every_mask_and_its_state(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "out", make_info(), CLASSES)
    recording.write(make_decided(DOUBTFUL, 0.3))
    recording.close()
    line = json.loads((tmp_path / "out" / "index.jsonl").read_text())
    assert line["findings"][0]["state"] == DOUBTFUL
    assert line["areas"][0]["area_px"] == AREA


def test_metrics_count_states_and_escape_names() -> None:
    metrics = Metrics(make_info(), port=0)
    try:
        for number in range(3):
            metrics.publish(make_decided(FOUND, 0.75, number))
        result = make_decided(DOUBTFUL, 0.5, distance=3.0)
        quoted = replace(result.segmentation.findings[0], name='a"\\b')
        metrics.publish(replace(result, segmentation=replace(result.segmentation, findings=(quoted,))))
        text = metrics.write_text()
    finally:
        metrics.close()
    assert 'edgeseg_confidence{class="a\\"\\\\b"} 0.5\n' in text
    assert 'edgeseg_state_frames_total{class="a\\"\\\\b",state="doubtful"} 1\n' in text
    assert "edgeseg_frames_out_of_distribution_total 1\n" in text


@pytest.mark.parametrize(("show", "area"), [("doubtful", AREA), ("found", 0)])
def test_show_chooses_what_is_drawn(show: str, area: int) -> None:
    figures = measure_picture(make_picture(make_decided(DOUBTFUL, 0.4), show), CLASSES, None)
    lesion = figures.classes[0]
    assert (lesion.area_px, lesion.state, lesion.confidence, lesion.threshold) == (area, DOUBTFUL, 0.4, 0.6)


def test_a_mask_whose_state_is_nothing_is_not_drawn() -> None:
    result = make_decided(NOTHING, 0.4)
    assert not choose_labels(result.segmentation.labels, result.segmentation.findings, SHOWN).any()
    assert choose_labels(result.segmentation.labels, (), SHOWN).any()


def test_a_doubtful_mask_is_dashed_and_not_filled() -> None:
    found, doubtful = (make_decided(state, 0.5) for state in (FOUND, DOUBTFUL))
    frame, labels = found.frame.image, found.segmentation.labels
    filled = draw_overlay(frame, labels, CLASSES, findings=found.segmentation.findings)
    assert np.array_equal(filled, draw_overlay(frame, labels, CLASSES))
    dashed = draw_overlay(frame, labels, CLASSES, findings=doubtful.segmentation.findings)
    assert dashed[30, 25].tolist() == [200, 200, 200]
    top = dashed[20, 10:40].astype(int)
    painted = np.abs(top - 200).max(axis=1) > 40
    assert 0.3 < painted.mean() < 0.9


def test_the_band_is_drawn_on_demand_and_moves_with_the_mask() -> None:
    picture = make_picture(make_decided(FOUND, 0.9))
    plain, band = (encode_picture(picture, CLASSES, JpegOptions(band=band)) for band in (False, True))
    assert plain != band
    flow = np.full((16, 20, 2), -1.0, np.float32)
    moved = encode_picture(replace(picture, flow=flow), CLASSES, JpegOptions(band=True))
    assert moved != band
    points = np.array([[10, 20], [79, 63]], np.int32)
    assert move_points(points, flow, (64, 80)).tolist() == [[14, 24], [83, 67]]
    assert read_jpeg_options("band=1&opacity=0.5").band
    assert not read_jpeg_options("band=yes").band


def test_a_window_says_in_words_what_is_doubtful_or_unknown() -> None:
    doubtful, found = make_decided(DOUBTFUL, 0.4), make_decided(FOUND, 0.9)
    unknown = make_decided(NOTHING, 0.9, distance=2.0)
    drawn = [draw_picture(make_picture(result), CLASSES) for result in (doubtful, found, unknown)]
    corners = [picture[:14, :70].astype(int).std() for picture in drawn]
    assert corners[1] == 0.0
    assert min(corners[0], corners[2]) > 5.0
