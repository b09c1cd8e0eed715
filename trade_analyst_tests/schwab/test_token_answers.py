"""What each answer of the token endpoint becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trade_analyst_pipeline.errors import (
    AuthUnavailableError,
    CallbackError,
    ClientCredentialsError,
    LoginRequiredError,
)
from trade_analyst_pipeline.schwab.token_answers import read_grant

GOOD: dict[str, Any] = {
    "expires_in": 1800,
    "token_type": "Bearer",
    "scope": "api",
    "refresh_token": "REFRESH@",
    "access_token": "I0.ACCESS@",
    "id_token": "x.y.z",
}


def nested(outer: str, inner: dict[str, str]) -> bytes:
    """An error whose description is `400 Bad Request: "` and another JSON text."""
    return json.dumps({"error": outer, "error_description": f'400 Bad Request: "{json.dumps(inner)}"'}).encode()


def flat(error: str, description: str = "") -> bytes:
    """A plain OAuth error."""
    return json.dumps({"error": error, "error_description": description}).encode()


def test_a_good_answer_is_a_grant() -> None:
    """Tokens and lifetime are taken as they are."""
    grant = read_grant(200, json.dumps(GOOD).encode(), is_refresh=False)
    assert grant.access_token.get_secret_value() == "I0.ACCESS@"
    assert grant.refresh_token is not None
    assert grant.refresh_token.get_secret_value() == "REFRESH@"
    assert grant.lifetime_seconds == 1800.0


def test_a_missing_refresh_token_is_none() -> None:
    """An answer may leave the refresh token out."""
    fields = {name: value for name, value in GOOD.items() if name != "refresh_token"}
    assert read_grant(200, json.dumps(fields).encode(), is_refresh=True).refresh_token is None


DEAD = nested("unsupported_token_type", {"error": "invalid_grant", "error_description": "Refresh token is invalid"})
REFUSALS = [
    # body, status, error on refresh, error on exchange
    (DEAD, 400, LoginRequiredError, CallbackError),
    (
        nested("unsupported_token_type", {"error": "refresh_token_authentication_error", "error_description": "d"}),
        400,
        LoginRequiredError,
        AuthUnavailableError,
    ),
    (flat("invalid_grant"), 400, LoginRequiredError, CallbackError),
    (flat("unsupported_token_type"), 400, LoginRequiredError, AuthUnavailableError),
    (flat("invalid_client", "refresh token invalid"), 401, LoginRequiredError, ClientCredentialsError),
    (flat("invalid_client", "Unauthorized"), 401, ClientCredentialsError, ClientCredentialsError),
    (flat("unauthorized_client"), 400, ClientCredentialsError, ClientCredentialsError),
    (flat("invalid_request"), 400, AuthUnavailableError, CallbackError),
    (flat("server_error"), 400, AuthUnavailableError, AuthUnavailableError),
    (flat("invalid_grant"), 503, AuthUnavailableError, AuthUnavailableError),
    (b"<html>Access Denied invalid_grant</html>", 403, AuthUnavailableError, AuthUnavailableError),
    (b"<html>Whitelabel Error Page</html>", 500, AuthUnavailableError, AuthUnavailableError),
    (b"", 400, AuthUnavailableError, AuthUnavailableError),
    (b'"invalid_grant"', 400, AuthUnavailableError, AuthUnavailableError),
    (b'{"error":"a","error":"invalid_grant"}', 400, AuthUnavailableError, AuthUnavailableError),
    (b"[" * 100_000, 400, AuthUnavailableError, AuthUnavailableError),
    (b'{"message":"limit"}', 429, AuthUnavailableError, AuthUnavailableError),
]


@pytest.mark.parametrize(("body", "status", "on_refresh", "on_exchange"), REFUSALS)
def test_refusals(body: bytes, status: int, on_refresh: type[Exception], on_exchange: type[Exception]) -> None:
    """Dead token, refused code, refused app and passing trouble are told apart, wherever the word stands."""
    for is_refresh, expected in ((True, on_refresh), (False, on_exchange)):
        with pytest.raises(expected) as caught:
            read_grant(status, body, is_refresh=is_refresh)
        assert type(caught.value) is expected


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "two\nlines"},
        {"access_token": 7},
        {"refresh_token": ""},
        {"refresh_token": 7},
        {"expires_in": None},
        {"expires_in": "1800"},
        {"expires_in": True},
        {"expires_in": 0},
        {"expires_in": 10**9},
        {"token_type": None},
        {"token_type": "mac"},
        {"error": "odd"},
    ],
)
def test_a_200_without_usable_tokens_is_trouble_that_may_pass(change: dict[str, Any]) -> None:
    """Nothing half usable is stored, and the answer is not quoted."""
    with pytest.raises(AuthUnavailableError) as caught:
        read_grant(200, json.dumps(GOOD | change).encode(), is_refresh=True)
    assert "ACCESS" not in str(caught.value)


def test_duplicate_keys_are_refused() -> None:
    """Two access tokens in one answer: neither is taken."""
    body = json.dumps(GOOD)[:-1] + ',"access_token":"other"}'
    with pytest.raises(AuthUnavailableError):
        read_grant(200, body.encode(), is_refresh=True)
