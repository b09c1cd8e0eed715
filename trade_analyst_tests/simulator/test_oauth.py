"""Log-in over a real socket: consent, codes, tokens, lifetimes and refusals."""

import base64
import hashlib
import json
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from visiting import SEED, MachineClock, Visitor, trusting

from trade_analyst_pipeline.simulator import faults
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import DeskOptions, OAuthDesk
from trade_analyst_pipeline.simulator.server import SimulatorServer

REDIRECT = "https://127.0.0.1:8182/callback"


def test_consent_redirects_with_a_code(visitor: Visitor) -> None:
    """The code has three parts, the middle one the host in base64, and ends in %40; state comes back unchanged."""
    response = visitor.consent(state="a b&c")
    location = response.headers["location"]
    query = parse_qs(urlsplit(location).query)
    assert response.status_code == 302
    assert location.startswith(f"{REDIRECT}?code=C0.b2F1dGgyLmJkYy5zY2h3YWIuY29t.")
    assert "%40&session=" in location
    assert query["code"][0].endswith("@")
    assert len(query["code"][0].split(".")) == 3
    assert query["state"] == ["a b&c"]


def test_without_state_none_comes_back(visitor: Visitor) -> None:
    """State is optional."""
    assert "state" not in parse_qs(urlsplit(visitor.consent().headers["location"]).query)


@pytest.mark.parametrize(
    "uri", ["https://127.0.0.1:8182/callback/", "https://127.0.0.1/callback", "HTTPS://127.0.0.1:8182/callback", ""]
)
def test_the_redirect_address_matches_exactly(visitor: Visitor, uri: str) -> None:
    """Slash, port and case count; a mismatch is a page, never a redirect."""
    response = visitor.consent(redirect_uri=uri)
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("text/html")
    assert "location" not in response.headers


def test_an_unknown_app_is_refused(visitor: Visitor) -> None:
    """Wrong client id on authorize, wrong secret on token: 401 invalid_client."""
    for response in (
        visitor.consent(client_id="x" * 32),
        visitor.ask_token(
            secret="wrong",  # pragma: allowlist secret
            grant_type="refresh_token",
        ),
    ):
        assert response.status_code == 401
        assert response.json() == {"error": "invalid_client", "error_description": "Unauthorized"}


def test_a_code_becomes_tokens(visitor: Visitor) -> None:
    """The answer has the documented fields; the access token works for market data."""
    tokens = visitor.exchange(visitor.code()).json()
    assert list(tokens) == ["expires_in", "token_type", "scope", "refresh_token", "access_token", "id_token"]
    assert (tokens["expires_in"], tokens["token_type"], tokens["scope"]) == (1800, "Bearer", "api")
    assert tokens["access_token"].startswith("I0.")
    assert tokens["access_token"].endswith("@")
    visitor.tokens = tokens
    assert visitor.get("/quotes", symbols="AAPL").status_code == 200


def test_a_code_works_once_and_for_thirty_seconds(visitor: Visitor, machine_clock: MachineClock) -> None:
    """A second use and a use after 31 seconds are refused; after 29 seconds it still works."""
    code = visitor.code()
    assert visitor.exchange(code).status_code == 200
    assert visitor.exchange(code).json()["error"] == "invalid_grant"
    early, late = visitor.code(), visitor.code()
    machine_clock.seconds += 29
    assert visitor.exchange(early).status_code == 200
    machine_clock.seconds += 2
    response = visitor.exchange(late)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")


def test_a_code_is_bound_to_its_redirect_address(visitor: Visitor) -> None:
    """Another address at the exchange is refused, and so is a code that was not decoded."""
    assert visitor.exchange(visitor.code(), redirect_uri="https://127.0.0.1:9999/").status_code == 400
    assert visitor.exchange(visitor.code().replace("@", "%40")).status_code == 400


def test_the_verifier_is_checked_when_a_challenge_was_given(visitor: Visitor) -> None:
    """PKCE S256: the right verifier passes, a wrong or missing one does not, plain is refused."""
    verifier = "v" * 50
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    sent = {"code_challenge": challenge, "code_challenge_method": "S256"}
    assert visitor.exchange(visitor.code(**sent), code_verifier=verifier).status_code == 200
    assert visitor.exchange(visitor.code(**sent), code_verifier="w" * 50).status_code == 400
    assert visitor.exchange(visitor.code(**sent)).status_code == 400
    assert visitor.consent(code_challenge=challenge, code_challenge_method="plain").status_code == 400


def test_an_access_token_lives_half_an_hour(visitor: Visitor, machine_clock: MachineClock) -> None:
    """It works at 1799 seconds and is a 401 at 1801; a refresh brings another one."""
    machine_clock.seconds += 1799
    assert visitor.get("/quotes", symbols="AAPL").status_code == 200
    machine_clock.seconds += 2
    response = visitor.get("/quotes", symbols="AAPL")
    assert response.status_code == 401
    (error,) = response.json()["errors"]
    assert (error["status"], error["title"], error["detail"]) == (401, "Unauthorized", "Client not authorized")
    visitor.tokens = visitor.ask_token(grant_type="refresh_token", refresh_token=visitor.tokens["refresh_token"]).json()
    assert visitor.get("/quotes", symbols="AAPL").status_code == 200


def test_a_refresh_token_lives_seven_days_from_the_log_in(visitor: Visitor, machine_clock: MachineClock) -> None:
    """Refreshing does not lengthen it; when dead it is a 400 whose reason is JSON inside a text."""
    refresh = visitor.tokens["refresh_token"]
    for _ in range(6):
        machine_clock.seconds += 86400
        assert visitor.ask_token(grant_type="refresh_token", refresh_token=refresh).status_code == 200
    machine_clock.seconds += 86400
    response = visitor.ask_token(grant_type="refresh_token", refresh_token=refresh)
    body = response.json()
    assert response.status_code == 400
    assert body["error"] == "unsupported_token_type"
    assert body["error_description"].startswith('400 Bad Request: "')
    assert json.loads(body["error_description"].removeprefix('400 Bad Request: "')[:-1])["error"] == "invalid_grant"


def test_what_a_refresh_does_with_its_token_is_a_switch(visitor: Visitor) -> None:
    """same: repeated; rotate: a new one and the old one is dead; omit: not in the answer."""
    refresh = visitor.tokens["refresh_token"]
    assert visitor.ask_token(grant_type="refresh_token", refresh_token=refresh).json()["refresh_token"] == refresh
    visitor.server.desk.rotation = "omit"
    assert "refresh_token" not in visitor.ask_token(grant_type="refresh_token", refresh_token=refresh).json()
    visitor.server.desk.rotation = "rotate"
    newer = visitor.ask_token(grant_type="refresh_token", refresh_token=refresh).json()["refresh_token"]
    assert newer != refresh
    assert visitor.ask_token(grant_type="refresh_token", refresh_token=refresh).status_code == 400
    assert visitor.ask_token(grant_type="refresh_token", refresh_token=newer).status_code == 200


def test_a_new_log_in_ends_the_old_tokens(visitor: Visitor) -> None:
    """After a second log-in the first access and refresh tokens are dead at once."""
    old = visitor.tokens
    fresh = visitor.exchange(visitor.code()).json()
    assert visitor.get("/quotes", symbols="AAPL").status_code == 401
    assert visitor.ask_token(grant_type="refresh_token", refresh_token=old["refresh_token"]).status_code == 400
    visitor.tokens = fresh
    assert visitor.get("/quotes", symbols="AAPL").status_code == 200


def test_other_grants_are_refused(visitor: Visitor) -> None:
    """client_credentials is no way in, nor is another response type than code."""
    assert visitor.ask_token(grant_type="client_credentials").json()["error"] == "unsupported_grant_type"
    assert visitor.consent(response_type="token").status_code == 400


def test_a_person_may_have_to_agree(visitor: Visitor) -> None:
    """With automatic consent off a page comes first; following its link gives the code."""
    visitor.server.desk.is_consent_automatic = False
    page = visitor.consent(state="s")
    assert page.status_code == 200
    assert "Allow access" in page.text
    assert visitor.consent(state="s", consent="granted").status_code == 302


def test_tokens_can_be_ended_by_a_test(visitor: Visitor) -> None:
    """expire_access ends access tokens only, revoke also the refresh token."""
    desk = visitor.server.desk
    desk.expire_access()
    assert not desk.accepts(visitor.tokens["access_token"])
    refresh = visitor.tokens["refresh_token"]
    assert visitor.ask_token(grant_type="refresh_token", refresh_token=refresh).status_code == 200
    desk.revoke()
    assert visitor.ask_token(grant_type="refresh_token", refresh_token=refresh).status_code == 400


# --- behaviour on demand


def refreshed(visitor: Visitor, token: str) -> Any:
    """The answer to a refresh."""
    return visitor.ask_token(grant_type="refresh_token", refresh_token=token)


def test_grants_are_counted(visitor: Visitor) -> None:
    """One exchange, two refreshes with their times, one refusal, no reuse."""
    desk = visitor.server.desk
    before = (desk.exchanges, desk.refreshes, desk.refusals, desk.reuses)
    visitor.log_in()
    for _ in range(2):
        refreshed(visitor, visitor.tokens["refresh_token"])
    refreshed(visitor, "never issued")
    after = (desk.exchanges, desk.refreshes, desk.refusals, desk.reuses)
    assert [now - then for then, now in zip(before, after, strict=True)] == [1, 2, 1, 0]
    assert list(desk.refresh_times)[-2:] == [MachineClock().seconds] * 2


@pytest.mark.parametrize("single_use", [False, True])
def test_a_replaced_refresh_token_used_again(visitor: Visitor, single_use: bool) -> None:
    """It is refused and counted; with single_use_refresh that ends the whole login, access tokens too."""
    desk = visitor.server.desk
    desk.rotation, desk.single_use_refresh = "rotate", single_use
    before, old = desk.reuses, visitor.tokens["refresh_token"]
    visitor.tokens = refreshed(visitor, old).json()
    assert refreshed(visitor, old).status_code == 400
    assert desk.reuses - before == 1
    assert desk.accepts(visitor.tokens["access_token"]) is not single_use
    assert refreshed(visitor, visitor.tokens["refresh_token"]).status_code == (400 if single_use else 200)


def test_a_refresh_token_of_an_older_login_harms_nobody(visitor: Visitor) -> None:
    """Used after a new login it is refused, but the new login lives on."""
    desk = visitor.server.desk
    desk.rotation, desk.single_use_refresh = "rotate", True
    before, old = desk.reuses, visitor.tokens["refresh_token"]
    refreshed(visitor, old)
    visitor.log_in()
    assert refreshed(visitor, old).status_code == 400
    assert desk.reuses == before
    assert refreshed(visitor, visitor.tokens["refresh_token"]).status_code == 200


def test_the_recorded_refusals_of_a_dead_refresh_token(visitor: Visitor) -> None:
    """Two shapes hold a JSON text inside a text, the oldest is plain; all are 400 (schwab-api 1.7)."""
    desk = visitor.server.desk
    found = {}
    for kind in ("revoked", "digest", "old_style"):
        desk.dead_token = kind
        response = refreshed(visitor, "dead")
        assert response.status_code == 400
        found[kind] = response.json()
    for kind in ("revoked", "digest"):
        assert found[kind]["error"] == "unsupported_token_type"
        assert found[kind]["error_description"].startswith('400 Bad Request: "')
    inner = [json.loads(found[kind]["error_description"][18:-1]) for kind in ("revoked", "digest")]
    assert [item["error"] for item in inner] == ["invalid_grant", "refresh_token_authentication_error"]
    assert "tokenDigest" in inner[1]["error_description"]
    assert found["old_style"] == {"error": "invalid_client", "error_description": "refresh token invalid"}


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (faults.token_dead("digest"), 400, "refresh_token_authentication_error"),
        (faults.token_dead(), 400, "invalid_grant"),
        (faults.app_refused(), 401, "invalid_client"),
        (faults.app_pending(), 500, "Whitelabel Error Page"),
        (faults.server_error(), 500, "Internal Server Error"),
        (faults.access_denied(), 403, "Access Denied"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/oauth/token", "/v1/oauth/authorize"])
def test_failures_of_the_oauth_pages(
    visitor: Visitor, change: faults.Change, status: int, text: str, path: str
) -> None:
    """Each can be had once, on the token endpoint and on the authorize page."""
    visitor.server.faults.add(change, path=path)

    def ask() -> Any:
        return visitor.consent() if "authorize" in path else refreshed(visitor, visitor.tokens["refresh_token"])

    response = ask()
    assert response.status_code == status
    assert text in response.text
    assert ask().status_code in (200, 302)


def desk_with(clock: MachineClock, **options: Any) -> OAuthDesk:
    """A desk without a server."""
    return OAuthDesk(machine_now=clock, **options)


def tokens_of(desk: OAuthDesk) -> dict[str, Any]:
    """The answer to a whole login at a desk."""
    asked = {"client_id": desk._app_key, "redirect_uri": REDIRECT}
    location = dict(desk.authorize(asked).headers)["location"]
    code = parse_qs(urlsplit(location).query)["code"][0]
    secret = base64.b64encode(f"{desk._app_key}:{desk._app_secret}".encode()).decode()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
    answer = desk.token(f"Basic {secret}", form)
    return {"status": answer.status, **json.loads(answer.body)}


def test_lifetimes_can_be_chosen() -> None:
    """An access token of 2 s says so and ends so; a code of 0 s is too old at once; a login of 5 s ends with it."""
    clock = MachineClock()
    desk = desk_with(clock, access_seconds=2, refresh_seconds=5.0)
    tokens = tokens_of(desk)
    assert tokens["expires_in"] == 2
    clock.seconds += 1.9
    assert desk.accepts(tokens["access_token"])
    clock.seconds += 0.1
    assert not desk.accepts(tokens["access_token"])
    assert json.loads(desk._renew(tokens["refresh_token"]).body)["expires_in"] == 2
    clock.seconds += 3.0
    assert desk._renew(tokens["refresh_token"]).status == 400
    assert tokens_of(desk_with(clock, code_seconds=-1.0))["error"] == "invalid_grant"


def test_the_sources_clock_may_stand_elsewhere(visitor: Visitor) -> None:
    """Its Date header shows it; a jump of it ends tokens early."""
    desk = visitor.server.desk
    desk.clock_skew_seconds = 100.0
    response = visitor.get("/quotes", symbols="AAPL")
    assert parsedate_to_datetime(response.headers["date"]).timestamp() == MachineClock().seconds + 100.0
    assert response.headers.get_list("date") == [response.headers["date"]]
    desk.clock_skew_seconds = 1801.0
    assert visitor.get("/quotes", symbols="AAPL").status_code == 401


def test_a_slow_token_endpoint(visitor: Visitor) -> None:
    """It keeps the answer back after having acted; others are answered meanwhile."""
    desk = visitor.server.desk
    desk.answer_seconds = 0.3
    begin = time.monotonic()
    assert refreshed(visitor, visitor.tokens["refresh_token"]).status_code == 200
    assert time.monotonic() - begin >= 0.3
    begin = time.monotonic()
    assert visitor.get("/quotes", symbols="AAPL").status_code == 200
    assert time.monotonic() - begin < 0.3


def test_a_server_takes_the_desks_options(market: Market, tmp_path: Path) -> None:
    """Options given to the server are the desk's."""
    options: DeskOptions = {"access_seconds": 7, "rotation": "omit", "is_consent_automatic": False}
    with SimulatorServer(seed=SEED, market=market, ca_file=tmp_path / "ca.pem", **options) as server:
        desk = server.desk
        with trusting(server.ca_file) as http:
            assert "Allow access" in Visitor(server, http).consent().text
    assert (desk.access_seconds, desk.rotation, desk.code_seconds) == (7, "omit", 30.0)
