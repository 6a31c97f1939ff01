"""What people expect of a command line: help with examples, completion, hints that can be followed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import streamtrain
from streamtrain.cli import COMMANDS, group

if TYPE_CHECKING:
    from conftest import RunCli

PACKAGE = Path(streamtrain.__file__).parent


def command_named(name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command
    return command


def options_of(command: click.Command) -> set[str]:
    return {word for param in command.params for word in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_could_be_typed(name: str) -> None:
    text = " ".join((command_named(name).help or "").split())
    program, command, *words = shlex.split(text.partition("Example: ")[2])
    assert (program, command) == ("streamtrain", name)
    command_named(name).make_parser(click.Context(command_named(name))).parse_args(words)


def test_hints_name_commands_and_options_that_exist() -> None:
    known = {"--help", "--version"}.union(*(options_of(command_named(name)) for name in COMMANDS))
    sources = [path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))
        assert named <= known, f"{path.name}: {sorted(named - known)}"
        for command, rest in re.findall(r"streamtrain (\w+) ([^\"'`\n]*)", text):
            if command in COMMANDS:
                words = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", rest.split(". ")[0].split(", or")[0]))
                assert words <= options_of(command_named(command)), f"{path.name}: streamtrain {command} {rest}"


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("inspct", "inspect"), ("valuate", "evaluate")])
def test_a_mistyped_command_is_answered_with_the_similar_one(call_cli: RunCli, typed: str, meant: str) -> None:
    done = call_cli(typed)
    assert done.returncode == 2
    assert done.stderr == f"error: No such command '{typed}'. Did you mean '{meant}'?\n"


def test_a_word_unlike_any_command_is_refused_without_a_suggestion(call_cli: RunCli) -> None:
    done = call_cli("xyzzy")
    assert (done.returncode, done.stderr) == (2, "error: No such command 'xyzzy'. See streamtrain --help\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train x --batchsize 3", "No such option '--batchsize'. Did you mean '--batch-size'?"),
        (
            "train x --lr -1",
            "Invalid value for '--lr': -1.0 is not in the range x>0. See streamtrain train --help",
        ),
        ("shuffle x", "Missing argument 'DEST'. See streamtrain shuffle --help"),
        ("export x", "Missing option '--to'. Choose from: torch, onnx. See streamtrain export --help"),
    ],
)
def test_wrong_arguments_are_explained_in_one_line_like_all_errors(
    call_cli: RunCli, words: str, message: str
) -> None:
    done = call_cli(*words.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_without_arguments_the_commands_are_listed(call_cli: RunCli) -> None:
    done = call_cli()
    assert done.returncode == 2
    assert all(f"  {name} " in done.stderr for name in COMMANDS)


def test_the_help_of_all_commands_imports_nothing_heavy() -> None:
    script = """
import sys
from streamtrain.cli import COMMANDS, group
for name in COMMANDS:
    group.main([name, "--help"], standalone_mode=False)
print(sorted({"torch", "pandas", "pyarrow", "numpy", "jinja2"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text_and_shows_its_default(name: str) -> None:
    command = command_named(name)
    ctx = click.Context(command, **command.context_settings)
    for option in (param for param in command.params if isinstance(param, click.Option)):
        _, text = option.get_help_record(ctx) or ("", "")
        assert option.help, option.name
        default = option.to_info_dict()["default"]
        assert "[default: " in text or default is None or default is False, option.name


def test_the_version_is_printed(call_cli: RunCli) -> None:
    assert streamtrain.__version__ in call_cli("--version").stdout


@pytest.mark.parametrize(
    ("line", "offered"), [("streamtrain tr", "train"), ("streamtrain train --ep", "--epochs")]
)
def test_the_shell_completes_commands_and_options(
    call_cli: RunCli, monkeypatch: pytest.MonkeyPatch, line: str, offered: str
) -> None:
    monkeypatch.setenv("_STREAMTRAIN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert f"plain,{offered}" in call_cli().stdout.splitlines()


def test_training_ends_with_the_curve_of_its_loss(call_cli: RunCli, shards: Path) -> None:
    options = (shards, "--epochs", "3", "--lr", "0.5", "--out")
    curve = re.compile(r"^train loss \d\.\d{4} @\S+\. \d\.\d{4}$", flags=re.M)
    assert curve.search(call_cli("train", *options, "one").stderr)
    assert not curve.search(call_cli("train", *options, "two", "-q").stderr)
    assert not curve.search(call_cli("train", *options, "three", "--json").stderr)


def test_a_preset_is_predicted_as_it_was_converted(
    call_cli: RunCli, digits_csv: Path, shards: Path, tmp_path: Path
) -> None:
    header, *lines = digits_csv.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    aside = [",".join([row[0], *(row[1 + r * 8 + c] for c in range(8) for r in range(8))]) for row in rows]
    (tmp_path / "aside.csv").write_text("\n".join([header, *aside]))
    (tmp_path / "aside.toml").write_text('label = "first"\nheader = true\nshape = [8, 8]\ntransposed = true\n')
    assert call_cli("train", shards, "--out", "run", "--epochs", "1").returncode == 0
    converted = call_cli("convert", "aside.csv", "stood-up", "--preset", "aside.toml", "--range", "0..300")
    reasons = [line.strip() for line in converted.stderr.splitlines()]
    assert reasons[:2] == ["preset aside", "65 columns, separated by commas"]
    assert "a header, as the preset says" in reasons
    assert "the label is the first column, as the preset says" in reasons
    assert "images 8x8, as the preset says, set upright" in reasons
    assert "pixels 0..300, as declared" in reasons
    assert converted.stdout == "stood-up: 600 rows, 10 classes, 1 shard\n"
    upright = call_cli("predict", "run", digits_csv)
    assert upright.stdout == call_cli("predict", "run", "aside.csv", "--preset", "aside.toml").stdout
    assert upright.stdout != call_cli("predict", "run", "aside.csv").stdout
    assert "transposed" not in upright.stderr
    warning = "warning: the model was trained on transposed images, but "
    trained = call_cli("train", "stood-up", "--test", shards, "--out", "turned", "--epochs", "1")
    assert f"{warning}{shards} is read as is" in trained.stderr
    assert call_cli("predict", "turned", "aside.csv").stderr.startswith(f"{warning}aside.csv is read as is")
    assert call_cli("predict", "turned", "aside.csv", "--preset", "aside.toml").stderr == ""
    assert warning in call_cli("evaluate", "turned", shards).stderr
    assert warning not in call_cli("evaluate", "turned", "stood-up").stderr
    shown = call_cli("inspect", "aside.csv", "--preset", "aside.toml", "--line", "9", "--json").stdout
    assert str([int(value) for value in rows[7][1:]]) in shown
