"""The model-free volatility: published values, a second reckoning in plain Python, choice of expiries, every null."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from interpreted import interpret

from trade_analyst_pipeline.kernels import strip
from trade_analyst_pipeline.market.columns import COLUMNS
from trade_analyst_pipeline.market.sessions import expiration_time, session_close
from trade_analyst_pipeline.metrics.iv_history import INPUT_COLUMNS, iv_history
from trade_analyst_pipeline.metrics.iv_history.model_free import is_friday, is_standard

DAY = date(2025, 3, 12)
SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
NEAR, FAR = date(2025, 3, 21), date(2025, 4, 17)  # the second is a Thursday: 18 April 2025 is Good Friday
STRIKES = tuple(60 + 2.5 * i for i in range(33))
WIDE = tuple(float(strike) for strike in range(20, 261))
RATE = 0.04

Contract = dict[str, Any]
Quote = tuple[float | None, float | None]


def word(bid: float | None, ask: float | None) -> str | None:
    """The state of a fresh quote, of two that matter here; None where a side is not known."""
    return None if bid is None or ask is None else "no_bid" if bid == 0 else "crossed" if bid > ask else "ok"


def contract(expiration: date, strike: float, letter: str, quote: Quote, **changed: Any) -> Contract:
    """A fresh quote of a standard contract."""
    symbol = changed.get("symbol", "XYZ")
    row = {
        "symbol": symbol,
        "session_date": DAY,
        "snapshot_time": SNAPSHOT,
        "chain_scope": "full",
        "option_root": symbol,
        "option_type": letter,
        "expiration_date": expiration,
        "expiration_time": expiration_time(expiration),
        "strike": strike,
        "bid": quote[0],
        "ask": quote[1],
        "quote_status": word(*quote),
        "vendor_implied_volatility": None,
        "is_non_standard": False,
        "is_mini": False,
        "interest_rate": RATE,
        "underlying_price": None,
        "dividend_yield": None,
        "exercise_type": "E",
    }
    return row | changed


def price(forward: float, strike: float, years: float, volatility: float, letter: str) -> float:
    """Black's price of a European option, discounted."""
    deviation = volatility * math.sqrt(years)
    d1 = math.log(forward / strike) / deviation + deviation / 2
    sign = 1 if letter == "C" else -1
    tails = [0.5 * math.erfc(-sign * d / math.sqrt(2)) for d in (d1, d1 - deviation)]
    return math.exp(-RATE * years) * sign * (forward * tails[0] - strike * tails[1])


def chain(
    expirations: Sequence[date] = (NEAR, FAR), strikes: Sequence[float] = STRIKES, level: float = 0.8, **changed: Any
) -> list[Contract]:
    """A chain of flat volatility, quoted a cent around its values; the forward is near 100."""
    rows = []
    taken = changed.get("snapshot_time", SNAPSHOT)
    for expiration in expirations:
        years = (expiration_time(expiration) - taken).total_seconds() / (365 * 86400)
        for strike in strikes:
            for letter in "CP":
                mid = round(price(100 * math.exp(RATE * years), strike, years, level, letter), 4)
                quote = (max(mid - 0.01, 0.0), mid + 0.01)
                rows.append(contract(expiration, strike, letter, quote, **changed))
    return rows


def index_row(rows: list[Contract]) -> dict[str, Any]:
    """The row of the series of the one symbol and session."""
    found = iv_history(pl.DataFrame(rows, schema={name: COLUMNS[name].dtype for name in INPUT_COLUMNS}))
    return found.filter(series="model_free30").row(0, named=True)


def changed(rows: list[Contract], change: dict[str, Any], **where: Any) -> list[Contract]:
    """The contracts with some fields replaced in those that match."""
    return [row | change if all(row[key] == value for key, value in where.items()) else row for row in rows]


# ------------------------------------------------------------------------------- a second reckoning, without tables


def plain_variance(quotes: dict[float, dict[str, Quote]], years: float, rate: float) -> tuple[float, int, float, float]:
    """Variance, strikes taken, forward and centre of one expiry, straight from the white paper's steps."""

    def mid(quote: Quote | None) -> float | None:
        bid, ask = quote or (None, None)
        return (bid + ask) / 2 if bid and ask and bid <= ask else None

    both = {k: (mid(q.get("C")), mid(q.get("P"))) for k, q in quotes.items()}
    paired = {k: (c, p) for k, (c, p) in both.items() if c is not None and p is not None}
    start = min(paired, key=lambda k: (round(abs(paired[k][0] - paired[k][1]), 9), k))
    forward = start + math.exp(rate * years) * (paired[start][0] - paired[start][1])
    centre = max(k for k in paired if k <= forward)
    taken = {centre: sum(paired[centre]) / 2}
    for letter, order in (("P", -1), ("C", 1)):
        empty = 0
        for strike in sorted((k for k in quotes if order * (k - centre) > 0), key=lambda k: order * k):
            if quotes[strike][letter][0] == 0:
                empty += 1
                if empty == 2:
                    break
                continue
            value = mid(quotes[strike][letter])
            if value is not None:
                taken[strike], empty = value, 0
    strikes = sorted(taken)
    total = 0.0
    for i, strike in enumerate(strikes):
        below, above = strikes[max(i - 1, 0)], strikes[min(i + 1, len(strikes) - 1)]
        width = (above - below) / (1 if i in (0, len(strikes) - 1) else 2)
        total += width / strike**2 * math.exp(rate * years) * taken[strike]
    return 2 / years * total - (forward / centre - 1) ** 2 / years, len(strikes), forward, centre


def plain_index(near: tuple[float, float], far: tuple[float, float]) -> float:
    """Volatility of 30 days from (minutes, variance) of two expiries."""
    (n1, v1), (n2, v2), month, year = near, far, 43_200, 525_600
    total = n1 / year * v1 * (n2 - month) / (n2 - n1) + n2 / year * v2 * (month - n1) / (n2 - n1)
    return math.sqrt(total * year / month)


# ------------------------------------------------------------------------------------------------ published values


def test_white_paper_example(market_samples: Path) -> None:
    """The example of the Cboe white paper (2014): strikes, variances and the index to the digits given.

    Rates differ between its two terms, so each term is put in as a chain of its own rate.
    """
    golden = json.loads((market_samples / "golden.json").read_text(encoding="utf-8"))["vix_whitepaper_2014"]
    quotes = pl.read_csv(market_samples / "vix_whitepaper_2014_quotes.csv")
    minutes = dict(zip(("near", "next"), golden["minutes"], strict=True))
    rates = {"near": golden["R1"], "next": golden["R2"]}
    rows = [
        contract(
            *(day, float(row["strike"]), letter, (row[f"{side}_bid"], row[f"{side}_ask"])),
            expiration_time=SNAPSHOT + timedelta(minutes=minutes[row["term"]]),
        )
        for row in quotes.iter_rows(named=True)
        for letter, side in (("C", "call"), ("P", "put"))
        for day in [NEAR if row["term"] == "near" else FAR]
    ]
    by_rate = {term: index_row(changed(rows, {"interest_rate": rate})) for term, rate in rates.items()}
    near, far = by_rate["near"], by_rate["next"]
    assert (near["near_strikes"], far["far_strikes"]) == (golden["n_near"], golden["n_next"])
    assert [near["near_forward"], far["far_forward"]] == pytest.approx([golden["F1"], golden["F2"]], abs=5e-6)
    variances = [near["near_iv"] ** 2, far["far_iv"] ** 2]
    # the paper divides by years of seven digits
    years = [minutes["near"] / 525_600 / golden["T1"], minutes["next"] / 525_600 / golden["T2"]]
    printed = [variance * ratio for variance, ratio in zip(variances, years, strict=True)]
    assert printed == pytest.approx([golden["var1"], golden["var2"]], abs=5e-10)
    index = plain_index((minutes["near"], variances[0]), (minutes["next"], variances[1]))
    assert 100 * index == pytest.approx(golden["vix"], abs=5e-8)
    assert (near["status"], near["near_strikes"]) == ("ok", 146)
    # one rate for both terms moves the index by a hundred-thousandth of a point
    assert [100 * row["iv"] for row in (near, far)] == pytest.approx([golden["vix"]] * 2, abs=2e-5)


@pytest.mark.parametrize(
    ("file", "published", "lifetimes"),
    [
        ("chain_aapl_20140606.csv", "published_vxapl_close", {date(2014, 6, 21): 14, date(2014, 7, 19): 42}),
        ("chain_goog_20151223.csv", "published_vxgog_close", {date(2016, 1, 15): 23, date(2016, 2, 19): 58}),
    ],
)
def test_published_indices(market_samples: Path, file: str, published: str, lifetimes: dict[date, int]) -> None:
    """Whole recorded chains: the standard expirations are found, and the exchange's own index within 0.05 points."""
    golden = json.loads((market_samples / "golden.json").read_text(encoding="utf-8"))["model_free_vs_published"][file]
    recorded = pl.read_csv(market_samples / file, try_parse_dates=True)
    day = recorded["date"][0]
    closed = session_close(day)
    rows = [
        contract(
            *(row["expiry"], row["strike"], row["right"], (row["bid"], row["ask"])),
            symbol=row["underlying"],
            session_date=day,
            snapshot_time=closed,
            interest_rate=golden["rate"],
            # other expirations are there too, and are not of the index
            expiration_time=closed
            + timedelta(days=lifetimes.get(row["expiry"], (row["expiry"] - day).days - (row["expiry"].weekday() == 5))),
        )
        for row in recorded.iter_rows(named=True)
    ]
    row = index_row(rows)
    assert [row["near_expiration_date"], row["far_expiration_date"]] == list(lifetimes)
    assert [row["near_days"], row["far_days"]] == golden["days"]
    assert [row["near_forward"], row["far_forward"]] == pytest.approx(golden["F"], abs=1e-3)
    assert [100 * row["near_iv"], 100 * row["far_iv"]] == pytest.approx(golden["vol"], abs=6e-4)
    assert 100 * row["iv"] == pytest.approx(golden["iv30"], abs=6e-4)
    assert 100 * row["iv"] == pytest.approx(golden[published], abs=0.05)
    assert row["status"] == "ok"


# ------------------------------------------------------------------------------------------- against plain Python


def hostile(seed: int) -> list[Contract]:
    """A chain with zero bids, sides that are not known, and crossed quotes, strewn at random."""
    random = np.random.default_rng(seed)
    rows = chain(strikes=sorted({100.0, *random.choice(np.arange(50.0, 160.0, 1.0), 60, replace=False)}), level=0.4)
    spoilt: list[Contract] = []
    for row in rows:
        kind = str(random.choice(["fit", "zero", "none", "no ask", "crossed"], p=[0.85, 0.05, 0.03, 0.03, 0.04]))
        if abs(row["strike"] - 100) < 4 or kind == "fit":
            spoilt.append(row)
        else:
            change = {
                "zero": {"bid": None, "quote_status": "no_bid"},
                "none": {"bid": None, "ask": None, "quote_status": None},
                "no ask": {"ask": None, "quote_status": "no_ask"},
                "crossed": {"bid": None, "ask": None, "quote_status": "crossed"},
            }[kind]
            spoilt.append(row | change)
    return spoilt


SEEDS = (1, 2, 3, 4, 6, 7)


def test_the_plain_reckoning_is_of_values_too() -> None:
    """The chains with holes are not all cut off too near the money: three at least have an index."""
    assert sum(index_row(hostile(seed))["status"] == "ok" for seed in SEEDS) >= 3


def test_a_strip_of_no_variance_is_no_volatility() -> None:
    """Puts that nobody quotes above 100 and calls for next to nothing: the forward is far off, the sum below 0."""
    odd = {100.0: {"C": (19.9, 20.1), "P": (0.9, 1.1)}}
    rows = []
    for row in chain(strikes=WIDE, level=0.5):
        strike, is_call = row["strike"], row["option_type"] == "C"
        if row["expiration_date"] == NEAR:
            below = (119.95 - strike, 120.05 - strike) if is_call else (0.05, 0.06)
            above = (0.05, 0.06) if is_call else (None, None)
            bid, ask = odd.get(strike, {}).get(row["option_type"], below if strike < 100 else above)
            row |= {"bid": bid, "ask": ask, "quote_status": word(bid, ask)}
        rows.append(row)
    found = index_row(rows)
    assert (found["status"], found["iv"], found["near_iv"]) == ("no_volatility", None, None)


def test_a_saturday_that_ends_with_its_friday_is_one_expiry() -> None:
    """Two dates of one instant neither fail nor count twice, whichever symbol has them."""
    rows = chain(strikes=WIDE, level=0.5)
    doubled = [row | {"expiration_date": date(2025, 3, 22)} for row in rows if row["expiration_date"] == NEAR]
    assert index_row([*rows, *doubled])["iv"] == index_row(rows)["iv"]


@pytest.mark.parametrize("strike", [0.0, 1e-170])
def test_a_strike_of_nothing_ends_nothing(strike: float) -> None:
    """Division by its square is no error."""
    rows = [contract(day, strike, letter, (0.004, 0.01)) for day in (NEAR, FAR) for letter in "CP"]
    found = index_row([*chain(strikes=WIDE, level=0.5), *rows])
    assert found["status"] == "ok"
    assert found["iv"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_a_plain_reckoning(seed: int) -> None:
    """Forward, strikes taken, both variances and the index are those of plain Python on chains with holes."""
    rows = hostile(seed)
    row = index_row(rows)
    expected = []
    for side, expiration in (("near", NEAR), ("far", FAR)):
        quotes: dict[float, dict[str, Quote]] = {}
        for each in rows:
            if each["expiration_date"] == expiration:
                bid = 0.0 if each["quote_status"] == "no_bid" else each["bid"]
                prices = [None if p is None else round(p, 4) for p in (bid, each["ask"])]
                quotes.setdefault(each["strike"], {})[each["option_type"]] = (prices[0], prices[1])
        minutes = (expiration_time(expiration) - SNAPSHOT) / timedelta(minutes=1)
        variance, count, forward, _ = plain_variance(quotes, minutes / 525_600, RATE)
        assert row["status"] in {"ok", "truncated"}
        assert (row[f"{side}_strikes"], row[f"{side}_forward"]) == (count, pytest.approx(forward, abs=1e-9))
        assert row[f"{side}_iv"] == pytest.approx(math.sqrt(variance), abs=1e-12)
        expected.append((minutes, variance))
    if row["status"] == "ok":
        assert row["iv"] == pytest.approx(plain_index(expected[0], expected[1]), abs=1e-12)


def test_flat_volatility_comes_out() -> None:
    """A dense and wide strip of a flat 40 % gives 40 %, to a tenth of a point."""
    row = index_row(chain(strikes=[30 + 0.5 * i for i in range(400)], level=0.4))
    assert (row["status"], row["flags"]) == ("ok", "")
    assert row["iv"] == pytest.approx(0.4, abs=1e-3)


def test_compiled_and_interpreted_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled sum gives what the same lines give as plain Python."""
    rows = [hostile(seed) for seed in range(2)]
    compiled = [index_row(each) for each in rows]
    interpret(monkeypatch, strip)
    assert [index_row(each) for each in rows] == compiled


# ------------------------------------------------------------------------------------------------- parts of the rule


def test_second_zero_bid_in_a_row_ends_a_side() -> None:
    """One strike without a bid is passed over; from the second in a row on nothing counts, whatever is bid there.

    A bid that is not known, or taken away for being crossed, ends nothing.
    """
    rows = chain()
    whole = index_row(rows)

    def without(*strikes: float, **change: Any) -> dict[str, Any]:
        """The row where the far puts at these strikes have no fit quote."""
        spoilt = rows
        for strike in strikes:
            spoilt = changed(spoilt, change, strike=strike, option_type="P", expiration_date=FAR)
        return index_row(spoilt)

    below = sum(strike < 80 for strike in STRIKES)
    for zero in ({"bid": 0.0, "quote_status": "no_bid"}, {"bid": None, "quote_status": "no_bid"}):
        assert without(80.0, **zero)["far_strikes"] == whole["far_strikes"] - 1
        assert without(80.0, 85.0, **zero)["far_strikes"] == whole["far_strikes"] - 2
        assert without(80.0, 82.5, **zero)["far_strikes"] == whole["far_strikes"] - 2 - below
        assert without(80.0, 82.5, **zero)["near_strikes"] == whole["near_strikes"]
    for word_ in (None, "crossed"):
        row = without(80.0, 82.5, bid=None, ask=None, quote_status=word_)
        assert row["far_strikes"] == whole["far_strikes"] - 2


def test_quotes_too_wide_or_low_for_a_volatility_count() -> None:
    """Quotes too wide or too low to give a volatility are in the strip; a stale or crossed one is not."""
    rows = chain()
    assert index_row(rows)["far_strikes"] == len(STRIKES)
    where = {"strike": 75.0, "option_type": "P", "expiration_date": FAR}
    for state, count in (("low_priced", 33), ("wide", 33), ("locked", 33), ("crossed", 32), ("stale", 32)):
        assert index_row(changed(rows, {"quote_status": state}, **where))["far_strikes"] == count


@pytest.mark.parametrize(
    ("expirations", "chosen", "flags"),
    [
        ([date(2025, 3, 14), NEAR, date(2025, 4, 4), date(2025, 4, 11), FAR, date(2025, 5, 16)], (NEAR, FAR), ""),
        ([date(2025, 5, 16), date(2025, 6, 20)], (date(2025, 5, 16), date(2025, 6, 20)), "extrapolated"),
        ([NEAR, date(2025, 5, 16)], (NEAR, date(2025, 5, 16)), ""),
        ([date(2025, 4, 4), date(2025, 4, 11), FAR], None, None),
        ([NEAR], None, None),
    ],
)
def test_standard_expirations_are_taken(
    expirations: list[date], chosen: tuple[date, date] | None, flags: str | None
) -> None:
    """The last standard expiration up to 30 days and the next one, never a weekly; beyond 30 days with a flag."""
    row = index_row(chain(expirations, WIDE, level=0.5))
    if chosen is None:
        assert (row["status"], row["iv"], row["flags"]) == ("no_expiry", None, "")
    else:
        assert (row["near_expiration_date"], row["far_expiration_date"], row["flags"]) == (*chosen, flags)


def test_less_than_a_week_is_passed_over() -> None:
    """On 17 March the expiration of the 21st has four days: the index goes on to the two after it."""
    taken = datetime(2025, 3, 17, 19, 55, tzinfo=UTC)
    rows = chain([NEAR, FAR, date(2025, 5, 16)], WIDE, 0.5, session_date=date(2025, 3, 17), snapshot_time=taken)
    row = index_row(rows)
    assert (row["near_expiration_date"], row["far_expiration_date"]) == (FAR, date(2025, 5, 16))
    assert row["flags"] == "extrapolated"


def test_fridays_of_the_broad_index() -> None:
    """$SPX takes the Fridays (or Thursday) of 23 to 37 days, of the third week the root settled in the morning."""
    weekly = [date(2025, 4, 7), date(2025, 4, 4), date(2025, 4, 11), FAR]
    rows = chain(weekly, symbol="$SPX", option_root="SPXW")
    row = index_row(rows)
    assert (row["near_expiration_date"], row["far_expiration_date"]) == (date(2025, 4, 4), date(2025, 4, 11))
    later = datetime(2025, 3, 17, 19, 55, tzinfo=UTC)
    both = chain([date(2025, 4, 11), FAR], symbol="$SPX", option_root="SPXW", snapshot_time=later)
    morning = expiration_time(FAR, "A")
    both += chain([FAR], symbol="$SPX", option_root="SPX", snapshot_time=later, expiration_time=morning)
    row = index_row(changed(both, {"session_date": date(2025, 3, 17)}))
    assert row["far_days"] == pytest.approx((morning - later) / timedelta(days=1))


def test_days_of_the_calendar() -> None:
    """Third Fridays, the Thursday before Good Friday, and the Saturdays of old are standard; other days are not."""
    standard = [date(2025, 3, 21), date(2025, 4, 17), date(2014, 6, 21), date(2025, 8, 15)]
    other = [date(2025, 3, 14), date(2025, 3, 28), date(2025, 3, 20), date(2025, 4, 16), date(2025, 4, 25)]
    assert [is_standard(day) for day in (*standard, *other)] == [True] * 4 + [False] * 5
    assert [is_friday(day) for day in (date(2025, 4, 17), date(2025, 4, 4), date(2025, 4, 3))] == [True, True, False]


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (changed(chain(), {"bid": None, "ask": None, "quote_status": "no_quote"}), "no_quotes"),
        (changed(chain(), {"bid": None, "quote_status": "no_bid"}, option_type="P"), "no_forward"),
        (chain(strikes=(100.0,)), "few_strikes"),
        (chain(strikes=[90 + 2.0 * i for i in range(10)]), "few_strikes"),
        (chain(strikes=[90 + 2.0 * i for i in range(11)]), "truncated"),
        (chain(strikes=[105 + 2.0 * i for i in range(30)]), "few_strikes"),
        (changed(chain(), {"expiration_time": SNAPSHOT}, expiration_date=NEAR), "no_expiry"),
    ],
)
def test_every_reason_for_null(rows: list[Contract], status: str) -> None:
    """A chain whose strips give no index says why; strikes of a truncated one are told, and no value is."""
    row = index_row(rows)
    assert (row["iv"], row["status"], row["flags"]) == (None, status, "")
    assert (row["near_iv"] is None) == (status != "truncated")


def test_missing_rate_is_zero_and_flagged() -> None:
    """A chain without an interest rate is reckoned at 0, and the row says so."""
    row = index_row(changed(chain(strikes=WIDE), {"interest_rate": None}))
    assert ("rate_assumed" in row["flags"].split(","), row["discount_rate"]) == (True, 0.0)
