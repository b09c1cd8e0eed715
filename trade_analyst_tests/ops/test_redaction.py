"""What is secret is masked in every form it may take; what is not, stays readable."""

import base64
import html
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.errors import LoginRequiredError, RequestSummary, SourceUnavailableError
from trade_analyst_pipeline.ops import redaction
from trade_analyst_pipeline.schwab.auth import TokenClient
from trade_analyst_pipeline.schwab.token_answers import read_grant

SECRET = 'sEc/ReT+"ca >>>~~~\\é=42'  # its base64 has both + and /  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without secrets, and forget what a test registers."""
    monkeypatch.setattr(redaction, "_known", redaction._Known())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [secret]"),
        ("Authorization: Basic a2V5OnNlY3JldA==", "Authorization: Basic [secret]"),
        ("token I0.abcdefgh12345678@ used", "token [secret] used"),
        ("https://127.0.0.1/?code=C0.abcdefghijk%40&session=77", "https://127.0.0.1/?code=[secret]&session=[secret]"),
        ('{"refresh_token": "abc123", "expires_in": 1800}', '{"refresh_token": "[secret]", "expires_in": 1800}'),
        ("GET /marketdata/v1/chains?symbol=SPY&strikeCount=15", "GET /marketdata/v1/chains?symbol=SPY&strikeCount=15"),
        ("session_date=2026-01-05 status_code=429", "session_date=2026-01-05 status_code=429"),
    ],
)
def test_token_like_text_is_masked_without_being_registered(text: str, expected: str) -> None:
    """Bearer and Basic values, Schwab tokens and codes, and OAuth fields are masked; ordinary text is untouched."""
    assert redaction.redact(text) == expected


@pytest.mark.parametrize(
    ("key", "is_secret"),
    [
        ("app_secret", True),
        ("Authorization", True),
        ("schwabClientCorrelId", True),
        ("accountNumber", True),
        ("code", True),
        ("refresh_token", True),
        ("status_code", False),
        ("token_days_left", False),
        ("session_date", False),
        ("content_hash", False),
        ("symbol", False),
    ],
)
def test_values_under_secret_names_are_masked_whole(key: str, is_secret: bool) -> None:
    """A field named after a secret loses its value at any depth and of any type; others keep theirs."""
    expected = {"outer": [{key: redaction.MASK if is_secret else 42}]}
    assert redaction.redact_value({"outer": [{key: 42}]}) == expected


FORMS = {
    "raw": SECRET,
    "url": quote(SECRET, safe=""),
    "url in small letters": "sEc%2fReT%2b%22ca%20%3e%3e%3e~~~%5c%c3%a9%3d42",
    "form": quote_plus(SECRET),
    "url twice": quote(quote(SECRET, safe=""), safe=""),
    "json": json.dumps(SECRET)[1:-1],
    "json with escaped slashes": 'sEc\\/ReT+\\"ca >>>~~~\\\\\\u00e9=42',
    "json in json": json.dumps(json.dumps(SECRET))[3:-3],
    "repr": repr(SECRET)[1:-1],
    "html": html.escape(SECRET),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 after one letter": base64.b64encode(f"x{SECRET}".encode()).decode(),
    "base64 after two letters": base64.b64encode(f"xy{SECRET}".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(SECRET.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_registered_value_is_masked_in_each_form(form: str) -> None:
    """Sixteen spellings of a secret with quote, slash, plus, blank, backslash and accent: none is left in a text."""
    text = f"before {FORMS[form]} after"
    assert redaction.redact(text) == text
    redaction.register_secret(SECRET)
    masked = redaction.redact(text)
    assert FORMS[form][5:-6] not in masked  # letters at the edges of base64 belong to its neighbours too
    assert masked.startswith("before ")
    assert "[secret]" in masked
    assert masked.endswith(" after")


def test_value_registered_twice_is_one() -> None:
    """Registering again changes nothing, so that whoever reads a secret often may say so each time."""
    redaction.register_secret(SECRET)
    before = redaction._known.forms
    redaction.register_secret(SECRET)
    assert redaction._known.forms is before


def token(number: int) -> str:
    """A secret without the shape of one, as an encrypted or a made-up token may be."""
    return f"passing secret {number:06d}"


def test_passing_secrets_are_forgotten_in_their_order() -> None:
    """After three weeks of half-hourly tokens the last 64 are known, and what lasts was not pushed out."""
    redaction.register_secret(SECRET)
    for number in range(1000):
        redaction.register_secret(token(number), is_passing=True)
    masked = [number for number in range(1000) if redaction.redact(token(number)) == "[secret]"]
    assert masked == list(range(936, 1000))
    assert redaction.redact(SECRET) == "[secret]"
    per_secret = len(redaction.forms_of(SECRET)) + 64 * len(redaction.forms_of(token(0)))
    assert len(redaction._known.forms) <= per_secret


def test_passing_secret_in_use_is_not_forgotten() -> None:
    """A refresh token that stays the same is registered with each access token, and so stays known."""
    for number in range(1000):
        redaction.register_secret("the same refresh token", is_passing=True)
        redaction.register_secret(token(number), is_passing=True)
    assert redaction.redact("the same refresh token") == "[secret]"


def test_what_lasts_once_lasts() -> None:
    """A value known as both passing and lasting is never forgotten, whichever came first."""
    redaction.register_secret(SECRET, is_passing=True)
    redaction.register_secret(SECRET)
    redaction.register_secret("another that lasts")
    redaction.register_secret("another that lasts", is_passing=True)
    for number in range(100):
        redaction.register_secret(token(number), is_passing=True)
    assert redaction.redact(f"{SECRET} {'another that lasts'}") == "[secret] [secret]"


def test_what_the_token_endpoint_brings_is_passing() -> None:
    """Hundreds of renewals leave no more behind than their last tokens, while the app's credentials stay known."""
    TokenClient(
        base_url="https://api.example",
        app_key=SecretStr("key of the app"),
        app_secret=SecretStr("secret of the app"),
        redirect_uri="https://127.0.0.1/",
        redirect_allowlist=["https://127.0.0.1/"],
        ca_file=None,
    )
    for number in range(300):
        answer = {"access_token": f"access-{number:04d}", "refresh_token": "the-refresh-token", "id_token": "x" * 20}
        read_grant(200, json.dumps(answer | {"expires_in": 1800, "token_type": "Bearer"}).encode(), is_refresh=True)
    told = redaction.redact("key of the app, secret of the app, the-refresh-token, access-0299, access-0000")
    assert told == "[secret], [secret], [secret], [secret], access-0000"


def test_masking_and_registering_do_not_slow_down_with_time() -> None:
    """Counted in processor time: a line of a log after three weeks of renewals takes well under a millisecond."""
    for number in range(3000):
        redaction.register_secret(token(number), is_passing=True)
    started = time.process_time()
    for _ in range(100):
        redaction.redact("a log line of some length " * 40)
    assert time.process_time() - started < 0.5


def test_short_values_are_not_registered() -> None:
    """A secret of a few letters would mask half of every text and is left to its key's name."""
    redaction.register_secret("abc")
    assert redaction.redact("abcdef") == "abcdef"


def test_long_text_of_token_letters_is_read_once() -> None:
    """A megabyte that might be the beginning of a token at every letter takes well under a second."""
    started = time.process_time()
    assert redaction.redact("x" * 1_000_000) == "x" * 1_000_000
    assert redaction.redact("-eyJaaaaaaaa" * 20_000)
    assert time.process_time() - started < 2


def test_error_messages_are_masked_when_they_are_made() -> None:
    """Whatever text of a server or a library gets into an error of ours, a token in it does not."""
    redaction.register_secret(SECRET)
    assert str(LoginRequiredError(f"refused {SECRET}")) == "refused [secret]"
    summary = RequestSummary("quotes", "/quotes", ("AAPL",))
    error = SourceUnavailableError(summary, "server error: bad token I0.abcdefgh12345678@", "Ask again later.")
    assert str(error) == "quotes /quotes [AAPL]: server error: bad token [secret]. Ask again later."
    assert error.problem == "server error: bad token [secret]"
