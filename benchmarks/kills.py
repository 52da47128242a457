"""Kill edgeseg at random moments, and see whether anything is lost, half made, or in the way of the next run.

    python benchmarks/kills.py OUT [--kills 20] [--seed 0] [--only NAME]

Each command is run to its end once, and then killed with all that it started (SIGKILL, as a lost supply would) at
random moments between its start and that end; every second time over a result that stands there. Then it is looked at
what stands under the final name, and the command is given again: with --resume where something waits to be gone on
with. Trainings are tiny, and their packages are loaded before, so that no kill hits an import; a board is a folder,
with the real scripts and fakes of its Python and of systemd. Writes OUT/kills.md and .json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import cv2
from trained import write_results

from edgeseg.core.files import partial_path
from edgeseg.core.marks import read_mark
from edgeseg.core.modelfile import read_model
from edgeseg.phantom.synthesis import SynthOptions, write_phantom_set

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # the board's fakes are the tests'

from tests.boards import FAKES, FakeBoard, pack_light, unpack, write_program  # noqa: E402

SECONDS = 300.0
HEADER = ("what", "kills", "lost", "half made", "next run done", "next run told what to do", "verdict")
TRAINING = ["--model", "nano", "--size", "32", "--epochs", "2", "--batch", "4"]
FRAMES = 60
LOADED = multiprocessing.get_context("forkserver")
COMPRESSING = ("edgeseg.compression.compress", "edgeseg.report.compression")
WHOLE = "undisturbed"
"""Where a command ran to its end."""
RUN = f"Training/{WHOLE}/out"


class Task(ABC):
    """One command that is killed; every kill has a folder of its own."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def prepare(self, place: Path, taken: bool) -> None:
        """Make what the command needs, with an older result where it is to find one."""

    @abstractmethod
    def command(self, place: Path) -> list[str]:
        """Say what to run, as things stand there."""

    @abstractmethod
    def look(self, place: Path, taken: bool) -> str:
        """Say what is wrong with what stands there: lost, half made, or nothing."""

    def told(self, said: str) -> bool:
        """Say whether a refusal says what to do: a sentence and a hint."""
        return "edgeseg: " in said and "\n  " in said and "Unexpected" not in said

    def surroundings(self, place: Path) -> Mapping[str, str]:  # noqa: ARG002 - the board's are its own
        """Give the command's variables."""
        return {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class FolderTask(Task):
    """A command that makes a folder, and replaces the one that stands there when the new one is whole."""

    needed: tuple[str, ...] = ()
    record = ""

    def prepare(self, place: Path, taken: bool) -> None:
        """Put an older result there."""
        if taken:
            shutil.copytree(self.folder / type(self).__name__ / WHOLE / "out", place / "out")

    def command(self, place: Path) -> list[str]:
        """Go on with what waits to be gone on with."""
        out = place / "out"
        waits = (partial_path(out) / self.record).is_file()
        return [*self.words(), "--out", str(out), *["--resume"] * waits, *["--overwrite"] * out.exists()]

    @abstractmethod
    def words(self) -> list[str]:
        """Say the command without its folder."""

    def look(self, place: Path, taken: bool) -> str:
        """Find a folder with its mark, its files and a model that can be read."""
        out = place / "out"
        waiting = [*place.glob(".out.replaced*"), *([partial_path(out)] if self.is_whole(partial_path(out)) else [])]
        if not out.exists():
            return "lost" if taken and not waiting else ""
        return "" if self.is_whole(out) else "half made"

    def is_whole(self, folder: Path) -> bool:
        """Say whether a folder is marked as whole, and is."""
        mark = read_mark(folder)
        if mark is None or not mark.whole:
            return False
        for path in folder.glob("*.tflite"):
            read_model(path)
        return all((folder / name).is_file() for name in (*mark.files, *self.needed))


class Training(FolderTask):
    """`edgeseg train`."""

    name, record, needed = "train", "run.json", ("run.json", "weights.h5", "model.tflite", "split.csv")

    def words(self) -> list[str]:
        """Train on the phantoms."""
        return [*edgeseg("train"), str(self.folder / "data"), *TRAINING]

    def command(self, place: Path) -> list[str]:
        """Leave the options out where they were given before."""
        words = super().command(place)
        return [word for word in words if word not in TRAINING] if "--resume" in words else words


class Compression(FolderTask):
    """`edgeseg compress`."""

    name, record, needed = (
        "compress",
        "plan.json",
        ("compress.json", "report.html", "float32.tflite", "int8-ptq.tflite"),
    )

    def words(self) -> list[str]:
        """Make an int8 file of the run."""
        recipes = ["--recipe", "int8-ptq", "--max-drop", "1"]
        return [*edgeseg("compress"), str(self.folder / RUN), *recipes]


class Recording(Task):
    """`edgeseg stream --record`."""

    name = "stream --record"

    def prepare(self, place: Path, taken: bool) -> None:
        """Make nothing: a recording takes a new folder."""

    def command(self, place: Path) -> list[str]:
        """Record phantoms."""
        source = ["--source", f"phantom://?size=64&frames={FRAMES}", "--every-frame", "--view", "none"]
        options = ["--budget-ms", "60000", "--record", str(place / "out"), "--record-frames"]
        return [*edgeseg("stream"), str(self.folder / RUN / "model.tflite"), *source, *options]

    def look(self, place: Path, taken: bool) -> str:  # noqa: ARG002 - nothing stood there
        """Read every picture that the index names."""
        index = place / "out/index.jsonl"
        text = index.read_text(encoding="utf-8") if index.is_file() else ""
        if not text.endswith("\n") and text:
            return "half made"
        lines = [json.loads(line) for line in text.splitlines()]
        named = [place / "out" / line[key] for line in lines for key in ("mask", "frame")]
        return "" if all(cv2.imread(str(path)) is not None for path in named) else "lost"


class Installation(Task):
    """`install.sh`, for the first time or again."""

    name = "install.sh"
    archive = "first"

    def prepare(self, place: Path, taken: bool) -> None:
        """Set a board up, with a model in use where there is to be one."""
        board = self.board(place)
        (board.root / "bin").mkdir(parents=True)
        for name in ("systemctl", "id"):
            write_program(board.root / "bin" / name, (FAKES / f"{name}.sh").read_text(encoding="utf-8"))
        for number, name in enumerate(("zeroth", "first", "second")):
            (board.root / f"{name}.tar.gz").write_bytes(pack_light(name, number, environment=f"{number}"))
            unpack(pack_light(name, number, environment=f"{number}"), board.root / name)
        if taken:
            self.put_in_use(board, "zeroth")

    def put_in_use(self, board: FakeBoard, name: str) -> None:
        """Install a model."""
        code, said = board.install(board.root / name, {"HOOK": ""})
        assert code == 0, said

    def board(self, place: Path) -> FakeBoard:
        """Give the board in a folder."""
        return FakeBoard(place / "board")

    def command(self, place: Path) -> list[str]:
        """Install the model."""
        board = self.board(place)
        return ["sh", str(board.root / self.archive / "install.sh"), "--prefix", str(board.prefix)]

    def surroundings(self, place: Path) -> Mapping[str, str]:
        """Put the fakes on the path."""
        root, log = self.board(place).root, self.board(place).root / "log"
        home = {"HOME": str(root), "XDG_CONFIG_HOME": str(root / "config"), "HOOK": "", "SYSTEMCTL_LOG": str(log)}
        return {"PATH": f"{root / 'bin'}:/usr/bin:/bin", **home}

    def told(self, said: str) -> bool:
        """Say whether the scripts say what to do."""
        return "edgeseg: " in said

    def look(self, place: Path, taken: bool) -> str:
        """Find a model in use that has passed, with its environment."""
        prefix = self.board(place).prefix
        current = prefix / "current"
        if not current.is_symlink():
            return "lost" if taken else ""
        whole = all((current / name).is_file() for name in ("passed", "model.tflite", "venv/ready", "venv/bin/edgeseg"))
        settings = (prefix / "stream.env").stat().st_mode & 0o777
        return "" if whole and settings == 0o600 else "half made"


class Upgrade(Installation):
    """`board.sh upgrade`."""

    name = "board.sh upgrade"
    archive = "second"

    def prepare(self, place: Path, taken: bool) -> None:
        """Have one model in use, or one in use and one before."""
        super().prepare(place, taken)
        self.put_in_use(self.board(place), "first")

    def command(self, place: Path) -> list[str]:
        """Upgrade to the second model."""
        board = self.board(place)
        return ["sh", str(board.prefix / "board.sh"), "upgrade", str(board.root / "second.tar.gz")]

    def look(self, place: Path, taken: bool) -> str:  # noqa: ARG002 - there is always one in use
        """Find a model in use, whatever came."""
        return super().look(place, taken=True)


TASKS: tuple[type[Task], ...] = (Training, Compression, Recording, Installation, Upgrade)


def edgeseg(command: str) -> list[str]:
    """Name a command of edgeseg's."""
    return [sys.executable, "-m", "edgeseg", command]


@dataclass(frozen=True)
class Work:
    """A command at work, in a session of its own."""

    pid: int
    wait: Callable[[float], int | None]
    """Gives its exit code, None where it was still at work after so many seconds."""
    said: Path

    def end(self) -> None:
        """Kill it with all that it started."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait(SECONDS)


def start(task: Task, place: Path) -> Work:
    """Start a task's command."""
    command, surroundings, said = task.command(place), task.surroundings(place), place / "said"
    if isinstance(task, FolderTask):
        forked = LOADED.Process(target=run_loaded, args=(command[3:], said))
        forked.start()
        assert forked.pid is not None
        return Work(forked.pid, partial(wait_forked, forked), said)
    with said.open("wb") as out:
        process = subprocess.Popen(
            command, env=surroundings, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    return Work(process.pid, partial(wait_process, process), said)


def run_loaded(words: Sequence[str], said: Path) -> None:
    """Run an edgeseg command in a process in which Python has loaded its packages already."""
    os.setsid()
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for output in (1, 2):
        os.dup2(handle, output)
    sys.argv = ["edgeseg", *words]
    from edgeseg.cli.app import main as command_line

    command_line()


def wait_forked(process: BaseProcess, seconds: float) -> int | None:
    """Wait for a process with its packages loaded."""
    process.join(seconds)
    return process.exitcode


def wait_process(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for a program."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def run(task: Task, place: Path) -> tuple[int, str, float]:
    """Run a task's command to its end; gives its exit code, what it said, and its seconds."""
    began, work = perf_counter(), start(task, place)
    code = work.wait(SECONDS)
    if code is None:
        work.end()
        code = -1
    return code, work.said.read_text("utf-8", "replace"), perf_counter() - began


def kill(task: Task, place: Path, moment: float) -> bool:
    """Start a task's command and kill it with all that it started; says whether it was still at work."""
    work = start(task, place)
    if work.wait(moment) is not None:
        return False
    work.end()
    return True


def try_kill(task: Task, place: Path, moment: float, taken: bool) -> list[str]:
    """Kill once, look, and give the command again; gives what came of it, nothing where it had ended before."""
    place.mkdir(parents=True)
    task.prepare(place, taken)
    if not kill(task, place, moment):
        return []
    found = ["kills", task.look(place, taken)]
    code, said, _ = run(task, place)
    if code == 0:
        found.append("next run done")
    elif task.told(said):
        found.append("next run told what to do")
        print(f"{task.name}, killed after {moment:.3f} s: {said}", file=sys.stderr)
    else:
        print(f"{task.name}, killed after {moment:.3f} s: {said[-2000:]}", file=sys.stderr)
    if code == 0 or not taken:
        found.append(task.look(place, taken=code == 0 or taken))
    if any(fault in found for fault in ("lost", "half made")):
        print(f"{task.name}, killed after {moment:.3f} s: {found}", file=sys.stderr)
    return [word for word in found if word]


def measure(task: Task, place: Path, kills: int, chance: random.Random) -> list[str]:
    """Kill a task at random moments; gives its row."""
    whole = place / WHOLE
    whole.mkdir(parents=True)
    task.prepare(whole, taken=False)
    code, said, seconds = run(task, whole)
    if code != 0:
        raise SystemExit(f"Expected {task.name} to run undisturbed, got code {code}: {said[-2000:]}")
    counts: Counter[str] = Counter()
    while counts["kills"] < kills:
        counts.update(try_kill(task, place / "killed", chance.uniform(0, seconds), taken=counts["kills"] % 2 == 1))
        shutil.rmtree(place / "killed")
        print(task.name, dict(counts), flush=True)
    went_on = counts["next run done"] + counts["next run told what to do"]
    held = counts["lost"] + counts["half made"] == 0 and went_on == counts["kills"]
    return [task.name, *(str(counts[name]) for name in HEADER[1:-1]), "held" if held else "missed"]


def list_tasks(names: Sequence[str]) -> list[type[Task]]:
    """List the tasks of these names, all where none is given; some need the run of the training."""
    return [kind for kind in TASKS if not names or kind.name in names or needs_run(kind, names)]


def needs_run(kind: type[Task], names: Sequence[str]) -> bool:
    """Say whether a training is wanted for what comes of it."""
    return kind is Training and bool({Compression.name, Recording.name} & set(names))


def main() -> None:
    """Kill every command, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], choices=[kind.name for kind in TASKS])
    chosen = parser.parse_args()
    began = perf_counter()
    LOADED.set_forkserver_preload(
        ["edgeseg.training.trainer", "edgeseg.training.folds", "edgeseg.cli.app", *COMPRESSING]
    )
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "data").mkdir()
        write_phantom_set(folder / "data", SynthOptions(cases=24, seed=1, size=(48, 48), clips=0))
        rows = [
            measure(kind(folder), folder / kind.__name__, chosen.kills, random.Random(chosen.seed + number))
            for number, kind in enumerate(list_tasks(chosen.only))
        ]
    notes = (
        "# Killed at random moments",
        "",
        f"    python benchmarks/kills.py OUT --kills {chosen.kills} --seed {chosen.seed}",
        "",
        "SIGKILL to the command and all that it started while it was at work, at moments drawn evenly from the time "
        "that it takes, every second time over an older result. Lost: what stood there before, or a picture that the "
        "index names, is gone. Half made: something under a final name is not whole. Then the command was given again. "
        "Training and compression begin with their packages loaded. The board is a folder with fakes of Python and "
        "systemd. "
        f"All of it took {(perf_counter() - began) / 60:.0f} minutes.",
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_results(chosen.out, "kills", notes, HEADER, rows)


if __name__ == "__main__":
    main()
