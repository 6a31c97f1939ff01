"""Pictures in a terminal show the pixels that they are given."""

from __future__ import annotations

import re

import numpy as np

from streamtrain.report.terminal import picture, side_by_side, sparkline


def test_half_blocks_carry_two_rows_of_pixels_as_greys() -> None:
    image = np.linspace(0, 1, 15).reshape(5, 3)
    lines = picture(image, unicode=True)
    greys = np.zeros((6, 3))
    for at, line in enumerate(lines):
        assert line.endswith("\x1b[0m")
        cells = re.findall(r"38;5;(\d+);48;5;(\d+)m(▀+)", line)
        assert sum(len(blocks) for *_, blocks in cells) == 3
        pairs = [(int(upper), int(lower)) for upper, lower, blocks in cells for _ in blocks]
        greys[2 * at : 2 * at + 2] = np.array(pairs).T
    assert greys[:5].tolist() == (232 + np.rint(image * 23)).tolist()
    assert greys[5].tolist() == [232] * 3


def test_plain_shades_are_printable_ascii() -> None:
    text = "".join(picture(np.random.default_rng(0).random((28, 28)), unicode=False))
    assert text.isascii()
    assert text.isprintable()


def test_coloured_pictures_stand_in_columns() -> None:
    image = picture(np.ones((2, 3)), unicode=True)
    band = side_by_side([image, image], ["seven", "1"], columns=3)
    assert re.sub(r"\x1b\[[0-9;]*m", "", band).splitlines() == ["seven  1", "▀▀▀    ▀▀▀"]


def test_a_long_curve_is_thinned_to_its_ends() -> None:
    curve = sparkline([float(i) for i in range(1000)], unicode=True)
    assert (len(curve), curve[0], curve[-1]) == (60, "▁", "█")
    assert sparkline([2.0, 2.0], unicode=False) == ".."
    assert sparkline([], unicode=True) == ""
