"""Login and access tokens against the simulator and against scripted token endpoints, over TLS."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import traceback
from typing import Any

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.errors import (
    AuthError,
    AuthUnavailableError,
    CallbackError,
    ClientCredentialsError,
    LoginRequiredError,
    NotAuthorizedError,
    SourceError,
    SourceUnavailableError,
)
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.ops.redaction import redact
from trade_analyst_pipeline.schwab.auth import StoredAccessTokens
from trade_analyst_pipeline.schwab.budget import RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.schwab.token_records import TokenGrant
from trade_analyst_pipeline.simulator import faults

QUOTE = MarketDataRequest("quotes", "/quotes", (("symbols", "BRK/B"),), ("BRK/B",))


# --- login


def test_the_authorize_address(logins: Any) -> None:
    """Key, exact redirect, code flow, state and an S256 challenge; a fresh state and challenge each time."""
    first, second = (logins.begin().authorization_url for _ in range(2))
    assert first.startswith(f"{logins.simulator.base_url}/v1/oauth/authorize?response_type=code&client_id=SIMULATOR")
    assert "code_challenge_method=S256" in first
    for name in ("state", "code_challenge"):
        values = [re.search(rf"[?&]{name}=([^&]{{43}})(&|$)", url) for url in (first, second)]
        assert all(values)
        assert values[0][1] != values[1][1]


def test_pkce_can_be_switched_off(logins: Any) -> None:
    """Without PKCE the state is still sent and the login works."""
    url = logins.begin(pkce=False).authorization_url
    assert "code_challenge" not in url
    assert "state=" in url
    assert logins.log_in(pkce=False).generation == 1


def test_a_pasted_address_works_once(logins: Any) -> None:
    """The address copied from the browser is exchanged; used again it is refused before anything is sent."""
    attempt = logins.begin()
    address = logins.redirect(attempt.authorization_url)
    assert "%40" in address.get_secret_value()
    attempt.exchange(address)
    with pytest.raises(CallbackError, match="has been used"):
        attempt.exchange(address)
    assert logins.token_requests() == 1


def test_a_code_of_another_attempt_is_refused(logins: Any) -> None:
    """A code obtained under another verifier is refused by the source even with the right state; no retry."""
    mine, other = logins.begin(), logins.begin()
    foreign = logins.redirect(other.authorization_url).get_secret_value()
    with pytest.raises(CallbackError, match="does not belong to this login"):
        mine.exchange(SecretStr(foreign))
    assert logins.token_requests() == 0
    forged = re.sub(r"state=[^&]+", f"state={mine.expected.state.get_secret_value()}", foreign)
    with pytest.raises(CallbackError, match="refused the code"):
        mine.exchange(SecretStr(forged))
    assert logins.token_requests() == 1


def test_an_old_code_is_refused(logins: Any) -> None:
    """A code that waited longer than the source allows is told as such."""
    attempt = logins.begin()
    address = logins.redirect(attempt.authorization_url)
    logins.now.at += 31
    with pytest.raises(CallbackError, match="older than 30 s"):
        attempt.exchange(address)


def test_a_redirect_outside_the_allowlist_is_refused(logins: Any) -> None:
    """The redirect address must stand in the allowlist to the letter."""
    with pytest.raises(CallbackError, match="the match is exact"):
        logins.client(redirect_allowlist=[logins.redirect_uri + "/"])


# --- refresh


@pytest.mark.parametrize("rotation", ["same", "rotate", "omit"])
def test_refreshes_whatever_the_source_does_with_the_refresh_token(logins: Any, rotation: str) -> None:
    """Three refreshes in a row work whether the refresh token is repeated, rotated or left out."""
    logins.simulator.desk.rotation = rotation
    logins.log_in()
    access = StoredAccessTokens(logins.store, logins.client().refresh)
    seen = set()
    for _ in range(4):
        seen.add(asyncio.run(access.access_token()))
        logins.now.at += 1750
    assert len(seen) == 4
    assert logins.store.load().generation == 4


@pytest.mark.parametrize("kind", ["revoked", "digest", "old_style"])
def test_a_dead_refresh_token_is_known_in_each_recorded_shape(logins: Any, kind: Any) -> None:
    """Whatever way the source puts it, the answer is a new login."""
    logins.simulator.desk.dead_token = kind
    stored = logins.log_in()
    logins.simulator.desk.revoke()
    with pytest.raises(LoginRequiredError, match="Run `trade-analyst login`"):
        logins.client().refresh(stored.refresh_token)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (faults.app_refused(), ClientCredentialsError, "TRADE_ANALYST_APP_KEY"),
        (faults.app_pending(), AuthUnavailableError, "'Ready For Use'"),
        (faults.access_denied(), AuthUnavailableError, "leave VPNs and proxies"),
        (faults.server_error(), AuthUnavailableError, "Ask again later"),
    ],
)
def test_failures_of_a_refresh_are_explained(logins: Any, change: Any, kind: type[AuthError], words: str) -> None:
    """Each failure of the token endpoint has its error and advice, and the next refresh works."""
    stored = logins.log_in()
    logins.simulator.faults.add(change, path="/v1/oauth/token")
    with pytest.raises(kind, match=words) as caught:
        logins.client().refresh(stored.refresh_token)
    assert type(caught.value) is kind
    assert logins.client().refresh(stored.refresh_token).lifetime_seconds == 1800.0


def test_a_wrong_secret_is_told(logins: Any) -> None:
    """The advice names the settings."""
    with pytest.raises(ClientCredentialsError, match="TRADE_ANALYST_APP_SECRET"):
        logins.client(app_secret=SecretStr("x")).refresh(SecretStr("r"))


def test_variables_of_the_environment_change_nothing(logins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CA bundles and proxies named in the environment are not used, neither for the exchange nor for the refresh."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    attempt = logins.begin()
    grant = attempt.exchange(logins.redirect(attempt.authorization_url))
    assert logins.client().refresh(grant.refresh_token).lifetime_seconds == 1800.0


def test_an_untrusted_token_endpoint_gets_nothing(logins: Any) -> None:
    """Without its CA the endpoint is not asked."""
    with pytest.raises(AuthUnavailableError, match="SSLError"):
        logins.client(ca_file=None).refresh(SecretStr("r"))
    assert logins.token_requests() == 0


def test_redirects_of_the_token_endpoint_are_not_followed(wire: Any) -> None:
    """A 307 would carry the refresh token elsewhere: it is an error after one request."""
    error, server = wire.refused_refresh(wire.answer(307, Location="/elsewhere"))
    assert type(error) is AuthUnavailableError
    assert len(server.requests) == 1


# --- access tokens for the client


def fetching(logins: Any, access: StoredAccessTokens, times: int) -> list[Any]:
    """Fetch a quote several times, one after the other: answers or errors."""

    async def scene() -> list[Any]:
        clock = SimulatedClock(logins.simulator.market_instant)
        results: list[Any] = []
        async with open_http(ca_file=logins.simulator.ca_file, in_flight=6) as http:
            client = SchwabClient(
                base_url=logins.simulator.at(clock.start),
                http=http,
                tokens=access,
                budget=RequestBudget(per_minute=120, clock=clock, state_file=None),
                clock=clock,
                rng=random.Random(7),  # noqa: S311 - seeded jitter
            )
            for _ in range(times):
                try:
                    results.append(await client.fetch(QUOTE))
                except (AuthError, SourceError) as error:
                    results.append(error)
        return results

    return asyncio.run(scene())


@pytest.fixture
def access(logins: Any, wire: Any) -> StoredAccessTokens:
    """Access tokens after a login."""
    logins.log_in()
    logins.simulator.market_instant = wire.start
    return StoredAccessTokens(logins.store, logins.client().refresh)


def test_a_quote_from_the_simulator(logins: Any, access: StoredAccessTokens) -> None:
    """The client with stored tokens gets an answer at the first attempt."""
    (response,) = fetching(logins, access, 1)
    assert response.attempts == 1
    assert list(json.loads(response.body)) == ["BRK/B"]


def test_access_tokens_that_end_in_mid_run(logins: Any, access: StoredAccessTokens) -> None:
    """The source ends all access tokens: one refresh, one repeat, and the run goes on."""
    logins.simulator.desk.expire_access()
    first, second = fetching(logins, access, 2)
    assert (first.attempts, second.attempts) == (2, 1)
    assert logins.token_requests() == 2


def test_a_login_elsewhere_is_one_clear_message(logins: Any, access: StoredAccessTokens) -> None:
    """Tokens killed by the source: one refused refresh, then the message without a request; a login heals."""
    logins.simulator.desk.revoke()
    errors = fetching(logins, access, 4)
    assert [type(error) for error in errors] == [LoginRequiredError] * 4
    assert all("Run `trade-analyst login`" in str(error) for error in errors)
    assert logins.token_requests() == 2
    logins.log_in()
    assert fetching(logins, access, 1)[0].attempts == 1


def test_a_dead_refresh_token_is_not_sent_twice(logins: Any, access: StoredAccessTokens) -> None:
    """With the access token at its end too, four calls make one token request and no other."""
    logins.simulator.desk.revoke()
    logins.now.at += 1800
    before = logins.simulator.requests["/quotes"]
    errors = fetching(logins, access, 4)
    assert [type(error) for error in errors] == [LoginRequiredError] * 4
    assert logins.token_requests() == 2
    assert logins.simulator.requests["/quotes"] == before


def test_a_source_that_refuses_every_token_is_not_asked_for_more_and_more(
    logins: Any, access: StoredAccessTokens
) -> None:
    """An app without the market-data product: calls fail with the advice, and refresh once, not once each."""
    logins.simulator.faults.add(faults.unauthorized(), path="/quotes", times=None)
    errors = fetching(logins, access, 5)
    assert [type(error) for error in errors] == [NotAuthorizedError] * 5
    assert logins.token_requests() == 2
    logins.now.at += 11
    fetching(logins, access, 1)
    assert logins.token_requests() == 3


def test_an_outage_of_the_token_endpoint_is_bridged(logins: Any, access: StoredAccessTokens) -> None:
    """While the present token lives it is used, and the endpoint is left alone for a while; at its end it is told."""
    logins.simulator.faults.add(faults.server_error(), path="/v1/oauth/token", times=None)
    logins.now.at += 1745
    present = logins.store.load().access_token.get_secret_value()
    assert [asyncio.run(access.access_token()) for _ in range(3)] == [present] * 3
    assert logins.token_requests() == 2
    logins.now.at += 31
    assert asyncio.run(access.access_token()) == present
    assert logins.token_requests() == 3
    logins.now.at += 30
    with pytest.raises(AuthUnavailableError, match="500"):
        asyncio.run(access.access_token())
    logins.simulator.faults.clear()
    logins.now.at += 11
    assert asyncio.run(access.access_token()) != present


@pytest.mark.parametrize(
    ("change", "kind", "rest"),
    [(faults.server_error(), SourceUnavailableError, 10), (faults.app_refused(), ClientCredentialsError, 300)],
)
def test_fifty_calls_that_cannot_have_a_token_ask_for_one_once(
    logins: Any, access: StoredAccessTokens, change: Any, kind: type[Exception], rest: float
) -> None:
    """With a token at its end and an outage or a wrong secret: one token request, then none until the rest is over."""
    logins.simulator.faults.add(change, path="/v1/oauth/token", times=None)
    logins.now.at += 1800
    errors = fetching(logins, access, 50)
    assert {type(error) for error in errors} == {kind}
    assert logins.token_requests() == 2
    logins.now.at += rest
    assert len(fetching(logins, StoredAccessTokens(logins.open_store(), logins.client().refresh), 5)) == 5
    assert logins.token_requests() == 3
    logins.simulator.faults.clear()
    logins.now.at += rest
    assert fetching(logins, access, 1)[0].attempts == 1


def test_tasks_of_one_process_share_one_refresh(logins: Any, access: StoredAccessTokens) -> None:
    """Twenty tasks that find the token stale make one token request."""
    logins.now.at += 1750

    async def scene() -> set[str]:
        return set(await asyncio.gather(*(access.access_token() for _ in range(20))))

    assert len(asyncio.run(scene())) == 1
    assert logins.token_requests() == 2


def test_a_good_token_costs_no_network_and_no_thread(
    logins: Any, access: StoredAccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a token that is good does not leave the event loop."""

    async def forbidden(*_: Any) -> Any:
        pytest.fail("a thread was used")

    monkeypatch.setattr(asyncio, "to_thread", forbidden)
    for _ in range(100):
        asyncio.run(access.access_token())
    assert logins.token_requests() == 1


# --- secrets


def test_nothing_secret_is_logged_or_shown(logins: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Login, refresh and refusals with every logger at DEBUG: no key, secret, code, state, verifier or token."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("requests_oauthlib.oauth2_session").setLevel(logging.DEBUG)
    secrets = {"secret": "CANARY-secret"}  # pragma: allowlist secret  a made-up canary
    logins.simulator.desk._app_secret = secrets["secret"]
    client = logins.client(app_secret=SecretStr(secrets["secret"]))
    attempt = client.begin_login(ledger=logins.ledger, seconds=300)
    secrets["state"] = attempt.expected.state.get_secret_value()
    secrets["verifier"] = attempt._session._code_verifier
    address = logins.redirect(attempt.authorization_url)
    caplog.clear()  # the browser's stand-in is no part of the product and logs its address
    secrets["code"] = re.search(r"code=([^&%]+)", address.get_secret_value())[1]
    stored = logins.store.save_login(attempt.exchange(address))
    secrets |= {"access": stored.access_token.get_secret_value(), "refresh": stored.refresh_token.get_secret_value()}
    client.refresh(stored.refresh_token)
    logins.simulator.desk.revoke()
    shown = [repr(vars(client)), repr(attempt.expected), repr(stored)]
    for act in (
        lambda: client.refresh(stored.refresh_token),
        lambda: attempt.exchange(address),
        lambda: logins.client(app_secret=SecretStr("another")).refresh(stored.refresh_token),
        lambda: logins.client(ca_file=None).refresh(stored.refresh_token),
        lambda: attempt.expected.read(SecretStr(address.get_secret_value() + "&code=2")),
    ):
        with pytest.raises(AuthError) as caught:
            act()
        below = caught.value.with_traceback(caught.tb.tb_next)  # without this test's frame, which knows everything
        shown.extend(traceback.TracebackException.from_exception(below, capture_locals=True).format())
        shown.append(str(caught.value))
    text = "\n".join([*shown, caplog.text, *(repr(vars(record)) for record in caplog.records)])
    assert len(caplog.records) > 5
    assert [name for name, value in secrets.items() if value in text] == []


def test_control_the_library_alone_logs_secrets(logins: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The scan is able to fail: with its filter taken off the OAuth library's log quotes the token."""
    caplog.set_level(logging.DEBUG)
    stored = logins.log_in()
    client = logins.client()
    library = logging.getLogger("requests_oauthlib.oauth2_session")
    filters, library.filters = library.filters, []
    try:
        client.refresh(stored.refresh_token)
    finally:
        library.filters = filters
    assert stored.refresh_token.get_secret_value().rstrip("@") in caplog.text


def test_a_secret_with_a_colon_is_masked_as_a_whole(logins: Any) -> None:
    """Its pieces are no secrets: a short one would be masked all over the logs."""
    logins.client(app_secret=SecretStr("left-part-of-it:hours"))  # pragma: allowlist secret  made up
    assert redact("left-part-of-it:hours") == "[secret]"
    assert redact("after some hours of left-part-of-it") == "after some hours of left-part-of-it"


def test_grants_hide_their_tokens() -> None:
    """A grant's repr shows no token."""
    assert "CANARY" not in repr(TokenGrant(SecretStr("CANARY"), SecretStr("CANARY"), 1.0))
