"""Trade classification beside tclf, a loop that does nothing, and Polars; and its accuracy on labelled tapes.

Times of the kernels are from arrays to signs, ours and tclf's in turns; the whole way, join included, from tables to a
table beside Polars' `join_asof` with expressions. Prices are drawn on a grid of half cents from a fixed seed. Results
must be equal row by row: where they are not, tclf's tolerance or a rounding error of floats has to account for it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
from numba import njit

from benchmarks.tclf_peer import REPOSITORY, VERSION, peer_python, tclf
from trade_analyst_pipeline.kernels import trade_rules
from trade_analyst_pipeline.metrics.aggressor_confidence import accuracy, cross_validated
from trade_analyst_pipeline.metrics.aggressor_side import EMO, aggressor_side
from trade_analyst_pipeline.metrics.prevailing_quote import prevailing_quote

SAMPLES = REPOSITORY.parent / "shared" / "samples" / "market"
SEED = 20180102
ROUNDS = 5
BEYOND_CACHES = 10**7
LEE_READY, GSU_LARGE = "Lee-Ready", "GSU large"
# Ours: the rules of the kernel with the subset each reads (0 best, 1 exchange); tclf's: rules and subsets by name.
OURS = {
    LEE_READY: [(trade_rules.QUOTE, 0), (trade_rules.TICK, 0)],
    GSU_LARGE: [
        *((trade_rules.TRADE_SIZE, 1), (trade_rules.QUOTE, 0), (trade_rules.QUOTE, 1)),
        *((trade_rules.DEPTH, 0), (trade_rules.DEPTH, 1), (trade_rules.REVERSE_TICK, 0)),
    ],
}
THEIRS = {
    LEE_READY: [("quote", "best"), ("tick", "all")],
    GSU_LARGE: [
        *(("trade_size", "ex"), ("quote", "best"), ("quote", "ex")),
        *(("depth", "best"), ("depth", "ex"), ("rev_tick", "all")),
    ],
}
_READ = {
    LEE_READY: ("trade_price", "price_all_lag", "bid_best", "ask_best"),
    GSU_LARGE: (
        *("trade_price", "trade_size", "price_all_lead", "bid_best", "ask_best", "bid_size_best", "ask_size_best"),
        *("bid_ex", "ask_ex", "bid_size_ex", "ask_size_ex"),
    ),
}
_PLACES = (
    *("trade_price", "trade_size", "price_all_lag", "price_all_lead", "bid_best", "ask_best"),
    *(
        "bid_size_best",
        "ask_size_best",
        "price_ex_lag",
        "price_ex_lead",
        "bid_ex",
        "ask_ex",
        "bid_size_ex",
        "ask_size_ex",
    ),
)

Columns = Mapping[str, Any]
Figures = dict[str, float | int | str]


@njit
def _do_nothing(first: Any, second: Any, third: Any, fourth: Any, out: Any) -> None:
    """Four doubles read and one byte written a row: the memory traffic of Lee-Ready, and next to no work."""
    for i in range(len(out)):
        out[i] = first[i] + second[i] + third[i] + fourth[i] > 0.0


def kernel_figures(stack: str, rows: int) -> Figures | None:
    """Trades per second of a stack, of tclf and, for Lee-Ready, of a loop that does nothing; None without tclf."""
    python = peer_python()
    if python is None:
        return None
    columns = {name: values for name, values in random_columns(rows).items() if name in _READ[stack]}
    arrays = tuple(columns.get(name, np.empty(0)) for name in _PLACES)
    rules = np.array([rule for rule, _ in OURS[stack]], dtype=np.int64)
    shifts = np.array([trade_rules.SUBSET_COLUMNS * subset for _, subset in OURS[stack]], dtype=np.int64)
    signs, idle = np.empty(rows, dtype=np.int8), np.empty(rows, dtype=np.int8)
    timed: list[Callable[[], object]] = [lambda: trade_rules.sign_trades(rules, shifts, arrays, signs)]
    if stack == LEE_READY and rows >= BEYOND_CACHES:
        timed.append(lambda: _do_nothing(*columns.values(), idle))
    with tclf(python, columns, THEIRS[stack]) as peer:
        ours, *nothing = best(timed)
        peer.predict()
        theirs = []
        for _ in range(ROUNDS):
            theirs.append(peer.predict())
            ours = min(ours, *(best(timed[:1])))
            nothing = [min(before, now) for before, now in zip(nothing, best(timed[1:]), strict=True)]
        differing = compare(np.sign(signs), peer.signs(), columns, stack)
    found: Figures = {
        "rows": rows,
        "per_second": rows / ours,
        "tclf_per_second": rows / min(theirs),
        "ratio": min(theirs) / ours,
        "differing": differing,
        "tclf": VERSION,
    }
    return found | ({"nothing_per_second": rows / nothing[0], "of_nothing": nothing[0] / ours} if nothing else {})


def compare(ours: Any, theirs: Any, columns: Columns, stack: str) -> int:
    """How many rows differ. AssertionError for one that float comparisons and tclf's tolerance do not account for.

    tclf is imitated in floats, and in exact whole numbers of 1/10000 dollar with the same code: the imitations must
    equal tclf and us in every row, so that the comparison of prices is all that differs.
    """
    exact = {name: np.rint(values * 10_000) if "size" not in name else values for name, values in columns.items()}
    assert np.array_equal(imitated(columns, stack, tolerance=True), theirs), "tclf is not what it is taken for"
    assert np.array_equal(imitated(exact, stack, tolerance=False), ours), "differs by more than comparing floats"
    return int((ours != theirs).sum())


def imitated(columns: Columns, stack: str, *, tolerance: bool) -> Any:
    """The stack in numpy: with tclf's tolerance and mids, or with plain equality on twice the prices."""
    signs = np.zeros(len(columns["trade_price"]), dtype=np.int8)
    for rule, subset in THEIRS[stack]:
        found = _IMITATIONS[rule](columns, subset, tolerance)
        signs = np.where(signs == 0, found, signs)
    return signs


def _equal(left: Any, right: Any, tolerance: bool) -> Any:
    return np.isclose(left, right, atol=1e-4) if tolerance else left == right


def _twice_from_mid(columns: Columns, subset: str, tolerance: bool) -> Any:
    """Trade price less mid (in floats as tclf has it), or twice that; NaN where crossed or one-sided."""
    price, bid, ask = columns["trade_price"], columns[f"bid_{subset}"], columns[f"ask_{subset}"]
    from_mid = price - 0.5 * (ask + bid) if tolerance else 2 * price - ask - bid
    return np.where(ask >= bid, from_mid, np.nan)


def _sign(values: Any) -> Any:
    return np.nan_to_num(np.sign(values)).astype(np.int8)


def _by_size(columns: Columns, subset: str, tolerance: bool) -> Any:
    size, bid, ask = columns["trade_size"], columns[f"bid_size_{subset}"], columns[f"ask_size_{subset}"]
    alike = _equal(ask, bid, tolerance)
    at_bid, at_ask = (_equal(size, side, tolerance) & ~alike for side in (bid, ask))
    return at_bid.astype(np.int8) - (at_ask & ~at_bid).astype(np.int8)


def _by_depth(columns: Columns, subset: str, tolerance: bool) -> Any:
    price, bid, ask = columns["trade_price"], columns[f"bid_{subset}"], columns[f"ask_{subset}"]
    middle = np.where(ask >= bid, 0.5 * (ask + bid), np.nan)
    at_mid = _equal(middle, price, tolerance=True) if tolerance else _twice_from_mid(columns, subset, False) == 0
    return _sign(columns[f"ask_size_{subset}"] - columns[f"bid_size_{subset}"]) * at_mid


_IMITATIONS: dict[str, Callable[[Columns, str, bool], Any]] = {
    "quote": lambda columns, subset, tolerance: _sign(_twice_from_mid(columns, subset, tolerance)),
    "tick": lambda columns, subset, _: _sign(columns["trade_price"] - columns[f"price_{subset}_lag"]),
    "rev_tick": lambda columns, subset, _: _sign(columns["trade_price"] - columns[f"price_{subset}_lead"]),
    "trade_size": _by_size,
    "depth": _by_depth,
}


def random_columns(rows: int) -> dict[str, Any]:
    """Trades around 100 dollars as tclf names their columns, without nulls, some quotes locked or crossed."""
    rng = np.random.default_rng(SEED)
    bids = 20_000 + 2 * rng.integers(-200, 200, rows, dtype=np.int32)
    prices = bids + rng.integers(-2, 8, rows, dtype=np.int32)
    columns: dict[str, Any] = {
        "trade_price": prices / 200,
        "trade_size": rng.integers(1, 8, rows) * 100.0,
        "price_all_lag": (prices + rng.integers(-1, 2, rows, dtype=np.int32)) / 200,
        "price_all_lead": (prices + rng.integers(-1, 2, rows, dtype=np.int32)) / 200,
    }
    for subset in ("best", "ex"):
        columns[f"bid_{subset}"] = bids / 200
        columns[f"ask_{subset}"] = (bids + 2 * rng.integers(-1, 4, rows, dtype=np.int32)) / 200
        columns[f"bid_size_{subset}"] = rng.integers(1, 8, rows) * 100.0
        columns[f"ask_size_{subset}"] = rng.integers(1, 8, rows) * 100.0
    return columns


def whole_way_figures(trades: int = 2_000_000, quotes: int = 8_000_000, symbols: int = 200) -> dict[str, Figures]:
    """Trades per second from two tables to one, the as-of join included, of ours and of Polars.

    Once with Polars making the same table as we do, all its columns equal, and once with Polars making the sides alone
    while we make the whole.
    """
    tape, quoted = random_tapes(trades, quotes, symbols)
    found = {}
    for name, theirs in (("the same table", polars_table), ("its sides alone", polars_sides)):
        made = theirs(tape, quoted)
        assert made.equals(ours_table(tape, quoted).select(made.columns))
        both: list[Callable[[], object]] = [lambda: ours_table(tape, quoted), partial(theirs, tape, quoted)]
        ours, other = best(both)
        our_work, their_work = best(both, clock=time.process_time)
        found[name] = {
            "rows": trades,
            "per_second": trades / ours,
            "polars_per_second": trades / other,
            "ratio": other / ours,
            "processor_ratio": their_work / our_work,
            "polars": pl.__version__,
        }
    return found


def ours_table(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """The whole table of `aggressor_side`."""
    return aggressor_side(prevailing_quote(trades, quotes, max_age=timedelta(seconds=60)))


def polars_sides(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """The sides alone by `join_asof` and expressions, as fast as we could write them: no window function."""
    return _in_ticks(trades, quotes).select(_side()).collect()


def polars_table(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """The whole table of `aggressor_side` in the same way."""
    from_mid, spread = _TWICE - _SIDES, pl.col("ask_ticks") - pl.col("bid_ticks")
    size, above = from_mid.abs(), from_mid > 0
    steps = ((5 * size < 2 * spread, "near"), (size < spread, "outer"))
    location = pl.when((~_IS_USABLE).fill_null(value=True)).then(None).when(size == 0).then(pl.lit("mid"))
    for is_there, word in steps:
        location = location.when(is_there & above).then(pl.lit(f"upper_{word}"))
        location = location.when(is_there).then(pl.lit(f"lower_{word}"))
    for is_there, upper, lower in ((size == spread, "ask", "bid"), (size <= 3 * spread, "above", "below")):
        location = location.when(is_there & above).then(pl.lit(upper)).when(is_there).then(pl.lit(lower))
    location = location.when(above).then(pl.lit("far_above")).otherwise(pl.lit("far_below"))
    is_by_quote = _IS_USABLE.fill_null(value=False) & (from_mid != 0)
    has_tick = pl.col("earlier").is_not_null()
    columns = (
        pl.when(has_tick & (pl.col("price") > pl.col("earlier")))
        .then(pl.lit("up"))
        .when(has_tick)
        .then(pl.lit("down")),
        pl.when(is_by_quote).then(pl.lit("quote")).when(has_tick).then(pl.lit("tick")),
        pl.when(is_by_quote | has_tick).then(pl.lit("ok")).otherwise(pl.lit("first_trade")),
    )
    names = ("tick_direction", "aggressor_rule", "aggressor_status")
    made = [column.alias(name) for column, name in zip(columns, names, strict=True)]
    kept = ("symbol", "trade_time", "sequence", "trade_price", "trade_size", "bid", "ask")
    quality = pl.lit("exact").alias("quote_quality")
    table = _in_ticks(trades, quotes).select(*kept, quality, location.alias("trade_location"), *made, _side())
    return table.collect()


_TWICE, _SIDES = 2 * pl.col("price"), pl.col("ask_ticks") + pl.col("bid_ticks")
_IS_USABLE = pl.col("ask_ticks") >= pl.col("bid_ticks")


def _in_ticks(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.LazyFrame:
    """Each trade with the quote before it, prices in whole ticks, and the last different price before."""
    joined = trades.lazy().join_asof(
        quotes.lazy(),
        left_on="trade_time",
        right_on="quote_time",
        by="symbol",
        allow_exact_matches=False,
        tolerance=timedelta(seconds=60),
        check_sortedness=False,
    )
    names = {"trade_price": "price", "bid": "bid_ticks", "ask": "ask_ticks"}
    in_ticks = joined.with_columns((pl.col(own) * 10_000).round().alias(name) for own, name in names.items())
    before, goes_on = pl.col("price").shift(1), pl.col("symbol") == pl.col("symbol").shift(1)
    changed = pl.when(goes_on & (pl.col("price") != before)).then(before).when(~goes_on).then(float("nan"))
    return in_ticks.with_columns(changed.forward_fill().fill_nan(None).alias("earlier"))


def _side() -> pl.Expr:
    return (
        pl.when(_IS_USABLE & (_TWICE > _SIDES))
        .then(pl.lit("buyer"))
        .when(_IS_USABLE & (_TWICE < _SIDES))
        .then(pl.lit("seller"))
        .when(pl.col("price") > pl.col("earlier"))
        .then(pl.lit("buyer"))
        .when(pl.col("price") < pl.col("earlier"))
        .then(pl.lit("seller"))
        .alias("aggressor_side")
    )


def random_tapes(trades: int, quotes: int, symbols: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A session of so many symbols, in order of symbol and time."""
    rng = np.random.default_rng(SEED)
    names = np.array([f"S{i:04}" for i in range(symbols)])
    tables = []
    for count, time_name in ((trades, "trade_time"), (quotes, "quote_time")):
        symbol, micros = np.sort(rng.integers(0, symbols, count)), rng.integers(0, 23_400_000_000, count)
        in_order = micros[np.lexsort((micros, symbol))] + 1_741_786_200_000_000
        frame = pl.DataFrame({"symbol": names[symbol], time_name: in_order})
        tables.append(frame.with_columns(pl.col(time_name).cast(pl.Datetime("us", "UTC"))))
    bid = pl.Series("bid", rng.integers(9_900, 10_100, quotes) / 100)
    price = pl.Series("trade_price", rng.integers(19_800, 20_204, trades) / 200)
    return (
        tables[0].with_columns(price, pl.lit(100.0).alias("trade_size"), pl.int_range(pl.len()).alias("sequence")),
        tables[1].with_columns(bid, (bid + 0.02).round(2).alias("ask")),
    )


def best(functions: list[Callable[[], object]], *, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Least seconds of each of the functions over some rounds; in a round each runs once, after one warm-up."""
    for function in functions:
        function()
    seconds = [[_seconds(function, clock) for function in functions] for _ in range(ROUNDS)]
    return [min(runs) for runs in zip(*seconds, strict=True)]


def _seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start


def labelled_tapes() -> ModuleType | None:
    """The tests' module that makes tapes of the labelled samples; None without samples beside the checkout."""
    if not SAMPLES.is_dir():
        print("NOT RUN: accuracy on labelled tapes; no samples beside the checkout", file=sys.stderr)
        return None
    path = REPOSITORY / "trade_analyst_tests" / "metrics" / "labelled_tapes.py"
    spec = importlib.util.spec_from_file_location("labelled_tapes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def emo_on_the_perpetual() -> Figures | None:
    """Percent of sides that EMO gets right on the Binance perpetual, ours and tclf's (undecided ones count half)."""
    tapes, python = labelled_tapes(), peer_python()
    if tapes is None or python is None:
        return None
    tape = tapes.crypto(SAMPLES, "usdm", tapes.MILLISECOND)
    price = tape["trade_price"]
    earlier = pl.when(price != price.shift(1)).then(price.shift(1)).forward_fill()
    columns = {
        "trade_price": price.to_numpy(),
        "price_all_lag": pl.select(earlier).to_series().cast(pl.Float64).to_numpy(),
        "bid_all": tape["bid"].to_numpy(),
        "ask_all": tape["ask"].to_numpy(),
    }
    with tclf(python, columns, [("emo", "all")]) as peer:
        peer.predict()
        theirs = peer.signs()
    buys = (tape["true_side"] == "buyer").to_numpy()
    sides = aggressor_side(tape, EMO)["aggressor_side"].replace_strict({"buyer": 1, "seller": -1}, default=0).to_numpy()
    truth = np.where(buys, 1, -1)
    ours, other = (100 * float(np.mean((found * truth + 1) / 2)) for found in (sides, theirs))
    return {"rows": tape.height, "accuracy_pct": ours, "tclf_accuracy_pct": other, "tclf": VERSION}


def accuracy_by_join() -> dict[str, Figures]:
    """AMZN by join: percent right by Lee-Ready and by the posterior, its Brier score and calibration error.

    Each fifth of the tape is scored with a table fitted on the other four.
    """
    tapes = labelled_tapes()
    if tapes is None:
        return {}
    joined = {"exact": tapes.exact_book(SAMPLES)}
    for clock, unit in (("1 ms", tapes.MILLISECOND), ("1 s", tapes.SECOND)):
        for join in ("before", "at_or_before"):
            joined[f"{clock}, {join.replace('_', ' ')}"] = tapes.clocked_book(SAMPLES, unit, join)
    joined["1 s, match search"] = tapes.clocked_book(SAMPLES, tapes.SECOND, "match")
    found = {}
    for name, tape in joined.items():
        trades = cross_validated(tape).with_columns(pl.lit("all").alias("quote_quality"))
        (figures,) = accuracy(trades).rows(named=True)
        side = tape["aggressor_side"]
        lee_ready = 100 * ((side == tape["true_side"]).sum() + side.null_count() / 2) / tape.height
        found[name] = {**figures, "lee_ready_pct": lee_ready}
    return found


def main() -> None:
    """Print every figure as one JSON object."""
    found: dict[str, Any] = {
        f"{stack}, {rows:,} trades": kernel_figures(stack, rows) for rows in (10**6, 10**7) for stack in OURS
    }
    found |= {"whole way": whole_way_figures(), "EMO on the perpetual": emo_on_the_perpetual()}
    print(json.dumps({**found, "AMZN by join": accuracy_by_join()}, indent=2))


if __name__ == "__main__":
    main()
