"""Names, docstrings, comments, messages and pages are in plain English: no word of a list of odd ones."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each with what one engineer would say to another.
ODD = {
    r"anew": "again",
    r"so\s+many": "the parameter's name, in backticks",
    r"(?<!there\s)(is|are|was|were)\s+(?-i:none)": "is not valid, is not one",
    r"(?<!there\s)(is|are|was|were)\s+no(?!\s+longer)": "is not a",
    r"lest": "so that … not",
    r"apart": "separately, except",
    r"beside": "next to, in addition to",
    r"for\s+want\s+of": "because there is no",
    r"whoever": "whatever, the caller",
    r"be\s+it": "whether",
    r"mind(s|ed|ing)?": "check, handle",
    r"mend(s|ed|ing)?": "fix",
    r"told": "printed, passed, found",
}
FOUND = re.compile(rf"\b({'|'.join(ODD)})\b(?!-)", re.IGNORECASE)

SHELL = [path for path in ROOT.glob("scripts/*") if path.is_file() and path.read_bytes()[:1] == b"#"]
FILES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *(
            path
            for folder in ("streamtrain", "tests", "scripts", "examples")
            for path in ROOT.glob(f"{folder}/**/*.py")
        ),
        *ROOT.glob("streamtrain/native/*.[chi]*"),
        *SHELL,
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*.md"),
    )
    if path != Path(__file__)  # which lists the words
)


def prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments, the strings and the names that a program gives, each with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name.replace("_", " ")
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg.replace("_", " ")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id.replace("_", " ")


def prose_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page outside its code, with their numbers."""
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code:
            yield number, re.sub(r"`[^`]*`", "", line)


PROSE = {".py": prose_of_python, ".md": prose_of_markdown}


def odd_words(path: Path) -> list[str]:
    """Return the place and the words of each, with what to say instead, in the whole text of C and of shell."""
    text = path.read_text(encoding="utf-8")
    prose = PROSE.get(path.suffix, lambda text: [(1, text)])(text)
    found = []
    for number, part in prose:
        for match in FOUND.finditer(part):
            line = number + part[: match.start()].count("\n")
            instead = next(say for odd, say in ODD.items() if re.match(odd + r"\b", match[0], re.IGNORECASE))
            found.append(f"{path.name}:{line}: {' '.join(match[0].split())!r}. Say: {instead}")
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_in_plain_english(name: str) -> None:
    assert odd_words(ROOT / name) == []


PROGRAM = '''
"""The rows.

Read anew."""
told_x = beside = 1  # so is
x = f"{told} is  no number, there is no x"
y = "is none"  # lest
'''
PAGE = """
Whoever reads
```
told
```
a `mind` and re-mind, reminds, apart
"""


def test_odd_words_are_found_in_prose_alone(tmp_path: Path) -> None:
    for name, text in (("a.py", PROGRAM), ("a.md", PAGE)):
        (tmp_path / name).write_text(text)
    assert sorted(each.split(". ")[0] for each in odd_words(tmp_path / "a.py")) == [
        "a.py:4: 'anew'",
        "a.py:5: 'beside'",
        "a.py:5: 'told'",
        "a.py:6: 'is no'",
        "a.py:7: 'is none'",
        "a.py:7: 'lest'",
    ]
    assert [each.split(". ")[0] for each in odd_words(tmp_path / "a.md")] == [
        "a.md:2: 'Whoever'",
        "a.md:6: 'mind'",
        "a.md:6: 'apart'",
    ]
