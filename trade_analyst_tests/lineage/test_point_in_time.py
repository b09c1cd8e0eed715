"""Reads as of an instant: the newest known of each event, whatever was corrected later."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from small_captures import CREATED, MONDAY, PAYLOADS, TUESDAY, WEDNESDAY, Captures
from stored import put

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import PointInTimeError, QueryError
from trade_analyst_pipeline.lineage.metrics import SERIES, SNAPSHOT_METRICS, build_snapshot_metric
from trade_analyst_pipeline.lineage.point_in_time import read_as_of
from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS, table_schemas
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.storage.catalogue import build_catalogue, create_views, query
from trade_analyst_pipeline.storage.tables import TableStore

SCHEMA = DATASETS["ohlc"].schema
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FOREVER = datetime(2100, 1, 1, tzinfo=UTC)

Row = dict[str, Any]
Event = tuple[str, str, datetime]
Reader = Callable[[datetime], Mapping[Event, Row]]


class Bars:
    """Rows of `tables/ohlc` with many corrections, in a store and as a plain list."""

    def __init__(self, folder: Path, chance: random.Random, rows: int) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        seen = set()
        while len(self.rows) < rows:
            bar_time = START + timedelta(days=chance.randrange(8), minutes=chance.randrange(6))
            known_time = START + timedelta(days=8) + chance.randrange(400) * MICROSECOND
            event = (chance.choice(["A", "B", "C"]), chance.choice(["minute", "daily"]), bar_time)
            if (event, known_time) in seen:
                continue
            seen.add((event, known_time))
            price = float(chance.randrange(1, 10**6))
            values = dict.fromkeys(("open", "high", "low", "close"), price) | {"volume": chance.randrange(10**6)}
            times = {"bar_time": bar_time, "known_time": known_time, "session_date": bar_time.date()}
            self.rows.append({"symbol": event[0], "frequency": event[1], **times, **values})
        self.write(self.rows)

    def write(self, rows: Iterable[Row]) -> None:
        """Make these rows the whole table, a partition a session."""
        store = TableStore(self.folder)
        frame = pl.DataFrame(list(rows), schema=SCHEMA.polars_schema)
        for (day,), part in frame.partition_by("session_date", as_dict=True).items():
            assert isinstance(day, date)
            put(store, SCHEMA, part, day)

    def oracle(self, event: Event, instant: datetime) -> Row | None:
        """The row of an event known last at or before an instant, looked for one by one."""
        found: Row | None = None
        for row in self.rows:
            is_known = event_of(row) == event and row["known_time"] <= instant
            if is_known and (found is None or row["known_time"] > found["known_time"]):
                found = row
        return found

    def instant(self, chance: random.Random) -> datetime:
        """An instant: mostly the very one of a correction, or one just beside."""
        known: datetime = chance.choice(self.rows)["known_time"]
        return known + chance.choice([-1, 0, 0, 1, 10**9]) * MICROSECOND

    def event(self, chance: random.Random) -> Event:
        """An event, at times one of which nothing is known."""
        event = event_of(chance.choice(self.rows))
        return event if chance.random() < 0.95 else (event[0], event[1], event[2] + timedelta(days=30))


def event_of(row: Row) -> Event:
    """What names the event of a row."""
    return row["symbol"], row["frequency"], row["bar_time"]


def by_event(frame: pl.DataFrame) -> Mapping[Event, Row]:
    """Rows by event, of which each may be there once only."""
    wanted = [name for name in SCHEMA.names if name not in {"session_part", "is_complete"}]
    rows = [{name: row[name] for name in wanted} for row in frame.to_dicts()]
    found = {event_of(row): row for row in rows}
    assert len(found) == len(rows)
    return found


def different(bars: Bars, read: Reader, chance: random.Random, *, instants: int, events: int) -> int:
    """How many of random pairs of event and instant are answered otherwise than the oracle answers them."""
    wrong = 0
    for _ in range(instants):
        instant = bars.instant(chance)
        answer = read(instant)
        for _ in range(events):
            event = bars.event(chance)
            wrong += answer.get(event) != bars.oracle(event, instant)
    return wrong


@pytest.fixture
def chance(harness_seed: int) -> random.Random:
    """Randomness of the seed that was printed."""
    return random.Random(harness_seed)  # noqa: S311


@pytest.fixture
def bars(tmp_path: Path, chance: random.Random) -> Bars:
    """Bars of eight sessions, each known some seven times."""
    return Bars(tmp_path / "data", chance, 2000)


@pytest.mark.reliability
def test_random_events_and_instants_equal_the_oracle_in_python(
    bars: Bars, chance: random.Random, *, is_full: bool
) -> None:
    """Every pair of event and instant has the row known last at or before it, or none."""

    def read(instant: datetime) -> Mapping[Event, Row]:
        return by_event(read_as_of(bars.folder, "tables.ohlc", instant).collect())

    instants, events = (1000, 10) if is_full else (60, 20)
    assert different(bars, read, chance, instants=instants, events=events) == 0


@pytest.mark.reliability
def test_random_events_and_instants_equal_the_oracle_in_sql(
    bars: Bars, chance: random.Random, *, is_full: bool
) -> None:
    """So it is with the macro of the catalogue, opened read-only as another program does."""
    path = build_catalogue(bars.folder, declared=table_schemas())
    connection = duckdb.connect(str(path), read_only=True)

    def read(instant: datetime) -> Mapping[Event, Row]:
        found = connection.sql("FROM tables.ohlc_as_of($1)", params=[instant.isoformat()]).pl()
        return by_event(found.with_columns(pl.col("bar_time", "known_time").dt.convert_time_zone("UTC")))

    instants, events = (1000, 10) if is_full else (60, 20)
    assert different(bars, read, chance, instants=instants, events=events) == 0
    connection.close()


@pytest.mark.reliability
def test_reading_the_newest_whatever_the_instant_is_found_out(bars: Bars, chance: random.Random) -> None:
    """Control: a reader that knows later corrections is wrong in many pairs, and one that knows too little in some."""
    newest = by_event(read_as_of(bars.folder, "tables.ohlc", FOREVER).collect())
    assert different(bars, lambda _: newest, chance, instants=20, events=20) > 100

    def exclusive(instant: datetime) -> Mapping[Event, Row]:
        return by_event(read_as_of(bars.folder, "tables.ohlc", instant - MICROSECOND).collect())

    assert different(bars, exclusive, chance, instants=20, events=20) > 0


def test_query_as_of_is_the_macro_for_every_table(bars: Bars) -> None:
    """A whole statement read as of an instant sees in each view what the macro of that table gives."""
    instant = START + timedelta(days=8, microseconds=200)
    whole = query(bars.folder, "FROM ohlc", declared=table_schemas(), as_of=instant, limit=10_000).frame
    macro = f"FROM ohlc_as_of('{instant.isoformat()}')"
    asked = query(bars.folder, macro, declared=table_schemas(), limit=10_000).frame
    known = read_as_of(bars.folder, "tables.ohlc", instant).collect()
    assert 0 < known.height < len({event_of(row) for row in bars.rows}) + 1
    assert whole.sort(SCHEMA.key).equals(known.sort(SCHEMA.key))
    assert asked.sort(SCHEMA.key).equals(known.sort(SCHEMA.key))


@pytest.mark.parametrize("schema", METRIC_SCHEMAS, ids=lambda schema: schema.name)
def test_sql_alone_refuses_metrics_as_of_an_instant(bars: Bars, schema: Any) -> None:
    """Neither the macro nor a view answers from what is stored, not even a count; the message says what does."""
    table, instant = f"metrics.{schema.name}", START
    for sql, when in (
        (f"FROM {table}_as_of('2026-01-05T00:00:00Z')", None),
        (f"FROM {table} SELECT count(*)", instant),
    ):
        with pytest.raises(QueryError, match=rf"trade-analyst export {table} --as-of"):
            query(bars.folder, sql, declared=table_schemas(), as_of=when)
    assert query(bars.folder, f"DESCRIBE {table}", declared=table_schemas(), as_of=instant).frame.height


def test_each_declared_table_but_metrics_says_its_two_times() -> None:
    """Both columns are in the schema, and what may be corrected is named; written out by hand."""
    schemas = table_schemas()
    corrected = {name: each.event_key for name, each in schemas.items() if each.event_key != each.key}
    assert corrected == {"tables.ohlc": ("symbol", "frequency", "bar_time")}
    for name, each in schemas.items():
        times = (each.event_time, each.known_time)
        own = {"tables.ohlc": ("bar_time", "known_time"), "tables.timesales": ("trade_time", "known_time")}
        assert times == ((None, None) if name.startswith("metrics.") else own.get(name, ("snapshot_time",) * 2))
        assert each.event_time is None or each.event_time in each.key
        assert each.event_key == each.key or each.known_time in each.key


@pytest.mark.parametrize(
    ("table", "instant", "problem"),
    [
        ("tables.nonsense", FOREVER, "there is no table 'tables.nonsense'"),
        ("tables.ohlc", datetime(2026, 1, 5), "has no time zone"),  # noqa: DTZ001  that is the point
    ],
)
def test_what_is_no_instant_and_no_table_is_refused(
    tmp_path: Path, table: str, instant: datetime, problem: str
) -> None:
    """The message names it."""
    with pytest.raises(PointInTimeError, match=problem):
        read_as_of(tmp_path, table, instant)


def test_corrections_never_change_an_earlier_answer(captures: Captures, chance: random.Random) -> None:
    """Bars come again and again with other values: each answer given before is given after every later capture too."""
    days = [day for day in (MONDAY + timedelta(days=n) for n in range(12)) if day.weekday() < 5][:9]
    given: dict[datetime, list[tuple[Any, ...]]] = {}
    newest: list[list[tuple[Any, ...]]] = []
    connection = duckdb.connect(":memory:")
    for place, day in enumerate(days):
        told = days[max(0, place - 4) : place + 1]
        captures.bars(day, {each: 95.0 + chance.randrange(4) for each in told})
        list(build_tables(captures.folder, "ohlc", [day], workers=1, created_time=CREATED))
        create_views(connection, captures.folder, declared=table_schemas())
        for instant in [*given, datetime(day.year, day.month, day.day, 22, tzinfo=UTC)]:
            frame = read_as_of(captures.folder, "tables.ohlc", instant).collect().sort(SCHEMA.key)
            in_sql = connection.sql("FROM tables.ohlc_as_of($1)", params=[instant.isoformat()]).pl()
            assert in_sql.sort(SCHEMA.key).equals(frame)
            assert given.setdefault(instant, frame.rows()) == frame.rows()
        newest.append(read_as_of(captures.folder, "tables.ohlc", FOREVER).collect().sort(SCHEMA.key).rows())
    before = [row[:4] for row in newest[-2]]
    assert [row for row in newest[-1] if row[:4] in before] != newest[-2]  # control: the newest answer does change
    list(build_tables(captures.folder, "ohlc", days, workers=1, created_time=CREATED, again=True))
    for instant, rows in given.items():
        assert read_as_of(captures.folder, "tables.ohlc", instant).collect().sort(SCHEMA.key).rows() == rows


def build_all(folder: Path) -> None:
    """Tables of options and bars, and every metric."""
    for name in ("options", "ohlc"):
        list(build_tables(folder, name, [MONDAY, TUESDAY, WEDNESDAY], workers=1, created_time=CREATED))
    store = TableStore(folder)
    for metric in SNAPSHOT_METRICS:
        list(build_snapshot_metric(store, metric, [MONDAY, TUESDAY, WEDNESDAY], created_time=CREATED))
    for refresh in SERIES:
        refresh(store, created_time=CREATED)


def capture_until(captures: Captures, last: int) -> None:
    """The first captures of three sessions: chains at 20:30, 20:55 and of the next days, bars that are corrected."""
    closes = {date(2025, 12, 8) + timedelta(days=n): 95.0 + n % 5 for n in range(28)}
    closes = {day: close for day, close in closes.items() if day.weekday() < 5 and day != date(2025, 12, 25)}
    del closes[date(2026, 1, 1)]
    taken: list[Callable[[], object]] = []
    for day, at, volume in (
        (MONDAY, time(20, 30), 10),
        (MONDAY, time(20, 55), 70),
        (TUESDAY, time(20, 55), 40),
        (WEDNESDAY, time(20, 55), 20),
    ):
        taken.append(lambda day=day, at=at, volume=volume: chain(captures, day, at, volume))
        if at == time(20, 55):
            changed = closes | {date(2025, 12, 30): 100.0 + volume / 10, day: 101.0}
            taken.append(lambda day=day, changed=changed: captures.bars(day, changed))
    for take in taken[:last]:
        take()


def chain(captures: Captures, day: date, at: time, volume: int) -> None:
    """The payload's chain, as captured at that time, with a volume of its own on every put."""
    body = json.loads((PAYLOADS / "options" / "chain.json").read_text())
    for strikes in body["putExpDateMap"].values():
        for contracts in strikes.values():
            for contract in contracts:
                contract["totalVolume"] = volume
    captures.seal("options", "/chains", body, day, at)


def metrics_in_sql(folder: Path, name: str, instant: datetime) -> pl.DataFrame:
    """What `query --as-of` answers about a metric."""
    computed = partial(read_as_of, folder, instant=instant)
    sql = f"WITH known AS (FROM {name}) FROM known"
    return query(folder, sql, limit=10_000, declared=table_schemas(), as_of=instant, computed=computed).frame


@pytest.mark.parametrize(
    ("last", "instant"),
    [
        (1, datetime(2026, 1, 5, 20, 40, tzinfo=UTC)),
        (2, datetime(2026, 1, 5, 20, 55, tzinfo=UTC)),
        (3, datetime(2026, 1, 5, 22, tzinfo=UTC)),
        (5, datetime(2026, 1, 6, 22, tzinfo=UTC)),
        (7, FOREVER),
    ],
)
def test_metrics_as_of_an_instant_are_those_computed_then(tmp_path: Path, last: int, instant: datetime) -> None:
    """From all captures, as of an instant: what stands stored where only the captures until then were taken."""
    everything, then = Captures(tmp_path / "everything"), Captures(tmp_path / "then")
    capture_until(everything, 7)
    capture_until(then, last)
    build_all(everything.folder)
    build_all(then.folder)
    differs = set()
    for schema in METRIC_SCHEMAS:
        stored = TableStore(then.folder).scan("metrics", schema.name, schema=schema).collect()
        found = read_as_of(everything.folder, f"metrics.{schema.name}", instant).collect()
        assert found.sort(schema.key).equals(stored.sort(schema.key)), schema.name
        in_sql = [
            metrics_in_sql(everything.folder, name, instant) for name in (schema.name, f'METRICS."{schema.name}"')
        ]
        assert all(rows.sort(schema.key).equals(stored.sort(schema.key)) for rows in in_sql), schema.name
        now = TableStore(everything.folder).scan("metrics", schema.name, schema=schema).collect()
        if not now.sort(schema.key).equals(stored.sort(schema.key)):
            differs.add(schema.name)
    concerned = {schema.name for schema in METRIC_SCHEMAS} - {"volatility_index"}  # no index is captured here
    assert (differs == concerned) == (last < 7)  # control: what is stored now is not what was known


def test_views_as_of_leave_out_what_nobody_declared(bars: Bars) -> None:
    """A table whose times are unknown is not shown as of an instant, rather than shown as it is now."""
    connection = duckdb.connect(":memory:")
    assert create_views(connection, bars.folder, as_of=FOREVER) == []
    connection.close()
