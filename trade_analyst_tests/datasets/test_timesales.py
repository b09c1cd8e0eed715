"""Time and sales: every rise of volume once, against the quote before it, however the stream was cut or repeated."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from stream_blocks import OPEN, Message, block, carried, milliseconds, plain_trades, streamed

from trade_analyst_pipeline.datasets import timesales
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.tape import Conflation, Tape
from trade_analyst_pipeline.storage.tables import TableStore
from trade_analyst_pipeline.validation import validate

DAY = date(2025, 12, 9)
SYMBOLS = ["AAPL", "SPY", "SY0042"]
CONFLATION = Conflation(share=0.2)


@pytest.fixture(scope="module")
def tape() -> Tape:
    """One tape for all tests; it never changes."""
    return Tape(Market(20251209))


@pytest.fixture(scope="module")
def messages(tape: Tape) -> list[Message]:
    """Twenty minutes of three symbols, a fifth of the prints withheld."""
    return streamed(tape, SYMBOLS, 20, CONFLATION)


def derived(*segments: list[RawResponse]) -> pl.DataFrame:
    """The table made of these segments, each judged by itself as the pipeline does."""
    found = [normalized(segment).frame for segment in segments]
    judged = [validate(frame, timesales.SCHEMA) for frame in found]
    assert all(each.quarantined.is_empty() for each in judged)
    return timesales.combine(pl.concat([each.valid for each in judged])).sort(timesales.SCHEMA.key)


def normalized(segment: list[RawResponse]) -> Normalized:
    """One segment as rows."""
    return timesales.normalize(segment, session_date=DAY)


def of_one(*updates: dict[str, float | int | str], seconds: float = 1.0) -> list[Message]:
    """Messages of one symbol, so many seconds apart from 10:00 New York on; the first is a full image."""
    start = milliseconds(datetime(2025, 12, 9, 15, 0, tzinfo=UTC))
    found = []
    for number, fields in enumerate(updates):
        stamp = start + round(1000 * seconds * number)
        item = {"key": "X"} | ({"delayed": False, "assetMainType": "EQUITY"} if number == 0 else {}) | fields
        part = {"service": "LEVELONE_EQUITIES", "timestamp": stamp, "command": "SUBS", "content": [item]}
        found.append((stamp * 1_000_000, json.dumps({"data": [part]}, separators=(",", ":"))))
    return found


IMAGE = {
    "1": 10.0,
    "2": 10.02,
    "3": 10.0,
    "4": 3,
    "5": 4,
    "8": 1000,
    "9": 100,
    "34": 1765292390000,
    "35": 1765292390000,
}


def trades(*updates: dict[str, float | int | str], seconds: float = 1.0) -> list[tuple[object, ...]]:
    """(kind, price, size, volume, bid, ask) of what follows an image."""
    table = derived([block(of_one(IMAGE, *updates, seconds=seconds))]).sort("known_time", "sequence")
    return table.select("volume_kind", "trade_price", "trade_size", "sequence", "bid", "ask").rows()[1:]


def test_a_second_reckoning_finds_the_same_trades(messages: list[Message]) -> None:
    """Kind, price, size, volume and the quote before of every row, from dictionaries updated one message at a time."""
    table = derived([block(messages)]).filter(pl.col("volume_kind") != "start")
    ours = table.select("symbol", "volume_kind", "trade_price", "trade_size", "sequence", "bid", "ask").rows()
    expected = plain_trades(messages)
    assert len(ours) > 1500
    key = lambda row: (row[0], row[4], row[1])  # noqa: E731
    assert sorted(ours, key=key) == sorted(expected, key=key)


def test_all_volume_is_in_one_row_once(tape: Tape, messages: list[Message]) -> None:
    """Sizes add up to what was printed, shown ones to what the simulator says was shown."""
    table = derived([block(messages)])
    until = OPEN + timedelta(minutes=20)
    for symbol in SYMBOLS:
        prints = tape.prints(symbol, OPEN, until, CONFLATION)
        told = prints.filter(pl.col("update_time") < until)
        sizes = table.filter(symbol=symbol).group_by("volume_kind").agg(pl.col("trade_size").sum())
        found = dict(sizes.rows())
        assert found["shown"] + found["unseen"] == told["size"].sum()
        assert found["shown"] == pytest.approx(told.filter("is_shown")["size"].sum(), rel=0.002)
        shown = table.filter(symbol=symbol, volume_kind="shown").select("trade_time", "trade_price", "trade_size")
        truth = prints.select(
            pl.col("time").cast(pl.Datetime("us", "UTC")).alias("trade_time"),
            pl.col("price").alias("trade_price"),
            pl.col("size").cast(pl.Float64).alias("trade_size"),
        )
        assert shown.join(truth, on=shown.columns, how="anti").is_empty()


def test_segments_give_the_same_table_however_cut_late_or_repeated(messages: list[Message]) -> None:
    """Four segments, in any order, one twice, equal one; a segment left out is a gap, and coming late it closes it."""
    cuts = [0, 900, 1700, 2600, len(messages)]
    segments = [
        [*([block([carried(messages[:first])], is_carried=True)] if first else []), block(messages[first:last])]
        for first, last in pairwise(cuts)
    ]
    whole = derived([block(messages)])
    assert_frame_equal(derived(*segments), whole)
    assert_frame_equal(derived(*reversed(segments), segments[1]), whole)
    without = derived(segments[0], segments[1], segments[3])
    gap = without.filter(volume_kind="gap")
    assert gap["symbol"].to_list() == sorted(SYMBOLS)
    missed = whole.join(without, on=timesales.SCHEMA.key, how="anti")["trade_size"].sum()
    assert gap["trade_size"].sum() == missed > 0
    assert_frame_equal(derived(segments[0], segments[1], segments[3], segments[2]), whole)


def test_after_a_reconnect_nothing_is_attributed(messages: list[Message]) -> None:
    """The image of a new connection only sets the state; what was traded between is a gap of its size."""
    first, rest = messages[:1000], messages[1300:]
    new = carried(messages[:1300])
    table = derived([block(first, epoch=1), block([new, *rest], epoch=2)])
    lost = {row[0]: 0.0 for row in plain_trades(messages)}
    for symbol, _, _, size, volume, *_ in plain_trades(messages[:1300]):
        last = max(row[4] for row in plain_trades(first) if row[0] == symbol)
        lost[symbol] += size if volume > last else 0
    gaps = table.filter(volume_kind="gap")
    assert dict(gaps.select("symbol", "trade_size").rows()) == {name: size for name, size in lost.items() if size}
    assert table.filter(volume_kind="shown").height == sum(
        row[1] == "shown" for part in (first, [new, *rest]) for row in plain_trades(part)
    )


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ([{"1": 10.01, "2": 10.03}], []),  # a quote is no trade
        ([{"3": 10.02, "33": 10.02}], []),  # nor is a price without volume
        ([{"8": 1100, "35": 1765292401000}], [("shown", 10.0, 100, 1100, 10.0, 10.02)]),  # same price and size again
        (
            [{"1": 10.02, "2": 10.04, "3": 10.02, "8": 1300, "9": 200, "35": 1765292401000}],
            [("unseen", 10.02, 100, 1100, 10.0, 10.02), ("shown", 10.02, 200, 1300, 10.0, 10.02)],
        ),  # the quote before, not the one that the trade left
        ([{"8": 1037}], [("unseen", None, 37, 1037, 10.0, 10.02)]),  # an odd lot that changes volume alone
        ([{"8": 1050, "9": 80, "3": 10.02}], [("shown", 10.02, 50, 1050, 10.0, 10.02)]),  # more than the volume rose
        ([{"8": 1100, "3": 10.02, "9": 100}] * 2, [("shown", 10.02, 100, 1100, 10.0, 10.02)]),  # told twice
        (
            [{"1": 0.0, "2": 0.0}, {"8": 1100, "3": 10.02, "9": 100}],
            [("shown", 10.02, 100, 1100, None, None)],
        ),  # halted
        (
            [{"1": 10.05, "2": 10.03}, {"8": 1100, "3": 10.02, "9": 100}],
            [("shown", 10.02, 100, 1100, None, None)],
        ),  # crossed
    ],
)
def test_updates_by_hand(updates: list[dict[str, float | int | str]], expected: list[tuple[object, ...]]) -> None:
    """What each way of changing makes."""
    assert trades(*updates) == expected


def test_a_reset_is_no_trade() -> None:
    """Volume that falls begins anew; the next rise counts from there."""
    found = trades({"8": 300}, {"8": 400, "3": 10.02, "9": 100})
    assert found == [("start", None, None, 300, None, None), ("shown", 10.02, 100, 400, 10.0, 10.02)]
    segment = [block(of_one(IMAGE, {"8": 300}, {"8": 400}))]
    assert normalized(segment).counts["volume_reset"] == 1


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ([0, 1000], [("start", None, 0)]),  # all of it was counted before the fall
        ([0, 1000, 1030], [("start", None, 0), ("unseen", 30, 1030)]),
        ([0, 1040], [("start", None, 0), ("unseen", 40, 1040)]),
        ([1230, 1130, 1360], [("unseen", 230, 1230), ("start", None, 1130), ("unseen", 130, 1360)]),
        ([600, 500, 1000, 1010], [("start", None, 600), ("start", None, 500), ("unseen", 10, 1010)]),  # two falls
        ([0, 430, 900], [("start", None, 0), ("unseen", 430, 430), ("unseen", 470, 900)]),  # it began anew
    ],
)
def test_volume_that_falls_and_comes_back_counts_once(
    volumes: list[int], expected: list[tuple[str, float | None, int]]
) -> None:
    """A rise to where the volume was before a fall is of what is above that; one that stays below counts whole."""
    found = trades(*({"8": volume} for volume in volumes))
    assert [(row[0], row[2], row[3]) for row in found] == expected


@pytest.mark.parametrize(("volume", "expected"), [(0, []), (1000, []), (1300, [("gap", 300.0, 1300)])])
def test_a_state_after_a_fall_counts_once_too(volume: int, expected: list[tuple[str, float, int]]) -> None:
    """A segment that begins where the volume was before a fall tells nothing; above it, what is above."""
    *fallen, state = of_one(IMAGE, {"8": 0}, IMAGE | {"8": volume})
    table = derived([block(fallen)], [block([state], is_carried=True)]).sort("known_time", "sequence")
    assert table.select("volume_kind", "trade_size", "sequence").rows()[2:] == expected


def test_after_a_silence_volume_is_a_gap() -> None:
    """More than 60 seconds without any message, not even a heartbeat; a heartbeat between proves the stream."""
    update = {"3": 10.02, "8": 1200, "9": 100, "35": 1765292470000}
    assert trades(update, seconds=61)[0][:3] == ("gap", None, 200.0)
    assert [row[0] for row in trades(update, seconds=59)] == ["unseen", "shown"]
    quiet = of_one(IMAGE, update, seconds=61)
    beat = (quiet[0][0] + 30_000_000_000, '{"notify":[{"heartbeat":"1765292430000"}]}')
    table = derived([block([quiet[0], beat, quiet[1]])])
    assert table["volume_kind"].to_list() == ["start", "unseen", "shown"]


@pytest.mark.parametrize(
    ("update", "word"),
    [
        ({"3": 10.31, "8": 1100, "9": 100}, "suspect"),
        ({"3": 10.02, "8": 1100, "9": 100, "35": 1765292380000}, "out_of_sequence"),
        ({"3": 10.02, "8": 1100, "9": 100, "35": 1765290599999}, "out_of_sequence"),
        ({"3": 10.2, "8": 1100, "9": 100}, None),  # 18 spreads away, but within 2 % of the mid
    ],
)
def test_prints_that_say_nothing_are_excluded(update: dict[str, float | int | str], word: str | None) -> None:
    """A price far off the quotes, and a print that comes after a later one."""
    table = derived([block(of_one(IMAGE, update))])
    assert table.filter(volume_kind="shown")["exclusion"].to_list() == [word]


def test_a_large_print_off_the_quotes_is_a_block() -> None:
    """More than ten times the size shown, and beyond the quote."""
    for size, price, quality in ((41, 10.03, "block"), (40, 10.03, "previous_update"), (41, 10.02, "previous_update")):
        update = {"3": price, "8": 1000 + size, "9": size}
        table = derived([block(of_one(IMAGE, update))])
        assert table.filter(volume_kind="shown")["quote_quality"].to_list() == [quality]


def test_messages_that_are_not_as_usual_give_the_same_rows(messages: list[Message]) -> None:
    """Blanks, escapes, exponents and other services: read one by one, with the result of the fast way."""
    unusual = [
        (at, json.dumps(json.loads(text)).replace('"key": "A', '"key": "\\u0041')) for at, text in messages[:600]
    ]
    mixed = [*unusual, *messages[600:1200]]
    assert_frame_equal(derived([block(mixed)]), derived([block(messages[:1200])]))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"data":[{"service":"LEVELONE_EQUITIES","content":[{"key":"X","8":"many"}]}]}', "wrong_type"),
        ('{"data":[{"service":"LEVELONE_EQUITIES","content":[{"key":"X","1":NaN}]}]}', "wrong_type"),
        ('{"data":[{"service":"LEVELONE_EQUITIES","content":[{"8":5}]}]}', "no_symbol"),
        ('{"data":[{"service":"LEVELONE_EQUITIES","content":[{"key"', "unreadable_message"),
        ('{"data":[{"service":"LEVELONE_EQUITIES","content":[{"key":"\\ud800","8":5}]}]}', "no_symbol"),
        ('{"data":[{"service":[],"content":[{"key":"X","8":5}]}]}', "wrong_type"),
        ('{"data":[5]}', "wrong_type"),
        ('{"data":[{"service":"LEVELONE_EQUITIES","content":{"key":"X","8":5}}]}', "wrong_type"),
        ('{"data":{"service":"LEVELONE_EQUITIES","content":[{"key":"X","8":5}]}}', "wrong_type"),
        ("[5]", "unreadable_message"),
    ],
)
def test_bad_items_are_kept_apart(text: str, rule: str) -> None:
    """Each with the rule it broke and its text; what is around it is used."""
    good = of_one(IMAGE, {"3": 10.02, "8": 1100, "9": 100})
    found = normalized([block([good[0], (good[0][0], text), good[1]])])
    assert found.rejected["rule"].to_list() == [rule]
    assert found.frame["volume_kind"].to_list() == ["gap", "shown"]


@pytest.mark.parametrize("blank", ["", " "])
def test_a_time_that_no_date_can_be_made_of_counts_as_not_sent(blank: str, tmp_path: Path) -> None:
    """In the fields of an update and of its message, read the fast way or the slow one; the table can be written."""
    impossible = 900_000_000_000_000
    first, update = of_one(IMAGE, {"3": 10.02, "8": 1100, "9": 100, "34": impossible, "35": impossible})
    text = blank + update[1].replace(str(update[0] // 1_000_000), str(impossible))
    found = normalized([block([first, (update[0], text)])])
    for name in ("update_time", "quote_time", "trade_time"):
        assert found.counts[f"impossible_time:{name}"] == 1
    rows = timesales.combine(validate(found.frame, timesales.SCHEMA).valid)
    shown = rows.filter(volume_kind="shown").select("trade_size", "update_time", "trade_time").row(0)
    assert shown == (100, None, datetime.fromtimestamp(float(IMAGE["35"]) / 1000, UTC))
    store = TableStore(tmp_path)
    written = store.write(
        "tables", rows, schema=timesales.SCHEMA, partition=DAY, fence=store.take_fence("tables", "timesales", DAY),
        source_captures=(), code_version="1", created_time=OPEN,
    )  # fmt: skip
    assert written.row_count == 2


def test_a_damaged_block_is_a_problem() -> None:
    """Named, and what other blocks hold is used."""
    good = block(of_one(IMAGE, {"3": 10.02, "8": 1100, "9": 100}))
    cut = RawResponse(good.request, 101, good.body[:-1], (), good.requested_time, good.received_time)
    found = normalized([cut, good])
    assert [problem.reason for problem in found.problems] == ["damaged_block"]
    assert found.frame.height == 2
