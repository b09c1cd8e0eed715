"""Thousands of spoiled answers: none raises or hangs, every row is kept or in quarantine, none kept breaks a rule.

Rows are counted, rules checked and values compared here once more, in plain Python. Controls that raise, drop rows,
take a text for a number, or forget one rule are each found out.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

import polars as pl
import pytest
from mutations import mutated_bodies, nudged_bodies, shortened
from plain_rules import PLAIN_RULES, broken_rules
from recorded_fields import BAR, BLOCKS, CONTRACT, ENTRY, Trace
from recorded_reference import EXPIRATION, FUNDAMENTAL, INSTRUMENT, MOVER, PRODUCT
from wire_bodies import PAYLOADS, RECEIVED, RECORDINGS, document

from trade_analyst_pipeline.datasets import DATASETS, Dataset
from trade_analyst_pipeline.market.normalized import Normalized, request_text
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.validation import Validated, all_rules, validate

pytestmark = pytest.mark.reliability

BODIES_IN_ALL = 20_000
BODIES_PER_DATASET = 250  # in quick form
BODIES_AT_ONCE = 100
SLOWEST_BATCH_SECONDS = 10.0  # a body over 100 ms shows in a hundred of them
# Before anything recorded or made by hand expires.
SESSION = date(2024, 5, 17)
# Payloads whose mutations a dataset is given, and beginnings of recordings' names.
OWN = {
    "options": (["options/chain.json"], ["chain_"]),
    "quotes": (["quotes/several.json"], ["quote_", "quotes_mixed"]),
    "ohlc": (["ohlc/daily.json", "ohlc/minute.json"], ["pricehistory_"]),
    "expirations": (["expirations/list.json"], ["expirationchain_"]),
    "markets": (["markets/half_day.json", "markets/closed_day.json"], ["markets_"]),
    "instruments": (
        ["instruments/fundamental.json", "instruments/search.json", "instruments/bare.json"],
        ["instruments_"],
    ),
    "movers": (["movers/by_volume.json", "movers/after_hours.json"], ["movers_"]),
}
# Each dataset is also given what its endpoint answers when there is nothing, and answers of other endpoints.
OTHERS = {
    "options": ["options/empty_chain.json", "quotes/several.json"],
    "quotes": ["quotes/not_found.json", "ohlc/daily.json"],
    "ohlc": ["ohlc/empty.json", "options/chain.json"],
    "expirations": ["expirations/empty.json", "options/chain.json"],
    "markets": ["markets/not_found.json", "quotes/several.json"],
    "instruments": ["instruments/not_found.json", "movers/by_volume.json"],
    "movers": ["movers/empty.json", "expirations/list.json"],
}
# What a request without which an answer says nothing has to name.
ASKED_SYMBOLS = {"expirations": ("XYZ",), "movers": ("$SPX",)}

Normalize = Callable[..., Normalized]
Judge = Callable[[pl.DataFrame], Validated]


# -- rows of a body, found apart from the code under test ------------------------------------------------------------


class Members(list[tuple[str, Any]]):
    """The members of a JSON object, repeated keys included."""


def offered(name: str, body: bytes) -> list[Any] | None:
    """The rows a body offers; None when it is no JSON at all."""
    try:
        value = json.loads(body.decode("utf-8", "surrogateescape"), object_pairs_hook=Members)
    except (ValueError, RecursionError):
        return None
    return ROWS_OF[name](value) if isinstance(value, Members) else []


def contracts(chain: Members) -> list[Any]:
    """The contracts of a chain, two levels below each of its maps."""
    found = []
    for side in (side for key, side in chain if key in {"callExpDateMap", "putExpDateMap"} and side is not None):
        if not isinstance(side, Members):
            found.append(side)
            continue
        for _, strikes in side:
            listed = [each for _, each in strikes] if isinstance(strikes, Members) else [strikes]
            found += [contract for each in listed for contract in members_of_list(each)]
    return found


def members_of_list(value: Any) -> list[Any]:
    """The members of a list; whatever stands in place of a list is one."""
    return list(value) if isinstance(value, list) and not isinstance(value, Members) else [value]


def listed_below(member: str, answer: Members) -> list[Any]:
    """The members of each list of that name."""
    return [row for key, rows in answer if key == member and rows is not None for row in members_of_list(rows)]


def instruments(answer: Members) -> list[Any]:
    """The instruments of an answer, which may be a single one without a list."""
    names = {key for key, _ in answer}
    return [answer] if "cusip" in names and "instruments" not in names else listed_below("instruments", answer)


def products(answer: Members) -> list[Any]:
    """The products of each market; whatever stands in place of an object of them is one."""
    return [
        product
        for _, market in answer
        for product in ([each for _, each in market] if isinstance(market, Members) else [market])
    ]


ROWS_OF: dict[str, Callable[[Members], list[Any]]] = {
    "options": contracts,
    "quotes": lambda answer: [entry for key, entry in answer if key != "errors"],
    "ohlc": partial(listed_below, "candles"),
    "expirations": partial(listed_below, "expirationList"),
    "markets": products,
    "instruments": instruments,
    "movers": partial(listed_below, "screeners"),
}


# -- values of rows, compared with the wire --------------------------------------------------------------------------

# Texts and epochs for one date, and what becomes one text, are compared with recordings instead.
NOT_COMPARED = {"expiration_date", "last_trading_date", "deliverables", "option_roots", "session_hours"}
FIELDS: dict[str, dict[str, dict[str, Trace]]] = {
    "options": {"": CONTRACT},
    "quotes": {"": ENTRY, **BLOCKS},
    "ohlc": {"": BAR},
    "expirations": {"": EXPIRATION},
    "markets": {"": PRODUCT},
    "instruments": {"": INSTRUMENT, "fundamental": FUNDAMENTAL},
    "movers": {"": {name: trace for name, trace in MOVER.items() if name != "description"}},
}
# The field, and its column, that tells which wire row a row may be; of the others any.
NAMED_BY = {"options": ("symbol", "option_symbol"), "quotes": ("symbol", "symbol"), "ohlc": ("volume", "volume")}


def invented(name: str, row: dict[str, Any], wires: list[Any]) -> list[str]:
    """The values of a row that no field of a wire row of that name states, with the nearest wire row's."""
    same = [dict(each) for each in wires if isinstance(each, Members)]
    if name in NAMED_BY:
        wire_name, column = NAMED_BY[name]
        same = [wire for wire in same if wire.get(wire_name) == row[column]]
    found = [unstated(row, wire, FIELDS[name]) for wire in same]
    return min(found, key=len, default=[f"no wire row is that of {row}"])


def unstated(row: dict[str, Any], wire: dict[str, Any], fields: dict[str, dict[str, Trace]]) -> list[str]:
    """The columns with a value that this wire row does not state."""
    stated: dict[str, list[Any]] = {}
    for block, traces in fields.items():
        members = wire.get(block) if block else Members(wire.items())
        for field_name, value in members if isinstance(members, Members) else ():
            if field_name in traces:
                column, told = traces[field_name]
                stated.setdefault(column, []).append((value, told))
    compared = {column for traces in fields.values() for column, _ in traces.values()} - NOT_COMPARED
    return [
        f"{column} {row[column]!r}, wire {stated.get(column)}"
        for column in compared
        if row[column] is not None and not any(states(row[column], *each) for each in stated.get(column, ()))
    ]


def states(value: Any, wire: Any, told: Callable[[Any], Any]) -> bool:
    """Whether a wire value, told in our units, is that value; a flag is no number and a text is none."""
    if isinstance(wire, bool) != isinstance(value, bool):
        return False
    try:
        expected = told(wire)
        if isinstance(expected, int | float) and isinstance(value, float):
            return math.isclose(float(expected), value, rel_tol=1e-15)
    except (TypeError, ValueError, OverflowError, KeyError, AttributeError):
        return False
    return bool(expected == value)


# -- the harness -----------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What became of bodies: rows by what happened to them, what was seen, and everything that is wrong with it."""

    rows: Counter[str] = field(default_factory=Counter)
    reasons: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0


def responses(name: str, bodies: Iterable[bytes]) -> list[RawResponse]:
    """One response per body, told apart by their times and by a number in the query."""
    made = []
    for number, body in enumerate(bodies):
        arrived = RECEIVED + timedelta(milliseconds=number)
        query = (("symbol", f"N{number}"), ("frequencyType", "daily"))
        request = MarketDataRequest(name, "/x", query, ASKED_SYMBOLS.get(name, ()))
        made.append(RawResponse(request, 200, body, (), arrived, arrived))
    return made


# Problems of single symbols of an answer whose other rows are used.
PARTIAL = {"unknown_symbol", "not_answered"}


def examine(
    dataset: Dataset, bodies: list[bytes], *, normalize: Normalize | None = None, judge: Judge | None = None
) -> Found:
    """What a dataset makes of bodies as captures of a hundred, or another reader or judge in its place."""
    found = Found()
    normalize, judge = normalize or dataset.normalize, judge or partial(validate, schema=dataset.schema)
    for start in range(0, len(bodies), BODIES_AT_ONCE):
        _examine(found, dataset.name, bodies[start : start + BODIES_AT_ONCE], normalize, judge)
    return found


def _examine(found: Found, name: str, bodies: list[bytes], normalize: Normalize, judge: Judge) -> None:
    asked = responses(name, bodies)
    started = time.process_time()
    try:
        made = normalize(asked, session_date=SESSION)
        judged = judge(made.frame)
    except Exception as error:  # noqa: BLE001 - that nothing whatever is raised is what is tested
        if len(bodies) == 1:
            found.wrong.append(f"{type(error).__name__}: {error} on {bodies[0][:200]!r}")
        else:
            for body in bodies:
                _examine(found, name, [body], normalize, judge)
        return
    found.slowest = max(found.slowest, time.process_time() - started)
    rows = judged.valid.rows(named=True)
    found.rows += Counter(kept=len(rows), quarantined=judged.quarantined.height, rejected=made.rejected.height)
    found.reasons |= {problem.reason for problem in made.problems}
    found.counts += Counter(made.counts)
    found.wrong += [f"{count} rows kept break {rule}" for rule, count in broken_rules(name, rows).items()]
    found.wrong += [text for text in map(reason_missing, made.rejected.rows(named=True)) if text]
    found.wrong += _unaccounted(name, asked, made, judged, rows)


def _unaccounted(
    name: str, asked: list[RawResponse], made: Normalized, judged: Validated, rows: list[dict[str, Any]]
) -> list[str]:
    """Bodies whose rows are not all kept or bad, and kept rows that are not as the body states them."""
    wrong = []
    arrival = "known_time" if name == "ohlc" else "snapshot_time"
    bad = Counter(judged.quarantined[arrival]) + Counter(made.rejected["snapshot_time"])
    without_rows = {problem.request for problem in made.problems if problem.reason not in PARTIAL}
    kept: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        kept.setdefault(row[arrival], []).append(row)
    for response in asked:
        instant, wires = response.received_time, offered(name, response.body)
        of_body = kept.get(instant, [])
        if request_text(response.request.path, response.request.params) in without_rows:
            expected = 0
        else:
            expected = -1 if wires is None else len(wires)
        if len(of_body) + bad[instant] != expected:
            text = f"{expected} rows offered, {len(of_body)} kept, {bad[instant]} bad: {response.body[:300]!r}"
            wrong.append(text)
        wrong += [text for row in of_body for text in invented(name, row, wires or [])]
    return wrong


def reason_missing(row: dict[str, Any]) -> str:
    """A complaint about a rejected row that does not say what, why and from where."""
    complete = row["rule"] and row["detail"] and row["request"] and row["source"] and row["snapshot_time"]
    return "" if complete else f"a rejected row without a reason: {row}"


def documents(name: str) -> list[Any]:
    """What a dataset's mutations are made of: its payloads and, where they are, its recordings, and some others."""
    payloads, beginnings = OWN[name]
    found = [document(payload) for payload in payloads if (PAYLOADS / payload).is_file()]
    for beginning in beginnings:
        found += [
            shortened(json.loads(path.read_bytes()))
            for path in sorted((RECORDINGS / "schwab").glob(f"{beginning}*.json"))
        ]
    return found * 3 + [document(other) for other in OTHERS[name] if (PAYLOADS / other).is_file()]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_spoiled_answers_are_accounted_for(name: str, is_full: bool, harness_seed: int) -> None:
    """Nothing raises; rows kept and in quarantine are those offered, body by body; no row kept breaks a rule."""
    number = -(-BODIES_IN_ALL // len(DATASETS)) if is_full else BODIES_PER_DATASET
    found = examine(DATASETS[name], list(mutated_bodies(documents(name), seed=harness_seed, count=number)))
    has_recordings = (RECORDINGS / "schwab").is_dir()
    print(
        f"{name}: {number:,} bodies{'' if has_recordings else ' (NOT RUN: recordings are absent, payloads only)'}, "
        f"{len(found.wrong)} complaints; rows {dict(found.rows)}; {len(found.reasons)} reasons of refused answers; "
        f"slowest {BODIES_AT_ONCE} bodies {found.slowest:.2f} s"
    )
    assert found.wrong == []
    assert found.slowest < SLOWEST_BATCH_SECONDS
    # neither all hopeless nor all harmless
    assert found.rows["kept"] > number / 4
    assert found.rows["rejected"] > number / 25
    assert len(found.reasons) >= 4
    assert found.counts["tolerant_parse"] > number / 25
    assert any(count.startswith("unknown_field:") for count in found.counts)


# -- controls --------------------------------------------------------------------------------------------------------


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


def lenient(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """A control: takes a text with a number in it for the number."""
    eased = [replace(response, body=_without_quotes(response.body)) for response in responses]
    return DATASETS["ohlc"].normalize(eased, session_date=session_date)


def _without_quotes(body: bytes) -> bytes:
    return body.replace(b'"12.5"', b"12.5")


@pytest.mark.parametrize("control", [naive, forgetful, lenient])
def test_control_is_caught(control: Normalize) -> None:
    """A reader that raises, one that drops rows and one that guesses are found out by the same harness."""
    candles = document("ohlc/daily.json")
    candles["candles"][0].update(open="12.5", low="12.5")
    bodies = [json.dumps(candles).encode(), *mutated_bodies([document("ohlc/daily.json")], seed=20260105, count=60)]
    assert examine(DATASETS["ohlc"], bodies, normalize=control).wrong


# Rules that a row cannot break without another: an open below zero lies below the low or takes the low with it.
NOT_ALONE = {"ohlc": {"open_not_positive", "high_not_positive", "close_not_positive"}}


def directed_bodies(name: str) -> list[bytes]:
    """Bodies that break the rules which one number alone does not."""
    found = document(OWN[name][0][0])
    if name == "options":
        texts = [
            ("260116C00100000", "240119C00100000", "2026-01-16T21", "2024-01-19T21"),
            ("260116C00100000", "260116C00000000", '"strikePrice": 100.0', '"strikePrice": 0.0'),
            ("260116C00100000", "260116X00100000", '"putCall": "CALL"', '"putCall": "X"'),
        ]
        chain = json.dumps(found)
        return [chain.replace(*pair[:2]).replace(*pair[2:]).encode() for pair in texts]
    if name == "expirations":
        found["expirationList"][0]["expirationDate"] = "2024-01-19"
        return [json.dumps(found).encode()]
    if name == "markets":
        ends = [spans[0]["end"] for spans in found["equity"]["EQ"]["sessionHours"].values()]
        equity = json.dumps({"equity": found["equity"]})
        return [equity.replace(f'"end": "{end}"', '"end": "2025-11-27T00:00:00-05:00"').encode() for end in ends]
    if name == "quotes":
        return [json.dumps(found).replace('"contractType": "C"', '"contractType": "X"').encode()]
    return []


def without(dataset: Dataset, rule: str) -> Judge:
    """A judge that knows all rules of a dataset that keep a row out, but one."""
    rules = tuple(each for each in dataset.schema.rules if each.severity == "error" and each.name != rule)
    return partial(validate, schema=replace(dataset.schema, rules=rules))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_judge_that_forgot_a_rule_is_caught(name: str) -> None:
    """Whichever rule of a dataset is left out, a row that breaks it is kept, and the harness says which."""
    dataset = DATASETS[name]
    payloads = [shortened(document(payload), 1 if name == "options" else 3) for payload in OWN[name][0]]
    bodies = [body for payload in payloads for body in nudged_bodies(payload)] + directed_bodies(name)
    made = dataset.normalize(responses(name, bodies), session_date=SESSION)
    assert broken_rules(name, validate(made.frame, dataset.schema).valid.rows(named=True)) == {}
    missed = {
        rule
        for rule in error_rules(dataset)
        if not broken_rules(name, without(dataset, rule)(made.frame).valid.rows(named=True))[rule]
    }
    print(f"{name}: {len(bodies):,} bodies, {len(error_rules(dataset))} rules left out one by one, missed: {missed}")
    assert missed == NOT_ALONE.get(name, set())


def error_rules(dataset: Dataset) -> list[str]:
    """The rules of a dataset's own that keep a row out."""
    return [rule.name for rule in dataset.schema.rules if rule.severity == "error"]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_plain_rules_are_those_of_the_dataset(name: str) -> None:
    """Every rule that keeps a row out is written here a second time, and no other."""
    known = set(PLAIN_RULES[name]) | ({"out_of_order"} if name == "ohlc" else set())
    assert known == set(error_rules(DATASETS[name]))
    general = {rule.name for rule in all_rules(DATASETS[name].schema)} - set(error_rules(DATASETS[name]))
    assert {"not_finite", "duplicate_key"} <= general


def test_harness_counts_rows_on_its_own() -> None:
    """The independent count of the payloads is what one sees in them."""
    first = {
        name: json.dumps(document(payloads[0])).encode() for name, (payloads, _) in OWN.items() if name in DATASETS
    }
    counted = {name: len(offered(name, body) or []) for name, body in first.items()}
    assert {name: counted[name] for name in ("options", "quotes", "ohlc")} == {"options": 4, "quotes": 4, "ohlc": 3}
    assert offered("ohlc", b"<html>") is None
