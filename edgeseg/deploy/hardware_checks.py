"""Where pictures come from: cameras, what they offer, the right to open them, GStreamer."""

from __future__ import annotations

from edgeseg.deploy.check import Check
from edgeseg.deploy.machine import Machine
from edgeseg.deploy.v4l2 import VideoDevice, ask_device

RAW_SENSOR = ("BA", "BG", "GB", "GR", "RG", "pB", "pG", "pR", "pg", "BY")
"""How the formats of bare sensors begin; OpenCV cannot read them."""
_DRAWABLE = ("RGB", "BGR", "GREY", "GR16")
"""Formats that begin alike and can be read."""


def check_cameras(machine: Machine) -> Check:
    """List the video devices."""
    nodes = [f"/{path}" for path in machine.find("dev/video*")]
    if not nodes:
        fix = "Plug in a camera, or stream from a file, a folder, a network address or phantom:// instead."
        return Check("cameras", "warning", "No /dev/video* on this machine.", fix)
    return Check("cameras", "ok", f"{', '.join(nodes)} (on some boards video decoders stand in this list, too).")


def check_camera_formats(machine: Machine) -> Check:
    """Tell which formats the cameras offer, and whether OpenCV can read one."""
    found = {path: device for path in machine.find("dev/video*") if (device := _ask(machine, path)) is not None}
    cameras = {path: device for path, device in found.items() if device.formats}
    if not cameras:
        return Check("camera formats", "ok", "No camera on this machine tells its formats.")
    told = "; ".join(f"/{path} {device.name}: {', '.join(device.formats)}" for path, device in cameras.items())
    if all(_is_raw(name) for device in cameras.values() for name in device.formats):
        fix = "Use it through GStreamer, which develops the picture: --source csi://0"
        return Check("camera formats", "warning", f"{told}: bare sensors, which OpenCV cannot read.", fix)
    return Check("camera formats", "ok", f"{told}.")


def _ask(machine: Machine, path: str) -> VideoDevice | None:
    """Ask one device; one that does not answer is no camera, or closed to this user, of which another check speaks."""
    try:
        return ask_device(machine.root / path, machine.control_device)
    except OSError:
        return None


def _is_raw(name: str) -> bool:
    return name.startswith(RAW_SENSOR) and not name.startswith(_DRAWABLE)


def check_video_group(machine: Machine) -> Check:
    """Tell whether this user may open cameras."""
    if machine.is_root:
        return Check("video group", "ok", "The administrator may open every camera.")
    if "video" in machine.groups:
        return Check("video group", "ok", "This user is in the group video.")
    fix = 'sudo usermod -aG video "$USER"    (then log in again)'
    return Check("video group", "warning", "This user is not in the group video, which may open cameras.", fix)


def check_gstreamer(machine: Machine) -> Check:
    """Tell whether GStreamer is there for cameras on the board's own connector."""
    if machine.find_program("gst-launch-1.0") is None:
        return Check("gstreamer", "ok", "No gst-launch-1.0: sources csi:// and gst:// are not usable, all others are.")
    return Check("gstreamer", "ok", "gst-launch-1.0 found, for the sources csi:// and gst://.")
