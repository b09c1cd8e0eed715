"""Quotes as the source really sent them, and as the simulator sends them: every entry becomes a row, values kept."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from wire_bodies import RECORDINGS, answered

from trade_analyst_pipeline.datasets import quotes
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

SIX_KINDS = "quotes_mixed_six_asset_types_2024-05-17.json"
UNSTATED = MarketDataRequest("quotes", "import:recording", (), ())
# Wire names of prices (null for 0) and of plain values, with their columns.
PRICES = {
    "bidPrice": "bid",
    "askPrice": "ask",
    "lastPrice": "last",
    "mark": "mark",
    "openPrice": "open",
    "highPrice": "high",
    "lowPrice": "low",
    "closePrice": "previous_close",
    "52WeekHigh": "high_52_week",
    "52WeekLow": "low_52_week",
    "nAV": "net_asset_value",
    "tick": "tick_size",
    "tickAmount": "tick_value",
}
VALUES = {
    "bidSize": "bid_size",
    "askSize": "ask_size",
    "lastSize": "last_size",
    "totalVolume": "volume",
    "openInterest": "open_interest",
    "netChange": "net_change",
    "markChange": "mark_change",
    "securityStatus": "security_status",
    "delta": "vendor_delta",
    "gamma": "vendor_gamma",
    "theta": "vendor_theta",
    "vega": "vendor_vega",
    "rho": "vendor_rho",
    "moneyIntrinsicValue": "intrinsic_value",
    "timeValue": "time_value",
}


def recording(name: str) -> Any:
    """A recorded answer; the test is skipped, visibly, where the recordings are absent."""
    path = RECORDINGS / "schwab" / name
    if not path.is_file():
        pytest.skip(f"NOT RUN: no recordings beside the checkout ({name})")
    return json.loads(path.read_bytes())


def normalized(name: str, received: datetime) -> Normalized:
    """What the dataset makes of one recording."""
    return quotes.normalize([answered(UNSTATED, recording(name), received=received)], session_date=received.date())


@pytest.mark.parametrize(
    ("name", "received"),
    [
        (SIX_KINDS, datetime(2024, 5, 18, 0, 0, tzinfo=UTC)),
        ("quote_equity_INTC_2024-10-18.json", datetime(2024, 10, 18, 23, 59, tzinfo=UTC)),
        ("quote_index_SPX_2025-01-30.json", datetime(2025, 1, 30, 22, 0, tzinfo=UTC)),
        ("quote_option_META_2025-01-24.json", datetime(2025, 1, 24, 22, 0, tzinfo=UTC)),
    ],
)
def test_every_recorded_entry_is_a_valid_row_with_the_values_of_the_wire(name: str, received: datetime) -> None:
    """No recorded entry is lost, rejected or quarantined, no field is unknown, and its values are those sent."""
    found = normalized(name, received)
    judged = validate(found.frame, quotes.SCHEMA)
    assert (found.problems, found.rejected.height, judged.quarantined.height) == ((), 0, 0)
    assert [count for count in found.counts if count.startswith(("unknown", "tolerant"))] == []
    rows = {row["symbol"]: row for row in judged.valid.to_dicts()}
    sent = recording(name)
    assert rows.keys() == sent.keys()
    for symbol, entry in sent.items():
        wire, row = entry["quote"], rows[symbol]
        assert {column: row[column] for column in PRICES.values()} == {
            column: wire.get(field) or None for field, column in PRICES.items()
        }
        assert {column: row[column] for column in VALUES.values()} == {
            column: wire.get(field) for field, column in VALUES.items()
        }
        assert (row["asset_type"], row["description"]) == (entry["assetMainType"], entry["reference"]["description"])


def test_recorded_six_kinds_of_instrument_share_one_table() -> None:
    """Each of six kinds has a row; those without a quote by nature say so."""
    found = normalized(SIX_KINDS, datetime(2024, 5, 18, 0, 0, tzinfo=UTC)).frame
    kinds = {"EQUITY", "FOREX", "FUTURE", "INDEX", "MUTUAL_FUND", "OPTION"}
    assert set(found["asset_type"]) == kinds
    without = found.filter(found["quote_status"] == "none")["asset_type"].to_list()
    assert sorted(without) == ["INDEX", "MUTUAL_FUND"]


def test_recorded_stock_in_our_units() -> None:
    """Golden: INTC on the evening of 18 October 2024."""
    row = normalized("quote_equity_INTC_2024-10-18.json", datetime(2024, 10, 18, 23, 59, tzinfo=UTC)).frame.to_dicts()[
        0
    ]
    assert row["quote_time"] == datetime(2024, 10, 18, 23, 58, 56, 452_000, tzinfo=UTC)
    assert (row["regular_last"], row["regular_last_size"], row["regular_net_change"]) == (22.77, 6_086_410, 0.33)
    assert (row["next_dividend_ex_date"], row["hard_to_borrow_quantity"]) == (date(2024, 11, 7), 43_807_315.0)


def test_recorded_option_in_our_units() -> None:
    """Golden: a META put of 24 January 2025; a volatility of 73.76379641 % is a fraction here."""
    row = normalized("quote_option_META_2025-01-24.json", datetime(2025, 1, 24, 22, 0, tzinfo=UTC)).frame.to_dicts()[0]
    assert row["vendor_implied_volatility"] == pytest.approx(0.7376379641, abs=1e-12)
    assert (row["option_type"], row["strike"], row["expiration_date"]) == ("P", 525.0, date(2025, 1, 31))
    assert (row["last_trading_date"], row["underlying_symbol"]) == (date(2025, 1, 31), "META")


def test_recorded_unknown_symbols_beside_recorded_quotes() -> None:
    """The recorded errors member beside six entries: four symbols are a problem, all six rows are kept."""
    body = recording(SIX_KINDS) | recording("quotes_errors_block_invalid_symbols.json")
    received = datetime(2024, 5, 18, 0, 0, tzinfo=UTC)
    found = quotes.normalize([answered(UNSTATED, body, received=received)], session_date=date(2024, 5, 17))
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [
        ("unknown_symbol", ("^IRX", "/ESZ21", "ESM24.CME", "AMZN  220617C03170000"))
    ]
    assert found.frame.height == 6


@pytest.mark.parametrize(
    "instant", [datetime(2025, 12, 9, 20, 55, tzinfo=UTC), datetime(2025, 12, 9, 23, 30, tzinfo=UTC)]
)
def test_simulated_quotes_are_all_valid(instant: datetime) -> None:
    """The simulator's answer, before the close and in the evening, has no rejected and no quarantined row."""
    symbols = ("AAPL", "SPY", "BRK/B", "$SPX", "AAAIX", "/ESZ25", "EUR/USD", "NOPE")
    (request,) = quotes.requests(symbols)
    body = answer(Market(7), instant, request.path, dict(request.params)).body
    found = quotes.normalize([answered(request, body, received=instant)], session_date=date(2025, 12, 9))
    judged = validate(found.frame, quotes.SCHEMA)
    assert sorted(judged.valid["symbol"]) == sorted(set(symbols) - {"NOPE"})
    assert (found.rejected.height, judged.quarantined.height) == (0, 0)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [("unknown_symbol", ("NOPE",))]
