"""The command line: one small module for each command, imported when it is called; the only place that prints."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from streamtrain._version import __version__
from streamtrain.cli.console import Console, say
from streamtrain.cli.options import flag
from streamtrain.errors import RunError, StreamtrainError, UsageError
from streamtrain.process import shorten_openmp_spin
from streamtrain.text import one_line

COMMANDS = {
    "convert": "Convert CSV text to Parquet shards.",
    "shuffle": "Rewrite shards in a random order of all rows.",
    "verify": "Check every byte of shards against the manifest.",
    "inspect": "Show what is in a CSV, shards or a run.",
    "train": "Train on shards or a CSV; evaluate after each epoch.",
    "evaluate": "Print a run's loss, accuracy and confusion on data.",
    "predict": "Print the class of each row of a CSV.",
    "report": "Make an HTML page of a run.",
    "export": "Write a run's model for torch or ONNX.",
    "demo": "Do all of it with real digits that are included.",
}


_PLACES = ("DATA", "RUN", "FILE", "FILE.toml")  # the metavars of options that name a file or folder


class _Commands(click.Group):
    """The commands of this folder, each imported when it is used; the help of the group imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = importlib.import_module(f"streamtrain.cli.{cmd_name}").command
            return command
        if ctx.resilient_parsing:  # while the shell completes a word
            return None
        raise click.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


class Command(click.Command):
    """A command with the options that all have; the values of the first three go to the context's Console.

    Each option can also be set by the environment variable STREAMTRAIN_<OPTION>, and its help shows its default.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings.setdefault("show_default", True)
        console: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": _set_console}
        self.params += [
            click.Option(["--json"], help="Print the result as JSON lines.", **console),
            click.Option(["-q", "--quiet"], help="Show no progress; errors and warnings still show.", **console),
            click.Option(["--debug"], help="Show the traceback of an error.", **console),
            click.Option(
                ["--config"],
                type=click.Path(dir_okay=False),
                metavar="FILE.toml",
                is_eager=True,
                expose_value=False,
                callback=_read_config,
                help="Read options from a file, written as epochs = 5.",
            ),
        ]
        for param in self.params:
            if isinstance(param, click.Option) and param.name != "config":
                param.envvar = f"STREAMTRAIN_{_long_name(param).upper()}"

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises BadParameter for a path that is empty, which would be the current folder."""
        for param in self.params:
            given = ctx.params.get(param.name or "")
            is_place = isinstance(param, click.Argument) or param.metavar in _PLACES
            if is_place and "" in (given if isinstance(given, tuple) else [given]):
                raise click.BadParameter("it is empty. Name a file or folder", ctx=ctx, param=param)
        return super().invoke(ctx)


def _set_console(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    setattr(ctx.ensure_object(Console), param.name, value)


def _long_name(option: click.Option) -> str:
    """Return an option's name in a configuration file and, in capitals, in the environment: batch_size."""
    return max(option.opts, key=len).lstrip("-").replace("-", "_")


def _read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Use the settings of a TOML file, or of its table named like the command, as the defaults of options."""
    if value is None:
        return
    import tomllib

    from streamtrain.decode import parse

    try:
        settings = parse(tomllib.loads, Path(value).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {value} cannot be read: {error.strerror}. Check the path") from error
    except ValueError as error:
        raise UsageError(f"{value} is not valid TOML: {error}. Write lines such as epochs = 5") from error
    own = {name: table for name, table in settings.items() if not isinstance(table, dict)}
    table = settings.get(ctx.command.name or "", {})
    own |= table if isinstance(table, dict) else {}
    tables = [name for name, table in settings.items() if isinstance(table, dict) and name not in COMMANDS]
    options = {_long_name(p): p for p in ctx.command.params if isinstance(p, click.Option)}
    unknown = [*tables, *(name for name in own if name.replace("-", "_") not in options)]
    if unknown:
        raise UsageError(
            f"{value}: {unknown[0][:40]!r} is not an option of {ctx.command.name}. "
            f"Its options: {ctx.command_path} --help"
        )
    ctx.default_map = {}
    for name, setting in own.items():
        option = options[name.replace("-", "_")]
        ctx.default_map[option.name or ""] = _from_config(ctx, option, setting, f"{value}: {name}")


def _from_config(ctx: click.Context, option: click.Option, setting: object, where: str) -> str:
    """Return a setting as the command line has it. Raises UsageError, beginning with `where`, if it is invalid."""
    if not isinstance(setting, str | int | float):
        raise UsageError(f"{where} is not a value. Write it as on the command line, as text if it is a list")
    text = str(setting).lower() if isinstance(setting, bool) else str(setting)
    try:
        option.type.convert(text, option, ctx)
    except click.BadParameter as error:
        raise UsageError(f"{where}: {error.message[:150].rstrip('.')}. See {ctx.command_path} --help") from error
    return text


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamtrain")
def group() -> None:
    """Digit CSVs of any size → Parquet shards → shuffled minibatches → a trained MLP."""


@contextlib.contextmanager
def on_a_full_disk(output: str | Path, again: Callable[[], str]) -> Iterator[None]:
    """Context manager: report a full disk with the command that continues, which `again` returns then."""
    from streamtrain.storage.publish import TooLittleSpaceError, disk_is_full

    try:
        yield
    except OSError as error:
        if not disk_is_full(error):
            raise
        what = error.strerror if isinstance(error, TooLittleSpaceError) else "the disk is full"
        raise RunError(f"{output}: {what}. Free some space, then continue with: {again()}") from error


def main(*, has_output: bool = True) -> None:
    """Run the command line and exit with its code; the one place where errors become codes.

    has_output: whether standard output is open; otherwise nothing is run, for the result could not be printed
    """
    shorten_openmp_spin()
    console = Console()
    try:
        if not has_output:
            raise RunError("standard output is closed, so the result has no place. Send it to a file: > FILE")
        code = group.main(prog_name="streamtrain", standalone_mode=False, obj=console)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has enough; click itself exits with 1 too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except click.exceptions.Abort:
        say("Interrupted.")
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        say(f"error: {one_line(_with_help(error))}")
        code = error.exit_code
    except (StreamtrainError, OSError, UnicodeEncodeError, MemoryError, RuntimeError) as error:
        if console.debug or (isinstance(error, RuntimeError) and not _lacks(error)):
            raise
        say(f"error: {one_line(_explained(error))}")
        code = getattr(error, "exit_code", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _with_help(error: click.ClickException) -> str:
    """Return the message of an error in the arguments, with the command that explains them as the next step."""
    message, ctx = " ".join(error.format_message().split()), getattr(error, "ctx", None)
    if not ctx or message.endswith(("?", "?)")):  # a suggestion is the next step
        return message
    return f"{message.removesuffix('.')}. See {ctx.command_path} --help"


def _lacks(error: Exception) -> str:
    """Return what an error says that the system did not give, memory or threads; nothing for another error."""
    text = str(error)
    if isinstance(error, MemoryError) or "alloc" in text:  # as torch says it, in a RuntimeError
        return "memory"
    return "threads" if "can't start new thread" in text else ""


def _explained(error: StreamtrainError | OSError | UnicodeEncodeError | MemoryError | RuntimeError) -> str:
    """Return what is wrong, where, and the next step."""
    if _lacks(error) == "memory":
        return "the system gives no more memory (see ulimit -v). Free some, or use a smaller --memory or --workers"
    if _lacks(error) == "threads":
        return "the system gives no more threads (see ulimit -u). End other processes, or use fewer: --workers 1"
    if isinstance(error, StreamtrainError):
        return error.spelled(flag)
    if isinstance(error, UnicodeEncodeError):  # Parquet and safetensors open files by names that are text
        return f"{ascii(error.object)[:150]} is not a valid name in UTF-8. Rename it, or the folder it is in"
    name, what = getattr(error, "filename", None), getattr(error, "strerror", None)
    return f"{f'{Path(name)}: ' if name else ''}{what or error}. Check the disk and its permissions"
