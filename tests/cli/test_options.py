"""An option that cannot be read is refused with its valid form; the others do what their help says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import streamtrain as st
from streamtrain.cli.progress import ProgressLine

if TYPE_CHECKING:
    from conftest import JsonLines, RunCli


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--shape", "8by8"),
            "'--shape': '8by8' is not of the form 28x28. See streamtrain convert --help",
        ),
        (("--shape", ""), "is not of the form 28x28"),
        (("--range", "0..1..2"), "Invalid value for '--range': '0..1..2' is not of the form 0..255"),
        (("--split", "train"), "Invalid value for '--split': 'train' is not of the form train=0.9,val=0.1"),
        (("--split", "train=0.9,val=0.2"), "sum to 1"),
        (("--split", "../train=1"), "are names of folders"),
        (
            ("--delimiter", "colon"),
            "--delimiter is 'colon', but must be comma, semicolon, tab, space, pipe, ctrl-a",
        ),
        (("--max-rejected", "3"), "Pass --on-bad-row reject too"),
        (("--memory", "much"), "is not a size such as 256MB"),
        (("--label", "kind"), "has no column 'kind'"),
        (("--label", "5-99"), "--label 5-99 is not a range of columns"),
        (("--shape", "4x8"), "--shape 4x8 is 32 pixels, but a row has 64"),
        (("--labels", "labels-*.csv"), "no file"),
    ],
)
def test_convert_refuses(call_cli: RunCli, digits_csv: Path, options: tuple[str, ...], said: str) -> None:
    done = call_cli("convert", digits_csv, "out", *options)
    assert done.returncode in (1, 2)
    assert said in " ".join(done.stderr.split())


def test_classes_are_a_number_or_names(call_cli: RunCli, digits_csv: Path, tmp_path: Path) -> None:
    call_cli("convert", digits_csv, "twelve", "--classes", "12", "--delimiter", ",", "-q")
    assert st.open_shards(tmp_path / "twelve").schema.classes == tuple(map(str, range(12)))
    call_cli("convert", digits_csv, "named", "--classes", "o, i,ii,iii,iv,v,vi,vii,viii,ix", "-q")
    assert st.open_shards(tmp_path / "named").schema.classes[:3] == ("o", "i", "ii")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("epochs 5", "is not valid TOML"),
        ("[trian]\nepochs = 5", "'trian' is not an option"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(
    call_cli: RunCli, shards: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "run.toml").write_text(text)
    done = call_cli("train", shards, "--out", "run", "--config", "run.toml")
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--hidden", "10,,5"), "is not a list of layer sizes"),
        (("--hidden", "0"), "is not a list of layer sizes"),
        (("--checkpoint-every", "1h"), "neither seconds such as 60s nor steps"),
        (("--checkpoint-every", "0s"), "neither seconds such as 60s nor steps"),
        ((), "train needs DATA and --out RUN"),
        (("--dry-run",), "train --dry-run needs DATA"),
    ],
)
def test_train_refuses(call_cli: RunCli, shards: Path, options: tuple[str, ...], said: str) -> None:
    data = [shards, "--out", "run"] if options and options != ("--dry-run",) else []
    done = call_cli("train", *data, *options)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_a_fault_of_the_system_names_the_path(call_cli: RunCli, digits_csv: Path) -> None:
    done = call_cli("convert", digits_csv, "/proc/nowhere/out", "-q")
    assert done.returncode == 1
    assert re.fullmatch(r"error: /proc/nowhere: .*\. Check the disk and its permissions\n", done.stderr)
    with pytest.raises(OSError, match="nowhere"):
        call_cli("convert", digits_csv, "/proc/nowhere/out", "--debug")


def test_the_first_20_of_many_bad_rows_are_shown_and_the_rest_counted(
    call_cli: RunCli, json_lines: JsonLines, shards: Path, digits_csv: Path, tmp_path: Path
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    header, *rows = digits_csv.read_text().splitlines()
    rows[::20] = [row.replace(",", ",x", 1) for row in rows[::20]]
    (tmp_path / "bad.csv").write_text("\n".join([header, *rows]))
    done = call_cli("predict", "run", "bad.csv", "--proba", "--json")
    assert done.returncode == 3
    lines = json_lines(done.stdout)
    assert [line["row"] for line in lines if line["label"] is None] == list(range(0, 600, 20))
    assert lines[0]["p_3"] is None
    warnings = done.stderr.splitlines()
    assert len(warnings) == 21
    assert warnings[-1] == "warning: 30 bad rows in all got no label, 10 of them not shown"


def test_rows_without_images_or_labels_are_inspected_too(call_cli: RunCli, tmp_path: Path) -> None:
    rows = [[i % 101, *range(i, i + 6)] for i in range(50)]
    (tmp_path / "pen.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    options = ("--label", "none", "--range", "0..200", "--no-header", "-q")
    assert call_cli("convert", "pen.csv", "pen", *options).stdout == "pen: 50 rows, 0 classes, 1 shard\n"
    shown = call_cli("inspect", "pen").stdout
    assert "images 7 uint8, 0..200 becomes 0..1, seen 0..54" in shown
    assert "label disorder" not in shown
    assert call_cli("inspect", "pen", "--line", "3").stdout == "pen.csv:3\n2, 2, 3, 4, 5, 6, 7\n"
    refused = call_cli("train", "pen", "--out", "run")
    assert (refused.returncode, "has no labels to learn" in refused.stderr) == (1, True)


def test_a_run_before_its_first_epoch_can_be_inspected_and_has_no_line(call_cli: RunCli, shards: Path) -> None:
    refused = call_cli("train", shards, "--out", "run", "--lr", "1e38", "--batch-size", "8", "-q")
    assert refused.returncode == 1
    shown = call_cli("inspect", "run").stdout
    assert shown.startswith("run: 64→100→10 units, classes 0, 1, 2")
    assert "train loss" not in shown
    done = call_cli("inspect", "run", "--line", "3")
    assert (done.returncode, "is a run, which has no rows" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("convert", "{csv}", "out", "--shuffle"), "shuffling  "),
        (("shuffle", "{shards}", "out"), "shuffling  "),
        (("verify", "{shards}"), "verifying  100%  0:00 left  1 shard"),
        (("inspect", "{csv}"), "reading  "),
        (("report", "run"), "evaluating  100%  0:00 left  run"),
    ],
)
def test_all_long_work_shows_how_far_it_is(
    call_cli: RunCli,
    digits_csv: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    if words[0] == "report":
        pytest.importorskip("jinja2")
        call_cli("train", shards, "--test", shards, "--out", "run", "--epochs", "1", "-q")
    words = tuple(word.format(csv=digits_csv, shards=shards) for word in words)
    monkeypatch.setattr(ProgressLine, "due", lambda self: not self._quiet)
    assert said in call_cli(*words).stderr
    again = ("--overwrite",) if "out" in words else ()
    quiet = call_cli(*words, *again, "-q")
    assert (quiet.returncode, said in quiet.stderr) == (0, False)


def test_shuffle_and_verify_print_their_result_as_json(
    call_cli: RunCli, json_lines: JsonLines, shards: Path, tmp_path: Path
) -> None:
    (shown,) = json_lines(call_cli("shuffle", shards, "mixed", "--seed", "3", "--json").stdout)
    assert (shown["rows"], shown["shards"], shown["seed"]) == (600, 1, 3)
    assert shown["manifest"] == "mixed/manifest.json"
    (shown,) = json_lines(call_cli("verify", "mixed", "--json").stdout)
    assert shown == {"ok": True, "shards": 1, "rows": 600, "problems": []}
    (tmp_path / "mixed" / "shard-00000.parquet").unlink()
    done = call_cli("verify", "mixed")
    assert done.returncode == 1
    assert done.stderr.endswith("error: mixed has 1 problem. Convert its source again\n")


def test_a_checkpoint_every_few_steps_is_kept_while_training(
    call_cli: RunCli, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamtrain.train.fit import Training
    from streamtrain.train.run import Run

    saved: list[tuple[int, int]] = []
    save = Run.save

    def noted(self: Run, training: Training) -> None:
        saved.append(training.write_back().cursor)
        save(self, training)

    monkeypatch.setattr(Run, "save", noted)
    options = ("--epochs", "1", "--batch-size", "100", "--checkpoint-every", "2steps")
    assert call_cli("train", shards, "--out", "run", *options).returncode == 0
    assert saved == [(1, 200), (1, 400), (1, 600)]  # the end of the epoch is saved with its metrics


def test_rows_sorted_by_class_are_warned_of_in_training(
    call_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    header, *lines = digits_csv.read_text().splitlines()
    (tmp_path / "sorted.csv").write_text(
        "\n".join([header, *(line for line in sorted(lines) for _ in range(400))])
    )
    call_cli("convert", "sorted.csv", "sorted", "-q")
    done = call_cli("train", "sorted", "--out", "run", "--epochs", "1", "--memory", "8MB", "--no-eval-train")
    assert "warning: the rows are sorted by class: label disorder" in done.stderr
    assert "streamtrain shuffle sorted sorted.shuffled" in done.stderr


def test_a_hint_can_be_pasted_where_names_have_spaces(call_cli: RunCli, digits_csv: Path, tmp_path: Path) -> None:
    header, *lines = digits_csv.read_text().splitlines()
    (tmp_path / "by class.csv").write_text("\n".join([header, *sorted(lines)]))
    hint = call_cli("convert", "by class.csv", "my shards").stderr.rpartition("Mix them: streamtrain ")[2]
    assert call_cli(*shlex.split(hint)).stdout.startswith("my shards-shuffled: 600 rows")
    call_cli("train", "my shards", "--out", "run", "--epochs", "1", "-q")
    (tmp_path / "my shards").rename(tmp_path / "by class.csv.shards")
    (tmp_path / "by class.csv").write_text("\n".join([header, *lines[:100]]))
    shown = call_cli("evaluate", "run", "by class.csv")
    assert shown.returncode == 1
    hint = shown.stderr.rpartition("Convert it again: streamtrain ")[2]
    assert call_cli(*shlex.split(hint)).stdout.startswith("by class.csv.shards: 100 rows")


def test_a_name_that_is_not_text_is_refused_in_a_line(
    call_cli: RunCli, shards: Path, digits_csv: Path, tmp_path: Path
) -> None:
    done = call_cli("convert", digits_csv, "shards-\udcff")
    assert (done.returncode, done.stderr) == (
        2,
        "error: 'shards-\\udcff' is not a name in UTF-8, which shards and runs need. Choose another\n",
    )
    shutil.copytree(shards, tmp_path / "moved-\udcff")
    done = call_cli("verify", "moved-\udcff")
    assert done.returncode == 1
    assert done.stderr.startswith("error: 'moved-\\udcff")
    assert len(done.stderr) < 300
