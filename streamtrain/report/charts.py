"""Layout of line charts: where the curves, ticks and labels are; the template writes them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamtrain.text import plural

WIDTH, HEIGHT = 480, 260  # of the chart, in SVG units
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 34
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """A curve.

    points: the `points` of an SVG polyline; last: the last value as text; dot: the place of the only point, if so
    """

    name: str
    points: str
    last: str
    dot: tuple[float, float] | None


@dataclass(frozen=True)
class Chart:
    """A chart with axes. `x_ticks` and `y_ticks` are positions and labels; `alt` describes the chart in words."""

    title: str
    x_title: str
    alt: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def ticks(low: float, high: float, *, count: int = _TICKS) -> list[float]:
    """Return about `count` round numbers at equal distances, from at or below `low` to at or above `high`.

    >>> ticks(0.29, 1.72)
    [0.0, 0.5, 1.0, 1.5, 2.0]
    >>> ticks(0.5, 0.5)
    [0.5, 0.51, 0.52, 0.53, 0.54, 0.55]
    """
    span = high - low or abs(low) / 10 or 1.0  # a curve of one value still has an axis
    high = low + span
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * count >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def thin(points: Sequence[tuple[int, float]], *, most: int = WIDTH) -> list[tuple[int, float]]:
    """Return at most about `most` of the points, in order: the first, the last, and the extremes in between.

    >>> thin([(1, 5.0), (2, 9.0), (3, 1.0), (4, 4.0), (5, 3.0), (6, 4.0)], most=4)
    [(1, 5.0), (2, 9.0), (3, 1.0), (4, 4.0), (5, 3.0), (6, 4.0)]
    >>> thin([(x, float(x == 500)) for x in range(1, 1001)], most=4)
    [(1, 0.0), (500, 1.0), (501, 0.0), (1000, 0.0)]
    """
    if len(points) <= 2 * most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    pieces = [points[at : at + size] for at in range(0, len(points), size)]
    extremes = {pick(piece, key=lambda point: point[1]) for piece in pieces for pick in (min, max)}
    return sorted({points[0], *extremes, points[-1]})


def curves(title: str, series: Mapping[str, Sequence[float | None]]) -> Chart:
    """Return the chart of each named series over the epochs from 1; None is a missing value.

    A series without any value is left out.
    """
    known = {
        name: thin([(epoch, value) for epoch, value in enumerate(values, start=1) if value is not None])
        for name, values in series.items()
    }
    known = {name: points for name, points in known.items() if points}
    last = max(points[-1][0] for points in known.values())
    heights = [value for points in known.values() for _, value in points]
    y_values = ticks(min(heights), max(heights))
    x_values = [x for x in ticks(1, last) if 1 <= x <= last and x % 1 == 0] or [1.0]

    def x_at(epoch: float) -> float:
        return round(_LEFT + (epoch - 1) / max(last - 1, 1) * (WIDTH - _LEFT - _RIGHT), 1)

    def y_at(value: float) -> float:
        share = (value - y_values[0]) / (y_values[-1] - y_values[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def line(name: str, places: list[tuple[float, float]], value: float) -> Line:
        points = " ".join(f"{x:g},{y:g}" for x, y in places)
        return Line(name, points, f"{value:.4f}", places[0] if len(places) == 1 else None)

    ranges = "; ".join(f"{name} from {points[0][1]:.4f} to {points[-1][1]:.4f}" for name, points in known.items())
    return Chart(
        title=title,
        x_title="epoch",
        alt=f"{title} over {plural(last, 'epoch')}: {ranges}.",
        x_ticks=tuple((x_at(x), f"{x:g}") for x in x_values),
        y_ticks=tuple((y_at(y), f"{y:g}") for y in y_values),
        lines=tuple(
            line(name, [(x_at(epoch), y_at(value)) for epoch, value in points], points[-1][1])
            for name, points in known.items()
        ),
    )
