"""`trade-analyst symbols` on the simulator: what it knows, what may be meant, and what the archive knows."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from trade_analyst_pipeline.cli.main import main
from trade_analyst_pipeline.cli.symbols import _keep
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.storage.archive import Archive


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard output of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["symbols", *arguments])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_unknown_symbols_are_told_with_suggestions_and_life(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt one, an index without its sign, and one that the archive knows from before; exit code 1."""
    Path("config.toml").write_text('[universe]\nsymbols = ["SPY", "APPL", "SPX", "GONE"]\n')
    archive, due = Archive(load_settings().data_folder / "raw"), datetime(2026, 1, 5, 20, tzinfo=UTC)
    request = MarketDataRequest("quotes", "/quotes", (("symbols", "GONE"),), ("GONE",))
    with archive.begin(dataset="quotes", session_date=due.date(), scheduled_time=due, started_time=due) as writer:
        writer.append(RawResponse(request, 200, b'{"GONE": {"symbol": "GONE"}}', (), due, due))
        writer.seal(due)
    code, out = run(capsys, "--json")
    found = {each["symbol"]: each for each in json.loads(out)["symbols"]}
    assert code == 1
    assert {name: each["status"] for name, each in found.items()} == {
        **dict.fromkeys(("APPL", "SPX"), "unknown"),
        "SPY": "known",
        "GONE": "delisted",
    }
    assert found["APPL"]["suggestions"][0] == "AAPL"
    assert found["SPX"]["suggestions"][0] == "$SPX"
    assert found["GONE"]["last_known"] == "2026-01-05"


def test_known_symbols_are_all_right(capsys: pytest.CaptureFixture[str]) -> None:
    """A future under its root is known too; exit code 0."""
    Path("config.toml").write_text('[universe]\nsymbols = ["SPY", "/ES"]\n')
    code, out = run(capsys)
    assert code == 0
    assert "The source knows all 2 symbols." in out


def test_the_proof_of_a_new_name_is_archived_while_a_session_is_shown(tmp_path: Path) -> None:
    """In the session of that day; on a day without one nothing is filed under another session."""
    archive, request = Archive(tmp_path), MarketDataRequest("instruments", "/instruments/30303M102")
    monday, sunday = datetime(2026, 11, 23, 20, tzinfo=UTC), datetime(2026, 11, 22, 20, tzinfo=UTC)
    for now in (sunday, monday):
        _keep(archive, [RawResponse(request, 200, b"{}", (), now, now)], now)
    assert [capture.session_date for capture in archive.captures("instruments")] == [date(2026, 11, 23)]
