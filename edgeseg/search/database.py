"""The trials of a study in a database, by Optuna's own storage: workers on several machines share one study.

A worker that runs a trial renews its heartbeat there. A trial without one for GRACE_S was lost with its worker, and the
next worker that asks for a trial takes it over. Passwords in addresses reach neither messages nor results.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from edgeseg.core.errors import RunError
from edgeseg.core.install import need_extra
from edgeseg.core.redact import is_printable, redact, to_one_line
from edgeseg.core.schema import SchemaError, from_plain, to_plain
from edgeseg.search.journal import LOCK, VERSION, Ending, Header, Record, hold_lock, readable_journal, trial_lock
from edgeseg.search.results import Presentation

Result = TypeVar("Result")
POSTGRES, SQLITE = "postgresql", "sqlite"
HEARTBEAT_S, GRACE_S = 30, 150
# A database that does not answer is waited for so long, since a trial takes minutes or hours.
OUTAGE_S, PAUSE_S = 900.0, 5.0
CONNECT_S = 30
# Another worker that has begun the study at the same moment has written down its plan by then.
_BEGIN_S = 20.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Keys of attributes: of the study, and of its trials.
_HEADER, _CHOICE, _ENDING, _ALIVE, _WITHDRAWN = "edgeseg", "choice", "ending", "alive", "withdrawn"
# What the driver raises, and what Optuna makes of some of it.
_FAULTS = (SQLAlchemyError, StorageInternalError)
_HINT = "Check address, name and password, and that the database is there: createdb NAME makes one."
_LOG = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Shape:
    """What Optuna's own tools show of a study: the values that are searched, and whether more is better."""

    values: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, tuple[float, float]]
    maximize: Mapping[str, bool]
    """Of each field of the score that is optimised."""

    @property
    def directions(self) -> list[StudyDirection]:
        """Give the directions of the objectives."""
        return [StudyDirection.MAXIMIZE if more else StudyDirection.MINIMIZE for more in self.maximize.values()]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Give the space in Optuna's words."""
        lists = {name: CategoricalDistribution(values) for name, values in self.values.items()}
        return {**lists, **{name: FloatDistribution(*ends, log=True) for name, ends in self.ranges.items()}}


def describe_search(
    values: Mapping[str, tuple[Any, ...]], ranges: Mapping[str, tuple[float, float]], shown: Presentation
) -> Shape:
    """Describe a search to Optuna: its lists of values, its ranges, and the objectives of its report."""
    return Shape(values, ranges, {objective.name: objective.maximize for objective in shown.objectives})


@dataclass(frozen=True)
class StorageAddress:
    """A database, and the name of the study in it."""

    url: str
    study: str
    heartbeat_s: int = HEARTBEAT_S
    grace_s: int = GRACE_S

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.study) is None:
            raise ValueError(f"expected a study's name of letters, digits and . _ -, got {self.study!r}")
        self.parse()

    def __repr__(self) -> str:
        return f"StorageAddress({self.name})"

    @property
    def name(self) -> str:
        """Name the study without user and password."""
        url = self.parse()
        plain = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
        return f"{plain.render_as_string()} ({self.study})"

    def parse(self) -> URL:
        """Parse the address; other databases than PostgreSQL and SQLite were not tried."""
        try:
            url = make_url(self.url)
        except (ArgumentError, ValueError) as error:
            # the driver's message repeats the address
            raise ValueError(_WANTED.format("one that cannot be read")) from error
        kind = url.get_backend_name()
        if kind == POSTGRES and url.host and url.database:
            refused = "an @ in the password; write it as %40" if "@" in url.host else ""
        elif kind == SQLITE:
            refused = _refuse_sqlite(url)
        else:
            refused = f"{kind}://..."
        if refused or not is_printable(self.url):
            raise ValueError(_WANTED.format(refused or "one with control characters, or bytes that are not UTF-8"))
        return url


_WANTED = "expected postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE, got {}"


def _refuse_sqlite(url: URL) -> str:
    """Say what is wrong with the address of a file; empty where nothing is."""
    if url.drivername != SQLITE:
        return f"{url.drivername}://..."
    if not url.database or url.database == ":memory:":
        return "sqlite in memory, which no other worker sees"
    if url.query or url.host or url.username or url.password:
        return "sqlite with more than a file: it has no host, no user, no password and no options"
    return ""


def connect(address: StorageAddress) -> RDBStorage:
    """Connect to a database, and make Optuna's tables there where they are missing."""
    url, options = address.parse(), {"timeout": CONNECT_S}
    if url.get_backend_name() == POSTGRES:
        need_extra("storage")
        url, more = _take_tls(url.set(drivername="postgresql+pg8000"))
        options |= more
    try:
        with warnings.catch_warnings():
            # heartbeats are experimental: what is used of them is tested here
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": options, "pool_pre_ping": True},
                heartbeat_interval=address.heartbeat_s,
                grace_period=address.grace_s,
            )
    except (*_FAULTS, RuntimeError, OSError, TypeError) as error:
        # RuntimeError: tables of another version of Optuna; TypeError: an option that the driver does not know
        raise RunError(f"Expected a database for searches at {address.name}, got: {_explain(error)}.", _HINT) from error


def _take_tls(url: URL) -> tuple[URL, dict[str, Any]]:
    """Read sslmode and sslrootcert as libpq does; the driver wants them as a context."""
    query = dict(url.query)
    mode, root = str(query.pop("sslmode", "prefer")), query.pop("sslrootcert", None)
    if mode not in ("disable", "prefer", "require", "verify-full"):
        raise RunError(f"Expected sslmode disable, prefer, require or verify-full, got {mode}.", _HINT)
    # None: where the server offers it, without a look at its certificate
    contexts = {"disable": False, "prefer": None, "require": True}
    try:
        context = contexts[mode] if mode in contexts else ssl.create_default_context(cafile=str(root) if root else None)
    except OSError as error:
        raise RunError(
            f"Expected a certificate in sslrootcert, got none: {error.strerror}.", "Name a PEM file."
        ) from error
    return url.set(query=query), {"ssl_context": context}


def _explain(error: BaseException) -> str:
    """Find the driver's own words below those of SQLAlchemy and Optuna."""
    while error.__cause__ is not None and isinstance(error, _FAULTS):
        error = error.__cause__
    details = error.args[0] if error.args else error
    # PostgreSQL's answer is a table, of which M is the message
    return redact(to_one_line(details.get("M", details) if isinstance(details, dict) else details, 200))


class DatabaseStore:
    """The trials of a study in a database; the folder has what this machine's trials make, and its locks."""

    shared = True

    def __init__(self, folder: Path, address: StorageAddress, shape: Shape) -> None:
        """Connect to the database."""
        self._folder, self._address, self._shape, self.name = folder, address, shape, address.name
        self._storage = connect(address)
        weakref.finalize(self, self._storage.engine.dispose)
        self._study_id = -1
        self._first_seen: dict[int, float] = {}

    def open(self, wanted: Header) -> Header:
        """Begin the study, or read what it was begun with."""
        try:
            return self._open(wanted)
        except _FAULTS as error:
            raise RunError(
                f"Expected a database for searches at {self.name}, got: {_explain(error)}.", _HINT
            ) from error

    def _open(self, wanted: Header) -> Header:
        try:
            self._study_id = self._storage.create_new_study(self._shape.directions, self._address.study)
        except DuplicatedStudyError:
            self._study_id = self._storage.get_study_id_from_name(self._address.study)
            if not self._was_left_empty():
                return self._read_header()
        self._storage.set_study_user_attr(self._study_id, _HEADER, to_plain(wanted))
        return wanted

    def _was_left_empty(self) -> bool:
        """Say whether a worker was killed between making the study and writing down what it searches."""
        deadline = time.monotonic() + _BEGIN_S
        while not (self._storage.get_study_user_attrs(self._study_id) or self._storage.get_n_trials(self._study_id)):
            if time.monotonic() > deadline:
                return True
            time.sleep(0.2)
        return False

    def _read_header(self) -> Header:
        hint = "Name another study with --study."
        try:
            header = from_plain(Header, self._storage.get_study_user_attrs(self._study_id).get(_HEADER))
        except SchemaError as error:
            raise RunError(
                f"Expected a search of edgeseg at {self.name}, got a study of another program: {error}.", hint
            ) from error
        if header.version != VERSION:
            raise RunError(
                f"Expected a search of version {VERSION} at {self.name}, got version {header.version}.",
                f"Continue it with the edgeseg that began it. {hint}",
            )
        return header

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes of this machine out of the folder within the block."""
        return hold_lock(self._folder / LOCK)

    def read(self) -> list[Record]:
        """Read all trials; those whose worker is lost count as interrupted from now on."""
        self._patiently(self._fail_lost)
        found = self._patiently(lambda: self._storage.get_all_trials(self._study_id, deepcopy=False))
        with readable_journal(self.name):
            return [
                Record(
                    trial.number,
                    dict(trial.user_attrs[_CHOICE]),
                    from_plain(Ending, trial.user_attrs[_ENDING]) if _ENDING in trial.user_attrs else None,
                    trial.state == TrialState.RUNNING,
                )
                for trial in found
                if _WITHDRAWN not in trial.user_attrs and _CHOICE in trial.user_attrs
            ]

    def _fail_lost(self) -> None:
        study = optuna.load_study(study_name=self._address.study, storage=self._storage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(study)
        # Optuna looks at trials with a heartbeat only; a worker may be lost between its trial's beginning and the first
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _ALIVE not in trial.user_attrs:
                first = self._first_seen.setdefault(trial.number, time.monotonic())
                if time.monotonic() - first > self._address.grace_s:
                    self._end(trial, TrialState.FAIL, None)

    def begin(self, choice: dict[str, Any], held: ExitStack) -> int:
        """Begin a trial, and renew its heartbeat until the stack is closed."""
        distributions = self._shape.distributions
        template = optuna.create_trial(
            state=TrialState.RUNNING,
            params={name: choice[name] for name in distributions},
            distributions=distributions,
            user_attrs={_CHOICE: choice},
        )
        trial_id = self._patiently(lambda: self._storage.create_new_trial(self._study_id, template))
        held.callback(self._give_back, trial_id)
        self._patiently(lambda: self._storage.record_heartbeat(trial_id))
        self._patiently(lambda: self._storage.set_trial_user_attr(trial_id, _ALIVE, True))
        held.enter_context(_beating(self._storage, trial_id, self._address.heartbeat_s))
        number = self._patiently(lambda: self._storage.get_trial_number_from_id(trial_id))
        held.enter_context(hold_lock(trial_lock(self._folder, number)))
        return number

    def _give_back(self, trial_id: int) -> None:
        """Let the next worker take over at once what this one was interrupted in; what has ended stays as it is."""
        with suppress(UpdateFinishedTrialError):
            # once: a database that does not answer finds out by the heartbeat
            _try(lambda: self._storage.set_trial_state_values(trial_id, TrialState.FAIL))

    def end(self, ending: Ending) -> None:
        """Write down how a trial has ended; one that another worker took over meanwhile is left to it."""
        values = None
        if ending.score is not None:
            values = [float(ending.score[name]) for name in self._shape.maximize]
        state = TrialState.FAIL if values is None else TrialState.COMPLETE

        def write() -> None:
            trial = self._find(ending.trial)
            if _ENDING not in trial.user_attrs:  # an outage may have come between the two
                self._storage.set_trial_user_attr(trial._trial_id, _ENDING, to_plain(ending))
            self._end(trial, state, values)

        try:
            self._patiently(write)
        except UpdateFinishedTrialError:
            _LOG.warning("Trial %s was taken over: its worker did not reach the database for long.", ending.trial)

    def withdraw(self, number: int) -> None:
        """Take back a trial that was begun."""

        def write() -> None:
            trial = self._find(number)
            self._storage.set_trial_user_attr(trial._trial_id, _WITHDRAWN, True)
            self._end(trial, TrialState.FAIL, None)

        self._patiently(write)

    def _find(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))

    def _end(self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._storage.set_trial_state_values(trial._trial_id, state, values)

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        """Ask the database, and wait where it does not answer: it may be restarted while a trial runs."""

        def ask_begun() -> Result:
            try:
                return ask()
            except KeyError as error:
                raise RunError(
                    f"Expected the search at {self.name}, got none any more: somebody has removed it.",
                    "The same command begins a new one.",
                ) from error

        deadline = time.monotonic() + OUTAGE_S
        done, value = _try(ask_begun)
        if not done:
            _LOG.warning("The database at %s does not answer (%s); waiting for it.", self.name, value)
        while not done:
            if time.monotonic() > deadline:
                raise RunError(
                    f"Expected an answer of the database at {self.name}, got for {OUTAGE_S / 60:.0f} minutes: {value}.",
                    "The same command goes on when it is there again.",
                )
            time.sleep(PAUSE_S)
            done, value = _try(ask_begun)
        return cast(Result, value)


def _try(ask: Callable[[], object]) -> tuple[bool, object]:
    """Give the database's answer, or else why there is none."""
    try:
        return True, ask()
    except (*_FAULTS, KeyError) as error:  # KeyError: there is no such trial any more
        return False, _explain(error)


@contextmanager
def _beating(storage: RDBStorage, trial_id: int, seconds: int) -> Iterator[None]:
    """Renew a trial's heartbeat within the block; a database that does not answer is asked again the next time."""
    # not Optuna's own thread: it belongs to Study.optimize, and ends with the first error
    ended = Event()

    def beat() -> None:
        while not ended.wait(seconds):
            done, why = _try(lambda: storage.record_heartbeat(trial_id))
            if not done:
                _LOG.debug("no heartbeat of trial id %s: %s", trial_id, why)
        storage.remove_session()

    thread = Thread(target=beat, name="edgeseg-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
