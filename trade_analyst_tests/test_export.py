"""Exports: no formulas, nothing half, and the published metrics of a session."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import openpyxl
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_analyst_pipeline import export
from trade_analyst_pipeline.errors import ExportError
from trade_analyst_pipeline.export import export_table, guarded, look_at_publication, publish_session, unguarded
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.storage.checked_json import checked_json
from trade_analyst_pipeline.storage.tables import TableStore, content_hash

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, 1, 250_000, tzinfo=UTC)


@pytest.fixture
def frame() -> pl.DataFrame:
    """Two rows of every kind of column."""
    return pl.DataFrame(
        {
            "symbol": ["BRK/B", "=1+1"],
            "price": [-1.5, None],
            "size": [-3, 4],
            "is_open": [True, None],
            "day": [DAY, None],
            "seen_time": [MOMENT, None],
            "rules": [["a", "-b"], []],
        },
        schema_overrides={"seen_time": pl.Datetime("us", "UTC")},
    )


def exported(frame: pl.DataFrame | pl.LazyFrame, path: Path, kind: str, **options: bool) -> Path:
    """The table written to a file of that format."""
    target = path / f"t.{kind}"
    export_table(frame, target, format=kind, **options)
    return target


def cells(path: Path) -> list[tuple[object, ...]]:
    """All cells of a workbook, as another library reads them."""
    return list(openpyxl.load_workbook(path).active.iter_rows(values_only=True))


def test_parquet_is_unchanged(frame: pl.DataFrame, tmp_path: Path) -> None:
    """Parquet keeps every value and type, formulas included."""
    assert pl.read_parquet(exported(frame.lazy(), tmp_path, "parquet")).equals(frame, null_equal=True)


def test_csv_is_plain_and_safe(frame: pl.DataFrame, tmp_path: Path) -> None:
    """Numbers stay numbers, times are ISO with Z, lists are joined, null is empty, risky text is defused."""
    assert exported(frame, tmp_path, "csv").read_text().splitlines() == [
        "symbol,price,size,is_open,day,seen_time,rules",
        "BRK/B,-1.5,-3,true,2026-01-05,2026-01-05T20:55:01.250000Z,a; -b",
        '\'=1+1,,4,,,,""',
    ]


def test_the_guard_can_be_switched_off(frame: pl.DataFrame, tmp_path: Path) -> None:
    """Without the guard the text is written as it is."""
    assert "\n=1+1," in exported(frame, tmp_path, "csv", guard_formulas=False).read_text()
    assert cells(exported(frame, tmp_path, "xlsx", guard_formulas=False))[2][0] == "=1+1"


def test_json_is_one_array(frame: pl.DataFrame, tmp_path: Path) -> None:
    """JSON holds one object per row with nulls, lists and ISO times, and no guard."""
    rows = json.loads(exported(frame, tmp_path, "json").read_text())
    assert rows[0] == {
        "symbol": "BRK/B",
        "price": -1.5,
        "size": -3,
        "is_open": True,
        "day": "2026-01-05",
        "seen_time": "2026-01-05T20:55:01.250000Z",
        "rules": ["a", "-b"],
    }
    assert rows[1]["symbol"] == "=1+1"
    assert rows[1]["seen_time"] is None


def test_xlsx_holds_typed_cells(frame: pl.DataFrame, tmp_path: Path) -> None:
    """Numbers, flags, dates and times are cells of their kind; times are UTC without zone; text is no formula."""
    header, first, second = cells(exported(frame, tmp_path, "xlsx"))
    assert header == ("symbol", "price", "size", "is_open", "day", "seen_time", "rules")
    seen = datetime(2026, 1, 5, 20, 55, 1, 250_000)  # noqa: DTZ001  a sheet has no zones
    assert first == ("BRK/B", -1.5, -3, True, datetime(2026, 1, 5), seen, "a; -b")  # noqa: DTZ001  likewise
    assert second[0] == "'=1+1"
    assert second[1] is None


STARTS = ["=", "+", "-", "@", "\t", "\r", "\x00", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
LEADS = ["", " ", '"', "'", "''", "\u200b", "\ufeff", "\u00a0", "\n", "\u201c", ' " ']
risky = st.builds(
    lambda lead, start, rest: lead + start + rest,
    st.sampled_from(LEADS),
    st.sampled_from(STARTS[:4] + STARTS[7:]),
    st.text(max_size=5),
)
anything = (
    st.text(max_size=6) | risky | st.sampled_from(STARTS) | st.builds("'{}".format, risky | st.sampled_from(STARTS))
)


@settings(max_examples=20, deadline=None)
@given(st.lists(anything, min_size=100, max_size=100))
def test_no_text_becomes_a_formula(texts: list[str]) -> None:
    """2,000 texts: what a spreadsheet could take for a formula starts with an apostrophe, and all can be taken back."""
    column = pl.DataFrame({"text": texts})
    safe = column.select(guarded(pl.col("text")))
    for before, after in zip(texts, safe["text"].to_list(), strict=True):
        stripped = before.lstrip(" \"'`\u201c\u201d\u2018\u2019\n\u00a0\u200b\ufeff")
        if before[:1] in {"\t", "\r", "\x00"} or stripped[:1] in set("=+-@\uff1d\uff0b\uff0d\uff20"):
            assert after == "'" + before
        else:
            assert after in (before, "'" + before)
    assert safe.select(unguarded(pl.col("text"))).equals(column)


def test_harmless_text_is_left_alone() -> None:
    """Symbols, names and text with signs further in are not touched."""
    texts = ["AAPL", "$SPX", "BRK/B", "a=b", "1-2", "AAPL  260116C00150000", "", " x", "'quoted'", None]
    column = pl.DataFrame({"text": texts})
    assert column.select(guarded(pl.col("text"))).equals(column)


xlsx_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=5)
printable_risky = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", " ", "'", '"', "\u201c"]),
    st.sampled_from("=+-@\uff1d\uff0b\uff0d\uff20"),
    xlsx_text,
)


@settings(max_examples=10, deadline=None)
@given(texts=st.lists(printable_risky | xlsx_text, min_size=40, max_size=40))
def test_spreadsheet_libraries_find_no_formula(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read back by openpyxl and by the csv module, no cell is a formula and each text is the guarded one."""
    folder = tmp_path_factory.mktemp("sheet")
    column = pl.DataFrame({"text": texts})
    expected = column.select(guarded(pl.col("text")))["text"].to_list()
    sheet = openpyxl.load_workbook(exported(column, folder, "xlsx")).active
    read = [cell for (cell,) in sheet.iter_rows(min_row=2)]
    assert {cell.data_type for cell in read} <= {"s", "n", "inlineStr"}
    assert [cell.value or "" for cell in read] == expected
    with exported(column, folder, "csv").open(newline="", encoding="utf-8") as file:
        assert [row[0] if row else "" for row in csv.reader(file)] == ["text", *expected]


def test_risky_column_names_are_defused(tmp_path: Path) -> None:
    """A column name chosen in a query is guarded like any text."""
    table = pl.DataFrame({"=cmd": [1], "ok": [2]})
    assert exported(table, tmp_path, "csv").read_text() == "'=cmd,ok\n1,2\n"
    assert cells(exported(table, tmp_path, "xlsx"))[0] == ("'=cmd", "ok")


def test_a_sheet_ends_somewhere(tmp_path: Path) -> None:
    """One row more than a sheet holds is refused naming the limit, and no file is left."""
    with pytest.raises(ExportError, match="1,048,576"):
        exported(pl.DataFrame({"n": pl.int_range(1_048_576, eager=True)}), tmp_path, "xlsx")
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("values", "kind", "problem"),
    [
        ([float("nan")], "xlsx", "NaN or infinity"),
        ([float("-inf"), None], "json", "NaN or infinity"),
        ([2**53 + 1], "xlsx", r"2\^53"),
        (["x" * 32_768], "xlsx", "32,767"),
    ],
)
def test_what_a_format_would_change_is_refused(values: list[object], kind: str, problem: str, tmp_path: Path) -> None:
    """A value the format cannot hold ends in an error naming the column, never in another value."""
    with pytest.raises(ExportError, match=f"(?s){problem}.*bad|bad.*{problem}"):
        exported(pl.DataFrame({"bad": values}), tmp_path, kind)


def test_wrong_use_is_told(frame: pl.DataFrame, tmp_path: Path) -> None:
    """An unknown format lists the known ones; a folder that does not exist is named."""
    with pytest.raises(ExportError, match="parquet, csv, json, xlsx"):
        exported(frame, tmp_path, "xls")
    with pytest.raises(ExportError, match="nowhere does not exist"):
        exported(frame, tmp_path / "nowhere", "csv")
    with pytest.raises(ExportError, match=r"is a folder; name the file to write, such as .*/table\.csv"):
        export_table(frame, tmp_path, format="csv")


def test_folder_that_is_closed_to_the_user_is_told(
    frame: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to write there, the folder is named; root may write anywhere, so the right is played."""
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ExportError, match=f"{tmp_path} cannot be written to"):
        exported(frame, tmp_path, "csv")


def test_too_many_cells_are_refused_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows times columns has a bound, told from the number of rows alone; CSV has none. At the bound it is written."""
    monkeypatch.setattr(export, "XLSX_CELLS", 12)
    read = []

    def note(values: pl.Series) -> pl.Series:
        read.append(len(values))
        return values

    rows = pl.LazyFrame({"a": range(4), "b": range(4), "c": range(4)})
    exported(rows, tmp_path, "xlsx")
    seen = rows.with_columns(d=pl.col("a").map_batches(note, return_dtype=pl.Int64()))
    with pytest.raises(ExportError, match=r"12 cells; these are 4 rows of 4 columns\. Use csv"):
        exported(seen, tmp_path, "xlsx")
    assert read == []
    exported(seen, tmp_path, "csv")
    assert read == [4]


def test_a_sheet_larger_than_plain_zip_holds_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sheet passes the 4 GiB of plain zip files (here: 1,000 bytes), the larger form is used."""
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 1000)
    path = exported(pl.DataFrame({"n": range(2000)}), tmp_path, "xlsx")
    assert len(cells(path)) == 2001


def test_progress_tells_rows_written(tmp_path: Path) -> None:
    """Every thousandth row of a sheet is told."""
    told: list[int] = []
    export_table(pl.DataFrame({"n": range(2500)}), tmp_path / "t.xlsx", format="xlsx", progress=told.append)
    assert told == [1000, 2000]


def test_an_export_is_whole_or_not_there(frame: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails the file of before stands and nothing is left beside it."""
    path = exported(frame, tmp_path, "csv")
    before = path.read_bytes()

    def fail(_rows: pl.LazyFrame, file: io.BufferedWriter, **_: bool) -> None:
        file.write(b"half")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(export, "_write_csv", fail)
    with pytest.raises(OSError, match="Input/output"):
        exported(frame, tmp_path, "csv")
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


# Publishing a session.

SNAPSHOT = TableSchema(
    "put_call_ratio",
    "1.0",
    ("symbol",),
    (Column("symbol", pl.String(), None, ""), Column("ratio", pl.Float64(), None, "")),
    frozenset({"symbol"}),
)
SERIES = TableSchema(
    "iv_rank",
    "1.2",
    ("session_date", "symbol"),
    (Column("session_date", pl.Date(), None, ""), *SNAPSHOT.columns),
    frozenset({"session_date", "symbol"}),
)
ABSENT = replace(SNAPSHOT, name="realized_volatility")


def write(store: TableStore, schema: TableSchema, rows: pl.DataFrame, key: date | int) -> None:
    """Store a metric the ordinary way."""
    store.write(
        "metrics",
        rows,
        schema=schema,
        partition=key,
        fence=store.take_fence("metrics", schema.name, key),
        source_captures=("c1",),
        code_version="0.1.0",
        created_time=MOMENT,
    )


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """A store with a snapshot metric of the session and a year of a series metric, two sessions long."""
    store = TableStore(tmp_path / "data")
    write(store, SNAPSHOT, pl.DataFrame({"symbol": ["=A", "B"], "ratio": [0.5, None]}), DAY)
    series = {"session_date": [DAY, DAY, DAY - timedelta(days=3)], "symbol": ["A", "B", "A"], "ratio": [1.0, 2.0, 3.0]}
    write(store, SERIES, pl.DataFrame(series), 2026)
    return store


def publish(store: TableStore, created: datetime = MOMENT, **changes: object) -> export.Publication:
    """Publish the session."""
    schemas = changes.get("schemas", [SNAPSHOT, SERIES, ABSENT])
    return publish_session(store, DAY, schemas=schemas, code_version="0.1.0", created_time=created)


def published(store: TableStore) -> Path:
    """The folder of the session."""
    return store.root / "exports/metrics/session_date=2026-01-05"


def test_a_session_is_published_for_plain_readers(store: TableStore) -> None:
    """Parquet and CSV of each stored metric hold that session's rows alone, and the manifest describes each file."""
    publication = publish(store)
    folder = published(store)
    assert sorted(path.name for path in folder.iterdir()) == [
        "iv_rank.csv",
        "iv_rank.parquet",
        "manifest.json",
        "put_call_ratio.csv",
        "put_call_ratio.parquet",
    ]
    assert pl.read_parquet(folder / "iv_rank.parquet")["ratio"].to_list() == [1.0, 2.0]
    assert (folder / "put_call_ratio.csv").read_text() == "symbol,ratio\n'=A,0.5\nB,\n"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["session_date"] == "2026-01-05"
    iv_rank, ratio = manifest["tables"]
    assert (iv_rank["name"], iv_rank["schema_version"], ratio["name"]) == ("iv_rank", "1.2", "put_call_ratio")
    source = store.manifest("metrics", "iv_rank", 2026)
    assert source is not None
    assert iv_rank["source_content_hash"] == source.content_hash
    assert iv_rank["content_hash"] == content_hash(pl.read_parquet(folder / "iv_rank.parquet"), SERIES)
    for file in (*iv_rank["files"], *ratio["files"]):
        content = (folder / file["name"]).read_bytes()
        assert file["size_bytes"] == len(content)
        assert file["row_count"] == 2
    assert publication.tables[0].files[0].row_count == 2


def test_publishing_again_writes_nothing(store: TableStore) -> None:
    """A second publication of the same metrics leaves every file untouched, whatever the time."""
    first = publish(store)
    before = {path.name: path.stat().st_mtime_ns for path in published(store).iterdir()}
    assert publish(store, MOMENT + timedelta(days=1)) == first
    assert {path.name: path.stat().st_mtime_ns for path in published(store).iterdir()} == before


def test_publishing_follows_the_metrics(store: TableStore) -> None:
    """Changed rows are republished, a damaged file is made again, a metric no longer published is removed."""
    publish(store)
    write(store, SNAPSHOT, pl.DataFrame({"symbol": ["C"], "ratio": [9.0]}), DAY)
    (published(store) / "iv_rank.csv").write_text("broken")
    (published(store) / "manifest.json").write_text("broken")
    publish(store)
    assert (published(store) / "put_call_ratio.csv").read_text() == "symbol,ratio\nC,9.0\n"
    assert (published(store) / "iv_rank.csv").read_text().startswith("session_date,symbol,ratio\n2026-01-05,A,1.0")
    publish(store, schemas=[SERIES])
    assert sorted(path.name for path in published(store).iterdir()) == [
        "iv_rank.csv",
        "iv_rank.parquet",
        "manifest.json",
    ]


def test_the_manifest_of_another_session_is_made_again(store: TableStore) -> None:
    """One that stands in the folder by mistake does not pass for that of the session, whatever the same it lists."""
    publish(store, schemas=[])
    path = published(store) / "manifest.json"
    whole = path.read_bytes()
    other = publish_session(store, DAY + timedelta(days=1), schemas=[], code_version="0.1.0", created_time=MOMENT)
    path.write_bytes((published(store).with_name("session_date=2026-01-06") / "manifest.json").read_bytes())
    assert other.tables == publish(store, schemas=[]).tables
    assert path.read_bytes() == whole


def test_an_old_or_cut_manifest_is_told_and_made_again(store: TableStore) -> None:
    """One without the checksum, as versions before it wrote, and one without a field are damage; no file is missed."""
    publish(store)
    path = published(store) / "manifest.json"
    whole = path.read_bytes()
    listed = {name: value for name, value in json.loads(whole).items() if name != "checksum"}
    olds = [json.dumps(listed, indent=1).encode(), whole[:-30]]
    without = {name: value for name, value in listed.items() if name != "tables"}
    olds.append(checked_json(msgspec.defstruct("Older", [(name, Any) for name in without])(**without)))
    for old in olds:
        path.write_bytes(old)
        looked = look_at_publication(store.root, DAY, now=0.0)
        assert [(Path(flaw.path).name, flaw.kind) for flaw in looked.flaws] == [("manifest.json", "damaged")]
        publish(store)
        assert path.read_bytes() == whole
        assert look_at_publication(store.root, DAY, now=0.0).flaws == ()


def test_a_session_without_metrics_has_a_manifest_that_says_so(tmp_path: Path) -> None:
    """Nothing stored is published as an empty manifest, not as an error."""
    assert publish(TableStore(tmp_path)).tables == ()
