"""A chart shows what was measured: one epoch as a dot, ten thousand without losing a peak."""

from __future__ import annotations

import numpy as np

from streamtrain.report.charts import WIDTH, curves


def test_a_single_epoch_is_a_dot_between_the_axes() -> None:
    chart = curves("Loss", {"train": [2.3], "test": [None]})
    (line,) = chart.lines
    assert line.name == "train"
    assert line.dot == (chart.left, chart.bottom)
    assert chart.alt == "Loss over 1 epoch: train from 2.3000 to 2.3000."
    assert [label for _, label in chart.x_ticks] == ["1"]


def test_two_epochs_are_a_line() -> None:
    (line,) = curves("Loss", {"train": [2.0, 1.0]}).lines
    assert line.dot is None
    assert line.points.count(",") == 2


def test_of_many_epochs_every_peak_stays_and_the_drawing_stays_small() -> None:
    values = np.linspace(2, 1, 10_000)
    values[[137, 5_000, 9_998]] = 3.0, 0.5, 2.5
    (line,) = curves("Loss", {"train": values.tolist()}).lines
    heights = [float(point.split(",")[1]) for point in line.points.split(" ")]
    assert len(heights) <= 2 * WIDTH
    assert line.last == "1.0000"
    chart = curves("Loss", {"train": [3.0, 0.5, 2.5]})
    peaks = [float(point.split(",")[1]) for point in chart.lines[0].points.split(" ")]
    assert min(heights) == peaks[0]
    assert max(heights) == peaks[1]
    assert heights[-2] == peaks[2]


def test_an_epoch_without_a_value_is_passed_over() -> None:
    (line,) = curves("Accuracy", {"test": [0.1, None, 0.3]}).lines
    assert len(line.points.split(" ")) == 2
