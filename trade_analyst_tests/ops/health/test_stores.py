"""What is in the data folder is looked at without changing it."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from trade_analyst_pipeline.errors import QueryError
from trade_analyst_pipeline.ops.health import stores
from trade_analyst_pipeline.ops.health.stores import FailedRun
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Gap
from trade_analyst_pipeline.storage.catalogue import build_catalogue

THURSDAY, FRIDAY, MONDAY = date(2026, 5, 28), date(2026, 5, 29), date(2026, 6, 1)
ENDED = datetime(2026, 5, 29, 20, 30, tzinfo=UTC)


def test_catalogue_opens_or_says_why_not(tmp_path: Path) -> None:
    """Before the first run there is none; an empty one has no views; a file that is none fails with what to do."""
    assert stores.check_catalogue(tmp_path).status == "skipped"
    build_catalogue(tmp_path)
    assert stores.check_catalogue(tmp_path).detail.startswith("0 views in ")
    (tmp_path / "catalogue.duckdb").write_bytes(b"no catalogue" * 1000)
    with pytest.raises(QueryError, match="Remove it"):
        stores.check_catalogue(tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Thursday has a response and a gap, Friday is a gap alone."""
    made = Archive(tmp_path / "raw")
    for day, dataset, has_response in (
        (THURSDAY, "options", True),
        (THURSDAY, "quotes", True),
        (FRIDAY, "options", False),
    ):
        instant = datetime(day.year, day.month, day.day, 20, tzinfo=UTC)
        writer = made.begin(dataset=dataset, session_date=day, scheduled_time=instant, started_time=instant)
        if has_response:
            request = MarketDataRequest(dataset=dataset, path="/chains", params=(("symbol", "SPY"),), symbols=("SPY",))
            writer.append(RawResponse(request, 200, b"{}", (), instant, instant, 1))
        writer.note_gap(Gap(dataset, ("QQQ", "IWM", "DIA", "SLV"), "rate_limited", "over the limit"))
        writer.seal(instant)
    return made


def test_a_session_counts_as_captured_with_a_response(archive: Archive, tmp_path: Path) -> None:
    """Friday's capture holds only its gap, so Thursday is the last; an empty archive has none."""
    assert stores.last_captured_session(archive, "options") == THURSDAY
    assert stores.last_captured_session(Archive(tmp_path / "empty"), "options") is None


def test_gaps_of_a_session_are_those_of_every_dataset(archive: Archive) -> None:
    """One of the chains and one of the quotes."""
    assert [gap.dataset for gap in stores.latest_gaps(archive, THURSDAY)] == ["options", "quotes"]


@pytest.mark.parametrize(
    ("captured", "missed", "is_live", "status", "words"),
    [
        (None, [], True, "skipped", "nothing has been captured yet"),
        (MONDAY, [], True, "ok", "session 2026-06-01 is archived"),
        (FRIDAY, [MONDAY], True, "warn", "2026-05-29; complete since: 1, the last 2026-06-01"),
        (THURSDAY, [FRIDAY, MONDAY], False, "warn", "complete since: 2"),
        (THURSDAY, [FRIDAY, MONDAY], True, "fail", "complete since: 2"),
    ],
)
def test_missed_sessions_warn_and_two_on_a_live_source_fail(
    captured: date | None, missed: list[date], is_live: bool, status: str, words: str
) -> None:
    """What a live source no longer serves is lost, so two in a row are a failure there."""
    finding = stores.check_freshness(captured, missed, is_live=is_live)
    assert finding.status == status
    assert words in finding.detail


def test_open_errors_name_runs_and_gaps(archive: Archive) -> None:
    """Failed runs first, then gaps with their reasons; three are shown and the rest counted."""
    runs = [
        FailedRun("12345678-0000", "history", THURSDAY, FRIDAY, ENDED),
        FailedRun("87654321-0000", "end_of_day", FRIDAY, FRIDAY, ENDED),
        FailedRun("abcdefgh-0000", "prune_run_records", None, None, ENDED),
    ]
    finding = stores.check_open_errors(runs[:2], stores.latest_gaps(archive, THURSDAY), THURSDAY)
    assert finding.status == "warn"
    assert finding.detail == (
        "failed runs open: 2, gaps in session 2026-05-28: 2: "
        "run 12345678 of history of 2026-05-28 to 2026-05-29 failed 2026-05-29 20:30 UTC; "
        "run 87654321 of end_of_day of 2026-05-29 failed 2026-05-29 20:30 UTC; "
        "options QQQ, IWM, DIA: rate_limited and 1 more"
    )
    assert str(runs[2]) == "run abcdefgh of prune_run_records failed 2026-05-29 20:30 UTC"


def test_without_open_errors_the_session_is_named() -> None:
    """Nothing failed and no gap is well; nothing captured and nothing failed is skipped."""
    assert stores.check_open_errors([], [], FRIDAY).detail == "no failed run is open; session 2026-05-29 has no gap"
    assert stores.check_open_errors([], [], None).status == "skipped"


def test_folder_without_instance_description_fails(tmp_path: Path) -> None:
    """Outside the project folder there is no dagster.yaml, and the remedy is to go there."""
    finding = stores.check_dagster(Path("dagster.yaml"), tmp_path / "none")
    assert (finding.status, finding.remedy) == ("fail", "Start the command in the project folder.")
    Path("dagster.yaml").touch()
    assert "will be made" in stores.check_dagster(Path("dagster.yaml"), tmp_path / "none").detail
    assert f"kept in {tmp_path}" in stores.check_dagster(Path("dagster.yaml"), tmp_path).detail
