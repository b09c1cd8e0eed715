"""A plan on record outlives the process that wrote it, and one that cannot be read is named."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from gap_days import FIRST, SYMBOLS, at, settings_of

from trade_analyst_pipeline.capture.planned import KINDS, NAME, InForce, Plan, Plans, note_plan, plan_of
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive

MOMENT = at(FIRST, 10, 0)
NEXT = FIRST + timedelta(days=1)


def noted(archive: Archive, since: datetime, symbols: Sequence[str] = SYMBOLS, minutes: int = 120) -> Plan | None:
    """The plan of these symbols, put on record; None where it was as it is."""
    plan = plan_of(settings_of(symbols, minutes), KINDS, since)
    return plan if note_plan(plan, archive) else None


def in_force(archive: Archive) -> tuple[list[InForce], list[CaptureDamagedError]]:
    """The plans of the first day, and what cannot be read."""
    captures = SoundCaptures(archive)
    return Plans(captures).of(FIRST), [*captures.damaged.values()]


def test_a_plan_left_unsealed_is_sealed_by_the_next(archive: Archive, tmp_path: Path) -> None:
    """What a dead process had written counts, and nothing unsealed stays."""
    plan = noted(archive, MOMENT)
    (written,) = archive.captures(NAME)
    written.path.rename(written.path.with_suffix(".part"))
    assert noted(archive, MOMENT + timedelta(minutes=1)) is None
    assert in_force(archive) == ([InForce(MOMENT, None, plan)], [])
    assert not [*tmp_path.rglob("*.part")]


def test_a_plan_of_another_form_is_named(archive: Archive) -> None:
    """The file, what is lacking, and what to do; what was planned until the next one is unknown."""
    with archive.begin(dataset=NAME, session_date=FIRST, scheduled_time=MOMENT, started_time=MOMENT) as writer:
        request = MarketDataRequest(NAME, NAME)
        writer.append(RawResponse(request, 200, b'{"since":"2026-01-05T15:00:00Z"}', (), MOMENT, MOMENT))
        path = writer.seal(MOMENT).path
    later = MOMENT + timedelta(minutes=1)
    plan = noted(archive, later)
    found, damaged = in_force(archive)
    assert found == [InForce(MOMENT, later, None), InForce(later, None, plan)]
    (error,) = damaged
    assert error.path == path
    assert str(error).startswith(f"{path}: the plan in it cannot be read")
    assert "missing required field" in str(error)
    assert "out of the archive" in str(error)
    assert noted(archive, MOMENT + timedelta(minutes=2)) is None


def test_a_day_reads_the_plans_in_force_on_it_alone(archive: Archive) -> None:
    """The last from before and those of the day: damage to any other goes unseen until its day is asked about."""
    instants = [at(FIRST + timedelta(days=number), 10, 0) for number in range(4)]
    written = [noted(archive, since, minutes=120 + number) for number, since in enumerate(instants)]
    for number in (0, 3):
        (capture,) = archive.captures(NAME, FIRST + timedelta(days=number))
        capture.path.write_bytes(b"no capture")
    captures = SoundCaptures(Archive(archive.captures(NAME, NEXT)[0].path.parents[2]))
    found = Plans(captures).of(FIRST + timedelta(days=2))
    assert found == [InForce(instants[1], instants[2], written[1]), InForce(instants[2], None, written[2])]
    assert captures.damaged == {}
    assert [each.plan for each in Plans(captures).of(NEXT)] == [None, written[1]]
    assert [error.path.parent.name for error in captures.damaged.values()] == [f"session_date={FIRST}"]


def test_a_symbol_once_watched_stays_known(archive: Archive) -> None:
    """The plan itself says whom those before it had, also once they cannot be read; one that comes back is its own."""
    noted(archive, MOMENT, ("AAPL", "MSFT"))
    noted(archive, at(NEXT, 10, 0), ("AAPL",))
    noted(archive, at(NEXT, 11, 0), ("AAPL", "XOM"))
    for capture in archive.captures(NAME)[:2]:
        capture.path.unlink()
    plans = Plans(SoundCaptures(archive))
    assert [*plans.known("quotes", NEXT)] == ["AAPL", "XOM", "MSFT"]
    assert plans.known("quotes", FIRST) == {}
    assert plans.why_not("quotes", NEXT, "MSFT") == "not on the watch list then"
    noted(archive, at(NEXT, 12, 0), ("MSFT", "AAPL"))
    assert [*Plans(SoundCaptures(archive)).known("quotes", NEXT)] == ["MSFT", "AAPL", "XOM"]
    assert noted(archive, at(NEXT, 13, 0), ("MSFT", "AAPL")) is None


def test_nothing_is_planned_of_what_nothing_can_be_asked_of(archive: Archive) -> None:
    """A fund has no bars of minutes: where no others are asked for, it is nobody's to take."""
    settings = settings_of(("AAPL", "VTSAX"))
    bars = settings.capture.model_copy(update={"bars": ("minute",)})
    plan = plan_of(settings.model_copy(update={"capture": bars}), KINDS, MOMENT)
    assert [each.symbols for each in plan.snapshots("ohlc", FIRST)] == [("AAPL",)]
    assert [each.symbols for each in plan_of(settings, KINDS, MOMENT).snapshots("ohlc", FIRST)] == [("AAPL", "VTSAX")]
    assert note_plan(plan, archive)
