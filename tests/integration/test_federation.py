"""Federations over real connections of this machine: averages, strangers, damaged weights, and interruptions."""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeseg.core.errors import EdgesegError
from edgeseg.core.files import partial_path

pytest.importorskip("flwr", reason="needs Flower: pip install '.[federated]'")
if TYPE_CHECKING:
    from tests.federations import FakeSite, Stage

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("shallow_sizes"),
    # gRPC's own thread, which watches a connection, may see it closed by the main one: "Cannot monitor channel state"
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def sites() -> list[FakeSite]:
    """Make two sites, of which the second has three times as many cases and moves its weights the other way."""
    from tests.federations import FakeSite

    return [FakeSite(1, cases=10, step=1.0), FakeSite(2, cases=30, step=-1.0)]


def settle(*futures: Future[Any]) -> None:
    """Wait until all have ended."""
    from tests.federations import SECONDS

    wait(futures, SECONDS)


def run(out: Path, sites: list[FakeSite], **more: Any) -> tuple[Stage, list[BaseException | None]]:
    from tests.federations import Stage, tiny_plan

    stage = Stage(out, more.pop("plan", tiny_plan()), more.pop("count", len(sites)), **more)
    joined = [stage.join(site) for site in sites]
    settle(stage.result, *joined)
    return stage, [one.result(0) for one in joined]


def test_weights_are_averaged_by_cases_and_handed_out(tmp_path: Path, sites: list[FakeSite]) -> None:
    from edgeseg.federation.server import begin_state
    from edgeseg.model.keras import read_weights
    from edgeseg.model.unet import build_unet
    from edgeseg.training.run import read_run
    from edgeseg.training.validation import read_history
    from tests.federations import tiny_plan

    stage, ends = run(tmp_path / "run", sites)
    assert ends == [None, None]
    record = stage.result.result(0)
    assert record == read_run(tmp_path / "run")
    first = begin_state(tiny_plan()).weights
    model = build_unet(record.spec)
    read_weights(tmp_path / "run" / "weights.h5", model)
    # the first of equally good rounds: (10 * 1 - 30 * 1) / 40
    for variable, before in zip(model.weights, first, strict=True):
        np.testing.assert_allclose(variable.numpy(), before - 0.5, atol=1e-5)
    assert [site.rounds for site in sites] == [[1, 2], [1, 2]]
    for site in sites:
        assert site.final is not None
        np.testing.assert_allclose(site.final[0], first[0] - 0.5, atol=1e-5)
    assert record.federation is not None
    assert (record.federation.sites, record.federation.cases, record.federation.rounds) == (2, 40, 2)
    assert len(read_history(tmp_path / "run")) == 2
    assert not partial_path(tmp_path / "run").exists()
    check_file(tmp_path / "run")


def check_file(run: Path) -> None:
    """Check that the server's file segments, and that its run says that it has no images."""
    from edgeseg.compression.context import open_run
    from edgeseg.core.modelfile import read_model
    from edgeseg.inference.segmenter import Segmenter

    model = read_model(run / "model.tflite")
    assert Segmenter(model).segment(np.zeros((40, 50), np.uint8)).labels.shape == (40, 50)
    assert model.golden
    with pytest.raises(EdgesegError, match="images stay at the sites"):
        open_run(run)


class Bomb:
    """Makes a file where a pickle of it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def make_damages(bomb: Path) -> dict[str, Callable[[Any], None]]:
    """List what may be wrong with the answer to a round."""
    from edgeseg.federation.flower import Parameters, ndarrays_to_parameters, parameters_to_ndarrays

    def change(edit: Callable[[list[Any]], list[Any]]) -> Callable[[Any], None]:
        def spoil(answer: Any) -> None:
            answer.parameters = ndarrays_to_parameters(edit(parameters_to_ndarrays(answer.parameters)))

        return spoil

    def send(*tensors: bytes) -> Callable[[Any], None]:
        def spoil(answer: Any) -> None:
            answer.parameters = Parameters(list(tensors) * (len(answer.parameters.tensors) // len(tensors)), "numpy")

        return spoil

    def tell_a_name(answer: Any) -> None:
        answer.metrics = {**answer.metrics, "loss": "patient Mueller"}

    def send_far_too_much(answer: Any) -> None:
        answer.parameters = Parameters([bytes(2**24)], "numpy.ndarray")

    return {
        "nan": change(lambda values: [values[0] * np.nan, *values[1:]]),
        "infinity": change(lambda values: [*values[:-1], values[-1] + np.inf]),
        "shape": change(lambda values: [values[0][..., :1], *values[1:]]),
        "count": change(lambda values: values[:3]),
        "figures": tell_a_name,
        "pickle": send(pickle.dumps(Bomb(bomb))),
        "size": send_far_too_much,
    }


def test_sites_that_send_what_cannot_be_averaged_are_left_out(
    tmp_path: Path, sites: list[FakeSite], caplog: pytest.LogCaptureFixture
) -> None:
    from tests.federations import FakeSite

    def spoiling(damage: Callable[[Any], None]) -> Callable[[Any], Any]:
        def tell(answer: Any) -> Any:
            damage(answer)
            return answer

        return tell

    damages, odd = make_damages(tmp_path / "exploded"), []
    for number, damage in enumerate(damages.values(), start=3):
        odd.append(FakeSite(number, cases=1000, step=100.0))
        odd[-1].tell = spoiling(damage)
    with caplog.at_level(logging.WARNING, "edgeseg"):
        stage, ends = run(tmp_path / "run", [*sites, *odd], minimum=2)
    federation = stage.result.result(0).federation
    assert federation is not None
    assert (federation.sites, federation.cases) == (2, 40)
    # the transport closes the stream of the one that sends too much, and says why where it still can
    assert [name for name, end in zip(damages, ends[2:], strict=True) if end is not None] == ["size"]
    assert "RESOURCE_EXHAUSTED" in str(ends[-1]) or "UNAVAILABLE" in str(ends[-1])
    assert caplog.text.count("left out of this round") == 2 * (len(damages) - 1)
    assert not (tmp_path / "exploded").exists()


def test_sites_that_may_not_join_are_told_why_and_noise_disturbs_nothing(tmp_path: Path, sites: list[FakeSite]) -> None:
    from tests.federations import SECONDS, FakeSite, Stage, tiny_plan

    token = b"0123456789abcdef"
    for site in sites:
        site.token = token
    stranger, older, twin = FakeSite(4), FakeSite(5, token=token), FakeSite(6, token=token)
    older.version = "0.0.1"
    twin.fingerprint = sites[0].fingerprint
    stage = Stage(tmp_path / "run", tiny_plan(), 2, token=token)
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(100_000), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(1000)):
        with socket.create_connection(("127.0.0.1", stage.port)) as line:
            line.sendall(noise)
    first = stage.join(sites[0])
    assert sites[0].asked.wait(SECONDS)
    sleep(0.5)  # its answer is on its way
    ends = [stage.join(site) for site in (stranger, older, twin)]
    settle(*ends)
    assert "token" in stranger.refused
    assert "0.0.1" in older.refused
    assert "same images" in twin.refused
    settle(stage.join(sites[1]), first, stage.result)
    assert stage.result.result(0).federation is not None


def test_a_federation_goes_on_without_a_site_that_drops_out(tmp_path: Path, sites: list[FakeSite]) -> None:
    from tests.federations import FakeSite, tiny_plan

    weak = FakeSite(3)

    def leave(answer: Any) -> Any:
        if len(weak.rounds) == 2:
            raise ConnectionError("pulled the plug")
        return answer

    weak.tell = leave
    stage, ends = run(tmp_path / "run", [*sites, weak], minimum=2, plan=tiny_plan(4), wait=2.0)
    federation = stage.result.result(0).federation
    assert federation is not None
    assert (federation.sites, federation.rounds) == (3, 4)
    assert sites[0].rounds == [1, 2, 3, 4]
    assert isinstance(ends[2], ConnectionError)


def test_too_few_sites_stop_it_and_it_goes_on_where_it_was(tmp_path: Path, sites: list[FakeSite]) -> None:
    from tests.federations import tiny_plan

    def leave(answer: Any) -> Any:
        if len(sites[1].rounds) == 2:
            raise ConnectionError("pulled the plug")
        return answer

    sites[1].tell = leave
    stage, _ = run(tmp_path / "run", sites, plan=tiny_plan(3), wait=2.0)
    with pytest.raises(EdgesegError, match="round 2 of 3"):
        stage.result.result(0)
    assert not (tmp_path / "run").exists()
    assert partial_path(tmp_path / "run").is_dir()
    for site in sites:
        site.rounds.clear()
    sites[1].tell = lambda answer: answer
    stage, _ = run(tmp_path / "run", sites, resume=True)
    federation = stage.result.result(0).federation
    assert federation is not None
    assert federation.rounds == 3
    assert sites[0].rounds == [2, 3]


def test_nobody_comes(tmp_path: Path) -> None:
    stage, _ = run(tmp_path / "run", [], count=2, wait=1.0)
    with pytest.raises(EdgesegError, match="2 sites within 1 s, got 0"):
        stage.result.result(0)
    assert list(tmp_path.iterdir()) == []
