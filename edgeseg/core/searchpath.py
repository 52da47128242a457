"""Python's module search path without the working folder, where a stranger's `numpy.py` may lie.

This module imports `os` and `sys` alone, which Python has loaded already: anything else could come from that folder.
"""

import os
import sys

# The folder from which edgeseg itself was loaded.
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PACKAGES = ("site-packages", "dist-packages")


def list_trusted() -> list[str]:
    """List Python's search path, absolute, without the working folder.

    `python -m`, a prompt and an empty part of PYTHONPATH add the working folder. It stays if PYTHONPATH names it in
    full, if it holds edgeseg or Python's own library, or if it is a site-packages folder.
    """
    return [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str) and _is_trusted(entry)]


def forget_working_folder() -> None:
    """Remove the working folder from this process's search path."""
    sys.path[:] = list_trusted()


def trusted_environment() -> dict[str, str]:
    """Return the environment for a child Python: only absolute paths stay in PYTHONPATH."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in named if os.path.isabs(entry)]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # PYTHONSAFEPATH (from 3.11) is inherited by every Python that the child starts
    return others | ({"PYTHONPATH": os.pathsep.join(kept)} if kept else {}) | {"PYTHONSAFEPATH": "1"}


def _is_trusted(entry: str) -> bool:
    if entry == "":
        return False
    try:
        here = os.getcwd()
    except FileNotFoundError:  # the working folder was removed
        return os.path.isabs(entry)
    place = os.path.realpath(entry)
    if place != os.path.realpath(here):
        return True
    named = [
        os.path.realpath(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(part)
    ]
    own = [os.path.realpath(folder) for folder in (_HOME, os.path.dirname(os.__file__))]
    return place in (*named, *own) or os.path.basename(place) in _PACKAGES
