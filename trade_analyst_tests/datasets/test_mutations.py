"""Thousands of spoiled answers: none raises, none hangs, and every row offered is kept or in quarantine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from mutations import mutated_bodies
from wire_bodies import RECEIVED, SESSION, document

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.market.normalized import Normalized, request_text
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.validation import validate

BODIES_PER_DATASET = 1_500
BODIES_AT_ONCE = 100
# Each dataset is also given bodies of the others.
DOCUMENTS = {
    "options": ["options/chain.json"] * 3 + ["options/empty_chain.json", "quotes/several.json"],
    "quotes": ["quotes/several.json"] * 3 + ["quotes/not_found.json", "ohlc/daily.json"],
    "ohlc": ["ohlc/daily.json", "ohlc/minute.json"] * 2 + ["ohlc/empty.json", "options/chain.json"],
}

Pairs = list[tuple[str, Any]]
Normalize = Callable[..., Normalized]


def offered_rows(name: str, body: bytes) -> int | None:
    """How many rows a body offers, counted apart from the code under test; None when it is no JSON at all."""
    try:
        value = json.loads(body.decode("utf-8", "surrogateescape"), object_pairs_hook=Members)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, Members):
        return 0
    return {"options": _contracts, "quotes": _entries, "ohlc": _bars}[name](value)


class Members(list[tuple[str, Any]]):
    """The members of a JSON object, repeated keys included."""


def _contracts(chain: Members) -> int:
    sides = [side for key, side in chain if key in {"callExpDateMap", "putExpDateMap"} and side is not None]
    count = 0
    for side in sides:
        if not isinstance(side, Members):
            count += 1
            continue
        for _, strikes in side:
            if not isinstance(strikes, Members):
                count += _listed(strikes)
                continue
            count += sum(_listed(listed) for _, listed in strikes)
    return count


def _listed(value: Any) -> int:
    return len(value) if isinstance(value, list) and not isinstance(value, Members) else 1


def _entries(answer: Members) -> int:
    return sum(key != "errors" for key, _ in answer)


def _bars(history: Members) -> int:
    lists = [bars for key, bars in history if key == "candles" and bars is not None]
    return sum(_listed(bars) for bars in lists)


def responses(name: str, bodies: Iterable[bytes]) -> list[RawResponse]:
    """One response per body, told apart by their times and by a number in the query."""
    made = []
    for number, body in enumerate(bodies):
        arrived = RECEIVED + timedelta(milliseconds=number)
        query = (("symbol", f"N{number}"), ("frequencyType", "daily"))
        made.append(RawResponse(MarketDataRequest(name, "/x", query, ()), 200, body, (), arrived, arrived))
    return made


def complaints(name: str, schema: TableSchema, normalize: Normalize, bodies: list[bytes]) -> list[str]:
    """What is wrong with how a dataset treats these bodies as one capture; empty when every row is accounted for."""
    asked = responses(name, bodies)
    try:
        found = normalize(asked, session_date=SESSION)
        judged = validate(found.frame, schema)
    except Exception as error:  # noqa: BLE001 - that nothing whatever is raised is what is tested
        if len(bodies) == 1:
            return [f"{type(error).__name__}: {error} on {bodies[0][:200]!r}"]
        return [text for body in bodies for text in complaints(name, schema, normalize, [body])]
    arrival = "known_time" if name == "ohlc" else "snapshot_time"
    kept = Counter(judged.valid[arrival])
    bad = Counter(judged.quarantined[arrival])
    bad.update(found.rejected["snapshot_time"])
    without_rows = {problem.request for problem in found.problems if problem.reason not in PARTIAL}
    wrong = [text for text in map(reason_missing, found.rejected.rows(named=True)) if text]
    for response in asked:
        instant, offered = response.received_time, offered_rows(name, response.body)
        seen = kept[instant] + bad[instant]
        if request_text(response.request.path, response.request.params) in without_rows:
            expected = 0
        else:
            expected = -1 if offered is None else offered
        if seen != expected:
            wrong.append(f"{offered} rows offered, {kept[instant]} kept, {bad[instant]} bad: {response.body[:300]!r}")
    return wrong


# Problems of single symbols of an answer whose other rows are used.
PARTIAL = {"unknown_symbol", "not_answered"}


def reason_missing(row: dict[str, Any]) -> str:
    """A complaint about a rejected row that does not say what, why and from where."""
    complete = row["rule"] and row["detail"] and row["request"] and row["source"] and row["snapshot_time"]
    return "" if complete else f"a rejected row without a reason: {row}"


def documents(name: str) -> list[Any]:
    """The payloads whose mutations a dataset is given."""
    return [document(payload) for payload in DOCUMENTS[name]]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_spoiled_answers_are_accounted_for(name: str) -> None:
    """Nothing raises, and rows kept and rows in quarantine add up to the rows offered, body by body."""
    dataset = DATASETS[name]
    bodies = list(mutated_bodies(documents(name), seed=20260105, count=BODIES_PER_DATASET))
    wrong = [
        text
        for start in range(0, len(bodies), BODIES_AT_ONCE)
        for text in complaints(name, dataset.schema, dataset.normalize, bodies[start : start + BODIES_AT_ONCE])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_mutations_reach_every_outcome(name: str) -> None:
    """The bodies are neither all hopeless nor all harmless: every kind of outcome occurs."""
    dataset = DATASETS[name]
    bodies = list(mutated_bodies(documents(name), seed=7, count=900))
    found = dataset.normalize(responses(name, bodies), session_date=SESSION)
    judged = validate(found.frame, dataset.schema)
    assert judged.valid.height > 100
    assert judged.quarantined.height > 0
    assert found.rejected.height > 20
    assert len({problem.reason for problem in found.problems}) >= 5
    assert found.counts["tolerant_parse"] > 20
    assert any(name.startswith("unknown_field:") for name in found.counts)


def naive(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:  # noqa: ARG001 - called like a dataset
    """A control: reads bars as one would without a thought for what could be wrong."""
    rows = [
        {"symbol": history["symbol"], "open": float(bar["open"]), "known_time": response.received_time}
        for response in responses
        for history in [json.loads(response.body)]
        for bar in history["candles"]
    ]
    return Normalized(pl.DataFrame(rows), pl.DataFrame())


def forgetful(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """A control: drops the rows that could not be typed."""
    found = DATASETS["ohlc"].normalize(responses, session_date=session_date)
    return Normalized(found.frame, found.rejected.clear(), found.problems, found.counts)


@pytest.mark.parametrize("control", [naive, forgetful])
def test_control_is_caught(control: Normalize) -> None:
    """A reader that raises, and one that drops rows without a trace, are both found out by the same harness."""
    bodies = list(mutated_bodies(documents("ohlc"), seed=20260105, count=100))
    assert complaints("ohlc", DATASETS["ohlc"].schema, control, bodies)


def test_harness_counts_rows_on_its_own() -> None:
    """The independent count of the payloads is what one sees in them."""
    bodies = {name: json.dumps(document(DOCUMENTS[name][0])).encode() for name in DOCUMENTS}
    assert {name: offered_rows(name, body) for name, body in bodies.items()} == {"options": 4, "quotes": 4, "ohlc": 3}
    assert offered_rows("ohlc", b"<html>") is None
