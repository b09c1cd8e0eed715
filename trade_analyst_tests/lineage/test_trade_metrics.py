"""From segments of the stream to classified trades: against what was really traded, and without a look ahead."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trade_analyst_pipeline.datasets import TABLES, timesales
from trade_analyst_pipeline.export import publish_session
from trade_analyst_pipeline.lineage.metrics import build_snapshot_metric
from trade_analyst_pipeline.lineage.schemas import TRADE_SCHEMAS, table_schemas
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.lineage.trade_metrics import TRADE_METRICS
from trade_analyst_pipeline.market.aggressor_posterior import default_posterior
from trade_analyst_pipeline.metrics.aggressor_confidence import aggressor_confidence
from trade_analyst_pipeline.metrics.aggressor_side import aggressor_side
from trade_analyst_pipeline.metrics.trade_location import trade_location
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.tape import Conflation, Tape
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

sys.path.append(str(Path(__file__).parents[1] / "datasets"))

from stream_blocks import OPEN, Message, block, carried, streamed

DAY = date(2025, 12, 9)
CREATED = datetime(2025, 12, 9, 22, 0, tzinfo=UTC)
FULL_SYMBOLS = ["AAPL", "MSFT", "SPY", "SY0042"]
CONFLATIONS = (0.0, *(pytest.param(share, marks=pytest.mark.full_only) for share in (0.01, 0.05)), 0.2)
WINDOWS = {"minute": 1, "minute_5": 5}


@pytest.fixture(scope="module")
def tape() -> Tape:
    """One tape for all tests; it never changes."""
    return Tape(Market(20251209))


def classified(messages: list[Message]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Trades, their sides and their probabilities, as the pipeline makes them."""
    trades = timesales.combine(timesales.normalize([block(messages)], session_date=DAY).frame).sort(
        timesales.SCHEMA.key
    )
    is_print = pl.col("volume_kind").is_in(["shown", "unseen"]) & pl.col("exclusion").is_null()
    signed = aggressor_side(trades.filter(is_print))
    return trades, signed, aggressor_confidence(signed, default_posterior())


@pytest.mark.parametrize("share", CONFLATIONS)
def test_sums_are_within_what_they_state(tape: Tape, share: float, is_full: bool) -> None:
    """A session of the simulator, of which that share of the prints is withheld.

    Completeness is within 0.5 points in 95 % of the symbol-minutes, volume being of the minute in which it was told;
    the share bought is within its band in 93 % of the five-minute windows, whose half-width is 10 points at the median.
    """
    symbols, minutes = FULL_SYMBOLS if is_full else ["SPY"], 390
    conflation = Conflation(share=share)
    sums = trade_location(*classified(streamed(tape, symbols, minutes, conflation)), intervals=WINDOWS)
    until = OPEN + timedelta(minutes=minutes)
    prints = pl.concat([tape.prints(symbol, OPEN, until, conflation) for symbol in symbols])
    told = of_windows(
        prints, "update_time", 1, truth=100 * pl.col("size").filter("is_shown").sum() / pl.col("size").sum()
    )
    minutely = sums.filter(interval="minute").join(told, on=("symbol", "interval_start"))
    near = (minutely["completeness_pct"] - minutely["truth"]).abs() <= 0.5
    assert near.mean() >= 0.95
    sided = prints.filter(pl.col("side").is_not_null())
    bought = 100 * pl.col("size").filter(pl.col("side") == 1).sum() / pl.col("size").sum()
    windows = sums.filter(interval="minute_5").join(
        of_windows(sided, "time", 5, truth=bought), on=("symbol", "interval_start")
    )
    half_width = windows["buy_share_half_width"]
    inside = ((windows["buy_share_pct"] - windows["truth"]).abs() <= half_width).mean()
    print(f"withheld {share:.0%}: {near.mean():.1%} of {minutely.height} minutes complete as told; ", end="")
    print(f"{inside:.1%} of {windows.height} windows inside, half-width {half_width.median():.1f} points, ", end="")
    print(f"coverage {windows['coverage_pct'].mean():.1f} %")
    assert inside >= 0.93
    assert half_width.median() <= 10
    # control: volume alone, half of it bought, is not within the bands
    assert ((50 - windows["truth"]).abs() <= half_width).mean() < 0.9


def of_windows(prints: pl.DataFrame, time: str, minutes: int, **truth: pl.Expr) -> pl.DataFrame:
    """A figure of each symbol and window of the truth."""
    start = pl.col(time).dt.cast_time_unit("us").dt.truncate(f"{minutes}m").alias("interval_start")
    return prints.group_by("symbol", start).agg(**truth)


def test_nothing_after_a_trade_changes_its_side(tape: Tape, is_full: bool) -> None:
    """Whatever comes after an instant is made another: no row up to it changes. With the nearest quote rows do."""
    messages = streamed(tape, ["AAPL"], 6, Conflation(share=0.2))
    rng = random.Random(1)  # noqa: S311  a choice, not a secret
    differing = {"previous": 0, "nearest": 0}
    before = {"previous": labels(messages), "nearest": nearest_labels(messages)}
    for _ in range(1000 if is_full else 20):
        place = rng.randrange(20, len(messages) - 1)
        changed = [*messages[: place + 1], *(mutated(message, rng) for message in messages[place + 1 :])]
        until = datetime.fromtimestamp(messages[place][0] // 1_000_000 / 1000, UTC)
        for name, found in (("previous", labels), ("nearest", nearest_labels)):
            then, now = (
                table.filter(pl.col("known_time") <= until + timedelta(microseconds=500))
                for table in (before[name], found(changed))
            )
            differing[name] += not then.equals(now)
    assert differing["previous"] == 0
    assert differing["nearest"] > 0


def mutated(message: Message, rng: random.Random) -> Message:
    """A message with other prices and sizes."""
    document = json.loads(message[1])
    for item in document["data"][0]["content"]:
        for field in ("1", "2", "3"):
            if field in item:
                item[field] = round(item[field] * rng.uniform(0.98, 1.02), 2)
    return message[0], json.dumps(document)


def labels(messages: list[Message]) -> pl.DataFrame:
    """What is said of each trade."""
    trades, signed, confidence = classified(messages)
    key = ["symbol", "trade_time", "sequence"]
    said = signed.select(*key, "trade_location", "aggressor_side", "tick_direction").with_columns(
        confidence["buy_probability"]
    )
    return trades.join(said, on=key, how="left").sort("known_time", "sequence")


def nearest_labels(messages: list[Message]) -> pl.DataFrame:
    """The control: each trade with the quote nearest in time."""
    trades, *_ = classified(messages)
    quotes = [
        {"quote_time": message[0] // 1000, "near_bid": item.get("1"), "near_ask": item.get("2")}
        for message in messages
        for item in json.loads(message[1])["data"][0]["content"]
        if "1" in item or "2" in item
    ]
    table = pl.DataFrame(quotes).with_columns(
        pl.col("near_bid", "near_ask").forward_fill(),
        pl.col("quote_time").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    )
    return trades.sort("known_time").join_asof(
        table.rename({"quote_time": "known_time"}).sort("known_time"), on="known_time", strategy="nearest"
    )


@pytest.fixture(scope="module")
def messages(tape: Tape) -> list[Message]:
    """Ten minutes of a symbol."""
    return streamed(tape, ["AAPL"], 10, Conflation(share=0.05))


def test_segments_become_tables_metrics_and_files(
    tmp_path: Path, messages: list[Message], seal_segment: Callable[..., None]
) -> None:
    """Two segments of the archive, a third that comes late: the same tables as of one, and again nothing new."""
    cuts = (messages[:300], messages[300:600], messages[600:])
    before = ([], messages[:300], messages[:600])
    segments = [
        [*([block([carried(earlier)], is_carried=True)] if earlier else []), block(part)]
        for earlier, part in zip(before, cuts, strict=True)
    ]
    late, whole = tmp_path / "late", tmp_path / "whole"
    for number in (0, 2):
        seal_segment(late, segments[number], number)
    first = made(late)
    seal_segment(late, segments[1], 1)
    again = made(late)
    assert again == made(late)
    seal_segment(whole, [block(messages[:500]), block(messages[500:])], 0)
    assert again == made(whole) != first
    store = TableStore(late)
    gaps = store.scan("tables", "timesales", schema=timesales.SCHEMA).filter(volume_kind="gap").collect()
    assert gaps.is_empty()
    published = publish_session(
        store, DAY, schemas=TRADE_SCHEMAS, code_version="1", created_time=CREATED, what="classification"
    )
    assert {table.name for table in published.tables} == {schema.name for schema in TRADE_SCHEMAS}
    folder = late / "exports" / "classification" / f"session_date={DAY}"
    side = pl.read_parquet(folder / "aggressor_side.parquet")
    assert_frame_equal(side, store.scan("metrics", "aggressor_side", schema=TRADE_SCHEMAS[0]).collect())


def made(folder: Path) -> dict[str, str]:
    """Content hashes after everything has been brought up to date."""
    built = list(build_tables(folder, "timesales", [DAY], workers=1, created_time=CREATED))
    assert [each.status for each in built] in (["built"], ["unchanged"])
    store = TableStore(folder)
    for metric in TRADE_METRICS:
        list(build_snapshot_metric(store, metric, [DAY], created_time=CREATED))
    names = [("tables", "timesales"), *(("metrics", schema.name) for schema in TRADE_SCHEMAS)]
    found = {name: store.manifest(stage, name, DAY) for stage, name in names}
    return {name: manifest.content_hash for name, manifest in found.items() if manifest is not None}


@pytest.fixture
def seal_segment() -> Callable[..., None]:
    """Seals a segment of the stream in an archive."""

    def seal(folder: Path, records: list[RawResponse], number: int) -> None:
        moment = OPEN + timedelta(seconds=number)
        writer = Archive(folder / "raw").begin(
            dataset="stream", session_date=DAY, scheduled_time=moment, started_time=moment, symbols=("AAPL",)
        )
        for record in records:
            writer.append(record)
        writer.seal(moment)

    return seal


def test_trade_tables_are_known_by_name() -> None:
    """SQL finds them, and timesales is a table of the registry that nothing asks the source for."""
    assert {"tables.timesales", "metrics.trade_location", "metrics.aggressor_side"} <= table_schemas().keys()
    assert TABLES["timesales"].requests() == []
