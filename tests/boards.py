"""A board to install on: a prefix below a temporary folder, with this interpreter's packages and no systemd."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from edgeseg.core.modelfile import ModelFile
from edgeseg.deploy.bundle import SCRIPTS, Packages, Target, gather_files, pack_files
from edgeseg.machine.boards import Signs, find_board, find_nearest_board, load_board

FAKES = Path(__file__).with_name("fakes")
SLOW_ENOUGH = "EDGESEG_SOURCE='0'\nEDGESEG_BACKEND='cpu'\nEDGESEG_THREADS='1'\nEDGESEG_BUDGET_MS='60000'\n"


def name_this_board() -> str:
    """Name the generic board that this machine is."""
    name = find_nearest_board(Signs(platform.machine()))
    assert name is not None
    return name


def name_this_machine() -> str:
    """Name the architecture of this machine, for which the light archives are."""
    return platform.machine()


def make_target(name: str) -> Target:
    """Give a board of the catalog as something to pack for."""
    return Target(name, load_board(name), find_board(name).parent)


def pack_model_for(name: str, model: ModelFile, wheel: Path) -> bytes:
    """Pack an archive for a board of the catalog."""
    return pack_files(gather_files(model, make_target(name), Packages(wheel), {}))


def unpack(archive: bytes, folder: Path) -> Path:
    """Unpack an archive as tar does on a board."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class FakeBoard:
    """A prefix, and the environment in which the scripts run."""

    root: Path

    @property
    def prefix(self) -> Path:
        """Give the folder that all goes to."""
        return self.root / "prefix"

    def prepare(self) -> None:
        """Write settings that no machine misses, and put Pythons and no systemd on the path."""
        self.prefix.mkdir()
        (self.prefix / "stream.env").write_text(SLOW_ENOUGH, encoding="utf-8")
        programs, packages = self.root / "bin", self.root / "packages"
        programs.mkdir()
        packages.mkdir()
        for minor in range(10, 14):
            write_program(programs / f"python3.{minor}", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for name in ("systemctl", "id"):
            write_program(programs / name, (FAKES / f"{name}.sh").read_text(encoding="utf-8"))
        for path in Path(str(distribution("numpy").locate_file(""))).iterdir():
            if "edgeseg" not in path.name and path.suffix != ".pth":
                (packages / path.name).symlink_to(path)

    def run(self, *command: str | Path, extra: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a program on the board; gives its exit code and all it said."""
        here = {"PATH": f"{self.root / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(self.root / "packages")}
        here |= {"HOME": str(self.root), "XDG_CONFIG_HOME": str(self.root / "config"), "PIP_NO_INDEX": "1"}
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.root,
            env={"LANG": os.environ.get("LANG", "C.UTF-8"), **here, **(extra or {})},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def install(self, folder: Path, extra: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run the install script of an unpacked archive."""
        return self.run("sh", folder / "install.sh", "--prefix", self.prefix, extra=extra)

    def manage(self, *words: str | Path, extra: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run the script that the installation left on the board."""
        return self.run("sh", self.prefix / "board.sh", *words, extra=extra)

    def links(self) -> tuple[str, str]:
        """Give the models in use and before, by their names."""
        names = [self.prefix / name for name in ("current", "previous")]
        current, previous = (path.readlink().name.rpartition("-")[0] if path.is_symlink() else "" for path in names)
        return current, previous


def write_program(path: Path, text: str) -> None:
    """Write a program that can be run."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def make_key(path: Path) -> None:
    """Make a private key to sign archives with, as docs/how-to/deploy.md says."""
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def write_wheel(path: Path, name: str, version: str, requires: str = "") -> Path:
    """Write a wheel that holds nothing but its own description."""
    info = f"{name}-{version}.dist-info"
    need = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{need}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


SETUP = """\
for environment in "$@"; do :; done
mkdir -p "$environment/bin" && : >"$environment/pyvenv.cfg" || exit 1
printf '#!/bin/sh\\n' >"$environment/bin/python" || exit 1
cat >"$environment/bin/edgeseg" <<'PROGRAM' || exit 1
#!/bin/sh
[ ! -f "$HOOK" ] || . "$HOOK"
PROGRAM
chmod 755 "$environment/bin/python" "$environment/bin/edgeseg"
"""
"""What stands for a board's setup: an environment whose edgeseg holds every budget and does what $HOOK says."""


def list_light(name: str, built: int | None = 0, environment: str = "e") -> dict[str, bytes]:
    """List the files of an archive with the real scripts and no Python, which installs in milliseconds."""
    named = {"RELEASE": f"{name}-{name.encode().hex():0>12.12}", "ENVIRONMENT": f"{environment:0>12}", "BOARD": "light"}
    named |= {"WHEEL": "edgeseg.whl", "OFFLINE_PYTHON": ""} | ({} if built is None else {"BUILT": str(built)})
    files = {path.name: path.read_bytes() for path in SCRIPTS.iterdir()}
    files |= {"model.tflite": name.encode(), "stream.env": SLOW_ENOUGH.encode(), "device-tree": b""}
    files |= {"machines": f"{platform.machine()}\n".encode(), "devices/light/setup.sh": SETUP.encode()}
    return files | {"release.env": "".join(f"{key}='{value}'\n" for key, value in named.items()).encode()}


def pack_light(name: str, built: int | None = 0, environment: str = "e") -> bytes:
    """Pack such an archive."""
    return pack_files(list_light(name, built, environment))
