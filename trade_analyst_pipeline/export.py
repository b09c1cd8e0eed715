"""Tables as files for other people's programs: Parquet, CSV, JSON and XLSX, and the published metrics of a session.

Text that a spreadsheet would take for a formula is defused in CSV and XLSX. Which rows there are is decided before;
writing safely is `storage/durable.py`.

Times are UTC: kept as such in Parquet, ISO 8601 text with `Z` in CSV and JSON, and in XLSX dates without a zone,
because spreadsheets have none. Lists become text joined by `; ` in CSV and XLSX. Null is an empty cell or JSON null.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import msgspec
import polars as pl

from trade_analyst_pipeline.errors import ExportError, StorageError
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.checked_json import checked_json, refuse_unchecked
from trade_analyst_pipeline.storage.flaws import Flaw, Looked, is_untouched
from trade_analyst_pipeline.storage.manifest import partition_of
from trade_analyst_pipeline.storage.tables import Partition, TableStore, content_hash, parquet_bytes

if TYPE_CHECKING:
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

Format = Literal["parquet", "csv", "json", "xlsx"]
CellWriter = Callable[[int, int, Any], object]
Progress = Callable[[int], object]
XLSX_ROWS = 1_048_576
XLSX_COLUMNS = 16_384
XLSX_TEXT = 32_767
XLSX_CELLS = 10_000_000
"""About a minute of writing, and more than spreadsheet programs open with ease."""
XLSX_STEP = 1000
PUBLISHED_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 16 << 20
_PUBLISHED_FORMATS: tuple[Format, ...] = ("parquet", "csv")
# A cell is risky when, after any quotes, blanks, controls and invisible signs, it starts as a formula does; full-width
# forms count, as some programs fold them.
_SKIPPED = r"""[\s"'`\u2018\u2019\u201c\u201d\x00-\x20\u200b-\u200f\u2060\ufeff]*"""
_RISKY = rf"(?:'*[\t\r\x00]|{_SKIPPED}[=+\-@\uff1d\uff0b\uff0d\uff20])"
_ISO_TIME = "%Y-%m-%dT%H:%M:%S%.6fZ"


def export_table(
    frame: pl.DataFrame | pl.LazyFrame,
    path: Path,
    *,
    format: Format,  # noqa: A002  the word users type: --format
    guard_formulas: bool = True,
    progress: Progress | None = None,
) -> None:
    """Write a table to `path`, atomically; what was there before is replaced only by a whole new file.

    With `guard_formulas` each text cell of CSV and XLSX that a spreadsheet could take for a formula gets a leading
    apostrophe, which `unguarded` takes off again; numbers stay numbers, Parquet and JSON stay as they are.
    `progress` is told the rows written so far, by XLSX alone, which takes long. Raises ExportError for what the format
    cannot hold and for a path that cannot be written, DiskFullError.
    """
    if format not in get_args(Format):
        message = f"{format!r} is no export format; formats are {', '.join(get_args(Format))}"
        raise ExportError(message)
    rows = frame.lazy()
    _refuse_place(path)
    if format == "xlsx":
        _refuse_size_beyond_xlsx(rows)
    with durable.replacing(path) as file:
        if format == "parquet":
            rows.sink_parquet(file, compression="zstd")
        elif format == "csv":
            _write_csv(rows, file, guard_formulas=guard_formulas)
        elif format == "json":
            file.write(_json(rows.collect()))
        else:
            _write_xlsx(rows.collect(), file, guard_formulas=guard_formulas, progress=progress)


def _refuse_place(path: Path) -> None:
    """Raise ExportError where no file can be written at that path."""
    if path.is_dir():
        message = f"{path} is a folder; name the file to write, such as {path / 'table.csv'}"
    elif not path.parent.is_dir():
        message = f"{path.parent} does not exist; make the folder first"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        message = f"{path.parent} cannot be written to by this user; name a file elsewhere"
    else:
        return
    raise ExportError(message)


def guarded(text: pl.Expr) -> pl.Expr:
    """Text with an apostrophe before each value that a spreadsheet could take for a formula."""
    return text.str.replace(f"^{_RISKY}", "'${0}")


def unguarded(text: pl.Expr) -> pl.Expr:
    """The text that `guarded` was given, from what it made of it."""
    return text.str.replace(f"^'({_RISKY})", "${1}")


@dataclass(frozen=True)
class PublishedFile:
    """One file for readers of plain folders."""

    name: str
    format: Format
    row_count: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class PublishedTable:
    """One metric of the session: `content_hash` of the rows published, `source_content_hash` of their partition."""

    name: str
    schema_version: str
    content_hash: str
    source_content_hash: str
    files: tuple[PublishedFile, ...]


@dataclass(frozen=True)
class Publication:
    """What `manifest.json` says. `created_time` is when anything in it last changed."""

    session_date: date
    code_version: str
    created_time: datetime
    tables: tuple[PublishedTable, ...]


def publish_session(
    store: TableStore,
    session_date: date,
    *,
    schemas: Iterable[TableSchema],
    code_version: str,
    created_time: datetime,
    what: str = "metrics",
) -> Publication:
    """Put metrics of a session into `exports/<what>/session_date=YYYY-MM-DD/` for readers of plain folders.

    One Parquet and one CSV file for each metric that has a partition, then `manifest.json`, each replaced atomically
    and only when it changes, so doing it again writes nothing; what is no longer published is removed. While a
    changed session is being published a file may be newer than the manifest: compare its SHA-256 and read again.
    Raises PartitionDamagedError, SchemaMismatchError, DiskFullError.
    """
    folder = durable.make_folders(store.root, "exports", what, f"session_date={session_date.isoformat()}")
    found = (_publish_table(store, folder, schema, session_date) for schema in sorted(schemas, key=lambda s: s.name))
    tables = tuple(table for table in found if table is not None)
    publication = Publication(session_date, code_version, created_time.astimezone(UTC), tables)
    present = _publication(folder)
    if present is not None and present == replace(publication, created_time=present.created_time):
        return present
    durable.write_bytes(folder / PUBLISHED_MANIFEST, checked_json(publication))
    kept = {file.name for table in tables for file in table.files}
    for name in durable.list_names(folder):
        if name.endswith(_PUBLISHED_FORMATS) and not name.startswith(".") and name not in kept:
            (folder / name).unlink(missing_ok=True)
    return publication


def published_sessions(root: Path) -> list[date]:
    """The sessions that have a folder in `exports/metrics/` of this data folder, in order."""
    keys = map(partition_of, durable.list_names(root / "exports" / "metrics"))
    return sorted(key for key in keys if isinstance(key, date))


# made here: two threads that decode a type for the first time at once crash the library
_PUBLICATION = msgspec.json.Decoder(Publication)


def _publication(folder: Path) -> Publication | None:
    """The manifest that is there; None when there is none or it cannot be read, as it is made anew then."""
    try:
        return _read_publication(folder)
    except (FileNotFoundError, ValueError):
        return None


def _read_publication(folder: Path) -> Publication:
    """The manifest that is there; raises FileNotFoundError, and ValueError when it is not as it was written."""
    text = durable.read_bytes(folder / PUBLISHED_MANIFEST, limit=_MANIFEST_LIMIT)
    refuse_unchecked(text)
    return _PUBLICATION.decode(text)


def look_at_publication(data_folder: Path, session_date: date, *, now: float) -> Looked:
    """Read every file of a published session and hold it against its manifest.

    `now` is in epoch seconds, for the age of what may still be in the making.
    """
    folder = data_folder / "exports" / "metrics" / f"session_date={session_date.isoformat()}"
    place = folder.relative_to(data_folder).as_posix()
    names = sorted(durable.list_names(folder))
    if not names:
        return Looked((Flaw(place, "orphan", "an empty folder"),) if is_untouched(folder, now=now) else ())
    manifest = f"{place}/{PUBLISHED_MANIFEST}"
    try:
        publication = _read_publication(folder)
    except FileNotFoundError:
        return Looked((Flaw(manifest, "missing", "there are files and no manifest"),))
    except (ValueError, StorageError, OSError) as error:
        return Looked((Flaw(manifest, "damaged", str(error)),))
    found = Looked((), 1, (folder / PUBLISHED_MANIFEST).stat().st_size)
    if publication.session_date != session_date:
        found += Looked((Flaw(manifest, "damaged", f"it is that of {publication.session_date}"),))
    listed = {file.name: file for table in publication.tables for file in table.files}
    for name, file in listed.items():
        found += _look_at_published(folder / name, f"{place}/{name}", file)
    for name in names:
        path, is_ours = folder / name, name == PUBLISHED_MANIFEST or name in listed
        if not is_ours and (durable.is_left_behind(path, now=now) or not durable.is_temporary(name)):
            found += Looked((Flaw(f"{place}/{name}", "orphan", "no manifest lists it"),))
    return found


def _look_at_published(path: Path, name: str, file: PublishedFile) -> Looked:
    try:
        content = durable.read_bytes(path, limit=max(file.size_bytes, path.lstat().st_size))
    except FileNotFoundError:
        return Looked((Flaw(name, "missing", "the manifest lists it"),))
    except (StorageError, OSError) as error:
        return Looked((Flaw(name, "damaged", f"it cannot be read: {error}"),))
    is_whole = hashlib.sha256(content).hexdigest() == file.sha256
    return Looked(() if is_whole else (Flaw(name, "damaged", "it does not match its SHA-256"),), 1, len(content))


def _publish_table(store: TableStore, folder: Path, schema: TableSchema, session_date: date) -> PublishedTable | None:
    keys: tuple[Partition, ...] = (session_date, session_date.year)
    source = next((found for key in keys if (found := store.manifest("metrics", schema.name, key))), None)
    if source is None:
        return None
    rows = store.scan("metrics", schema.name, partitions=[source.partition], schema=schema)
    if "session_date" in schema.names:
        rows = rows.filter(pl.col("session_date") == session_date)
    frame = rows.collect()
    hashed = content_hash(frame, schema)
    csv = io.BytesIO()
    _write_csv(frame.lazy(), csv, guard_formulas=True)
    described = replace(source, row_count=frame.height, content_hash=hashed, schema_version=schema.version)
    contents: dict[Format, bytes] = {"parquet": parquet_bytes(frame, described), "csv": csv.getvalue()}
    files = tuple(_publish_file(folder, schema.name, kind, frame.height, contents[kind]) for kind in _PUBLISHED_FORMATS)
    return PublishedTable(schema.name, schema.version, hashed, source.content_hash, files)


def _publish_file(folder: Path, table: str, kind: Format, row_count: int, data: bytes) -> PublishedFile:
    path = folder / f"{table}.{kind}"
    file = PublishedFile(path.name, kind, row_count, len(data), hashlib.sha256(data).hexdigest())
    try:
        is_there = path.lstat().st_size == len(data) and durable.read_bytes(path, limit=len(data)) == data
    except FileNotFoundError:
        is_there = False
    if not is_there:
        durable.write_bytes(path, data)
    return file


def _write_csv(rows: pl.LazyFrame, file: BinaryIO, *, guard_formulas: bool) -> None:
    _flat(rows, guard_formulas=guard_formulas).sink_csv(file, datetime_format=_ISO_TIME)


def _json(frame: pl.DataFrame) -> bytes:
    """An array of one object per row, times as ISO 8601 text."""
    _refuse_non_finite(frame, "json")
    times = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)]
    return frame.with_columns(pl.col(times).dt.strftime(_ISO_TIME)).write_json().encode()


def _flat(rows: pl.LazyFrame, *, guard_formulas: bool) -> pl.LazyFrame:
    """Lists joined to text, categories as text, and risky text defused, column names included."""
    schema = rows.collect_schema()
    lists = [name for name, dtype in schema.items() if isinstance(dtype, pl.List)]
    categories = [name for name, dtype in schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    rows = rows.with_columns(pl.col(lists).cast(pl.List(pl.String)).list.join("; "), pl.col(categories).cast(pl.String))
    if not guard_formulas:
        return rows
    names = schema.names()
    safe = pl.Series("names", names, dtype=pl.String).to_frame().select(guarded(pl.col("names"))).to_series()
    return rows.with_columns(guarded(pl.col(pl.String))).rename(dict(zip(names, safe, strict=True)))


def _refuse_non_finite(frame: pl.DataFrame, kind: Format) -> None:
    numbers = frame.select(pl.col(pl.Float32, pl.Float64))
    bad = [column.name for column in numbers.get_columns() if (~column.drop_nulls().is_finite()).any()]
    if bad:
        message = f"{kind} has no way to write NaN or infinity, found in {', '.join(bad)}; use parquet or csv"
        raise ExportError(message)


def _refuse_size_beyond_xlsx(rows: pl.LazyFrame) -> None:
    """Raise ExportError, without reading more than the number of rows, when they are too many for a worksheet."""
    width, height = len(rows.collect_schema()), rows.select(pl.len()).collect().item()
    if height >= XLSX_ROWS or width > XLSX_COLUMNS or height * width > XLSX_CELLS:
        message = (
            f"an XLSX sheet ends at {XLSX_ROWS:,} rows (one is the header), {XLSX_COLUMNS:,} columns and, here, "
            f"{XLSX_CELLS:,} cells; these are {height:,} rows of {width:,} columns. Use csv or parquet"
        )
        raise ExportError(message)


def _refuse_beyond_xlsx(frame: pl.DataFrame) -> None:
    """Raise ExportError for what a worksheet would cut or change: long text, large whole numbers."""
    _refuse_non_finite(frame, "xlsx")
    for column in frame.get_columns():
        if column.dtype == pl.String() and (column.str.len_chars() > XLSX_TEXT).any():
            message = f"an XLSX cell ends at {XLSX_TEXT:,} characters; column {column.name} has longer text. Use csv"
            raise ExportError(message)
        if column.dtype.is_integer() and not column.drop_nulls().is_between(-(2**53), 2**53).all():
            message = f"XLSX keeps whole numbers only up to 2^53; column {column.name} has larger ones. Use csv"
            raise ExportError(message)


def _write_xlsx(frame: pl.DataFrame, file: BinaryIO, *, guard_formulas: bool, progress: Progress | None) -> None:
    import xlsxwriter

    frame = _flat(frame.lazy(), guard_formulas=guard_formulas).collect()
    _refuse_beyond_xlsx(frame)
    # Rows go to the disk as they come; a sheet kept in memory would take kilobytes a row.
    with tempfile.TemporaryDirectory(prefix="trade-analyst-xlsx-") as scratch:
        book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": scratch})
        book.use_zip64()  # a sheet of long texts passes 4 GiB
        sheet = book.add_worksheet("data")
        header = book.add_format({"bold": True})
        for place, name in enumerate(frame.columns):
            sheet.write_string(0, place, name, header)
        sheet.freeze_panes(1, 0)
        writers = [_cell_writer(book, sheet, dtype) for dtype in frame.dtypes]
        for number, row in enumerate(frame.iter_rows(), start=1):
            for place, (write, value) in enumerate(zip(writers, row, strict=True)):
                if value is not None:
                    write(number, place, value)
            if progress is not None and number % XLSX_STEP == 0:
                progress(number)
        book.close()


def _cell_writer(book: Workbook, sheet: Worksheet, dtype: pl.DataType) -> CellWriter:
    """How a value of that type is written; never by guessing from its text."""
    if dtype.is_numeric() or dtype == pl.Boolean():
        write: CellWriter = sheet.write_number if dtype.is_numeric() else sheet.write_boolean
        return write
    if isinstance(dtype, pl.Date):
        return partial(_write_time, sheet, book.add_format({"num_format": "yyyy-mm-dd"}))
    if isinstance(dtype, pl.Datetime):
        return partial(_write_time, sheet, book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss.000"}))
    return partial(_write_text, sheet)


def _write_time(sheet: Worksheet, style: object, row: int, place: int, value: datetime | date) -> None:
    naive = value.replace(tzinfo=None) if isinstance(value, datetime) else value
    sheet.write_datetime(row, place, naive, style)


def _write_text(sheet: Worksheet, row: int, place: int, value: object) -> None:
    sheet.write_string(row, place, str(value))
