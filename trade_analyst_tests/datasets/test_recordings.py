"""Real answers of the source, imported and built as a user would: every row is in its table or in quarantine.

Each field of each row is traced to the wire by the maps of `recorded_fields`, and no column holds anything else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import recorded_reference as reference
from recorded_fields import (
    BAR,
    BLOCKS,
    CHAIN,
    CHAIN_ALONE,
    CONTRACT,
    ENTRY,
    NEW_YORK,
    new_york_date,
    unfounded,
    untraced,
)
from wire_bodies import RECORDINGS, answered

from trade_analyst_pipeline.capture.recordings import import_recordings
from trade_analyst_pipeline.datasets import DATASETS, options, quotes
from trade_analyst_pipeline.errors import ImportRefusedError
from trade_analyst_pipeline.lineage.built import Built
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.lineage.tracing import trace
from trade_analyst_pipeline.quarantine import quarantine_schema
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore
from trade_analyst_pipeline.validation import validate

SCHWAB = RECORDINGS / "schwab"
pytestmark = pytest.mark.skipif(not SCHWAB.is_dir(), reason="NOT RUN: no recordings beside the checkout")

SPX_CHAIN = "chain_SPX_one_expiry_2025-05-09.json"
SIX_KINDS = "quotes_mixed_six_asset_types_2024-05-17.json"
STOCK = "quote_equity_INTC_2024-10-18.json"
INDEX = "quote_index_SPX_2025-01-30.json"
OPTION = "quote_option_META_2025-01-24.json"
UNKNOWN_SYMBOLS = "quotes_errors_block_invalid_symbols.json"
DAILY = "pricehistory_daily_SPY_2025-07.json"
MONTHLY = "pricehistory_monthly_AAPL_2024-10.json"
MINUTES = "pricehistory_1min_AAPL_2024-05_first_half.json"
EXPIRATIONS = "expirationchain_SPY_2025-07-20.json"
CLOSED_DAY = "markets_equity_closed_day.json"
OPEN_DAY = "markets_equity_option_open_day_2025-07-21.json"
BY_CUSIP = "instruments_by_cusip_AAPL.json"
FUNDAMENTALS = "instruments_fundamental_AAPL_2024-10-18.json"
MOVERS = "movers_by_volume_2025-07.json"

# When each was recorded, as far as the times inside tell.
ARRIVED = {
    SPX_CHAIN: datetime(2025, 5, 9, 21, 0, tzinfo=UTC),
    SIX_KINDS: datetime(2024, 5, 18, 0, 0, tzinfo=UTC),
    STOCK: datetime(2024, 10, 18, 23, 59, 5, tzinfo=UTC),
    INDEX: datetime(2025, 1, 30, 22, 0, tzinfo=UTC),
    OPTION: datetime(2025, 1, 24, 21, 5, tzinfo=UTC),
    UNKNOWN_SYMBOLS: datetime(2024, 5, 18, 0, 0, tzinfo=UTC),
    DAILY: datetime(2025, 7, 20, 12, 0, tzinfo=UTC),
    MONTHLY: datetime(2024, 10, 18, 23, 59, tzinfo=UTC),
    MINUTES: datetime(2024, 5, 17, 23, 0, tzinfo=UTC),
    EXPIRATIONS: datetime(2025, 7, 20, 12, 0, tzinfo=UTC),
    CLOSED_DAY: datetime(2025, 7, 20, 12, 0, tzinfo=UTC),
    OPEN_DAY: datetime(2025, 7, 20, 12, 0, tzinfo=UTC),
    BY_CUSIP: datetime(2024, 10, 18, 23, 59, tzinfo=UTC),
    FUNDAMENTALS: datetime(2024, 10, 18, 23, 59, tzinfo=UTC),
    MOVERS: datetime(2025, 7, 21, 17, 0, tzinfo=UTC),
}
# What was asked for, where the answer does not say it.
ASKED = {EXPIRATIONS: ("SPY",), MOVERS: ("$SPX",)}
# The dataset whose answers begin with these words; all other recordings are of other endpoints.
DATASET_OF = {
    "chain": "options",
    "quote": "quotes",
    "quotes": "quotes",
    "pricehistory": "ohlc",
    "expirationchain": "expirations",
    "markets": "markets",
    "instruments": "instruments",
    "movers": "movers",
}


def recorded(name: str, folder: Path = SCHWAB) -> Any:
    """A recording as plain objects."""
    return json.loads((folder / name).read_bytes())


@dataclass(frozen=True)
class Imported:
    """What became of recordings in the data folder: the session's outcome, the table and the quarantine as stored."""

    built: Built
    table: pl.DataFrame
    quarantine: pl.DataFrame


def imported(folder: Path, dataset: str, *paths: Path, arrived: datetime, symbols: tuple[str, ...] = ()) -> Imported:
    """Import recordings into a data folder and build their tables, as the commands do."""
    capture = import_recordings(
        paths,
        dataset=dataset,
        captured_time=arrived,
        symbols=symbols,
        archive=Archive(folder / "raw"),
        now=datetime(2026, 1, 5, tzinfo=UTC),
    )
    (built,) = build_tables(folder, dataset, [capture.session_date], workers=1, created_time=arrived)
    store = TableStore(folder)
    return Imported(
        built,
        store.scan("tables", dataset, schema=DATASETS[dataset].schema).collect(),
        store.scan("quarantine", dataset, schema=quarantine_schema(dataset)).collect(),
    )


def imported_recording(folder: Path, name: str) -> Imported:
    """One recording of the source, imported for the time it was made."""
    dataset = DATASET_OF[name.partition("_")[0]]
    return imported(folder, dataset, SCHWAB / name, arrived=ARRIVED[name], symbols=ASKED.get(name, ()))


def strange(built: Built) -> dict[str, int]:
    """Counts that speak of something the declarations do not know."""
    signs = ("unknown", "tolerant", "left_out", "non_finite", "repeated")
    return {name: count for name, count in built.seen.items() if name.startswith(signs)}


def test_every_recording_of_the_datasets_is_tested_here() -> None:
    """No recording of an endpoint we read is left out of these tests."""
    ours = {path.name for path in SCHWAB.glob("*.json") if path.name.partition("_")[0] in DATASET_OF}
    assert ours == set(ARRIVED)


@pytest.mark.parametrize("name", sorted(set(ARRIVED) - {UNKNOWN_SYMBOLS}))
def test_every_recorded_field_is_traced_to_its_bytes(name: str, tmp_path: Path) -> None:
    """Rows of each recording lead back to their object in the file, and come out equal from its bytes.

    Each member that a traced column comes from is where the trace says, and all members declared for the row are.
    """
    found = imported_recording(tmp_path, name)
    dataset, body = DATASETS[DATASET_OF[name.partition("_")[0]]], (SCHWAB / name).read_bytes()
    rows = found.table.gather_every(max(1, found.table.height // 12)).rows(named=True)
    objects = set()
    for row in rows:
        traced = trace(tmp_path, dataset.name, {key: row[key] for key in (*dataset.schema.key, "session_date")})
        assert traced.verdict == "equal"
        (record,) = [record for record in traced.records if record.row]
        assert record.row is not None
        wire = json.loads(body[record.row.offset : record.row.offset + record.row.length])
        objects.add(record.row.path)
        came = {
            member.column: json.loads(body[member.offset : member.offset + member.length]) for member in record.members
        }
        assert all(value == "" or json.dumps(value) in json.dumps(recorded(name)) for value in came.values())
        declared = {each.wire: each.column for each in dataset.layout.row.fields}
        sent = {declared[wire_name] for wire_name in wire if wire_name in declared}
        assert sent & set(row) <= came.keys()
        told = [column for column, value in row.items() if value is not None and column not in traced.beside]
        assert [column for column in told if column not in came] == []
    assert len(objects) == len(rows)


# -- options ---------------------------------------------------------------------------------------------------------


def contracts(chain: dict[str, Any]) -> list[dict[str, Any]]:
    """All contracts of a chain in wire order."""
    return [
        contract
        for side in ("callExpDateMap", "putExpDateMap")
        for strikes in chain.pop(side, {}).values()
        for listed in strikes.values()
        for contract in listed
    ]


def test_recorded_chain_is_in_the_table_field_by_field(tmp_path: Path) -> None:
    """All 162 recorded contracts are rows with every field of theirs and of the chain around them."""
    found = imported_recording(tmp_path, SPX_CHAIN)
    chain = recorded(SPX_CHAIN)
    wires = contracts(chain)
    rows = {row["option_symbol"]: row for row in found.table.rows(named=True)}
    assert len(wires) == len(rows) == found.table.height == 162
    assert chain.keys() - CHAIN.keys() <= CHAIN_ALONE
    header = {name: value for name, value in chain.items() if name in CHAIN}
    derived = {"session_date", "snapshot_time", "chain_scope", "quote_status", "expiration_time"}
    wrong = []
    for wire in wires:
        row = rows[wire["symbol"]]
        assert wire.pop("bidAskSize") == f"{row['bid_size']}X{row['ask_size']}"
        wrong += untraced(wire, row, CONTRACT) + untraced(header, row, CHAIN)
        wrong += unfounded(row, [(wire, CONTRACT), (header, CHAIN)], derived)
    assert wrong == []
    assert found.table["expiration_time"].unique().to_list() == [datetime(2025, 5, 20, 20, 0, tzinfo=UTC)]
    assert found.table["chain_scope"].unique().to_list() == ["unknown"]
    assert (found.quarantine.height, found.built.problems, strange(found.built)) == (0, (), {})


PREDECESSOR = RECORDINGS / "market" / "schwab_predecessor_chain_aapl_20230308.json"
PREDECESSOR_ARRIVED = datetime(2023, 3, 8, 21, 0, tzinfo=UTC)


def test_predecessor_rows_without_an_option_symbol_are_rejected_with_that_reason(tmp_path: Path) -> None:
    """The predecessor's ten contracts carry no option symbol, so none can be told apart; an import is refused."""
    with pytest.raises(ImportRefusedError, match=r"missing_option_symbol \(10 times\)"):
        imported(tmp_path, "options", PREDECESSOR, arrived=PREDECESSOR_ARRIVED, symbols=("AAPL",))
    chain = recorded(PREDECESSOR.name, PREDECESSOR.parent)
    request = MarketDataRequest("options", "/chains", (), ("AAPL",))
    response = answered(request, chain, received=PREDECESSOR_ARRIVED)
    found = options.normalize([response], session_date=date(2023, 3, 8))
    assert found.frame.is_empty()
    assert found.rejected["rule"].to_list() == ["missing_option_symbol"] * 10
    kept = [json.loads(text) for text in found.rejected["source"]]
    sent = contracts(chain)
    assert sorted(kept, key=json.dumps) == sorted(sent, key=json.dumps)


def test_predecessor_nan_texts_are_null_and_everything_else_is_traced() -> None:
    """With option symbols added, all ten rows stand: NaN texts are null and counted, the other values as sent."""
    chain = recorded(PREDECESSOR.name, PREDECESSOR.parent)
    for side in ("callExpDateMap", "putExpDateMap"):
        for wire in contracts({side: chain.get(side, {})}):
            wire["symbol"] = f"AAPL  230310P{round(wire['strikePrice'] * 1000):08d}"
    request = MarketDataRequest("options", "/chains", (), ("AAPL",))
    response = answered(request, chain, received=PREDECESSOR_ARRIVED)
    found = options.normalize([response], session_date=date(2023, 3, 8))
    wires, rows = contracts(chain), validate(found.frame, options.SCHEMA).valid.rows(named=True)
    assert len(rows) == 10
    known = CONTRACT | {
        "expirationDate": ("expiration_date", new_york_date),
        "volatility": ("vendor_implied_volatility", lambda value: None if value == "NaN" else value / 100),
        **{
            wire: (CONTRACT[wire][0], lambda value: None if value == "NaN" else value)
            for wire in ("delta", "gamma", "theta", "vega", "rho", "theoreticalOptionValue")
        },
    }
    assert [text for wire, row in zip(wires, rows, strict=True) for text in untraced(wire, row, known)] == []
    failed = sum(wire["delta"] == "NaN" for wire in wires)
    assert 0 < failed < 10
    assert found.counts["non_finite:vendor_delta"] == failed
    assert "tolerant_parse" not in found.counts


# -- quotes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [(STOCK, 1), (INDEX, 1), (OPTION, 1), (SIX_KINDS, 6)])
def test_recorded_quotes_are_in_the_table_field_by_field(name: str, rows: int, tmp_path: Path) -> None:
    """Every recorded entry is a row that has each field of each of its blocks, and nothing else."""
    found = imported_recording(tmp_path, name)
    entries, table = recorded(name), {row["symbol"]: row for row in found.table.rows(named=True)}
    assert table.keys() == entries.keys()
    assert found.table.height == rows
    wrong = []
    for symbol, entry in entries.items():
        row = table[symbol]
        day = [entry["reference"].pop(f"expiration{part}", None) for part in ("Year", "Month", "Day")]
        traced = [(entry.pop(block), traces) for block, traces in BLOCKS.items() if block in entry]
        traced.append((entry, ENTRY))
        derived = {"session_date", "snapshot_time", "quote_status"}
        if day[0] is not None:
            assert row["expiration_date"] == date(*day)
            derived.add("expiration_date")
        wrong += [text for wire, traces in traced for text in untraced(wire, row, traces)]
        wrong += unfounded(row, traced, derived)
    assert wrong == []
    assert (found.quarantine.height, found.built.problems, strange(found.built)) == (0, (), {})


def test_recorded_invalid_symbols_are_problems(tmp_path: Path) -> None:
    """The recorded errors block gives no row: it is not archived, and the import says why."""
    with pytest.raises(ImportRefusedError, match="unknown_symbol, the source does not know it"):
        imported_recording(tmp_path, UNKNOWN_SYMBOLS)


def test_recorded_unknown_symbols_beside_recorded_quotes() -> None:
    """The recorded errors member beside six entries: four symbols are a problem, all six rows are kept."""
    request = MarketDataRequest("quotes", "import:recording", (), ())
    body = recorded(SIX_KINDS) | recorded(UNKNOWN_SYMBOLS)
    found = quotes.normalize([answered(request, body, received=ARRIVED[SIX_KINDS])], session_date=date(2024, 5, 17))
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [
        ("unknown_symbol", ("^IRX", "/ESZ21", "ESM24.CME", "AMZN  220617C03170000"))
    ]
    assert found.frame.height == 6


def test_recorded_instruments_without_a_quote_say_so(tmp_path: Path) -> None:
    """Of six kinds the index and the fund have no quote by nature."""
    table = imported_recording(tmp_path, SIX_KINDS).table
    assert set(table["asset_type"]) == {"EQUITY", "FOREX", "FUTURE", "INDEX", "MUTUAL_FUND", "OPTION"}
    assert sorted(table.filter(quote_status="none")["asset_type"]) == ["INDEX", "MUTUAL_FUND"]


def test_recorded_stock_in_our_units(tmp_path: Path) -> None:
    """Golden: INTC on the evening of 18 October 2024."""
    (row,) = imported_recording(tmp_path, STOCK).table.rows(named=True)
    assert row["quote_time"] == datetime(2024, 10, 18, 23, 58, 56, 452_000, tzinfo=UTC)
    assert (row["regular_last"], row["regular_last_size"], row["regular_net_change"]) == (22.77, 6_086_410, 0.33)
    assert (row["next_dividend_ex_date"], row["hard_to_borrow_quantity"]) == (date(2024, 11, 7), 43_807_315.0)


def test_recorded_option_in_our_units(tmp_path: Path) -> None:
    """Golden: a META put of 24 January 2025; a volatility of 73.76379641 % is a fraction here."""
    (row,) = imported_recording(tmp_path, OPTION).table.rows(named=True)
    assert row["vendor_implied_volatility"] == pytest.approx(0.7376379641, abs=1e-12)
    assert (row["option_type"], row["strike"], row["expiration_date"]) == ("P", 525.0, date(2025, 1, 31))
    assert (row["last_trading_date"], row["underlying_symbol"]) == (date(2025, 1, 31), "META")


# -- ohlc ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "frequency", "rows"), [(MINUTES, "minute", 3_797), (DAILY, "daily", 21), (MONTHLY, "monthly", 12)]
)
def test_recorded_bars_are_in_the_table_field_by_field(name: str, frequency: str, rows: int, tmp_path: Path) -> None:
    """Every recorded bar is a row with its values and start; its frequency is read from the stamps."""
    found = imported_recording(tmp_path, name)
    history = recorded(name)
    table = {row["bar_time"]: row for row in found.table.rows(named=True)}
    assert len(history["candles"]) == len(table) == found.table.height == rows
    derived = {"symbol", "frequency", "session_date", "known_time", "session_part", "is_complete"}
    wrong = []
    for wire in history["candles"]:
        row = table[datetime.fromtimestamp(wire["datetime"] / 1000, UTC)]
        wrong += untraced(wire, row, BAR) + unfounded(row, [(wire, BAR)], derived)
    assert wrong == []
    same = found.table.select("symbol", "frequency", "known_time").unique().rows()
    assert same == [(history["symbol"], frequency, ARRIVED[name])]
    assert (found.quarantine.height, found.built.problems, dict(found.built.seen)) == (0, (), {})


def test_recorded_daily_bars_are_of_sessions(tmp_path: Path) -> None:
    """Golden: the stamp 1750222800000 is SPY's session of 18 June 2025; Juneteenth and the Fourth have no bar."""
    table = imported_recording(tmp_path, DAILY).table.sort("session_date")
    columns = ["session_date", "open", "high", "low", "close", "volume"]
    assert table.select(columns).row(0) == (date(2025, 6, 18), 598.44, 601.22, 596.47, 597.44, 76_605_029)
    days = table["session_date"].to_list()
    assert days[-1] == date(2025, 7, 18)
    assert {date(2025, 6, 19), date(2025, 7, 4)}.isdisjoint(days)
    assert all(day.weekday() < 5 for day in days)


def test_recorded_minutes_have_full_regular_sessions(tmp_path: Path) -> None:
    """Each of five sessions has 390 regular minutes; the recording begins at 07:00 New York, in extended hours."""
    table = imported_recording(tmp_path, MINUTES).table.sort("bar_time")
    first = table.row(0, named=True)
    assert first["bar_time"] == datetime(2024, 5, 3, 11, 0, tzinfo=UTC)
    assert (first["session_date"], first["session_part"]) == (date(2024, 5, 3), "pre")
    assert set(table["session_part"]) == {"pre", "regular", "post"}
    regular = table.filter(session_part="regular").group_by("session_date").len().sort("session_date")
    assert regular.rows() == [(date(2024, 5, day), 390) for day in (3, 6, 7, 8, 9)]


def test_last_recorded_month_is_not_complete(tmp_path: Path) -> None:
    """The month in which the recording was made is the only one not over."""
    table = imported_recording(tmp_path, MONTHLY).table.sort("session_date")
    assert table["session_date"][-1] == date(2024, 10, 1)
    assert table["is_complete"].to_list() == [True] * 11 + [False]


# -- expirations, markets, instruments, movers -----------------------------------------------------------------------


def test_recorded_expirations_are_in_the_table_field_by_field(tmp_path: Path) -> None:
    """Every one of 32 recorded expirations of SPY is a row with each of its fields, and nothing else."""
    found = imported_recording(tmp_path, EXPIRATIONS)
    rows = {row["expiration_date"]: row for row in found.table.rows(named=True)}
    wires = recorded(EXPIRATIONS)["expirationList"]
    assert len(wires) == len(rows) == found.table.height == 32
    wrong = []
    for wire in wires:
        row = rows[reference.day(wire["expirationDate"])]
        wrong += untraced(wire, row, reference.EXPIRATION)
        wrong += unfounded(row, [(wire, reference.EXPIRATION)], {"symbol", "session_date", "snapshot_time"})
    assert wrong == []
    assert set(found.table["symbol"]) == {"SPY"}
    assert (found.quarantine.height, found.built.problems, dict(found.built.seen)) == (0, (), {})
    assert not any(found.built.rule_counts.values())


@pytest.mark.parametrize(("name", "rows"), [(CLOSED_DAY, 1), (OPEN_DAY, 3)])
def test_recorded_hours_are_in_the_table_field_by_field(name: str, rows: int, tmp_path: Path) -> None:
    """Every recorded product is a row with its fields and each part of its hours, and nothing else."""
    found = imported_recording(tmp_path, name)
    assert found.table.height == rows
    wrong = []
    for row in found.table.rows(named=True):
        wire = recorded(name)[row["market"]][row["market_product"]]
        derived = {"market", "session_date", "snapshot_time"}
        derived |= {f"{reference.HOURS[part]}_{end}_time" for part in wire.get("sessionHours", ()) for end in ENDS}
        wrong += untraced(wire, row, reference.PRODUCT) + unfounded(row, [(wire, reference.PRODUCT)], derived)
        wrong += reference.spans_untraced(wire.get("sessionHours", {}), row)
    assert wrong == []
    assert (found.quarantine.height, found.built.problems, dict(found.built.seen)) == (0, (), {})
    assert not any(found.built.rule_counts.values())


ENDS = ("open", "close")


@pytest.mark.parametrize("name", [BY_CUSIP, FUNDAMENTALS])
def test_recorded_instruments_are_in_the_table_field_by_field(name: str, tmp_path: Path) -> None:
    """The recorded instrument is a row with each of its fields and fundamentals, and nothing else."""
    found = imported_recording(tmp_path, name)
    (wire,) = recorded(name)["instruments"]
    (row,) = found.table.rows(named=True)
    fundamental = wire.pop("fundamental", {})
    traced = [(wire, reference.INSTRUMENT), (fundamental, reference.FUNDAMENTAL)]
    wrong = [text for part, traces in traced for text in untraced(part, row, traces)]
    assert wrong + unfounded(row, traced, {"session_date", "snapshot_time"}) == []
    assert (found.quarantine.height, found.built.problems, strange(found.built)) == (0, (), {})
    assert sum(found.built.seen.values()) == sum(value == 0 for value in fundamental.values()) - (name == FUNDAMENTALS)
    assert not any(found.built.rule_counts.values())


def test_recorded_instrument_in_our_units(tmp_path: Path) -> None:
    """Golden: AAPL on 18 October 2024; the leading zero of its CUSIP stands, its yield is a fraction."""
    (row,) = imported_recording(tmp_path, FUNDAMENTALS).table.rows(named=True)
    assert (row["cusip"], row["dividend_ex_date"]) == ("037833100", date(2024, 8, 12))
    assert row["dividend_yield"] == pytest.approx(0.0043144, abs=1e-12)
    assert (row["market_cap"], row["interest_coverage"]) == (3_524_014_873_860.0, None)


def test_recorded_movers_are_in_the_table_field_by_field(tmp_path: Path) -> None:
    """Every recorded mover is a row with each of its fields in its place; a share of 0.0475 is 4.75 % here."""
    found = imported_recording(tmp_path, MOVERS)
    rows = {row["place"]: row for row in found.table.rows(named=True)}
    wires = recorded(MOVERS)["screeners"]
    assert sorted(rows) == list(range(1, len(wires) + 1)) == list(range(1, 11))
    derived = {"movers_of", "sort_order", "place", "change_status", "session_date", "snapshot_time"}
    wrong = []
    for place, wire in enumerate(wires, 1):
        wrong += untraced(wire, rows[place], reference.MOVER)
        wrong += unfounded(rows[place], [(wire, reference.MOVER)], derived)
    assert wrong == []
    assert set(found.table["change_status"]) == {"ok"}
    assert (rows[8]["symbol"], rows[8]["net_change_pct"], rows[8]["movers_of"]) == ("VZ", 4.75, "$SPX")
    assert (found.quarantine.height, found.built.problems, dict(found.built.seen)) == (0, (), {})
    assert not any(found.built.rule_counts.values())


# -- of other endpoints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_recordings_of_other_endpoints_are_refused_with_a_reason(dataset: str) -> None:
    """An answer of another endpoint, offered by mistake, makes no row and raises nothing: it says why instead."""
    arrived = datetime(2025, 12, 9, 20, 0, tzinfo=UTC)
    request = MarketDataRequest(dataset, "import:recording", (), ())
    others = [path for path in sorted(SCHWAB.glob("*.json")) if DATASET_OF.get(path.name.partition("_")[0]) != dataset]
    assert len(others) >= 18
    for path in others:
        response = answered(request, path.read_bytes(), received=arrived)
        found = DATASETS[dataset].normalize([response], session_date=arrived.astimezone(NEW_YORK).date())
        reasons = [problem.reason for problem in found.problems] + found.rejected["rule"].to_list()
        assert found.frame.is_empty(), path.name
        assert reasons, path.name
        assert all(reasons), path.name
