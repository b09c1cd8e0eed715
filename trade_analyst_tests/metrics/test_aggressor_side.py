"""Sides of trades by the rules of the literature: hand table, real tapes, and a second implementation in decimals."""

from __future__ import annotations

import importlib.util
import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import plain_side
import polars as pl
import pytest
from labelled_tapes import MILLISECOND, clocked_book, crypto, exact_book
from random_trades import random_trades

from trade_analyst_pipeline.kernels import trade_rules
from trade_analyst_pipeline.market.prices import TICKS_PER_DOLLAR
from trade_analyst_pipeline.metrics.aggressor_side import (
    CLNV,
    CUSTOMER_SCHEMA,
    EMO,
    GSU_LARGE,
    LEE_READY,
    RULES,
    SCHEMA,
    Layer,
    aggressor_side,
    customer_side,
)
from trade_analyst_pipeline.metrics.prevailing_quote import prevailing_quote

# price, bid, ask | tick, reverse tick, quote, Lee-Ready, reverse Lee-Ready, EMO, CLNV; row 6 is at the mid exactly
HAND_TABLE = (
    (10.00, 9.98, 10.02, 0, -1, 0, 0, -1, 0, 0),
    (10.02, 9.99, 10.02, 1, 1, 1, 1, 1, 1, 1),
    (10.00, 9.98, 10.02, -1, 1, 0, -1, 1, -1, -1),
    (10.00, 9.98, 10.02, -1, 1, 0, -1, 1, -1, -1),
    (9.99, 9.99, 10.03, -1, -1, -1, -1, -1, -1, -1),
    (10.005, 9.99, 10.02, 1, -1, 0, 1, -1, 1, 1),
    (10.01, 9.99, 10.02, 1, -1, 1, 1, 1, 1, 1),
    (10.04, 10.00, 10.03, 1, 1, 1, 1, 1, 1, 1),
    (10.04, 10.04, 10.04, 1, 1, 0, 1, 1, 1, 1),
    (10.03, 10.05, 10.02, -1, 1, 0, -1, 1, -1, -1),
    (10.03, None, None, -1, 1, 0, -1, 1, -1, -1),
    (10.02, 10.00, 10.04, -1, 0, 0, -1, 0, -1, -1),
)
HAND_RULES = ("tick", "reverse_tick", "quote", "lee_ready", "reverse_lee_ready", "emo", "clnv")
STACKS: dict[str, list[Layer]] = {
    **{f"{rule} {subset}": [(rule, subset)] for rule in RULES for subset in ("best", "exchange")},
    "gsu_large": [*GSU_LARGE],
    "gsu_small": [("trade_size", "exchange"), ("quote", "exchange"), ("depth", "exchange"), ("reverse_tick", "best")],
    "quote, then the tick of the exchange": [("quote", "best"), ("tick", "exchange")],
    "emo then quote": [("emo", "exchange"), ("quote", "best")],
}


def trades_of(rows: list[tuple[Any, ...]], **more: Any) -> pl.DataFrame:
    """Trades of one symbol, a second apart, from rows of price, bid and ask."""
    frame = pl.DataFrame(rows, schema=dict.fromkeys(("trade_price", "bid", "ask"), pl.Float64), orient="row")
    constants = {"symbol": "XYZ", "trade_size": 100.0, "quote_quality": "exact"} | more
    return frame.with_columns(
        (pl.int_range(pl.len()) * 1_000_000).cast(pl.Datetime("us", "UTC")).alias("trade_time"),
        pl.int_range(pl.len()).alias("sequence"),
        **{name: value if isinstance(value, pl.Series) else pl.lit(value) for name, value in constants.items()},
    )


def signs(sides: pl.Series) -> list[int]:
    """1 for a buyer, -1 for a seller, 0 for null."""
    return [{"buyer": 1, "seller": -1, None: 0}[side] for side in sides]


@pytest.mark.parametrize("rule", HAND_RULES)
def test_hand_table(rule: str) -> None:
    """Each rule signs the twelve trades as worked out by hand in exact decimals, also row 6 at a half-cent mid."""
    trades = trades_of([row[:3] for row in HAND_TABLE])
    expected = [row[3 + HAND_RULES.index(rule)] for row in HAND_TABLE]
    assert signs(customer_side(trades, [(rule, "best")])["customer_side"]) == expected


def test_hand_table_is_the_published_one(market_samples: Path) -> None:
    """The table in this file is that of golden.json, exact form."""
    rows = json.loads((market_samples / "golden.json").read_text())["hand_table"]["exact_integer_rows"]
    assert [list(row) for row in HAND_TABLE] == rows


def test_aggressor_row_has_side_rule_and_reason() -> None:
    """Lee-Ready on the hand table: the part that decided is named, the first trade has none, a locked quote ticks."""
    signed = aggressor_side(trades_of([row[:3] for row in HAND_TABLE]))
    assert signed.schema == SCHEMA.polars_schema
    assert signs(signed["aggressor_side"]) == [row[6] for row in HAND_TABLE]
    assert signed["aggressor_rule"].to_list() == [
        *(None, "quote", "tick", "tick", "quote", "tick", "quote", "quote", "tick", "tick", "tick", "tick"),
    ]
    assert signed["aggressor_status"].to_list() == ["first_trade", *["ok"] * 11]
    assert signed["trade_location"].to_list() == [
        *("mid", "ask", "mid", "mid", "bid", "mid", "upper_near", "above", "mid", None, None, "mid"),
    ]
    assert signed["tick_direction"].to_list() == [None, "up", "down", "down", "down", *["up"] * 4, *["down"] * 3]


@pytest.mark.parametrize(
    ("price", "location"),
    [
        (9.49, "far_below"),
        (9.50, "below"),
        (9.99, "below"),
        (10.00, "bid"),
        (10.01, "lower_outer"),
        (10.15, "lower_outer"),
        (10.16, "lower_near"),
        (10.24, "lower_near"),
        (10.25, "mid"),
        (10.26, "upper_near"),
        (10.35, "upper_outer"),
        (10.50, "ask"),
        (10.51, "above"),
        (11.00, "above"),
        (11.0001, "far_above"),
    ],
)
def test_location_bounds(price: float, location: str) -> None:
    """Near ends before 0.4 half-spreads, a location beyond the quote is one up to a whole spread away, all exactly."""
    assert aggressor_side(trades_of([(price, 10.00, 10.50)]))["trade_location"][0] == location


@pytest.mark.parametrize(
    ("bid", "ask"), [(10.02, 10.01), (None, 10.02), (10.00, None), (0.0, 10.02), (float("nan"), 10.02)]
)
def test_unusable_quote_goes_to_the_tick(bid: float | None, ask: float | None) -> None:
    """A crossed, one-sided or zero quote decides nothing by any quote-based rule, also at one of its sides."""
    trades = trades_of([(10.00, 9.99, 10.01), (10.02, bid, ask)])
    for layers in (LEE_READY, EMO, CLNV):
        signed = aggressor_side(trades, layers)
        assert signed.row(1, named=True)["aggressor_side"] == "buyer"
        assert signed["aggressor_rule"][1] == "tick"
    assert aggressor_side(trades, [("quote", "best")])["aggressor_status"].to_list() == ["undecided", "undecided"]


def test_beyond_the_quote() -> None:
    """Below the bid after an up-tick Lee-Ready sides with the quote, EMO and CLNV with the tick."""
    trades = trades_of([(9.90, 10.00, 10.02), (9.95, 10.00, 10.02)])
    assert [signs(aggressor_side(trades, layers)["aggressor_side"])[1] for layers in (LEE_READY, EMO, CLNV)] == [
        -1,
        1,
        1,
    ]


@pytest.mark.parametrize(("price", "sign"), [(10.07, 1), (10.0699, 0), (10.03, -1), (10.0301, 0)])
def test_clnv_bounds_are_inclusive(price: float, sign: int) -> None:
    """At exactly three tenths from a side the quote decides, a ten-thousandth farther in it does not."""
    assert signs(aggressor_side(trades_of([(price, 10.00, 10.10)]), CLNV)["aggressor_side"]) == [sign]


def test_tick_starts_anew_with_each_symbol_and_session() -> None:
    """The last price of another symbol, or of the session before, is no earlier price."""
    prices = [(10.0, None, None), (11.0, None, None), (12.0, None, None), (13.0, None, None)]
    days = pl.Series([date(2026, 1, day) for day in (5, 5, 6, 6)])
    by_session = trades_of(prices, session_date=days)
    assert signs(aggressor_side(by_session)["aggressor_side"]) == [0, 1, 0, 1]
    by_symbol = trades_of(prices, symbol=pl.Series(["A", "B", "B", "C"]))
    assert aggressor_side(by_symbol)["aggressor_status"].to_list() == [
        "first_trade",
        "first_trade",
        "ok",
        "first_trade",
    ]


def test_a_print_without_price_is_no_trade_for_the_tick() -> None:
    """It has no side (`no_price`), and the next trade is compared with the price before it."""
    signed = aggressor_side(trades_of([(10.0, None, None), (None, 9.0, 11.0), (11.0, None, None)]))
    assert signed["aggressor_status"].to_list() == ["first_trade", "no_price", "ok"]
    assert signs(signed["aggressor_side"]) == [0, 0, 1]
    assert signed["trade_location"][1] is None


def test_a_part_of_a_tape_brings_its_earlier_prices() -> None:
    """With `earlier_price` in the table the tick test takes it as it is."""
    signed = aggressor_side(trades_of([(10.0, None, None)], earlier_price=10.01))
    assert signs(signed["aggressor_side"]) == [-1]


@pytest.mark.parametrize("layers", [LEE_READY, [("quote", "best")]])
def test_tick_direction_does_not_depend_on_the_layers(layers: list[Layer]) -> None:
    """The brought `earlier_price` counts for it also where no layer asks for a tick."""
    signed = aggressor_side(trades_of([(10.0, 9.0, 10.5)], earlier_price=10.01), layers)
    assert signed["tick_direction"].to_list() == ["down"]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([("reverse_tick", "best")], "reverse_tick cannot sign the aggressor"),
        ([("trade_size", "best")], "call customer_side"),
        ([("lee-ready", "best")], "no layer is ('lee-ready', 'best')"),
        ([("quote", "ise")], "subsets are best and exchange"),
        ([("quote", "exchange")], "need the columns ask_exchange, bid_exchange"),
    ],
)
def test_wrong_layers_are_refused_by_name(layers: list[Layer], words: str) -> None:
    """A rule of the customer's side, an unknown word and a missing column are each named."""
    with pytest.raises(ValueError, match=re.escape(words)):
        aggressor_side(trades_of([(10.0, 9.0, 11.0)]), layers)


def test_disorder_is_refused() -> None:
    """Trades that go back in time, and symbols in two runs, are named."""
    trades = trades_of([(10.0, None, None)] * 3)
    with pytest.raises(ValueError, match=r"row 1 of the trades \(XYZ\) has trade_time .* sort by time"):
        aggressor_side(trades[[1, 0, 2]])
    with pytest.raises(ValueError, match="the trades of A do not follow each other: sort by symbol and time"):
        aggressor_side(trades.with_columns(symbol=pl.Series(["A", "B", "A"])))


def test_customer_side_has_the_published_confidence() -> None:
    """The trade size decides with 0.80, the quote with 0.75; a leg of a complex order has no side."""
    trades = trades_of(
        [(10.01, 10.00, 10.02), (10.02, 10.00, 10.02), (10.02, 10.00, 10.02), (10.01, None, None)],
        **{f"{name}_exchange": value for name, value in (("bid", 10.0), ("ask", 10.02), ("ask_size", 100.0))},
        bid_size=100.0,
        ask_size=100.0,
        bid_size_exchange=pl.Series([50.0, 100.0, 50.0, 100.0]),
        is_multi_leg=pl.Series([False, None, True, False]),
    )
    found = customer_side(trades)
    assert found.schema == CUSTOMER_SCHEMA.polars_schema
    assert found["customer_side"].to_list() == ["seller", "buyer", None, None]
    assert found["customer_rule"].to_list() == ["trade_size", "quote", None, None]
    assert found["customer_confidence"].to_list() == [0.80, 0.75, None, None]
    assert found["customer_status"].to_list() == ["ok", "ok", "multi_leg", "undecided"]


def decimal_rows(trades: pl.DataFrame) -> list[plain_side.Row]:
    """The rows in exact decimals."""
    numbers = trades.select(pl.col(pl.Float64))
    return [
        {name: None if value is None else Decimal(str(value)) for name, value in row.items()}
        for row in numbers.iter_rows(named=True)
    ]


@pytest.mark.reliability
@pytest.mark.parametrize("around", [10.0, 1200.0])
def test_rules_are_those_of_the_second_implementation(around: float, is_full: bool, harness_seed: int) -> None:
    """Every rule and stack signs random trades as plain Python does in decimals, at any height of prices."""
    count = 100_000 if is_full else 4_000
    trades = random_trades(count, harness_seed, around=around)
    rows = decimal_rows(trades)
    for name, layers in STACKS.items():
        expected = plain_side.signed(rows, layers)
        assert any(expected), name
        assert signs(customer_side(trades, layers)["customer_side"]) == expected, name
    print(f"RUN: {len(STACKS)} stacks on {count:,} trades around {around}")


def test_second_implementation_finds_float_comparisons(harness_seed: int) -> None:
    """The control: a quote rule in plain floats does not pass where prices are at half-cent mids."""
    trades = random_trades(4_000, harness_seed, missing=0.0)
    middle = (pl.col("bid") + pl.col("ask")) / 2
    floats = trades.select(
        pl.when(pl.col("ask") >= pl.col("bid")).then((pl.col("trade_price") - middle).sign()).otherwise(0)
    )
    assert floats.to_series().cast(pl.Int64).to_list() != plain_side.signed(decimal_rows(trades), [("quote", "best")])


def test_taq_golden_counts(market_samples: Path) -> None:
    """The TAQ sample with quotes of its primary venue: locations, sides and ticks are the published counts."""
    quotes = pl.read_parquet(market_samples / "taq_xxx_20180102_quotes.parquet").filter(pl.col("EX") == "N")
    trades = pl.read_parquet(market_samples / "taq_xxx_20180102_trades.parquet")
    session = trades.filter(
        pl.col("DT").is_between(pl.datetime(2018, 1, 2, 14, 30), pl.datetime(2018, 1, 2, 21), closed="left")
    )
    kept = session.filter((pl.col("CORR") == 0) & ~pl.col("COND").str.contains("[^ @EFI]"))
    assert (trades.height, session.height, kept.height, kept["SIZE"].sum()) == (39_462, 39_195, 38_858, 4_173_926)
    joined = prevailing_quote(
        kept.select(
            pl.col("SYMBOL").alias("symbol"),
            pl.col("DT").alias("trade_time"),
            pl.int_range(pl.len()).alias("sequence"),
            pl.col("PRICE").alias("trade_price"),
            pl.col("SIZE").cast(pl.Float64).alias("trade_size"),
        ),
        quotes.select(symbol="SYMBOL", quote_time="DT", bid="BID", ask="OFR"),
        max_age=None,
    )
    signed = aggressor_side(joined)
    counted = signed.group_by("trade_location").agg(pl.len(), pl.col("trade_size").sum()).rows()
    at = {location: np.array(rest) for location, *rest in counted}
    found = {
        "above": at["above"] + at["far_above"],
        "ask": at["ask"],
        "in_up": at["upper_near"] + at["upper_outer"],
        "mid": at["mid"],
        "in_lo": at["lower_near"] + at["lower_outer"],
        "bid": at["bid"],
        "below": at["below"] + at["far_below"],
        "no_quote": at[None],
    }
    assert {name: tuple(map(int, pair)) for name, pair in found.items()} == {
        "above": (814, 81_808),
        "ask": (7_604, 692_437),
        "in_up": (6_711, 784_651),
        "mid": (5_353, 587_414),
        "in_lo": (8_110, 1_047_371),
        "bid": (8_526, 802_030),
        "below": (1_732, 175_733),
        "no_quote": (8, 2_482),
    }
    sides = {side: (count, size) for side, count, size in _by_side(signed)}
    assert sides["buyer"] == (18_057, 1_894_557)
    assert sides["seller"] == (20_799, 2_279_267)
    assert sides[None][0] == 2
    # published as decided by the tick: all that the quote left to it, the two without an earlier price included
    assert signed.filter(pl.col("aggressor_rule").ne_missing("quote")).height == 5_361


def _by_side(signed: pl.DataFrame) -> list[tuple[Any, ...]]:
    return signed.group_by("aggressor_side").agg(pl.len(), pl.col("trade_size").sum()).rows()


def right(tape: pl.DataFrame, layers: tuple[Layer, ...]) -> int:
    """How many sides are the true ones."""
    return int((aggressor_side(tape, layers)["aggressor_side"] == tape["true_side"]).sum())


def test_order_book_golden_counts(market_samples: Path) -> None:
    """AMZN with the exact quote: how many sides each rule gets right, and the volumes by location and side."""
    tape = exact_book(market_samples)
    assert (tape.height, tape["trade_size"].sum()) == (11_419, 810_755)
    found = {name: right(tape, layers) for name, layers in _FOUR.items()}
    assert found == {"tick": 9_906, "lr": 11_102, "emo": 10_841, "clnv": 11_103}
    assert tape.filter(pl.col("true_side") == "buyer")["trade_size"].sum() == 390_733
    assert tape.filter(pl.col("aggressor_side") == "buyer")["trade_size"].sum() == 388_720
    at = {
        location: rest
        for location, *rest in tape.group_by("trade_location").agg(pl.len(), pl.col("trade_size").sum()).rows()
    }
    assert (at["ask"], at["bid"], at["mid"], at[None]) == ([4_808, 296_974], [4_166, 316_274], [132, 12_446], [1, 1])
    inside = [
        [sum(at[f"{half}_{part}"][i] for part in ("near", "outer")) for i in (0, 1)] for half in ("lower", "upper")
    ]
    assert inside == [[1_274, 100_226], [1_038, 84_834]]


_FOUR: dict[str, tuple[Layer, ...]] = {"tick": (("tick", "best"),), "lr": LEE_READY, "emo": EMO, "clnv": CLNV}


def test_perpetual_golden_counts(market_samples: Path) -> None:
    """The Binance perpetual by the exchange's milliseconds: right sides, quotes strictly before and at or before."""
    strict = crypto(market_samples, "usdm", MILLISECOND)
    assert {name: right(strict, layers) for name, layers in _FOUR.items()} == {
        "tick": 20_642,
        "lr": 21_276,
        "emo": 21_280,
        "clnv": 21_284,
    }
    loose = crypto(market_samples, "usdm", MILLISECOND, "at_or_before")
    assert (right(loose, LEE_READY), right(loose, EMO)) == (16_601, 20_741)
    # The published CLNV count, 20,423, is that of floats: two trades stand at three tenths from the bid exactly, where
    # the quote (inclusive) calls them sales and the tick, wrongly left to by floats, would have called them right.
    assert right(loose, CLNV) == 20_423 - 2
    at_bound = aggressor_side(loose, CLNV).filter((pl.col("trade_price") == 61702.1) & (pl.col("bid") == 61701.5))
    assert at_bound["ask"].to_list() == [61703.5] * 2
    assert at_bound["aggressor_rule"].to_list() == ["near_quote"] * 2
    price, bid, ask = (Decimal(text) for text in ("61702.1", "61701.5", "61703.5"))
    assert price == Decimal("0.3") * ask + Decimal("0.7") * bid
    assert not 61702.1 <= 0.3 * 61703.5 + 0.7 * 61701.5


@pytest.mark.parametrize(
    ("milliseconds", "join", "percent"),
    [
        (1, "before", (95.6, 93.3, 95.4)),
        (1, "at_or_before", (87.7, 88.5, 90.0)),
        (1000, "before", (92.4, 90.1, 92.1)),
        (1000, "at_or_before", (69.7, 85.6, 81.3)),
        (1000, "match", (95.9, None, None)),
    ],
)
def test_accuracy_by_join(
    market_samples: Path, milliseconds: int, join: Any, percent: tuple[float | None, ...]
) -> None:
    """AMZN on coarser clocks: accuracy of Lee-Ready, EMO and CLNV by join as published, undecided ones counted half."""
    tape = clocked_book(market_samples, milliseconds * MILLISECOND, join)
    for layers, expected in zip((LEE_READY, EMO, CLNV), percent, strict=True):
        if expected is not None:
            undecided = aggressor_side(tape, layers)["aggressor_side"].null_count()
            found = 100 * (right(tape, layers) + undecided / 2) / tape.height
            assert found == pytest.approx(expected, abs=0.06)


def interpreted(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A kernel module once more, its functions as plain Python."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    path = Path(trade_rules.__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"interpreted_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compiled_kernels_do_what_their_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, every rule, location and earlier price of 700 trades comes out as compiled."""
    trades = random_trades(700, 11).with_columns(
        pl.when(pl.int_range(pl.len()) % 50 != 7).then(pl.col("trade_price")).alias("trade_price")
    )
    names = ("trade_price", "trade_size", *(f"{name}{end}" for end in ("", "_exchange") for name in _OF_A_SUBSET))
    columns = tuple(trades[name].to_numpy() for name in names)
    plain = interpreted("trade_rules", monkeypatch)
    assert not hasattr(plain.sign_trades, "py_func")
    codes = [trade_rules.QUOTE, trade_rules.TICK, *range(7)]
    for rules in ([0], [1], [2, 0], [2], [3, 1], [4], [5, 6], codes):
        shifts = np.array([6 * (i % 2) for i in range(len(rules))], dtype=np.int64)
        found = [np.empty(len(trades), dtype=np.int8) for _ in range(2)]
        for module, out in zip((trade_rules, plain), found, strict=True):
            module.sign_trades(np.array(rules, dtype=np.int64), shifts, columns, out)
        assert np.array_equal(*found)
    starts = np.array([0, 300, 700])
    both = [(np.empty(700), np.empty(700), np.empty(700, dtype=np.int8)) for _ in range(2)]
    for module, (earlier, later, places) in zip((trade_rules, plain), both, strict=True):
        module.different_prices(columns[0], starts, earlier, later)
        module.locate_trades(columns[0], columns[4], columns[5], places)
    for compiled, source in zip(*both, strict=True):
        np.testing.assert_array_equal(compiled, source)


_OF_A_SUBSET = ("earlier_price", "later_price", "bid", "ask", "bid_size", "ask_size")


def test_kernel_counts_prices_as_everything_else_does() -> None:
    """A dollar has as many units in the kernel as in the vocabulary, which a kernel does not import."""
    assert trade_rules.TICKS_PER_DOLLAR == TICKS_PER_DOLLAR
