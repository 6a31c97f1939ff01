"""Numbers → the places of lines, ticks and labels in a drawing; the template turns them into SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamtrain.report.terminal import plural

WIDTH, HEIGHT = 480, 260  # of the drawing, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 34
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points as SVG writes them, its last value, and where a lone point stands."""

    name: str
    points: str
    last: str
    dot: tuple[float, float] | None


@dataclass(frozen=True)
class Chart:
    """A drawing with axes. `x_ticks` and `y_ticks` are places and labels; `alt` says in words what it shows."""

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
    """Round numbers, about `count` of them, that reach from at or below `low` to at or above `high`.

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


def thinned(points: Sequence[tuple[int, float]], *, most: int = WIDTH) -> list[tuple[int, float]]:
    """About `most` points at the most, in their order: the first, the last, and extremes in between.

    >>> thinned([(1, 5.0), (2, 9.0), (3, 1.0), (4, 4.0), (5, 3.0), (6, 4.0)], most=4)
    [(1, 5.0), (2, 9.0), (3, 1.0), (4, 4.0), (5, 3.0), (6, 4.0)]
    >>> thinned([(x, float(x == 500)) for x in range(1, 1001)], most=4)
    [(1, 0.0), (500, 1.0), (501, 0.0), (1000, 0.0)]
    """
    if len(points) <= 2 * most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    runs = [points[at : at + size] for at in range(0, len(points), size)]
    extremes = {pick(run, key=lambda point: point[1]) for run in runs for pick in (min, max)}
    return sorted({points[0], *extremes, points[-1]})


def curves(title: str, series: Mapping[str, Sequence[float | None]]) -> Chart:
    """Lines by epoch from 1, one a name; an epoch without a value is passed over, and so is a name without any."""
    known = {
        name: thinned([(epoch, value) for epoch, value in enumerate(values, start=1) if value is not None])
        for name, values in series.items()
    }
    known = {name: line for name, line in known.items() if line}
    last = max(line[-1][0] for line in known.values())
    heights = [value for line in known.values() for _, value in line]
    y_values = ticks(min(heights), max(heights))
    x_values = [x for x in ticks(1, last) if 1 <= x <= last and x % 1 == 0] or [1.0]

    def x_at(epoch: float) -> float:
        return round(_LEFT + (epoch - 1) / max(last - 1, 1) * (WIDTH - _LEFT - _RIGHT), 1)

    def y_at(value: float) -> float:
        share = (value - y_values[0]) / (y_values[-1] - y_values[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def drawn(name: str, places: list[tuple[float, float]], value: float) -> Line:
        points = " ".join(f"{x:g},{y:g}" for x, y in places)
        return Line(name, points, f"{value:.4f}", places[0] if len(places) == 1 else None)

    told = "; ".join(f"{name} from {line[0][1]:.4f} to {line[-1][1]:.4f}" for name, line in known.items())
    return Chart(
        title=title,
        x_title="epoch",
        alt=f"{title} over {plural(last, 'epoch')}: {told}.",
        x_ticks=tuple((x_at(x), f"{x:g}") for x in x_values),
        y_ticks=tuple((y_at(y), f"{y:g}") for y in y_values),
        lines=tuple(
            drawn(name, [(x_at(epoch), y_at(value)) for epoch, value in line], line[-1][1])
            for name, line in known.items()
        ),
    )
