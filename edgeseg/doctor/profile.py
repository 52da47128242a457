"""Checks against a board's profile (--device), and of cameras and GStreamer."""

from __future__ import annotations

from edgeseg.doctor import Check
from edgeseg.doctor.accelerators import probe_backend
from edgeseg.machine.boards import Board, is_board
from edgeseg.machine.host import Machine, VideoDevice, parse_version, query_device

# Prefixes of V4L2's raw Bayer formats, which OpenCV cannot read.
RAW_SENSOR = ("BA", "BG", "GB", "GR", "RG", "pB", "pG", "pR", "pg", "BY")
# Formats with the same prefixes that it can.
_READABLE = ("RGB", "BGR", "GREY", "GR16")


def check_profile_machine(machine: Machine, board: Board) -> Check:
    """Check that the machine has the profile's processor architecture."""
    wanted = " or ".join(board.machine)
    if machine.architecture in board.machine:
        return Check("profile machine", "ok", f"{machine.architecture}, as the profile says.")
    detail = f"Expected {wanted} for this profile, got {machine.architecture or 'no answer'}."
    return Check("profile machine", "problem", detail, "Run this on the board itself, or name another --device.")


def check_profile_python(machine: Machine, board: Board) -> Check:
    """Check that the profile lists this Python."""
    version = ".".join(map(str, machine.python))
    if version in board.python:
        return Check("profile python", "ok", f"Python {version}, as the profile says.")
    detail = f"Expected Python {', '.join(board.python)} for this profile, got {version}."
    return Check("profile python", "problem", detail, "Make the environment again with the board's setup.sh.")


def check_profile_memory(machine: Machine, board: Board) -> Check:
    """Check that the machine has the memory that the profile needs."""
    total = machine.read_memory_mb("MemTotal")
    if total is None:
        return Check("profile memory", "ok", "The size of this machine's memory is unknown.")
    if total >= board.min_memory_mb:
        return Check("profile memory", "ok", f"{total} MB of memory, the profile needs {board.min_memory_mb}.")
    detail = f"Expected at least {board.min_memory_mb} MB of memory for this profile, got {total}."
    return Check("profile memory", "problem", detail, "Use a board with more memory, or name another --device.")


def check_profile_board(machine: Machine, board: Board) -> Check:
    """Check that this is the profile's board."""
    if board.is_generic or is_board(board, machine.read_signs()):
        return Check("profile board", "ok", f"This can be: {board.title}.")
    wanted = " or ".join((*board.device_tree, *board.usb, *board.pci))
    fix = "Name another --device: edgeseg devices lists them; lsusb and lspci -nn show what is plugged in."
    return Check("profile board", "warning", f"Expected a board that shows {wanted}, got none of these.", fix)


def check_profile_system(machine: Machine, board: Board) -> Check:
    """Check that the system is as new as the profile's."""
    name, version = machine.libc
    if board.system is None or name != "glibc":
        return Check("profile system", "ok", "The profile does not require a system.")
    if parse_version(version) >= parse_version(board.system.glibc):
        return Check("profile system", "ok", f"glibc {version}, {board.system.name} has {board.system.glibc}.")
    detail = f"Expected glibc {board.system.glibc} as in {board.system.name}, got {version}."
    return Check("profile system", "warning", detail, f"Install {board.system.name}, or try it as it is.")


def check_profile_camera(machine: Machine, board: Board) -> Check:
    """Check that the profile's default camera can be opened."""
    source = board.recommended.source
    if source.startswith("csi://") and machine.find_program("gst-launch-1.0") is None:
        detail = f"Expected gst-launch-1.0 for the usual camera {source}, got none."
        return Check("profile camera", "warning", detail, "sudo apt-get install gstreamer1.0-tools")
    if source.isdigit() and not machine.find(f"dev/video{source}"):
        detail = f"Expected the usual camera at /dev/video{source}, got none."
        return Check("profile camera", "warning", detail, "Plug it in, or name another --source.")
    return Check("profile camera", "ok", f"What the usual camera {source} needs is here.")


def check_profile_backend(machine: Machine, board: Board) -> Check:
    """Check that the first of the profile's backends works."""
    # the profile lists its backends by preference
    best, *others = board.recommended.backends
    probe = probe_backend(machine, best)
    if probe.available:
        return Check("profile backend", "ok", f"{best}, as the profile recommends.")
    fix = f"{probe.hint} Or use --backend {others[0]}." if others else probe.hint
    return Check("profile backend", "problem", f"Expected the backend {best} for this profile. {probe.detail}", fix)


def check_profile_heat(machine: Machine, board: Board) -> Check:
    """Check that the profile's temperature sensors exist."""
    missing = [f"/{path}" for path in (*board.heat.zones, *board.heat.throttle) if not machine.find(path)]
    if not missing:
        return Check("profile heat", "ok", "Every sensor of the profile is here.")
    detail = f"Expected {' and '.join(missing)} for this profile, got no such file."
    return Check("profile heat", "warning", detail, "Watch the heat by hand, and correct the profile's [heat].")


def check_cameras(machine: Machine) -> Check:
    """List the video devices."""
    nodes = [f"/{path}" for path in machine.find("dev/video*")]
    if not nodes:
        fix = "Plug in a camera, or stream from a file, a folder, a network address or phantom:// instead."
        return Check("cameras", "warning", "No /dev/video* on this machine.", fix)
    return Check("cameras", "ok", f"{', '.join(nodes)} (on some boards video decoders stand in this list, too).")


def check_camera_formats(machine: Machine) -> Check:
    """Check which formats the cameras offer, and that OpenCV can read one."""
    found = {path: device for path in machine.find("dev/video*") if (device := _ask(machine, path)) is not None}
    cameras = {path: device for path, device in found.items() if device.formats}
    if not cameras:
        return Check("camera formats", "ok", "No camera on this machine lists its formats.")
    listed = "; ".join(f"/{path} {device.name}: {', '.join(device.formats)}" for path, device in cameras.items())
    # one format that OpenCV can read is enough, whatever else a sensor lists
    if all(_is_raw(name) for device in cameras.values() for name in device.formats):
        fix = "Use it through GStreamer, which converts the image: --source csi://0"
        return Check("camera formats", "warning", f"{listed}: raw Bayer sensors, which OpenCV cannot read.", fix)
    return Check("camera formats", "ok", f"{listed}.")


def _ask(machine: Machine, path: str) -> VideoDevice | None:
    """Query one device; None when it does not answer: it is no camera, or `check_video_group` reports the reason."""
    try:
        return query_device(machine.root / path, machine.control_device)
    except OSError:
        return None


def _is_raw(name: str) -> bool:
    return name.startswith(RAW_SENSOR) and not name.startswith(_READABLE)


def check_video_group(machine: Machine) -> Check:
    """Check that this user may open cameras."""
    if machine.is_root:
        return Check("video group", "ok", "The administrator may open every camera.")
    if "video" in machine.groups:
        return Check("video group", "ok", "This user is in the group video.")
    fix = 'sudo usermod -aG video "$USER"    (then log in again)'
    return Check("video group", "warning", "This user is not in the group video, which may open cameras.", fix)


def check_gstreamer(machine: Machine) -> Check:
    """Check for GStreamer, which cameras on a board's CSI connector need."""
    if machine.find_program("gst-launch-1.0") is None:
        return Check("gstreamer", "ok", "No gst-launch-1.0: sources csi:// and gst:// are not usable, all others are.")
    return Check("gstreamer", "ok", "gst-launch-1.0 found, for the sources csi:// and gst://.")
