"""`import *` gives the public names, and `help` explains them."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

import streamtrain as st


@pytest.mark.parametrize("name", st.__all__)
def test_help_of_a_public_name_says_what_it_is(name: str) -> None:
    value = getattr(st, name)
    assert inspect.getdoc(value)
    assert name in pydoc.render_doc(value, renderer=pydoc.plaintext)


def test_every_public_name_comes_with_a_star() -> None:
    """In a process of its own, in which nothing else has imported them."""
    program = "from streamtrain import *; import streamtrain as st; print({*st.__all__} - {*globals()})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
