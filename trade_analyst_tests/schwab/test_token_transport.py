"""Every exchange with the token endpoint ends in time and within bounds, however the other side behaves."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from trade_analyst_pipeline.errors import AuthUnavailableError
from trade_analyst_pipeline.schwab import token_transport
from trade_analyst_pipeline.schwab.token_transport import BoundedAdapter

GOOD = b'{"access_token":"a","expires_in":1800,"token_type":"Bearer"}'
HEAD = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("case", ["dropped", "cut", "huge", "unzips to much", "junk", "endless headers"])
def test_broken_answers_of_the_token_endpoint(wire: Any, case: str) -> None:
    """Each is AuthUnavailableError after one request, at once."""
    reply = {
        "dropped": wire.raw(b"", close=True),
        "cut": wire.raw(HEAD + b"Content-Length: 99\r\n\r\n{", close=True),
        "huge": wire.answer(200, GOOD + b" " * 200_000),
        "unzips to much": wire.answer(200, wire.zipped(GOOD + b" " * (8 << 20)), Content_Encoding="gzip"),
        "junk": wire.raw(b"\x00\xff" * 100, close=True),
        "endless headers": wire.drip(HEAD, b"X: y\r\n", every=0.0),
    }[case]
    begin = time.monotonic()
    error, server = wire.refused_refresh(reply)
    assert type(error) is AuthUnavailableError
    assert "CANARY" not in str(error)
    assert len(server.requests) == 1
    assert time.monotonic() - begin < 5


DRIPS: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "status line": (b"HTTP/1.1", b" "),
    "headers": (HEAD + b"X: ", b"y"),
    "body": (HEAD + b"Content-Length: 9000\r\n\r\n", b" "),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.reliability
@pytest.mark.parametrize("case", DRIPS)
def test_an_answer_that_drips_is_cut_off_in_time(wire: Any, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Something each 20 ms would satisfy any limit between bytes: the exchange ends at its bound all the same."""
    monkeypatch.setattr(token_transport, "ANSWER_SECONDS", 0.4)
    head, unit = DRIPS[case]
    begin = time.monotonic()
    error, server = wire.refused_refresh(wire.drip(head, unit))
    elapsed = time.monotonic() - begin
    print(f"drip of {case}: ended after {elapsed:.2f} s of 0.4 s")
    assert type(error) is AuthUnavailableError
    assert len(server.requests) == 1
    assert elapsed < 0.4 + 1.0


@pytest.mark.reliability
@pytest.mark.parametrize("case", ["headers", "body"])
def test_a_limit_between_bytes_alone_does_not_end_it(wire: Any, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Known-bad control: the plain adapter of the library goes on for four times the bound, to the server's end."""
    monkeypatch.setattr("trade_analyst_pipeline.schwab.auth.BoundedAdapter", HTTPAdapter)
    monkeypatch.setattr("trade_analyst_pipeline.schwab.auth._TIMEOUT_SECONDS", (0.4, 0.4))
    head, unit = DRIPS[case]

    async def drip_for_a_while(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(80):
            writer.write(unit)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    begin = time.monotonic()
    wire.refused_refresh(drip_for_a_while)
    elapsed = time.monotonic() - begin
    print(f"control, drip of {case}: the plain adapter took {elapsed:.2f} s for a limit of 0.4 s")
    assert elapsed > 1.5


def test_a_handshake_that_hangs_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing: the end is at the bound, not at the library's."""
    monkeypatch.setattr(token_transport, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(requests.RequestException):
            ask(f"https://127.0.0.1:{silent.getsockname()[1]}/")
        assert time.monotonic() - begin < 1.3


def ask(url: str) -> requests.Response:
    """One GET through the adapter."""
    return BoundedAdapter().send(requests.Request("GET", url).prepare(), timeout=(5.0, 10.0))


def test_a_name_that_is_not_found_in_time_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs cannot be interrupted: the caller goes on at the bound, and nothing is sent afterwards."""
    monkeypatch.setattr(token_transport, "ANSWER_SECONDS", 0.2)
    found = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolver(found, server.getsockname()[1]))
        begin = time.monotonic()
        with pytest.raises(requests.Timeout, match=r"within 0\.2 s"):
            ask("https://slow.example/")
        assert time.monotonic() - begin < 1.2
        left_behind = [thread for thread in threading.enumerate() if thread.name == "token-exchange"]
        found.set()
        for thread in left_behind:
            thread.join(5)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(10) == b""


def resolver(found: threading.Event, port: int) -> Callable[..., list[Any]]:
    """A name service that answers when told to: the local server."""

    def look_up(*_: Any, **__: Any) -> list[Any]:
        found.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    return look_up


def test_exchanges_leave_no_thread_and_no_socket(logins: Any) -> None:
    """After twenty refreshes there are as many threads and open files as after one."""
    stored = logins.log_in()
    client = logins.client()

    def standing() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    client.refresh(stored.refresh_token)
    before = standing()
    for _ in range(20):
        client.refresh(stored.refresh_token)
    after = standing()
    print(f"threads and open files before and after 20 refreshes: {before}, {after}")
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 2  # the server closes its side a moment later


def test_a_certificate_out_of_its_time_hints_at_the_clock(wire: Any) -> None:
    """A server whose certificate is not valid yet, or no more, may be a wrong clock here."""
    now = datetime.now(UTC)
    for begins, ends in (
        (now + timedelta(days=1), now + timedelta(days=2)),
        (now - timedelta(days=2), now - timedelta(1)),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        wire.authority.ca.issue_cert("127.0.0.1", not_before=begins, not_after=ends).configure_cert(context)
        error, server = wire.refused_refresh(wire.answer(200, GOOD), context=context)
        assert "Check this machine's date and time" in str(error)
        assert server.requests == []
