"""The command line: one small module a command, loaded when it is called; the only place that prints."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from streamtrain._version import __version__
from streamtrain.errors import RunError, StreamtrainError, UsageError
from streamtrain.process import shorten_openmp_spin

COMMANDS = {
    "convert": "CSV text to Parquet shards.",
    "shuffle": "Shards anew, in a random order of all rows.",
    "verify": "Every byte of shards against the manifest.",
    "inspect": "What is in a CSV, shards or a run.",
    "train": "Train on shards or a CSV, an evaluation an epoch.",
    "evaluate": "Loss, accuracy and confusion of a run on data.",
    "predict": "The class of each row of a CSV.",
    "report": "A run as one HTML page.",
    "export": "A run's model for torch or ONNX.",
    "demo": "All of it, on real embedded digits.",
}


class _Commands(click.Group):
    """The commands of this folder, imported one by one; the help of the group imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"streamtrain.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and (near := difflib.get_close_matches(args[0], COMMANDS, n=1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


class Command(click.Command):
    """A command with the options that all have. Each option reads STREAMTRAIN_<OPTION> too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="The result as JSON lines on stdout."),
            click.Option(["-q", "--quiet"], is_flag=True, help="No progress; errors and warnings still show."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
            click.Option(
                ["--config"],
                type=click.Path(dir_okay=False),
                metavar="FILE.toml",
                is_eager=True,
                expose_value=False,
                callback=_read_config,
                help="Read options from a file, as epochs = 5.",
            ),
        ]
        for param in self.params:
            if isinstance(param, click.Option) and param.name != "config":
                param.envvar = f"STREAMTRAIN_{_long_name(param).upper()}"


def _long_name(option: click.Option) -> str:
    """An option's name in a configuration file and, in capitals, in the environment: batch_size."""
    return max(option.opts, key=len).lstrip("-").replace("-", "_")


def _read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Take the options of a TOML file, or of its table named like the command, as defaults."""
    if value is None:
        return
    import tomllib

    try:
        with Path(value).open("rb") as file:
            settings = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{value} cannot be read: {error.strerror}. Name the file of --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{value} is no TOML: {error}. Write lines like epochs = 5") from error
    own = {name: table for name, table in settings.items() if not isinstance(table, dict)}
    own |= settings.get(ctx.command.name or "", {})
    unknown_tables = [name for name, table in settings.items() if isinstance(table, dict) and name not in COMMANDS]
    options = {_long_name(p): p.name or "" for p in ctx.command.params if isinstance(p, click.Option)}
    unknown = [*unknown_tables, *(name for name in own if name.replace("-", "_") not in options)]
    if unknown:
        raise UsageError(
            f"{value}: {unknown[0]!r} is no option of {ctx.command.name}. Options are {', '.join(sorted(options))}"
        )
    ctx.default_map = {options[name.replace("-", "_")]: setting for name, setting in own.items()}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamtrain")
def group() -> None:
    """Digit CSVs of any size → Parquet shards → shuffled minibatches → a trained MLP."""


_FLAGS = {"memory_bytes": "--memory", "pixel_range": "--range", "image_shape": "--shape"}


def flag(name: str, *value: Any) -> str:
    """Return a parameter of the library, or one with the value to pass, as the command line spells it.

    >>> flag("memory_bytes", 9_000_000), flag("header", False), flag("shape", (28, 28))
    ('--memory 9MB', '--no-header', '--shape 28x28')
    """
    spelled = _FLAGS.get(name) or f"--{name.replace('_', '-')}"
    for given in value:
        if isinstance(given, bool):
            return f"--{'' if given else 'no-'}{spelled[2:]}"
        if name == "memory_bytes":
            return f"{spelled} {given / 1e6:g}MB"
        return f"{spelled} {'x'.join(map(str, given)) if isinstance(given, tuple) else shlex.quote(str(given))}"
    return spelled


def say(text: str) -> None:
    """A line for a person, on stderr."""
    click.echo(text, err=True)


@contextlib.contextmanager
def on_a_full_disk(output: str | Path, again: Callable[[], str]) -> Iterator[None]:
    """Inside a `with`, a full disk is told with the command that goes on; again: asked for it then."""
    from streamtrain.storage.publish import disk_is_full

    try:
        yield
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise RunError(f"{output}: the disk is full. Free some, then go on: {again()}") from error


def main() -> None:
    """Run the command line and leave with its exit code; the one place where errors become codes."""
    shorten_openmp_spin()
    debug = "--debug" in sys.argv or bool(os.environ.get("STREAMTRAIN_DEBUG"))
    try:
        code = group.main(prog_name="streamtrain", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has enough; click itself leaves with 1 too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except click.exceptions.Abort:
        say("Interrupted.")
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except StreamtrainError as error:
        if debug:
            raise
        say(f"error: {error.spelled(flag)}")
        code = error.exit_code
    except UnicodeEncodeError as error:  # Parquet's and safetensors' files are opened by names of text
        if debug:
            raise
        say(f"error: {ascii(error.object)[:150]} is no name in UTF-8. Rename it, or a folder above it")
        code = 1
    except OSError as error:
        if debug:
            raise
        place = f"{Path(error.filename)}: " if error.filename else ""
        say(f"error: {place}{error.strerror or error}. Check the disk and its permissions")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
