"""A run is told before it starts that the login will not last, and does not start without one it needs."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from trade_analyst_pipeline.capture.take import Outcome
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs import runs
from trade_analyst_pipeline.defs.assets import raw_asset
from trade_analyst_pipeline.defs.automation import CHAIN_ASSETS, END_OF_DAY_ASSETS, MAX_RUN_SECONDS, QUOTE_ASSETS
from trade_analyst_pipeline.defs.login_foresight import check_login, estimated_duration
from trade_analyst_pipeline.defs.partitions import session_partitions
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.defs.run_records import RANGE_END, RANGE_START
from trade_analyst_pipeline.defs.runs import PlannedRun, foresee_login
from trade_analyst_pipeline.errors import LoginRequiredError
from trade_analyst_pipeline.ops.login_outlook import Login
from trade_analyst_pipeline.settings import Settings, load_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
ENDS = datetime(2026, 3, 13, 12, 30, tzinfo=UTC)
LOGIN = Login(ENDS - timedelta(days=7), ENDS, generation=4)
REFUSED = Login(LOGIN.login_time, ENDS, problem="the source refused the stored login")
THURSDAY, FRIDAY = date(2026, 3, 12), date(2026, 3, 13)
HOUR = timedelta(hours=1)


@dataclass
class StandingLogin:
    """A token resource with a login and a time that a test sets."""

    stored: Login
    instant: datetime = ENDS - 2 * HOUR

    def login(self) -> Login:
        """The login set."""
        return self.stored

    def now(self) -> datetime:
        """The time set."""
        return self.instant


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def settings(repository: Path) -> Settings:
    """The settings as shipped, with data below the current folder."""
    shutil.copy(repository / "config.toml", "config.toml")
    return load_settings()


# -- how long a run takes ------------------------------------------------------------------------------------------


@pytest.fixture
def record(instance: dg.DagsterInstance) -> Callable[..., None]:
    """Puts a finished run of so many seconds on record."""
    from dagster._core.events import DagsterEvent, DagsterEventType
    from dagster._core.events.log import EventLogEntry

    @dg.op
    def nothing() -> None: ...

    def put(seconds: float, *, job: str = "history", tags: dict[str, str] | None = None, is_good: bool = True) -> None:
        made = dg.GraphDefinition(name=job, node_defs=[nothing]).to_job()
        run = instance.create_run_for_job(made, tags=tags)
        end = DagsterEventType.PIPELINE_SUCCESS if is_good else DagsterEventType.PIPELINE_FAILURE
        for kind, instant in ((DagsterEventType.PIPELINE_START, 1000.0), (end, 1000.0 + seconds)):
            event = DagsterEvent(kind.value, job)
            instance.handle_new_event(
                EventLogEntry(
                    error_info=None,
                    level=20,
                    user_message="",
                    run_id=run.run_id,
                    timestamp=instant,
                    job_name=job,
                    dagster_event=event,
                )
            )

    return put


WEEK = {RANGE_START: "2026-03-02", RANGE_END: "2026-03-06"}


def test_estimate_is_the_slowest_pace_on_record(instance: dg.DagsterInstance, record: Callable[..., None]) -> None:
    """100 s for a week of five sessions is 20 s a session, 30 s for a single one is slower: ten take 300 s."""
    record(100, tags=WEEK)
    record(30, tags={"dagster/partition": "2026-03-02"})
    record(9000, job="end_of_day")
    record(9000, is_good=False)
    assert estimated_duration(instance, "history", 10) == timedelta(seconds=300)


def test_estimate_looks_at_the_last_five_runs(instance: dg.DagsterInstance, record: Callable[..., None]) -> None:
    """A slow run of long ago no longer counts."""
    record(1000)
    for _ in range(5):
        record(10)
    assert estimated_duration(instance, "history", 3) == timedelta(seconds=30)


def test_estimate_is_at_most_what_a_run_may_take(instance: dg.DagsterInstance, record: Callable[..., None]) -> None:
    """Without a run on record it is the longest a run may take, and never more than that."""
    assert estimated_duration(instance, "history", 1) == timedelta(seconds=7200)
    record(100)
    assert estimated_duration(instance, "history", 1000) == timedelta(seconds=MAX_RUN_SECONDS)


# -- what is told --------------------------------------------------------------------------------------------------


def told(
    login: Login, *, takes: timedelta = HOUR, days: tuple[date, ...] = (THURSDAY,), asks: bool = True
) -> str | None:
    """What is told before a run."""
    return check_login(StandingLogin(login), takes=takes, days=days, has_to_ask=lambda: asks)  # type: ignore[arg-type]


def test_run_that_fits_is_told_nothing() -> None:
    """Two hours are left, one is needed, and the session is over."""
    assert told(LOGIN) is None


def test_run_that_outlives_the_login_is_warned() -> None:
    """An estimate beyond the end, and a session that closes after it, each say so with the exact times."""
    assert "estimated to take 3 h 0 min" in (told(LOGIN, takes=3 * HOUR) or "")
    assert "session 2026-03-13 closes at 2026-03-13 20:15:00 UTC" in (told(LOGIN, days=(THURSDAY, FRIDAY)) or "")


@pytest.mark.parametrize(
    ("login", "words"),
    [
        (Login(None, None), "nothing was captured: nobody has logged in. Run `trade-analyst login`"),
        (Login(ENDS - timedelta(days=8), ENDS - timedelta(days=1)), "the login ended at 2026-03-12 12:30:00 UTC"),
        (REFUSED, "the source refused the stored login"),
    ],
)
def test_run_that_needs_a_login_and_has_none_fails(login: Login, words: str) -> None:
    """Missing, over and refused logins end the run before anything is captured, with what to do."""
    with pytest.raises(LoginRequiredError, match=words):
        told(login)


def test_run_that_has_nothing_to_ask_needs_no_login() -> None:
    """Archived sessions are rebuilt with a dead login, and nobody is warned."""
    assert told(REFUSED, asks=False) is None
    assert told(LOGIN, takes=3 * HOUR, asks=False) is None


# -- in the command and in Dagster ---------------------------------------------------------------------------------

RUNS = [
    PlannedRun("history", (THURSDAY,), CHAIN_ASSETS),
    PlannedRun("snapshots", (THURSDAY,), QUOTE_ASSETS),
    PlannedRun("end_of_day", (THURSDAY,), END_OF_DAY_ASSETS),
]


def test_runs_of_the_command_are_judged_together(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs of at most two hours each take six: five and a half hours of login are too short for them."""
    login = StandingLogin(LOGIN, ENDS - timedelta(hours=5, minutes=30))
    monkeypatch.setattr(runs, "TokenResource", lambda _: login)
    assert "estimated to take 6 h 0 min" in (foresee_login(instance, settings, RUNS) or "")
    login.instant = ENDS - timedelta(hours=6)
    assert foresee_login(instance, settings, RUNS) is None


def test_runs_without_raw_assets_ask_nothing(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and metrics alone are made from the archive, whatever the login."""
    monkeypatch.setattr(runs, "TokenResource", lambda _: StandingLogin(Login(None, None)))
    built = [PlannedRun("history", (THURSDAY,), ("tables/options", "metrics/iv_rank"))]
    assert foresee_login(instance, settings, built) is None
    with pytest.raises(LoginRequiredError):
        foresee_login(instance, settings, RUNS)


class ScriptedSource(SourceResource):
    """A source that gives nothing, and says whether it was asked."""

    was_asked = False

    def take(self, *_: object) -> Iterator[Outcome]:
        """Nothing."""
        self.was_asked = True
        return iter(())


@pytest.fixture
def materialize(instance: dg.DagsterInstance, settings: Settings) -> Callable[..., dg.ExecuteInProcessResult]:
    """Runs `raw/quotes` of a past session with a login and a source."""

    def run(login: StandingLogin, source: SourceResource) -> dg.ExecuteInProcessResult:
        resources = {"source": source, "storage": StorageResource(settings), "token": login}
        asset = raw_asset(DATASETS["quotes"], session_partitions(settings.start_date))
        return dg.materialize(
            [asset], partition_key="2026-03-12", resources=resources, instance=instance, raise_on_error=False
        )

    return run


def test_raw_asset_fails_before_it_asks(
    materialize: Callable[..., dg.ExecuteInProcessResult], settings: Settings
) -> None:
    """A run that a schedule starts without a login ends with the message; the source is not asked, the cause kept."""
    source = ScriptedSource(settings)
    result = materialize(StandingLogin(Login(None, None)), source)
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "nothing was captured: nobody has logged in" in str(failure.step_failure_data.error)
    assert not source.was_asked
    (day,) = StorageResource(settings).archive.sessions("quotes")
    for capture in StorageResource(settings).archive.captures("quotes", day):
        assert (capture.record_count, [gap.cause for gap in capture.gaps]) == (0, ["LoginRequiredError"])


def test_raw_asset_warns_in_the_log_of_its_run(
    materialize: Callable[..., dg.ExecuteInProcessResult], settings: Settings, instance: dg.DagsterInstance
) -> None:
    """A run that may outlive the login goes on, and says so first; one that fits says nothing."""
    for before, expected in ((HOUR, [logging.WARNING]), (3 * HOUR, [])):
        source = ScriptedSource(settings)
        run_id = materialize(StandingLogin(LOGIN, ENDS - before), source).run_id
        records = [record for record in instance.all_logs(run_id) if "the login ends before that" in record.message]
        assert [record.level for record in records] == expected
        assert source.was_asked
