"""The Grafana dashboard asks for what a stream serves: names, labels and values of labels."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgeseg.cli.app import app
from edgeseg.machine.boards import DASHBOARD, catalog_folder
from edgeseg.machine.thermal import Thermal
from edgeseg.streaming.options import SinkOptions
from edgeseg.streaming.sinks.choose import open_sinks
from tests.results import CLASSES, make_decided, make_frame, make_info

# Prometheus puts these onto every figure: where it came from.
OF_THE_SCRAPE = {"board", "source"}


def read_dashboard() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((catalog_folder("devices") / DASHBOARD).read_text(encoding="utf-8"))
    return table


def list_queries(dashboard: dict[str, Any]) -> list[str]:
    """List all that is asked of Prometheus: by panels, and for the variables."""
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return asked + [one["definition"] for one in dashboard["templating"]["list"] if "definition" in one]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give what a stream with masks of decided states serves on a board with a sensor."""
    monkeypatch.setattr("edgeseg.streaming.sinks.metrics.read_thermal", lambda: Thermal(61.0, throttled=False))
    with ExitStack() as opened:
        sinks = open_sinks(SinkOptions(metrics=0), make_info(), CLASSES)
        for sink in sinks:
            opened.callback(sink.close)
            sink.on_frame(make_frame(6))
            sink.publish(make_decided("found", 0.9))
        (url,) = [vars(sink)["url"] for sink in sinks if "url" in vars(sink)]
        answer = opened.enter_context(urllib.request.urlopen(url, timeout=10))
        yield answer.read().decode()


def test_every_figure_that_is_asked_for_is_served(served: str) -> None:
    names = set(re.findall(r"^# TYPE (edgeseg_\w+)", served, re.MULTILINE))
    asked = {name for query in list_queries(read_dashboard()) for name in re.findall(r"edgeseg_\w+", query)}
    assert asked <= names
    assert names - asked == set(), "a figure that no panel shows"


def test_labels_and_their_values_are_served(served: str) -> None:
    queries = list_queries(read_dashboard())
    selected = {pair for query in queries for pair in re.findall(r'(\w+)!?="(\w[\w.]*)"', query)} - {("job", "edgeseg")}
    assert {("stage", "frame_age"), ("state", "found")} <= selected
    assert {f'{label}="{value}"' for label, value in selected} <= set(re.findall(r'\w+="[^"]*"', served))
    grouped = {
        label for query in queries for names in re.findall(r"by \(([\w, ]+)\)", query) for label in names.split(", ")
    }
    assert grouped - OF_THE_SCRAPE <= set(re.findall(r'(\w+)="', served))


def test_variables_are_defined_and_figures_without_a_source_are_shown() -> None:
    dashboard = read_dashboard()
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used == set(variables)
    # a figure without the label matches .* as well
    assert all(variables[name]["allValue"] == ".*" for name in OF_THE_SCRAPE)
    assert all('source=~"$source"' in query for query in list_queries(dashboard) if "frames_" in query)
    places = [(p["gridPos"]["y"], p["gridPos"]["x"]) for p in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_the_dashboard_is_written_for_import(tmp_path: Path) -> None:
    out = tmp_path / "fleet.json"
    assert CliRunner().invoke(app, ["devices", "--grafana", str(out)]).exit_code == 0
    assert json.loads(out.read_text(encoding="utf-8")) == read_dashboard()
    for more in (["generic-aarch64"], ["--json", str(tmp_path / "f.json")]):
        assert CliRunner().invoke(app, ["devices", *more, "--grafana", str(out)]).exit_code == 2
