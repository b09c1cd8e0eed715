"""The frame that all pictures share: axes, grid, legend and lines as one SVG text.

The picture brings its own ground, and colours for a light and a dark page, so that it is legible on either. Places are
whole numbers: half a pixel is one unit.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeAlias

from trade_analyst_pipeline.ops.visible import in_markdown, one_line

WIDTH, HEIGHT = 960, 520
LEFT, RIGHT, TOP, BOTTOM = 104, 930, 132, 424
MOST_BYTES = 8 * 1024
MOST_LETTERS = 84
COLOURS: Final = 4
_LEGEND, _SAMPLE = 96, 44
_LETTER = 10.5  # the width of a small letter, about
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_FLAT = 1e-9  # of the greater value: less apart than this is one value to the eye and to divisions
_UNWRITABLE: Final = str.maketrans(dict.fromkeys("\ufffe\uffff", "\ufffd"))

_LIGHT = (
    ".vp .b{fill:#fff;stroke:#ccc}.vp text{fill:#333}.vp .g{stroke:#ddd}.vp .r{stroke:#777}"
    ".vp .a{fill:#2563b0;opacity:.14}.vp .m{stroke:#b42318}.vp .k0{stroke:#2563b0}.vp .k1{stroke:#a8480a}"
    ".vp .k2{stroke:#237a3b}.vp .k3{stroke:#7a3fc0}"
)
_DARK = (
    ".vp .b{fill:#1c2127;stroke:#444}.vp text{fill:#ddd}.vp .g{stroke:#3a3f46}.vp .r{stroke:#999}"
    ".vp .a{fill:#7ab8ff;opacity:.2}.vp .m{stroke:#ff8a80}.vp .k0{stroke:#7ab8ff}.vp .k1{stroke:#f2a65a}"
    ".vp .k2{stroke:#6fcf87}.vp .k3{stroke:#cba6ff}"
)
_SHAPE = (
    ".vp path,.vp rect{stroke-width:2}.vp .k{fill:none;stroke-width:4;stroke-linejoin:round}"
    ".vp .k1{stroke-dasharray:14 6}.vp .k2{stroke-dasharray:4 5}.vp .k3{stroke-dasharray:16 5 4 5}"
    ".vp .a{stroke:none}.vp .m{stroke-width:8}.vp .r{stroke-dasharray:3 6}"
    ".vp .d{stroke-width:14;stroke-linecap:round;stroke-dasharray:none}"
)
_STYLE = f"<style>{_SHAPE}{_LIGHT}@media (prefers-color-scheme:dark){{{_DARK}}}</style>"

Point: TypeAlias = tuple[int, int] | None
"""A place in the picture; None where there is no value."""


@dataclass(frozen=True)
class Axis:
    """What runs along one side: from `low` to `high`, with a label at each tick. `label` names quantity and unit."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """How far along a value is, 0 to 1."""
        return (value - self.low) / (self.high - self.low)


@dataclass
class Chart:
    """A picture while it is drawn: title, a line of figures below it, both axes, then what is put into it."""

    title: str
    figures: str
    across: Axis
    up: Axis
    _parts: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)
    _kinds: int = 0

    def at(self, x: float, y: float | None) -> Point:
        """Where a value stands; None without one."""
        if y is None or not math.isfinite(y):
            return None
        return self._x(x), self._y(y)

    def line(self, points: Sequence[Point], name: str) -> None:
        """A line through the points, broken where one is missing; a point alone is a dot. Each has its own kind."""
        kind = self._next_kind()
        self._parts.append(f'<path class="k k{kind}" d="{path(points)}"/>' + self._dots(points, kind))
        self._name(name, f'<path class="k k{kind}" d="M0 0h{_SAMPLE}"/>')

    def dots(self, points: Sequence[Point], name: str) -> None:
        """A dot at each point."""
        kind = self._next_kind()
        self._parts.append(self._dot(points, kind))
        self._name(name, f'<path class="k k{kind} d" d="M{_SAMPLE // 2} 0h0"/>')

    def band(self, lower: Sequence[Point], upper: Sequence[Point], name: str) -> None:
        """The ground between two lines, where both have a point."""
        for run in _runs([low if high else None for low, high in zip(lower, upper, strict=True)]):
            edge = [*upper[run.start : run.stop], *reversed(lower[run.start : run.stop])]
            self._parts.append(f'<path class="a" d="{path(edge)}z"/>')
        self._name(name, f'<path class="a" d="M0 -8h{_SAMPLE}v16h-{_SAMPLE}z"/>')

    def missing(self, places: Sequence[float]) -> None:
        """A mark on the ground line at each place across that has no value."""
        if places:
            marks = "".join(f"M{self._x(place) - 2} {BOTTOM - 4}h4" for place in places)
            self._parts.append(f'<path class="m" d="{marks}"/>')
            self._name(f"no value ({len(places)})", f'<path class="m" d="M{_SAMPLE - 12} 0h12"/>')

    def upright(self, x: float) -> None:
        """A thin dotted line at a place across."""
        self._parts.append(f'<path class="r" d="M{self._x(x)} {TOP}V{BOTTOM}"/>')

    def level(self, y: float) -> None:
        """A thin dotted line at a height, where that is in the picture."""
        if self.up.low <= y <= self.up.high:
            self._parts.append(f'<path class="r" d="M{LEFT} {self._y(y)}H{RIGHT}"/>')

    def svg(self) -> str:
        """The whole picture."""
        figures = _text(24, 66, self.figures, "font-size=22")
        return framed(self.title, [figures, *self._frame(), *self._parts, *self._placed()])

    def _x(self, value: float) -> int:
        return round(LEFT + self.across.share(value) * (RIGHT - LEFT))

    def _y(self, value: float) -> int:
        return round(BOTTOM - self.up.share(value) * (BOTTOM - TOP))

    def _next_kind(self) -> int:
        self._kinds += 1
        return (self._kinds - 1) % COLOURS

    def _name(self, name: str, sample: str) -> None:
        self._legend.append((name, sample))

    def _placed(self) -> list[str]:
        parts, across = [], 24
        for name, sample in self._legend:
            parts.append(f'<g transform="translate({across} {_LEGEND})">{sample}{_text(_SAMPLE + 10, 7, name)}</g>')
            across += _SAMPLE + 30 + round(len(name) * _LETTER)
        return parts

    def _frame(self) -> list[str]:
        parts = []
        for value, label in self.up.ticks:
            y = self._y(value)
            parts.append(
                f'<path class="g" d="M{LEFT} {y}H{RIGHT}"/>' + _text(LEFT - 12, y + 7, label, "text-anchor=end")
            )
        for value, label in self.across.ticks:
            x = self._x(value)
            parts.append(f'<path class="g" d="M{x} {BOTTOM}v8"/>' + _text(x, BOTTOM + 34, label, "text-anchor=middle"))
        middle = (TOP + BOTTOM) // 2
        turned = f"text-anchor=middle transform=rotate(-90,26,{middle})"
        parts.append(_text(26, middle, self.up.label, turned))
        parts.append(_text((LEFT + RIGHT) // 2, HEIGHT - 20, self.across.label, "text-anchor=middle"))
        return parts

    def _dots(self, points: Sequence[Point], kind: int) -> str:
        """Dots for points that have no neighbour, which a line would not show."""
        alone = [points[run.start] for run in _runs(points) if run.stop - run.start == 1]
        return self._dot(alone, kind) if alone else ""

    def _dot(self, points: Sequence[Point], kind: int) -> str:
        marks = "".join(f"M{point[0]} {point[1]}h0" for point in points if point)
        return f'<path class="k k{kind} d" d="{marks}"/>'


def framed(title: str, parts: Sequence[str]) -> str:
    """An SVG picture with this title and these parts."""
    size = f'width="{WIDTH // 2}" height="{HEIGHT // 2}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vp" role="img" {size} font-family="sans-serif" font-size="20">'
    )
    ground = f'<rect class="b" x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="8"/>'
    heading = _text(24, 36, title, "font-size=26 font-weight=bold")
    return f"{head}<title>{html.escape(shown(title))}</title>{_STYLE}{ground}{heading}{''.join(parts)}</svg>"


def without_values(title: str, reason: str) -> str:
    """The picture of nothing: its title, and why nothing is drawn."""
    return framed(title, [_text(24, 66, reason, "font-size=22")])


def shown(text: str) -> str:
    """A text as it may stand in a picture: one line, nothing that turns or hides what is beside it, not too long."""
    line = one_line(text).translate(_UNWRITABLE)
    return line if len(line) <= MOST_LETTERS else line[: MOST_LETTERS - 1] + "…"


def markdown_image(svg: str, title: str) -> str:
    """The picture as an image in Markdown, which needs no file; `title` is its alternative text."""
    return f"![{in_markdown(shown(title))}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def axis(label: str, values: Sequence[float | None], form: str, *, unit: float = 1.0, is_tight: bool = False) -> Axis:
    """An axis that holds all values, divided evenly at round numbers; labels are multiples of `unit` written as `form`.

    It ends at divisions, with `is_tight` at the least and the greatest value.
    """
    known = [value / unit for value in values if value is not None and math.isfinite(value)]
    low, high = min(known), max(known)
    if high - low <= _FLAT * max(abs(low), abs(high)):
        low, high = low - (abs(low) or 1.0) * 0.05, high + (abs(high) or 1.0) * 0.05
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * each for each in _STEPS if size * each >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [(i * step * unit, format(i * step, form)) for i in range(first, last + 1)]
    if is_tight:
        return Axis(label, low * unit, high * unit, [tick for tick in ticks if low * unit <= tick[0] <= high * unit])
    return Axis(label, first * step * unit, last * step * unit, ticks)


def path(points: Sequence[Point]) -> str:
    """Line commands through the points, each step relative to the one before; a new stroke after a gap."""
    commands = []
    for run in _runs(points):
        (x, y), *rest = [point for point in points[run.start : run.stop] if point]
        steps = (f"{b[0] - a[0]} {b[1] - a[1]}" for a, b in pairwise([(x, y), *rest]))
        commands.append(f"M{x} {y}l{' '.join(steps)}" if rest else f"M{x} {y}")
    return "".join(commands)


def _runs(points: Sequence[Point]) -> list[range]:
    """The stretches of points that are there."""
    there = [False, *(point is not None for point in points), False]
    edges = [i for i, (before, here) in enumerate(pairwise(there)) if before != here]
    return [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _text(across: int, down: int, words: str, attributes: str = "") -> str:
    quoted = "".join(f' {name}="{value}"' for name, _, value in (each.partition("=") for each in attributes.split()))
    return f'<text x="{across}" y="{down}"{quoted}>{html.escape(shown(words))}</text>' if words else ""
