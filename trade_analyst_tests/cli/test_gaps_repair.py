"""`trade-analyst gaps --repair` against the simulator, over its socket: what comes back, what cannot and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from live_source import LiveSource

from trade_analyst_pipeline.capture.planned import note_plan, plan_of
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.simulator.faults import html_page, server_error
from trade_analyst_pipeline.storage.archive import Archive, Gap

MONDAY = date(2026, 11, 23)
NAMES = ("AAPL", "IWM", "NOSUCH")


class Outcome(Protocol):
    """What a command left behind."""

    code: int
    out: str
    err: str


Told = Callable[..., tuple[int, dict[tuple[str, str, str], dict[str, Any]], str]]


@pytest.fixture
def told(run_command: Callable[..., Outcome]) -> Told:
    """Exit code of `gaps` of the day, its gaps by dataset, symbol and hour, and what it said."""

    def run(*arguments: str, day: date = MONDAY) -> tuple[int, dict[tuple[str, str, str], dict[str, Any]], str]:
        outcome = run_command("gaps", "--from", str(day), "--to", str(day), "--json", *arguments)
        document = json.loads(outcome.out)
        assert document["sums"]["adds_up"]
        gaps = [line for line in document["lines"] if line["scheduled_time"]]
        found = {(line["dataset"], line["symbol"], line["scheduled_time"][11:16]): line for line in gaps}
        assert len(found) == len(gaps)
        return outcome.code, found, outcome.err

    return run


def tick(live: LiveSource, hour: int, minute: int, datasets: Sequence[str]) -> None:
    """What a scheduled run takes at an instant of the day, UTC."""
    live.now = datetime(2026, 11, 23, hour, minute, tzinfo=UTC)
    settings = load_settings()
    source, archive = SourceResource(settings), StorageResource(settings).archive
    for name in datasets:
        list(source.take(source.plan(name, [MONDAY], tick=live.now), archive))


def states(gaps: dict[tuple[str, str, str], dict[str, Any]]) -> dict[tuple[str, str, str], tuple[str, str, str]]:
    """Type, word and repair state of each."""
    return {key: (each["type"], each["word"], each["repair"]["state"]) for key, each in gaps.items()}


@pytest.mark.slow
def test_what_the_source_still_has_comes_back(
    logged_in: LiveSource, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    """Chains before both closes fail, bars fail, a symbol is unknown, a close is missed: asked again in the evening.

    Just what can be had is asked for, and comes; what is overtaken or refused for good says so, and is not asked for
    once more, nor is what came.
    """
    live = logged_in
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", json.dumps(NAMES))
    note_plan(plan_of(load_settings(), ["closing", "end_of_day"], datetime(2026, 11, 23, 14, 0, tzinfo=UTC)), archive())
    live.server.faults.add(html_page(), path="/chains", symbol="AAPL", times=None)
    live.server.faults.add(server_error(), path="/pricehistory", symbol="IWM", times=None)
    for hour, minute in ((20, 45), (20, 55)):
        tick(live, hour, minute, ("quotes", "options"))
    tick(live, 22, 0, ("ohlc",))  # IWM's last close at 21:10 was missed
    live.now = datetime(2026, 11, 23, 23, 0, tzinfo=UTC)
    code, before, _ = told()
    assert code == 1
    expected = {
        ("options", "AAPL", "20:45"): ("error", "unexpected_content", "lost"),
        ("options", "AAPL", "20:55"): ("error", "unexpected_content", "repairable"),
        ("options", "IWM", "21:00"): ("process_down", None, "lost"),
        ("options", "IWM", "21:10"): ("process_down", None, "repairable"),
        ("quotes", "IWM", "21:00"): ("process_down", None, "lost"),
        ("quotes", "IWM", "21:10"): ("process_down", None, "repairable"),
        ("ohlc", "IWM", "22:00"): ("error", "unavailable", "repairable"),
        ("ohlc", "NOSUCH", "22:00"): ("error", "empty_answer", "repairable"),  # so the source answers for bars
    }
    unknown = {key: value for key, value in states(before).items() if key[1] == "NOSUCH" and key[0] != "ohlc"}
    assert set(unknown.values()) == {("error", "unknown_symbol", "lost")}
    assert states(before) == expected | unknown

    live.server.faults.clear()
    live.requests()
    code, after, said = told("--repair")
    assert code == 1, "what is lost stays lacking"
    is_back = {key for key, value in expected.items() if value[2] == "repairable" and key[1] != "NOSUCH"}
    assert {key: value[:2] for key, value in states(after).items()} == {
        key: value[:2] for key, value in states(before).items()
    }, "a gap keeps its type and word when it is repaired"
    assert {key for key, value in states(after).items() if value[2] == "repaired"} == is_back
    for key in is_back:
        capture = archive().find(key[0], after[key]["repair"]["capture_id"])
        assert key[1] in {symbol for entry in archive().index(capture) for symbol in entry.request.symbols}
        assert capture.answer_count
    whys = {key: each["repair"]["why"] for key, each in after.items() if each["repair"]["state"] == "lost"}
    assert {key[1] for key, why in whys.items() if why == "the source has said for good that it has none"} == {"NOSUCH"}
    overtaken = {key for key, why in whys.items() if why == "the source does not show it any more"}
    assert overtaken == {("options", "AAPL", "20:45"), ("options", "IWM", "21:00"), ("quotes", "IWM", "21:00")}
    assert after[("options", "AAPL", "20:45")]["repair"]["until"] == "2026-11-23T20:55:00Z"
    assert "Not asked for: 3 gaps, because the source does not show it any more." in said
    assert after[("ohlc", "NOSUCH", "22:00")] == before[("ohlc", "NOSUCH", "22:00")]
    # IWM's list and chain, AAPL's chain; IWM's quote; two kinds of bars of IWM, and of what has none twice
    assert live.requests() == {"/expirationchain": 1, "/chains": 2, "/quotes": 1, "/pricehistory": 6}

    code, again, _ = told("--repair")
    assert (code, again, live.requests()) == (1, after, {"/pricehistory": 4})
    code, _, said = told("--repair", "--dataset", "options")
    assert (code, live.requests()) == (1, {})
    assert "There is nothing to ask for." in said


def test_damage_keeps_no_other_session_from_being_repaired(
    project: Path, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., Outcome]
) -> None:
    """A simulated source shows every session: one whose capture is damaged is told, the other comes; exit code 1."""
    assert project
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", json.dumps(["AAPL"]))
    note_plan(plan_of(load_settings(), ["closing"], datetime(2026, 1, 5, 14, 0, tzinfo=UTC)), archive())
    due = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
    with archive().begin(
        dataset="quotes", session_date=due.date(), scheduled_time=due, started_time=due, symbols=("AAPL",)
    ) as writer:
        writer.note_gap(Gap("quotes", ("AAPL",), "unavailable", "down"))
        path = writer.seal(due).path
    path.write_bytes(path.read_bytes()[:-1])

    def told(*arguments: str) -> tuple[int, list[tuple[str, str, str]], list[str], str]:
        days = ("--from", "2026-01-05", "--to", "2026-01-06", "--dataset", "quotes", "--json")
        outcome = run_command("gaps", *days, *arguments)
        document = json.loads(outcome.out)
        lines = [(line["scheduled_time"][8:16], line["type"], line["repair"]["state"]) for line in document["lines"]]
        return outcome.code, lines, [each["file"] for each in document["damaged"]], outcome.err

    of_monday = [("05T20:45", "process_down", "open"), ("05T20:55", "error", "open")]
    of_tuesday = [("06T20:45", "process_down", "open"), ("06T20:55", "process_down", "open")]
    assert told()[:3] == (1, of_monday + of_tuesday, [str(path)])
    code, lines, damaged, said = told("--repair")
    assert (code, lines, damaged) == (1, of_monday, [str(path)])
    assert f"quotes of 2026-01-05 cannot be asked for: {path}: footer" in said
    assert said.count("1 symbols: complete") == 2


def archive() -> Archive:
    """That of these settings."""
    return StorageResource(load_settings()).archive
