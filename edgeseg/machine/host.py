"""The doctor's access to machine and cameras in one place, so that tests can replace it by a folder of files."""

from __future__ import annotations

import fcntl
import grp
import importlib
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeseg.core.process import run_with_input
from edgeseg.core.searchpath import trusted_environment
from edgeseg.machine.boards import Signs, read_signs, read_text

Control = Callable[[int, int, bytearray], int]
# VIDIOC_QUERYCAP, VIDIOC_ENUM_FMT, flags and struct layouts: linux/videodev2.h
QUERY_CAPABILITIES = 0x80685600
LIST_FORMATS = 0xC0405602
_CAPTURE = 1
_CAN_CAPTURE = 0x1
# V4L2_CAP_DEVICE_CAPS: the node's own capabilities are set beside those of the whole device.
_HAS_DEVICE_CAPS = 0x80000000
_MOST_FORMATS = 64


_FOLDERS = re.compile(r"(?<![\w.:/])~?/(?:[^\s/'\"():]+/)+")


@dataclass(frozen=True)
class Package:
    """The result of importing a package; without module and failure it is not installed."""

    module: Any = None
    version: str = ""
    failure: str = ""


def _read_python() -> tuple[int, int]:
    return sys.version_info[:2]


def _read_groups() -> frozenset[str]:
    known = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    return frozenset(known[gid] for gid in {os.getegid(), *os.getgroups()} if gid in known)


def _read_library_folders() -> tuple[str, ...]:
    return tuple(folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder)


def _find_version(distribution: str) -> str:
    """Find the version of an installed distribution without importing it; empty if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _can_write(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def _is_port_free(port: int) -> bool:
    with socket.socket() as probe:
        # as servers bind: a port in TIME_WAIT counts as free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _run_program(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
    return run_with_input(command, b"", seconds, environment=trusted_environment())


@dataclass(frozen=True)
class Machine:
    """This machine, or one that a test describes."""

    root: Path = Path("/")
    system: str = field(default_factory=platform.system)
    architecture: str = field(default_factory=platform.machine)
    word_bits: int = field(default_factory=lambda: struct.calcsize("P") * 8)
    """Of this Python: a 64-bit kernel may run 32-bit programs."""
    python: tuple[int, int] = field(default_factory=_read_python)
    libc: tuple[str, str] = field(default_factory=platform.libc_ver)
    groups: frozenset[str] = field(default_factory=_read_groups)
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    free_disk_mb: int = field(default_factory=lambda: shutil.disk_usage(sys.prefix).free // 2**20)
    library_folders: tuple[str, ...] = field(default_factory=_read_library_folders)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    page_size: int = field(default_factory=lambda: os.sysconf("SC_PAGE_SIZE"))
    year: int = field(default_factory=lambda: time.localtime().tm_year)
    import_module: Callable[[str], Any] = importlib.import_module
    find_version: Callable[[str], str] = _find_version
    find_program: Callable[[str], str | None] = shutil.which
    can_write: Callable[[Path], bool] = _can_write
    is_port_free: Callable[[int], bool] = _is_port_free
    run_program: Callable[[Sequence[str], float], subprocess.CompletedProcess[bytes]] = _run_program
    """Run a program for some seconds at most."""
    control_device: Callable[[int, int, bytearray], int] = fcntl.ioctl
    """ioctl, to query devices."""

    def read(self, path: str) -> str:
        """Read a file below the root; a missing or unreadable one is empty."""
        return read_text(self.root / path)

    def read_signs(self) -> Signs:
        """Read what identifies this machine."""
        return read_signs(self.root, self.architecture)

    def read_number(self, path: str) -> int | None:
        """Read a file that holds one whole number."""
        text = self.read(path)
        return int(text) if re.fullmatch(r"-?\d+", text) else None

    def find(self, pattern: str) -> list[str]:
        """List the matching paths below the root, relative to it."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.glob(pattern))

    def read_memory_mb(self, key: str) -> int | None:
        """Read one line of /proc/meminfo, such as MemAvailable."""
        line = re.search(rf"^{key}:\s+(\d+) kB", self.read("proc/meminfo"), re.MULTILINE)
        return int(line[1]) // 1024 if line else None

    def has_library(self, name: str) -> bool:
        """Say whether the dynamic loader would find a library: in LD_LIBRARY_PATH, its cache or default folders."""
        if any(Path(folder, name).exists() for folder in self.library_folders):
            return True
        # the cache is binary, but holds names as plain text
        return name in self.read("etc/ld.so.cache") or bool(self.find(f"lib/{name}") + self.find(f"usr/lib/{name}"))

    def load_package(self, name: str) -> Package:
        """Import a package as a real run would; metadata would not show a missing system library."""
        top = name.split(".")[0]
        try:
            module = self.import_module(name)
            return Package(module, str(getattr(self.import_module(top), "__version__", "")))
        except ModuleNotFoundError as error:
            # another name: the package is installed, and one of its own imports is missing
            return Package() if error.name in (name, top) else Package(failure=describe_error(error))
        except (ImportError, AttributeError, OSError) as error:
            return Package(failure=describe_error(error))


def describe_error(error: BaseException) -> str:
    """Describe an error's first cause on one line, without folders, which contain user names."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = " ".join(str(error).replace(str(Path.home()), "~").split())
    return _FOLDERS.sub("", line)[:200].rstrip(". ")


def parse_version(version: str) -> tuple[int, ...]:
    """Parse the first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


_CAPABILITIES = struct.Struct("16s32s32sIII12x")
_FORMAT = struct.Struct("III32s4sI12x")


@dataclass(frozen=True)
class VideoDevice:
    """Name and pixel formats of a video device; without formats it is no camera."""

    name: str
    formats: tuple[str, ...]
    """Four letters each, such as MJPG or YUYV."""


def query_device(path: Path, control: Control) -> VideoDevice:
    """Query the name and the capture formats of a video device.

    Raises:
        OSError: It cannot be opened, or is no video device.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        answer = bytearray(_CAPABILITIES.size)
        control(descriptor, QUERY_CAPABILITIES, answer)
        _, card, _, _, whole, own = _CAPABILITIES.unpack(answer)
        can_capture = (own if whole & _HAS_DEVICE_CAPS else whole) & _CAN_CAPTURE
        formats = tuple(_list_formats(descriptor, control)) if can_capture else ()
        return VideoDevice(_read_text(card), formats)
    finally:
        os.close(descriptor)


def _list_formats(descriptor: int, control: Control) -> Iterator[str]:
    for index in range(_MOST_FORMATS):
        answer = bytearray(_FORMAT.pack(index, _CAPTURE, 0, b"", b"", 0))
        try:
            control(descriptor, LIST_FORMATS, answer)
        except OSError:  # EINVAL behind the last format
            return
        yield _read_text(_FORMAT.unpack(answer)[4])


def _read_text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("ascii", "replace").strip()
