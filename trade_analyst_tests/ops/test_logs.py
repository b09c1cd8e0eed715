"""Log lines hold no secret in any form, and one record is one bounded line."""

import base64
import io
import json
import logging
from urllib.parse import quote

import pytest
import structlog

from trade_analyst_pipeline.ops import logs

# What each secret place would hold; the shapes are the source's, the values are made up.
CANARIES = {
    "app_key": "kAnArYaPpKeY0123456789abcdefghij",  # pragma: allowlist secret
    "app_secret": "sEcReT/cAnArY+42",  # pragma: allowlist secret
    "access_token": "I0.Y2FuYXJ5YWNjZXNzdG9rZW4tMTIz@",
    "refresh_token": "rEfReSh~CaNaRy_0123456789/+abc@",
    "id_token": "eyJhbGciOiJSUzI1NiJ9.eyJjYW5hcnkiOiJ0cnVlIn0.c2lnbmF0dXJl",  # pragma: allowlist secret
    "code": "C0.b2F1dGgyLmNhbmFyeWNvZGUtNDU2@",
    "state": "sTaTe-CaNaRy-9f8e7d6c5b4a",
    "streamer_token": "StReAmEr CaNaRy token+/=",
    "customer_id": "canary-customer-7d1f2e3a",
    "correl_id": "canary-correl-5c4b3a29-1807",
    "account_number": "98765432canary",
    "fernet_key": "Y2FuYXJ5LWZlcm5ldC1rZXktMDEyMzQ1Njc4OS1hYmNkZWY=",  # pragma: allowlist secret
}


def encodings(secret: str) -> list[str]:
    """The ways a secret may show up in a text, worked out apart from the code under test."""
    inside = base64.b64encode(f"user:{secret}".encode()).decode()
    tail = inside[8:-4]  # past "user:" and short of the padding, so all of it comes from the secret
    return [
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        base64.b64encode(secret.encode()).decode()[:-4],
        tail,
    ]


def hits(text: str) -> list[str]:
    """Names of the canaries found in a text, in any encoding."""
    return [name for name, secret in CANARIES.items() if any(form in text for form in encodings(secret))]


def leak_everything() -> None:
    """Log each canary in every way somebody might by mistake."""
    plain, structured = logging.getLogger("careless"), structlog.get_logger("careless")
    for name, secret in CANARIES.items():
        plain.info("%s is %s", name, secret)
        plain.warning("url https://127.0.0.1/callback?x=1&v=%s&session=1", quote(secret, safe=""))
        plain.debug("header %s", base64.b64encode(f"user:{secret}".encode()).decode())
        plain.info("extra", extra={name: secret})
        plain.info(json.dumps({"nested": {"value": secret}}))
        structured.info("event", **{name: secret}, other=[{"deep": secret}])
        try:
            int(secret)
        except ValueError:
            plain.exception("crash")


@pytest.mark.reliability
def test_no_canary_reaches_the_log(log_stream: io.StringIO) -> None:
    """Twelve registered secrets logged in seven ways, four encodings, all levels on: none is in the output."""
    for secret in CANARIES.values():
        logs.register_secret(secret)
    leak_everything()
    assert log_stream.getvalue().count("\n") == 7 * len(CANARIES)
    assert hits(log_stream.getvalue()) == []


@pytest.mark.reliability
def test_control_without_the_filter_shows_every_canary(
    log_stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With redaction switched off the same scan finds all twelve: the scan can see what it looks for."""
    monkeypatch.setattr(logs, "redact", lambda text: text)
    monkeypatch.setattr(logs, "redact_value", lambda value, _key="": value)
    leak_everything()
    assert sorted(hits(log_stream.getvalue())) == sorted(CANARIES)


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
    assert logs.redact(text) == expected


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
    expected = {"outer": [{key: logs.MASK if is_secret else 42}]}
    assert logs.redact_value({"outer": [{key: 42}]}) == expected


def test_one_record_is_one_bounded_ascii_line(log_stream: io.StringIO) -> None:
    """Line breaks, escape codes, non-ASCII text and a megabyte of data still make one ASCII line of at most 8 KiB."""
    logging.getLogger("wild").warning("a\nb\r\x1b[31m é %s", "x" * 1_000_000)
    structlog.get_logger("wild").info("many", **{f"field_{number}": "é" * 4000 for number in range(5)})
    lines = log_stream.getvalue().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) <= 8192
        assert json.loads(line)["is_cut"] is True


def test_record_carries_level_logger_time_and_run(log_stream: io.StringIO) -> None:
    """A line says when, who and how bad, and which Dagster run and step it belongs to."""
    extra = {"dagster_meta": {"run_id": "r-1", "step_key": "tables", "job_name": "capture", "orig_message": "hello"}}
    logging.getLogger("trade_analyst_pipeline.x").error("r-1 - hello", extra=extra)
    line = json.loads(log_stream.getvalue())
    assert line["event"] == "hello"
    assert (line["level"], line["logger"]) == ("error", "trade_analyst_pipeline.x")
    assert (line["run_id"], line["step_key"], line["job_name"]) == ("r-1", "tables", "capture")
    assert line["timestamp"].endswith("Z")


def test_talkative_libraries_stay_quiet_at_debug(log_stream: io.StringIO) -> None:
    """HTTP, WebSocket and OAuth libraries write nothing below WARNING even when everything else is at DEBUG."""
    for name in ("httpx", "httpcore.http11", "websockets.client", "oauthlib.oauth2", "requests_oauthlib"):
        logging.getLogger(name).info("GET https://127.0.0.1/?code=secret")
    assert log_stream.getvalue() == ""
    logging.getLogger("httpx").warning("heard")
    assert "heard" in log_stream.getvalue()


def test_arguments_that_do_not_fit_the_format_are_not_shown(log_stream: io.StringIO) -> None:
    """A broken log call writes its format and drops the arguments, secret or not, instead of failing."""
    logging.getLogger("broken").warning("%d items", "sEcReT/cAnArY+42")
    assert json.loads(log_stream.getvalue())["event"] == "%d items"


def test_short_values_are_not_registered(log_stream: io.StringIO) -> None:
    """A secret of a few letters would mask half of every text and is left to its key's name."""
    logs.register_secret("abc")
    logging.getLogger("x").info("abcdef")
    assert json.loads(log_stream.getvalue())["event"] == "abcdef"


def test_terminal_gets_readable_lines(log_stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a record is a line for people, masked like any other."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    logs.configure_logging(stream=terminal)
    structlog.get_logger("x").info("signed in", access_token="I0.abcdefgh12345678@")
    assert "signed in" in terminal.getvalue()
    assert "[secret]" in terminal.getvalue()
    assert log_stream.getvalue() == ""
