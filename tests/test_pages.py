"""What the pages of docs/ show is run, top to bottom, and they have every command and option there is."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from streamtrain.cli import COMMANDS, group

if TYPE_CHECKING:
    from conftest import RunCli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w+)(?: (needs|from) ([^\n]*))?\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def work(digits_csv: Path, tmp_path: Path, call_cli: RunCli) -> Path:
    """A folder with what the pages start from: digits.csv, shards/train, shards/test and runs/first."""
    (tmp_path / "digits.csv").write_bytes(digits_csv.read_bytes())
    for command in (
        "convert digits.csv shards --split train=0.8,test=0.2",
        "train shards/train --test shards/test --out runs/first --epochs 3 --batch-size 32",
    ):
        assert call_cli(*command.split()).returncode == 0
    return tmp_path


@pytest.mark.parametrize("page", [page.stem for page in PAGES if "\n```" in page.read_text(encoding="utf-8")])
def test_what_a_page_shows_runs(work: Path, call_cli: RunCli, page: str) -> None:
    names: dict[str, Any] = {}
    ran, skipped = 0, []
    for kind, what, which, code in FENCE.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
        wanted = which.split() if what == "needs" else []
        if missing := [module for module in wanted if importlib.util.find_spec(module) is None]:
            skipped += missing
        elif what == "from":
            source = [line.strip() for line in (ROOT / which).read_text(encoding="utf-8").splitlines()]
            shown = [line.strip() for line in code.splitlines()]
            assert any(source[i : i + len(shown)] == shown for i in range(len(source))), (
                f"{which} has not:\n{code}"
            )
        elif kind == "toml":
            (work / code.split()[1]).write_text(code, encoding="utf-8")
        elif kind == "python":
            exec(compile(code, f"docs/{page}.md", "exec"), names)
        else:
            for command in re.findall(r"^\$ streamtrain (.*)$", code, flags=re.M):
                done = call_cli(*shlex.split(command))
                assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran += 1
    assert ran > len(skipped)
    if skipped:
        pytest.skip(f"not installed: {', '.join(skipped)}; the rest of the page ran")


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "commands_page"))["page"]()
    told = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert told == made, "Make it anew: scripts/commands_page > docs/commands.md"
    ctx = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(ctx, name)
        assert command
        for param in command.params:
            assert all(word in told for word in param.opts if isinstance(param, click.Option)), param.name


def test_every_page_is_listed_and_every_link_leads_somewhere() -> None:
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert {f"({page.name})" for page in PAGES} - {"(README.md)"} <= {*re.findall(r"\([^)]*\)", listed)}
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
