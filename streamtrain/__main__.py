"""`python -m streamtrain`, and the `streamtrain` command: handles Ctrl-C before anything else is imported."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from streamtrain.import_path import leave_current_folder


def interrupted(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as Python does; while a module is imported, end at once with exit code 130.

    Torch and NumPy swallow what is raised while they are imported, and continue with parts of them missing.
    Nothing is lost: what is written at that time survives a `kill -9` too.
    """
    if _imports(frame):
        os.write(2, b"\nInterrupted.\n")
        os._exit(130)
    raise KeyboardInterrupt


def terminated(number: int, frame: FrameType | None) -> None:
    """Raise SystemExit(143) at a SIGTERM, so that temporary files are removed; in an import, when that ends."""
    if not _imports(frame):
        raise SystemExit(143)
    import threading  # not at the top: before `main`, a file in the current folder might have this name

    again = threading.Timer(0.05, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _imports(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def open_standard_streams() -> bool:
    """Open what is closed of standard input, output and error to /dev/null; return whether output was open.

    Otherwise the next file that is opened would take their number, and what is printed.
    """
    closed = []
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.append(os.open(os.devnull, os.O_RDWR))
    for descriptor in closed:
        name, how = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))[descriptor]
        setattr(sys, name, open(descriptor, how, encoding="utf-8"))  # noqa: PTH123, SIM115  # for as long as we run
    return 1 not in closed


def main() -> None:
    """Run the command line and leave with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in the background of a shell it is ignored
        signal.signal(signal.SIGINT, interrupted)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminated)
    has_output = open_standard_streams()
    leave_current_folder()
    from streamtrain import cli

    cli.main(has_output=has_output)


if __name__ == "__main__":
    main()
