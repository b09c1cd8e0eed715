"""Put/call ratios: golden chains and published figures, a second reckoning in plain Python, scopes, reasons."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import COLUMNS
from trade_analyst_pipeline.market.sessions import session_close, sessions_ending
from trade_analyst_pipeline.metrics.put_call_ratio import (
    DAILY_SCHEMA,
    INPUT_COLUMNS,
    SCHEMA,
    put_call_ratio,
    put_call_ratio_daily,
)

DAY = date(2025, 3, 12)
SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
EXPIRATION = date(2025, 3, 21)

Contract = dict[str, Any]

# Cboe, 2020-02-18: call volume, put volume, ratio at full precision, ratio as published
CBOE = {
    "TOTAL": (3334848, 2604381, 0.7810, 0.78),
    "INDEX": (1284550, 1367015, 1.0642, 1.06),
    "ETP": (575052, 485444, 0.8442, 0.84),
    "EQUITY": (1475246, 751922, 0.5097, 0.51),
    "VIX": (604772, 291430, 0.4819, 0.48),
    "SPX+SPXW": (581470, 1041710, 1.7915, 1.79),
    "OEX": (738, 447, 0.6057, 0.61),
}


def contract(letter: str, **fields: Any) -> Contract:
    """A contract with 10 traded and 100 open, quoted 2.00 at 2.20, unless said otherwise."""
    return {
        "symbol": "XYZ",
        "session_date": DAY,
        "snapshot_time": SNAPSHOT,
        "chain_scope": "full",
        "option_type": letter,
        "expiration_date": EXPIRATION,
        "bid": 2.00,
        "ask": 2.20,
        "last": 2.50,
        "volume": 10,
        "open_interest": 100,
        "multiplier": 100.0,
        "vendor_delta": 0.5 if letter == "C" else -0.5,
        "is_non_standard": False,
        "is_mini": False,
    } | fields


def table(rows: list[Contract]) -> pl.DataFrame:
    """Contracts as rows of `options`."""
    return pl.DataFrame(rows, schema={name: COLUMNS[name].dtype for name in INPUT_COLUMNS})


def row_of(found: pl.DataFrame, scope: str = "underlying", **where: Any) -> dict[str, Any]:
    """The only row of a scope that matches."""
    rows = found.filter(pl.col("scope") == scope, *(pl.col(name) == value for name, value in where.items()))
    assert rows.height == 1
    return rows.row(0, named=True)


def underlying(rows: list[Contract], **options: Any) -> dict[str, Any]:
    """The row of the whole chain."""
    return row_of(put_call_ratio(table(rows), **options))


def recorded(path: Path) -> list[Contract]:
    """A recorded chain at its close."""
    return [
        contract(
            row["right"],
            symbol=row["underlying"],
            session_date=row["date"],
            snapshot_time=session_close(row["date"]),
            expiration_date=row["expiry"],
            vendor_delta=None,
            **{name: row[name] for name in ("bid", "ask", "last", "volume", "open_interest")},
        )
        for row in pl.read_csv(path, try_parse_dates=True).iter_rows(named=True)
    ]


def test_golden_chain_of_aapl(market_samples: Path) -> None:
    """Volume, open interest, premium at last and single expirations of AAPL 2014-06-06 are the golden ones."""
    found = put_call_ratio(table(recorded(market_samples / "chain_aapl_20140606.csv")), price="last")
    row = row_of(found)
    assert (row["call_volume"], row["put_volume"]) == (219342, 125616)
    assert row["put_call_volume_ratio"] == pytest.approx(0.5726946959542633, abs=1e-12)
    assert (row["call_open_interest"], row["put_open_interest"]) == (1399562, 920226)
    assert row["put_call_open_interest_ratio"] == pytest.approx(0.6575099924119118, abs=1e-12)
    assert row["put_call_premium_ratio"] == pytest.approx(0.2201617439193414, abs=1e-12)
    assert row["open_interest_date"] == date(2014, 6, 5)
    expirations = {
        date(2014, 6, 6): 0.6268101555,
        date(2014, 6, 13): 0.7492003489,
        date(2014, 6, 21): 0.6039559044,
        date(2014, 6, 27): 0.2894534257,
    }
    for day, ratio in expirations.items():
        assert row_of(found, "expiration", expiration_date=day)["put_call_volume_ratio"] == pytest.approx(
            ratio, abs=1e-10
        )


def test_golden_chain_of_goog(market_samples: Path) -> None:
    """Volume, open interest and premium at last of GOOG 2015-12-23 are the golden ones."""
    row = underlying(recorded(market_samples / "chain_goog_20151223.csv"), price="last")
    assert (row["call_volume"], row["put_volume"]) == (209328, 63711)
    assert row["put_call_volume_ratio"] == pytest.approx(0.3043596652144004, abs=1e-12)
    assert (row["call_open_interest"], row["put_open_interest"]) == (81117, 86102)
    assert row["put_call_open_interest_ratio"] == pytest.approx(1.0614544423487062, abs=1e-12)
    assert row["put_call_premium_ratio"] == pytest.approx(0.17518821407448776, abs=1e-12)


@pytest.mark.parametrize("product_class", CBOE)
def test_published_ratios_of_an_exchange(product_class: str) -> None:
    """The volumes Cboe published for 2020-02-18 give the ratios it published."""
    calls, puts, exact, published = CBOE[product_class]
    row = underlying([contract("C", volume=calls), contract("P", volume=puts)])
    assert row["put_call_volume_ratio"] == pytest.approx(exact, abs=5e-5)
    assert round(row["put_call_volume_ratio"], 2) == published


def test_universe_is_a_ratio_of_sums() -> None:
    """Symbols are added up before dividing: the mean of their ratios (the control) is another number."""
    parts = ("INDEX", "ETP", "EQUITY")
    rows = [
        contract(letter, symbol=name, volume=CBOE[name][i]) for name in parts for i, letter in enumerate(("C", "P"))
    ]
    row = row_of(put_call_ratio(table(rows)), "universe", symbol="universe")
    assert row["put_call_volume_ratio"] == pytest.approx(2604381 / 3334848, abs=1e-12)
    assert row["symbols"] == 3
    mean_of_ratios = sum(CBOE[name][1] / CBOE[name][0] for name in parts) / 3
    assert mean_of_ratios == pytest.approx(0.8060, abs=5e-5)
    assert abs(row["put_call_volume_ratio"] - mean_of_ratios) > 0.02


def test_a_small_chain_by_hand() -> None:
    """Every number of a chain of three contracts, worked by hand."""
    row = underlying(
        [
            contract("C", volume=30, open_interest=100, vendor_delta=0.6),
            contract("C", volume=10, open_interest=300, bid=None, last=1.00, vendor_delta=0.2),
            contract("P", volume=20, open_interest=50, bid=1.00, ask=1.10, vendor_delta=-0.4),
        ]
    )
    assert (row["put_call_volume_ratio"], row["put_volume_share"]) == (0.5, pytest.approx(100 / 3))
    assert (row["put_call_open_interest_ratio"], row["put_open_interest_share"]) == (0.125, pytest.approx(100 / 9))
    # calls 30 x 2.10 x 100 + 10 x 1.00 (last) x 100 = 7,300 dollars; puts 20 x 1.05 x 100 = 2,100
    assert (row["call_premium"], row["put_premium"]) == (7300.0, 2100.0)
    assert row["put_call_premium_ratio"] == pytest.approx(21 / 73)
    assert (row["premium_coverage"], row["premium_last_share"]) == (100.0, pytest.approx(100 / 6))
    # calls (30 x 0.6 + 10 x 0.2) x 100 = 2,000 shares; puts 20 x 0.4 x 100 = 800
    assert (row["call_delta_volume"], row["put_delta_volume"], row["put_call_delta_volume_ratio"]) == (2000, 800, 0.4)
    # calls (100 x 0.6 + 300 x 0.2) x 100 = 12,000 shares; puts 50 x 0.4 x 100 = 2,000
    assert row["put_call_delta_open_interest_ratio"] == pytest.approx(1 / 6)
    assert (row["delta_volume_coverage"], row["contracts"], row["excluded_contracts"]) == (100.0, 3, 0)
    assert row["open_interest_date"] == date(2025, 3, 11)


@pytest.mark.parametrize(
    ("rows", "ratio", "status", "share"),
    [
        ([contract("C"), contract("P")], 1.0, "ok", 50.0),
        ([contract("C"), contract("P", volume=0)], 0.0, "ok", 0.0),
        ([contract("C", volume=0), contract("P")], None, "no_calls", 100.0),
        ([contract("P")], None, "no_calls", 100.0),
        ([contract("C", volume=0), contract("P", volume=0)], None, "no_trades", None),
        ([contract("C", volume=None), contract("P", volume=None)], None, "unknown", None),
    ],
)
def test_volume_ratio_or_reason(rows: list[Contract], ratio: float | None, status: str, share: float | None) -> None:
    """Without calls there is no ratio, never infinity, but a reason; the share stays defined while anything traded."""
    row = underlying(rows)
    assert (row["put_call_volume_ratio"], row["volume_status"], row["put_volume_share"]) == (ratio, status, share)


def test_unknown_volume_is_not_zero() -> None:
    """Where no contract has a volume both sums are null."""
    row = underlying([contract("C", volume=None), contract("P", volume=None)])
    assert (row["call_volume"], row["put_volume"], row["premium_status"]) == (None, None, "unknown")
    assert row["open_interest_status"] == "ok"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"open_interest": 0}, {"open_interest_status": "no_open_interest", "put_open_interest_share": None}),
        ({"open_interest": None}, {"open_interest_status": "unknown", "call_open_interest": None}),
        ({"bid": None, "last": None}, {"premium_status": "no_price", "call_premium": None, "premium_coverage": 0.0}),
        ({"multiplier": None}, {"premium_status": "no_price", "delta_volume_status": "no_delta"}),
        ({"vendor_delta": None}, {"delta_volume_status": "no_delta", "delta_volume_coverage": 0.0}),
        ({"vendor_delta": 0.0}, {"delta_volume_status": "no_delta", "put_call_delta_volume_ratio": None}),
        ({"volume": 0}, {"premium_status": "no_trades", "delta_volume_status": "no_trades"}),
    ],
)
def test_other_ratios_or_reasons(change: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each ratio is null for its own reason, and what it lacks leaves the others alone."""
    row = underlying([contract("C", **change), contract("P", **change)])
    assert {name: row[name] for name in expected} == expected
    if "volume" not in change:
        assert row["put_call_volume_ratio"] == 1.0


def test_a_side_without_any_delta_has_no_ratio() -> None:
    """Puts that traded but have no delta do not count as zero."""
    row = underlying([contract("C"), contract("P", vendor_delta=None)])
    assert (row["put_call_delta_volume_ratio"], row["delta_volume_status"]) == (None, "no_delta")
    assert (row["put_delta_volume"], row["delta_volume_coverage"]) == (None, 50.0)


def test_crossed_and_one_sided_quotes_are_priced_at_last() -> None:
    """Only a two-sided quote that is not crossed has a mid."""
    crossed = contract("C", bid=2.4, ask=2.2, last=1.0)
    row = underlying([crossed, contract("C", bid=0.0, last=1.0), contract("C", ask=None, last=1.0), contract("P")])
    assert (row["call_premium"], row["put_premium"], row["premium_last_share"]) == (3000.0, 2100.0, 75.0)


def test_adjusted_and_mini_contracts_are_left_out_and_counted() -> None:
    """Contracts with another deliverable change no sum."""
    rows = [contract("C"), contract("P", volume=5)]
    odd = [contract("P", is_non_standard=True), contract("C", is_mini=True)]
    row = underlying(rows + odd)
    assert (row["contracts"], row["excluded_contracts"]) == (2, 2)
    assert {k: v for k, v in row.items() if k != "excluded_contracts"} == {
        k: v for k, v in underlying(rows).items() if k != "excluded_contracts"
    }


@pytest.mark.parametrize(
    ("days", "scope"),
    [
        *[(0, "days_0"), (1, "days_1_7"), (7, "days_1_7"), (8, "days_8_30"), (30, "days_8_30")],
        *[(31, "days_31_90"), (90, "days_31_90"), (91, "days_over_90")],
    ],
)
def test_buckets_of_days(days: int, scope: str) -> None:
    """Buckets are by calendar days from the session to the expiration, both ends included."""
    found = put_call_ratio(table([contract("C", expiration_date=DAY + timedelta(days=days))]))
    assert row_of(found, scope)["call_volume"] == 10
    assert found.filter(pl.col("scope").str.starts_with("days_")).height == 1


@pytest.mark.parametrize(
    ("delta", "scope"),
    [
        *[(0.399, "delta_otm"), (-0.4, "delta_atm"), (0.6, "delta_atm"), (-0.601, "delta_itm")],
        *[(1.0, "delta_itm"), (None, "delta_unknown")],
    ],
)
def test_buckets_of_delta(delta: float | None, scope: str) -> None:
    """Buckets are by the size of the vendor's delta; a contract without one is in a bucket of its own."""
    found = put_call_ratio(table([contract("P", vendor_delta=delta)]))
    assert row_of(found, scope)["put_volume"] == 10
    assert found.filter(pl.col("scope").str.starts_with("delta_")).height == 1


def random_chain(seed: int) -> list[Contract]:
    """Contracts of two symbols with holes in every field."""
    source = np.random.default_rng(seed)
    rows = []
    for _ in range(300):
        letter = source.choice(["C", "P"])
        bid = round(float(source.uniform(0.05, 9)), 2)
        hole = source.random(5) < 0.1
        rows.append(
            contract(
                str(letter),
                symbol=str(source.choice(["AAA", "BBB"])),
                expiration_date=DAY + timedelta(days=int(source.choice([0, 2, 9, 40, 200]))),
                bid=None if hole[0] else bid,
                ask=round(bid + float(source.uniform(-0.1, 0.5)), 2),
                last=None if hole[1] else round(bid + 0.07, 2),
                volume=int(source.integers(0, 500)),
                open_interest=int(source.integers(0, 5000)),
                vendor_delta=None if hole[2] else round(float(source.uniform(-1, 1)), 3),
                is_non_standard=bool(hole[3]),
            )
        )
    return rows


def plain_sums(rows: list[Contract], letter: str) -> dict[str, float]:
    """Sums of one side, from the definitions, without any table library."""
    sums = dict.fromkeys(("volume", "open_interest", "premium", "delta_volume", "delta_open_interest"), 0.0)
    for row in rows:
        if row["option_type"] != letter or row["is_non_standard"]:
            continue
        bid, ask, delta = row["bid"], row["ask"], row["vendor_delta"]
        price = (bid + ask) / 2 if bid is not None and ask >= bid else row["last"]
        sums["volume"] += row["volume"]
        sums["open_interest"] += row["open_interest"]
        sums["premium"] += row["volume"] * price * 100 if price is not None else 0
        sums["delta_volume"] += row["volume"] * abs(delta) * 100 if delta is not None else 0
        sums["delta_open_interest"] += row["open_interest"] * abs(delta) * 100 if delta is not None else 0
    return sums


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_plain_reckoning_on_random_chains(seed: int) -> None:
    """Sums and ratios per symbol and per expiration equal those of a second, plain implementation."""
    rows = random_chain(seed)
    found = put_call_ratio(table(rows)).filter(pl.col("scope").is_in(["underlying", "expiration"]))
    assert found.height == 2 + 10
    for row in found.iter_rows(named=True):
        chosen = [
            other
            for other in rows
            if other["symbol"] == row["symbol"] and row["expiration_date"] in {None, other["expiration_date"]}
        ]
        calls, puts = plain_sums(chosen, "C"), plain_sums(chosen, "P")
        for name, value in calls.items():
            assert row[f"call_{name}"] == pytest.approx(value, rel=1e-12)
            assert row[f"put_{name}"] == pytest.approx(puts[name], rel=1e-12)
            assert row[f"put_call_{name}_ratio"] == pytest.approx(puts[name] / value, rel=1e-12)


def test_parts_add_up_to_the_whole() -> None:
    """Expirations, buckets of days and buckets of delta each add up to the underlying."""
    found = put_call_ratio(table(random_chain(9)))
    for symbol in ("AAA", "BBB"):
        whole = row_of(found, symbol=symbol)
        for start in ("expiration", "days_", "delta_"):
            parts = found.filter(pl.col("scope").str.starts_with(start), pl.col("symbol") == symbol)
            for name in ("call_volume", "put_open_interest", "contracts", "excluded_contracts"):
                assert parts[name].sum() == whole[name]


def test_order_of_rows_does_not_matter() -> None:
    """Shuffled input gives the same bits."""
    rows = table(random_chain(3))
    assert put_call_ratio(rows.sample(fraction=1, shuffle=True, seed=5)).equals(put_call_ratio(rows))


def test_scopes_of_chains_are_not_mixed() -> None:
    """A bounded and a full chain of one moment stay two rows, also in the universe."""
    rows = [contract("C"), contract("P", symbol="ZZZ", chain_scope="bounded strikes=15")]
    found = put_call_ratio(table(rows))
    universe = found.filter(pl.col("scope") == "universe")
    assert universe["chain_scope"].to_list() == ["bounded strikes=15", "full"]
    assert universe["symbols"].to_list() == [1, 1]


def test_universe_takes_each_symbols_closing_snapshot() -> None:
    """Of each symbol the last snapshot up to its own close is added; a snapshot after the close is not."""
    late = session_close(DAY, "late") - timedelta(minutes=5)
    rows = [
        contract("C", volume=1, snapshot_time=SNAPSHOT - timedelta(minutes=10)),
        contract("C", volume=10),
        contract("C", volume=100, snapshot_time=session_close(DAY) + timedelta(minutes=1)),
        contract("P", volume=7, symbol="SPY", snapshot_time=late),
    ]
    row = row_of(put_call_ratio(table(rows)), "universe")
    assert (row["call_volume"], row["put_volume"], row["snapshot_time"]) == (10, 7, late)


def test_put_call_ratio_has_the_declared_shape() -> None:
    """Columns and types are the schema's, rows are unique and in key order, and no rule is broken."""
    found = put_call_ratio(table(random_chain(1)))
    assert found.schema == SCHEMA.polars_schema
    assert found.select(SCHEMA.key).is_unique().all()
    assert found.equals(found.sort(SCHEMA.key))
    assert found.select(pl.col(sorted(SCHEMA.required)).null_count()).sum_horizontal().item() == 0
    for rule in SCHEMA.rules:
        assert found.select(rule.passes.fill_null(value=True).all()).item(), rule.name


def test_no_contracts_give_empty_tables() -> None:
    """Without rows both tables are empty and of their shape."""
    assert put_call_ratio(table([])).equals(SCHEMA.empty())
    assert put_call_ratio_daily(SCHEMA.empty()).equals(DAILY_SCHEMA.empty())


# -------------------------------------------------------------------------------------------- one row a session


def closing_chains(volumes: list[tuple[int, int]], **fields: Any) -> list[Contract]:
    """A call and a put with those volumes at the closing snapshot of each of the sessions that end with DAY."""
    return [
        contract(
            letter, volume=volume, session_date=day, snapshot_time=session_close(day) - timedelta(minutes=5), **fields
        )
        for day, pair in zip(sessions_ending(DAY, len(volumes)), volumes, strict=True)
        for letter, volume in zip("CP", pair, strict=True)
    ]


def daily(rows: list[Contract]) -> pl.DataFrame:
    """The daily table of the contracts."""
    return put_call_ratio_daily(put_call_ratio(table(rows)))


def test_smoothed_ratio_is_of_summed_volumes() -> None:
    """Over 5 sessions: puts 10+20+30+40+50 over calls 100, not the mean of the five ratios."""
    found = daily(closing_chains([(20, 10), (20, 20), (20, 30), (10, 40), (30, 50)])).filter(pl.col("symbol") == "XYZ")
    assert found["put_call_volume_ratio_5"].to_list() == [None] * 4 + [1.5]
    mean_of_ratios = (0.5 + 1 + 1.5 + 4 + 5 / 3) / 5
    assert mean_of_ratios == pytest.approx(1.7333, abs=1e-4)
    assert found["put_call_volume_ratio_10"].null_count() == 5
    assert found["put_call_volume_ratio"].to_list() == pytest.approx([0.5, 1, 1.5, 4, 5 / 3])


def test_smoothed_ratio_over_ten_and_twenty_one() -> None:
    """Each length needs exactly that many sessions."""
    found = daily(closing_chains([(10, i) for i in range(25)])).filter(pl.col("symbol") == "XYZ")
    assert found["put_call_volume_ratio_10"].null_count() == 9
    assert found["put_call_volume_ratio_21"].null_count() == 20
    assert found["put_call_volume_ratio_10"][-1] == pytest.approx(sum(range(15, 25)) / 100)
    assert found["put_call_volume_ratio_21"][-1] == pytest.approx(sum(range(4, 25)) / 210)


def test_smoothed_ratio_needs_every_session_and_a_call() -> None:
    """A missing session, or no calls in all of them, gives null, never a shorter window or infinity."""
    rows = closing_chains([(10, 10)] * 6)
    missing = [row for row in rows if row["session_date"] != sessions_ending(DAY, 3)[0]]
    assert daily(missing)["put_call_volume_ratio_5"].null_count() == 10
    no_calls = daily(closing_chains([(0, 10)] * 5))
    assert (no_calls["put_call_volume_ratio_5"].null_count(), no_calls["volume_status"][0]) == (10, "no_calls")


def test_smoothing_does_not_cross_chain_scopes() -> None:
    """Four bounded sessions and a full one are no five sessions of one scope."""
    rows = closing_chains([(10, 10)] * 5)
    mixed = [row | {"chain_scope": "full" if row["session_date"] == DAY else "bounded"} for row in rows]
    assert daily(rows)["put_call_volume_ratio_5"].drop_nulls().to_list() == [1.0, 1.0]
    assert daily(mixed)["put_call_volume_ratio_5"].null_count() == 10


def test_daily_row_is_of_the_closing_snapshot() -> None:
    """Of several snapshots of a session the last one up to the close gives the daily row."""
    rows = [
        contract("C", volume=1, snapshot_time=SNAPSHOT - timedelta(minutes=10)),
        contract("C", volume=2),
        contract("C", volume=3, snapshot_time=session_close(DAY) + timedelta(minutes=1)),
    ]
    found = daily(rows)
    assert found.filter(pl.col("symbol") == "XYZ")["call_volume"].to_list() == [2]
    assert found["symbol"].to_list() == ["XYZ", "universe"]


def test_daily_table_has_the_declared_shape() -> None:
    """Columns and types are the schema's, rows in key order; a second symbol does not change the first."""
    one, two = closing_chains([(10, i) for i in range(8)]), closing_chains([(3, 1)] * 7, symbol="ABC")
    found = daily(one + two)
    assert found.schema == DAILY_SCHEMA.polars_schema
    assert found.equals(found.sort(DAILY_SCHEMA.key))
    only_one = daily(one)
    assert found.filter(pl.col("symbol") == "XYZ").equals(only_one.filter(pl.col("symbol") == "XYZ"))
    ratios = found["put_call_volume_ratio_5"].drop_nulls().to_list()
    assert all(math.isfinite(ratio) for ratio in ratios)
