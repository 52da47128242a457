"""Copy an archive to a board with the system's scp and ssh, and what a board is told: install, verify, go back."""

from __future__ import annotations

import secrets
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.edgetpu import EdgeTpuBackend
from edgeseg.backends.select import is_compiled
from edgeseg.core.card import OK, UNMAPPED, read_verdict
from edgeseg.core.errors import DeployError
from edgeseg.core.modelfile import ModelFile
from edgeseg.core.process import run_limited
from edgeseg.core.redact import redact, to_one_line
from edgeseg.machine.boards import Board

_PREFIX = """
prefix=$HOME/.local/share/edgeseg
[ "$(id -u)" != 0 ] || prefix=/opt/edgeseg
"""
# Run on the board: an installed board.sh checks signature and age before it unpacks, a new board installs.
INSTALL = f"""{_PREFIX}
upload=$1
unpacked=$(mktemp -d "$HOME/edgeseg-upload.XXXXXX") || exit 1
trap 'rm -rf "$unpacked" "$upload" "$upload.sig"' EXIT
trap 'exit 1' HUP INT TERM
if [ -f "$prefix/board.sh" ]; then
    sh "$prefix/board.sh" upgrade "$upload"
else
    tar -xzf "$upload" -C "$unpacked" --no-same-owner && sh "$unpacked/install.sh"
fi
"""

# An installation that has lost its ssh goes on there: wait for its end.
_WAIT = """
[ ! -f "$prefix/lock" ] || flock "$prefix/lock" true
"""
WAIT_AND_INSTALL = f"{_PREFIX}{_WAIT}{INSTALL}"
# What a board carries. Boot id and home folder together tell two names of one board from two boards whose cards were
# copied from each other, machine id included.
OWN_FILES = ("stream.env", "key.pem")
PROBE = f"""{_PREFIX}
echo "machine $(uname -m)"
[ ! -r /proc/device-tree/model ] || echo "model $(tr -d '\\0' </proc/device-tree/model)"
echo "identity $(cat /proc/sys/kernel/random/boot_id) $(stat -c %d:%i -- "$HOME")"
echo "now $(readlink "$prefix/current")"
echo "before $(readlink "$prefix/previous")"
place=$prefix
while [ ! -d "$place" ]; do place=$(dirname "$place"); done
echo "free $(df -Pk -- "$HOME" "$place" | awk 'NR > 1 {{ print $4 }}' | sort -n | head -n 1)"
[ -f "$prefix/board.sh" ] || for name in {" ".join(OWN_FILES)}; do [ ! -f "$prefix/$name" ] || echo "own $name"; done
"""
VERIFY = f"""{_PREFIX}
sh "$prefix/board.sh" verify
"""
# Back from release $1 to $2, or to no installation with the files $3 and on; a board that does not carry $1 stays.
GO_BACK = f"""{_PREFIX}{_WAIT}
new=$1 before=$2
shift 2
if [ "$(readlink "$prefix/current")" = "releases/$new" ]; then
    if [ -n "$before" ]; then
        for link in previous leaving; do [ "$(readlink "$prefix/$link")" != "releases/$before" ] || found=yes; done
        [ "${{found:-}}" = yes ] || {{ echo "edgeseg: The release $before is not kept there any more."; exit 1; }}
        sh "$prefix/board.sh" rollback || exit 1
    else
        kept=$(mktemp -d "$HOME/edgeseg-kept.XXXXXX") || exit 1
        for name in "$@"; do cp -p "$prefix/$name" "$kept/" || exit 1; done
        sh "$prefix/board.sh" uninstall || exit 1
        [ $# = 0 ] || mkdir -p "$prefix" || exit 1
        for name in "$@"; do mv "$kept/$name" "$prefix/" || exit 1; done
        rmdir "$kept"
    fi
fi
echo "now $(readlink "$prefix/current")"
"""
# No questions: many boards are worked on at once. The host's key must be known; an idle connection ends by itself.
_QUIET = (
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=4",
)
# The status with which timeout says that the time was over.
TIME_OVER = 124
# A command whose time is over ends by itself; after that much longer the board kills it, and then we the ssh.
GRACE_S = 60.0


@dataclass(frozen=True)
class Answer:
    """How a command on a board ended."""

    status: int
    said: str = ""

    @property
    def reason(self) -> str:
        """Give the sentence of what failed: that of our own scripts, else the last line."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        own = [line.removeprefix("edgeseg: ") for line in lines if line.startswith("edgeseg: ")]
        return redact(to_one_line((own or lines or [f"it ended with code {self.status}"])[-1], letters=200))


@dataclass(frozen=True)
class Remote:
    """A board that ssh reaches without a question, by the user's own ssh configuration."""

    host: str
    user: str = ""
    port: int | None = None

    def run(self, script: str, arguments: Sequence[str], seconds: float) -> Answer:
        """Run a script there; after the time limit it is ended there, too, since a lost ssh does not end it."""
        limit = ["timeout", "-k", f"{GRACE_S:g}", f"{seconds:g}", "sh", "-c", script, "sh", *arguments]
        port = ["-p", str(self.port)] if self.port else []
        user = ["-l", self.user] if self.user else []
        command = ["ssh", "-T", *_QUIET, *port, *user, self.host, shlex.join(limit)]
        answer = _run_quietly(command, seconds + 2 * GRACE_S)
        return Answer(TIME_OVER, f"it took longer than {seconds:g} s") if answer.status == TIME_OVER else answer

    def copy(self, files: Sequence[tuple[Path, str]], seconds: float) -> Answer:
        """Copy files into the home folder there, each under a name; what was copied in part is removed again."""
        port = ["-P", str(self.port)] if self.port else []
        user = ["-o", f"User={self.user}"] if self.user else []
        host = f"[{self.host}]" if ":" in self.host else self.host
        for path, name in files:
            command = ["scp", "-q", *_QUIET, *port, *user, str(path.absolute()), f"{host}:{name}"]
            answer = _run_quietly(command, seconds)
            if answer.status != 0:
                self.run('rm -f -- "$@"', [name for _, name in files], GRACE_S)
                return answer
        return Answer(0)


def _run_quietly(command: Sequence[str], seconds: float) -> Answer:
    try:
        return Answer(*run_limited(command, Path.cwd(), seconds))
    except FileNotFoundError as error:
        raise _miss(command[0]) from error
    except subprocess.TimeoutExpired:
        return Answer(TIME_OVER, f"it did not answer within {seconds:g} s")


def send_archive(files: Sequence[Path], host: str) -> int:
    """Copy an archive and its signature to a board, and install it.

    Returns:
        The exit code of the installation: 0 installed, 3 the model did not pass.
    """
    if not host or host.startswith("-"):
        raise DeployError(f"Expected a host as ssh takes it, got {host!r}.", "Write: --to user@host")
    # random: no file there has this name
    upload = f"edgeseg-upload-{secrets.token_hex(8)}.tar.gz"
    for path, suffix in zip(files, ("", ".sig"), strict=False):
        if _run(["scp", "-q", str(path.absolute()), f"{host}:{upload}{suffix}"]) != 0:
            raise DeployError(f"Copying to {host} failed, see above.", f"Check that this works: ssh {host}")
    # one argument for ssh, which joins several with spaces and lets the remote shell split them
    status = _run(["ssh", host, f"sh -c {shlex.quote(INSTALL)} sh {upload}"])
    if status not in (0, 3):
        raise DeployError(f"Installing on {host} failed, see above.", "The model in use there has not changed.")
    return status


def _run(command: Sequence[str]) -> int:
    """Run a program on the terminal: ssh may ask for a passphrase."""
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError as error:
        raise _miss(command[0]) from error


def _miss(program: str) -> DeployError:
    return DeployError(f"Expected the program {program}, got none.", "Install an OpenSSH client.")


def find_backend(file: ModelFile, name: str, board: Board) -> str:
    """Return the first of the board's backends that can run a file.

    Raises:
        DeployError: None can.
    """
    if file.is_onnx:
        raise DeployError(
            f"Expected a .tflite file, got the ONNX file {file.path}.",
            "Give the .tflite that it was exported from; docs/how-to/jetson-onnx.md explains how ONNX gets to a board.",
        )
    # the CPU backend last: it runs every file that is not compiled for a chip
    backends = tuple(dict.fromkeys((*board.recommended.backends, CpuBackend.name)))
    refusals = {backend: _find_refusal(file, backend.partition(":")[0]) for backend in backends}
    taking = [backend for backend, refusal in refusals.items() if not refusal]
    if not taking:
        reasons = "; ".join(f"{backend}: {refusal}" for backend, refusal in refusals.items())
        raise DeployError(
            f"Expected a file that the board {name} can run, got {file.path}, which it cannot ({reasons}).",
            "Give another file, or another --device: edgeseg devices lists them.",
        )
    return taking[0]


def _find_refusal(file: ModelFile, target: str) -> str:
    if is_compiled(file) != (target == EdgeTpuBackend.name):
        return "the file is compiled for the Edge TPU" if is_compiled(file) else "the file is not compiled for it"
    line = file.card.lint.get(target, OK)
    return line if read_verdict(line) == UNMAPPED and not is_compiled(file) else ""
