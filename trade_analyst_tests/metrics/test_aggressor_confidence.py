"""The probability of a buyer: symmetric, capped, calibrated where it can be measured, and honest where it cannot."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from labelled_tapes import MILLISECOND, SECOND, clocked_book, crypto, default_tapes, exact_book

from trade_analyst_pipeline.market.aggressor_posterior import STEPS, TICKS, default_posterior
from trade_analyst_pipeline.market.trade_locations import LOCATIONS
from trade_analyst_pipeline.metrics.aggressor_confidence import (
    SCHEMA,
    accuracy,
    aggressor_confidence,
    cross_validated,
    fit_posterior,
    reliability,
    score,
)
from trade_analyst_pipeline.metrics.aggressor_side import CLNV, EMO, LEE_READY, aggressor_side

MIRRORED = dict(zip(LOCATIONS, LOCATIONS[::-1], strict=True))


def placed(
    location: str | None, tick: str | None, quality: str = "exact", *, status: str = "ok", true: str = "buyer"
) -> pl.DataFrame:
    """One row of `aggressor_side`, as far as it is read."""
    row = {"symbol": "XYZ", "trade_time": 0, "sequence": 0, "trade_location": location, "tick_direction": tick}
    frame = pl.DataFrame(
        row
        | {"session_date": date(2025, 3, 12), "quote_quality": quality, "aggressor_status": status, "true_side": true}
    )
    words = pl.col("trade_location", "tick_direction").cast(pl.String)
    return frame.with_columns(words, pl.col("trade_time").cast(pl.Datetime("us", "UTC")))


def chance(rows: pl.DataFrame) -> float | None:
    """The probability of a buyer in the only row, by the table of the package."""
    value: float | None = aggressor_confidence(rows, default_posterior())["buy_probability"].item()
    return value


@pytest.mark.parametrize("location", [*LOCATIONS, None])
@pytest.mark.parametrize("quality", [*default_posterior().cells, "option_prior", "block"])
def test_buyers_and_sellers_are_treated_alike(location: str | None, quality: str) -> None:
    """A trade mirrored at the mid, its tick turned round, has the complementary probability."""
    other = None if location is None else MIRRORED[location]
    for tick, turned in (("up", "down"), ("down", "up"), (None, None)):
        buys, sells = chance(placed(location, tick, quality)), chance(placed(other, turned, quality))
        assert buys is not None
        assert sells is not None
        assert 0.005 <= buys <= 0.995
        assert buys + sells == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("location", "tick", "quality", "side", "rule", "status"),
    [
        ("ask", "up", "exact", "buyer", "quote", "ok"),
        ("bid", "up", "exact", "seller", "quote", "ok"),
        ("mid", "down", "exact", "seller", "tick", "ok"),
        # with a quote that may be newer than the trade, a print at the ask after a down-tick is more often a sale
        ("ask", "down", "concurrent", "seller", "tick", "ok"),
        ("upper_near", "down", "exact", None, None, "even"),
        ("mid", None, "exact", None, None, "even"),
        (None, "up", "strict", "buyer", "tick", "ok"),
        # hidden behind the trade shown, volume at the mid went the other way more often
        ("mid", "up", "unseen", "seller", "posterior", "ok"),
    ],
)
def test_side_rule_and_status(
    location: str | None, tick: str | None, quality: str, side: str | None, rule: str | None, status: str
) -> None:
    """The likelier side is named with what says the same; none within 0.02 of one half."""
    found = aggressor_confidence(placed(location, tick, quality), default_posterior())
    assert found.schema == SCHEMA.polars_schema
    assert found.select("aggressor_side", "aggressor_rule", "aggressor_status").row(0) == (side, rule, status)
    assert found["posterior_version"].to_list() == ["1"]
    assert found["confidence"].item() == max(found["buy_probability"].item(), 1 - found["buy_probability"].item())


def test_without_a_price_there_is_no_probability() -> None:
    """Null with `no_price`, not one half."""
    found = aggressor_confidence(placed(None, None, status="no_price"), default_posterior())
    assert found.select("buy_probability", "confidence", "aggressor_side", "aggressor_status").row(0) == (
        *(None, None, None, "no_price"),
    )


def test_a_quality_the_table_has_not_is_refused() -> None:
    """Also one that is not a word of ours."""
    with pytest.raises(ValueError, match="not fitted on quotes of quality 'nbbo'"):
        chance(placed("ask", "up", "nbbo"))


def test_fitting_counts_buyers_with_sellers() -> None:
    """A buyer at the ask after an up-tick and a seller at the bid after a down-tick fall into one cell."""
    rows = [
        *[placed("ask", "up"), placed("bid", "down", true="seller"), placed("ask", "up", true="seller")],
        *[placed("lower_outer", "up", true="seller"), placed("mid", "down", true="buyer"), placed(None, "up")],
        *[placed("mid", None), placed("ask", "up", true="unknown"), placed("ask", "up", status="no_price")],
        *[placed("ask", "up", "block"), placed("far_above", None, "strict")],
    ]
    fitted = fit_posterior(pl.concat(rows), version="7", fitted_on=("by hand",))
    found = {
        (quality, STEPS[step], TICKS[tick]): tuple(cells[step, tick])
        for quality, cells in fitted.cells.items()
        for step, tick in np.argwhere(cells[..., 1] > 0)
    }
    assert found == {
        ("exact", "at", "with"): (2, 3),
        ("exact", "outer", "against"): (1, 1),
        ("exact", "mid", "with"): (0, 1),
        ("exact", "no_quote", "with"): (1, 1),
        ("strict", "far", "none"): (1, 1),
    }
    assert (fitted.version, fitted.fitted_on) == ("7", ("by hand",))


def scored(*rows: tuple[float, bool]) -> pl.DataFrame:
    """Trades as `score` has them, of one quality."""
    chances, buys = zip(*rows, strict=True)
    return pl.DataFrame({"symbol": "XYZ", "quote_quality": "exact", "buy_probability": chances, "is_buyer": buys})


def test_figures_by_hand() -> None:
    """Four trades: bins, accuracy, Brier score and calibration error worked out by hand."""
    trades = scored((0.9, True), (0.88, False), (0.52, True), (0.5, False))
    assert reliability(trades).select(pl.exclude("quote_quality")).rows() == [
        (0.5, 2, pytest.approx(0.51), 0.75),
        (0.85, 1, 0.88, 0.0),
        (0.9, 1, 0.9, 1.0),
    ]
    (row,) = accuracy(trades).rows(named=True)
    assert (row["trades"], row["accuracy_pct"]) == (4, 62.5)
    assert row["brier"] == pytest.approx((0.01 + 0.7744 + 0.2304 + 0.25) / 4)
    assert row["constant_brier"] == 0.25
    assert row["ece"] == pytest.approx((2 * 0.24 + 0.88 + 0.1) / 4)


def test_blocks_are_scored_by_the_others() -> None:
    """A fifth that contradicts the rest is scored by the rest, and gains nothing from itself."""
    honest = [placed("ask", "up") for _ in range(80)]
    found = cross_validated(pl.concat([*honest, *[placed("ask", "up", true="seller") for _ in range(20)]]))
    last = found["buy_probability"][-1]
    assert last == pytest.approx(82.5 / 85)
    assert found.height == 100


def joined_tapes(samples: Path) -> dict[str, dict[str, pl.DataFrame]]:
    """Every regime, a kind of clock and join, with the tapes that can be had in it."""
    regimes: dict[str, dict[str, pl.DataFrame]] = {
        "exact": {"book": exact_book(samples), "perpetual": crypto(samples, "usdm", MILLISECOND)},
        "at or before, 1 ms": {
            "book": clocked_book(samples, MILLISECOND, "at_or_before"),
            "perpetual": crypto(samples, "usdm", MILLISECOND, "at_or_before"),
        },
        "by arrival": {"perpetual": crypto(samples, "usdm", None), "spot": crypto(samples, "spot", None)},
    }
    for join in ("before", "at_or_before", "match"):
        regimes[f"{join}, 1 s".replace("_", " ")] = {
            "book": clocked_book(samples, SECOND, join),
            "perpetual": crypto(samples, "usdm", SECOND, join),
            "spot": crypto(samples, "spot", SECOND, join),
        }
    return regimes


def best_fixed_rule(tape: pl.DataFrame) -> float:
    """Percent of sides right by the best of Lee-Ready, EMO and CLNV, undecided ones counted half."""
    sides = [aggressor_side(tape, layers)["aggressor_side"] for layers in (LEE_READY, EMO, CLNV)]
    return max(100 * ((side == tape["true_side"]).sum() + side.null_count() / 2) / tape.height for side in sides)


def aims_missed(found: dict[str, float], best: float) -> str:
    """Which of the three aims the figures miss, in words; empty for none."""
    missed = {
        "accuracy": found["accuracy_pct"] < best - 1,
        "calibration": found["ece"] > 0.03,
        "Brier": found["brier"] > 0.85 * found["constant_brier"],
    }
    return ", ".join(name for name, is_missed in missed.items() if is_missed)


def figures(trades: pl.DataFrame) -> dict[str, float]:
    """Accuracy and calibration of all trades together, whatever their qualities."""
    (row,) = accuracy(trades.with_columns(pl.lit("all").alias("quote_quality"))).rows(named=True)
    return row


# What a table fitted on other tapes misses, as measured: the order book trades inside a spread of many ticks, the
# Binance markets almost only at a spread of one, so neither kind can teach the other. Nothing was tuned on these.
LEFT_OUT_MISSES = {
    ("exact", "book"): "calibration",
    ("at or before, 1 ms", "book"): "accuracy, calibration",
    ("at or before, 1 ms", "perpetual"): "accuracy, calibration",
    ("by arrival", "perpetual"): "calibration",
    ("by arrival", "spot"): "calibration",
    ("before, 1 s", "book"): "accuracy, calibration",
    ("at or before, 1 s", "book"): "calibration",
    ("match, 1 s", "book"): "accuracy, calibration",
    ("match, 1 s", "spot"): "calibration",
}


def test_left_out_tapes(market_samples: Path) -> None:
    """Each tape scored with a table fitted on the others only misses the aims recorded, and no other."""
    misses = {}
    for regime, tapes in joined_tapes(market_samples).items():
        for name, tape in tapes.items():
            others = pl.concat([other for key, other in tapes.items() if key != name])
            trades = score(tape, fit_posterior(others, version="others", fitted_on=()))
            found, best = figures(trades), best_fixed_rule(tape)
            missed = aims_missed(found, best)
            print(
                f"RUN: {regime}, {name} ({tape.height:,} trades): {shown(found)}, best fixed rule {best:.2f} %", end=""
            )
            print(f"; NOT REACHED: {missed}" if missed else "")
            print_reliability(trades)
            misses |= {(regime, name): missed} if missed else {}
    assert misses == LEFT_OUT_MISSES


def test_blocks_of_each_tape(market_samples: Path) -> None:
    """Five stretches of each tape, each scored with a table fitted on the other four, reach every aim everywhere."""
    for regime, tapes in joined_tapes(market_samples).items():
        for name, tape in tapes.items():
            found, best = figures(cross_validated(tape)), best_fixed_rule(tape)
            print(f"RUN: {regime}, {name}: {shown(found)}, best fixed rule {best:.2f} %")
            assert aims_missed(found, best) == "", (regime, name)


def shown(found: dict[str, float]) -> str:
    """The figures as a line."""
    gain = 1 - found["brier"] / found["constant_brier"]
    return (
        f"{found['accuracy_pct']:.2f} % right, ECE {found['ece']:.4f}, Brier {found['brier']:.4f} ({gain:.0%} gained)"
    )


def print_reliability(trades: pl.DataFrame) -> None:
    """The reliability table, a line a bin."""
    for _, low, count, confidence, right in reliability(trades).iter_rows():
        print(f"    from {low:.2f}: {count:6,} trades, confidence {confidence:.3f}, right {right:.3f}")


def test_default_table_is_fitted_on_what_it_says(market_samples: Path) -> None:
    """Fitted anew on the samples it names, the table of the package comes out."""
    fitted = fit_posterior(pl.concat(default_tapes(market_samples).values()), version="1", fitted_on=())
    default = default_posterior()
    assert list(fitted.cells) == list(default.cells)
    for quality, cells in fitted.cells.items():
        assert np.array_equal(cells, default.cells[quality]), quality


def test_published_reliability_is_as_measured(market_samples: Path, repository: Path) -> None:
    """The reliability table in the page is what scoring the tapes of the table in blocks gives."""
    page = (repository / "docs/metrics/aggressor_confidence.md").read_text(encoding="utf-8")
    for tape in default_tapes(market_samples).values():
        for quality, low, count, confidence, right in reliability(cross_validated(tape)).iter_rows():
            assert f"| `{quality}` | {low:.2f} | {count:,} | {confidence:.3f} | {right:.3f} |" in page


def test_constant_confidence_is_caught() -> None:
    """The control: a forecast that is sure of everything misses calibration and Brier."""
    rng = np.random.default_rng(3)
    rows = [(0.995, bool(is_buyer)) for is_buyer in rng.random(1_000) < 0.6]
    assert aims_missed(figures(scored(*rows)), 0.0) == "calibration, Brier"
