"""Where this process and its children import from: never from files that happen to be in the current folder.

`python -m streamtrain` puts the current folder first on sys.path, and so does an empty entry of PYTHONPATH. A
click.py or csv.py that lies next to somebody's data would then run instead of the module that is meant. This
module itself imports only what Python has loaded by then.
"""

from __future__ import annotations

import os
import sys


def leave_current_folder() -> None:
    """Take the current folder off sys.path, unless PYTHONPATH gives its full name."""
    sys.path[:] = _trusted()


def leave_if_run_as_module() -> None:
    """Do so in `python -m streamtrain`, which imports the package before it runs `__main__`."""
    options = sys.orig_argv[:-1]
    if sys.argv[:1] == ["-m"] and "-m" in options and sys.orig_argv[options.index("-m") + 1] == "streamtrain":
        leave_current_folder()


def python_command(code: str) -> tuple[list[str], dict[str, str]]:
    """Return the words and the environment of a process that runs `code` with this process's import path.

    -P keeps the current folder away. -I would too, but it also ignores PYTHONPATH and the user's own packages,
    where streamtrain itself may be installed. The folder that streamtrain lies in comes last, for a checkout that
    was found through the current folder: there it cannot hide another module.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # before pathlib
    path = _trusted()
    path += [] if home in path else [home]
    named = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]  # noqa: PTH117  # as above
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(named)}
    return [sys.executable or "", "-P", "-c", f"import sys; sys.path[:] = {path!r}; {code}"], environment


def _trusted() -> list[str]:
    """Return the absolute entries of sys.path, the current folder only if PYTHONPATH gives its full name."""
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109  # as above
    except FileNotFoundError:  # it was deleted
        here = ""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [
        entry
        for entry in sys.path
        if os.path.isabs(entry) and (entry in named or os.path.realpath(entry) != here)  # noqa: PTH117  # as above
    ]
