"""Copy an archive to a board with the system's scp and ssh, and install it there."""

from __future__ import annotations

import secrets
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgeseg.backends.cpu import CpuBackend
from edgeseg.backends.edgetpu import EdgeTpuBackend
from edgeseg.backends.select import is_compiled
from edgeseg.core.card import OK, UNMAPPED, read_verdict
from edgeseg.core.errors import DeployError
from edgeseg.core.modelfile import ModelFile
from edgeseg.machine.boards import Board

# Run on the board: an installed board.sh checks signature and age before it unpacks, a new board installs.
INSTALL = """
upload=$1
unpacked=$(mktemp -d "$HOME/edgeseg-upload.XXXXXX") || exit 1
trap 'rm -rf "$unpacked" "$upload" "$upload.sig"' EXIT
prefix=$HOME/.local/share/edgeseg
[ "$(id -u)" != 0 ] || prefix=/opt/edgeseg
if [ -f "$prefix/board.sh" ]; then
    sh "$prefix/board.sh" upgrade "$upload"
else
    tar -xzf "$upload" -C "$unpacked" --no-same-owner && sh "$unpacked/install.sh"
fi
"""


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
        raise DeployError(f"Expected the program {command[0]}, got none.", "Install an OpenSSH client.") from error


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
