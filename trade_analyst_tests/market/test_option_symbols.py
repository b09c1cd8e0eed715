"""OCC option symbols, written and read: 21 characters, nothing else."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade_analyst_pipeline.market.option_symbols import (
    OptionSymbol,
    format_option_symbol,
    is_option_symbol,
    parse_option_symbol,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("AAPL  260116C00150000", OptionSymbol("AAPL", date(2026, 1, 16), "C", 150.0)),
        ("SPXW  250520P05660000", OptionSymbol("SPXW", date(2025, 5, 20), "P", 5660.0)),
        ("F     251219C00012500", OptionSymbol("F", date(2025, 12, 19), "C", 12.5)),
        ("BRKB  260116P00492500", OptionSymbol("BRKB", date(2026, 1, 16), "P", 492.5)),
        ("GOOGL1240621C99999999", OptionSymbol("GOOGL1", date(2024, 6, 21), "C", 99999.999)),
        ("X     240229C00000001", OptionSymbol("X", date(2024, 2, 29), "C", 0.001)),
    ],
)
def test_symbol_and_its_parts(text: str, parts: OptionSymbol) -> None:
    """A symbol is read into its parts, and the parts make the same symbol."""
    assert parse_option_symbol(text) == parts
    assert str(parts) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has 0 characters"),
        ("AAPL 260116C00150000", "has 20 characters"),
        ("AAPL  260116C001500000", "has 22 characters"),
        ("AAPL  260116X00150000", "is not root"),
        ("AAPL  260116c00150000", "is not root"),
        ("AAPL  26O116C00150000", "is not root"),
        ("AAPL  260116C0015000.", "is not root"),
        ("AAPL  260116C-0150000", "is not root"),
        ("      260116C00150000", "is not root"),
        ("AAPL  260230C00150000", "holds no calendar date"),
        ("AAPL  261316C00150000", "holds no calendar date"),
        ("AAPL  ²60116C00150000", "is not root"),
        ("AAPL  260116C0015000²", "is not root"),
    ],
)
def test_text_that_is_no_symbol(text: str, said: str) -> None:
    """Anything else is refused with a message that says what is wrong."""
    with pytest.raises(ValueError, match=said):
        parse_option_symbol(text)


@pytest.mark.parametrize(
    ("root", "strike"),
    [("", 1.0), ("SEVENCH", 1.0), ("A", 0.0), ("A", -1.0), ("A", 100_000.0), ("A", 0.0004)],
)
def test_parts_that_fit_no_symbol(root: str, strike: float) -> None:
    """A root or a strike that does not fit is refused instead of written wrong."""
    with pytest.raises(ValueError, match="no option symbol"):
        format_option_symbol(root, date(2026, 1, 16), "C", strike)


@given(
    st.from_regex(r"[A-Z]{1,6}", fullmatch=True),
    st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    st.sampled_from(["C", "P"]),
    st.integers(1, 99_999_999),
)
def test_every_symbol_comes_back(root: str, day: date, option_type: str, thousandths: int) -> None:
    """Parts of any kind survive being written and read."""
    symbol = OptionSymbol(root, day, "C" if option_type == "C" else "P", thousandths / 1000)
    assert parse_option_symbol(str(symbol)) == symbol


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AAPL  240517C00100000", True),
        ("AAPL240517C00100000", False),
        ("AAPL", False),
        ("./ESH26C6000", False),
        ("AAPL  241317C00100000", False),
    ],
)
def test_option_symbols_are_told_from_others(text: str, expected: bool) -> None:
    """Only a padded symbol of 21 characters with a date in it is one."""
    assert is_option_symbol(text) == expected
