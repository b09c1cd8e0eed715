"""What is in the data folder is looked at without changing it."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from stored import put

from trade_analyst_pipeline.errors import QueryError
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.ops.health import stores
from trade_analyst_pipeline.ops.health.stores import FailedRun
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Gap
from trade_analyst_pipeline.storage.catalogue import build_catalogue
from trade_analyst_pipeline.storage.last_verification import Verification, keep_verification
from trade_analyst_pipeline.storage.tables import TableStore

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


def test_a_catalogue_whose_files_are_gone_is_told(tmp_path: Path) -> None:
    """A view over a file that a newer one replaced cannot be read by other programs any more."""
    schema = TableSchema("samples", "1.0", ("n",), (Column("n", pl.UInt64(), None, ""),), frozenset({"n"}))
    store = TableStore(tmp_path / "o'clock")
    put(store, schema, pl.DataFrame({"n": [1]}, schema=schema.polars_schema), FRIDAY)
    build_catalogue(store.root, declared={"tables.samples": schema})
    found = stores.check_catalogue(store.root)
    assert (found.status, found.detail[:8]) == ("ok", "1 views ")
    (rows,) = store.root.rglob("*.parquet")
    rows.unlink()
    gone = stores.check_catalogue(store.root)
    assert gone.status == "warn"
    assert f"1 files that they name were replaced and are gone, such as {rows.name}" in gone.detail


def test_the_last_verification_is_told(tmp_path: Path) -> None:
    """Skipped before the first; well; what it found; too long ago; and a record that cannot be read."""
    assert stores.check_verified(tmp_path, ENDED).status == "skipped"
    keep_verification(tmp_path, Verification(ENDED, 1200, 5, 0, ()))
    well = stores.check_verified(tmp_path, ENDED + timedelta(days=30))
    assert (well.status, well.detail) == ("ok", "1,200 files read back 2026-05-29 20:30 UTC: all well")
    assert stores.check_verified(tmp_path, ENDED + timedelta(days=31)).status == "warn"
    keep_verification(tmp_path, Verification(ENDED, 7, 5, 2, ("damaged raw/a", "missing raw/b")))
    found = stores.check_verified(tmp_path, ENDED)
    assert (found.status, found.detail.partition(": ")[2]) == (
        "warn",
        "2 findings, the first damaged raw/a; missing raw/b",
    )
    path = tmp_path / "last_verify.json"
    path.write_bytes(path.read_bytes().replace(b"raw/a", b"raw/c"))
    assert "not as it was written" in stores.check_verified(tmp_path, ENDED).detail
    keep_verification(tmp_path / "nowhere", Verification(ENDED, 7, 5, 0, ()))
    assert not (tmp_path / "nowhere").exists()


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
