"""Any name the source may send goes through archive, tables, SQL, exports, log and screen and stays in its place.

Where a name is data it comes back as it was sent, character for character, and no other name answers for it; where it
is shown, nothing obeys it. Quick form: 2,000 names; full form: 20,000.
"""

import csv
import io
import json
import logging
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import duckdb
import polars as pl
import pytest
from hostile_names import hostile_names
from markdown_it import MarkdownIt

from trade_analyst_pipeline.cli.main import main
from trade_analyst_pipeline.cli.shown import say_line, show_frame
from trade_analyst_pipeline.datasets import DATASETS, instruments
from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.export import Format, export_table, unguarded
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.ops import logs
from trade_analyst_pipeline.ops.visible import in_markdown, visible
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.catalogue import query
from trade_analyst_pipeline.storage.tables import TableStore

pytestmark = pytest.mark.reliability
REPOSITORY = Path(__file__).resolve().parents[1]
DAY, MOMENT = date(2026, 1, 5), datetime(2026, 1, 5, 20, 45, tzinfo=UTC)
IN_ONE_ANSWER = 2000
SCHEMA = DATASETS["movers"].schema
PLACES = re.compile(
    r"raw/(movers|quotes)/session_date=2026-01-05(/[0-9A-Za-z_-]+\.raw)?"
    r"|(tables|quarantine)/(movers|quotes)(/session_date=2026-01-05(/(part-\d+-[0-9a-f]{12}\.parquet|_[a-z]+(\.json)?))?)?"
    r"|raw(/movers|/quotes)?|tables|quarantine|catalogue\.duckdb"
)
# What a terminal or a reader's eye obeys, as the Unicode and ECMA-48 charts name it: C0, C1, turning signs, separators.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0041]")
COLOURS = re.compile(r"\x1b\[\d*(;\d+)*m")
# The form of a token: the log masks it wherever it stands, in a name too.
SECRET_FORM = re.compile(r"[A-Za-z0-9_.~+/=-]{40}@|code=")
# A cell that the spreadsheet programs and OWASP's page on CSV injection call a formula.
FORMULA = re.compile(r"""["\s\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\x00]""")


class World:
    """A data folder into which names came by the ordinary way, and the names."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names
        self.answers = [names[start : start + IN_ONE_ANSWER] for start in range(0, len(names), IN_ONE_ANSWER)]

    def rows(self) -> pl.DataFrame:
        """The stored rows in the order the names were sent."""
        scan = TableStore(self.folder).scan("tables", "movers", schema=SCHEMA)
        return scan.sort("sort_order", "place").collect()

    def export(self, kind: Format, *, guard: bool = True) -> bytes:
        """The rows as a file of that format."""
        path = self.folder.parent / "out"
        export_table(self.rows().lazy(), path, format=kind, guard_formulas=guard)
        content = path.read_bytes()
        path.unlink()
        return content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, *, is_full: bool) -> World:
    """Names captured as movers, a list of 2,000 in each answer, and asked for as quotes that the source disowns."""
    seed = pytestconfig.getoption("--harness-seed") or 20260105
    project = tmp_path_factory.mktemp("names")
    for name in ("config.toml", "dagster.yaml"):
        (project / name).write_bytes((REPOSITORY / name).read_bytes())
    made = World(project / "data" / "simulate", hostile_names(20_000 if is_full else IN_ONE_ANSWER, int(seed)))
    bodies = [
        (MarketDataRequest("movers", "/movers/$SPX", (("sort", f"S{number:02}"),), ("$SPX",)), {"screeners": listed})
        for number, listed in enumerate([entry(name) for name in names] for names in made.answers)
    ]
    seal(made.folder, "movers", bodies)
    disowned = MarketDataRequest("quotes", "/quotes", (("symbols", ",".join(made.names)),), tuple(made.names))
    seal(made.folder, "quotes", [(disowned, {"errors": {"invalidSymbols": made.names}})])
    (built,) = build_tables(made.folder, "movers", [DAY], workers=1, created_time=MOMENT)
    assert (built.status, built.rows, built.quarantined) == ("built", len(made.names), 0)
    return made


def entry(name: str) -> dict[str, object]:
    """A mover with that name and description."""
    money = {"lastPrice": 101.0, "netChange": 1.0, "netPercentChange": 0.01, "marketShare": 5.0}
    counts = {"volume": 125, "totalVolume": 2500, "trades": 14}
    return {"symbol": name, "description": name.replace("&", "+"), **money, **counts}


def seal(folder: Path, dataset: str, bodies: list[tuple[MarketDataRequest, Any]]) -> None:
    """One capture with these answers."""
    archive = Archive(folder / "raw")
    with archive.begin(dataset=dataset, session_date=DAY, scheduled_time=MOMENT, started_time=MOMENT) as writer:
        for request, body in bodies:
            writer.append(RawResponse(request, 200, json.dumps(body).encode(), (), MOMENT, MOMENT))
        writer.seal(MOMENT)


def test_no_name_becomes_part_of_a_path(world: World) -> None:
    """Folders and files are named by dataset, session and content alone, and nothing lies beside the data folder."""
    found = [path.relative_to(world.folder).as_posix() for path in world.folder.rglob("*")]
    assert [path for path in found if PLACES.fullmatch(path) is None] == []
    assert [path.name for path in world.folder.parent.iterdir()] == ["simulate"]
    for name in world.names:  # the one place where a name could be put into a path refuses what is no plain word
        if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) is None:
            with pytest.raises(StorageError):
                TableStore(world.folder).take_fence("tables", name, DAY)


def test_control_a_name_in_a_path_reads_others(tmp_path: Path) -> None:
    """Were a file named by its symbol, `*` would read every one: the reason why none is."""
    for name in ("A", "B", "*"):
        pl.DataFrame({"symbol": [name]}).write_parquet(tmp_path / f"{name}.parquet")
    assert duckdb.execute("FROM read_parquet(?)", [str(tmp_path / "*.parquet")]).fetchall() != [("*",)]


def test_the_archive_keeps_requests_and_names(world: World) -> None:
    """What was asked for comes back from the archive exactly, and each name the source disowned is told of."""
    archive = Archive(world.folder / "raw")
    (capture,) = archive.captures("quotes", DAY)
    (response,) = archive.responses(capture)
    assert response.request.symbols == tuple(world.names)
    assert response.request.param("symbols") == ",".join(world.names)
    told = DATASETS["quotes"].normalize([response], session_date=DAY).problems
    assert {symbol for problem in told for symbol in problem.symbols} == set(world.names)


def test_every_name_is_one_row_as_it_was_sent(world: World) -> None:
    """Key and text columns of the table, in the order sent; distinct names are distinct rows."""
    rows = world.rows()
    assert rows.schema == SCHEMA.polars_schema
    assert rows["symbol"].to_list() == world.names
    assert rows["symbol"].n_unique() == len(world.names)


def test_sql_finds_each_name_and_no_other(world: World) -> None:
    """Each name, written as an SQL text, answers with its own row alone, though names fold and look alike."""
    for start in range(0, len(world.names), IN_ONE_ANSWER):
        names = world.names[start : start + IN_ONE_ANSWER]
        asked = ", ".join(f"({number}, {sql_text(name)})" for number, name in enumerate(names))
        sql = f"SELECT n, symbol FROM (VALUES {asked}) AS v(n, name) JOIN movers ON symbol = name ORDER BY n"  # noqa: S608
        answer = query(world.folder, sql, limit=2 * IN_ONE_ANSWER).frame
        assert answer.rows() == list(enumerate(names))


def sql_text(name: str) -> str:
    """A text in SQL, as the standard has it; DuckDB takes no NUL there, so that is put together."""
    return " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in name.split("\x00"))


def test_control_a_name_put_bare_into_sql_breaks_out(world: World) -> None:
    """Without doubled quotes a name of the list makes another statement of it."""
    escaping = "' OR '1'='1"
    assert escaping in world.names
    sql = f"SELECT count(*) FROM movers WHERE symbol = '{escaping}'"  # noqa: S608  the fault under test
    assert query(world.folder, sql).frame.item() == len(world.names)


def test_parquet_and_json_hold_the_names(world: World) -> None:
    """Both give every name back as text, whatever it looks like; readers that guess types guess none."""
    parquet = world.export("parquet")
    assert pl.read_parquet(io.BytesIO(parquet))["symbol"].to_list() == world.names
    content = world.export("json")
    assert [row["symbol"] for row in json.loads(content)] == world.names


def test_csv_holds_the_names_and_no_formula(world: World) -> None:
    """Python's and Polars' readers find as many rows and cells as there are, no formula, and the names."""
    content = world.export("csv")
    table = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert {len(row) for row in table} == {len(SCHEMA.names)}
    assert formulas(content) == []
    place = SCHEMA.names.index("symbol")
    read = pl.Series("text", [row[place] for row in table[1:]], dtype=pl.String).to_frame()
    assert read.select(unguarded(pl.col("text")))["text"].to_list() == world.names
    guessed = pl.read_csv(io.BytesIO(content), infer_schema_length=None)
    assert guessed.schema["symbol"] == pl.String()
    assert guessed.select(unguarded(pl.col("symbol")))["symbol"].to_list() == world.names


def test_control_unguarded_csv_has_formulas(world: World) -> None:
    """The same look at a file written without the guard finds formulas."""
    assert len(formulas(world.export("csv", guard=False))) > 10


def formulas(content: bytes) -> list[str]:
    """The cells of names and descriptions that a spreadsheet would calculate."""
    places = [SCHEMA.names.index(name) for name in ("symbol", "description")]
    table = list(csv.reader(io.StringIO(content.decode(), newline="")))
    return [row[place] for row in table[1:] for place in places if FORMULA.match(row[place])]


def test_xlsx_holds_the_names_as_text(world: World) -> None:
    """Each cell is a text cell, none a formula or link; without the format's escapes they are the names."""
    with zipfile.ZipFile(io.BytesIO(world.export("xlsx"))) as book:
        assert not any("external" in name.lower() for name in book.namelist())
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314  our own file
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    assert not list(sheet.iter(f"{space}f"))
    assert not list(sheet.iter(f"{space}hyperlink"))
    column = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[SCHEMA.names.index("symbol")]
    cells = [cell for cell in sheet.iter(f"{space}c") if re.fullmatch(rf"{column}\d+", cell.get("r", ""))][1:]
    assert {cell.get("t") for cell in cells} == {"inlineStr"}
    texts = [spreadsheet_text("".join(part.text or "" for part in cell.iter(f"{space}t"))) for cell in cells]
    read = pl.DataFrame({"text": texts}).select(unguarded(pl.col("text")))["text"].to_list()
    assert read == world.names


def spreadsheet_text(text: str) -> str:
    """A text of a cell without the `_xHHHH_` that ECMA-376 (22.9.2.19) has for characters XML cannot hold."""
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)


Command = Callable[..., tuple[object, str, str]]


class Terminal(io.StringIO):
    """A stream that says that a person reads it."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture
def logged(world: World) -> Iterator[Callable[[io.StringIO], list[str]]]:
    """The lines of a log that tells of every name, in its message and beside it."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]

    def lines(stream: io.StringIO) -> list[str]:
        logs.configure_logging(stream=stream)
        logger = logging.getLogger("names")
        for name in world.names:
            logger.info("answered with %s", name, extra={"symbol": name})
        return stream.getvalue().split("\n")[:-1]

    yield lines
    root.setLevel(level)
    root.handlers[:] = handlers


def test_one_record_is_one_line_of_json(world: World, logged: Callable[[io.StringIO], list[str]]) -> None:
    """As many lines as records, ASCII without controls, each with its name as data and a message that obeys nothing."""
    lines = logged(io.StringIO())
    assert len(lines) == len(world.names)
    for line, name in zip(lines, world.names, strict=True):
        assert line.isascii()
        assert line.isprintable()
        record = json.loads(line)
        assert record["symbol"] == name or SECRET_FORM.search(name)
        assert OBEYED.search(record["event"]) is None


def test_no_name_looks_like_a_record_on_a_terminal(world: World, logged: Callable[[io.StringIO], list[str]]) -> None:
    """Coloured lines: nothing but colours is obeyed, and what starts at the edge are our records alone."""
    lines = [COLOURS.sub("", line) for line in logged(Terminal())]
    assert [line for line in lines if OBEYED.search(line)] == []
    assert sum(not line.startswith("    ") for line in lines) == len(world.names)


def test_piped_tables_give_the_names_back(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a row, nothing that is obeyed, and the names are had back by undoing the backslashes."""
    show_frame(world.rows().select("place", "symbol"))
    lines = capsys.readouterr().out.split("\n")[1:-1]
    assert len(lines) == len(world.names)
    assert [line for line in lines if OBEYED.search(line)] == []
    assert [unescaped(line.split("\t")[1]) for line in lines] == world.names


def unescaped(text: str) -> str:
    """A cell as it was: the escapes of Python's own string literals."""
    signs = {"\\\\": "\\", "\\n": "\n", "\\t": "\t"}
    form = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|[\\nt])")
    return form.sub(lambda found: signs.get(found[0]) or chr(int(found[1] or found[2] or found[3], 16)), text)


def test_boxed_tables_and_lines_obey_no_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a table keeps its height and holds nothing that is obeyed; so do lines on standard error."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    monkeypatch.setattr(sys, "stderr", err := Terminal())
    show_frame(world.rows().select("place", "symbol"))
    for name in world.names:
        say_line(f"{name}: the source does not know it", err=True)
    monkeypatch.undo()
    assert len(out.getvalue().split("\n")) == len(world.names) + 5
    assert len(err.getvalue().split("\n")) == len(world.names) + 1
    for shown in (out, err):
        assert OBEYED.search(COLOURS.sub("", shown.getvalue())) is None


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs `trade-analyst` in the project of the names; gives exit code, standard output and error."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    monkeypatch.chdir(world.folder.parents[1])

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        return (stop.value.code, *capsys.readouterr())

    yield run
    root.setLevel(level)
    root.handlers[:] = handlers


def test_a_query_gives_the_names_as_json(world: World, command: Command) -> None:
    """The command's JSON is ASCII without controls, and holds the names."""
    sql = "SELECT symbol FROM movers ORDER BY sort_order, place"
    code, out, _ = command("query", sql, "--json", "--limit", "50000")
    assert code == 0
    assert out.rstrip("\n").isprintable()
    assert out.isascii()
    assert [row["symbol"] for row in json.loads(out)] == world.names


def test_a_rebuild_tells_of_disowned_names_line_by_line(command: Command) -> None:
    """A capture whose every symbol is disowned fails by name, and nothing of the names is obeyed."""
    code, out, err = command("rebuild", "--dataset", "quotes", "--workers", "1")
    assert code == 1
    assert "BRK/B" in out
    assert len(out.split("\n")) < 12
    assert OBEYED.search(out + err) is None


def test_errors_hold_nothing_that_is_obeyed(world: World) -> None:
    """A name within an error's message is visible, wherever the message goes from there."""
    assert [name for name in world.names if OBEYED.search(str(StorageError(f"no {name}")))] == []


def test_control_plain_printing_is_obeyed(world: World) -> None:
    """The same look at names as they are finds what would be obeyed; the mask leaves other text alone."""
    assert len([name for name in world.names if OBEYED.search(name)]) > 50
    kept = "Ärger 日本 💩 a\tb\nc \\x1b e\u0301"
    assert visible(kept) == kept


def test_markdown_shows_names_as_text(world: World) -> None:
    """In Dagster's pages a name in a list or table makes no link, picture, HTML, heading or cell of its own."""
    reader = MarkdownIt("commonmark").enable("table")
    for name in world.names:
        shown = reader.parse(f"- {in_markdown(name)}\n\n| a | b |\n|---|---|\n| {in_markdown(name)} | 1 |\n")
        kinds = [token.type for token in shown]
        assert kinds.count("td_open") == 2
        assert kinds.count("list_item_open") == 1
        assert not {"html_block", "heading_open", "fence", "code_block", "hr"}.intersection(kinds)
        spans = {child.type for token in shown for child in token.children or ()}
        assert spans <= {"text", "text_special"}, name


def test_control_bare_markdown_makes_links(world: World) -> None:
    """The same look at names as they are finds links and HTML."""
    reader = MarkdownIt("commonmark")
    spans = {child.type for name in world.names for token in reader.parse(name) for child in token.children or ()}
    assert {"link_open", "image"} <= spans


def test_no_name_becomes_part_of_an_address(world: World) -> None:
    """What an answer calls a CUSIP is asked for only when it has the form of one."""
    for name in world.names:
        if re.fullmatch(r"[0-9A-Z*@#]{9}", name) is None:
            with pytest.raises(ValueError, match="is no CUSIP"):
                instruments.by_cusip(name)
    assert instruments.by_cusip("037833100").path == "/instruments/037833100"
