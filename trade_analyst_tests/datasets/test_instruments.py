"""Instruments: what is asked, dates of every form, 0 that says unknown, CUSIPs, nothing found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from wire_bodies import RECEIVED, SESSION, answered, changed, document, payload

from trade_analyst_pipeline.datasets import instruments
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

(REQUEST,) = instruments.requests(["XYZ", "XYF"])


def normalized(*bodies: Any, request: MarketDataRequest = REQUEST, **response: Any) -> Normalized:
    """What the dataset makes of these bodies as one capture."""
    return instruments.normalize([answered(request, body, **response) for body in bodies], session_date=SESSION)


def with_first(change: Callable[[dict[str, Any]], Any]) -> Normalized:
    """The payload with its first instrument changed."""
    return normalized(changed(document("instruments/fundamental.json"), lambda body: change(body["instruments"][0])))


def broken(found: Normalized) -> dict[str, int]:
    """How many rows broke each rule that any broke."""
    return {name: count for name, count in validate(found.frame, instruments.SCHEMA).rule_counts.items() if count}


def test_questions() -> None:
    """Fundamentals in batches of a hundred, each symbol once; a search; an instrument by its CUSIP."""
    made = instruments.requests([*(f"S{number}" for number in range(150)), "S0"])
    assert [len(request.symbols) for request in made] == [100, 50]
    assert made[1].params[0] == ("symbol", ",".join(f"S{number}" for number in range(100, 150)))
    assert made[1].params[1] == ("projection", "fundamental")
    found = instruments.search("apple", projection="desc-search")
    assert (found.path, found.params) == ("/instruments", (("symbol", "apple"), ("projection", "desc-search")))
    assert instruments.by_cusip("037833100").path == "/instruments/037833100"


def test_row_with_fundamentals() -> None:
    """Every figure is a column in our units; a 0 that says unknown is null, dividends stay as sent."""
    found = normalized(payload("instruments/fundamental.json"))
    row = {name: value for name, value in found.frame.row(0, named=True).items() if value is not None}
    assert row == {
        "symbol": "XYZ",
        "session_date": date(2026, 1, 5),
        "snapshot_time": RECEIVED,
        "cusip": "012345678",
        "description": "XYZ CORP",
        "exchange_name": "NASDAQ",
        "instrument_type": "EQUITY",
        "high_52_week": 130.0,
        "low_52_week": 80.0,
        "dividend_amount": 0.4,
        "dividend_yield": 0.004,
        "dividend_ex_date": date(2025, 11, 14),
        "price_earnings_ratio": 24.05,
        "price_earnings_growth_ratio": -1.5,
        "price_book_ratio": 4.25,
        "price_revenue_ratio": 2.5,
        "price_cash_flow_ratio": 18.0,
        "gross_margin_ttm_pct": 40.5,
        "gross_margin_mrq_pct": 41.25,
        "net_margin_ttm_pct": 12.5,
        "operating_margin_ttm_pct": 15.0,
        "operating_margin_mrq_pct": 14.0,
        "return_on_equity_pct": 25.0,
        "return_on_assets_pct": 9.0,
        "return_on_investment_pct": 14.5,
        "quick_ratio": 0.9,
        "current_ratio": 1.25,
        "long_term_debt_to_equity_pct": 45.5,
        "total_debt_to_equity_pct": 60.25,
        "earnings_per_share_ttm": 4.25,
        "earnings_per_share_change_ttm_pct": 10.5,
        "revenue_change_year_pct": -2.75,
        "revenue_change_ttm_pct": 0.5,
        "shares_outstanding": 152_000_000.0,
        "market_cap": 15_352_000_000.0,
        "book_value_per_share": 23.75,
        "dividend_pay_amount": 0.1,
        "dividend_pay_date": date(2025, 12, 1),
        "beta": 1.2,
        "average_volume_10_days": 1_200_000.0,
        "average_volume_1_day": 1_250_000.0,
        "average_volume_3_months": 1_400_000.0,
        "dividend_declaration_date": date(2025, 11, 3),
        "dividend_frequency": 4,
        "earnings_per_share": 4.2,
        "dtn_volume": 1_250_000.0,
        "next_dividend_pay_date": date(2026, 3, 2),
        "next_dividend_ex_date": date(2026, 2, 13),
        "fund_leverage_factor": 0.0,
    }
    assert (found.problems, found.rejected.height, broken(found)) == ((), 0, {})
    assert {kind.partition(":")[0] for kind in found.counts} == {"sentinel"}
    assert found.counts["sentinel:interest_coverage"] == 1


def test_fund_without_most_figures() -> None:
    """Figures not sent are null; no dividends are 0 as sent, unknown shares are null; zeros of a CUSIP are kept."""
    row = normalized(payload("instruments/fundamental.json")).frame.row(1, named=True)
    assert (row["instrument_type"], row["cusip"], row["fund_leverage_factor"]) == ("ETF", "000000012", 2.0)
    assert (row["dividend_amount"], row["dividend_yield"], row["dividend_frequency"]) == (0.0, 0.0, 0)
    assert (row["shares_outstanding"], row["price_earnings_ratio"], row["beta"]) == (None, None, None)


def test_search_has_no_fundamentals() -> None:
    """Instruments found by a search have who they are and nothing else; an empty CUSIP is none."""
    found = normalized(payload("instruments/search.json"), request=instruments.search("idx"))
    assert found.frame.select("symbol", "cusip", "market_cap").rows() == [
        ("XYZ", "012345678", None),
        ("$IDX", None, None),
    ]
    assert (found.problems, dict(found.counts), broken(found)) == ((), {}, {})


def test_bare_instrument_of_a_cusip() -> None:
    """The form of the specification, without the list around it, gives the same row as the wrapped one."""
    bare = normalized(payload("instruments/bare.json"), request=instruments.by_cusip("012345678"))
    wrapped = normalized(
        {"instruments": [document("instruments/bare.json")]}, request=instruments.by_cusip("000000000")
    )
    assert bare.frame.height == 1
    assert bare.frame.equals(wrapped.frame)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-08-12 00:00:00.0", date(2024, 8, 12)),
        ("2024-08-12", date(2024, 8, 12)),
        ("2024-08-12T00:00:00", date(2024, 8, 12)),
        ("2024-08-12T04:00:00Z", date(2024, 8, 12)),
        ("2024-08-12T02:00:00.000+00:00", date(2024, 8, 11)),
        ("0001-01-01 00:00:00.0", None),
        ("2024-02-31 00:00:00.0", None),
        ("12 August", None),
        ("", None),
    ],
)
def test_dates_of_every_form(text: str, expected: date | None) -> None:
    """A date alone stands for itself, an instant for its date in New York; anything else is null and counted."""
    found = with_first(lambda entry: entry["fundamental"].update(dividendDate=text))
    assert found.frame["dividend_ex_date"][0] == expected
    assert found.counts.get("sentinel:dividend_ex_date", 0) == (expected is None)


def test_symbols_left_out_are_problems() -> None:
    """A symbol asked for that the answer does not hold is told; the others stand."""
    (request,) = instruments.requests(["XYZ", "XYF", "NOPE"])
    found = normalized(payload("instruments/fundamental.json"), request=request)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [("not_answered", ("NOPE",))]
    assert found.frame.height == 2


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{}", 200, "nothing_found"),
        (b'{"instruments": []}', 200, "nothing_found"),
        (b'{"errors": []}', 200, "error_body"),
        (b'{"screeners": []}', 200, "missing_field"),
        (b"{}", 404, "http_status"),
    ],
)
def test_answers_without_instruments_are_problems(body: bytes, status: int, reason: str) -> None:
    """Nothing found has two forms; a refusal and another endpoint's answer are told apart from it."""
    found = normalized(body, status=status)
    assert [problem.reason for problem in found.problems] == [reason]
    assert found.frame.is_empty()


def test_fundamentals_of_another_symbol_are_rejected() -> None:
    """Figures below the wrong instrument are not taken for its own."""
    found = with_first(lambda entry: entry["fundamental"].update(symbol="ZZZ"))
    assert found.rejected["rule"].to_list() == ["fundamentals_of_another"]
    assert "ZZZ" in found.rejected["detail"][0]
    assert (found.frame["symbol"].to_list(), found.problems) == (["XYF"], ())


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cusip": 12345678}, "type_cusip"),
        ({"fundamental": {"beta": "high"}}, "type_beta"),
        ({"symbol": None}, "type_symbol"),
    ],
)
def test_bad_instrument_is_rejected_alone(change: dict[str, Any], rule: str) -> None:
    """A CUSIP that lost its zeros as a number, a wrong figure or no symbol spoils that instrument and no other."""
    found = with_first(lambda entry: entry.update(change))
    assert found.rejected["rule"].to_list() == [rule]
    assert found.frame["symbol"].to_list() == ["XYF"]
    assert found.counts["tolerant_parse"] == 1


def test_repeated_figure_is_rejected() -> None:
    """A figure that came twice within the fundamentals: nobody knows which is meant."""
    body = payload("instruments/fundamental.json").replace(b'"beta": 1.2,', b'"beta": 1.2, "beta": 1.3,')
    assert normalized(body).rejected["rule"].to_list() == ["repeated_field"]


def test_new_fields_are_counted() -> None:
    """What the source adds to an instrument or to its fundamentals is read past and seen."""
    found = with_first(lambda entry: [entry.update(isin="X"), entry["fundamental"].update(esgScore=7)])
    assert found.counts["unknown_field:instrument.isin"] == 1
    assert found.counts["unknown_field:fundamental.esgScore"] == 1
    assert found.frame.height == 2


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"sharesOutstanding": -1.0}, "negative_shares"),
        ({"marketCap": -1.0}, "negative_market_cap"),
        ({"dividendAmount": -1.0}, "negative_dividend"),
        ({"low52": 131.0}, "year_range_disordered"),
    ],
)
def test_rules(change: dict[str, Any], rule: str) -> None:
    """Each rule is broken by what it is about, and by nothing else here."""
    assert broken(with_first(lambda entry: entry["fundamental"].update(change))) == {rule: 1}


def test_cusip_of_another_length_is_noticed() -> None:
    """A CUSIP that lost a zero is kept and counted."""
    assert broken(with_first(lambda entry: entry.update(cusip="12345678"))) == {"cusip_malformed": 1}


def test_simulator_knows_instruments() -> None:
    """What the simulator answers to each kind of question is read without a complaint."""
    market, symbols = Market(7), ["AAPL", "SPY", "$SPX"]
    asked = [*instruments.requests(symbols), instruments.search("apple", projection="desc-search")]
    responses = [
        answered(request, answer(market, RECEIVED, request.path, dict(request.params)).body) for request in asked
    ]
    found = instruments.normalize(responses, session_date=SESSION)
    assert set(symbols) <= set(found.frame["symbol"])
    assert (found.problems, found.rejected.height) == ((), 0)
