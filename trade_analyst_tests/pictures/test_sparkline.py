"""Pictures of a series: small enough to be shown in place, right in shape, and always the same."""

from __future__ import annotations

import base64
import math
import re
from xml.etree import ElementTree as ET

import pytest

from trade_analyst_pipeline.pictures.sparkline import sparkline

SVG = "{http://www.w3.org/2000/svg}"


def picture(text: str) -> ET.Element:
    """The SVG inside the Markdown."""
    found = re.fullmatch(r"!\[[^\]]*\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", text)
    assert found, text
    return ET.fromstring(base64.b64decode(found[1]))  # noqa: S314  our own text, a few hundred characters


def points(text: str) -> list[list[tuple[int, int]]]:
    """The strokes of the line as absolute points."""
    path = picture(text).find(f"{SVG}path")
    assert path is not None
    strokes = []
    for stroke in path.attrib["d"].split("M")[1:]:
        start, _, steps = stroke.partition("l")
        numbers = [int(number) for number in re.findall(r"-?\d+", start.partition("h")[0])]
        line = [(numbers[0], numbers[1])]
        moves = [int(number) for number in re.findall(r"-?\d+", steps)]
        for across, down in zip(moves[::2], moves[1::2], strict=True):
            line.append((line[-1][0] + across, line[-1][1] + down))
        strokes.append(line)
    return strokes


def marks(text: str) -> dict[str, tuple[int, int]]:
    """Colour and place of the marks."""
    return {
        mark.attrib["fill"]: (int(mark.attrib["cx"]), int(mark.attrib["cy"]))
        for mark in picture(text).findall(f"{SVG}circle")
    }


def texts(text: str) -> list[str]:
    """What is written in the picture."""
    return [found.text or "" for found in picture(text).findall(f"{SVG}text")]


def test_the_picture_has_a_size_of_its_own() -> None:
    """A page that gives an image no width shows it all the same: width and height stand in it."""
    drawn = picture(sparkline([1.0, 2.0])).attrib
    assert (drawn["width"], drawn["height"], drawn["viewBox"]) == ("240", "64", "0 0 240 64")


def test_the_numbers_stand_beside_the_line() -> None:
    """Title, highest, last and lowest value are written, in the form asked for; without a form in three digits."""
    values = [0.25, 0.1234, 0.375, 0.2, None]
    assert texts(sparkline(values, title="a < b", form=".1%")) == ["a < b", "37.5%", "20.0%", "12.3%"]
    assert texts(sparkline(values)) == ["0.375", "0.2", "0.123"]


def test_a_short_series_is_drawn_point_by_point() -> None:
    """Values 1, 3, 2 span the picture from left to right and from bottom to top."""
    text = sparkline([1.0, 3.0, 2.0])
    assert points(text) == [[(4, 60), (92, 18), (180, 39)]]
    assert marks(text) == {"#c33": (4, 60), "#393": (92, 18)}


def test_null_and_nan_leave_gaps() -> None:
    """The line is broken where a value is missing; a lone value between gaps is still a visible stroke."""
    strokes = points(sparkline([1.0, 2.0, None, 2.0, math.nan, 3.0, math.inf]))
    assert [len(stroke) for stroke in strokes] == [2, 1, 1]
    assert "h1" in base64.b64decode(sparkline([None, 1.0]).split("base64,")[1][:-1]).decode()


@pytest.mark.parametrize("count", [1, 2, 100, 260, 5000])
def test_text_stays_below_a_thousand_characters(count: int) -> None:
    """However long, jagged and titled, the Markdown is shown in place."""
    values = [math.sin(i * i) * 1e6 for i in range(count)]
    assert len(sparkline(values, title="x" * 500)) < 1000


def test_extremes_of_a_thinned_series_are_marked_where_they_are() -> None:
    """A single spike in 1,000 values is averaged in the line and still marked at its own place and height."""
    values = [1.0] * 1000
    values[250], values[750] = 9.0, 0.0
    assert marks(sparkline(values)) == {"#c33": (136, 60), "#393": (48, 18)}


def test_long_gap_of_a_thinned_series_stays_a_gap() -> None:
    """A stretch of 200 missing values in 1,000 is not bridged."""
    values: list[float | None] = [float(i) for i in range(1000)]
    values[400:600] = [None] * 200
    first, second = points(sparkline(values))
    assert second[0][0] - first[-1][0] > 30


def test_constant_series_is_a_level_line() -> None:
    """A series without range is drawn at half height."""
    assert points(sparkline([5.0, 5.0])) == [[(4, 39), (180, 39)]]


@pytest.mark.parametrize("values", [[], [None], [math.nan, None]])
def test_nothing_to_draw_is_said(values: list[float | None]) -> None:
    """Without any value the picture says so."""
    assert texts(sparkline(values, title="ratio")) == ["ratio", "no values"]


def test_title_cannot_break_the_markdown() -> None:
    """Brackets, line breaks and backslashes are left out of the alternative text."""
    assert sparkline([1.0, 2.0], title="iv [AAPL]\n](evil)\\").startswith("![iv AAPL(evil)](data:")


def test_same_numbers_give_the_same_text() -> None:
    """Two calls agree to the letter."""
    assert sparkline([0.1, 0.3, None, 0.2], title="t") == sparkline([0.1, 0.3, None, 0.2], title="t")
