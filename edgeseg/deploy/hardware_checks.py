"""What is plugged in: cameras, the right to open them, an Edge TPU."""

from __future__ import annotations

from edgeseg.deploy.check import Check
from edgeseg.deploy.machine import Machine

EDGETPU_USB = {("1a6e", "089a"), ("18d1", "9302")}
"""Before and after its first use: it changes its identity when its firmware is loaded."""
EDGETPU_PCI = {("0x1ac1", "0x089a")}
EDGETPU_LIBRARY = "libedgetpu.so.1"


def check_cameras(machine: Machine) -> Check:
    """List the video devices."""
    nodes = [f"/{path}" for path in machine.find("dev/video*")]
    if not nodes:
        fix = "Plug in a camera, or stream from a file, a folder, a network address or phantom:// instead."
        return Check("cameras", "warning", "No /dev/video* on this machine.", fix)
    return Check("cameras", "ok", f"{', '.join(nodes)} (on some boards video decoders stand in this list, too).")


def check_video_group(machine: Machine) -> Check:
    """Tell whether this user may open cameras."""
    if machine.is_root:
        return Check("video group", "ok", "The administrator may open every camera.")
    if "video" in machine.groups:
        return Check("video group", "ok", "This user is in the group video.")
    fix = 'sudo usermod -aG video "$USER"    (then log in again)'
    return Check("video group", "warning", "This user is not in the group video, which may open cameras.", fix)


def check_edgetpu(machine: Machine) -> Check:
    """Look for an Edge TPU, its library and, for a PCI card, its driver."""
    has_pci = bool(EDGETPU_PCI & _read_ids(machine, "sys/bus/pci/devices", "vendor", "device"))
    has_usb = bool(EDGETPU_USB & _read_ids(machine, "sys/bus/usb/devices", "idVendor", "idProduct"))
    has_library = machine.has_library(EDGETPU_LIBRARY)
    library = f"{EDGETPU_LIBRARY} {'found' if has_library else 'not found'}"
    if not (has_pci or has_usb):
        return Check("edge tpu", "ok", f"No Edge TPU on USB or PCI ({library}).")
    place = "PCI" if has_pci else "USB"
    if not has_library:
        fix = "Install libedgetpu1-std from Coral's package source: https://coral.ai/software"
        return Check("edge tpu", "warning", f"An Edge TPU on {place}, but {library}.", fix)
    if has_pci and not machine.find("dev/apex_*"):
        fix = "Install gasket-dkms from Coral's package source (https://coral.ai/software), then restart."
        return Check("edge tpu", "warning", "An Edge TPU on PCI, but no /dev/apex_*.", fix)
    return Check("edge tpu", "ok", f"An Edge TPU on {place}, {library}.")


def _read_ids(machine: Machine, folder: str, vendor: str, product: str) -> set[tuple[str, str]]:
    devices = (path.rpartition("/")[0] for path in machine.find(f"{folder}/*/{vendor}"))
    return {(machine.read(f"{path}/{vendor}"), machine.read(f"{path}/{product}")) for path in devices}
