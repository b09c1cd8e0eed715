"""Pictures of metrics: what is drawn is what the rows say, gaps included; whatever a symbol is called."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from hostile_names import hostile_names

from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.ops.visible import one_line
from trade_analyst_pipeline.pictures import chart
from trade_analyst_pipeline.pictures.put_call_history import put_call_history
from trade_analyst_pipeline.pictures.smile import smile
from trade_analyst_pipeline.pictures.term_structure import term_structure
from trade_analyst_pipeline.pictures.volatility_history import volatility_history

SVG = "{http://www.w3.org/2000/svg}"
LAST = date(2025, 6, 30)
MOMENT = datetime(2025, 6, 30, 19, 55, tzinfo=UTC)


def ranks(values: list[float | None], **given: Any) -> pl.DataFrame:
    """Rows of `iv_rank` with these volatilities, the last of them on LAST, in a range of 0.1 to 0.5."""
    own = {"symbol": "XYZ", "series": "atm30", "window_sessions": 252, "lo": 0.1, "hi": 0.5}
    own |= {"iv_rank": 42.0, "iv_percentile": 37.5, "status": "ok"} | given
    return pl.DataFrame({**own, "session_date": sessions_ending(LAST, len(values)), "iv": values})


def ratios(values: list[float | None], **given: Any) -> pl.DataFrame:
    """Rows of `put_call_ratio_daily` with these ratios by volume."""
    own = {"symbol": "XYZ", "chain_scope": "full", "put_call_volume_ratio_10": 1.0}
    own |= {"put_call_open_interest_ratio": 0.5, "volume_status": "ok"} | given
    return pl.DataFrame({**own, "session_date": sessions_ending(LAST, len(values)), "put_call_volume_ratio": values})


def maturities(values: dict[str, float | None], **given: Any) -> pl.DataFrame:
    """Rows of `iv_history` of one session."""
    own = {"symbol": "XYZ", "session_date": LAST} | given
    rows = [{"series": name, "iv": iv, "status": "ok" if iv else "no_expiry"} for name, iv in values.items()]
    return pl.DataFrame([own | row for row in rows], schema_overrides={"iv": pl.Float64})


def contracts(volatilities: dict[float, float | None], **given: Any) -> pl.DataFrame:
    """Rows of `implied_volatility` of one expiration, forward 100: each strike, its side in the money at 9.99."""
    own = {"symbol": "XYZ", "snapshot_time": MOMENT, "expiration_date": date(2025, 7, 30), "option_root": "XYZ"}
    own |= {"settlement_type": "P", "years": 30 / 365, "forward": 100.0} | given
    rows = [
        {
            "strike": strike,
            "option_type": letter,
            "implied_volatility": iv if (strike >= 100) == (letter == "C") else 9.99,
        }
        for strike, iv in volatilities.items()
        for letter in "CP"
    ]
    return pl.DataFrame([own | row for row in rows])


def parsed(svg: str) -> ET.Element:
    """The picture as a tree."""
    return ET.fromstring(svg)  # noqa: S314  our own text


def words(svg: str) -> list[str]:
    """What is written, the title first."""
    return ["".join(found.itertext()) for found in parsed(svg).iter(f"{SVG}text")]


def strokes(svg: str, kind: str) -> list[list[tuple[int, int]]]:
    """The strokes of a line as places in the picture; the sample in the legend left out."""
    lines = [each for each in parsed(svg).findall(f"{SVG}path") if each.attrib["class"] == kind]
    found = []
    for stroke in (part for each in lines for part in each.attrib["d"].split("M")[1:]):
        numbers = [int(number) for number in re.findall(r"-?\d+", stroke.replace("h0", ""))]
        line = [(numbers[0], numbers[1])]
        for across, down in zip(numbers[2::2], numbers[3::2], strict=True):
            line.append((line[-1][0] + across, line[-1][1] + down))
        found.append(line)
    return found


def test_volatilities_apart_by_a_rounding_are_drawn() -> None:
    """A flat series is one whose values differ by the last digit, too."""
    values = [0.25, math.nextafter(0.25, 1.0), 0.25]
    assert volatility_history(ranks(values)).startswith("<svg")


def test_history_is_drawn_to_scale_with_its_gaps() -> None:
    """Six sessions from 10 to 50 %: places are in proportion, the missing one breaks the line and is marked."""
    svg = volatility_history(ranks([0.1, 0.5, None, 0.2, 0.3, 0.3]))
    step = (chart.RIGHT - chart.LEFT) / 5
    expected = [[(0, 0.0), (1, 1.0)], [(3, 0.25), (4, 0.5), (5, 0.5)]]
    places = [
        [(round(chart.LEFT + i * step), round(chart.BOTTOM - up * (chart.BOTTOM - chart.TOP))) for i, up in line]
        for line in expected
    ]
    assert strokes(svg, "k k0") == places
    marks = [path.attrib["d"] for path in parsed(svg).findall(f"{SVG}path") if path.attrib["class"] == "m"]
    assert marks == [f"M{round(chart.LEFT + 2 * step) - 2} {chart.BOTTOM - 4}h4"]
    assert "no value (1)" in words(svg)


def test_history_says_quantity_unit_and_standing() -> None:
    """Both axes are named, with units; the last value, its rank and percentile stand above."""
    found = words(volatility_history(ranks([0.1, 0.3])))
    assert found[:2] == ["XYZ implied volatility atm30", "2025-06-30: 30.0 %, rank 42, percentile 38 (ok)"]
    assert {"volatility a year, %", "session (exchange date)", "range of 252 sessions", "10", "50"} <= set(found)


def test_sessions_without_a_row_are_gaps_too() -> None:
    """A session that has no row at all takes its room and is marked."""
    rows = ranks([0.1, 0.2, 0.3, 0.4]).filter(pl.col("session_date") != sessions_ending(LAST, 2)[0])
    assert [len(line) for line in strokes(volatility_history(rows), "k k0")] == [2, 1]
    assert "no value (1)" in words(volatility_history(rows))


def test_a_value_alone_is_a_dot() -> None:
    """Between two gaps a value is seen all the same."""
    svg = volatility_history(ranks([0.1, 0.2, None, 0.4, None, 0.3, 0.2]))
    assert len(strokes(svg, "k k0 d")) == 1


def test_last_session_without_a_value_says_so() -> None:
    """Nothing older is shown in its place."""
    svg = volatility_history(ranks([0.1, 0.2, None], iv_rank=None, iv_percentile=None, status="stale"))
    assert words(svg)[1] == "2025-06-30: no value (stale)"


def test_ratios_are_three_lines_and_a_level() -> None:
    """Volume, its average and open interest each have a kind of line; 1 is marked."""
    svg = put_call_history(ratios([0.5, 1.5, None, 0.75]))
    assert [len(line) for line in strokes(svg, "k k0")] == [2, 1]
    assert [len(strokes(svg, f"k k{kind}")) for kind in (1, 2)] == [1, 1]
    level = strokes(svg, "k k1")[0][0][1]
    assert any(path.attrib["d"] == f"M{chart.LEFT} {level}H{chart.RIGHT}" for path in parsed(svg).findall(f"{SVG}path"))
    assert words(svg)[1] == "2025-06-30: volume 0.75; volume, 10 sessions 1.00; open interest 0.50 (ok)"
    assert "puts / calls" in words(svg)


def test_maturities_of_each_kind_are_a_line_of_their_own() -> None:
    """Ours, the vendor's and the model-free one are never joined; a maturity without a value breaks its line."""
    values = {"atm7": 0.2, "atm30": 0.21, "atm60": None, "atm90": 0.23, "atm7_vendor": 0.3, "atm30_vendor": 0.31}
    svg = term_structure(maturities({**values, "model_free30": 0.25}))
    assert [len(line) for line in strokes(svg, "k k0")] == [2, 1]
    assert [len(line) for line in strokes(svg, "k k1")] == [2]
    assert [len(line) for line in strokes(svg, "k k2 d")] == [1]
    assert words(svg)[:2] == ["XYZ volatility by maturity, 2025-06-30", "no value at days: 60 (no_expiry)"]


def test_smile_is_of_the_side_out_of_the_money() -> None:
    """The other side's 999 % is nowhere; a strike without a volatility breaks the line; strikes are in % of forward."""
    svg = smile(contracts({90.0: 0.30, 95.0: 0.25, 100.0: 0.20, 105.0: None, 110.0: 0.22}))
    line, alone = strokes(svg, "k k0")
    assert [place[0] for place in (*line, *alone)] == [
        round(chart.LEFT + share * (chart.RIGHT - chart.LEFT)) for share in (0, 0.25, 0.5, 1)
    ]
    assert line[0][1] == chart.TOP
    assert line[2][1] == chart.BOTTOM
    assert "30 Jul 25, 30 d" in words(svg)
    assert {"strike, % of the forward", "volatility a year, %"} <= set(words(svg))


def test_smile_takes_the_expirations_nearest_to_its_maturities() -> None:
    """Of many, those nearest to 7, 30, 90 and 365 days."""
    curve = {95.0: 0.25, 100.0: 0.20, 105.0: 0.22}
    many = [
        contracts(curve, years=days / 365, expiration_date=date.fromordinal(LAST.toordinal() + days))
        for days in (3, 8, 15, 29, 45, 80, 200, 350, 700)
    ]
    legend = [word for word in words(smile(pl.concat(many))) if word.endswith(" d")]
    assert [word.partition(", ")[2] for word in legend] == ["8 d", "29 d", "80 d", "350 d"]


PICTURES = {
    "history": lambda **given: volatility_history(ranks([0.1, 0.2], **given)),
    "ratios": lambda **given: put_call_history(ratios([0.5, 0.6], **given)),
    "maturities": lambda **given: term_structure(maturities({"atm7": 0.2, "atm30": 0.3}, **given)),
    "smile": lambda **given: smile(contracts({95.0: 0.25, 105.0: 0.22}, **given)),
}
NOTHING = {
    "history": lambda: volatility_history(ranks([None, None])),
    "ratios": lambda: put_call_history(
        ratios([None], put_call_volume_ratio_10=None, put_call_open_interest_ratio=None).cast(
            {"put_call_volume_ratio": pl.Float64}
        )
    ),
    "maturities": lambda: term_structure(maturities({"atm7": None})),
    "smile": lambda: smile(contracts({95.0: None}).with_columns(implied_volatility=pl.lit(None, pl.Float64))),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_draw_is_said(name: str) -> None:
    """Without any value there is a picture with its title and the reason, and no line."""
    svg = NOTHING[name]()
    assert len(words(svg)) == 2
    assert "no" in words(svg)[1]
    assert parsed(svg).findall(f"{SVG}path") == []


@pytest.mark.parametrize("name", PICTURES)
def test_hostile_names_stay_text(name: str) -> None:
    """Whatever a symbol is called, the picture is well-formed, holds only drawing, and shows the name as text."""
    plain = {element.tag for element in parsed(PICTURES[name]()).iter()}
    for symbol in hostile_names(300, seed=7):
        svg = PICTURES[name](symbol=symbol)
        root = parsed(svg)
        assert {element.tag for element in root.iter()} == plain
        assert not any(key.startswith("on") or "href" in key for element in root.iter() for key in element.attrib)
        assert len(words(svg)[0]) <= chart.MOST_LETTERS
        assert one_line(words(svg)[0]) == words(svg)[0]


def test_text_is_escaped_not_dropped() -> None:
    """Markup in a name is shown as it is written."""
    assert words(PICTURES["history"](symbol="<b>&\u202e</b>"))[0] == "<b>&\\u202e</b> implied volatility atm30"


def jagged(count: int, most: float) -> list[float | None]:
    """Values that turn at each step, with gaps."""
    return [None if i % 7 == 3 else most * (0.5 + 0.5 * math.sin(i * i)) for i in range(count)]


def test_pictures_are_small() -> None:
    """However long, jagged and full of gaps the rows are."""
    many = {50.0 + i / 20: iv for i, iv in enumerate(jagged(2000, 0.9))}
    large = (
        volatility_history(ranks(jagged(1000, 0.9), symbol="W" * 300)),
        put_call_history(ratios(jagged(1000, 3.0))),
        smile(
            pl.concat(
                contracts(many, years=y, expiration_date=date.fromordinal(LAST.toordinal() + int(365 * y)))
                for y in (0.02, 0.08, 0.25, 1.0)
            )
        ),
    )
    assert [len(svg.encode()) <= chart.MOST_BYTES for svg in large] == [True, True, True]


@pytest.mark.parametrize("name", PICTURES)
def test_same_rows_give_the_same_bytes(name: str) -> None:
    """Twice, and with rows in another order."""
    assert PICTURES[name]() == PICTURES[name]()
    rows = ranks([0.1, 0.2, 0.4])
    assert volatility_history(rows) == volatility_history(rows[::-1])


def test_rows_that_do_not_belong_together_are_refused() -> None:
    """Two symbols, series or scopes make no line; the message says what to filter."""
    with pytest.raises(ValueError, match=r"one series, got 2 .* filter the rows by series"):
        volatility_history(pl.concat([ranks([0.1]), ranks([0.1], series="atm30_vendor")]))
    with pytest.raises(ValueError, match="one chain_scope"):
        put_call_history(pl.concat([ratios([0.1]), ratios([0.1], chain_scope="bounded strikes=15")]))
    with pytest.raises(ValueError, match="one snapshot_time"):
        smile(
            pl.concat(
                [contracts({95.0: 0.2}), contracts({95.0: 0.2}, snapshot_time=datetime(2025, 6, 30, 15, tzinfo=UTC))]
            )
        )
    with pytest.raises(ValueError, match="one session_date"):
        term_structure(
            pl.concat([maturities({"atm7": 0.2}), maturities({"atm7": 0.2}, session_date=date(2025, 6, 27))])
        )


def luminance(colour: str) -> float:
    """Relative luminance of a colour, as WCAG 2 has it."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("is_dark", [False, True])
def test_colours_can_be_told_from_their_ground(*, is_dark: bool) -> None:
    """On a light and a dark page alike: text at 7 to 1, lines and marks at 4.5 to 1 (WCAG 2)."""
    style = (parsed(PICTURES["history"]()).findtext(f"{SVG}style") or "").partition("@media")[2 if is_dark else 0]
    colours = dict(re.findall(r"\.vp (\S+?)\{(?:fill|stroke):#([0-9a-f]{3,6})", style))
    ground = luminance(colours[".b"])

    def contrast(name: str) -> float:
        own = luminance(colours[name])
        return (max(own, ground) + 0.05) / (min(own, ground) + 0.05)

    assert contrast("text") >= 7
    assert {name: contrast(name) for name in (".k0", ".k1", ".k2", ".k3", ".m") if contrast(name) < 4.5} == {}
