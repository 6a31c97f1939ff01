"""`python -m streamtrain`, which is the `streamtrain` command too: first of all it minds Ctrl-C."""

from __future__ import annotations

import os
import signal
from types import FrameType

from streamtrain.import_path import leave_current_folder


def interrupted(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as Python does; while a module is imported, end at once with exit code 130.

    Torch and NumPy swallow what is raised while they are imported, and go on without a part of them. Nothing is
    lost: what is written then survives a `kill -9` too.
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
