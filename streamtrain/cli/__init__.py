"""The command line: one small module a command, loaded when it is called; the only place that prints."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from streamtrain import __version__
from streamtrain.errors import StreamtrainError

COMMANDS = {"convert": "CSV text to Parquet shards."}


class _Commands(click.Group):
    """The commands of this folder, imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"streamtrain.cli.{cmd_name}").command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamtrain")
def group() -> None:
    """Digit CSVs of any size → Parquet shards → shuffled minibatches → a trained MLP."""


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command takes: --json, -q, --debug."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("-q", "--quiet", is_flag=True, help="No progress; errors and warnings still show."),
        click.option("--json", "as_json", is_flag=True, help="The result as JSON lines on stdout."),
    ):
        command = option(command)
    return command


def say(text: str) -> None:
    """A line for a person, on stderr."""
    click.echo(text, err=True)


def main() -> None:
    """Run the command line and leave with its exit code; the one place where errors become codes."""
    try:
        code = group.main(prog_name="streamtrain", standalone_mode=False)
    except click.exceptions.Abort:
        say("Interrupted.")
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except StreamtrainError as error:
        if "--debug" in sys.argv:
            raise
        say(f"error: {error}")
        code = error.exit_code
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        place = f"{Path(error.filename)}: " if error.filename else ""
        say(f"error: {place}{error.strerror or error}. Check the disk and its permissions")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
