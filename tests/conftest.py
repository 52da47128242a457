"""Fixtures that several tests share; what takes long is made once per session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browsers import Browser
from tests.commands import CommandLine, Fail
from tests.discs import make_disc_data
from tests.edgetpu import STUB, compile_library
from tests.once import find_shared, make_once

if TYPE_CHECKING:
    from edgeseg.compression.compress import Outcome

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# pytest-xdist runs a process per core: more threads only wait for each other, on networks as small as these
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# a job in the background of a script has SIGINT ignored, and so would every process that a test starts and interrupts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup does the same to SIGHUP
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start a process more than there are cores: now and then one waits, for a server or for what another makes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def _own_cache(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what is remembered of networks out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(find_shared(request) / "cache"))
        for variable in ("CACHE_DIRECTORY", "STATE_DIRECTORY"):
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fail:
    """Run a command that must not succeed."""
    monkeypatch.setenv("COLUMNS", "200")
    return CommandLine(monkeypatch, capsys).fail


@pytest.fixture
def disc_data(tmp_path: Path) -> Path:
    """Make a small data folder of bright discs."""
    return make_disc_data(tmp_path / "discs", 10)


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest) -> Path:
    """Give the folder for what is made once, however many processes share the tests."""
    folder = find_shared(request) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def shallow_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the smallest sizes have fewer stages, as the session's run has."""
    make_sizes_shallow(monkeypatch)


def make_sizes_shallow(patch: pytest.MonkeyPatch) -> None:
    """Put shallow sizes in the place of the smallest ones."""
    from edgeseg.model.spec import SIZES
    from tests.shallow import SHALLOW

    for name, size in SHALLOW.items():
        patch.setitem(SIZES, name, size)


@pytest.fixture(scope="session")
def trained_data(shared: Path) -> Path:
    """Make the data that the session's one training uses."""
    return make_once(shared, "data", lambda: make_disc_data(shared / "discs", 50))


@pytest.fixture(scope="session")
def trained_run(shared: Path, trained_data: Path) -> Path:
    """Train the session's one run: a tiny network that really finds the discs."""

    def train() -> None:
        from edgeseg.training.options import TrainOptions
        from edgeseg.training.trainer import train_run

        with pytest.MonkeyPatch.context() as patch:
            make_sizes_shallow(patch)
            train_run(trained_data, shared / "run", TrainOptions(model="nano", size=64, epochs=24, seed=3))

    make_once(shared, "run", train)
    return shared / "run"


@pytest.fixture(scope="session")
def compressed(shared: Path, trained_run: Path) -> tuple[Path, Outcome]:
    """Compress the session's run with the default recipes, once."""

    def compress() -> Outcome:
        from edgeseg.compression.compress import compress_run
        from edgeseg.compression.gate import Gate
        from edgeseg.compression.recipe import load_recipe
        from edgeseg.core.files import staged_folder
        from edgeseg.report.compression import write_compression_report

        recipes = [load_recipe(name) for name in ("float16", "int8-ptq", "int8-qat")]
        with staged_folder(shared / "compressed") as folder:
            outcome = compress_run(trained_run, folder, recipes, Gate(max_drop=0.05))
            write_compression_report(folder, trained_run, outcome)
        return outcome

    return shared / "compressed", make_once(shared, "compressed", compress)


@pytest.fixture(scope="session")
def int8_model(compressed: tuple[Path, Outcome]) -> Path:
    """Give the session's int8 file."""
    return compressed[0] / "int8-ptq.tflite"


@pytest.fixture(scope="session")
def stub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the stand-in for libedgetpu, once; gives its folder, for LD_LIBRARY_PATH."""
    return compile_library(STUB, tmp_path_factory.mktemp("edgetpu"))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a Chromium for all tests of a file."""
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """Give a page that knows nothing of those before."""
    chromium.renew()
    return chromium
