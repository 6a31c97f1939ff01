"""Objects in a store (s3://, gs://, az://) or on the web (https://), read by ranges and written whole.

The only module that imports obstore. Its calls retry with back-off what a store refuses for a moment (503, a
connection that is reset, cut or silent); what is left at the end is one of our errors.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from streamtrain.errors import DataError, UsageError
from streamtrain.storage.names import given_path

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRY_SECONDS = 180  # in all, for one request
SILENT_SECONDS = 30  # after which a connection is given up and made again

_URL = re.compile(r"(s3|gs|az|https?):/{1,2}([^/]+)/?(.*)", re.IGNORECASE | re.DOTALL)
_KEYS = {  # of a store without credentials: what gives them
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_processes: set[int] = set()  # that opened a store; a forked one inherits this, but not the threads of the store


@dataclass(frozen=True)
class ObjectFacts:
    """What a store says of an object: enough to notice a later change."""

    size: int
    mtime_ns: int
    e_tag: str | None


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The address of an object, or of a folder of them: what Path is for a local file.

    root: of the store, as s3://bucket or https://host
    key:  the name there, without a slash at either end; empty for the whole bucket
    """

    root: str
    key: str

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.root, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """The folder that it lies in."""
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    @property
    def scheme(self) -> str:
        """The kind of store: s3, gs, az, http or https."""
        return self.root.partition(":")[0]

    def stat(self) -> ObjectFacts:
        """Return the facts about the object. Raises NoSuchObjectError, or DataError if it may not be read."""
        with _asked(self) as (obstore, store):
            found = obstore.head(store, self.key)
        return ObjectFacts(found["size"], int(found["last_modified"].timestamp() * 1e9), found["e_tag"])

    def exists(self) -> bool:
        """Return whether there is such an object. Raises DataError if that cannot be found out."""
        try:
            return bool(self.stat())
        except NoSuchObjectError:
            return False

    def read_bytes(self) -> bytes:
        """Return the whole object. Raises as `stat` does."""
        with _asked(self) as (obstore, store):
            return bytes(obstore.get(store, self.key).bytes())

    def read_range(self, start: int, stop: int, facts: ObjectFacts | None = None) -> bytes:
        """Return the bytes [start, stop) of the object.

        facts: what it was; if it has changed since then, that is a DataError
        """
        options: dict[str, Any] = {"range": (start, stop)}
        if facts and facts.e_tag and not facts.e_tag.startswith("W/"):  # a weak one never matches
            options["if_match"] = facts.e_tag
        elif facts and facts.mtime_ns:
            options["if_unmodified_since"] = datetime.fromtimestamp(facts.mtime_ns // 10**9, UTC)
        with _asked(self) as (obstore, store):
            data = bytes(obstore.get(store, self.key, options=options).bytes())
        if len(data) != stop - start:
            raise ShortObjectError(self)
        return data

    def names(self) -> list[str]:
        """Return the names of the objects and folders right below this one, sorted; folders end with a slash."""
        prefix = f"{self.key}/" if self.key else ""
        with _asked(self) as (obstore, store):
            found = obstore.list_with_delimiter(store, prefix or None)
        objects = [each["path"].removeprefix(prefix) for each in found["objects"] if each["path"] != self.key]
        folders = [f"{path.removeprefix(prefix).rstrip('/')}/" for path in found["common_prefixes"]]
        return sorted(objects + folders)


Location = Path | ObjectPath


def absolute(place: Location) -> Location:
    """Return a place that does not depend on the current folder."""
    return place.absolute() if isinstance(place, Path) else place


def is_one_file(place: Location) -> bool:
    """Return whether a place is a file, not a folder; False if there is nothing."""
    return place.exists() if isinstance(place, ObjectPath) else place.exists() and not place.is_dir()


def refuse_writing(path: Path) -> None:
    """Raise UsageError if a path is the URL of an object: stores are only read so far."""
    if isinstance(url := location(path), ObjectPath):
        raise UsageError(
            f"{url} is in a store, which can only be read yet. Write to a local folder, then copy that"
        )


def local_paths(places: Iterable[Location | None]) -> list[Path]:
    """Return those that are files or folders of this machine."""
    return [place for place in places if isinstance(place, Path)]


class NoSuchObjectError(DataError):
    """There is no object of that name."""


class ShortObjectError(DataError):
    """An object ends before the bytes that were asked for."""

    def __init__(self, path: ObjectPath) -> None:
        super().__init__(f"{path} is shorter than it should be. Copy it there again", path=path)


def location(named: str | os.PathLike[str] | ObjectPath) -> Location:
    """Return what a path or a URL names: a Path, or an ObjectPath.

    A Path that was made of a URL, which loses a slash on the way, is the URL again.
    Raises UsageError for a URL that cannot be read.
    """
    if isinstance(named, ObjectPath):
        return named
    text = os.fspath(named)
    match = _URL.fullmatch(text)
    if not match or (isinstance(named, str) and "://" not in text):
        return Path(named)
    scheme, host, key = match[1].lower(), match[2], match[3]
    if scheme.startswith("http") and "?" in key:
        raise UsageError(
            f"{text} is an address with a query. Download the file, and name that: curl -o FILE.csv URL"
        )
    return ObjectPath(f"{scheme}://{host}", re.sub("/{2,}", "/", key).strip("/"))


@contextlib.contextmanager
def _asked(path: ObjectPath) -> Iterator[tuple[ModuleType, ObjectStore]]:
    """Context manager: obstore and the store of a path; what they raise becomes one of our errors."""
    try:
        import obstore
    except ImportError:
        raise UsageError(
            f"{path} needs the package obstore: pip install 'streamtrain[cloud]'", path=path
        ) from None
    try:
        yield obstore, _store(path.root, os.getpid())
    except (FileNotFoundError, obstore.exceptions.BaseError) as error:
        if isinstance(error, FileNotFoundError) or " 404 " in str(error):
            message = f"{path}: there is no such object. Check the bucket and the name"
            raise NoSuchObjectError(message, path=path) from error
        if " 416 " in str(error):
            raise ShortObjectError(path) from error
        raise DataError(f"{path} {_what_failed(path, error)}", path=path) from error


def _what_failed(path: ObjectPath, error: Exception) -> str:
    """Return what the error of a store means, and the next step."""
    kind, text = type(error).__name__, str(error).partition("\n")[0]
    if kind == "PreconditionError":
        return "changed while it was read. Let its writer finish, then start again"
    if "169.254.169.254" in text or "metadata.google" in text or "ccount must be specified" in text:
        return f"needs credentials, and none were found. Set {_KEYS[path.scheme]}"
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or " 403 " in text or " 401 " in text:
        return "may not be read or written with these credentials (access denied). Check them, and their rights"
    if kind == "NotSupportedError" or "range request" in text.lower():
        return "cannot be read in parts from this server. Download it, and name the file: curl -LO"
    if " 301 " in text or "PermanentRedirect" in text:
        return "is in another region. Name it in AWS_REGION"
    return (
        f"cannot be reached: {text[-120:].strip()}. Check the address and the network, then run the command again"
    )


def given_place(named: str | os.PathLike[str] | ObjectPath, name: str) -> Location:
    """Return what a user gave as the parameter `name`. Raises UsageError for an empty path or one with a NUL."""
    if not isinstance(named, ObjectPath):
        given_path(named, name)
    return location(named)


@functools.cache
def _store(root: str, process: int) -> ObjectStore:
    """Return the open store of a root; all threads of a process share it."""
    from obstore import store

    if _processes - {process}:
        raise UsageError(
            f"{root} was opened before this process was forked, which stores do not survive. Start the workers "
            "with multiprocessing_context='spawn'"
        )
    _processes.add(process)
    scheme, _, host = root.partition("://")
    client: Any = {
        "timeout": timedelta(seconds=10 * SILENT_SECONDS),
        "read_timeout": timedelta(seconds=SILENT_SECONDS),
        "allow_http": scheme == "http" or _endpoint_is_plain(),
    }
    settings: Any = {
        "client_options": client,
        "retry_config": {"max_retries": 10, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    }
    if scheme == "s3":
        return store.S3Store(host, credential_provider=_profile(), **settings)
    if scheme == "gs":
        return store.GCSStore(host, **settings)
    if scheme == "az":
        return store.AzureStore(host, **settings)
    return store.HTTPStore.from_url(root, **settings)


def _endpoint_is_plain() -> bool:
    """Return whether the environment names a store of one's own, without TLS."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
    return any(os.environ.get(name, "").startswith("http:") for name in names)


def _profile() -> Any:
    """Return the credentials of a profile in ~/.aws if that is how they are given and boto3 is here, else None."""
    own = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
    if any(name in os.environ for name in own) or not Path("~/.aws").expanduser().is_dir():
        return None  # the environment, or the machine's own role
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return Boto3CredentialProvider()
    except ValueError:  # no profile has credentials
        return None
