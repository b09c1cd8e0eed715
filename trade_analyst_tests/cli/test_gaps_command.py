"""`trade-analyst gaps`: what is missing of a session, what can still be had, and asking for just that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.planned import note_plan, plan_of
from trade_analyst_pipeline.cli import gaps as command
from trade_analyst_pipeline.cli.main import main
from trade_analyst_pipeline.defs.resources import StorageResource
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.settings import Settings, load_settings

DAY = date(2026, 1, 5)  # a Monday
AFTER = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)  # 17:00 New York: the session can be had until midnight
CLOSING = ("2026-01-05T20:45:00Z", "2026-01-05T20:55:00Z")


@pytest.fixture
def settings(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a live source with one stock, planned since the morning, and nothing captured."""
    shutil.copy(repository / "config.toml", "config.toml")
    monkeypatch.setenv("TRADE_ANALYST_ENVIRONMENT", "live")
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", '["AAPL"]')
    settings = load_settings()
    since = datetime(2026, 1, 5, 14, 0, tzinfo=UTC)
    assert note_plan(plan_of(settings, ["closing"], since), StorageResource(settings).archive)
    assert not note_plan(plan_of(settings, ["closing"], AFTER), StorageResource(settings).archive)
    return settings


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Exit code and document of the command at an instant."""

    def run(now: datetime, *arguments: str) -> tuple[int, Any]:
        monkeypatch.setattr(MachineClock, "now", lambda _: now)
        with pytest.raises(SystemExit) as ended:
            main(["gaps", "--from", str(DAY), "--to", str(DAY), "--json", *arguments])
        return int(str(ended.value.code)), json.loads(capsys.readouterr().out)

    return run


@pytest.mark.usefixtures("settings")
def test_what_nobody_took_is_told_with_what_can_be_had(told: Callable[..., tuple[int, Any]]) -> None:
    """Of two snapshots before a close the last can be had until midnight; the next day neither."""
    code, document = told(AFTER, "--dataset", "quotes")
    assert code == 1
    found = [(each["scheduled_time"], each["type"], each["repair"]["state"]) for each in document["lines"]]
    assert found == [(CLOSING[0], "process_down", "lost"), (CLOSING[1], "process_down", "repairable")]
    assert document["lines"][1]["repair"]["until"] == "2026-01-06T05:00:00Z"
    assert (document["sums"]["expected"], document["sums"]["captured"], document["sums"]["adds_up"]) == (2, 0, True)
    _, document = told(datetime(2026, 1, 6, 15, 0, tzinfo=UTC), "--dataset", "quotes")
    assert [each["repair"]["state"] for each in document["lines"]] == ["lost", "lost"]
    _, document = told(AFTER, "--dataset", "ohlc")
    watched = {"AAPL", "$VIX", "$VXN", "$RVX"}  # with the set of volatility indices
    assert {(each["symbol"], each["type"]) for each in document["lines"]} == {
        (name, "not_scheduled") for name in watched
    }


@pytest.mark.usefixtures("settings")
def test_repair_asks_for_just_what_can_be_had(
    told: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshots that are lost are not asked for."""
    asked: list[Snapshot] = []

    def take(_: object, snapshots: list[Snapshot], *__: object) -> Any:
        asked.extend(snapshots)
        return iter(())

    monkeypatch.setattr("trade_analyst_pipeline.defs.resources.SourceResource.take", take)
    told(AFTER, "--repair")
    due = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
    assert [(each.dataset, each.scheduled_time, each.symbols) for each in asked] == [
        ("options", due, ("AAPL",)),
        ("quotes", due, ("AAPL",)),
    ]


def test_a_table_tells_what_is_lacking(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each dataset and day, and one for each gap; wrong use is said."""
    monkeypatch.setattr(MachineClock, "now", lambda _: AFTER)
    assert settings.universe.symbols == ("AAPL",)
    with pytest.raises(SystemExit) as ended:
        main(["gaps", "--from", str(DAY), "--dataset", "quotes"])
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "2026-01-05\tquotes\t2\t0\t2\t2\t0 + 2\tprocess_down 2" in shown
    assert f"quotes AAPL of {CLOSING[1]}: process_down, repairable until 2026-01-06T05:00:00Z." in shown
    with pytest.raises(SystemExit) as ended:
        main(["gaps", "--dataset", "nonsense"])
    assert ended.value.code == 2
    assert command.DEFAULT_DAYS == 7
