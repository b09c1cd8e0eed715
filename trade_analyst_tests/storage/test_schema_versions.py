"""Files of every schema version there ever was are read, by Polars and by SQL; newer ones are refused.

`released_schemas.json` holds key and columns of each version of each table. A version is added there when a schema
changes, and never taken away: its files are in somebody's data folder.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from trade_analyst_pipeline.errors import PartitionDamagedError, SchemaMismatchError
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.market.columns import Column, TableSchema, Upgrade
from trade_analyst_pipeline.storage.catalogue import build_catalogue, query
from trade_analyst_pipeline.storage.checked_json import checked_json
from trade_analyst_pipeline.storage.content_hash import column_types
from trade_analyst_pipeline.storage.manifest import MANIFEST_NAME, folder_name
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

DAY, NEXT, LATER = date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)
RELEASED: dict[str, dict[str, dict[str, object]]] = json.loads(
    Path(__file__).with_name("released_schemas.json").read_text()
)
VERSIONS = [(table, version) for table, versions in RELEASED.items() for version in versions]
QUARANTINE = "quarantine.options"
DTYPES: dict[str, pl.DataType] = {
    "text": pl.String(),
    "float64": pl.Float64(),
    "int64": pl.Int64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "time[us,UTC]": pl.Datetime("us", "UTC"),
}
TWO_VALUES: dict[str, list[object]] = {
    "text": ["A", "B"],
    "float64": [1.5, -0.25],
    "int64": [3, 4],
    "boolean": [True, False],
    "date": [DAY, NEXT],
    "time[us,UTC]": [datetime(2026, 1, 5, 20, 55, 1, 250_000, tzinfo=UTC), datetime(2026, 1, 5, 21, tzinfo=UTC)],
}
Put = Callable[..., Manifest]


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers."""
    return tuple(map(int, version.split(".")))


def released(table: str, version: str) -> TableSchema:
    """The schema of a table as it was in that version, without rules."""
    record = RELEASED[table][version]
    columns = tuple(Column(name, DTYPES[kind], None, "as released") for name, kind in record["columns"].items())
    key = tuple(record["key"])
    return TableSchema(table.partition(".")[2], version, key, columns, frozenset(key))


def two_rows(schema: TableSchema) -> pl.DataFrame:
    """Two rows with a value in each column."""
    values = {name: TWO_VALUES[kind] for name, kind in column_types(schema).items()}
    return pl.DataFrame(values, schema=schema.polars_schema)


def test_every_schema_is_on_record_as_it_is() -> None:
    """A schema that changes gets a new version, and the record a new entry: make it with the columns of today."""
    of_today = {
        name: schema
        for name, schema in table_schemas().items()
        if not name.startswith("quarantine.") or name == QUARANTINE
    }
    assert set(of_today) == set(RELEASED)
    for name, schema in of_today.items():
        newest = max(RELEASED[name], key=numbers)
        assert schema.version == newest, name
        assert RELEASED[name][newest] == {"key": list(schema.key), "columns": column_types(schema)}, name


def test_all_quarantines_have_one_shape() -> None:
    """So one entry of the record stands for all of them."""
    shapes = {
        (schema.version, schema.key, tuple(column_types(schema).items()))
        for name, schema in table_schemas().items()
        if name.startswith("quarantine.")
    }
    assert len(shapes) == 1


@pytest.mark.parametrize("table", RELEASED)
def test_minor_versions_only_add(table: str) -> None:
    """Between versions of one major number no column goes or changes type, and what comes may be null."""
    versions = sorted(RELEASED[table], key=numbers)
    for older, newer in itertools.pairwise(versions):
        if numbers(older)[0] == numbers(newer)[0]:
            before, after = RELEASED[table][older], RELEASED[table][newer]
            assert before["columns"].items() <= after["columns"].items()
            assert before["key"] == after["key"]
            assert not (after["columns"].keys() - before["columns"].keys()) & table_schemas()[table].required


@pytest.mark.parametrize(("table", "version"), VERSIONS)
def test_files_of_every_released_version_are_read(store: TableStore, put: Put, table: str, version: str) -> None:
    """Columns that were there come back as they were, those upgraded are never null, the rest is null; SQL agrees."""
    stage, _, name = table.partition(".")
    old, today = released(table, version), table_schemas()[table]
    rows = two_rows(old)
    put(rows, DAY, schema=old, stage=stage)
    read = store.scan(stage, name, schema=today).collect()
    assert read.schema == today.polars_schema
    changed = {column for upgrade in today.upgrades for column in upgrade.columns} if version != today.version else ()
    for column in today.names:
        if column in old.names:
            assert column in changed or read[column].equals(rows[column]), column
        else:
            assert read[column].null_count() == 2, column
    assert query(store.root, f"FROM {table}", declared=table_schemas()).frame.rows() == read.rows()


def ohlc_rows(parts: list[tuple[datetime, str | None]]) -> pl.DataFrame:
    """Bars of version 1.0 with those starts and parts of the session."""
    row = two_rows(released("tables.ohlc", "1.0")).head(1)
    return pl.concat(
        row.with_columns(bar_time=pl.lit(start), session_part=pl.lit(part, pl.String)) for start, part in parts
    )


def test_bars_of_version_1_say_pre_and_post(store: TableStore, put: Put) -> None:
    """Extended bars of winter, summer and a half day are told apart by the hours of New York; others stay."""
    parts: list[tuple[datetime, str | None, str | None]] = [
        (datetime(2026, 1, 5, 9, 0, tzinfo=UTC), "extended", "pre"),  # 04:00 in New York, winter
        (datetime(2026, 1, 5, 14, 29, tzinfo=UTC), "extended", "pre"),  # 09:29
        (datetime(2026, 1, 5, 14, 30, tzinfo=UTC), "regular", "regular"),  # 09:30
        (datetime(2026, 1, 5, 21, 0, tzinfo=UTC), "extended", "post"),  # 16:00
        (datetime(2026, 1, 6, 0, 59, tzinfo=UTC), "extended", "post"),  # 19:59
        (datetime(2026, 7, 1, 8, 0, tzinfo=UTC), "extended", "pre"),  # 04:00, summer
        (datetime(2026, 7, 1, 13, 29, tzinfo=UTC), "extended", "pre"),  # 09:29
        (datetime(2026, 7, 1, 23, 59, tzinfo=UTC), "extended", "post"),  # 19:59
        (datetime(2026, 11, 27, 18, 0, tzinfo=UTC), "extended", "post"),  # 13:00, a half day
        (datetime(2025, 7, 3, 17, 0, tzinfo=UTC), "extended", "post"),  # 13:00, a half day in summer
        (datetime(2026, 12, 25, 15, 0, tzinfo=UTC), "outside", "outside"),
        (datetime(1980, 1, 7, 15, 0, tzinfo=UTC), None, None),
    ]
    old, today = released("tables.ohlc", "1.0"), table_schemas()["tables.ohlc"]
    put(ohlc_rows([(start, part) for start, part, _ in parts]), DAY, schema=old)
    expected = sorted((start, part) for start, _, part in parts)
    scan = store.scan("tables", "ohlc", schema=today).select("bar_time", "session_part")
    assert scan.collect().rows() == expected
    # Control: read as they stand, they do not mean what they mean today.
    assert "extended" in store.scan("tables", "ohlc", schema=old).collect()["session_part"].to_list()
    assert query(store.root, "SELECT bar_time, session_part FROM ohlc", declared=table_schemas()).frame.rows() == (
        expected
    )


def test_upgrades_do_not_depend_on_the_readers_time_zone(store: TableStore, put: Put) -> None:
    """The catalogue file answers alike for a program in Tokyo."""
    duckdb = pytest.importorskip("duckdb")
    start = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    put(ohlc_rows([(start, "extended")]), DAY, schema=released("tables.ohlc", "1.0"))
    path = build_catalogue(store.root, declared=table_schemas())
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        assert connection.execute("SELECT session_part FROM tables.ohlc").fetchall() == [("pre",)]


@pytest.fixture
def third(schema: TableSchema) -> TableSchema:
    """The sample table in version 3.1: since 2.0 in cents, since 3.0 twice as many, since 3.1 with a note."""
    kept = tuple(column for column in schema.columns if column.name != "price")
    cents = Column("cents", pl.Int64(), "cents", "since 2.0, in place of price")
    note = Column("note", pl.String(), None, "since 3.1")
    upgrades = (Upgrade(1, {"cents": "price * 100"}), Upgrade(2, {"cents": "cents * 2", "day": "day"}))
    return replace(schema, version="3.1", columns=(note, *kept, cents), upgrades=upgrades)


def test_versions_are_upgraded_one_after_the_other(
    store: TableStore, frame: pl.DataFrame, third: TableSchema, put: Put
) -> None:
    """Partitions of 1.0, 2.0, 3.0 and 3.1 are one table, in order; a column that is gone is gone; SQL agrees."""
    second_rows = frame.drop("price").with_columns(cents=pl.lit(7, pl.Int64))
    without_note = tuple(column for column in third.columns if column.name != "note")
    put(frame, DAY)
    put(second_rows, NEXT, schema=replace(third, version="2.0", columns=without_note))
    put(second_rows, LATER, schema=replace(third, version="3.0", columns=without_note))
    put(second_rows.with_columns(note=pl.lit("new")), LATER + timedelta(days=1), schema=third)
    read = store.scan("tables", "samples", schema=third).collect()
    assert read.schema == third.polars_schema
    assert read["cents"].to_list() == [300, None, 0, 14, 14, 14, 7, 7, 7, 7, 7, 7]
    assert read["note"].to_list() == [None] * 9 + ["new"] * 3
    answer = query(store.root, "FROM tables.samples", declared={"tables.samples": third}).frame
    assert answer.columns == third.names
    assert answer.sort("day", "cents", "contract", "seen_time", "note").rows() == (
        read.sort("day", "cents", "contract", "seen_time", "note").rows()
    )


def test_a_column_that_no_file_has_yet_can_be_asked_for(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """After a minor version the view has its column at once, null while all files are older."""
    more = replace(schema, version="1.1", columns=(Column("added", pl.Float64(), None, ""), *schema.columns))
    put(frame)
    put(schema.empty().with_columns(added=pl.lit(None, pl.Float64)), NEXT, schema=more)
    answer = query(store.root, "SELECT added FROM samples", declared={"tables.samples": more}).frame
    assert answer.rows() == [(None,)] * 3
    assert answer.schema["added"] == pl.Float64()


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ("1.1", "version 1.1 by a newer program; this one reads up to 1.0: update it"),
        ("2.0", "version 2.0 by a newer program"),
        ("10.0", "version 10.0 by a newer program"),
        ("0.9", "version 0.9, from which nothing leads to 1.0: run `trade-analyst rebuild`"),
        ("", "does not say its schema version"),
        ("1", "does not say its schema version"),
        ("1.0-rc1", "does not say its schema version"),
    ],
)
def test_what_cannot_be_understood_is_refused(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put, stored: str, told: str
) -> None:
    """A newer version, one that nothing leads from, none at all: never guessed over, by Polars or by SQL."""
    put(frame, schema=replace(schema, version=stored))
    with pytest.raises(SchemaMismatchError, match=f"tables/samples session_date=2026-01-05 .*{told}"):
        store.scan("tables", "samples", schema=schema)
    with pytest.raises(SchemaMismatchError, match=told):
        query(store.root, "FROM samples", declared={"tables.samples": schema})


def test_a_manifest_without_a_version_is_damage(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """The key missing altogether is told by the file's name."""
    put(frame)
    path = store.root / "tables" / "samples" / folder_name(DAY) / MANIFEST_NAME
    told = json.loads(path.read_text())
    del told["schema_version"]
    path.write_bytes(checked_json(told))
    with pytest.raises(PartitionDamagedError, match=r"_manifest\.json is not a manifest .*schema_version"):
        store.manifests("tables", "samples")


def test_an_upgrade_that_cannot_be_answered_fails(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """A value that does not fit the declared type is an error, never null."""
    put(frame)
    today = replace(schema, version="2.0", upgrades=(Upgrade(1, {"size": "contract"}),))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        store.scan("tables", "samples", schema=today).collect()
