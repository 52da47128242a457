"""Where Python may look for modules: never in the working folder only because a command was started there.

Imports `os` and `sys` alone, which Python has loaded by then: anything else could come from that very folder.
"""

import os
import sys

# The folder that edgeseg itself was loaded from.
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PACKAGES = ("site-packages", "dist-packages")


def list_trusted() -> list[str]:
    """List Python's search path, absolute, without the working folder.

    `python -m`, a prompt and an empty part of PYTHONPATH put the working folder there, where a stranger's `numpy.py`
    may lie. It stays where somebody named it in full in PYTHONPATH, where edgeseg itself or Python's own library lies
    in it, and where packages are installed into it.
    """
    return [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str) and _is_trusted(entry)]


def forget_working_folder() -> None:
    """Take the working folder off this process's search path."""
    sys.path[:] = list_trusted()


def trusted_environment() -> dict[str, str]:
    """Give this process's variables for a Python to be started: only full paths stay in PYTHONPATH."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in named if os.path.isabs(entry)]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # from 3.11 on it keeps the working folder off the path of whatever that Python starts
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
