"""`python -m streamtrain`, and the `streamtrain` command: handles Ctrl-C before anything else is imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

from streamtrain.import_path import leave_current_folder


def interrupted(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as Python does; while a module is imported, end at once with exit code 130.

    Torch and NumPy swallow what is raised while they are imported, and continue with parts of them missing.
    Nothing is lost: what is written at that time survives a `kill -9` too.
    """
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"\nInterrupted.\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and leave with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in the background of a shell it is ignored
        signal.signal(signal.SIGINT, interrupted)
    leave_current_folder()
    from streamtrain import cli

    cli.main()


if __name__ == "__main__":
    main()
