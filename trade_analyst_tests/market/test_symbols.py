"""How the source spells what can be watched: examples of each kind, as recordings and users have them."""

import pytest

from trade_analyst_pipeline.market.symbols import form_problem, is_taken_of, kind_of


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        *((symbol, "share") for symbol in ("SPY", "F", "BRK/B", "BF/B", "GOOGL", "BAC/PRL", "ABC/WS")),
        *((symbol, "index") for symbol in ("$SPX", "$VIX", "$SPX.X", "$ABC.IV")),
        *((symbol, "fund") for symbol in ("AAAIX", "VTSAX")),
        *((symbol, "future") for symbol in ("/ES", "/ESZ24", "/6E", "/M2K", "/CL")),
        *((symbol, "future_option") for symbol in ("./E3DM24P5490", "./ESM24C5490")),
        *((symbol, "forex") for symbol in ("EUR/USD", "USD/JPY")),
        *((symbol, "option") for symbol in ("AAPL  240517C00100000", "SPXW  250520C05660000")),
        *((symbol, None) for symbol in ("spy", "^IRX", "AAPL240517C00100000", "", "BRK B", "/ES=F", "ESM24.CME/X")),
    ],
)
def test_kinds_are_told_by_their_form(symbol: str, kind: str | None) -> None:
    """Each kind has a form of its own; foreign spellings have none."""
    assert kind_of(symbol) == kind


def test_what_the_source_has_of_each_kind() -> None:
    """Chains of shares and indices, bars of funds too, quotes of everything, nothing of the unknown."""
    symbols = ("SPY", "$SPX", "VTSAX", "/ES", "EUR/USD", "AAPL  240517C00100000", "spy")
    assert [symbol for symbol in symbols if is_taken_of("options", symbol)] == ["SPY", "$SPX"]
    assert [symbol for symbol in symbols if is_taken_of("ohlc", symbol)] == ["SPY", "$SPX", "VTSAX"]
    assert [symbol for symbol in symbols if is_taken_of("quotes", symbol)] == list(symbols[:-1])
    assert not is_taken_of("movers", "SPY")


@pytest.mark.parametrize(
    ("symbol", "words"),
    [("BRK.B", "write BRK/B"), ("spy", "upper case"), ("AAPL240517C00100000", "padded to six"), ("SPY", None)],
)
def test_a_wrong_form_is_told_with_the_right_one(symbol: str, words: str | None) -> None:
    """Forms that the source cannot know are refused with how to write it; others are not."""
    problem = form_problem(symbol)
    assert problem is None if words is None else words in str(problem)
