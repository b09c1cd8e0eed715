"""What stands between this installation and its source is found, with the remedy, and without a secret."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trade_analyst_pipeline.errors import RequestSummary, SettingsError, SourceUnavailableError, UntrustedServerError
from trade_analyst_pipeline.ops.health import access
from trade_analyst_pipeline.ops.login_outlook import Login
from trade_analyst_pipeline.schwab.budget import BudgetState
from trade_analyst_pipeline.schwab.callback_ledger import CallbackStatistics
from trade_analyst_pipeline.schwab.ping import Ping
from trade_analyst_pipeline.settings import Settings

NOW = datetime(2026, 6, 1, 15, 0, tzinfo=UTC)
ADDRESS = "https://api.example"


def make_settings(**changes: Any) -> Settings:
    """Settings of the simulator with data under the current folder."""
    return Settings(universe={"symbols": ["SPY"]}, **changes)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:8182/callback", "https://localhost:8182/callback", "https://10.0.0.1/callback"]
)
def test_redirect_address_off_this_machine_fails(uri: str) -> None:
    """Only https on 127.0.0.1 is private to this machine; names and other addresses are not."""
    settings = make_settings()
    schwab = settings.schwab.model_copy(update={"redirect_uri": uri, "redirect_allowlist": (uri,)})
    finding = access.check_redirect(settings.model_copy(update={"schwab": schwab}))
    assert finding.status == "fail"
    assert uri in finding.detail


def test_redirect_address_has_to_be_allowed_exactly() -> None:
    """An address that differs from the allowed one by a trailing slash is not allowed; others allowed are counted."""
    settings = make_settings()
    schwab = settings.schwab.model_copy(update={"redirect_uri": "https://127.0.0.1:8182/callback/"})
    finding = access.check_redirect(settings.model_copy(update={"schwab": schwab}))
    assert finding.detail == "https://127.0.0.1:8182/callback/ is not in the allowlist"
    both = ("https://127.0.0.1:8182/callback", "https://127.0.0.1:9/x")
    schwab = settings.schwab.model_copy(update={"redirect_allowlist": both})
    finding = access.check_redirect(settings.model_copy(update={"schwab": schwab}))
    assert finding.status == "ok"
    assert finding.detail.endswith("1 more allowed")


def test_live_environment_needs_key_and_secret() -> None:
    """In live the missing one of app key and secret is named; with both set nothing of them is shown."""
    finding = access.check_credentials(make_settings(environment="live", app_key="canary-key"))
    assert (finding.status, finding.detail) == ("fail", "app_secret not set")
    finding = access.check_credentials(make_settings(environment="live", app_key="canary-key", app_secret="canary"))
    assert finding.status == "ok"
    assert "canary" not in finding.detail
    assert access.check_credentials(make_settings()).status == "ok"


def login(hours: float, **changes: Any) -> Login:
    """A login that lasts so many more hours."""
    ends = NOW + timedelta(hours=hours)
    return Login(ends - timedelta(days=7), ends, generation=3, **{"key_source": "the key file"} | changes)


@pytest.mark.parametrize(
    ("found", "is_live", "status", "words"),
    [
        (login(100), True, "ok", "4 days 4 h left, until 2026-06-05 19:00:00 UTC (2026-06-05 15:00 New York)"),
        (login(48.1), True, "ok", "2 days 0 h left"),
        (login(48), True, "warn", "2 days 0 h left"),
        (login(11.5), True, "warn", "11 h 30 min left"),
        (login(0.05), True, "warn", "3 min left"),
        (login(0), True, "fail", "the login ended at 2026-06-01 15:00:00 UTC (2026-06-01 11:00 New York)"),
        (login(0), False, "warn", "the login ended"),
        (login(100, problem="the source refused it"), True, "fail", "the source refused it"),
        (Login(None, None), True, "fail", "nobody has logged in"),
        (Login(None, None), False, "skipped", "each run logs in to its own simulator"),
        (Login(None, None, problem="the file is damaged"), True, "fail", "the file is damaged"),
        (Login(None, None, problem="the file is damaged"), False, "warn", "the file is damaged"),
    ],
)
def test_login_is_judged_by_what_is_left_of_it(found: Login, is_live: bool, status: str, words: str) -> None:
    """More than 48 hours are well, fewer warn, none and refused fail on the live source."""
    finding = access.check_token(found, NOW, is_live=is_live)
    assert finding.status == status
    assert words in finding.detail
    assert (finding.remedy is None) == (status in ("ok", "skipped"))
    if status in ("ok", "warn") and found.ends_time:
        assert finding.detail.endswith("key from the key file")


@pytest.mark.parametrize(("lead", "status"), [(timedelta(seconds=60), "ok"), (timedelta(hours=3), "warn")])
def test_login_of_the_future_is_not_well(lead: timedelta, status: str) -> None:
    """More than a minute ahead of the clock, when it ends is not known, however much seems to be left."""
    finding = access.check_token(login(168, lead=lead), NOW, is_live=True)
    assert finding.status == status
    assert ("dated 3 h 0 min ahead of this machine's clock" in finding.detail) == (status == "warn")
    assert ("6 days" in finding.detail or "7 days" in finding.detail) == (status == "ok")


def test_login_that_cannot_be_opened_is_not_made_good_by_another() -> None:
    """A new login is refused over it, so the remedy is that of the message; one that is over needs a new login."""
    locked = access.check_token(Login(None, None, problem="the keyring is locked. Unlock it."), NOW, is_live=True)
    assert (locked.remedy or "").startswith("Do what the message says")
    assert access.check_token(login(0), NOW, is_live=True).remedy == "Run `trade-analyst login`."


def test_callbacks_are_told_with_reasons_and_time() -> None:
    """Each reason met is counted, in alphabetical order, and how long the last accepted one took."""
    statistics = CallbackStatistics(
        expected=5,
        received=4,
        accepted=2,
        refused={"unexpected": 1, "late": 1, "used": 0},
        expired=1,
        last_latency_seconds=12.34,
    )
    finding = access.check_callbacks(statistics)
    assert finding.status == "ok"
    assert finding.detail == (
        "5 expected, 4 received, 2 accepted, refused: late 1, unexpected 1; 1 not answered in time; "
        "the last took 12.3 s"
    )


def test_callbacks_that_were_never_expected_or_cannot_be_counted() -> None:
    """Before the first login there is nothing to tell; a ledger that was set aside warns."""
    assert access.check_callbacks(CallbackStatistics()).status == "skipped"
    finding = access.check_callbacks(CallbackStatistics(problem="the ledger was set aside."))
    assert (finding.status, finding.detail) == ("warn", "the ledger was set aside.")
    assert "refused: none" in access.check_callbacks(CallbackStatistics(received=1, refused={})).detail


@pytest.mark.parametrize(
    ("status", "is_html", "expected"),
    [
        (200, False, "ok"),
        (401, False, "ok"),
        (404, True, "ok"),
        (403, False, "ok"),
        (403, True, "warn"),
        (500, False, "warn"),
        (503, True, "warn"),
    ],
)
def test_any_answer_but_an_outage_or_a_block_is_reachable(status: int, is_html: bool, expected: str) -> None:
    """A refusal of a request without credentials is what a healthy source says; a page of the edge is a block."""
    finding = access.check_source(
        lambda: Ping(status, is_html=is_html, seconds=0.123, clock_offset=None), ADDRESS, is_live=True
    )
    assert finding.status == expected
    assert f"{ADDRESS} answered {status} in 123 ms" in finding.detail


def test_source_that_is_not_there_fails_and_no_simulator_is_skipped() -> None:
    """An untrusted certificate and no connection fail with different remedies; None means there is none to ask."""
    summary = RequestSummary("ping", "/", ())

    def untrusted() -> Ping:
        raise UntrustedServerError(summary, "self-signed certificate", "Look.")

    def unreachable() -> Ping:
        raise SourceUnavailableError(summary, "no route", "Look.")

    finding = access.check_source(untrusted, ADDRESS, is_live=True)
    assert (finding.status, finding.detail) == ("fail", f"{ADDRESS}: self-signed certificate")
    finding = access.check_source(unreachable, ADDRESS, is_live=True)
    assert (finding.status, finding.detail) == ("fail", f"{ADDRESS}: no route")
    assert "name resolution" in (finding.remedy or "")
    for ask in (untrusted, unreachable):  # another program on the simulator's port
        finding = access.check_source(ask, ADDRESS, is_live=False)
        assert (finding.status, "simulator.port" in (finding.remedy or "")) == ("warn", True)
    assert access.check_source(lambda: None, ADDRESS, is_live=False).status == "skipped"


def test_adapter_is_ready_when_it_can_be_built() -> None:
    """Building raises what stands in the way, and the runner tells it."""
    assert access.check_adapter(lambda: None).status == "ok"

    def refuse() -> None:
        message = "set the app key"
        raise SettingsError(message)

    with pytest.raises(SettingsError):
        access.check_adapter(refuse)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, "ok", "100 a minute for this machine (120 set, 120 learned, 20 reserved); 17 went in the last minute, 3"),
        ({}, "ok", "3 may go at once; no 429 so far"),
        ({"next_time": NOW + timedelta(seconds=4)}, "ok", "in 4 s, at 15:00:04 UTC"),
        ({"refusals": 2, "last_refusal_time": NOW}, "ok", "last 429 at 2026-06-01 15:00:00 UTC (2 in all)"),
        ({"next_time": NOW + timedelta(seconds=61)}, "warn", "in 61 s, at 15:01:01 UTC"),
        ({"learned": 60, "per_minute": 40}, "warn", "40 a minute for this machine (120 set, 60 learned, 20 reserved)"),
        ({"is_down": True}, "warn", "failed often in a row"),
        ({"is_known": False}, "warn", "damaged"),
    ],
)
def test_request_budget_is_told_as_it_stands(changes: dict[str, Any], status: str, words: str) -> None:
    """What may go now, or when the next may; a long wait, a lowered limit, an outage and a damaged file warn."""
    state = BudgetState(120, 20, 120, 100, 3, None, 17, 0, 0, None, is_down=False, is_known=True)
    finding = access.check_budget(replace(state, **changes), NOW)
    assert finding.status == status
    assert words in finding.detail
