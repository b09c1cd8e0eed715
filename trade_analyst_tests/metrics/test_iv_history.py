"""The 30-day volatility: known truth recovered, a second reckoning in plain Python, golden chains, every reason."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import numpy as np
import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import COLUMNS, TIME
from trade_analyst_pipeline.market.quote_status import fresh_since, quote_status
from trade_analyst_pipeline.market.sessions import expiration_time, option_product, session_close, session_open
from trade_analyst_pipeline.metrics.iv_history import INPUT_COLUMNS, SCHEMA, SERIES, iv_history, snapshot_values

DAY = date(2025, 3, 12)  # a Wednesday; 16:00 New York is 20:00 UTC
SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
NEAR, FAR = date(2025, 4, 4), date(2025, 4, 17)
NORMAL = NormalDist()

Contract = dict[str, Any]


def black_scholes(forward: float, strike: float, years: float, rate: float, volatility: float, sign: int) -> float:
    """Price of a European option on a forward; sign 1 for a call, -1 for a put."""
    deviation = volatility * math.sqrt(years)
    d1 = math.log(forward / strike) / deviation + deviation / 2
    inside = forward * NORMAL.cdf(sign * d1) - strike * NORMAL.cdf(sign * (d1 - deviation))
    return math.exp(-rate * years) * sign * inside


def implied_volatility(forward: float, strike: float, years: float, rate: float, price: float, sign: int) -> float:
    """The volatility that gives the price, by bisection."""
    low, high = 1e-4, 5.0
    for _ in range(80):
        middle = (low + high) / 2
        if black_scholes(forward, strike, years, rate, middle, sign) < price:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def years_to(expiration: date, snapshot: datetime = SNAPSHOT) -> float:
    """Years of 365 days in seconds."""
    return (expiration_time(expiration) - snapshot).total_seconds() / (365 * 86400)


def smile(strike: float, forward: float, years: float) -> float:
    """A skewed volatility with term structure; 24 % at the money in 30 days, nearly."""
    return 0.22 + 0.25 * years - 0.12 * math.log(strike / forward)


def chain(
    expirations: Iterable[date] = (NEAR, FAR),
    *,
    symbol: str = "XYZ",
    session_date: date = DAY,
    snapshot: datetime = SNAPSHOT,
    spot: float = 100.0,
    rate: float = 0.04,
    volatility: Any = smile,
    strikes: Iterable[float] = tuple(80 + 2.5 * i for i in range(17)),
    half_spread: float = 0.02,
) -> list[Contract]:
    """A clean chain with the vendor's volatility equal to the true one; the forward grows at the rate."""
    rows = []
    for expiration in expirations:
        years = years_to(expiration, snapshot)
        forward = spot * math.exp(rate * years)
        for strike in strikes:
            for letter, sign in (("C", 1), ("P", -1)):
                true = volatility(strike, forward, years)
                price = black_scholes(forward, strike, years, rate, true, sign)
                rows.append(
                    {
                        "symbol": symbol,
                        "session_date": session_date,
                        "snapshot_time": snapshot,
                        "chain_scope": "full",
                        "option_root": symbol,
                        "option_type": letter,
                        "expiration_date": expiration,
                        "expiration_time": expiration_time(expiration),
                        "strike": strike,
                        "bid": price - half_spread,
                        "ask": price + half_spread,
                        "quote_time": snapshot - timedelta(seconds=20),
                        "vendor_implied_volatility": true,
                        "is_non_standard": False,
                        "is_mini": False,
                        "interest_rate": rate,
                        "underlying_price": spot,
                        "dividend_yield": 0.0,
                        "exercise_type": "E",
                    }
                )
    return rows


def table(rows: list[Contract]) -> pl.DataFrame:
    """Contracts as rows of `options`, the state of each quote as that table has it."""
    names = ("quote_time", *(name for name in INPUT_COLUMNS if name != "quote_status"))
    contracts = pl.DataFrame(rows, schema={name: COLUMNS[name].dtype for name in names})
    chains = contracts.select("symbol", "session_date", "snapshot_time").unique()
    fresh = [fresh_since(at, day, option_product(symbol)) for symbol, day, at in chains.iter_rows()]
    chains = chains.with_columns(pl.Series("fresh_since", fresh, TIME))
    return (
        contracts.join(chains, on=chains.columns[:3], maintain_order="left")
        .with_columns(quote_status("fresh_since"))
        .select(INPUT_COLUMNS)
    )


def vendor_history(rows: list[Contract]) -> pl.DataFrame:
    """The 30-day series of the vendor's volatilities."""
    return iv_history(table(rows)).filter(series="atm30_vendor")


def only_row(rows: list[Contract]) -> dict[str, Any]:
    """The single row the contracts give."""
    found = vendor_history(rows)
    assert found.height == 1
    return found.row(0, named=True)


def series_row(rows: list[Contract], series: str) -> dict[str, Any]:
    """The row of one series of the single symbol and session."""
    return iv_history(table(rows)).filter(series=series).row(0, named=True)


def changed(rows: list[Contract], change: dict[str, Any], **where: Any) -> list[Contract]:
    """The contracts with some fields replaced in those that match."""
    return [row | change if all(row[key] == value for key, value in where.items()) else row for row in rows]


# ------------------------------------------------------------------------------- a second reckoning, without tables


def is_fit(row: Contract) -> bool:
    """Whether a quote may be used, as the specification's table of cleaning rules says."""
    bid, ask = row["bid"], row["ask"]
    if row["is_non_standard"] or row["is_mini"] or bid is None or ask is None or bid <= 0 or bid > ask:
        return False
    spread, mid = round(ask * 1e4) - round(bid * 1e4), (round(ask * 1e4) + round(bid * 1e4)) / 2
    too_wide = spread / mid > 0.5 and spread > 1000
    age_limit = max(row["snapshot_time"] - timedelta(minutes=15), session_open(row["session_date"]))
    return not too_wide and mid >= 500 and row["quote_time"] is not None and row["quote_time"] >= age_limit


def plain_mid(row: Contract) -> float:
    """The mid of a quote, its prices read to 1/10000 dollar."""
    return (round(row["bid"] * 1e4) + round(row["ask"] * 1e4)) / 2e4


def plain_forward(pairs: dict[float, dict[str, Contract]], growth: float) -> float:
    """The forward of one expiry from its strikes with both sides."""
    gaps = {strike: plain_mid(pair["C"]) - plain_mid(pair["P"]) for strike, pair in pairs.items()}
    best = min(pairs, key=lambda strike: (round(abs(gaps[strike]), 6), strike))
    nearest = sorted(pairs, key=lambda strike: (abs(strike - best), strike))[:3]
    forwards = {strike: strike + growth * gaps[strike] for strike in nearest}
    slack = max((row["ask"] - row["bid"]) / 2 for strike in nearest for row in pairs[strike].values())
    is_spread = len(nearest) == 3 and max(forwards.values()) - min(forwards.values()) > slack
    return median(forwards.values()) if is_spread else forwards[best]


def plain_strike(pair: dict[str, Contract], strike: float, forward: float) -> tuple[float, bool] | None:
    """A strike's volatility and whether its sides agree, or None when it has no usable volatility."""
    call, put = (pair.get(letter, {}).get("vendor_implied_volatility") for letter in "CP")
    if call is not None and put is not None:
        apart = abs(call - put)
        return (call + put) / 2, apart <= 0.05 and apart <= 0.1 * (call + put)
    if call is not None and strike >= forward:
        return call, True
    if put is not None and strike <= forward:
        return put, True
    return None


def plain_expiry(rows: list[Contract], years: float, rate: float) -> float | None:
    """The at-the-money volatility of one expiry's fit contracts, or None when it cannot be used."""
    sides: dict[float, dict[str, Contract]] = {}
    for row in rows:
        sides.setdefault(row["strike"], {})[row["option_type"]] = row
    pairs = {strike: pair for strike, pair in sides.items() if len(pair) == 2}
    if not pairs:
        return None
    forward = plain_forward(pairs, math.exp(rate * years))
    found = {strike: plain_strike(pair, strike, forward) for strike, pair in sides.items()}
    usable = {strike: value for strike, value in found.items() if value is not None}
    below = [strike for strike in usable if round(strike * 1e4) <= round(forward * 1e4)]
    above = [strike for strike in usable if strike not in below]
    if not below or not above:
        return None
    low, high = max(below), min(above)
    if not (usable[low][1] and usable[high][1]):
        return None
    weight = math.log(forward / low) / math.log(high / low)
    return math.sqrt((1 - weight) * usable[low][0] ** 2 + weight * usable[high][0] ** 2)


def plain_value(rows: list[Contract], rate: float) -> float | None:
    """The 30-day volatility of one snapshot, from the definition."""
    found = {}
    for expiration in {row["expiration_date"] for row in rows}:
        years = years_to(expiration, rows[0]["snapshot_time"])
        if not 2 / 365 <= years <= 1:
            continue
        fit = [row for row in rows if row["expiration_date"] == expiration and is_fit(row)]
        result = plain_expiry(fit, years, rate)
        if result is not None:
            found[years] = result
    month = 30 / 365
    near, far = [years for years in found if years <= month], [years for years in found if years > month]
    if near and far:
        t1, t2 = max(near), min(far)
        w1, w2 = found[t1] ** 2 * t1, found[t2] ** 2 * t2
        return math.sqrt((w1 + (w2 - w1) * (month - t1) / (t2 - t1)) / month)
    single = [years for years in ([max(near)] if near else [min(far)] if far else []) if 23 <= years * 365 <= 37]
    return found[single[0]] if single else None


def spoilt(rows: list[Contract], seed: int) -> list[Contract]:
    """The chain with noise on prices and volatilities, and the faults a real one has."""
    source = np.random.default_rng(seed)
    result = []
    for row in rows:
        row = dict(row)
        shift, width = source.normal(0, 0.03), source.uniform(0, 0.08)
        row["bid"], row["ask"] = (
            round(max(row[side] + shift + add, 0.01), 2) for side, add in (("bid", -width), ("ask", width))
        )
        row["vendor_implied_volatility"] = round(row["vendor_implied_volatility"] + source.normal(0, 0.02), 5)
        fault = source.random()
        if fault < 0.05:
            row["bid"] = None
        elif fault < 0.10:
            row["vendor_implied_volatility"] = None
        elif fault < 0.15:
            row["quote_time"] = row["snapshot_time"] - timedelta(minutes=16)
        elif fault < 0.18:
            row["bid"], row["ask"] = row["ask"] + 0.05, row["bid"]
        elif fault < 0.21:
            row["bid"], row["ask"] = 0.4 * row["bid"], 1.8 * row["ask"]
        elif fault < 0.23:
            row["quote_time"] = None
        elif fault < 0.25:
            row["is_non_standard"] = True
        result.append(row)
    return result


WEEKLY = [DAY + timedelta(days=2 + 7 * week) for week in range(9)]
WEEKLY[5] = FAR  # Good Friday


@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_plain_reckoning_on_spoilt_chains(seed: int) -> None:
    """On chains with noise and every kind of fault the value equals that of a second, plain implementation."""
    rows = spoilt(chain(WEEKLY), seed)
    value = only_row(rows)["iv"]
    expected = plain_value(rows, 0.04)
    assert value == (None if expected is None else pytest.approx(expected, abs=1e-10))


def test_spoilt_chains_cover_value_and_flag() -> None:
    """The spoilt chains are hard enough to need the median forward and to lose expiries, and mostly keep a value."""
    rows = [row for seed in range(25) for row in changed(spoilt(chain(WEEKLY), seed), {"symbol": f"S{seed:02}"})]
    found = iv_history(table(rows))
    assert found.filter(pl.col("iv").is_not_null()).height >= 20
    assert found.filter(pl.col("flags").str.contains("forward_spread")).height >= 5
    assert found.filter(pl.col("flags").str.contains("expiry_skipped")).height >= 1


def test_value_is_the_same_to_the_bit_whatever_is_computed_beside_it() -> None:
    """Chains of many symbols at once give exactly the rows that each gives alone."""
    chains = [changed(spoilt(chain(WEEKLY), seed), {"symbol": f"S{seed:02}"}) for seed in range(25)]
    chains += [chain(symbol=f"T{minute:02}", snapshot=SNAPSHOT - timedelta(minutes=minute)) for minute in range(15)]
    at_once = iv_history(table([row for rows in chains for row in rows]))
    assert at_once.equals(pl.concat(iv_history(table(rows)) for rows in chains))


@pytest.mark.parametrize("spot", [100.0, 97.3, 102.5])
@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_recovers_the_true_volatility(spot: float, rate: float) -> None:
    """With the vendor's volatility equal to the truth, the true 30-day at-the-money volatility comes out."""
    row = only_row(chain(spot=spot, rate=rate, strikes=(92.5, 95.0, 97.5, 100.0, 102.5, 105.0, 107.5)))
    truth = []
    for expiration in (NEAR, FAR):
        years = years_to(expiration)
        truth.append((years, (0.22 + 0.25 * years) ** 2 * years))
    (t1, w1), (t2, w2) = truth
    month = 30 / 365
    expected = math.sqrt((w1 + (w2 - w1) * (month - t1) / (t2 - t1)) / month)
    assert row["iv"] == pytest.approx(expected, abs=1e-3)
    assert row["near_iv"] == pytest.approx(0.22 + 0.25 * t1, abs=1e-3)
    assert row["near_forward"] == pytest.approx(spot * math.exp(rate * t1), abs=0.01)
    assert (row["status"], row["flags"]) == ("ok", "")
    assert (row["near_expiration_date"], row["far_expiration_date"]) == (NEAR, FAR)
    assert row["near_days"] == pytest.approx(23 + 5 / 1440)
    assert (row["near_strikes"], row["discount_rate"], row["series"]) == (7, rate, "atm30_vendor")


# -------------------------------------------------------------------------------------------- golden chains


def recorded(path: Path, snapshot: datetime, rate: float, expirations: list[date], days: list[int]) -> list[Contract]:
    """A recorded chain; the vendor's volatility is the inversion of each mid at that expiry's golden forward."""
    lifetimes = dict(zip(expirations, days, strict=True))
    shared = {"snapshot_time": snapshot, "quote_time": snapshot, "is_non_standard": False, "is_mini": False}
    return [
        shared
        | {
            "symbol": row["underlying"],
            "session_date": row["date"],
            "chain_scope": "full",
            "option_root": row["underlying"],
            "option_type": row["right"],
            "expiration_date": row["expiry"],
            "expiration_time": snapshot + timedelta(days=lifetimes[row["expiry"]]),
            "strike": row["strike"],
            "bid": row["bid"],
            "ask": row["ask"],
            "interest_rate": rate,
        }
        for row in pl.read_csv(path, try_parse_dates=True).iter_rows(named=True)
        if row["expiry"] in lifetimes
    ]


@pytest.mark.parametrize(
    ("file", "day", "rate", "expirations", "days", "forwards", "atm", "iv30"),
    [
        (
            *("chain_aapl_20140606.csv", date(2014, 6, 6), 0.0004, [date(2014, 7, 3), date(2014, 7, 11)], [27, 35]),
            *([645.724873505, 645.925035480], [0.2252958404877, 0.2213981003578], 0.2235989397285),
        ),
        (
            *("chain_aapl_20140606.csv", date(2014, 6, 6), 0.0004, [date(2014, 6, 21), date(2014, 7, 19)], [14, 42]),
            *([645.65000997, 645.75003452], [0.2378881066075, 0.2230503831388], 0.2260958402708),
        ),
        (
            *("chain_goog_20151223.csv", date(2015, 12, 23), 0.002, [date(2016, 1, 15), date(2016, 2, 19)], [23, 58]),
            *([750.2500315, 750.6001907], [0.1833364392828, 0.2766069413907], 0.2240533894502),
        ),
    ],
)
def test_golden_chains(
    market_samples: Path,
    file: str,
    day: date,
    rate: float,
    expirations: list[date],
    days: list[int],
    forwards: list[float],
    atm: list[float],
    iv30: float,
) -> None:
    """Forwards, at-the-money volatilities and the 30-day value of recorded chains are the golden ones."""
    rows = recorded(market_samples / file, session_close(day), rate, expirations, days)
    golden = {exp: (n / 365, forward) for exp, n, forward in zip(expirations, days, forwards, strict=True)}
    for row in rows:
        years, forward = golden[row["expiration_date"]]
        near_the_money = abs(row["strike"] / forward - 1) < 0.05 and row["bid"] and row["ask"]
        price = (row["bid"] + row["ask"]) / 2 if near_the_money else 0.0
        sign = 1 if row["option_type"] == "C" else -1
        row["vendor_implied_volatility"] = (
            implied_volatility(forward, row["strike"], years, rate, price, sign) if near_the_money else None
        )
    without = changed(rows, {"vendor_implied_volatility": None})
    for row, digits in ((only_row(rows), 1e-9), (series_row(without, "atm30"), 1e-12)):
        assert [row["near_forward"], row["far_forward"]] == pytest.approx(forwards, abs=1e-6)
        assert [row["near_iv"], row["far_iv"]] == pytest.approx(atm, abs=digits)
        assert row["iv"] == pytest.approx(iv30, abs=digits)
        assert row["status"] == "ok"


# ------------------------------------------------------------------------------------------- maturities and sources

MONTHS = [
    date(2025, 3, 17),
    date(2025, 3, 21),
    NEAR,
    FAR,
    date(2025, 5, 16),
    date(2025, 6, 20),
    date(2025, 10, 17),
    date(2026, 3, 20),
]
LEAPS = [*MONTHS, date(2027, 1, 15)]


@pytest.mark.parametrize("source", ["", "_vendor"])
@pytest.mark.parametrize("days", [7, 30, 60, 90, 180, 365])
def test_each_maturity_is_that_of_the_true_term_structure(days: int, source: str) -> None:
    """Volatilities whose variance is linear in time between expiries come back at every maturity, from both sources."""

    def volatility(_strike: float, _forward: float, years: float) -> float:
        return math.sqrt((0.01 + 0.05 * years) / years)

    rows = chain(LEAPS, volatility=volatility, half_spread=0.0001, strikes=[60 + 2.5 * i for i in range(33)])
    row = series_row(rows, f"atm{days}{source}")
    assert row["iv"] == pytest.approx(volatility(0, 0, days / 365), abs=2e-5)
    assert row["near_days"] <= days < row["far_days"]
    assert row["status"] == "ok"


def test_our_own_series_needs_no_volatility_of_the_vendor() -> None:
    """Without vendor values only the vendor's series are null; of a wrong one ours knows nothing."""
    rows = chain(rate=0.0)
    without = iv_history(table(changed(rows, {"vendor_implied_volatility": None})))
    assert dict(
        without.filter(pl.col("series").is_in(["atm30", "atm30_vendor"])).select("series", "status").rows()
    ) == {
        "atm30": "ok",
        "atm30_vendor": "no_volatility",
    }
    wrong = series_row(changed(rows, {"vendor_implied_volatility": 0.9}), "atm30")
    assert (
        wrong["iv"]
        == series_row(rows, "atm30")["iv"]
        == pytest.approx(series_row(rows, "atm30_vendor")["iv"], abs=1e-4)
    )


def test_prices_without_a_volatility_take_no_part_in_ours() -> None:
    """A put at its intrinsic value has none; the call stands in when it is the side out of the money."""
    rows = chain(rate=0.0)
    own = series_row(changed(rows, {"bid": 0.01, "ask": 0.01}, option_type="C", strike=120.0), "atm30")
    assert own["status"] == "ok"
    flat = [row | {"bid": 99.0, "ask": 99.5} for row in rows]
    assert series_row(flat, "atm30")["status"] in {"no_quotes", "no_volatility", "no_strikes"}


@pytest.mark.parametrize(("days", "status"), [(68, "no_expiry"), (69, "single"), (111, "single"), (112, "no_expiry")])
def test_a_lone_expiry_serves_maturities_near_it(days: int, status: str) -> None:
    """Of 90 days: from 69 to 111; outside there is no value."""
    expiration = DAY + timedelta(days=days)
    rows = [row | {"expiration_time": SNAPSHOT + timedelta(days=days)} for row in chain([expiration])]
    row = series_row(rows, "atm90")
    assert (row["status"], row["iv"] is None) == (status, status == "no_expiry")


def test_early_exercise_is_flagged_beyond_60_days() -> None:
    """Of American contracts ours is inverted as if European; said where that matters, never of the vendor's."""
    american = changed(chain(LEAPS), {"exercise_type": "A"})
    flags = dict(iv_history(table(american)).select("series", "flags").rows())
    assert {series for series, words in flags.items() if "early_exercise" in words} == {
        *("atm60", "atm90", "atm180", "atm365")
    }
    assert not any("early_exercise" in words for words in iv_history(table(chain(LEAPS)))["flags"])


# -------------------------------------------------------------------------------------------- parts of the rule


def test_forward_is_signed() -> None:
    """With calls cheaper than puts at the closest strike the forward lies below that strike."""
    assert only_row(chain(spot=99.9, rate=0.0))["near_forward"] == pytest.approx(99.9, abs=0.01)


def test_disagreeing_strikes_take_the_median_forward() -> None:
    """When one of the three strikes implies a forward far off, the median of the three is taken and flagged."""
    rows = chain((NEAR, FAR), rate=0.0)
    # the call at 100 is 0.30 too dear: its forward reads 100.30, its neighbours' 100.00; 97.5 and 102.5 stay right
    bent = [
        row | {"bid": row["bid"] + 0.3, "ask": row["ask"] + 0.3}
        if (row["strike"], row["option_type"]) == (100.0, "C")
        else row
        for row in rows
    ]
    row = only_row(bent)
    assert row["near_forward"] == pytest.approx(100.0, abs=0.001)
    assert row["flags"] == "forward_spread"


def test_two_strikes_are_enough_for_a_forward() -> None:
    """With fewer than three strikes that have both sides the closest one alone gives the forward."""
    row = only_row(chain(strikes=(97.5, 102.5), rate=0.0))
    assert row["near_forward"] == pytest.approx(100.0, abs=0.001)
    assert (row["status"], row["near_strikes"]) == ("ok", 2)


def test_forward_on_a_strike_takes_that_strike() -> None:
    """When the forward equals a strike to 1/10000 dollar its volatility counts, even without a strike above."""
    row = only_row(chain(strikes=(95.0, 97.5, 100.0), rate=0.0))
    assert row["near_iv"] == pytest.approx(0.22 + 0.25 * years_to(NEAR), abs=1e-9)


def test_out_of_the_money_side_stands_in() -> None:
    """A strike with one volatility is used when it is that of the out-of-the-money side, else it is not usable."""
    rows = chain(rate=0.0, spot=101.0)
    none = {"vendor_implied_volatility": None}
    without_itm = changed(changed(rows, none, strike=100.0, option_type="C"), none, strike=102.5, option_type="P")
    assert only_row(without_itm)["iv"] == pytest.approx(only_row(rows)["iv"], abs=1e-12)
    without_otm = changed(rows, none, strike=100.0, option_type="P")
    assert only_row(without_otm)["near_strikes"] == only_row(rows)["near_strikes"] - 1


@pytest.mark.parametrize(
    ("level", "difference", "kept"), [(0.6, 0.049, True), (0.6, 0.051, False), (0.12, 0.0255, False)]
)
def test_call_and_put_must_agree(level: float, difference: float, kept: bool) -> None:
    """An expiry is refused when call and put differ by over 5 points, or over 20 % of their mean."""
    rows = chain(volatility=lambda *_: level)
    apart = [
        row | {"vendor_implied_volatility": level + (difference / 2 if row["option_type"] == "C" else -difference / 2)}
        for row in rows
    ]
    assert only_row(apart)["status"] == ("ok" if kept else "sides_disagree")


@pytest.mark.parametrize(
    "change",
    [
        {"bid": None},
        {"bid": 0.0},
        {"ask": None},
        {"bid": 9.0, "ask": 8.0},
        {"bid": 4.0, "ask": 8.0},
        {"bid": 0.03, "ask": 0.06},
        {"quote_time": SNAPSHOT - timedelta(minutes=15, seconds=1)},
        {"quote_time": None},
        {"is_non_standard": True},
        {"is_mini": True},
    ],
    ids=["no bid", "zero bid", "no ask", "crossed", "wide", "cheap", "stale", "no time", "adjusted", "mini"],
)
def test_unfit_quote_takes_no_part(change: dict[str, Any]) -> None:
    """A contract with an unfit quote is left out, and the rest still gives a value."""
    rows = chain()
    row = only_row(changed(rows, change, strike=100.0, option_type="C"))
    assert row["clean_contracts"] == len([other for other in rows if is_fit(other)]) - 2
    assert row["status"] == "ok"


# Call at 80 with the underlying at 100 and a rate of 4 %: worth 20 at once, 100 - 80 exp(-rT) = 20.2014 and 20.3150
# at least as a European one of 23.003 and 36.003 days.
@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"bid": 20.00, "ask": 20.19}, 0),
        ({"bid": 20.00, "ask": 20.25}, 1),
        ({"bid": 20.00, "ask": 20.32}, 2),
        ({"bid": 20.00, "ask": 20.19, "exercise_type": "A"}, 2),
        ({"bid": 19.90, "ask": 19.99, "exercise_type": "A"}, 0),
        ({"bid": 19.90, "ask": 19.995, "exercise_type": "A"}, 2),
        ({"bid": 100.00, "ask": 100.10}, 2),
        ({"bid": 100.01, "ask": 100.10}, 0),
        ({"bid": 100.01, "ask": 100.10, "underlying_price": None}, 2),
        ({"bid": 20.00, "ask": 20.19, "dividend_yield": None}, 2),
    ],
)
def test_price_out_of_bounds_takes_no_part(change: dict[str, Any], kept: int) -> None:
    """A quote that no model could give is left out of both expiries; one that cannot be judged is kept."""
    rows = chain(strikes=(80.0, 95.0, 100.0, 105.0))
    row = only_row(changed(rows, change, strike=80.0, option_type="C"))
    others = [other for other in rows if is_fit(other) and (other["strike"], other["option_type"]) != (80.0, "C")]
    assert row["clean_contracts"] == len(others) + kept


def test_price_out_of_bounds_does_not_move_the_value() -> None:
    """A put above its strike, at the money, counts no more than if it were not there."""
    rows = chain(rate=0.0)
    spoilt = {"bid": 100.1, "ask": 100.2, "vendor_implied_volatility": 0.4}
    without = [row for row in rows if (row["strike"], row["option_type"]) != (100.0, "P")]
    row = only_row(changed(rows, spoilt, strike=100.0, option_type="P"))
    assert row == only_row(without)
    assert row["status"] == "ok"


@pytest.mark.parametrize(
    "change",
    [
        {"bid": 5.0, "ask": 5.0},
        {"bid": 0.10, "ask": 0.20},
        {"bid": 3.0, "ask": 5.0},
        {"quote_time": SNAPSHOT - timedelta(minutes=15)},
    ],
    ids=["locked", "narrow in dollars", "just not wide", "just fresh"],
)
def test_fit_quote_at_the_limit_is_kept(change: dict[str, Any]) -> None:
    """A locked quote, a spread of exactly 0.10 or half the mid, and a quote of exactly 15 minutes are still used."""
    rows = chain()
    assert only_row(changed(rows, change, strike=90.0, option_type="P"))["clean_contracts"] == len(
        [other for other in rows if is_fit(other)]
    )


def test_quote_from_before_the_open_is_unfit() -> None:
    """Five minutes after the open, quotes of the morning before it do not count, however young."""
    early = session_open(DAY) + timedelta(minutes=5)
    rows = chain(snapshot=early)
    before = changed(rows, {"quote_time": early - timedelta(minutes=6)})
    assert only_row(before)["status"] == "no_quotes"
    row = only_row(rows)
    assert (row["status"], row["flags"]) == ("ok", "early_snapshot")


def test_only_one_expiry_is_taken_flat() -> None:
    """One expiry of 23 to 37 days is taken flat and called single; outside that range there is no value."""
    for expiration in (NEAR, FAR):
        row = only_row(chain([expiration]))
        side = "near" if expiration == NEAR else "far"
        assert (row["status"], row["iv"]) == ("single", row[f"{side}_iv"])
        assert row["near_iv" if side == "far" else "far_iv"] is None
    for expiration in (date(2025, 3, 28), date(2025, 4, 25)):
        row = only_row(chain([expiration]))
        assert (row["status"], row["iv"], row["near_iv"], row["far_iv"]) == ("no_expiry", None, None, None)


def test_calendar_arbitrage_is_kept_and_flagged() -> None:
    """Total variance that falls with time is used as it is and flagged."""
    row = only_row(chain(volatility=lambda *at: 0.5 if at[2] < 30 / 365 else 0.3))
    assert row["flags"] == "calendar"
    assert 0.3 < row["iv"] < 0.5


def test_short_near_expiry_is_flagged() -> None:
    """A near expiry of less than seven days is used when there is no other, with a flag."""
    row = only_row(chain([date(2025, 3, 14), date(2025, 3, 18), FAR]))
    assert (row["near_expiration_date"], row["flags"]) == (date(2025, 3, 18), "short_expiry")


def test_expiries_under_two_days_and_over_a_year_are_left_out() -> None:
    """Expiries that end within two days or after 365 are not looked at."""
    assert only_row(chain([date(2025, 3, 13), date(2026, 3, 20)]))["status"] == "no_expiry"


def test_a_skipped_expiry_is_flagged() -> None:
    """When the expiry next to 30 days cannot be used, the following one is, and the row says so."""
    rows = chain([date(2025, 3, 28), NEAR, FAR])
    row = only_row(changed(rows, {"vendor_implied_volatility": None}, expiration_date=NEAR))
    assert (row["status"], row["flags"], row["near_expiration_date"]) == ("ok", "expiry_skipped", date(2025, 3, 28))


def test_unknown_rate_is_taken_as_zero_and_flagged() -> None:
    """A chain without an interest rate is discounted at 0, and the row says so."""
    row = only_row(changed(chain(rate=0.0), {"interest_rate": None}))
    assert (row["flags"], row["discount_rate"]) == ("rate_assumed", 0.0)
    assert row["iv"] == pytest.approx(only_row(chain(rate=0.0))["iv"], abs=1e-12)


def test_two_roots_on_one_day_are_two_expiries() -> None:
    """Morning- and evening-settled roots of an index do not mix; of two that end together the fuller one counts."""
    evening = changed(chain(symbol="$SPX"), {"option_root": "SPXW"})
    morning = changed(
        chain([FAR], symbol="$SPX", volatility=lambda *_: 0.9),
        {"option_root": "SPX", "expiration_time": expiration_time(FAR, "A")},
    )
    # 09:30 of the same day comes before 16:00, so the morning root is the first expiry after 30 days
    assert only_row(evening + morning)["far_iv"] == pytest.approx(0.9)
    thin = [row | {"expiration_time": expiration_time(FAR)} for row in morning if 95 <= row["strike"] <= 105]
    assert only_row(thin + evening)["far_iv"] == only_row(evening)["far_iv"]


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (changed(chain(), {"is_non_standard": True}), "no_expiry"),
        (changed(chain(), {"expiration_time": None}), "no_expiry"),
        (changed(chain(), {"bid": None}), "no_quotes"),
        (changed(chain(), {"vendor_implied_volatility": None}), "no_volatility"),
        (changed(chain(), {"vendor_implied_volatility": 5.0}), "no_volatility"),
        (changed(chain(), {"bid": None}, option_type="P"), "no_forward"),
        (chain(strikes=(80.0, 82.5, 85.0)), "no_strikes"),
    ],
)
def test_every_reason_for_null(rows: list[Contract], status: str) -> None:
    """A chain that yields no value says at which step nothing was left."""
    row = only_row(rows)
    assert (row["iv"], row["status"], row["flags"]) == (None, status, "")
    assert row["snapshot_time"] == SNAPSHOT


# -------------------------------------------------------------------------------------------- the best snapshot


def test_latest_valid_snapshot_before_the_close_wins() -> None:
    """Of snapshots at 15:45, 15:55 and 16:05 the one of 15:55 counts; when it is broken, the one before."""
    times = [SNAPSHOT - timedelta(minutes=10), SNAPSHOT, SNAPSHOT + timedelta(minutes=10)]
    levels = (0.20, 0.30, 0.40)
    at = [chain(snapshot=time, volatility=lambda *_, v=v: v) for time, v in zip(times, levels, strict=True)]
    row = only_row(at[2] + at[0] + at[1])
    assert (row["snapshot_time"], row["iv"]) == (SNAPSHOT, pytest.approx(0.30))
    row = only_row(at[0] + changed(at[1], {"bid": None}) + at[2])
    assert (row["snapshot_time"], row["iv"]) == (times[0], pytest.approx(0.20))
    row = only_row(changed(at[0] + at[1], {"bid": None}) + at[2])
    assert (row["snapshot_time"], row["status"]) == (SNAPSHOT, "no_quotes")


def test_snapshot_after_the_close_never_counts() -> None:
    """A session with a snapshot after the close only has no value, however good the chain: after_hours."""
    row = only_row(chain(snapshot=session_close(DAY) + timedelta(seconds=1)))
    assert (row["iv"], row["status"], row["snapshot_time"], row["discount_rate"]) == (None, "after_hours", None, None)
    assert only_row(chain(snapshot=session_close(DAY)))["status"] == "ok"


def test_index_and_etf_options_close_later() -> None:
    """At 16:10 a stock's options are closed, those of SPY and of an index still trade."""
    late = session_close(DAY) + timedelta(minutes=10)
    rows = [row for symbol in ("XYZ", "SPY", "$SPX") for row in chain(symbol=symbol, snapshot=late)]
    found = dict(vendor_history(rows).select("symbol", "status").iter_rows())
    assert found == {"XYZ": "after_hours", "SPY": "ok", "$SPX": "ok"}


def test_half_day_closes_at_one() -> None:
    """On the half day of 2024-11-29 a snapshot at 12:55 counts and one at 13:05 does not."""
    half_day = date(2024, 11, 29)
    expirations = [date(2024, 12, 27), date(2025, 1, 3)]
    for minutes, status in ((-5, "ok"), (5, "after_hours")):
        snapshot = datetime(2024, 11, 29, 18, tzinfo=UTC) + timedelta(minutes=minutes)
        assert only_row(chain(expirations, session_date=half_day, snapshot=snapshot))["status"] == status


def test_many_symbols_and_sessions_are_as_each_alone() -> None:
    """Rows of several symbols and sessions, shuffled, give each the row it has alone."""
    other_day = date(2025, 3, 13)
    parts = [
        chain(symbol=symbol, session_date=day, snapshot=session_close(day) - timedelta(minutes=5), spot=spot)
        for symbol, spot in (("AAA", 99.0), ("BBB", 101.0))
        for day in (DAY, other_day)
    ]
    together = iv_history(table([row for part in parts for row in part]).sample(fraction=1, shuffle=True, seed=2))
    assert together.equals(pl.concat([iv_history(table(part)) for part in parts]).sort(SCHEMA.key))


def test_iv_history_has_the_declared_shape() -> None:
    """Columns and types are the schema's, required columns are filled, and no rule is broken."""
    rows = chain() + chain(symbol="NIL", strikes=(50.0,)) + chain(symbol="LATE", snapshot=SNAPSHOT + timedelta(hours=1))
    found = iv_history(table(rows))
    assert found.schema == SCHEMA.polars_schema
    assert found.select(pl.col(sorted(SCHEMA.required)).null_count()).sum_horizontal().item() == 0
    assert sorted(found["series"].unique()) == sorted(SERIES)
    for rule in SCHEMA.rules:
        assert found.select(rule.passes.fill_null(value=True).all()).item(), rule.name


def test_no_contracts_give_an_empty_table() -> None:
    """Without rows both functions give an empty table of their shape."""
    assert iv_history(table([])).equals(SCHEMA.empty())
    assert snapshot_values(table([])).equals(SCHEMA.empty())


def test_every_snapshot_has_a_value() -> None:
    """All snapshots of a day are valued, not only the closing one."""
    times = [SNAPSHOT - timedelta(minutes=15 * i) for i in range(4)]
    found = snapshot_values(table([row for time in times for row in chain(snapshot=time)]))
    found = found.filter(series="atm30_vendor")
    assert found["snapshot_time"].to_list() == sorted(times)
    assert found["status"].to_list() == ["ok"] * 4
