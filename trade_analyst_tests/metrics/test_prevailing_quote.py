"""The quote in force at each trade: which one it is, what is none, and that nothing after the trade is looked at."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numba
import numpy as np
import polars as pl
import pytest

from trade_analyst_pipeline.kernels import quote_join
from trade_analyst_pipeline.market.aggressor_posterior import default_posterior
from trade_analyst_pipeline.metrics.aggressor_confidence import aggressor_confidence
from trade_analyst_pipeline.metrics.aggressor_side import CLNV, EMO, LEE_READY, aggressor_side
from trade_analyst_pipeline.metrics.prevailing_quote import Join, prevailing_quote

OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def trades_at(*seconds: float, price: float = 10.0, symbol: str = "XYZ") -> pl.DataFrame:
    """Trades of one symbol so many seconds after the open."""
    return pl.DataFrame(
        {
            "symbol": symbol,
            "trade_time": [OPEN + timedelta(seconds=each) for each in seconds],
            "sequence": range(len(seconds)),
            "trade_price": price,
            "trade_size": 100.0,
        }
    )


def quotes_at(*rows: tuple[float, float | None, float | None], symbol: str = "XYZ") -> pl.DataFrame:
    """Quotes of one symbol: seconds after the open, bid, ask."""
    times, bids, asks = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "symbol": symbol,
            "quote_time": [OPEN + timedelta(seconds=each) for each in times],
            "bid": pl.Series(bids, dtype=pl.Float64),
            "ask": pl.Series(asks, dtype=pl.Float64),
        }
    )


def bids(trades: pl.DataFrame, quotes: pl.DataFrame, *, join: Join = "before", **more: timedelta) -> list[float | None]:
    """The bid in force at each trade."""
    return prevailing_quote(trades, quotes, max_age=more.pop("max_age", None), join=join, **more)["bid"].to_list()


def test_a_quote_with_the_time_of_the_trade_is_too_late() -> None:
    """Strictly before takes the older one, at or before the one with the trade's time, of several the last row."""
    quotes = quotes_at((0, 1.0, 2.0), (5, 3.0, 4.0), (5, 5.0, 6.0))
    assert bids(trades_at(0, 1, 5, 6), quotes) == [None, 1.0, 1.0, 5.0]
    assert bids(trades_at(0, 1, 5, 6), quotes, join="at_or_before") == [1.0, 1.0, 5.0, 5.0]


def test_an_old_quote_is_none_and_says_so() -> None:
    """Older than allowed is no quote, with the reason; exactly as old as allowed is one."""
    found = prevailing_quote(trades_at(0, 60, 60.000001), quotes_at((0, 1.0, 2.0)), max_age=60 * SECOND)
    assert found["bid"].to_list() == [None, 1.0, None]
    assert found["quote_reason"].to_list() == ["no_quote", None, "stale_quote"]
    assert found["quote_quality"].to_list() == ["exact"] * 3


def test_a_halt_leaves_no_quote_until_the_next() -> None:
    """A quote without sides is taken as it is: nothing is in force until the first one after it."""
    quotes = quotes_at((0, 1.0, 2.0), (10, None, None), (20, 3.0, 4.0))
    assert bids(trades_at(5, 15, 25), quotes) == [1.0, None, 3.0]


def test_no_quote_is_carried_into_another_symbol_or_session() -> None:
    """Groups are joined by themselves, also one without any quote."""
    trades = pl.concat([trades_at(5, symbol=symbol) for symbol in "ABC"])
    quotes = pl.concat([quotes_at((1, 1.0, 2.0), symbol="A"), quotes_at((9, 3.0, 4.0), symbol="C")])
    assert bids(trades, quotes) == [1.0, None, None]
    days = pl.Series("session_date", [date(2026, 1, 5), date(2026, 1, 6)])
    by_day = trades_at(5, 90_000).with_columns(days)
    assert bids(by_day, quotes_at((1, 1.0, 2.0)).with_columns(days[:1])) == [1.0, None]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (2.0, (1.0, "matched")),  # the ask in force when the window opens
        (4.0, (3.0, "matched")),  # a quote within the trade's own second
        (5.0, (5.0, "matched")),  # a bid
        (9.0, (1.0, "strict")),  # no side has it: as strictly before
        (8.0, (1.0, "strict")),  # only after the window
        (6.5, (1.0, "strict")),  # locked: on both sides, so on none
    ],
)
def test_match_search(price: float, expected: tuple[float, str]) -> None:
    """The first quote within the clock's uncertainty that has the price on one side; else the one before."""
    quotes = quotes_at((7, 1.0, 2.0), (10, 3.0, 4.0), (10, 5.0, 6.0), (10, 6.5, 6.5), (11, 7.0, 8.0))
    found = prevailing_quote(trades_at(10, price=price), quotes, max_age=None, join="match", resolution=SECOND)
    assert found.select("bid", "quote_quality").row(0) == expected


def test_match_search_prefers_the_earlier_side() -> None:
    """A price that was a bid first and an ask later is matched with the bid."""
    quotes = quotes_at((8, 1.0, 2.0), (9.5, 5.0, 6.0), (10, 4.0, 5.0))
    found = prevailing_quote(trades_at(10, price=5.0), quotes, max_age=None, join="match", resolution=SECOND)
    assert found["bid"].to_list() == [5.0]


def test_match_search_takes_no_old_quote() -> None:
    """A quote older than allowed is none, also where it has the trade's price; exactly as old as allowed it is one."""
    quotes = quotes_at((0, 10.0, 11.0))
    found = prevailing_quote(trades_at(60, 61), quotes, max_age=60 * SECOND, join="match", resolution=SECOND)
    assert found["bid"].to_list() == [10.0, None]
    assert found["quote_quality"].to_list() == ["matched", "strict"]
    assert found["quote_reason"].to_list() == [None, "stale_quote"]


@pytest.mark.parametrize(
    ("join", "resolution", "quality"),
    [
        ("before", timedelta(0), "exact"),
        ("before", timedelta(milliseconds=1), "exact"),
        ("before", SECOND, "strict"),
        ("at_or_before", timedelta(milliseconds=1), "concurrent_fine"),
        ("at_or_before", SECOND, "concurrent"),
    ],
)
def test_quality_says_how_the_quote_was_had(join: Join, resolution: timedelta, quality: str) -> None:
    """The class follows from the join and the clock."""
    found = prevailing_quote(trades_at(5), quotes_at((0, 1.0, 2.0)), max_age=None, join=join, resolution=resolution)
    assert found["quote_quality"].to_list() == [quality]


def test_disorder_and_other_clocks_are_refused() -> None:
    """Rows out of order, symbols in two runs, times of another kind and missing times are each named."""
    trades, quotes = trades_at(1, 2, 3), quotes_at((0, 1.0, 2.0), (1, 1.0, 2.0), (2, 1.0, 2.0))
    with pytest.raises(ValueError, match=r"row 1 of the trades \(XYZ\) has trade_time .* sort by time"):
        bids(trades[[1, 0, 2]], quotes)
    with pytest.raises(ValueError, match=r"row 1 of the quotes \(XYZ\) has quote_time .* sort by time"):
        bids(trades, quotes[[1, 0, 2]])
    with pytest.raises(ValueError, match="the quotes of A do not follow each other"):
        bids(trades, quotes.with_columns(symbol=pl.Series(["A", "B", "A"])))
    with pytest.raises(ValueError, match="give both as the same kind of date and time"):
        bids(trades, quotes.with_columns(pl.col("quote_time").dt.cast_time_unit("ns")))
    with pytest.raises(ValueError, match="trade_time is null in 1 of 3 rows"):
        bids(trades.with_columns(trade_time=pl.Series([None, *trades["trade_time"][1:]])), quotes)


def random_tape(
    rng: random.Random, trades: int, quotes: int, symbols: str = "ABCD"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Trades and quotes of a few symbols on a coarse grid of times, so that many times are equal."""
    kinds = ((trades, ["trade_time", "trade_price"]), (quotes, ["quote_time", "bid"]))
    tables = []
    for count, (time, price) in kinds:
        rows = sorted((rng.choice(symbols), rng.randrange(4 * trades), i) for i in range(count))
        values = [float(rng.randrange(100, 110)) for _ in rows]
        frame = pl.DataFrame({"symbol": [row[0] for row in rows], time: [row[1] for row in rows], price: values})
        tables.append(frame.with_columns(pl.col(time).cast(pl.Datetime("us", "UTC"))))
    sequence = pl.int_range(pl.len()).alias("sequence")
    return (
        tables[0].with_columns(sequence, pl.lit(100.0).alias("trade_size")),
        tables[1].with_columns(ask=pl.col("bid") + pl.Series([float(rng.randrange(3)) for _ in range(quotes)])),
    )


@pytest.mark.parametrize("join", ["before", "at_or_before"])
def test_join_is_that_of_polars(join: Join, harness_seed: int) -> None:
    """On random tapes with many equal times the merge finds what `join_asof` finds."""
    trades, quotes = random_tape(random.Random(harness_seed), 3_000, 9_000)  # noqa: S311
    expected = trades.with_columns(pl.col("trade_time").alias("quote_time")).sort("quote_time", maintain_order=True)
    theirs = expected.join_asof(
        quotes.sort("quote_time", maintain_order=True),
        on="quote_time",
        by="symbol",
        allow_exact_matches=join == "at_or_before",
        check_sortedness=False,
    ).sort("sequence")
    ours = prevailing_quote(trades, quotes, max_age=None, join=join)
    assert ours["bid"].null_count() < trades.height / 10
    assert ours.select("bid", "ask").equals(theirs.select("bid", "ask"))


def test_match_search_by_plain_search(harness_seed: int) -> None:
    """On random tapes the merge matches what looking through all quotes of the symbol matches."""
    trades, quotes = random_tape(random.Random(harness_seed), 400, 1_200)  # noqa: S311
    resolution = timedelta(microseconds=20)
    found = prevailing_quote(trades, quotes, max_age=None, join="match", resolution=resolution)
    by_symbol = {key[0]: part.rows(named=True) for key, part in quotes.group_by("symbol", maintain_order=True)}
    matched = 0
    for trade in found.iter_rows(named=True):
        of, at, price = by_symbol[trade["symbol"]], trade["trade_time"], trade["trade_price"]
        in_force = [quote for quote in of if quote["quote_time"] <= at - resolution][-1:]
        in_force += [quote for quote in of if at - resolution < quote["quote_time"] < at + resolution]
        first = next((each for each in in_force if (each["bid"] == price) != (each["ask"] == price)), None)
        before = next((each for each in reversed(of) if each["quote_time"] < at), {})
        expected = first or before
        assert (trade["bid"], trade["ask"]) == (expected.get("bid"), expected.get("ask"))
        assert trade["quote_quality"] == ("exact" if first is None else "matched")
        matched += first is not None
    assert 0 < matched < trades.height


Label = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


def labels(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """Everything said of each trade: three rules, location, tick, probability."""
    joined = prevailing_quote(trades, quotes, max_age=timedelta(milliseconds=1))
    signed = aggressor_side(joined)
    others = [aggressor_side(joined, layers)["aggressor_side"].alias(layers[0][0]) for layers in (EMO, CLNV)]
    chances = aggressor_confidence(signed, default_posterior())["buy_probability"]
    return signed.with_columns(chances, *others)


def nearest_labels(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """The control: Lee-Ready with the quote nearest in time, be it before or after."""
    timed = trades.with_columns(pl.col("trade_time").alias("quote_time")).sort("quote_time", maintain_order=True)
    joined = timed.join_asof(
        quotes.sort("quote_time", maintain_order=True),
        on="quote_time",
        by="symbol",
        strategy="nearest",
        check_sortedness=False,
    ).sort("sequence")
    return aggressor_side(joined.with_columns(pl.lit("exact").alias("quote_quality")), LEE_READY)


def looks_ahead(label: Label, rng: random.Random, rounds: int) -> int:
    """In how many of so many random instants a label at or before it changes with what comes after it."""
    trades, quotes = random_tape(rng, 300, 900)
    before = label(trades, quotes)
    changed = 0
    for _ in range(rounds):
        at = rng.choice(trades["trade_time"].to_list())
        later = pl.lit(rng.choice([-1.0, 1.0]) * rng.randrange(1, 9))
        is_later = pl.col("trade_time") > at
        other_trades = trades.with_columns(pl.col("trade_price") + pl.when(is_later).then(later).otherwise(0.0))
        # a quote with the instant's own time is not known before the trades of that instant either
        is_after = pl.col("quote_time") >= at
        other_quotes = quotes.with_columns(pl.col("bid", "ask") + pl.when(is_after).then(later).otherwise(0.0))
        known = trades["trade_time"] <= at
        changed += not label(other_trades, other_quotes).filter(known).equals(before.filter(known))
    return changed


@pytest.mark.reliability
def test_no_label_looks_ahead(is_full: bool, harness_seed: int) -> None:
    """Whatever happens after an instant, no label of a trade at or before it changes; the nearest join's labels do."""
    rounds = 1_000 if is_full else 100
    rng = random.Random(harness_seed)  # noqa: S311
    assert looks_ahead(labels, rng, rounds) == 0
    control = looks_ahead(nearest_labels, rng, rounds)
    assert control > rounds // 4
    print(
        f"RUN: {rounds} instants, 0 labels changed; with the nearest quote {control} of {rounds} instants changed some"
    )


def test_compiled_joins_do_what_their_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, both merges find what they find compiled, also the first row out of order."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    spec = importlib.util.spec_from_file_location("interpreted_quote_join", Path(quote_join.__file__))
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    rng = np.random.default_rng(5)
    times, quoted = np.sort(rng.integers(0, 500, 200)), np.sort(rng.integers(0, 500, 400))
    prices, bid = rng.integers(0, 9, 200).astype(float), rng.integers(0, 9, 400).astype(float)
    bounds = np.array([[0, 120, 0, 300], [120, 200, 300, 400]])
    wrong_trades, wrong_quotes = times.copy(), quoted.copy()
    wrong_trades[50], wrong_quotes[60] = -1, -1
    for given in ((times, quoted, 0), (times, quoted, 1), (wrong_trades, quoted, 0), (times, wrong_quotes, 1)):
        found = [np.full(200, -9) for _ in range(2)]
        answers = [
            module.last_before(*given[:2], bounds, given[2], 20, out)
            for module, out in zip((quote_join, plain), found, strict=True)
        ]
        assert answers[0] == answers[1]
        assert np.array_equal(*found)
    found = [np.full(200, -9) for _ in range(2)]
    for module, out in zip((quote_join, plain), found, strict=True):
        module.match_search(times, prices, quoted, bid, bid + 1, bounds, 10, 1_000, out)
    assert np.array_equal(*found)
    assert (found[0] >= 0).any()
