"""The examples in docs/ run from top to bottom, and the pages have every command and option."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

import streamtrain as st
from streamtrain.cli import COMMANDS, group

if TYPE_CHECKING:
    from conftest import RunCli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(python|console|toml)(?: (needs|from|exits) ([^\n]*))?\n(.*?)^```$", re.M | re.S)


def name(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


@pytest.fixture(scope="session")
def start(digits_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages start from: digits.csv, shards/train, shards/test and runs/first."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "digits.csv").write_bytes(digits_csv.read_bytes())
    st.convert(folder / "digits.csv", folder / "shards", split={"train": 0.8, "test": 0.2})
    train = ["train", "shards/train", "--test", "shards/test", "--out", "runs/first", "--epochs", "3"]
    subprocess.run(
        [sys.executable, "-m", "streamtrain", *train, "--batch-size", "32", "-q"], cwd=folder, check=True
    )
    return folder


@pytest.fixture
def work(start: Path, tmp_path: Path) -> Path:
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("page", [name(page) for page in PAGES if FENCE.search(page.read_text(encoding="utf-8"))])
def test_what_a_page_shows_runs(work: Path, call_cli: RunCli, page: str) -> None:
    names: dict[str, Any] = {}
    ran, skipped = 0, []
    for kind, what, which, code in FENCE.findall((DOCS / f"{page}.md").read_text(encoding="utf-8")):
        needed = which.split() if what == "needs" else []
        if missing := [module for module in needed if importlib.util.find_spec(module) is None]:
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
                assert done.returncode == int(which if what == "exits" else 0), f"{command}\n{done.stderr}"
        ran += 1
    assert ran > len(skipped)
    if skipped:
        pytest.skip(f"not installed: {', '.join(skipped)}; the rest of the page ran")


def test_the_pages_name_every_key_of_a_manifest_a_recipe_and_the_metrics(start: Path) -> None:
    for page, file in (
        ("shards", "shards/train/manifest.json"),
        ("run", "runs/first/recipe.json"),
        ("run", "runs/first/metrics.jsonl"),
    ):
        keys, _ = json.JSONDecoder().raw_decode((start / file).read_text(encoding="utf-8"))
        text = (DOCS / "reference" / f"{page}.md").read_text(encoding="utf-8")
        assert [key for key in keys if f"`{key}`" not in text] == [], page


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "commands_page"))["page"]()
    written = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert written == made, "Make it again: scripts/commands_page > docs/reference/commands.md"
    ctx = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(ctx, name)
        assert command
        for param in command.params:
            assert all(word in written for word in param.opts if isinstance(param, click.Option)), param.name


def test_every_page_is_listed_and_every_link_leads_somewhere() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        path = page.relative_to(DOCS).as_posix()
        assert path == "index.md" or f"({path})" in index, path
        assert f"- {path}" in site, path
    for text in (*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)", text.read_text(encoding="utf-8")):
            assert "://" in link or (text.parent / link).exists(), f"{text.name}: {link}"
