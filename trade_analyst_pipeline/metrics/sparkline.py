"""A series of numbers as a tiny picture in Markdown, small enough to be shown in place.

Dagster draws an image inside its page only while the whole Markdown text is below 1,000 characters. No file is
written and nothing is looked up: the same numbers give the same text.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from itertools import pairwise

CHARACTER_LIMIT = 1000
WIDTH, HEIGHT, MARGIN = 240, 48, 4
MOST_POINTS = 120
MOST_TITLE_CHARACTERS = 80
_HEAD = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
_EMPTY = f'{_HEAD}<text y="28">no values</text></svg>'
_STROKE = '<path fill="none" stroke="#36c" d="'

Point = tuple[int, int] | None


def sparkline(values: Sequence[float | None], *, title: str = "") -> str:
    """Markdown of an inline SVG line through `values`, evenly spaced, below 1,000 characters.

    Null and non-finite values leave a gap. The lowest value has a red mark, the highest a green one (the first of
    each). Long series are thinned to what fits: each point is then the mean of its neighbours, and only a stretch
    without any value leaves a gap; the marks stay at the true extremes. `title` becomes the alternative text,
    shortened.
    """
    numbers = [float(value) if value is not None and math.isfinite(value) else None for value in values]
    for points in range(min(len(numbers), MOST_POINTS), 0, -1):
        text = _markdown(_picture(numbers, points), title)
        if len(text) < CHARACTER_LIMIT:
            return text
    return _markdown(_EMPTY, title)


def _markdown(svg: str, title: str) -> str:
    words = "".join(letter for letter in title if letter.isprintable() and letter not in "[]\\")
    return f"![{words[:MOST_TITLE_CHARACTERS]}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _picture(numbers: Sequence[float | None], points: int) -> str:
    known = [number for number in numbers if number is not None]
    if not known:
        return _EMPTY
    lowest, highest = min(known), max(known)
    placed = [_place(i, points, value, lowest, highest) for i, value in enumerate(_thinned(numbers, points))]
    marks = "".join(
        _mark(_place(numbers.index(value), len(numbers), value, lowest, highest), colour)
        for value, colour in ((lowest, "#c33"), (highest, "#393"))
    )
    return f'{_HEAD}{_STROKE}{_path(placed)}"/>{marks}</svg>'


def _thinned(numbers: Sequence[float | None], points: int) -> list[float | None]:
    """Means of `points` stretches of nearly equal length; null where a stretch has no value."""
    edges = [i * len(numbers) // points for i in range(points + 1)]
    stretches = [[number for number in numbers[start:end] if number is not None] for start, end in pairwise(edges)]
    return [math.fsum(stretch) / len(stretch) if stretch else None for stretch in stretches]


def _place(index: int, count: int, value: float | None, lowest: float, highest: float) -> Point:
    if value is None:
        return None
    across = index / (count - 1) if count > 1 else 0.5
    up = (value - lowest) / (highest - lowest) if highest > lowest else 0.5
    return (
        round(MARGIN + across * (WIDTH - 2 * MARGIN)),
        round(HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)),
    )


def _path(placed: Sequence[Point]) -> str:
    """Line commands through the points, each step relative to the one before; a new stroke after a gap.

    A lone point is a stroke of no length, which a round cap would show; one unit across makes it visible anywhere.
    """
    parts, last = [], None
    for here, following in zip(placed, [*placed[1:], None], strict=True):
        if here is None:
            last = None
            continue
        if last is None:
            parts.append(f"M{here[0]} {here[1]}" + ("h1" if following is None else "l"))
        else:
            across, down = here[0] - last[0], here[1] - last[1]
            parts.append(f"{across}{down}" if down < 0 else f"{across} {down}")
            parts.append("" if following is None else " ")
        last = here
    return "".join(parts)


def _mark(point: Point, colour: str) -> str:
    return f'<circle cx="{point[0]}" cy="{point[1]}" r="3" fill="{colour}"/>' if point else ""
