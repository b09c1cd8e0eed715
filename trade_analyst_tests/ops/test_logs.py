"""Log lines hold no secret in any form, and one record is one bounded line."""

import base64
import io
import json
import logging
import sys
import threading
import warnings
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import structlog

from trade_analyst_pipeline.ops import logs, redaction

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
        redaction.register_secret(secret)
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


def test_terminal_gets_readable_lines(log_stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a record is a line for people, masked like any other."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    logs.configure_logging(stream=terminal)
    structlog.get_logger("x").info("signed in", access_token="I0.abcdefgh12345678@")
    assert "signed in" in terminal.getvalue()
    assert "[secret]" in terminal.getvalue()
    assert log_stream.getvalue() == ""


def test_foreign_formatter_sees_a_masked_traceback_and_stack(log_stream: io.StringIO) -> None:
    """A handler that knows nothing of us prints neither the secret of an error nor one in the stack's source lines."""
    foreign = io.StringIO()
    handler = logging.StreamHandler(foreign)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("foreign")
    logger.addHandler(handler)
    try:
        int("I0.abcdefgh12345678@")
    except ValueError:
        logger.exception("crash", stack_info=True)  # the secret below is on the line shown in the stack
    logger.warning("where", stack_info=bool("I0.ijklmnop12345678@"))
    logger.removeHandler(handler)
    assert "ValueError: invalid literal for int() with base 10: '[secret]'" in foreign.getvalue()
    assert "Stack (most recent call last)" in foreign.getvalue()
    assert "I0." not in foreign.getvalue()
    assert "I0." not in log_stream.getvalue()


@pytest.mark.usefixtures("log_stream")
def test_what_python_prints_of_a_crash_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """Uncaught errors of the main thread, of another thread and of a destructor, and warnings, are shown masked."""
    logs.protect_crashes()
    try:
        int("I0.abcdefgh12345678@")
    except ValueError as error:
        found = (ValueError, error, error.__traceback__)
        sys.excepthook(*found)
        threading.excepthook(threading.ExceptHookArgs((*found, threading.current_thread())))
        threading.excepthook(threading.ExceptHookArgs((*found, None)))
        sys.unraisablehook(SimpleNamespace(exc_type=found[0], exc_value=error, exc_traceback=found[2]))  # type: ignore[arg-type]
    warnings.showwarning("token I0.abcdefgh12345678@", UserWarning, "file.py", 1)
    shown = capsys.readouterr().err
    assert shown.count("base 10: '[secret]'") == 4
    assert "UserWarning: token [secret]" in shown
    assert "MainThread" in shown
    assert "I0." not in shown


@pytest.mark.usefixtures("log_stream")
def test_thread_that_ends_itself_is_no_crash(capsys: pytest.CaptureFixture[str]) -> None:
    """`sys.exit` in a thread prints nothing, as without us, and neither does a destructor without an error."""
    logs.protect_crashes()
    threading.excepthook(threading.ExceptHookArgs((SystemExit, SystemExit(), None, None)))
    sys.unraisablehook(SimpleNamespace(exc_type=ValueError, exc_value=None, exc_traceback=None))  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""
