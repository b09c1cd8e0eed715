"""What is imported gives rows; anything else is refused before the archive holds it."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from trade_analyst_pipeline.capture.recordings import import_recordings, session_shown
from trade_analyst_pipeline.errors import ImportRefusedError
from trade_analyst_pipeline.storage.archive import Archive

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
CHAIN, QUOTES, BARS = PAYLOADS / "options/chain.json", PAYLOADS / "quotes/several.json", PAYLOADS / "ohlc/daily.json"
HOURS, MOVERS = PAYLOADS / "markets/half_day.json", PAYLOADS / "movers/by_volume.json"
FUNDAMENTALS, BARE_INSTRUMENT = PAYLOADS / "instruments/fundamental.json", PAYLOADS / "instruments/bare.json"
CLOSE = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


def import_into(folder: Path, *files: Path, dataset: str, symbols: tuple[str, ...] = ()) -> int:
    """Import files as of the close of 2026-01-05 and count the responses archived."""
    archive = Archive(folder / "raw")
    return import_recordings(
        files, dataset=dataset, captured_time=CLOSE, symbols=symbols, archive=archive, now=CLOSE
    ).record_count


def refusal(folder: Path, *files: Path, dataset: str, symbols: tuple[str, ...] = ()) -> str:
    """Why an import is refused; nothing is left in the archive."""
    with pytest.raises(ImportRefusedError) as refused:
        import_into(folder, *files, dataset=dataset, symbols=symbols)
    assert not list(folder.rglob("*.raw*"))
    return str(refused.value)


@pytest.mark.parametrize(
    ("dataset", "file"),
    [
        *(("options", CHAIN), ("quotes", QUOTES), ("ohlc", BARS), ("markets", HOURS), ("movers", MOVERS)),
        *(("instruments", FUNDAMENTALS), ("instruments", BARE_INSTRUMENT)),
    ],
)
def test_answers_of_the_dataset_are_archived(tmp_path: Path, dataset: str, file: Path) -> None:
    """A body of the dataset it is said to be of becomes a record."""
    assert import_into(tmp_path, file, dataset=dataset) == 1


@pytest.mark.parametrize(
    ("dataset", "file", "of"),
    [
        *(("quotes", CHAIN, "options"), ("ohlc", CHAIN, "options"), ("options", QUOTES, "quotes")),
        *(("quotes", BARS, "ohlc"), ("movers", HOURS, "markets"), ("markets", MOVERS, "movers")),
        *(("expirations", FUNDAMENTALS, "instruments"), ("instruments", MOVERS, "movers")),
    ],
)
def test_answer_of_another_dataset_is_refused(tmp_path: Path, dataset: str, file: Path, of: str) -> None:
    """A chain offered as quotes, and the like, is not archived: the message says what it seems to be."""
    message = refusal(tmp_path, file, dataset=dataset)
    assert message.startswith(f"{file} gives no row of {dataset}, so nothing was archived: ")
    assert message.endswith(f"Is it of {of}? Then say --dataset {of}.")


def test_expirations_need_their_symbol(tmp_path: Path) -> None:
    """A list of expirations does not say whose it is: without --symbol it is refused, with it archived."""
    file = PAYLOADS / "expirations/list.json"
    assert "import it with --symbol" in refusal(tmp_path, file, dataset="expirations")
    assert import_into(tmp_path, file, dataset="expirations", symbols=("XYZ",)) == 1


def test_answer_for_another_symbol_is_refused(tmp_path: Path) -> None:
    """A chain of XYZ said to be of SPY is not archived; with its own symbol it is."""
    message = refusal(tmp_path, CHAIN, dataset="options", symbols=("SPY",))
    assert "other_symbol, asked for SPY, answered XYZ" in message
    assert import_into(tmp_path, CHAIN, dataset="options", symbols=("XYZ",)) == 1


@pytest.mark.parametrize(
    ("dataset", "body", "reason"),
    [
        ("options", (PAYLOADS / "options/empty_chain.json").read_bytes(), "empty_chain"),
        ("quotes", b'{"errors": {"invalidSymbols": ["NOSUCH"]}}', "unknown_symbol"),
        ("quotes", b"{}", "not one entry"),
        ("quotes", b"hello", "does not hold JSON"),
    ],
)
def test_answer_without_a_row_is_refused(tmp_path: Path, dataset: str, body: bytes, reason: str) -> None:
    """A body of the right kind that holds nothing is refused too, with the reason."""
    file = tmp_path / "body.json"
    file.write_bytes(body)
    assert reason in refusal(tmp_path, file, dataset=dataset)


def test_rows_that_break_every_rule_are_no_rows(tmp_path: Path) -> None:
    """A chain whose contracts are typed but all judged bad is refused with the rule they broke."""
    file = tmp_path / "negative.json"
    text = CHAIN.read_text()
    assert '"strikePrice": 100.0' in text
    file.write_text(text.replace('"strikePrice": 1', '"strikePrice": -1'))
    assert "times)" in refusal(tmp_path, file, dataset="options")


def test_one_bad_file_keeps_all_out(tmp_path: Path) -> None:
    """Of several files one without a row is named, and the good ones are not archived without it."""
    assert str(QUOTES) in refusal(tmp_path, CHAIN, QUOTES, dataset="options")


def test_recording_belongs_to_the_session_then_shown() -> None:
    """An instant of the evening, of the night and of a Sunday is of the last session of New York's calendar."""
    instants = [datetime(2026, 1, 6, 1, 0, tzinfo=UTC), datetime(2026, 1, 6, 12, 0, tzinfo=UTC)]
    assert [session_shown(instant) for instant in instants] == [date(2026, 1, 5), date(2026, 1, 6)]
    assert session_shown(datetime(2026, 1, 11, 15, 0, tzinfo=UTC)) == date(2026, 1, 9)
