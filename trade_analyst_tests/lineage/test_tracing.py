"""Values traced to the bytes they came from and made again from those alone; and what is altered, found so."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_captures import CREATED, MONDAY, PAYLOADS, TUESDAY, Captures

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import (
    CaptureDamagedError,
    CaptureMissingError,
    PartitionDamagedError,
    TraceError,
)
from trade_analyst_pipeline.lineage.metrics import SERIES, SNAPSHOT_METRICS, build_snapshot_metric
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.lineage.traces import SourceRecord, Trace
from trade_analyst_pipeline.lineage.tracing import trace
from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture, Lacking
from trade_analyst_pipeline.storage.tables import TableStore

ARRIVED = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
PUT = "XYZ   260220P00100000"


def build(captures: Captures, *names: str) -> TableStore:
    """Bring these tables and every metric up to date with all that is archived."""
    archive, store = Archive(captures.folder / "raw"), TableStore(captures.folder)
    for name in names:
        list(build_tables(captures.folder, name, archive.sessions(name), workers=1, created_time=CREATED))
    days = [day for day in store.partitions("tables", "options") if isinstance(day, date)]
    for metric in SNAPSHOT_METRICS:
        list(build_snapshot_metric(store, metric, days, created_time=CREATED))
    for refresh in SERIES:
        refresh(store, created_time=CREATED)
    return store


def traces_of_all(store: TableStore, table: str) -> list[Trace]:
    """The trace of every row of a table."""
    stage, _, name = table.partition(".")
    schema = table_schemas()[table]
    rows = store.scan(stage, name, schema=schema).select({*schema.key, "session_date"}).collect()
    assert rows.height, f"{table} has no rows to trace"
    return [trace(store.root, table, row) for row in rows.rows(named=True)]


def holder(found: Trace) -> SourceRecord:
    """The record that holds the row traced."""
    (record,) = [record for record in found.records if record.row]
    return record


def body_of(record: SourceRecord) -> bytes:
    """The body of a record, read from the archive by what the trace says of it."""
    archive = Archive(Path(record.file).parents[2])
    (capture,) = [
        each for each in archive.captures(record.dataset, record.session_date) if each.capture_id == record.capture_id
    ]
    entry = archive.index(capture)[record.number - 1]
    assert (entry.offset, entry.body_sha256) == (record.offset, record.body_sha256)
    return archive.response(capture, entry).body


def test_a_value_is_traced_to_the_bytes_of_its_member(captures: Captures) -> None:
    """The bid of a contract names capture, record, request and hash, and the bytes of the member in the body."""
    capture = captures.chain()
    store = build(captures, "options")
    rows = store.scan("tables", "options", schema=DATASETS["options"].schema).collect()
    row = rows.filter(pl.col("bid").is_not_null()).row(0, named=True)
    found = trace(captures.folder, "options", {"option_symbol": row["option_symbol"]}, column="bid")
    assert (found.table, found.verdict, found.stored) == ("tables.options", "equal", {"bid": row["bid"]})
    record = holder(found)
    assert (record.capture_id, record.file, record.number) == (capture.capture_id, str(capture.path), 1)
    assert (record.status, record.received_time, record.request) == (200, ARRIVED, "/chains?symbol=XYZ")
    body, bid = body_of(record), record.members[0]
    assert json.loads(body[bid.offset : bid.offset + bid.length]) == row["bid"]
    assert bid.path.endswith("[0].bid")
    assert record.row is not None
    contract = json.loads(body[record.row.offset : record.row.offset + record.row.length])
    assert contract["symbol"] == row["option_symbol"]
    assert capture.path.read_bytes()[record.offset : record.offset + 4] == b"TAFR"


def test_every_row_of_tables_and_metrics_is_made_again(captures: Captures) -> None:
    """Chains, quotes and bars of several sessions: each row of each table and metric made of them comes out equal."""
    for day in (MONDAY, TUESDAY):
        captures.chain(day)
    captures.quotes(5, bad=1)
    days = sessions_ending(TUESDAY, 12)
    captures.bars(TUESDAY, {day: 100.0 + number for number, day in enumerate(days)})
    captures.bars(MONDAY, {day: 95.0 + number for number, day in enumerate(days[:-1])}, symbol="$VIX")
    store = build(captures, "options", "quotes", "ohlc")
    tables = ("tables.options", "tables.quotes", "tables.ohlc", "metrics.iv_history", "metrics.iv_rank")
    for table in (
        *tables,
        "metrics.put_call_ratio",
        "metrics.put_call_ratio_daily",
        "metrics.forward",
        "metrics.implied_volatility",
        "metrics.term_structure",
        "metrics.surface_check",
        "metrics.exposure",
        "metrics.realized_volatility",
        "metrics.volatility_index",
    ):
        assert [found.key for found in traces_of_all(store, table) if found.verdict != "equal"] == [], table


def test_what_was_asked_for_again_is_traced_to_the_answer_that_counts(captures: Captures) -> None:
    """A short chain, then the whole one: the record of the second alone stands behind every row."""
    body = json.loads((PAYLOADS / "options" / "chain.json").read_text())
    short = {**body, "putExpDateMap": {}}
    with Archive(captures.folder / "raw").begin(
        dataset="options", session_date=MONDAY, scheduled_time=ARRIVED, started_time=ARRIVED
    ) as writer:
        for number, (answer, lacking) in enumerate([(short, Lacking("2 contracts fewer", 2)), (body, None)]):
            moment = ARRIVED + timedelta(seconds=number)
            request = MarketDataRequest("options", "/chains", (("symbol", "XYZ"),), ("XYZ",))
            writer.append(RawResponse(request, 200, json.dumps(answer).encode(), (), moment, moment), lacking)
        writer.seal(ARRIVED)
    found = traces_of_all(build(captures, "options"), "tables.options")
    assert [each.verdict for each in found] == ["equal"] * 4
    assert {record.number for each in found for record in each.records} == {2}


def test_a_metric_names_what_is_between(captures: Captures) -> None:
    """A realised volatility names its daily bars, and the one record all of them came in."""
    days = sessions_ending(MONDAY, 12)
    captures.bars(MONDAY, {day: 100.0 + number % 3 for number, day in enumerate(days)})
    build(captures, "ohlc")
    found = trace(captures.folder, "realized_volatility", {"session_date": MONDAY, "window_sessions": 10})
    assert [(below.table, below.rows, below.sessions) for below in found.below] == [
        ("tables.ohlc", 11, tuple(days[1:]))
    ]
    assert (found.verdict, len(found.records), found.recomputed) == ("equal", 1, found.stored)
    assert found.stored["close_to_close_volatility"] > 0


def test_quarantined_rows_are_traced(captures: Captures) -> None:
    """A row that broke a rule, and one that could not be typed, lead to the objects they were."""
    captures.quotes(4, bad=1)

    def untype(body: Any) -> None:
        contract = next(iter(next(iter(body["putExpDateMap"].values())).values()))[0]
        contract["strikePrice"] = "many"

    captures.chain(change=untype)
    store = build(captures, "options", "quotes")
    (quote,) = traces_of_all(store, "quarantine.quotes")
    (contract,) = traces_of_all(store, "quarantine.options")
    assert (quote.verdict, contract.verdict) == ("equal", "equal")
    assert quote.stored["broken_rules"] == "negative_volume"
    assert contract.stored["broken_rules"] == "type_strike"
    for found, has in ((quote, b'"totalVolume": -1'), (contract, b'"strikePrice": "many"')):
        record = holder(found)
        assert record.row is not None
        assert has in body_of(record)[record.row.offset : record.row.offset + record.row.length]


def test_a_row_beside_one_that_could_not_be_typed_is_found(captures: Captures) -> None:
    """Where counting does not tell which object a row was, it is closed in on."""
    captures.quotes(6)
    archive = Archive(captures.folder / "raw")
    (capture,) = archive.captures("quotes", MONDAY)
    body = json.loads(archive.response(capture, archive.index(capture)[0]).body)
    body["S1"]["quote"]["bidPrice"] = "many"
    captures.seal("quotes", "/quotes", body, MONDAY, time(20, 56))
    list(build_tables(captures.folder, "quotes", [MONDAY], workers=1, created_time=CREATED))
    found = trace(
        captures.folder, "quotes", {"symbol": "S3", "snapshot_time": ARRIVED + timedelta(minutes=1)}, column="bid"
    )
    assert (found.verdict, holder(found).members[0].path) == ("equal", "$.S3.quote.bidPrice")


# -- what was altered, and must not be called equal ------------------------------------------------------------------


def rewritten(store: TableStore, table: str, change: pl.Expr) -> None:
    """Write the Monday of a table anew with something changed, its manifest agreeing."""
    schema = DATASETS[table].schema
    present = store.manifest("tables", table, MONDAY)
    assert present is not None
    store.write(
        "tables",
        store.scan("tables", table, schema=schema).with_columns(change).collect(),
        schema=schema,
        partition=MONDAY,
        fence=store.take_fence("tables", table, MONDAY),
        source_captures=present.source_captures,
        code_version=present.code_version,
        created_time=CREATED,
    )


def test_a_value_altered_with_its_manifest_is_unequal(captures: Captures) -> None:
    """A bid that is a cent off is told with the bid that the bytes give."""
    captures.quotes(3)
    store = build(captures, "quotes")
    before = trace(store.root, "quotes", {"symbol": "S1"}, column="bid").stored["bid"]
    rewritten(
        store, "quotes", pl.when(pl.col("symbol") == "S1").then(pl.col("bid") + 0.01).otherwise("bid").alias("bid")
    )
    found = trace(store.root, "quotes", {"symbol": "S1"})
    assert (found.verdict, found.differing, found.is_equal) == ("unequal", ("bid",), False)
    assert found.recomputed is not None
    assert found.recomputed["bid"] == before
    assert trace(store.root, "quotes", {"symbol": "S2"}).verdict == "equal"


def test_a_row_the_bytes_do_not_have_is_said(captures: Captures) -> None:
    """A row of another symbol, slipped into the table, comes of no record."""
    captures.quotes(3)
    store = build(captures, "quotes")
    rewritten(store, "quotes", pl.col("symbol").replace("S1", "FAKE"))
    found = trace(store.root, "quotes", {"symbol": "FAKE"})
    assert (found.verdict, found.recomputed, found.detail) == (
        "no_row",
        None,
        "the records give no row with this key",
    )


def test_a_table_file_altered_behind_its_manifest_is_damaged(captures: Captures) -> None:
    """A byte changed in the Parquet file is an error that names the partition."""
    captures.quotes(3)
    store = build(captures, "quotes")
    (path,) = store.files("tables", "quotes")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PartitionDamagedError, match="does not match its SHA-256"):
        trace(store.root, "quotes", {"symbol": "S1"})


def resealed(captures: Captures, capture: Capture, old: bytes, new: bytes) -> None:
    """Put a capture in the place of another that differs in one body only, all checksums its own."""
    archive = Archive(captures.folder / "raw")
    (entry,) = archive.index(capture)
    response = archive.response(capture, entry)
    body = response.body.replace(old, new, 1)
    assert body != response.body
    capture.path.unlink()
    remade = captures.seal("quotes", "/quotes", json.loads(body), MONDAY, time(20, 55))
    assert remade.path == capture.path


def test_a_body_altered_with_its_checksums_is_unequal(captures: Captures) -> None:
    """Where the archive says something else than it did, the value is not made again."""
    capture = captures.quotes(3)
    store = build(captures, "quotes")
    resealed(captures, capture, b'"openPrice": ', b'"openPrice": 1')
    assert trace(store.root, "quotes", {"symbol": "S0"}).differing == ("open",)


def test_a_damaged_or_missing_capture_is_named(captures: Captures) -> None:
    """A byte changed in the archive, and a capture taken away, are errors that name the file."""
    capture = captures.quotes(3)
    store = build(captures, "quotes")
    captures.damage(capture)
    with pytest.raises(CaptureDamagedError, match=str(capture.path)):
        trace(store.root, "quotes", {"symbol": "S1"})
    capture.path.unlink()
    with pytest.raises(CaptureMissingError, match=capture.capture_id):
        trace(store.root, "quotes", {"symbol": "S1"})


@pytest.mark.parametrize(
    ("table", "values", "column", "said"),
    [
        (
            "tables.nothing",
            {},
            None,
            "there is no table 'tables.nothing'; choose one of metrics.aggressor_confidence, metrics.aggressor_side",
        ),
        ("quotes", {"sym": "S1"}, None, "tables.quotes has no column 'sym'"),
        ("quotes", {"symbol": "S1"}, "bidd", "tables.quotes has no column 'bidd'"),
        ("quotes", {"symbol": "S9"}, None, "no row of tables.quotes has symbol=S9"),
        ("quotes", {"symbol": "S1", "security_id": 2}, None, "though each alone is there"),
        (
            "quotes",
            {},
            None,
            "3 rows of tables.quotes fit no value; name one by adding symbol=S0, symbol=S1, symbol=S2",
        ),
        ("quotes", {"symbol": "S1", "session_date": TUESDAY}, None, "no row of tables.quotes has"),
    ],
)
def test_what_cannot_be_traced_is_said(
    captures: Captures, table: str, values: dict[str, object], column: str | None, said: str
) -> None:
    """Unknown tables, columns and rows, and several rows, are errors that say what there is."""
    captures.quotes(3)
    build(captures, "quotes")
    with pytest.raises(TraceError) as raised:
        trace(captures.folder, table, values, column=column)
    assert said in str(raised.value)
