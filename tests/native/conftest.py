"""What the tests of the loops share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from streamtrain import native


@pytest.fixture(scope="session")
def on_each_isa() -> Callable[[], Iterator[str]]:
    """Yields the name of each instruction set that this processor runs, its loops being in use meanwhile."""
    assert native.core, "the loops are not built: python setup.py build_ext --inplace"
    core = native.core

    def names() -> Iterator[str]:
        best, *others = core.isas()
        try:
            for name in (*others, best):
                core.select(name)
                yield name
        finally:
            core.select(best)

    return names
