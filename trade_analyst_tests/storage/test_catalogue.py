"""SQL views and safe queries."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest
from stored import put

from trade_analyst_pipeline.errors import PartitionDamagedError, QueryError
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.storage import catalogue
from trade_analyst_pipeline.storage.catalogue import build_catalogue, catalogue_views, create_views, query
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

DAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)
Put = Callable[..., Manifest]


def test_views_show_what_the_manifests_list(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """All partitions of a table are one view, found with and without its stage; replaced rows are gone from it."""
    put(frame, DAY)
    put(frame, NEXT)
    put(frame.head(1), NEXT)
    assert query(store.root, "SELECT count(*) AS n FROM tables.samples").frame.to_dicts() == [{"n": 4}]
    assert query(store.root, "FROM samples SELECT sum(size)::BIGINT AS s").frame.to_dicts() == [{"s": 3 + 4 + 3}]


def test_each_stage_has_its_views(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """Good and quarantined rows of a name are two views; the plain name means the good ones."""
    put(frame)
    put(frame.head(2), stage="quarantine")
    put(frame.head(1), 2026, stage="metrics")
    counts = "SELECT (SELECT count(*) FROM {}) AS n"
    found = [
        query(store.root, counts.format(name)).frame["n"].item()
        for name in ("samples", "quarantine.samples", "metrics.samples")
    ]
    assert found == [3, 2, 1]


def test_values_keep_their_types(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """Times come back as UTC whatever the machine's zone, dates as dates, lists as lists, nulls as nulls."""
    put(frame)
    assert query(store.root, "FROM samples ORDER BY contract, seen_time").frame.equals(frame, null_equal=True)
    text = query(store.root, "SELECT max(seen_time)::VARCHAR AS t FROM samples").frame["t"].item()
    assert text == "2026-01-05 20:56:00+00"


def test_a_table_without_rows_is_a_typed_view(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """A table that has only empty partitions can be queried and described, with the types it would have."""
    put(frame)
    put(frame.clear(), stage="quarantine")
    assert query(store.root, "FROM quarantine.samples").frame.schema == frame.schema
    described = "SELECT column_name, column_type FROM (DESCRIBE {})"
    empty = query(store.root, described.format("quarantine.samples")).frame
    assert empty.equals(query(store.root, described.format("tables.samples")).frame)


def test_a_declared_table_is_there_before_it_holds_anything(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """Nothing stored at all, every declared table answers with no rows of its types; once stored, with its rows."""
    declared = {"quarantine.samples": schema, "tables.samples": schema}
    assert query(store.root, "FROM quarantine.samples", declared=declared).frame.equals(frame.clear())
    put(frame)
    assert query(store.root, "FROM samples", declared=declared).frame.height == 3
    assert query(store.root, "FROM quarantine.samples", declared=declared).frame.height == 0
    assert catalogue_views(build_catalogue(store.root, declared=declared).parent) == sorted(declared)


def test_every_table_of_ours_can_be_queried_from_the_start(store: TableStore) -> None:
    """Each of the declared tables, metrics and quarantines has only types that SQL knows."""
    for name, declared in table_schemas().items():
        answer = query(store.root, f"FROM {name}", declared=table_schemas())
        assert answer.frame.columns == declared.names


def test_columns_added_later_are_null_before(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """Partitions of two minor versions are one view, joined by column name."""
    more = replace(schema, version="1.1", columns=(Column("added", pl.Float64(), None, ""), *schema.columns))
    put(frame, DAY)
    put(frame.with_columns(added=pl.lit(2.5)), NEXT, schema=more)
    answer = query(store.root, "SELECT added, count(price) AS n FROM samples GROUP BY added ORDER BY added").frame
    assert answer.rows() == [(2.5, 2), (None, 2)]


def test_answers_are_bounded(store: TableStore) -> None:
    """At most the bound comes back, and it is told whether there was more; endless answers end at once."""
    exact = query(store.root, "SELECT * FROM range(5)", limit=5)
    more = query(store.root, "SELECT * FROM range(10_000_000_000)", limit=5)
    assert (exact.frame.height, exact.is_cut) == (5, False)
    assert (more.frame["range"].to_list(), more.is_cut) == ([0, 1, 2, 3, 4], True)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1;", [(1,)]),
        ("SELECT 1; -- the end", [(1,)]),
        ("SELECT 1 -- ) the end", [(1,)]),
        ("SELECT 'é;' /* ; */ ;; -- the end", [("é;",)]),
        ("/* first */ VALUES (3), (1), (2) ORDER BY 1 DESC", [(3,), (2,), (1,)]),
        ("WITH x AS (SELECT ';' AS t) FROM x", [(";",)]),
        ("SELECT name FROM (SHOW TABLES)", []),
        ("SUMMARIZE SELECT 1 AS a", [("a",)]),
        ("DESCRIBE SELECT 1 AS a", [("a",)]),
        ("SHOW TABLES", []),
    ],
)
def test_reading_statements_of_every_form(store: TableStore, sql: str, rows: list[tuple[object, ...]]) -> None:
    """Comments, last semicolons, WITH, FROM first, VALUES, DESCRIBE, SUMMARIZE and SHOW are answered, in order."""
    assert query(store.root, sql).frame[:, :1].rows() == rows


def test_errors_help(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """An unknown table or column lists the tables there are; before the first run it says so."""
    with pytest.raises(QueryError, match="none yet"):
        query(store.root, "FROM options")
    put(frame)
    with pytest.raises(QueryError, match=r"(?s)optoins.*tables\.samples"):
        query(store.root, "FROM optoins")
    with pytest.raises(QueryError, match=r"(?s)prize.*price"):
        query(store.root, "SELECT prize FROM samples")
    with pytest.raises(QueryError, match="syntax error"):
        query(store.root, "SELEC 1")
    with pytest.raises(QueryError, match="cast it to VARCHAR"):
        query(store.root, "SELECT INTERVAL 1 DAY")


OUTSIDE = "{outside}"
INSIDE = "{inside}"
PAYLOADS = [
    # several statements, and none
    "",
    "-- nothing",
    ";",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW tables.samples",
    "SELECT 1; SET lock_configuration = false",
    # statements that write, load or configure
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW tables.samples AS SELECT 1",
    "DROP VIEW tables.samples",
    "INSERT INTO samples VALUES (1)",
    "UPDATE samples SET size = 1",
    "DELETE FROM samples",
    "ALTER TABLE samples ADD COLUMN x INT",
    "TRUNCATE samples",
    "COPY samples TO '{inside}/x.csv'",
    "COPY (SELECT 1) TO '{outside}/x.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "EXPORT DATABASE '{outside}/x'",
    "IMPORT DATABASE '{outside}'",
    "ATTACH '{outside}/x.duckdb'",
    "ATTACH '{inside}/x.duckdb' AS x",
    "DETACH memory",
    "USE metrics",
    "INSTALL httpfs",
    "LOAD httpfs",
    "INSTALL httpfs FROM 'http://127.0.0.1:1/'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "PRAGMA enable_external_access = true",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{inside}/x.csv'",
    "CREATE SECRET s (TYPE s3)",
    "CREATE MACRO m() AS 1",
    # reading statements that reach out
    "SELECT * FROM read_text('{outside}/secret.txt')",
    "SELECT * FROM read_blob('{outside}/secret.txt')",
    "SELECT * FROM read_csv('{outside}/secret.txt')",
    "SELECT * FROM read_json('{outside}/secret.txt')",
    "SELECT * FROM '{outside}/secret.csv'",
    "SELECT * FROM read_text('{inside}/../../outside/secret.txt')",
    "SELECT * FROM read_text('{inside}/../raw.txt')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('file:///etc/passwd')",
    "SELECT * FROM read_text(['{inside}/x', '/etc/passwd'])",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('{outside}/x.parquet')",
    "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{inside}/x.csv''')",
    "SELECT * FROM query_table('{outside}/secret.csv')",
    "WITH x AS (COPY (SELECT 1) TO '{inside}/x.csv') SELECT 1",
    "WITH x AS (COPY (SELECT 1) TO '{outside}/x.csv') FROM x",
    "WITH x AS MATERIALIZED (COPY samples TO '{inside}/x.csv' (RETURN_FILES)) FROM x;",
    "WITH x AS (INSERT INTO samples VALUES (1) RETURNING *) FROM x",
    "FROM (WITH x AS (COPY (SELECT 1) TO '{inside}/x.csv') FROM x)",
    "SELECT 1) LIMIT 1; COPY (SELECT 1) TO '{inside}/x.csv'; SELECT * FROM (SELECT 1",
    "SELECT 1) UNION (SELECT 2",
    "SELECT getenv('HOME')",
    "SELECT * FROM secret_frame",
    "SELECT * FROM samples WHERE contract = 'A'; COPY samples TO '{outside}/x.csv' --'",
]


@pytest.fixture
def outside(store: TableStore, frame: pl.DataFrame, put: Put) -> Path:
    """A folder with a secret beside the data folder; a stored table, and a file beside the tables' own folders."""
    put(frame)
    folder = store.root.parent / "outside"
    folder.mkdir()
    for name in ("secret.txt", "secret.csv"):
        (folder / name).write_text("a\nSECRET\n")
    (store.root / "raw.txt").write_text("SECRET")
    return folder


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_but_reading_tables(store: TableStore, outside: Path, payload: str) -> None:
    """Each payload is refused with a QueryError; no file appears or changes in or beside the data folder."""
    secret_frame = pl.DataFrame({"a": ["SECRET"]})
    before = snapshot(store.root.parent)
    sql = payload.replace(OUTSIDE, str(outside)).replace(INSIDE, str(store.root / "tables"))
    with pytest.raises(QueryError) as caught:
        query(store.root, sql)
    assert "SECRET" not in str(caught.value)
    assert snapshot(store.root.parent) == before
    assert secret_frame.height == 1


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{outside}/x.csv'",
        "SELECT * FROM read_text('{outside}/secret.txt')",
        "ATTACH '{outside}/x.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET temp_directory = '{outside}'",
        "SET threads = 1",
        "SELECT * FROM secret_frame",
    ],
)
def test_a_locked_connection_reaches_nothing_outside(store: TableStore, outside: Path, sql: str) -> None:
    """Should a statement get past the check of its form, the connection itself refuses to leave the tables' folders."""
    secret_frame = pl.DataFrame({"a": ["SECRET"]})
    before = snapshot(store.root.parent)
    with duckdb.connect(":memory:") as connection:
        catalogue._lock_down(connection, store.root)
        with pytest.raises(duckdb.Error):
            connection.sql(sql.replace(OUTSIDE, str(outside)))
    assert snapshot(store.root.parent) == before
    assert secret_frame.height == 1


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_the_guard_the_payloads_work(store: TableStore, outside: Path) -> None:
    """Control: the same views in an unguarded connection write the file and read the secret."""
    connection = duckdb.connect(":memory:")
    create_views(connection, store.root)
    connection.execute(f"COPY samples TO '{outside}/x.csv'").fetchall()
    secret = connection.execute("SELECT content FROM read_text(?)", [f"{outside}/secret.txt"]).fetchall()
    connection.close()
    assert (outside / "x.csv").exists()
    assert secret == [("a\nSECRET\n",)]


def test_odd_folders_are_not_patterns(tmp_path: Path, schema: TableSchema, frame: pl.DataFrame) -> None:
    """A data folder whose name holds quotes and glob signs reads its own files, not those its name would match."""
    roots = [tmp_path / name for name in ("d[ab]*'x", "daa'x", "dbb'x")]
    for size, root in enumerate(roots):
        store = TableStore(root)
        put(store, schema, frame.head(1).with_columns(size=pl.lit(size, dtype=pl.Int64)), DAY)
    assert [query(root, "SELECT size FROM samples").frame["size"].to_list() for root in roots] == [[0], [1], [2]]


def test_damage_is_told_by_name(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """A missing data file is our error with the way out, not one of DuckDB's."""
    put(frame)
    store.files("tables", "samples")[0].unlink()
    with pytest.raises(PartitionDamagedError, match="rebuild"):
        query(store.root, "FROM samples")


def test_the_catalogue_opens_read_only_in_plain_duckdb(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """Another program opens the file read-only and finds the views; it holds no rows and leaves nothing beside it."""
    put(frame)
    path = build_catalogue(store.root)
    connection = duckdb.connect(str(path), read_only=True)
    assert connection.execute("SELECT count(*) FROM tables.samples").fetchall() == [(3,)]
    assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    connection.close()
    assert sorted(path.name for path in store.root.iterdir()) == ["catalogue.duckdb", "tables"]


def test_a_new_catalogue_replaces_the_old_one(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """Rebuilt, it shows the present tables; a log left beside the old file does not spoil the new one."""
    put(frame)
    path = build_catalogue(store.root)
    path.with_name(path.name + ".wal").write_bytes(b"left by another program")
    put(frame.head(1), NEXT)
    connection = duckdb.connect(str(build_catalogue(store.root)), read_only=True)
    assert connection.execute("SELECT count(*) FROM tables.samples").fetchall() == [(4,)]
    connection.close()
    assert not path.with_name(path.name + ".wal").exists()


def test_readers_of_the_catalogue_are_not_disturbed(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """While it is rebuilt 20 times over changing rows, every read-only open finds a whole catalogue."""
    put(frame)
    build_catalogue(store.root)
    done = threading.Event()
    counts: list[int] = []

    def read() -> None:
        while not done.is_set():
            with duckdb.connect(str(store.root / "catalogue.duckdb"), read_only=True) as connection:
                counts.append(connection.execute("SELECT count(*) FROM tables.samples").fetchall()[0][0])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(20):
            put(frame.head(1 + number % 3))
            build_catalogue(store.root)
    finally:
        done.set()
        reader.join()
    assert counts
    assert set(counts) <= {1, 2, 3}


def test_a_full_disk_keeps_the_old_catalogue(run_harness: Callable[..., str], tmp_path: Path) -> None:
    """Over the file size limit the build ends in DiskFullError and the old file stands alone."""
    assert run_harness("full_disk.py", "catalogue", tmp_path) == "full True ['catalogue.duckdb']\n"


def test_views_of_the_catalogue_are_listed_as_others_see_them(tmp_path: Path) -> None:
    """Opened read-only, the file names its views with their stages; a file that is none says what to do."""
    file = tmp_path / "catalogue.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA metrics; CREATE VIEW metrics.iv_rank AS SELECT 1 AS a")
        connection.execute("CREATE SCHEMA tables; CREATE VIEW tables.quotes AS SELECT 1 AS a")
    assert catalogue_views(tmp_path) == ["metrics.iv_rank", "tables.quotes"]
    file.write_bytes(b"not a database" * 1000)
    with pytest.raises(QueryError, match=r"cannot be opened.*Remove it"):
        catalogue_views(tmp_path)
