"""A plan on record outlives the process that wrote it, and one that cannot be read is named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from gap_days import FIRST, at, settings_of

from trade_analyst_pipeline.capture.planned import KINDS, NAME, note_plan, plan_of, plans
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive

MOMENT = at(FIRST, 10, 0)


def test_a_plan_left_unsealed_is_sealed_by_the_next(tmp_path: Path) -> None:
    """What a dead process had written counts, and nothing unsealed stays."""
    archive = Archive(tmp_path / "raw")
    plan = plan_of(settings_of(), KINDS, MOMENT)
    note_plan(plan, archive)
    (written,) = archive.captures(NAME)
    written.path.rename(written.path.with_suffix(".part"))
    assert not note_plan(plan_of(settings_of(), KINDS, MOMENT + timedelta(minutes=1)), archive)
    assert plans(archive) == [plan]
    assert not [*tmp_path.rglob("*.part")]


def test_a_plan_of_another_form_is_named(tmp_path: Path) -> None:
    """The file, what is lacking, and what to do."""
    archive = Archive(tmp_path / "raw")
    with archive.begin(dataset=NAME, session_date=FIRST, scheduled_time=MOMENT, started_time=MOMENT) as writer:
        request = MarketDataRequest(NAME, NAME)
        writer.append(RawResponse(request, 200, b'{"since":"2026-01-05T15:00:00Z"}', (), MOMENT, MOMENT))
        writer.seal(MOMENT)
    with pytest.raises(CaptureDamagedError, match=r"-plan-0000\.raw: .* missing required field.*out of the archive"):
        plans(archive)
    assert note_plan(plan_of(settings_of(), KINDS, MOMENT + timedelta(minutes=1)), archive)
    assert not note_plan(plan_of(settings_of(), KINDS, MOMENT + timedelta(minutes=2)), archive)
