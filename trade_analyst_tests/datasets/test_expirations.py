"""Expirations: one row an entry, both names of the date, roots of every form, what is refused and what is rejected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from wire_bodies import RECEIVED, SESSION, answered, changed, document, payload

from trade_analyst_pipeline.datasets import expirations
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

(REQUEST,) = expirations.requests(["XYZ"])


def normalized(*bodies: Any, request: MarketDataRequest = REQUEST, **response: Any) -> Normalized:
    """What the dataset makes of these bodies as one capture."""
    return expirations.normalize([answered(request, body, **response) for body in bodies], session_date=SESSION)


def with_first(change: Callable[[dict[str, Any]], Any]) -> Normalized:
    """The payload with its first entry changed."""
    return normalized(changed(document("expirations/list.json"), lambda body: change(body["expirationList"][0])))


def broken(found: Normalized) -> dict[str, int]:
    """How many rows broke each rule that any broke."""
    return {name: count for name, count in validate(found.frame, expirations.SCHEMA).rule_counts.items() if count}


def test_one_request_for_each_symbol() -> None:
    """Each symbol is a question of its own."""
    made = expirations.requests(["XYZ", "$IDX"])
    assert [(request.path, request.params, request.symbols) for request in made] == [
        ("/expirationchain", (("symbol", "XYZ"),), ("XYZ",)),
        ("/expirationchain", (("symbol", "$IDX"),), ("$IDX",)),
    ]


def test_rows_of_a_list() -> None:
    """Every member of an entry is a column; morning and evening settlement of one date are two rows."""
    found = normalized(payload("expirations/list.json"))
    assert found.frame.row(0, named=True) == {
        "symbol": "XYZ",
        "session_date": date(2026, 1, 5),
        "snapshot_time": RECEIVED,
        "expiration_date": date(2026, 1, 5),
        "days_to_expiration": 0,
        "expiration_type": "W",
        "settlement_type": "P",
        "option_roots": "XYZ",
        "is_standard": True,
    }
    columns = ["expiration_date", "settlement_type", "option_roots", "is_standard"]
    assert found.frame.select(columns).rows()[1:] == [
        (date(2026, 1, 16), "A", "XYZ", True),
        (date(2026, 1, 16), "P", "XYZ,XYZW", True),
        (date(2026, 3, 31), "P", "XYZ1", False),
    ]
    assert (found.problems, found.rejected.height, dict(found.counts), broken(found)) == ((), 0, {}, {})


@pytest.mark.parametrize(
    ("roots", "expected"),
    [("SPX, SPXW", "SPX,SPXW"), (["SPX", "SPXW"], "SPX,SPXW"), (["SPX"], "SPX"), ("SPX,", "SPX")],
)
def test_roots_as_text_or_list(roots: Any, expected: str) -> None:
    """Several roots in one text, or in a list of texts, become one text of the same form."""
    found = with_first(lambda entry: entry.update(optionRoots=roots))
    assert found.frame["option_roots"][0] == expected
    assert found.frame.height == 4


@pytest.mark.parametrize("roots", [7, {"a": 1}, [1], "", " , ", []])
def test_roots_that_are_none_are_rejected(roots: Any) -> None:
    """Roots of another form make the row bad, with its own text."""
    found = with_first(lambda entry: entry.update(optionRoots=roots))
    assert found.rejected.select("symbol", "rule").rows() == [("XYZ", "type_option_roots")]
    assert '"expirationDate":"2026-01-05"' in found.rejected["source"][0]
    assert found.frame.height == 3


def test_specified_name_of_the_date() -> None:
    """The specification's `expiration` is read where the source's `expirationDate` is not sent."""
    found = with_first(lambda entry: entry.update(expiration=entry.pop("expirationDate")))
    assert found.frame["expiration_date"][0] == date(2026, 1, 5)
    assert not found.counts


@pytest.mark.parametrize("text", ["2026-13-01", "soon", "", None])
def test_no_date_no_row(text: str | None) -> None:
    """An entry without a date that is one breaks the rule that each has an expiration."""
    found = with_first(lambda entry: entry.update(expirationDate=text))
    assert broken(found) == {"required_expiration_date": 1}


def test_rules() -> None:
    """An expiration before the session is an error; days that do not count from the answer's day are a warning."""
    assert broken(with_first(lambda entry: entry.update(expirationDate="2026-01-02", daysToExpiration=-3))) == {
        "expired_before_session": 1
    }
    wrong = with_first(lambda entry: entry.update(daysToExpiration=3))
    assert broken(wrong) == {"days_disagree": 1}
    assert validate(wrong.frame, expirations.SCHEMA).valid.height == 4


def test_values_and_fields_not_known_are_counted() -> None:
    """A new settlement, a new member and a status of the whole are seen; a wrong type makes one row bad."""
    found = with_first(lambda entry: entry.update(settlementType="Z", mood="good"))
    assert found.counts == {"unknown_value:settlement_type=Z": 1, "unknown_field:expiration.mood": 1}
    found = normalized(changed(document("expirations/list.json"), lambda body: body.update(status="PARTIAL")))
    assert found.counts == {"unknown_value:status=PARTIAL": 1}
    found = with_first(lambda entry: entry.update(standard="yes"))
    assert found.rejected["rule"].to_list() == ["type_is_standard"]
    assert (found.frame.height, found.counts["tolerant_parse"]) == (3, 1)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("expirations/empty.json", 200, "no_expirations"),
        ("expirations/not_found.json", 404, "http_status"),
        ("expirations/not_found.json", 200, "error_body"),
        ("ohlc/daily.json", 200, "missing_field"),
    ],
)
def test_answers_without_expirations_are_problems(body: str, status: int, reason: str) -> None:
    """No entry, a refusal and another endpoint's answer: each is a problem of the symbol."""
    found = normalized(payload(body), status=status)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [(reason, ("XYZ",))]
    assert found.frame.is_empty()


def test_nobody_says_whose_they_are() -> None:
    """The answer does not name its symbol, so without one in the request there is no row."""
    found = normalized(payload("expirations/list.json"), request=MarketDataRequest("expirations", "import:x", (), ()))
    assert [problem.reason for problem in found.problems] == ["no_symbol"]


@pytest.mark.parametrize("symbol", ["AAPL", "$SPX", "SPY"])
def test_simulator_lists_expirations(symbol: str) -> None:
    """What the simulator answers is read without a complaint, the first expiration not before the day."""
    request = expirations.requests([symbol])[0]
    made = answer(Market(7), RECEIVED, request.path, dict(request.params))
    found = normalized(made.body, request=request)
    assert found.frame.height > 5
    assert (found.problems, found.rejected.height, dict(found.counts), broken(found)) == ((), 0, {}, {})
