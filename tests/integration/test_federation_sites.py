"""What a site trains in a federation: as a training alone would, closer to the average, or with layers of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.discs import make_disc_data

pytest.importorskip("flwr", reason="needs Flower: pip install '.[federated]'")
if TYPE_CHECKING:
    from edgeseg.federation.local import SiteTraining
    from edgeseg.federation.plan import Plan
    from edgeseg.federation.weights import Weights

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]
NAMES = ("1" * 32, "2" * 32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disc_data(tmp_path_factory.mktemp("federation") / "discs", 12)


def begin(plan: Plan, data: Path, folder: Path) -> tuple[SiteTraining, Weights]:
    """Begin a site's training, and make the federation's first weights."""
    from edgeseg.federation.local import SiteData, SiteTraining
    from edgeseg.federation.server import begin_state, settle_plan

    folder.mkdir(exist_ok=True)
    site = SiteTraining(SiteData(data), plan, NAMES[0], folder)
    settled = settle_plan(plan, [site.facts])
    site.settle(settled)
    return site, begin_state(settled).weights


def measure(values: Weights, others: Weights) -> float:
    return float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(values, others, strict=True))))


def test_a_federation_of_one_site_is_an_ordinary_training(data: Path, tmp_path: Path) -> None:
    from edgeseg.core.files import partial_path
    from edgeseg.federation.weights import read_values
    from edgeseg.model.keras import read_weights
    from edgeseg.model.unet import build_unet
    from edgeseg.training.trainer import train_run
    from tests.federations import tiny_plan

    plan = tiny_plan(rounds=3)
    options = dataclasses.replace(plan.options, epochs=3)
    record = train_run(data, tmp_path / "alone", options, test=False)
    assert not partial_path(tmp_path / "alone").exists()
    site, weights = begin(plan, data, tmp_path / "site")
    ema, rounds = weights, []
    for number in (1, 2, 3):
        update = site.train(number, weights, ema)
        weights, ema = update.weights, update.ema
        rounds.append(ema)
    alone = build_unet(record.spec)
    read_weights(tmp_path / "alone" / "weights.h5", alone)
    distance = measure(read_values(alone), rounds[record.best_epoch - 1])
    assert distance < 1e-3 * measure(rounds[-1], [0 * value for value in ema])


def test_facts_are_numbers_alone(data: Path, tmp_path: Path) -> None:
    from edgeseg.federation.plan import write_message
    from tests.federations import tiny_plan

    site, _ = begin(tiny_plan(), data, tmp_path / "site")
    facts = site.facts
    assert facts.train + facts.validation + len(site.loaded.part("test")) == 12
    assert facts.lacking[0] <= 2
    text = write_message(facts)
    assert not any(word in text for word in ("discs", "case_", "target", "png"))


def test_fedprox_stays_closer_to_the_average(data: Path, tmp_path: Path) -> None:
    from tests.federations import tiny_plan

    distances = []
    for proximal in (0.0, 1.0):
        site, weights = begin(tiny_plan(proximal=proximal, local_epochs=3), data, tmp_path / f"site-{proximal}")
        distances.append(measure(site.train(1, weights, weights).weights, weights))
    assert distances[1] < 0.9 * distances[0]


def test_fedbn_keeps_batch_normalisation_at_the_site(data: Path, tmp_path: Path) -> None:
    from edgeseg.federation.weights import find_batch_norm, read_values
    from tests.federations import tiny_plan

    site, weights = begin(tiny_plan(rounds=3, batch_norm="local"), data, tmp_path / "site")
    own = find_batch_norm(site.ema_model)
    assert 0 < sum(own) < len(own)
    trained = site.train(1, weights, weights)
    others: Weights = [value + np.float32(7.0) for value in trained.ema]
    site.judge(1, others)
    judged = read_values(site.ema_model)
    for value, mine, other, is_own in zip(judged, trained.ema, others, own, strict=True):
        np.testing.assert_array_equal(value, mine if is_own else other)


def test_averaged_batch_normalisation_is_taken_by_all(data: Path, tmp_path: Path) -> None:
    from edgeseg.federation.weights import read_values
    from tests.federations import tiny_plan

    site, weights = begin(tiny_plan(), data, tmp_path / "site")
    site.train(1, weights, weights)
    site.judge(1, weights)
    for value, sent in zip(read_values(site.ema_model), weights, strict=True):
        np.testing.assert_array_equal(value, sent)


def test_a_diverged_round_is_left_out_and_the_next_one_trains(data: Path, tmp_path: Path) -> None:
    from edgeseg.federation.flower import Code, FitIns, ndarrays_to_parameters
    from edgeseg.federation.local import SiteData
    from edgeseg.federation.plan import write_message
    from edgeseg.federation.server import begin_state
    from edgeseg.federation.site import SiteClient
    from tests.federations import tiny_plan

    plan = tiny_plan(rounds=3)
    folder = tmp_path / "site"
    folder.mkdir()
    client = SiteClient(SiteData(data), folder)
    client._begin(plan)
    weights = begin_state(plan).weights

    def fit(number: int, values: Weights) -> Any:
        sent = ndarrays_to_parameters([*values, *values])
        return client.fit(FitIns(sent, {"plan": write_message(plan), "round": number}))

    huge = [np.full_like(value, 1e37) for value in weights]
    assert fit(1, huge).status.code != Code.OK
    answer = fit(2, weights)
    assert answer.status.code == Code.OK
    assert answer.num_examples == client.training.facts.train  # type: ignore[union-attr]


def test_sites_in_one_process(data: Path, tmp_path: Path) -> None:
    from edgeseg.federation.local import SiteData
    from edgeseg.federation.simulation import simulate_federation
    from tests.federations import tiny_plan

    other = make_disc_data(tmp_path / "others", 15)
    plan = tiny_plan(rounds=2, batch_norm="local")
    coordinator, clients = simulate_federation(plan, [SiteData(data), SiteData(other)], tmp_path / "work")
    assert len(coordinator.state.history) == 2
    assert [client.final is not None for client in clients] == [True, True]
    assert coordinator.describe(at_site=False).sites == 2


def test_a_site_with_other_classes_says_so(data: Path) -> None:
    from edgeseg.core.errors import DataError
    from edgeseg.federation.local import SiteData
    from tests.federations import tiny_plan

    plan = dataclasses.replace(tiny_plan(), classes=("vessel", "wall"))
    with pytest.raises(DataError, match="vessel, wall"):
        SiteData(data).load(plan)
