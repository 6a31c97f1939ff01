"""What a command writes to: it appears whole or not at all, and replaces only what streamtrain wrote itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamtrain.errors import RunError, UsageError, argument
from streamtrain.storage.locks import lock_folder
from streamtrain.storage.names import hidden_sibling, real_path
from streamtrain.storage.objects import Location, local_paths, refuse_writing
from streamtrain.storage.ownership import MARK, mark, why_foreign, why_not_unfinished
from streamtrain.storage.permissions import common_mode, make_folder
from streamtrain.storage.publish import replace_folder

_OTHER_NAME = "Choose another name"
_OR_REPLACE = f"{_OTHER_NAME}, or replace it: {argument('overwrite', True)}"


@dataclass(frozen=True)
class Destination:
    """A folder that is to be written.

    overwrite: whether to replace what stands there, if streamtrain wrote it
    reads:     the files and folders that it is made from; neither they nor what they lie in is ever replaced
    """

    path: Path
    overwrite: bool = False
    reads: Sequence[Location] = ()

    def check(self) -> None:
        """Raise UsageError if what stands there may not be replaced, or a name cannot be written in UTF-8."""
        path = self.path
        refuse_writing(path)
        if str(path) != os.fsencode(path).decode(errors="replace"):
            raise UsageError(f"{str(path)!a} is not a name in UTF-8, which shards and runs need. Choose another")
        if real_path(path).is_symlink():
            raise UsageError(f"{path} is a link that leads back to itself. {_OTHER_NAME}")
        if not path.exists():
            return
        if not path.is_dir():
            raise UsageError(f"{path} is a file, but this command writes a folder. {_OTHER_NAME}")
        if Path.cwd().is_relative_to(real_path(path)):
            raise UsageError(f"{path} holds the current folder, which cannot be replaced. {_OTHER_NAME}")
        if read := _overlapping(path, local_paths(self.reads)):
            raise UsageError(
                f"{path} exists already, and replacing it would destroy the input {read}. {_OTHER_NAME}"
            )
        if reason := why_foreign(path):
            raise UsageError(f"{path} exists already, and {reason}. {_OTHER_NAME}")
        if not self.overwrite:
            raise UsageError(f"{path} exists already. {_OR_REPLACE}", option="overwrite")

    def make(self, staging: Path) -> None:
        """Make an empty folder to be filled, in place of one that a killed process left."""
        remove_unfinished(staging)
        make_folder(staging, mode=common_mode(local_paths(self.reads)))
        mark(staging)

    def publish(self, staging: Path) -> None:
        """Move a finished folder to its place, an earlier one there being replaced in one step.

        If the system can exchange two names (Linux renameat2), there is no moment without a folder at `path`;
        elsewhere the earlier one is first moved aside. A link stays one: what it leads to is replaced.
        Raises RunError if something came to stand there meanwhile that may not be replaced.
        """
        try:
            self.check()
        except UsageError as error:
            raise RunError(str(error)) from error
        (staging / MARK).unlink(missing_ok=True)
        if earlier := replace_folder(staging, real_path(self.path)):
            with contextlib.suppress(OSError):  # of a full disk; it only tells a later run that the rest may go
                mark(earlier)
            discard(earlier)

    @contextlib.contextmanager
    def published(self) -> Iterator[Path]:
        """Context manager: an empty folder, which takes its place when the block ends well, else is removed.

        Raises UsageError if what stands there may not be replaced, or another process is filling it.
        """
        self.check()
        with lock_folder(self.path):
            staging = staging_of(self.path)
            try:
                self.make(staging)
                yield staging
                self.publish(staging)
            except BaseException:
                discard(staging)
                raise


def staging_of(destination: Path) -> Path:
    """Return the folder next to `destination` that a command fills before it is published there."""
    return hidden_sibling(destination, "unfinished")


def remove_unfinished(folder: Path) -> None:
    """Remove what a command was filling or emptying. Raises UsageError if there is anything else in it."""
    if not os.path.lexists(folder):
        return
    refuse_foreign(folder)
    for path in folder.iterdir():
        if path.name != MARK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / MARK).unlink(missing_ok=True)
    folder.rmdir()


def refuse_foreign(folder: Path) -> None:
    """Raise UsageError unless a folder is one that a command was filling or emptying."""
    if reason := why_not_unfinished(folder):
        raise UsageError(f"{folder} is in the way and {reason}. Move it elsewhere")


def discard(folder: Path) -> None:
    """Remove the same if possible, and raise nothing: for when something has already gone wrong."""
    with contextlib.suppress(OSError, UsageError):
        remove_unfinished(folder)


def check_file(path: Path, *, overwrite: bool, reads: Sequence[Path], is_ours: Callable[[Path], bool]) -> None:
    """Raise UsageError unless a file can be written at `path`: there is none, or one that `is_ours` replaces."""
    refuse_writing(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder, but this command writes a file. {_OTHER_NAME}")
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise UsageError(f"{path} is a link, which is not written through. Name {real_path(path)} itself")
    if any(read.exists() and read.samefile(path) for read in reads):
        raise UsageError(f"{path} is an input, which must not be replaced. {_OTHER_NAME}")
    if not stat.S_ISREG(path.stat().st_mode) or not is_ours(path):
        raise UsageError(f"{path} exists already, and is not what this command wrote. {_OTHER_NAME}")
    if not overwrite:
        raise UsageError(f"{path} exists already. {_OR_REPLACE}", option="overwrite")


def _overlapping(folder: Path, reads: Sequence[Path]) -> Path | None:
    """Return what of `reads` is the folder, lies in it or holds it; by whatever names and links they are given."""
    for read in reads:
        if read.exists():
            one, other = real_path(folder), real_path(read)
            if _holds(one, other) or _holds(other, one):
                return read
    return None


def _holds(outer: Path, inner: Path) -> bool:
    facts = outer.stat()
    return any(os.path.samestat(facts, path.stat()) for path in (inner, *inner.parents))
