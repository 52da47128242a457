"""A study in a database: workers share it, lost ones are replaced, and passwords stay out of what is said."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from edgeseg.core.card import SplitSpec
from edgeseg.core.errors import OutputError, RunError
from edgeseg.search import database
from edgeseg.search.database import StorageAddress
from edgeseg.search.networks import NetworkChoice, NetworkStudy, SearchSpace, StudyPlan, open_study
from edgeseg.search.results import FAILED, FINISHED, INTERRUPTED, RUNNING
from edgeseg.search.study import TrialResult
from tests.commands import Fail, assert_says
from tests.studies import SCORED, open_shared, work_off

DATA = Path("data")
PLAN = StudyPlan(SearchSpace(models=("nano", "micro"), sizes=(32, 64)), SplitSpec(0, 0.12, 0.15), epochs=1)
SECRET = "postgresql://me:hunter2@127.0.0.1:1/studies?sslmode=disable"


@pytest.fixture
def address(tmp_path: Path) -> StorageAddress:
    return StorageAddress(f"sqlite:///{tmp_path}/studies.db", "lesions")


def open_worker(folder: Path, address: StorageAddress, plan: StudyPlan = PLAN) -> NetworkStudy:
    return open_shared(folder, address, plan)


def list_states(study: NetworkStudy) -> list[str]:
    with study.locked() as trials:
        return [trial.state for trial in trials]


def test_workers_on_two_machines_share_one_study(tmp_path: Path, address: StorageAddress) -> None:
    def work(machine: str) -> list[NetworkChoice]:
        return work_off(open_worker(tmp_path / machine, address), 6)

    open_worker(tmp_path / "a", address)
    with ThreadPoolExecutor(3) as pool:
        choices = [choice for part in pool.map(work, "abc") for choice in part]
    assert len(choices) == len(set(choices)) == 6
    study = open_worker(tmp_path / "d", address)
    assert list_states(study) == [FINISHED] * 6
    best = optuna.load_study(study_name="lesions", storage=address.url).best_trials
    assert best[0].values == [0.5, 1000.0]
    assert set(best[0].params) == {"model", "size", "stem", "loss", "learning_rate"}


def test_of_two_equal_trials_the_second_is_withdrawn(
    tmp_path: Path, address: StorageAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (open_worker(tmp_path / name, address) for name in "ab")
    with first.claim(9) as one:
        assert one is not None
        # the second worker has read the trials before the first one began its own
        choose, answers = NetworkStudy.__origin__._choose, iter([one.choice])  # type: ignore[attr-defined]
        monkeypatch.setattr(
            second, "_choose", lambda trials, total: next(answers, None) or choose(second, trials, total)
        )
        with second.claim(9) as other:
            assert other is not None
            assert (other.choice != one.choice, other.number) == (True, 2)
            assert list_states(first) == [RUNNING, RUNNING]


def forget_heartbeat(address: StorageAddress, number: int) -> None:
    """Let the last heartbeat of a trial be long ago."""
    trial = "(SELECT trial_id FROM trials WHERE number = :number)"
    statement = text(f"UPDATE trial_heartbeats SET heartbeat = :then WHERE trial_id IN {trial}")
    engine = create_engine(address.url)
    with engine.begin() as connection:
        connection.execute(statement, {"then": "2020-01-01 00:00:00.000000", "number": number})
    engine.dispose()


@contextmanager
def _silent(*_: object) -> Iterator[None]:
    """Stand for the heartbeat of a worker that was killed."""
    yield


def test_the_trial_of_a_lost_worker_is_taken_over(
    tmp_path: Path, address: StorageAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alive = open_worker(tmp_path / "a", address)
    with alive.claim(9) as kept, monkeypatch.context() as patch:
        patch.setattr(database, "_beating", _silent)
        lost = open_worker(tmp_path / "b", address)
        with lost.claim(9) as claim:
            assert claim is not None
            forget_heartbeat(address, claim.number)
            assert list_states(alive) == [RUNNING, INTERRUPTED]
            with open_worker(tmp_path / "c", address).claim(9) as again:
                assert kept is not None
                assert again is not None
                assert (again.choice, again.number) == (claim.choice, 2)
            # it was only out of the network, and comes back too late
            lost.finish(claim, SCORED)
            assert "taken over" in caplog.text
            alive.finish(kept, TrialResult(1.0, sentence="The memory was not enough."))
    assert list_states(alive) == [FAILED, INTERRUPTED, INTERRUPTED]


def test_a_search_that_somebody_removes_meanwhile(tmp_path: Path, address: StorageAddress) -> None:
    study = open_worker(tmp_path / "a", address)
    with study.claim(1) as claim:
        assert claim is not None
        optuna.delete_study(study_name="lesions", storage=address.url)
        for ask in (lambda: study.finish(claim, SCORED), lambda: list_states(study)):
            with pytest.raises(RunError, match="removed"):
                ask()


def test_an_interrupted_worker_gives_its_trial_back_at_once(tmp_path: Path, address: StorageAddress) -> None:
    study = open_worker(tmp_path / "a", address)
    with pytest.raises(KeyboardInterrupt), study.claim(1) as claim:
        raise KeyboardInterrupt
    with open_worker(tmp_path / "b", address).claim(1) as again:
        assert claim is not None
        assert again is not None
        assert (again.choice, again.number) == (claim.choice, 1)


def test_a_worker_that_is_lost_before_its_first_heartbeat(
    tmp_path: Path, address: StorageAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_worker(tmp_path / "a", address)
    store = study._store
    storage = store._storage  # type: ignore[attr-defined]
    storage.create_new_trial(
        store._study_id,  # type: ignore[attr-defined]
        optuna.create_trial(state=optuna.trial.TrialState.RUNNING, user_attrs={"choice": make_choice()}),
    )
    assert list_states(study) == [RUNNING]
    monkeypatch.setattr(store, "_address", dataclasses.replace(address, grace_s=0))
    assert list_states(study) == [INTERRUPTED]


def make_choice() -> dict[str, object]:
    return {"model": "nano", "size": 32, "stem": "quarter", "loss": "bce-dice", "learning_rate": 1e-3}


def test_other_searches_are_refused(tmp_path: Path, address: StorageAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    open_worker(tmp_path / "a", address)
    with pytest.raises(RunError, match="epochs 1, got 2") as caught:
        open_worker(tmp_path / "a", address, dataclasses.replace(PLAN, epochs=2))
    assert "lesions" in caught.value.message
    storage = database.connect(address)
    study = optuna.create_study(storage=storage, study_name="other")
    study.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(RunError, match="another program"):
        open_worker(tmp_path / "b", dataclasses.replace(address, study="other"))
    monkeypatch.setattr(database, "_BEGIN_S", 0.0)
    optuna.create_study(storage=storage, study_name="empty")
    assert list_states(open_worker(tmp_path / "b", dataclasses.replace(address, study="empty"))) == []
    old = optuna.create_study(storage=storage, study_name="old")
    old.set_user_attr("edgeseg", {"kind": "networks", "plan": {}, "source": "abc", "version": 99})
    with pytest.raises(RunError, match="version 99"):
        open_worker(tmp_path / "b", dataclasses.replace(address, study="old"))


def test_a_journal_and_a_database_do_not_share_a_folder(tmp_path: Path, address: StorageAddress) -> None:
    open_study(tmp_path / "a", DATA, PLAN, "abc")
    with pytest.raises(OutputError, match="journal"):
        open_worker(tmp_path / "a", address)


def test_tables_of_another_optuna(tmp_path: Path, address: StorageAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    open_worker(tmp_path / "a", address)
    monkeypatch.setattr("optuna.storages._rdb.storage._VersionManager.get_current_version", lambda _: "v0.9.0.a")
    with pytest.raises(RunError, match="schema"):
        open_worker(tmp_path / "a", address)


def test_a_database_that_is_restarted_is_waited_for(
    tmp_path: Path, address: StorageAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "PAUSE_S", 0.0)
    study = open_worker(tmp_path / "a", address)
    storage = study._store._storage  # type: ignore[attr-defined]
    answer, errors = storage.get_all_trials, iter([OperationalError("select", {}, OSError("gone"))] * 2)

    def fail_twice(*given: object, **more: object) -> object:
        for error in errors:
            raise error
        return answer(*given, **more)

    monkeypatch.setattr(storage, "get_all_trials", fail_twice)
    assert list_states(study) == []
    assert [record.levelno for record in caplog.records if "gone" in record.message] == [logging.WARNING]
    monkeypatch.setattr(database, "OUTAGE_S", -1.0)
    errors = iter([OperationalError("select", {}, OSError("gone"))] * 2)
    with pytest.raises(RunError, match="gone"):
        list_states(study)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host",
        "postgresql:///studies",
        "mysql://me:hunter2@host/studies",
        "http://me:hunter2@host/studies",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?password=hunter2",
        "sqlite://me:hunter2@host/a.db",
        "sqlite+pysqlcipher://:hunter2@/a.db",
        "sqlite:///a\nb.db",
        "sqlite:///\udcff.db",
        "postgresql://me:hunter2@hunter2@host/studies",
        "me:hunter2@host",
        "postgresql://me:hunter2@host:port/studies",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected postgresql://") as caught:
        StorageAddress(url, "lesions")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="name"):
        StorageAddress("sqlite:///a.db", "-x; drop")


def test_a_password_is_shown_nowhere(fail: Fail, tmp_path: Path) -> None:
    address = StorageAddress(SECRET, "lesions")
    assert "hunter2" not in repr(address) + str(address) + address.name
    for words in (("tune", tmp_path), ("search", tmp_path, "--budget-ms", "1")):
        code, said = fail(*words, "--out", tmp_path / "s", "--storage", SECRET.replace("postgresql", "mysql"))
        assert (code, "hunter2" in said, "postgresql" in said) == (2, False, True)
    assert fail("tune", tmp_path, "--out", tmp_path / "s", "--study", "x")[0] == 2


@pytest.mark.parametrize("missing", [False, True])
def test_a_missing_database_is_told_before_images_are_read(
    fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    if missing:
        monkeypatch.setattr("edgeseg.core.install.find_spec", lambda name: None if name == "pg8000" else object())
    # a data folder that is not there would be refused by the reading
    code, said = fail("tune", tmp_path / "none", "--out", tmp_path / "s", "--storage", f"{SECRET}\n")
    assert (code, "hunter2" in said, ("storage" if missing else "127.0.0.1:1/studies ") in said) == (1, False, True)


def test_a_place_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, but long enough to be taken for one" * 20, "utf-8")
    for name in ("text.db", "none/a.db"):
        with pytest.raises(RunError) as caught:
            open_worker(tmp_path / "a", StorageAddress(f"sqlite:///{tmp_path}/{name}", "lesions"))
        assert_says(caught.value, name)
