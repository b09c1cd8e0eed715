"""One request without credentials tells whether the source answers, how fast, and what its clock says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trade_analyst_pipeline.errors import SourceUnavailableError, UntrustedServerError
from trade_analyst_pipeline.schwab.ping import PING_PATH, Ping, is_listening, ping

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def ticking(*offsets: float) -> Callable[[], datetime]:
    """A clock that stands at noon plus each of these seconds in turn."""
    instants = iter(offsets)
    return lambda: NOON + timedelta(seconds=next(instants))


def asked(wire: Any, *replies: Any, now: Callable[[], datetime], **options: Any) -> tuple[Ping, Any]:
    """The answer of a scripted server, and the server's record."""

    async def scene() -> tuple[Ping, Any]:
        async with wire.serving(*replies, **options) as server:
            found = await asyncio.to_thread(ping, server.url + "/", ca_file=wire.authority.file, seconds=5, now=now)
            return found, server

    return asyncio.run(asyncio.wait_for(scene(), 30))


def test_any_status_is_an_answer_and_its_date_is_compared(wire: Any) -> None:
    """Sent at noon and answered 2 s later with 12:00:10: the clock stands 9.5 s ahead of ours in between."""
    reply = wire.answer(401, b"{}", Date="Mon, 01 Jun 2026 12:00:10 GMT")
    found, _ = asked(wire, reply, now=ticking(0, 2))
    assert found == Ping(401, is_html=False, seconds=2.0, clock_offset=timedelta(seconds=9.5))


def test_nothing_secret_is_sent(wire: Any) -> None:
    """The request names the path and carries no credentials, no cookie and no body."""
    _, server = asked(wire, wire.answer(200, b"{}"), now=ticking(0, 0))
    assert server.requests[0].startswith(f"GET {PING_PATH} HTTP/1.1\r\n")
    assert server.header(0, "Authorization") is None
    assert server.header(0, "Cookie") is None


@pytest.mark.parametrize("date", [None, "yesterday", "", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_answer_without_a_time_has_no_offset(wire: Any, date: str | None) -> None:
    """A missing or unreadable Date header is unknown, not zero; a page is told as one."""
    headers = {} if date is None else {"Date": date}
    found, _ = asked(wire, wire.answer(403, b"<html>", kind="text/html; charset=utf-8", **headers), now=ticking(0, 1))
    assert found == Ping(403, is_html=True, seconds=1.0, clock_offset=None)


def test_date_without_a_zone_is_utc(wire: Any) -> None:
    """An old-style date names no zone."""
    found, _ = asked(wire, wire.answer(200, b"{}", Date="Mon, 01 Jun 2026 12:00:00 -0000"), now=ticking(0, 0))
    assert found.clock_offset == timedelta(seconds=0.5)


def test_redirect_is_not_followed(wire: Any) -> None:
    """A redirect is an answer like any other; nobody is asked elsewhere."""
    found, server = asked(wire, wire.answer(302, b"", Location="https://127.0.0.1:1/"), now=ticking(0, 0))
    assert found.status == 302
    assert len(server.requests) == 1


def test_untrusted_server_and_no_server_are_errors_of_ours(wire: Any) -> None:
    """A certificate for another name is not trusted; a closed port is no answer."""
    with pytest.raises(UntrustedServerError):
        asked(wire, wire.answer(200, b"{}"), now=ticking(0, 0), identity="127.0.0.2")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(SourceUnavailableError, match="Connection refused"):
            ping(address, ca_file=None, seconds=5, now=ticking(0))
        assert not is_listening(address, seconds=5)
    with pytest.raises(SourceUnavailableError):
        asked(wire, wire.raw(b"", close=True), now=ticking(0, 0))


def test_listening_is_told_without_a_word() -> None:
    """A listener counts even if it never answers; a name that cannot be resolved is not a refusal."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert is_listening(f"https://127.0.0.1:{server.getsockname()[1]}", seconds=5)
    assert is_listening("https://name.invalid", seconds=5)
