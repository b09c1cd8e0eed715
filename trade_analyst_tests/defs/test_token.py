"""Dagster is told of the login's end in good time: each threshold once per login, with what to do and when."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trade_analyst_pipeline.defs.automation import login_ending
from trade_analyst_pipeline.defs.token import TOKEN_KEY, Memory, foresee, login_lasts, remembered, token_asset
from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.ops.login_outlook import Login

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
ENDS = datetime(2026, 3, 13, 12, 30, tzinfo=UTC)
LOGIN = Login(ENDS - timedelta(days=7), ENDS, generation=4, key_source="the key file")
LATER = Login(ENDS - timedelta(days=1), ENDS + timedelta(days=6), generation=5)
LOCKED = Login(None, None, problem="tokens.bin cannot be opened: the OS keyring did not answer. Unlock it.")
REFUSED = Login(LOGIN.login_time, ENDS, generation=4, problem="the source refused the stored login")


@dataclass
class StandingLogin:
    """A token resource with a login and a time that a test sets."""

    stored: Login
    instant: datetime = ENDS

    def login(self) -> Login:
        """The login set."""
        return self.stored

    def now(self) -> datetime:
        """The time set."""
        return self.instant


class Unset(StandingLogin):
    """Live without the app's credentials."""

    def login(self) -> Login:
        """Raises as the settings do."""
        message = "set TRADE_ANALYST_APP_KEY"
        raise SettingsError(message)


def hours_left(left: float) -> datetime:
    """The instant at which the first login has so many hours left."""
    return ENDS - timedelta(hours=left)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class Ticking:
    """The sensor, tick after tick, with its cursor kept as the daemon keeps it."""

    def __init__(self, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture) -> None:
        self._instance = instance
        self._caplog = caplog
        self.cursor: str | None = None
        self.events = 0

    def tick(self, resource: StandingLogin) -> tuple[list[str], str]:
        """What was logged as level and message, and what the tick says."""
        self._caplog.clear()
        context = dg.build_sensor_context(
            instance=self._instance, cursor=self.cursor, resources={"token": resource}, sensor_name="login_ending"
        )
        with self._caplog.at_level(logging.INFO, logger="trade_analyst.login"):
            data = login_ending.evaluate_tick(context)
        self.cursor = data.cursor
        self.events = len(data.asset_events)
        return [f"{record.levelname} {record.getMessage()}" for record in self._caplog.records], data.skip_message or ""


@pytest.fixture
def sensor(instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture) -> Ticking:
    """The sensor at its first tick."""
    return Ticking(instance, caplog)


def test_sensor_warns_at_48_and_12_hours_once_each(sensor: Ticking) -> None:
    """Nothing at 49 hours; a warning at 48 and at 12, with both zones and the command; an error once it is over."""
    told = [
        sensor.tick(StandingLogin(LOGIN, hours_left(left)))[0] for left in (49, 48, 47, 13, 12, 11, 0.2, 0, -1, -30)
    ]
    assert [len(lines) for lines in told] == [0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    assert told[1][0].startswith("WARNING the login at the source ends soon: 2 days 0 h left")
    assert told[4][0].startswith("WARNING the login at the source ends soon: 12 h 0 min left")
    for lines in (told[1], told[4]):
        assert "until 2026-03-13 12:30:00 UTC (2026-03-13 08:30 New York)" in lines[0]
        assert "Run `trade-analyst login`" in lines[0]
    assert told[7][0].startswith("ERROR the login at the source is over: the login ended at 2026-03-13 12:30:00 UTC")


def test_sensor_that_slept_warns_with_what_is_left(sensor: Ticking) -> None:
    """A machine that was off between 60 and 5 hours warns once, not twice, and not of 48 hours afterwards."""
    told = [sensor.tick(StandingLogin(LOGIN, hours_left(left)))[0] for left in (60, 5, 4)]
    assert [len(lines) for lines in told] == [0, 1, 0]
    assert "5 h 0 min left" in told[1][0]


def test_new_login_is_warned_of_anew(sensor: Ticking) -> None:
    """After a new login both thresholds are ahead again; a renewal of the same login changes nothing."""
    sensor.tick(StandingLogin(LOGIN, hours_left(10)))
    renewed = Login(LOGIN.login_time, ENDS, generation=9)
    assert sensor.tick(StandingLogin(renewed, hours_left(9)))[0] == []
    assert sensor.tick(StandingLogin(LATER, hours_left(8)))[0] == []
    lines, _ = sensor.tick(StandingLogin(LATER, hours_left(-6 * 24 + 47)))
    assert "1 day 23 h left" in lines[0]


def test_refused_login_is_an_error_once(sensor: Ticking) -> None:
    """A login that the source refuses days before its end is told when it happens, and once."""
    assert sensor.tick(StandingLogin(LOGIN, hours_left(100)))[0] == []
    lines, said = sensor.tick(StandingLogin(REFUSED, hours_left(99)))
    assert lines[0].startswith("ERROR the login at the source is over: the source refused the stored login")
    assert said in lines[0]
    assert sensor.tick(StandingLogin(REFUSED, hours_left(98)))[0] == []


def test_login_that_cannot_be_read_is_an_error(sensor: Ticking) -> None:
    """Known or never seen before, it is told with its reason, observed, and told again after six hours."""
    lines, said = sensor.tick(StandingLogin(LOCKED, hours_left(100)))
    assert lines == [f"ERROR the login at the source cannot be used: {LOCKED.problem}"]
    assert said == f"the login at the source cannot be used: {LOCKED.problem}"
    assert sensor.events == 2
    told = [len(sensor.tick(StandingLogin(LOCKED, hours_left(left)))[0]) for left in (99.8, 94.1, 94, 93)]
    assert told == [0, 0, 1, 0]


def test_login_that_comes_and_goes_is_told_of_once(sensor: Ticking) -> None:
    """A keyring that answers every other time: one warning of the end, one error, and each change is observed."""
    looks = [LOGIN, LOGIN, LOCKED, LOGIN, LOCKED, LOCKED, LOGIN]
    told, observed = [], []
    for number, login in enumerate(looks):
        told.append([line.split()[0] for line in sensor.tick(StandingLogin(login, hours_left(40 - number / 6)))[0]])
        observed.append(sensor.events > 0)
    assert told == [["WARNING"], [], ["ERROR"], [], [], [], []]
    assert observed == [True, False, True, True, True, False, True]
    assert sensor.tick(StandingLogin(LOGIN, hours_left(12)))[0][0].startswith("WARNING")


def test_clock_set_back_does_not_silence_the_sensor(sensor: Ticking) -> None:
    """What was done last at an instant that is still to come is done again."""
    sensor.tick(StandingLogin(LOCKED, hours_left(40)))
    assert len(sensor.tick(StandingLogin(LOCKED, hours_left(90)))[0]) == 1
    assert sensor.events == 2


def test_sensor_without_login_or_credentials_says_so_quietly(sensor: Ticking) -> None:
    """Before the first login, and live without credentials, each tick says why; nobody is warned of what is not."""
    assert sensor.tick(StandingLogin(Login(None, None))) == ([], "nobody has logged in")
    assert sensor.tick(Unset(LOGIN)) == ([], "set TRADE_ANALYST_APP_KEY")


def test_sensor_observes_on_news_and_every_six_hours(sensor: Ticking) -> None:
    """First look, a quiet tick, five hours and fifty-nine minutes later, six hours later, and each threshold."""
    counts = []
    for left in (100, 99.9, 94.1, 94, 93, 48, 47.9):
        sensor.tick(StandingLogin(LOGIN, hours_left(left)))
        counts.append(sensor.events)
    assert counts == [2, 0, 0, 2, 0, 2, 0]
    sensor.tick(StandingLogin(LATER, hours_left(47.8)))
    assert sensor.events == 2


@pytest.mark.parametrize(
    "cursor",
    [
        *(None, "", "{}", "junk", "[]", '{"login_time": 7}'),
        *('{"observed_time": "x"}', '{"login_time": "", "observed_time": ""}', '{"observed_time": "2026-03-01T00:00"}'),
    ],
)
def test_unreadable_cursor_is_a_new_memory(cursor: str | None) -> None:
    """What another release wrote, or an instant that is none or has no zone, costs a repeated warning, no tick."""
    assert remembered(cursor) == Memory()


def test_cursor_of_the_release_before_is_read() -> None:
    """Instants stood in it as ISO texts with a zone: a warning already given is not given again."""
    cursor = '{"login_time":"2026-03-06T12:30:00+00:00","warned_hours":48,"observed_time":"2026-03-11T13:00:00+00:00"}'
    assert remembered(cursor) == Memory(LOGIN.login_time, 48, datetime(2026, 3, 11, 13, tzinfo=UTC))
    assert foresee(LOGIN, hours_left(47), remembered(cursor)).warning is None


def test_each_decision_is_remembered() -> None:
    """The memory holds the login, the smallest threshold told and the time of the last observation."""
    first = foresee(LOGIN, hours_left(40), Memory())
    assert first.memory == Memory(ENDS - timedelta(days=7), 48, hours_left(40))
    second = foresee(LOGIN, hours_left(39), first.memory)
    assert (second.memory, second.warning, second.observe) == (first.memory, None, False)


@pytest.mark.parametrize(
    ("login", "left", "passed", "severity"),
    [(LOGIN, 49, True, "WARN"), (LOGIN, 48, False, "WARN"), (LOGIN, 0, False, "ERROR"), (REFUSED, 90, False, "ERROR")],
)
def test_check_fails_when_something_has_to_be_done(login: Login, left: float, passed: bool, severity: str) -> None:
    """The last 48 hours warn; a login that is over or refused is an error."""
    result = login_lasts(StandingLogin(login, hours_left(left)))
    assert isinstance(result, dg.AssetCheckResult)
    assert (result.passed, result.severity.name if not result.passed else severity) == (passed, severity)


def test_observation_has_days_left_as_a_number(instance: dg.DagsterInstance) -> None:
    """Dagster plots numbers over time: 36 hours are 1.5 days; the end and the key's place are told."""
    definitions = dg.Definitions(
        assets=[token_asset()],
        resources={"token": StandingLogin(LOGIN, hours_left(36))},
        jobs=[dg.define_asset_job("look", selection=[TOKEN_KEY])],
    )
    result = definitions.resolve_job_def("look").execute_in_process(instance=instance)
    (observation,) = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    metadata = {name: value.value for name, value in observation.metadata.items()}
    assert metadata["days_left"] == 1.5
    assert metadata["is_logged_in"] is True
    assert metadata["login_ends"] == ENDS.timestamp()
    assert metadata["key_source"] == "the key file"
    assert "1 day 12 h left" in metadata["standing"]


def test_check_runs_as_dagster_runs_it(instance: dg.DagsterInstance) -> None:
    """Evaluated in a run, the check is on record for the asset `token`."""
    definitions = dg.Definitions(
        assets=[token_asset()],
        asset_checks=[login_lasts],
        resources={"token": StandingLogin(LOGIN, hours_left(10))},
        jobs=[dg.define_asset_job("look", selection=dg.AssetSelection.checks(login_lasts))],
    )
    result = definitions.resolve_job_def("look").execute_in_process(instance=instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.asset_key, evaluation.check_name, evaluation.passed) == (TOKEN_KEY, "login_lasts", False)
