"""Whole logins against the simulator over TLS: through the browser's stand-in, and by hand."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.errors import (
    AuthError,
    AuthUnavailableError,
    CallbackError,
    ClientCredentialsError,
    LoginRequiredError,
    TokenStoreError,
)
from trade_analyst_pipeline.schwab.callback_listener import CallbackListener
from trade_analyst_pipeline.schwab.login import login, login_by_hand
from trade_analyst_pipeline.simulator import faults
from trade_analyst_pipeline.simulator.faults import Change

AUTHORIZE, TOKEN = "/v1/oauth/authorize", "/v1/oauth/token"
REFUSED_CODE = faults.answered(400, b'{"error":"invalid_grant","error_description":"x"}')


# --- with a browser


@pytest.mark.auth_real_flow
def test_a_whole_login(logins: Any) -> None:
    """Authorize page, redirect to the listener, exchange, stored tokens, and a page that tells nothing secret."""
    stored = logins.log_in()
    assert logins.simulator.desk.accepts(stored.access_token.get_secret_value())
    assert logins.open_store().load() == stored
    assert (stored.generation, stored.expires_time - stored.issued_time) == (1, 1800.0)
    page = logins.page
    assert page.status_code == 200
    assert "The login has arrived" in page.text
    assert page.url.params["code"] not in page.text
    assert page.url.params["state"] not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "server" not in page.headers
    assert (logins.folder / "callback.pem").read_text().count("BEGIN") == 1
    found = logins.ledger.statistics()
    assert (found.expected, found.received, found.accepted, found.refused, found.open) == (1, 1, 1, {}, 0)
    assert logins.simulator.desk.exchanges == 1


@pytest.mark.auth_real_flow
def test_a_whole_login_without_pkce(logins: Any) -> None:
    """With PKCE switched off nothing else changes."""
    assert logins.log_in(pkce=False).generation == 1


@pytest.mark.auth_real_flow
def test_a_login_without_listener_would_end_nowhere(logins: Any) -> None:
    """Known-bad control: a browser that does not reach the listener leaves nothing stored."""
    with pytest.raises(CallbackError, match="no redirect came back"):
        silent_login(logins, open_browser=lambda url: logins.redirect(url) and None)
    assert not logins.store.path.exists()
    assert logins.token_requests() == 0


def silent_login(logins: Any, **options: Any) -> None:
    """A login whose redirect never arrives."""
    client = options.pop("client", None) or logins.client()
    given = {"ledger": logins.ledger, "open_browser": lambda _: None, "wait_seconds": 0.05}
    login(client, logins.store, **(given | options))


def test_a_login_nobody_answers_ends(logins: Any) -> None:
    """Without a redirect the wait ends at its bound with all that may be the reason, and the port is free again."""
    for _ in range(2):
        with pytest.raises(CallbackError, match=r"within 0\.05 s") as caught:
            silent_login(logins)
    for words in ("brokerage account, not with that of the developer portal", "--manual", "registered", "certificate"):
        assert words in str(caught.value)
    assert logins.token_requests() == 0
    logins.now.at += 1
    assert (logins.ledger.statistics().expected, logins.ledger.statistics().expired) == (2, 2)


def test_opening_the_browser_does_not_lengthen_the_wait(logins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends with the expectation: what went before is part of the 100 s."""
    waits: list[float] = []
    monkeypatch.setattr(CallbackListener, "wait", lambda _, seconds: waits.append(seconds))
    with pytest.raises(CallbackError):
        silent_login(logins, wait_seconds=100.0)
    assert 50.0 < waits[0] < 100.0


SILENT: dict[str, tuple[Change, str]] = {
    "app pending": (faults.app_pending(), "'Ready For Use'"),
    "edge block": (faults.access_denied(), "leave VPNs and proxies"),
    "wrong app key": (faults.app_refused(), "TRADE_ANALYST_APP_KEY"),
    "outage": (faults.html_page(503), "answers 503"),
}


@pytest.mark.parametrize("case", SILENT)
def test_the_reason_for_silence_is_told_when_the_page_shows_it(logins: Any, case: str) -> None:
    """When nothing came back the authorize page is asked once, and what it says is explained."""
    change, words = SILENT[case]
    logins.simulator.faults.add(change, path=AUTHORIZE)
    with pytest.raises(CallbackError, match=words):
        silent_login(logins)
    assert logins.simulator.requests[AUTHORIZE] == 1


def test_a_redirect_address_that_is_not_registered_is_told(logins: Any) -> None:
    """The source shows a page in place of a redirect; the message names address and setting."""
    other = logins.redirect_uri.replace("/callback", "/callback/")
    client = logins.client(redirect_uri=other, redirect_allowlist=[other])
    with pytest.raises(CallbackError, match="is not registered with the app to the letter") as caught:
        silent_login(logins, client=client)
    assert other in str(caught.value)
    assert "schwab.redirect_uri" in str(caught.value)


def test_an_authorize_page_that_cannot_be_asked_is_told(logins: Any) -> None:
    """Without the source's certificate, or without the source, the message says so."""
    with pytest.raises(CallbackError, match="no answer from the authorize page"):
        silent_login(logins, client=logins.client(ca_file=None))


def test_a_token_file_that_is_not_trusted_stops_the_login(logins: Any) -> None:
    """With a wrong key no browser is opened, no link is shown, nothing is expected, and the file stays."""
    logins.log_in()
    file = logins.folder / "private" / "tokens"
    before = file.read_bytes()
    (logins.folder / "config" / "key").unlink()
    (logins.folder / "config" / "key").write_bytes(b"A" * 43 + b"=")
    (logins.folder / "config" / "key").chmod(0o600)
    opened: list[str] = []
    with pytest.raises(TokenStoreError):
        login(logins.client(), logins.open_store(), ledger=logins.ledger, open_browser=opened.append, wait_seconds=0.05)
    with pytest.raises(TokenStoreError):
        login_by_hand(
            logins.client(),
            logins.open_store(),
            ledger=logins.ledger,
            show_link=lambda url, _: opened.append(url),
            ask_address=lambda: SecretStr(""),
        )
    assert (opened, file.read_bytes()) == ([], before)
    assert logins.ledger.statistics().expected == 1


@pytest.mark.auth_real_flow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("when", ["before the login", "while it waits"])
def test_a_login_that_cannot_be_stored_leaves_the_old_one_alive(
    logins: Any, monkeypatch: pytest.MonkeyPatch, error: int, when: str
) -> None:
    """On a full disk or in a read-only folder no code is exchanged, which would have ended the old login."""
    old = logins.log_in()

    def fill() -> None:
        def full(*_: Any) -> None:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(os, "posix_fallocate", full)

    def consent(url: str) -> None:
        fill()
        logins.consent(url)

    if when == "before the login":
        fill()
    with pytest.raises(AuthUnavailableError, match="no room for a new token"):
        silent_login(logins, open_browser=consent, certificate_file=logins.folder / "callback.pem", wait_seconds=5.0)
    monkeypatch.undo()
    assert logins.token_requests() == 1
    assert logins.ledger.statistics().expected == (1 if when == "before the login" else 2)
    renewed = logins.store.renew(is_good=lambda _: False, refresh=logins.client().refresh)
    assert (renewed.generation, renewed.login_time) == (2, old.login_time)


@pytest.mark.auth_real_flow
def test_control_an_exchange_ends_the_login_before(logins: Any) -> None:
    """Known-bad control: the code exchanged first and stored never, as it was, and the old login is dead."""
    logins.log_in()
    attempt = logins.begin()
    attempt.exchange(logins.redirect(attempt.authorization_url))
    with pytest.raises(LoginRequiredError):
        logins.store.renew(is_good=lambda _: False, refresh=logins.client().refresh)


def test_the_certificate_file_is_written_before_the_browser_opens(logins: Any, tmp_path: Path) -> None:
    """Whoever plays the browser finds the listener's certificate there."""
    found: list[str] = []
    with pytest.raises(CallbackError):
        silent_login(
            logins,
            open_browser=lambda _: found.append((tmp_path / "c.pem").read_text()),
            certificate_file=tmp_path / "c.pem",
        )
    assert found[0].startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in found[0]


# --- what the token endpoint may say to a code that has arrived

EXCHANGES: dict[str, tuple[Change, type[AuthError], str]] = {
    "app pending": (faults.app_pending(), AuthUnavailableError, "'Ready For Use'"),
    "edge block": (faults.access_denied(), AuthUnavailableError, "leave VPNs and proxies"),
    "wrong app secret": (faults.app_refused(), ClientCredentialsError, "TRADE_ANALYST_APP_SECRET"),
    "outage": (faults.server_error(), AuthUnavailableError, "Ask again later"),
    "maintenance": (faults.html_page(), AuthUnavailableError, "a page that is not JSON"),
    "code refused": (REFUSED_CODE, CallbackError, "older than 30 s, or for another redirect address"),
    "cut": (faults.cut_body(), AuthUnavailableError, "no answer from the token endpoint"),
    "half a text": (faults.truncated_json(), AuthUnavailableError, "a page that is not JSON"),
}


@pytest.mark.auth_real_flow
@pytest.mark.parametrize("case", EXCHANGES)
def test_refusals_of_the_code_are_explained(logins: Any, case: str) -> None:
    """The code is sent once, the login fails with a message that says what to do, and nothing is stored."""
    change, kind, words = EXCHANGES[case]
    logins.simulator.faults.add(change, path=TOKEN)
    with pytest.raises(kind, match=words) as caught:
        logins.log_in()
    assert type(caught.value) is kind
    assert logins.token_requests() == 1
    assert not logins.store.path.exists()
    assert logins.log_in().generation == 1


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_a_clock_that_is_off_is_told_with_a_refused_code(logins: Any, skew: float) -> None:
    """The source's clock is read off its answer: an hour's difference is named with its direction."""
    logins.simulator.desk.clock_skew_seconds = skew
    logins.simulator.faults.add(REFUSED_CODE, path=TOKEN)
    where = "behind" if skew > 0 else "ahead of"
    with pytest.raises(CallbackError, match=rf"This machine's clock is (3600|3601|3599) s {where} the source's"):
        logins.log_in()


@pytest.mark.parametrize(("skew", "count"), [(3600.0, 1), (-90.0, 1), (59.0, 0), (0.0, 0)])
def test_a_clock_that_is_off_is_warned_of(
    logins: Any, caplog: pytest.LogCaptureFixture, skew: float, count: int
) -> None:
    """A login succeeds all the same; over a minute of difference is a warning."""
    logins.simulator.desk.clock_skew_seconds = skew
    logins.log_in()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["clock" in record.getMessage() for record in warnings] == [True] * count


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 05 Jan 2026 20:55:00 -0000", "Mon, 99 Jan 2026 20:55:00 GMT"])
def test_a_date_that_is_none_is_ignored(logins: Any, caplog: pytest.LogCaptureFixture, date: str) -> None:
    """Junk in the Date header is no statement about the clock."""
    caplog.set_level(logging.WARNING)
    logins.simulator.faults.add(lambda answer: with_date(answer, date), path=TOKEN)
    logins.log_in()
    assert caplog.records == []


def with_date(answer: Any, date: str) -> Any:
    """The answer with another Date header."""
    return replace(answer, headers=(*answer.headers, ("Date", date)))


# --- OA-1, OA-4 and OA-5 through the listener


def answered_with(logins: Any, change: Callable[[str], list[str]]) -> Callable[[str], None]:
    """A browser that follows consent not to the redirect but to these changes of it."""

    def browse(url: str) -> None:
        for address in change(logins.redirect(url).get_secret_value()):
            logins.consent(address)

    return browse


BAD_STATES: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "missing": ("no_state", lambda address: [re.sub(r"&state=[^&]+", "", address)]),
    "wrong": ("unexpected", lambda address: [re.sub(r"state=[^&]+", "state=" + "x" * 43, address)]),
    "empty": ("no_state", lambda address: [re.sub(r"state=[^&]+", "state=", address)]),
    "repeated": ("duplicate", lambda address: [address + "&" + address.rpartition("&")[2]]),
}


@pytest.mark.auth_real_flow
@pytest.mark.parametrize("case", BAD_STATES)
def test_a_bad_state_makes_no_token_request(logins: Any, case: str) -> None:
    """OA-1: the redirect with another state is refused, counted, and its code is not sent."""
    reason, change = BAD_STATES[case]
    with pytest.raises(CallbackError, match="no redirect came back"):
        silent_login(
            logins,
            open_browser=answered_with(logins, change),
            certificate_file=logins.folder / "callback.pem",
        )
    assert logins.ledger.statistics().refused == {reason: 1}
    assert logins.token_requests() == 0


@pytest.mark.auth_real_flow
def test_a_state_from_an_older_attempt_is_refused(logins: Any) -> None:
    """OA-1: the redirect of an earlier, answered login is refused as used, and the present one still works."""
    old = logins.begin()
    address = logins.redirect(old.authorization_url)
    old.exchange(address)

    def both(url: str) -> None:
        logins.consent(address.get_secret_value())
        logins.consent(url)

    login(
        logins.client(),
        logins.store,
        ledger=logins.ledger,
        open_browser=both,
        certificate_file=logins.folder / "callback.pem",
        wait_seconds=5,
    )
    assert logins.ledger.statistics().refused == {"used": 1}
    assert logins.token_requests() == 2


@pytest.mark.auth_real_flow
def test_a_redirect_used_twice_is_exchanged_once(logins: Any) -> None:
    """OA-1: a browser that loads the redirect again is told so; one token request in all."""
    login(
        logins.client(),
        logins.store,
        ledger=logins.ledger,
        open_browser=answered_with(logins, lambda address: [address, address]),
        certificate_file=logins.folder / "callback.pem",
        wait_seconds=5,
    )
    assert logins.page.status_code == 409
    assert logins.ledger.statistics().refused == {"used": 1}
    assert logins.token_requests() == 1


@pytest.mark.auth_real_flow
def test_a_mix_up_is_refused(logins: Any) -> None:
    """OA-4: a redirect that names another issuer ends the login before anything is sent."""
    with pytest.raises(CallbackError, match="another server issued it"):
        login(
            logins.client(),
            logins.store,
            ledger=logins.ledger,
            open_browser=answered_with(logins, lambda address: [address + "&iss=https%3A%2F%2Fevil.example"]),
            certificate_file=logins.folder / "callback.pem",
            wait_seconds=5,
        )
    assert logins.token_requests() == 0


@pytest.mark.auth_real_flow
def test_endpoints_come_from_the_configuration_only(logins: Any) -> None:
    """OA-4: a token endpoint named in the redirect or in an answer is not asked, now or later."""
    named = "token_endpoint=https%3A%2F%2F127.0.0.1%3A1%2Fv1%2Foauth%2Ftoken"

    def edit(answer: Any) -> None:
        answer["token_endpoint"] = answer["refresh_endpoint"] = "https://127.0.0.1:1/v1/oauth/token"

    logins.simulator.faults.add(faults.edited(edit), path=TOKEN, times=None)
    stored = login(
        logins.client(),
        logins.store,
        ledger=logins.ledger,
        open_browser=answered_with(logins, lambda address: [f"{address}&{named}"]),
        certificate_file=logins.folder / "callback.pem",
        wait_seconds=5,
    )
    logins.client().refresh(stored.refresh_token)
    assert logins.token_requests() == 2


@pytest.mark.auth_real_flow
def test_an_injected_code_is_refused_by_the_source(logins: Any) -> None:
    """OA-5: a code obtained under another verifier, brought with the right state: refused, reported, not repeated."""
    foreign = logins.redirect(logins.begin().authorization_url).get_secret_value()
    code = re.search(r"code=[^&]+", foreign)
    assert code is not None
    with pytest.raises(CallbackError, match="refused the code"):
        login(
            logins.client(),
            logins.store,
            ledger=logins.ledger,
            open_browser=answered_with(logins, lambda address: [re.sub(r"code=[^&]+", code[0], address)]),
            certificate_file=logins.folder / "callback.pem",
            wait_seconds=5,
        )
    assert logins.token_requests() == 1
    assert not logins.store.path.exists()


@pytest.mark.auth_real_flow
def test_control_without_pkce_an_injected_code_is_taken(logins: Any) -> None:
    """Known-bad control: with PKCE off the same injection logs in, so the refusal above is PKCE's doing."""
    client = logins.client(pkce=False)
    foreign = logins.redirect(client.begin_login(ledger=logins.ledger, seconds=300).authorization_url)
    code = re.search(r"code=[^&]+", foreign.get_secret_value())
    assert code is not None
    login(
        client,
        logins.store,
        ledger=logins.ledger,
        open_browser=answered_with(logins, lambda address: [re.sub(r"code=[^&]+", code[0], address)]),
        certificate_file=logins.folder / "callback.pem",
        wait_seconds=5,
    )
    assert logins.store.load().generation == 1


# --- by hand


class Person:
    """Opens each link shown and pastes what `answers` makes of the address, one after the other, the last for ever."""

    def __init__(self, logins: Any, *answers: Callable[[str], str]) -> None:
        self._logins = logins
        self._answers = list(answers)
        self.links: list[str] = []
        self.problems: list[str | None] = []

    def see(self, url: str, problem: str | None) -> None:
        """A link, and what was wrong before."""
        self.links.append(url)
        self.problems.append(problem)

    def paste(self) -> SecretStr:
        """What is pasted."""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return SecretStr(answer(self._logins.redirect(self.links[-1]).get_secret_value()))

    def log_in(self, **options: Any) -> Any:
        """The login by hand."""
        return login_by_hand(
            self._logins.client(),
            self._logins.store,
            ledger=self._logins.ledger,
            show_link=self.see,
            ask_address=self.paste,
            **options,
        )


def as_it_is(address: str) -> str:
    """The address whole."""
    return address


@pytest.mark.auth_real_flow
def test_a_login_by_hand(logins: Any) -> None:
    """One link, one address, tokens stored; no port is listened on."""
    person = Person(logins, as_it_is)
    stored = person.log_in()
    assert logins.open_store().load() == stored
    assert (len(person.links), person.problems) == (1, [None])
    assert logins.ledger.statistics().accepted == 1


@pytest.mark.auth_real_flow
def test_an_old_code_gets_a_fresh_link(logins: Any) -> None:
    """A person too slow for the code's half minute is told so and gets another link, with another state."""

    def slowly(address: str) -> str:
        logins.now.at += 31
        return address

    person = Person(logins, slowly, as_it_is)
    assert person.log_in().generation == 1
    assert "older than 30 s" in (person.problems[1] or "")
    assert "Run `trade-analyst login` again" not in (person.problems[1] or "")
    states = [re.search(r"state=([^&]+)", url) for url in person.links]
    assert len({state[1] for state in states if state}) == 2


@pytest.mark.auth_real_flow
def test_an_address_used_already_gets_a_fresh_link(logins: Any) -> None:
    """The address of an earlier login, pasted again, is told as used; the next one works."""
    earlier = Person(logins, as_it_is)
    earlier.log_in()
    old = logins.redirect(earlier.links[0]).get_secret_value()
    person = Person(logins, lambda _: old, as_it_is)
    assert person.log_in().generation == 2
    assert "which has been used" in (person.problems[1] or "")
    assert logins.token_requests() == 2


PASTES: dict[str, tuple[Callable[[str], str], str]] = {
    "encoded twice": (lambda address: address.replace("%40", "%2540"), "percent-encoded twice"),
    "line break": (lambda address: address[:80] + "\n" + address[80:], "line breaks"),
    "without scheme": (lambda address: address.removeprefix("https://"), "no https:// in front"),
    "http": (lambda address: address.replace("https:", "http:"), "Scheme, host, port, path and slash"),
    "the code alone": (lambda address: address.partition("code=")[2].partition("&")[0], "no https:// in front"),
    "the login page": (
        lambda _: "https://api.schwabapi.com/v1/oauth/authorize?x=y",
        "Agree on the source's page first",
    ),
    "cut off": (lambda address: address[:-50], "Copy the whole address, to its end"),
    "localhost": (lambda address: address.replace("127.0.0.1", "localhost"), "Scheme, host, port, path and slash"),
    "a whole mail": (lambda address: address + "&x=" + "y" * 10_000, "Copy the address alone"),
}


@pytest.mark.auth_real_flow
@pytest.mark.parametrize("case", PASTES)
def test_wrong_pastes_are_explained(logins: Any, case: str) -> None:
    """OA-6: each names its fault without quoting the address, sends nothing, and another try works."""
    change, words = PASTES[case]
    person = Person(logins, change, as_it_is)
    assert person.log_in().generation == 1
    problem = person.problems[1] or ""
    assert words in problem
    assert "C0." not in problem
    assert logins.token_requests() == 1
    is_fresh = person.links[0] != person.links[1]
    assert is_fresh == (case == "encoded twice")  # it had the right state, so that link has had its answer


@pytest.mark.auth_real_flow
def test_tries_by_hand_are_bounded(logins: Any) -> None:
    """After three wrong addresses it ends with the last fault."""
    person = Person(logins, lambda _: "x")
    with pytest.raises(CallbackError, match=r"none of 3 addresses led to a login.*no https:// in front"):
        person.log_in(tries=3)
    assert len(person.links) == 3
    assert logins.token_requests() == 0


def test_an_empty_paste_gives_up(logins: Any) -> None:
    """Nothing pasted, or the end of the input: nobody is logged in."""
    with pytest.raises(CallbackError, match="no address was given"):
        Person(logins, lambda _: "").log_in()


def test_a_link_by_hand_has_its_time(logins: Any) -> None:
    """An address that comes after the link's time is refused as late, and a fresh link is given."""
    person = Person(logins, as_it_is)
    with pytest.raises(CallbackError, match=r"none of 2 addresses.*came too late"):
        person.log_in(link_seconds=0.0, tries=2)
    assert person.links[0] != person.links[1]
    assert logins.token_requests() == 0


def test_an_outage_ends_a_login_by_hand(logins: Any) -> None:
    """What another link cannot mend is raised at once."""
    logins.simulator.faults.add(faults.app_refused(), path=TOKEN)
    person = Person(logins, as_it_is)
    with pytest.raises(ClientCredentialsError):
        person.log_in()
    assert len(person.links) == 1
