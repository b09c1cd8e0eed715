"""A series of numbers as a tiny picture in Markdown, small enough to be shown in place.

Dagster draws an image inside its page only while the whole Markdown text is below 1,000 characters. No file is
written and nothing is looked up: the same numbers give the same text.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from itertools import pairwise

CHARACTER_LIMIT = 1000
WIDTH, HEIGHT = 240, 64
LEFT, RIGHT, TOP, BOTTOM = 4, 180, 18, 60
MOST_POINTS = 120
MOST_TITLE_CHARACTERS = 44
_RED, _GREEN, _BLUE = "#c33", "#393", "#36c"
# An image without a width has none in a table cell of Dagster's page.
_HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
    'font-family="sans-serif" font-size="10">'
)
_STROKE = f'<path fill="none" stroke="{_BLUE}" d="'

Point = tuple[int, int] | None


def sparkline(values: Sequence[float | None], *, title: str = "", form: str = ".3g") -> str:
    """Markdown of an inline SVG line through `values`, evenly spaced, below 1,000 characters.

    Null and non-finite values leave a gap. The lowest value has a red mark, the highest a green one (the first of
    each); both and the last one, in blue, stand beside the line, written as the format specification `form` says. Long
    series are thinned to what fits: each point is then the mean of its neighbours, and only a stretch without any
    value leaves a gap; the marks stay at the true extremes. `title`, shortened, stands above and is the alternative
    text.
    """
    numbers = [float(value) if value is not None and math.isfinite(value) else None for value in values]
    words = "".join(letter for letter in title if letter.isprintable() and letter not in "[]\\")[:MOST_TITLE_CHARACTERS]
    for points in range(min(len(numbers), MOST_POINTS), 0, -1):
        text = _markdown(_picture(numbers, points, words, form), words)
        if len(text) < CHARACTER_LIMIT:
            return text
    return _markdown(f"{_HEAD}{_text(LEFT, 10, words)}{_text(LEFT, 40, 'no values')}</svg>", words)


def _markdown(svg: str, words: str) -> str:
    return f"![{words}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _picture(numbers: Sequence[float | None], points: int, words: str, form: str) -> str:
    known = [number for number in numbers if number is not None]
    if not known:
        return f"{_HEAD}{_text(LEFT, 10, words)}{_text(LEFT, 40, 'no values')}</svg>"
    lowest, highest = min(known), max(known)
    placed = [_place(i, points, value, lowest, highest) for i, value in enumerate(_thinned(numbers, points))]
    marks = "".join(
        _mark(_place(numbers.index(value), len(numbers), value, lowest, highest), colour)
        for value, colour in ((lowest, _RED), (highest, _GREEN))
    )
    labels = "".join(
        _text(RIGHT + 8, height, format(value, form), colour)
        for value, height, colour in ((highest, 22, _GREEN), (known[-1], 41, _BLUE), (lowest, 60, _RED))
    )
    return f'{_HEAD}{_text(LEFT, 10, words)}{_STROKE}{_path(placed)}"/>{marks}{labels}</svg>'


def _text(across: int, down: int, words: str, colour: str = "") -> str:
    fill = f' fill="{colour}"' if colour else ""
    return f'<text x="{across}" y="{down}"{fill}>{html.escape(words)}</text>' if words else ""


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
        round(LEFT + across * (RIGHT - LEFT)),
        round(BOTTOM - up * (BOTTOM - TOP)),
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
