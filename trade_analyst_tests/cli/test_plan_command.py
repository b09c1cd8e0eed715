"""`trade-analyst plan` says what a session costs, whether it fits, and what to change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trade_analyst_pipeline.cli.main import main


@pytest.fixture(autouse=True)
def config() -> None:
    """Two symbols and a set of futures in the current folder."""
    sets = '[universe.sets.futures]\nsymbols = ["/ES"]\ndatasets = { quotes = 60 }\n'
    Path("config.toml").write_text(f'[universe]\nsymbols = ["AAPL", "SPY"]\n{sets}')


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard output of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--session", "2026-01-05", *arguments])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_the_document_counts_a_session(capsys: pytest.CaptureFixture[str]) -> None:
    """Counted by hand: AAPL has 24 intraday and 2 closing chains of 2 requests each, SPY 25 and 2 of 3."""
    code, out = run(capsys, "--json")
    plan = json.loads(out)
    assert (code, plan["fits"], plan["symbols"], plan["cuts"]) == (0, True, 3, [])
    assert plan["limit"] == {"per_minute": 120, "reserved": 0, "usable": 120}
    by_name = {each["dataset"]: each for each in plan["datasets"]}
    # AAPL: 24 intraday (09:45 to 15:30), 2 closing; SPY: 25 intraday (to 15:45), closing at 16:00 and 16:10
    assert by_name["options"]["requests"] == 26 * 2 + 27 * 3
    assert by_name["ohlc"]["requests"] == 2 * 2
    assert by_name["options"]["bytes"] == 53 * 1_700_000
    assert {each["sizes"] for each in plan["datasets"]} == {"assumed"}
    assert plan["month"]["requests"] == 21 * plan["day"]["requests"]
    assert plan["day"]["requests"] == sum(each["requests"] for each in plan["datasets"])
    assert plan["day"]["requests"] == sum(each["requests"] for each in plan["minutes"])
    assert plan["snapshots"][0] | {"finished": None} == {
        "dataset": "quotes",
        "kind": "intraday",
        "due": "2026-01-05T14:45:00Z",
        "symbols": 2,
        "requests": 1,
        "given_up": 0,
        "finished": None,
        "needed_by": "2026-01-05T15:00:00Z",
        "fits": True,
    }


def test_what_does_not_fit_is_shown_with_what_to_change(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 symbols every 15 minutes do not fit before the close into a tenth of the limit, and do with what is told."""
    monkeypatch.setenv("TRADE_ANALYST_SCHWAB__RESERVED_PER_MINUTE", "108")
    code, out = run(capsys, "--symbols", "50")
    assert code == 1
    assert "50 symbols, 12 requests a minute (120 less 108 reserved)" in out
    assert "Does not fit:" in out
    assert "Or: take one closing snapshot" in out
    assert re.search(r"Or: take chains of \d+ symbols instead of 49", out)
    (fitting,) = re.findall(r"To make it fit: reserve (\d+) requests a minute instead of 108", out)
    for reserved, expected in ((int(fitting), 0), (int(fitting) + 1, 1)):
        monkeypatch.setenv("TRADE_ANALYST_SCHWAB__RESERVED_PER_MINUTE", str(reserved))
        assert run(capsys, "--symbols", "50")[0] == expected


def test_what_is_given_up_is_shown_as_never_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """At 2 requests a minute chains of 40 stocks keep expirations waiting, six at a time for an hour each."""
    Path("config.toml").write_text('schwab.reserved_per_minute = 118\nuniverse.symbols = ["AAPL"]\n')
    code, out = run(capsys, "--symbols", "40")
    assert code == 1
    assert "expirations of 09:45 (daily): never complete, " in " ".join(out.split())
    _, out = run(capsys, "--symbols", "40", "--json")
    found = next(each for each in json.loads(out)["snapshots"] if each["dataset"] == "expirations")
    assert (found["finished"], found["fits"]) == (None, False)
    assert 0 < found["given_up"] <= 6 * 14  # 14 whole hours


def test_a_session_that_fits_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """One symbol: a table, requests by half hour, totals, and that all fits."""
    code, out = run(capsys, "--symbols", "1")
    assert code == 0
    assert "All of it fits" in out
    assert "A month (21 sessions):" in out
    assert "09:30" in out


def test_a_day_without_a_session_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Sunday is told."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--session", "2026-01-04"])
    assert ended.value.code == 2
    assert "the exchange is closed on 2026-01-04" in capsys.readouterr().err
