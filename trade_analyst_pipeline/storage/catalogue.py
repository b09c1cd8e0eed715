"""SQL over the tables: one view per table, over the files that its manifests list at that moment.

`tables.options`, `metrics.iv_rank`, `quarantine.options` …, also found without the stage in front, in that order.
Views hold no data. Tables that are declared and not stored yet are views without rows. Beside each declared one stands
a macro that reads it as of an instant, `tables.ohlc_as_of('2026-01-05T20:55:00Z')`. Here belongs what DuckDB is told;
which files count is decided by `tables.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from trade_analyst_pipeline.errors import DiskFullError, QueryError, StorageError
from trade_analyst_pipeline.market.columns import TableSchema, Upgrade
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.content_hash import column_types
from trade_analyst_pipeline.storage.manifest import Manifest
from trade_analyst_pipeline.storage.schema_versions import readable_groups
from trade_analyst_pipeline.storage.tables import TableStore

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Schemas by the name they have in SQL, `<stage>.<table>`.
Declared: TypeAlias = Mapping[str, TableSchema]
_NONE: Declared = MappingProxyType({})

CATALOGUE_NAME = "catalogue.duckdb"
VIEW_STAGES = ("tables", "metrics", "quarantine")
DEFAULT_ROWS = 1000
_PARQUET = re.compile(r"'((?:[^']|'')*\.parquet)'")
_SQL_TYPES = {
    "boolean": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "text": "VARCHAR",
    "date": "DATE",
    "time[us,UTC]": "TIMESTAMP WITH TIME ZONE",
    "time[ns,UTC]": "TIMESTAMP WITH TIME ZONE",
    "duration[us]": "BIGINT",
    "list[text]": "VARCHAR[]",
}


@dataclass(frozen=True)
class QueryResult:
    """Rows of an answer; `is_cut` when there were more than the bound."""

    frame: pl.DataFrame
    is_cut: bool


def create_views(
    connection: DuckDBPyConnection, root: Path, *, declared: Declared = _NONE, as_of: datetime | None = None
) -> list[str]:
    """Make the views of all tables below `root` (`data/<env>`) in an open DuckDB connection; returns their names.

    Those that are `declared` and hold nothing yet are typed views without rows. With `as_of` (inclusive, with a time
    zone) a view shows what was known at that instant, and reading one of a metric is an error: metrics are computed
    from tables, which SQL cannot do. A table that is not declared has no view then.

    Works on any connection that may write to its own catalogue, such as one on `:memory:`. Replaces views made
    before. A view keeps the file list of this moment, which stays readable for the grace time of the store.
    """
    store = TableStore(root)
    made = []
    for stage in VIEW_STAGES:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {stage}").fetchall()
        known = {name.partition(".")[2] for name in declared if name.startswith(f"{stage}.")}
        made += [
            f"{stage}.{name}"
            for name in sorted(known.union(store.names(stage)))
            if _create_view(connection, store, (stage, name), declared.get(f"{stage}.{name}"), as_of)
        ]
    connection.execute(f"SET search_path = 'main,{','.join(VIEW_STAGES)}'").fetchall()
    connection.execute("SET TimeZone = 'UTC'").fetchall()
    return made


def _create_view(
    connection: DuckDBPyConnection,
    store: TableStore,
    table: tuple[str, str],
    schema: TableSchema | None,
    as_of: datetime | None,
) -> bool:
    """Make the view of a table (stage and name), and its macro when it is declared; whether there is a view."""
    stage, name = table
    select = _select_of(store, stage, name, schema)
    if select is None or (schema is None and as_of is not None):
        return False
    view, macro = f"{stage}.{_identifier(name)}", f"{stage}.{_identifier(f'{name}_as_of')}"
    rows = select
    if as_of is None:  # the macro reads the view, whose list of files takes long to read twice
        connection.execute(f"CREATE OR REPLACE VIEW {view} AS {select}").fetchall()
        rows = f"FROM {view}"
    if schema is not None:
        known = _as_of(f"{stage}.{name}", rows, schema)
        connection.execute(f"CREATE OR REPLACE MACRO {macro}(instant) AS TABLE {known}").fetchall()
    if as_of is not None:
        known_then = f"FROM {macro}({_text(as_of.isoformat())})"
        connection.execute(f"CREATE OR REPLACE VIEW {view} AS {known_then}").fetchall()
    return True


def build_catalogue(root: Path, *, declared: Declared = _NONE) -> Path:
    """Write `catalogue.duckdb` anew with the views of this moment, beside the old one and renamed over it.

    For other programs: open it read-only. Raises DiskFullError or StorageError; the old catalogue stands then.
    """
    import duckdb

    root = root.resolve()
    path = durable.make_folders(root) / CATALOGUE_NAME
    with durable.building(path) as temporary:
        try:
            connection = duckdb.connect(str(temporary))
            try:
                create_views(connection, root, declared=declared)
                # Closing writes the file too, but says nothing when that fails.
                connection.execute("CHECKPOINT").fetchall()
            finally:
                connection.close()
        except duckdb.Error as error:
            if not durable.is_disk_full(error):
                message = f"{path} could not be written anew ({error}); the old catalogue stands. Run the command again"
                raise StorageError(message) from error
            message = f"no space or quota left while writing {path}; the old catalogue stands. Free some space"
            raise DiskFullError(message) from error
    # A log left beside the old file belongs to it, and DuckDB refuses to open the new file with it.
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class CatalogueState:
    """What `catalogue.duckdb` holds: its views, and the files they name that are gone since."""

    views: tuple[str, ...]
    missing: tuple[Path, ...]


def catalogue_views(root: Path) -> list[str]:
    """Names of the views in `catalogue.duckdb`, opened read-only as other programs open it.

    Raises QueryError when the file cannot be opened: it is no catalogue, or of a newer DuckDB.
    """
    return sorted(_views(root))


def catalogue_state(root: Path) -> CatalogueState:
    """Whether the views can be read still; raises QueryError as `catalogue_views` does."""
    views = _views(root)
    named = {Path(found.replace("''", "'")) for sql in views.values() for found in _PARQUET.findall(sql)}
    return CatalogueState(tuple(sorted(views)), tuple(sorted(path for path in named if not path.exists())))


def _views(root: Path) -> dict[str, str]:
    """The SQL of each view by its name."""
    import duckdb

    path = root / CATALOGUE_NAME
    try:
        connection = duckdb.connect(str(path), read_only=True)
        try:
            rows = connection.execute(
                "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        finally:
            connection.close()
    except duckdb.Error as error:
        message = f"{path} cannot be opened ({error}). Remove it; `trade-analyst run` makes it anew."
        raise QueryError(message) from error
    return {f"{stage}.{name}": sql for stage, name, sql in rows}


def query(
    root: Path,
    sql: str,
    *,
    limit: int = DEFAULT_ROWS,
    declared: Declared = _NONE,
    as_of: datetime | None = None,
    computed: Callable[[str], pl.LazyFrame] | None = None,
) -> QueryResult:
    """The first `limit` rows that one reading SQL statement gives over the present tables below `root`.

    Tables that are `declared` and hold nothing yet are there without rows. With `as_of` (inclusive, with a time zone)
    tables are as they were known then, and the metrics that the statement reads are what `computed` gives for their
    names (`metrics.iv_rank`); without it a statement that reads one is refused.

    The statement can read the tables' own folders and nothing else: no other file, no network, no extension, no
    setting. Raises QueryError for several statements, for one that writes, and for one that DuckDB cannot answer.
    """
    import duckdb

    root = root.resolve()
    views: list[str] = []
    connection = duckdb.connect(":memory:")
    try:
        statement = _one_select(connection, sql)
        views = create_views(connection, root, declared=declared, as_of=as_of)
        if as_of is not None and computed is not None:
            for metric in _metrics_read(connection, statement, views):
                _put_in_place(connection, metric, computed(metric).collect())
        _lock_down(connection, root)
        # DuckDB lets WITH hold a COPY or INSERT, but nowhere below the top of a statement.
        frame = connection.sql(f"SELECT * FROM (\n{statement}\n) LIMIT {limit + 1:d}").pl()  # noqa: S608  one SELECT
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        message = f"{error}\nTables and views: {', '.join(views) or 'none yet; run `trade-analyst run` first'}"
        raise QueryError(message) from error
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    except pl.exceptions.ComputeError as error:
        message = f"a column of the answer has a type that cannot be shown; cast it to VARCHAR ({error})"
        raise QueryError(message) from error
    finally:
        connection.close()
    return QueryResult(frame.head(limit), frame.height > limit)


def _one_select(connection: DuckDBPyConnection, sql: str) -> str:
    """The text of the only statement in `sql`, which must be one that reads; raises QueryError."""
    from duckdb import StatementType

    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        message = f"give exactly one SQL statement; there are {len(statements)}"
        raise QueryError(message)
    if statements[0].type != StatementType.SELECT:
        message = (
            "only statements that read are answered (SELECT, WITH, FROM, DESCRIBE, SUMMARIZE); to take data out, "
            "use `trade-analyst export`"
        )
        raise QueryError(message)
    return _without_end(sql)


def _metrics_read(connection: DuckDBPyConnection, statement: str, views: Sequence[str]) -> list[str]:
    """The views of metrics that a statement names, with or without their schema."""
    ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
    read = set(re.findall(r'"table_name":"([^"]*)"', tree.casefold()))
    return [view for view in views if view.startswith("metrics.") and view.partition(".")[2] in read]


def _put_in_place(connection: DuckDBPyConnection, view: str, rows: pl.DataFrame) -> None:
    """Put rows where a view was, under its name."""
    stage, _, name = view.partition(".")
    place = f"{stage}.{_identifier(name)}"
    connection.register("rows_of_metric", rows)
    connection.execute(f"DROP VIEW {place}").fetchall()
    connection.execute(f"CREATE TABLE {place} AS FROM rows_of_metric").fetchall()
    connection.unregister("rows_of_metric")


def _without_end(sql: str) -> str:
    """The text up to the semicolons and comments that end it."""
    from duckdb import tokenize

    text = sql.encode()
    end = len(text)
    for offset, _kind in reversed(tokenize(sql)):
        if not text.startswith((b"--", b"/*", b";"), offset):
            break
        end = offset
    return text[:end].decode()


def _lock_down(connection: DuckDBPyConnection, root: Path) -> None:
    """Leave the connection nothing but reading below the stages of `root`, for good."""
    folders = ", ".join(_text(str(root / stage)) for stage in VIEW_STAGES)
    for setting in (
        "SET temp_directory = ''",
        f"SET allowed_directories = [{folders}]",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        connection.execute(setting).fetchall()


def _select_of(store: TableStore, stage: str, name: str, schema: TableSchema | None) -> str | None:
    """The query behind the view of a table; None when it is neither stored nor declared."""
    manifests = store.manifests(stage, name)
    if schema is None:
        paths = store.paths(manifests)
        return _files(manifests, paths) if paths else _select_nothing(manifests[-1].columns) if manifests else None
    groups = [(upgrades, group, store.paths(group)) for upgrades, group in readable_groups(manifests, schema)]
    selects = [_select(upgrades, group, paths, schema) for upgrades, group, paths in groups if paths]
    return " UNION ALL ".join(selects) or _select_nothing(column_types(schema))


def _as_of(table: str, select: str, schema: TableSchema) -> str:
    """The query behind the macro of a table: of rows known at or before `instant`, the newest known of each event."""
    if schema.known_time is None:
        message = (
            f"{table} cannot be read as of an instant in SQL, for it is computed from tables as of that instant: "
            f"use `trade-analyst query --as-of …`, `trade-analyst export {table} --as-of …` or read_as_of in Python"
        )
        nulls = _select_nothing(column_types(schema)).removesuffix(" WHERE false")
        return f"{nulls} FROM (SELECT error({_text(message)}) AS problem) WHERE problem IS NOT NULL"
    known = _identifier(schema.known_time)
    rows = f"SELECT * FROM ({select}) WHERE {known} <= CAST(instant AS TIMESTAMPTZ)"  # noqa: S608  quoted above
    if schema.event_key == schema.key:
        return rows
    event = ", ".join(_identifier(name) for name in schema.event_key)
    return f"{rows} QUALIFY {known} = max({known}) OVER (PARTITION BY {event})"


def _select_nothing(columns: Mapping[str, str]) -> str:
    return f"SELECT {', '.join(_null(name, kind) for name, kind in columns.items())} WHERE false"


def _null(name: str, kind: str) -> str:
    return f"CAST(NULL AS {_SQL_TYPES[kind]}) AS {_identifier(name)}"


def _select(
    upgrades: Sequence[Upgrade], manifests: Sequence[Manifest], paths: Sequence[str | Path], schema: TableSchema
) -> str:
    """The query over files that are read alike: the columns of the schema, those added since null."""
    rows, present = _files(manifests, paths), {name for each in manifests if each.files for name in each.columns}
    for upgrade in upgrades:
        kept = [_identifier(name) for name in sorted(present - upgrade.columns.keys())]
        made = [f"{text} AS {_identifier(name)}" for name, text in upgrade.columns.items()]
        rows, present = f"SELECT {', '.join(kept + made)} FROM ({rows})", present | upgrade.columns.keys()  # noqa: S608
    types = column_types(schema)
    made_now = {name for upgrade in upgrades for name in upgrade.columns}
    columns = [
        _null(name, kind)
        if name not in present
        else f"CAST({_identifier(name)} AS {_SQL_TYPES[kind]}) AS {_identifier(name)}"
        if name in made_now
        else _identifier(name)
        for name, kind in types.items()
    ]
    return f"SELECT {', '.join(columns)} FROM ({rows})"  # noqa: S608  names are quoted, upgrades are of our own text


def _files(manifests: Sequence[Manifest], paths: Sequence[str | Path]) -> str:
    """The rows of files as stored; those of several minor versions are joined by column name, missing ones null."""
    by_name = len({tuple(manifest.columns) for manifest in manifests if manifest.files}) > 1
    files = ", ".join(_text(str(path)) for path in paths)
    options = f"hive_partitioning = false, union_by_name = {str(by_name).lower()}"
    return f"SELECT * FROM read_parquet([{files}], {options})"  # noqa: S608  each value is quoted by `_text`


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
