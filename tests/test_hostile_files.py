"""Each field of each file that a command reads, replaced by what no program writes: one line says what is wrong.

No traceback, no endless loop, no warning of NumPy's, no file touched that is not the command's own.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import random
import shutil
import signal
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from streamtrain.cli import main
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.pipeline import iter_convert
from streamtrain.shards.digests import digest_bytes, digest_of_json
from streamtrain.shards.manifest import _text

MISSING = object()  # the key is left out
DEEP = "[" * 1_000_000 + "]" * 1_000_000
_DEEP_MARK = "as deep as a million lists"
HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**53 + 1, 2**63, 2**64, 10**12, 10**15, 10**400),
    *(0.5, -0.5, 1e-300, 1e38, 1e300, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "0", "a\x00b", "..", "../../home/private.csv", "/etc/passwd", "\x1b]0;title\x07", "\u202e"),
    *("<script>alert(1)</script>", "{{ 7 * 7 }}", "=1+1", "x" * 100_000, "\udcff", "a\nb", _DEEP_MARK),
    *([], [[]], [1, 2, 3], ["x", "x"], {}, {"a": {"b": 1}}, MISSING),
]
Path_ = tuple[str | int, ...]


def places(values: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Where each value lies, those in lists and objects too; of a long list three."""
    if at:
        yield at
    keys = [*values] if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else []
    for key in keys if len(keys) < 8 or isinstance(values, dict) else (keys[0], keys[len(keys) // 2], keys[-1]):
        yield from places(values[key], (*at, key))


def mutated(values: Any, at: Path_, hostile: Any) -> Any:
    """A copy with another value in one place."""
    changed = place = copy.deepcopy(values)
    for key in at[:-1]:
        place = place[key]
    if hostile is MISSING:
        del place[at[-1]]
    else:
        place[at[-1]] = hostile
    return changed


def as_json(values: Any) -> str:
    return json.dumps(values).replace(f'"{_DEEP_MARK}"', DEEP)


def as_bytes(values: Any) -> bytes:
    return as_json(values).encode() + b"\n"


def as_toml(values: Any) -> bytes:
    """TOML of a table of values; what TOML has no word for is left out."""
    lines = [f"{key} = {_toml(value)}\n" for key, value in values.items() if value is not None]
    return "".join(lines).encode(errors="surrogateescape")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return str(value)
    return as_json(value)


@dataclass
class Target:
    """A file, its values, how they are written with right digests, and the commands that read it.

    own: the folder that the commands may change
    keys: those of the values that are mutated; if empty, all
    """

    file: Path
    values: Any
    write: Callable[[Any], bytes]
    commands: list[list[str]]
    own: Path
    keys: tuple[str, ...] = ()

    def mutations(self) -> list[tuple[Path_, Any]]:
        found = [at for at in places(self.values) if not self.keys or at[0] in self.keys]
        return [(at, hostile) for at in found for hostile in HOSTILE]


def manifest_text(values: Any) -> bytes:
    if values.get("digest") == RIGHT:
        values = {name: value for name, value in values.items() if name != "digest"}
        values["digest"] = digest_of_json(values)
    return _text(values).replace(f'"{_DEEP_MARK}"'.encode(), DEEP.encode())


OUTPUTS = ("out", "new", ".new.unfinished", "run", "shards", "p.toml", "c.toml")  # and what is mutated
RIGHT = "the digest that is right"
GO_ON = [["train", "--resume", "run"], ["train", "--resume", "run", "--epochs", "2"]]
SEE = [["inspect", "run"], ["report", "run"]]
RESUME = ["convert", "d.csv", "new", "--label", "first", "--split", "a=0.5,b=0.5", "--resume"]
PRESET: dict[str, Any] = {
    "description": "d",
    "label": "first",
    "header": True,
    "delimiter": "comma",
    "shape": [4, 4],
    "range": [0, 255],
    "classes": 3,
    "labels": [0, 1, 2],
    "drop": ["none"],
    "transposed": False,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "convert": {
        "label": "first",
        "header": True,
        "shape": "4x4",
        "range": "0..255",
        "classes": 3,
        "delimiter": "comma",
        "split": "a=1",
        "on-bad-row": "reject",
        "shuffle": True,
        "seed": 1,
        "memory": "80MB",
        "resume": False,
        "max-rejected": 1,
        "overwrite": False,
        "workers": 1,
        "json": True,
    },
    "train": {
        "epochs": 1,
        "batch-size": 20,
        "lr": 0.1,
        "momentum": 0.1,
        "weight-decay": 0.1,
        "seed": 1,
        "memory": "64MB",
        "eval-train": True,
        "hidden": 5,
        "activation": "tanh",
        "workers": 1,
        "checkpoint-every": "60s",
        "test": "shards",
        "dry-run": False,
        "overwrite": True,
    },
}
pytestmark = pytest.mark.timeout(300, method="thread")  # `workplace` needs SIGALRM for itself
KEYS = ("recipe", "schema", "progress", "trained_on", "all")  # of a checkpoint's metadata
TARGETS = (
    *("options convert", "options train", "preset", "journal", "record", "recipe", "metrics"),
    *(f"{file} {key}" for file in ("last", "best") for key in KEYS),
    *("replaced", "manifest"),
)


class Workplace:
    """A CSV, shards, a split, a run and an interrupted conversion in `work`; files of somebody's in `home`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work, self.alarms = folder, folder / "work", 0
        self.seconds = 120  # after which a command is asked to end
        self.work.mkdir()
        (folder / "home").mkdir()
        draw = random.Random(4)
        rows = [[k % 3, *(draw.randrange(40 * (k % 3), 90 + 80 * (k % 3)) for _ in range(16))] for k in range(60)]
        text = (
            "\n".join(",".join(map(str, row)) for row in [["label", *(f"p{n}" for n in range(16))], *rows]) + "\n"
        )
        (self.work / "d.csv").write_text(text)
        (folder / "home" / "private.csv").write_text(text)
        (folder / "home" / "thesis.tex").write_text("ten years")
        os.chdir(self.work)
        assert self.run("convert", "d.csv", "shards", "--label", "first")[0] == 0
        assert self.run("train", "shards", "--test", "shards", "--epochs", "1", "--out", "run")[0] == 0
        self.interrupt()
        self.pristine = {path: path.read_bytes() for path in self.work.rglob("*") if path.is_file()}
        self.folders = {path for path in self.work.rglob("*") if path.is_dir()}
        self.before = self.foreign()

    def interrupt(self) -> None:
        """Leave a conversion to `new` as a killed process does."""
        steps = iter_convert("d.csv", "new", ConvertOptions(label="first", split={"a": 0.5, "b": 0.5}))
        next(steps)
        steps.close()  # type: ignore[attr-defined]  # a generator

    def target(self, name: str) -> Target:
        """One of the files, by its key in TARGETS; what was mutated before is as it was."""
        self.restore(self.work)
        return getattr(self, f"_{name.partition(' ')[0]}")(*name.split(" ")[1:])

    def _manifest(self) -> Target:
        path = self.work / "shards/manifest.json"
        reads = [["inspect", "shards"], ["inspect", "shards", "--line", "3"], ["verify", "shards"]]
        reads += [["evaluate", "run", "shards"], ["shuffle", "shards", "out"], ["report", "run", "--out", "out"]]
        reads += [["train", "shards", "--epochs", "1", "--out", "out"]]
        return Target(path, json.loads(path.read_bytes()) | {"digest": RIGHT}, manifest_text, reads, path.parent)

    def _replaced(self) -> Target:
        """The manifest, and the keys of it that say which files are streamtrain's."""
        target, keys = self._manifest(), ("format", "digest", "sources", "shards", "totals", "shuffle")
        replace = ["convert", "d.csv", "shards", "--overwrite"]
        return Target(target.file, target.values, target.write, [replace], target.own, keys)

    def _last(self, key: str) -> Target:
        path = self.work / "run/last.safetensors"
        return Target(path, *self.metadata(path, key), [*GO_ON], path.parent)

    def _best(self, key: str) -> Target:
        path = self.work / "run/best.safetensors"
        return Target(path, *self.metadata(path, key), [*SEE, ["evaluate", "run", "shards"]], path.parent)

    def _recipe(self) -> Target:
        path = self.work / "run/recipe.json"
        return Target(path, json.loads(path.read_bytes()), as_bytes, [*GO_ON, *SEE], path.parent)

    def _metrics(self) -> Target:
        path = self.work / "run/metrics.jsonl"
        return Target(path, json.loads(path.read_bytes()), as_bytes, [*GO_ON, *SEE], path.parent)

    def _journal(self) -> Target:
        path = self.work / ".new.unfinished/.journal/recipe.json"
        return Target(path, json.loads(path.read_bytes()), as_bytes, [RESUME], path.parent.parent)

    def _record(self) -> Target:
        path = self.work / ".new.unfinished/.journal/00000.record"
        head, _, arrays = path.read_bytes()[len(digest_bytes(b"")) :].partition(b"\n")

        def write(values: Any) -> bytes:
            body = as_bytes(values) + arrays
            return digest_bytes(body).encode() + body

        return Target(path, json.loads(head), write, [RESUME], path.parent.parent)

    def _preset(self) -> Target:
        uses = [["inspect", "d.csv"], ["convert", "d.csv", "out"], ["predict", "run", "d.csv"]]
        uses = [[*words, "--preset", "p.toml"] for words in uses]
        return Target(self.work / "p.toml", PRESET, as_toml, uses, self.work / "out")

    def _options(self, command: str) -> Target:
        words = {"convert": ["convert", "d.csv", "out"], "train": ["train", "shards", "--out", "out"]}[command]
        return Target(
            self.work / "c.toml", OPTIONS[command], as_toml, [[*words, "--config", "c.toml"]], self.work / "out"
        )

    def metadata(self, path: Path, key: str) -> tuple[Any, Callable[[Any], bytes]]:
        """The values of a key of a checkpoint's metadata, or of all keys as texts; and how they are written."""
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        own = header["__metadata__"]

        def write(values: Any) -> bytes:
            changed = (
                {name: str(value) for name, value in values.items()}
                if key is None
                else own | {key: as_json(values)}
            )
            changed.pop("metadata_sha256", None)
            changed["metadata_sha256"] = sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
            text = json.dumps(header | {"__metadata__": changed}).encode()
            return struct.pack("<Q", len(text)) + text + data[8 + size :]

        return own if key == "all" else json.loads(own[key]), write

    def foreign(self) -> dict[str, tuple[int, ...]]:
        """Inode, size and time of every file, but for those that commands write; and the names of all folders."""
        found: dict[str, tuple[int, ...]] = {}
        for place, folders, names in os.walk(self.folder):
            if place == str(self.work):
                folders[:] = [name for name in folders if name not in OUTPUTS]
                names = [name for name in names if name not in OUTPUTS]
            found |= dict.fromkeys((f"{place}/{name}" for name in folders), ())
            for name in names:
                facts = os.lstat(f"{place}/{name}")
                found[f"{place}/{name}"] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        return found

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and error of a command in this process; what escapes from it is raised."""
        out, err = io.StringIO(), io.StringIO()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        argv, sys.argv = sys.argv, ["streamtrain", *words, "-q"]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                main()
        except SystemExit as left:
            return int(left.code or 0), out.getvalue(), err.getvalue()
        finally:
            sys.argv = argv
            for number, handler in handlers.items():
                signal.signal(number, handler)
        raise AssertionError("main did not exit")

    def restore(self, own: Path) -> None:
        """Put back what a command may have changed."""
        for name in ("out", "new"):
            path = self.work / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path, data in self.pristine.items():
            if path.is_relative_to(own) and (not path.exists() or path.read_bytes() != data):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        for path in own.rglob("*") if own.exists() else ():
            if path.is_file() and path not in self.pristine:
                path.unlink()

    def outcome(self, target: Target, words: list[str], data: bytes) -> str:
        """What came of a command on a hostile file: done, refused, or what must not be."""
        self.restore(target.own)
        target.file.parent.mkdir(parents=True, exist_ok=True)
        target.file.write_bytes(data)
        self.alarms = 0
        signal.setitimer(signal.ITIMER_REAL, self.seconds, 60)
        try:
            code, out, err = self.run(*words)
        except Hang:
            return "HANG"
        except Exception as error:
            return f"TRACEBACK {type(error).__name__}: {str(error)[:100]}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self.foreign() != self.before:
            changed = {*self.foreign().items()} ^ {*self.before.items()}
            return f"FOREIGN {sorted(name for name, _ in changed)[:3]}"
        last = (err.splitlines() or [""])[-1]
        if "\x1b" in out + err or "\u202e" in out + err:
            return f"RAW {last[:80]!a}"
        if code in (0, 3) or (code == 130 and self.alarms):  # a training without an end
            return "done"
        if not last.startswith("error: ") or len(last.replace(str(self.work), "")) > 300:
            return f"MESSAGE {len(last)} {last[:120]!a}"
        return "refused"


class Hang(BaseException):
    """A command took a minute."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    def end(*_: object) -> None:
        """Ask for an end, as Ctrl-C does; after a minute more, insist."""
        place.alarms += 1
        if place.alarms > 1:
            raise Hang
        os.kill(os.getpid(), signal.SIGINT)

    before, folder = signal.signal(signal.SIGALRM, end), Path.cwd()
    place = Workplace(tmp_path_factory.mktemp("hostile"))
    yield place
    os.chdir(folder)
    signal.signal(signal.SIGALRM, before)


def campaign(workplace: Workplace, target: Target, mutations: list[tuple[Path_, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for at, hostile in mutations:
        try:
            data = target.write(mutated(target.values, at, hostile))
        except UnicodeEncodeError:
            continue  # a lone surrogate in TOML, which is UTF-8
        for words in target.commands:
            outcome = workplace.outcome(target, words, data)
            where = f" | {words} {target.file.name} {at} {str(hostile)[:30]!a}"
            kind = outcome if outcome in ("done", "refused") else outcome + where
            found[kind] += 1
    return found


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_mutated_is_accepted_as_it_is(workplace: Workplace, name: str) -> None:
    target = workplace.target(name)
    for words in target.commands:
        assert workplace.outcome(target, words, target.write(target.values)) == "done", words


def faults(found: Counter[str]) -> list[str]:
    return [kind for kind in found if kind not in ("done", "refused")]


def test_a_sample_of_the_campaign(workplace: Workplace) -> None:
    draw, found = random.Random(7), Counter[str]()
    for name in TARGETS:
        target = workplace.target(name)
        found += campaign(workplace, target, draw.sample(target.mutations(), 3))
    assert faults(found) == []
    assert found["refused"] > found["done"] > 0


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_every_field_of_every_file_with_40_hostile_values(workplace: Workplace, name: str) -> None:
    target, workplace.seconds = workplace.target(name), 5
    found = campaign(workplace, target, target.mutations())
    print(f"\n{name}: {len(target.mutations())} mutations, {sum(found.values())} tries, ", end="")
    print(f"{found['refused']} refused, {found['done']} done", *faults(found), sep="\n", flush=True)
    assert faults(found) == []
