"""The client over real sockets: what it accepts, what each refusal becomes, deadlines, retries, secrets."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Coroutine
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

import httpcore
import httpx
import pytest

from trade_analyst_pipeline.errors import (
    AuthUnavailableError,
    BadRequestError,
    ChainTooLargeError,
    CutResponseError,
    DeadlineExceededError,
    LoginRequiredError,
    NotAuthorizedError,
    RateLimitedError,
    RequestSummary,
    ResponseTooLargeError,
    SourceError,
    SourceUnavailableError,
    SymbolNotFoundError,
    UnexpectedContentError,
    UntrustedServerError,
)
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.schwab.budget import Priority
from trade_analyst_pipeline.schwab.client import QUEUE_SECONDS
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.schwab.refusals import connection_failure

REQUEST = MarketDataRequest(
    dataset="options", path="/chains", params=(("symbol", "BRK/B"), ("fromDate", "2026-01-05")), symbols=("BRK/B",)
)
BODY = b'{"symbol":"BRK/B","status":"SUCCESS"}'
T = TypeVar("T")


def run(scene: Coroutine[Any, Any, T]) -> T:
    """Run a scene, which must not take long whatever it provokes."""
    return asyncio.run(asyncio.wait_for(scene, 30))


async def ask(wire: Any, *replies: Any, **options: Any) -> tuple[RawResponse, Any]:
    """One fetch against the scripted replies: its answer and the server's record."""
    async with wire.serving(*replies) as server, wire.client(server, **options) as client:
        return await client.fetch(REQUEST), server


async def fail(wire: Any, *replies: Any, **options: Any) -> tuple[SourceError, Any]:
    """One fetch that must fail: its error and the server's record."""
    async with wire.serving(*replies) as server, wire.client(server, **options) as client:
        with pytest.raises(SourceError) as caught:
            await client.fetch(REQUEST)
        return caught.value, server


def test_an_answer_keeps_bytes_headers_and_times(wire: Any) -> None:
    """The body is byte for byte what was sent, headers are lower-case without cookies, times are the clock's."""
    reply = wire.answer(200, BODY, kind="application/json;charset=UTF-8", Set_Cookie="a=b", Cache_Control="no-store")
    response, _ = run(ask(wire, reply))
    assert (response.body, response.status, response.attempts) == (BODY, 200, 1)
    assert response.headers == (
        ("content-type", "application/json;charset=UTF-8"),
        ("content-length", "37"),
        ("cache-control", "no-store"),
    )
    assert response.requested_time == response.received_time == wire.start
    assert response.request is REQUEST


def test_the_request_on_the_wire(wire: Any) -> None:
    """Path, encoded query, bearer token, JSON and gzip only; a correlation id; no cookies."""
    _, server = run(ask(wire, wire.answer(200, BODY)))
    assert (
        server.requests[0].split("\r\n")[0] == "GET /marketdata/v1/chains?symbol=BRK%2FB&fromDate=2026-01-05 HTTP/1.1"
    )
    assert server.header(0, "authorization") == "Bearer token-0"
    assert server.header(0, "accept") == "application/json"
    assert server.header(0, "accept-encoding") == "gzip"
    assert server.header(0, "cookie") is None
    assert len(server.header(0, "schwab-client-correlid")) == 36


def test_cookies_are_not_sent_back(wire: Any) -> None:
    """A cookie set by one answer does not go with the next request."""

    async def scene() -> Any:
        async with wire.serving(wire.answer(200, BODY, Set_Cookie="id=7")) as server, wire.client(server) as client:
            await client.fetch(REQUEST)
            await client.fetch(REQUEST)
            return server

    server = run(scene())
    assert [server.header(index, "cookie") for index in range(2)] == [None, None]


def test_headers_are_kept_without_cookies_and_with_echoed_tokens_masked(wire: Any) -> None:
    """What the archive keeps of a response holds neither a cookie nor the caller's own token sent back."""
    reply = wire.answer(200, BODY, Set_Cookie="id=7", X_Echo="Bearer abcdef123456", X_Other="as it came")
    response, _ = run(ask(wire, reply))
    kept = dict(response.headers)
    assert "set-cookie" not in kept
    assert (kept["x-echo"], kept["x-other"]) == ("Bearer [secret]", "as it came")


def test_gzip_is_undone(wire: Any) -> None:
    """A compressed body arrives unpacked, its length counted on the wire."""
    response, _ = run(ask(wire, wire.answer(200, wire.zipped(BODY * 9000 + b"}"), Content_Encoding="gzip")))
    assert response.body == BODY * 9000 + b"}"


def test_large_gzip_is_unpacked_whole(wire: Any) -> None:
    """Output of one input chunk far beyond 64 KiB comes through complete."""
    body = b"[" + b" " * 900_000 + b"]"
    response, _ = run(ask(wire, wire.answer(200, wire.zipped(body), Content_Encoding="gzip")))
    assert response.body == body


def test_gzip_of_every_length_around_a_step_is_unpacked_whole(wire: Any) -> None:
    """What the decompressor still holds when its input is used up is not forgotten."""

    async def scene() -> list[int]:
        bodies = [b"[" + b"0" * (65_536 + extra) + b"]" for extra in range(-6, 300, 3)]
        replies = [wire.answer(200, wire.zipped(body), Content_Encoding="gzip") for body in bodies]
        async with wire.serving(*replies) as server, wire.client(server) as client:
            return [len((await client.fetch(REQUEST)).body) - len(body) for body in bodies]

    assert set(run(scene())) == {0}


CHUNKED = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_chunked_bodies_are_joined(wire: Any) -> None:
    """Chunked framing needs no length."""
    response, _ = run(ask(wire, wire.raw(CHUNKED + b'4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n')))
    assert response.body == b'{"a":1}'


def error_body(detail: str) -> bytes:
    """An error body in Schwab's shape."""
    return json.dumps({"errors": [{"id": "x", "status": "400", "title": "Bad Request", "detail": detail}]}).encode()


DENIED = b"<HTML><TITLE>Access Denied</TITLE> Reference 18.2f</HTML>"
TOO_BIG = json.dumps(
    {"fault": {"faultstring": "Body buffer overflow", "detail": {"errorcode": "protocol.http.TooBigBody"}}}
).encode()

FINAL_REFUSALS = {
    "bad request": (400, error_body("valid fields should be any of all"), "application/json", BadRequestError),
    "other 4xx": (418, b"", "text/plain", BadRequestError),
    "edge block": (403, DENIED, "text/html", NotAuthorizedError),
    "forbidden": (403, error_body("no"), "application/json", NotAuthorizedError),
    "unknown symbol": (404, error_body("Not Found"), "application/json", SymbolNotFoundError),
    "wrong address": (404, b"<html>nginx</html>", "text/html", UnexpectedContentError),
    "chain too big": (502, TOO_BIG, "application/json", ChainTooLargeError),
    "redirect": (302, b"", "text/html", UnexpectedContentError),
    "no content": (204, b"", "application/json", UnexpectedContentError),
    "html instead": (200, b"<html>maintenance</html>", "text/html", UnexpectedContentError),
    "html called json": (200, b"<html>maintenance</html>", "application/json", UnexpectedContentError),
    "not json": (200, b"NaN", "application/json", UnexpectedContentError),
    "byte order mark": (200, b"\xef\xbb\xbf{}", "application/json", UnexpectedContentError),
}


@pytest.mark.parametrize("case", FINAL_REFUSALS)
def test_refusals_that_are_not_repeated(wire: Any, case: str) -> None:
    """Each of these answers becomes its own error after exactly one request."""
    status, body, kind, expected = FINAL_REFUSALS[case]
    error, server = run(fail(wire, wire.answer(status, body, kind=kind, Location="https://127.0.0.1:1/")))
    assert type(error) is expected
    assert len(server.requests) == 1
    assert str(error).startswith("options /chains [BRK/B]: ")


def test_the_source_s_own_words_are_passed_on(wire: Any) -> None:
    """A 400 carries the detail text, on one line and shortened; so does a gzip-coded error body."""
    body = wire.zipped(error_body("first\r\nsecond\x1b[31m " + "x" * 500))
    error, _ = run(fail(wire, wire.answer(400, body, Content_Encoding="gzip")))
    assert "first second [31m xxx" in str(error)
    assert len(str(error)) < 350


REPEATED_REFUSALS = {
    "server error": (500, b'{"message":"x"}', "application/json", SourceUnavailableError),
    "bad gateway": (502, b"<html>", "text/html", SourceUnavailableError),
    "overload": (529, b"", "text/plain", SourceUnavailableError),
    "request timeout": (408, b"", "text/plain", SourceUnavailableError),
    "lost route": (404, b'{"m":"Requested route (\'x\') does not exist"}', "application/json", SourceUnavailableError),
    "limited": (429, b"", "text/plain", RateLimitedError),
    "empty body": (200, b"", "application/json", CutResponseError),
    "cut json": (200, BODY[:-1], "application/json", CutResponseError),
    "cut array": (200, b'[{"a":1}', "application/json", CutResponseError),
    "cut behind a bracket": (200, b'{"a":{"b":1}', "application/json", CutResponseError),
}


@pytest.mark.parametrize("case", REPEATED_REFUSALS)
def test_refusals_that_are_repeated(wire: Any, case: str) -> None:
    """Each of these is asked four times in all and then becomes its own error."""
    status, body, kind, expected = REPEATED_REFUSALS[case]
    error, server = run(fail(wire, wire.answer(status, body, kind=kind)))
    assert type(error) is expected
    assert len(server.requests) == 4
    assert error.request.attempts == 4


@pytest.mark.parametrize("case", REPEATED_REFUSALS)
def test_a_repeat_can_succeed(wire: Any, case: str) -> None:
    """The second answer is used, counted as two attempts, and nothing of the first remains."""
    status, body, kind, _ = REPEATED_REFUSALS[case]
    response, server = run(ask(wire, wire.answer(status, body, kind=kind), wire.answer(200, BODY)))
    assert (response.body, response.attempts, len(server.requests)) == (BODY, 2, 2)


HEAD = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n"
ZIP_HEAD = HEAD + b"Content-Encoding: gzip\r\n"


def cut_bodies(wire: Any) -> dict[str, tuple[bytes, bool]]:
    """Answers that end early: bytes, and whether the connection closes after them."""
    packed = wire.zipped(BODY)
    return {
        "shorter than announced": (HEAD + b"Content-Length: 90\r\n\r\n" + BODY, True),
        "cut chunk": (CHUNKED + b'40\r\n{"a"', True),
        "no last chunk": (CHUNKED + b'4\r\n{"a"\r\n', True),
        "closed without length": (HEAD + b"Connection: close\r\n\r\n" + BODY[:-5], True),
        "gzip without end": (ZIP_HEAD + b"Content-Length: %d\r\n\r\n" % (len(packed) - 9) + packed[:-9], False),
        "gzip checksum": (ZIP_HEAD + b"Content-Length: %d\r\n\r\n" % len(packed) + packed[:-8] + bytes(8), False),
        "announced too short": (HEAD + b"Connection: close\r\nContent-Length: 9\r\n\r\n" + BODY, True),
    }


@pytest.mark.parametrize("case", list(cut_bodies(type("Z", (), {"zipped": staticmethod(zlib.compress)}))))
def test_a_body_that_ends_early_is_never_used(wire: Any, case: str) -> None:
    """However a body is cut, the call repeats it and reports CutResponseError at the end."""
    data, close = cut_bodies(wire)[case]
    error, server = run(fail(wire, wire.raw(data, close=close)))
    assert type(error) is CutResponseError
    assert len(server.requests) == 4


@pytest.mark.parametrize("length", [0, 65_500, 65_536, 200_000])
def test_bytes_after_the_gzip_stream_are_refused(wire: Any, length: int) -> None:
    """A second stream behind the first is not silently dropped, nor waited on, wherever the last step ends."""
    body = wire.zipped(BODY + b" " * length) + b"more"
    error, _ = run(fail(wire, wire.answer(200, body, Content_Encoding="gzip")))
    assert type(error) is UnexpectedContentError


def test_a_coding_we_did_not_ask_for_is_refused(wire: Any) -> None:
    """Only gzip is asked for and understood."""
    error, server = run(fail(wire, wire.answer(200, BODY, Content_Encoding="br")))
    assert type(error) is UnexpectedContentError
    assert len(server.requests) == 1


DROPS = {
    "closed at once": b"",
    "garbage": b"\x00\x01garbage\r\n\r\n",
    "half a head": b"HTTP/1.1 200 X\r\nContent-",
    "endless header": b"HTTP/1.1 200 X\r\nA: " + b"a" * 200_000,
}


@pytest.mark.parametrize("case", DROPS)
def test_broken_connections_are_repeated(wire: Any, case: str) -> None:
    """A connection that brings no answer is tried again, then reported as unavailable."""
    error, server = run(fail(wire, wire.raw(DROPS[case], close=True)))
    assert type(error) is SourceUnavailableError
    assert len(server.requests) == 4


def test_nobody_listening(wire: Any) -> None:
    """A refused connection is SourceUnavailableError; the waits between the tries pass on the clock only."""

    async def scene() -> SourceError:
        async with wire.serving(wire.answer(200, BODY)) as server:
            pass
        async with wire.client(server) as client:
            with pytest.raises(SourceUnavailableError) as caught:
                await client.fetch(REQUEST)
        return caught.value

    begin = time.monotonic()
    error = run(scene())
    assert "ConnectError" in str(error)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("body", [b'{"a":NaN}', b"[" * 99_999 + b"]" * 99_999, b'{"a":1}{"b":2}', b'{"a":"\xff"}'])
def test_json_that_is_wrong_but_whole_is_passed_on(wire: Any, body: bytes) -> None:
    """Only whether the body is all there is looked at: its bytes are kept, and the dataset says what is wrong."""
    response, _ = run(ask(wire, wire.answer(200, body)))
    assert (response.body, response.attempts) == (body, 1)


def test_every_exception_of_the_http_library_is_mapped() -> None:
    """No httpx transport or protocol exception leaves the client as itself."""
    summary = RequestSummary("quotes", "/quotes", ())
    kinds = [kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, httpx.RequestError)]
    assert len(kinds) > 15
    for kind in kinds:
        assert isinstance(connection_failure(summary, kind("x")), SourceError)
    assert issubclass(httpx.RequestError, httpx.HTTPError)


# --- size


def test_a_gzip_bomb_stops_at_the_bound(wire: Any) -> None:
    """Half a megabyte that unpacks to 512 MiB is dropped at the bound: little memory, little time, one request."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
    tracemalloc.start()
    try:
        before, begin = tracemalloc.get_traced_memory()[0], time.monotonic()
        error, server = run(fail(wire, wire.answer(200, bomb, Content_Encoding="gzip"), max_response_bytes=4 << 20))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert type(error) is ResponseTooLargeError
    assert len(server.requests) == 1
    assert peak < 16 << 20
    assert time.monotonic() - begin < 5


def test_an_announced_giant_is_not_read(wire: Any) -> None:
    """A Content-Length over the bound ends the call before any of the body."""
    error, _ = run(fail(wire, wire.raw(HEAD + b"Content-Length: 99999999999\r\n\r\n{")))
    assert type(error) is ResponseTooLargeError
    assert "raise schwab.max_response_mib" in str(error)


def test_an_endless_body_stops_at_the_bound(wire: Any) -> None:
    """A body without length is read up to the bound only."""
    reply = wire.drip(HEAD + b"\r\n", b"{" * 60_000, every=0.0)
    error, _ = run(fail(wire, reply))
    assert type(error) is ResponseTooLargeError


def test_a_body_at_the_bound_is_accepted(wire: Any) -> None:
    """The bound is inclusive; one byte more is refused."""
    response, _ = run(ask(wire, wire.answer(200, BODY), max_response_bytes=len(BODY)))
    assert response.body == BODY
    error, _ = run(fail(wire, wire.answer(200, BODY), max_response_bytes=len(BODY) - 1))
    assert type(error) is ResponseTooLargeError


# --- deadlines


def slow_replies(wire: Any) -> dict[str, Any]:
    """Sources that keep a call alive without ever ending it."""
    return {
        "dripping body": wire.drip(HEAD + b"Content-Length: 9000\r\n\r\n", b"{"),
        "dripping head": wire.drip(b"HTTP/1.1 200 X\r\nA: ", b"a"),
        "black hole": wire.drip(b"", b""),
        "dripping error": wire.drip(b"HTTP/1.1 503 X\r\nContent-Length: 9000\r\n\r\n", b"x"),
    }


@pytest.mark.parametrize("case", ["dripping body", "dripping head", "black hole", "dripping error"])
def test_every_call_ends_by_its_deadline(wire: Any, case: str) -> None:
    """The deadline holds in real time however the source keeps the connection busy, and the socket is closed."""

    async def scene() -> tuple[SourceError, float, int]:
        async with (
            wire.serving(slow_replies(wire)[case]) as server,
            wire.client(server, deadline_seconds=0.4) as client,
        ):
            begin = time.monotonic()
            with pytest.raises(DeadlineExceededError) as caught:
                await client.fetch(REQUEST)
            taken = time.monotonic() - begin
            while server.open_connections:
                await asyncio.sleep(0.01)
            return caught.value, taken, server.open_connections

    error, taken, _ = run(scene())
    assert 0.4 <= taken < 1.4
    assert "no answer within 0.4 s" in str(error)


def test_control_without_deadline_a_drip_goes_on(wire: Any) -> None:
    """The drip is able to hold a call: with a long deadline it is still open after a second."""

    async def scene() -> None:
        reply = slow_replies(wire)["dripping body"]
        async with wire.serving(reply) as server, wire.client(server, deadline_seconds=60) as client:
            await asyncio.wait_for(client.fetch(REQUEST), 1)

    with pytest.raises(TimeoutError):
        asyncio.run(scene())


def test_waits_that_outlast_the_deadline_report_the_last_refusal(wire: Any) -> None:
    """On the machine's clock a long Retry-After ends the call at its deadline as what the source said."""
    begin = time.monotonic()
    reply = wire.answer(429, Retry_After="90")
    error, server = run(fail(wire, reply, clock=MachineClock(), deadline_seconds=0.3))
    assert type(error) is RateLimitedError
    assert len(server.requests) == 1
    assert time.monotonic() - begin < 2


# --- 429 and Retry-After


def dated(wire: Any, seconds: float) -> dict[str, str]:
    """Date and Retry-After as HTTP dates, `seconds` apart, on a day that has nothing to do with the clock."""
    date = wire.start.replace(year=2031)
    return {
        "Date": format_datetime(date, usegmt=True),
        "Retry_After": format_datetime(date + timedelta(seconds=seconds), usegmt=True),
    }


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry_After": "7"}, 7.0, 7.0),
        ({"Retry_After": "0"}, 0.0, 0.6),
        ({"Retry_After": "9999999999"}, 600.0, 600.0),
        ({}, 0.0, 2.6),
        ({"Retry_After": "soon"}, 0.0, 2.6),
        ({"Retry_After": "-5"}, 0.0, 2.6),
        ({"Retry_After": "1.5"}, 0.0, 2.6),
        ({"Retry_After": "Mon, 99 Foo 2026 99:99:99 GMT"}, 0.0, 2.6),
        ({"Retry_After": "Mon, 05 Jan 99999999999999999999 20:56:00 GMT"}, 0.0, 2.6),
        ("dated", 30.0, 30.0),
    ],
)
def test_a_429_is_waited_out(wire: Any, headers: Any, least: float, most: float) -> None:
    """Retry-After is obeyed as seconds or date; without a usable one the wait is our own and short."""
    headers = dated(wire, 30) if headers == "dated" else headers
    response, server = run(ask(wire, wire.answer(429, **headers), wire.answer(200, BODY)))
    waited = (response.requested_time - wire.start).total_seconds()
    assert least <= waited <= most
    assert len(server.requests) == 2


def test_retry_after_without_date_header_counts_from_the_clock(wire: Any) -> None:
    """An HTTP date alone is compared with the injected clock."""
    date = format_datetime(wire.start + timedelta(seconds=40), usegmt=True)
    response, _ = run(ask(wire, wire.answer(429, Retry_After=date), wire.answer(200, BODY)))
    assert response.requested_time == wire.start + timedelta(seconds=40)


def test_a_429_pauses_every_caller(wire: Any) -> None:
    """While one call waits out a Retry-After, a call that begins later waits as long; then a lower limit holds.

    At 108 a minute slots are 61.5 s / 108 apart, rounded up to a microsecond: 0.569445 s.
    """

    async def scene() -> list[RawResponse]:
        replies = wire.answer(429, Retry_After="20"), wire.answer(200, BODY)
        async with wire.serving(*replies) as server, wire.client(server) as client:
            return [await client.fetch(REQUEST), *await asyncio.gather(client.fetch(REQUEST), client.fetch(REQUEST))]

    times = [(response.requested_time - wire.start).total_seconds() for response in run(scene())]
    assert times == pytest.approx([20.0, 20.569445, 21.13889])


def test_a_503_with_retry_after_waits_that_long(wire: Any) -> None:
    """An overloaded source is asked again when it says."""
    response, _ = run(ask(wire, wire.answer(503, Retry_After="11"), wire.answer(200, BODY)))
    assert response.requested_time == wire.start + timedelta(seconds=11)


def test_backoff_grows_and_stays_within_its_bound(wire: Any) -> None:
    """Four tries of a failing source take at most 0.5 + 1 + 2 s of waiting, with jitter below each bound.

    The fourth is one more than may go at once, and waits for its slot besides (60 s / 120 and the spare).
    """

    async def scene(clock: Any) -> None:
        async with wire.serving(wire.answer(503)) as server, wire.client(server, clock=clock) as client:
            with pytest.raises(SourceUnavailableError):
                await client.fetch(REQUEST)

    class Recorder(MachineClock):
        waits: list[float] = []  # noqa: RUF012 - one test, one list

        async def sleep(self, seconds: float) -> None:
            self.waits.append(seconds)

    clock = Recorder()
    run(scene(clock))
    *waits, slot = clock.waits
    assert all(0 <= wait <= bound for wait, bound in zip(waits, (0.5, 1.0, 2.0), strict=True))
    assert len(set(waits)) == 3
    assert 0 < slot < 0.52


def test_an_outage_is_not_answered_by_a_flood(wire: Any) -> None:
    """Forty calls, six at a time, into an outage make at most 40 + 4 + 6 requests."""

    async def scene() -> Any:
        async with wire.serving(wire.answer(503)) as server, wire.client(server) as client:
            await asyncio.gather(*(client.fetch(REQUEST) for _ in range(40)), return_exceptions=True)
            return server

    assert 46 <= len(run(scene()).requests) <= 50


# --- turn and budget


def test_grants_follow_the_order_of_the_calls(wire: Any) -> None:
    """With more calls than turns, call i has grant i, in whatever order the answers come."""

    async def scene() -> list[RawResponse]:
        async with wire.serving(wire.answer(200, BODY)) as server, wire.client(server, in_flight=3) as client:
            return await asyncio.gather(*(client.fetch(REQUEST) for _ in range(30)))

    microseconds = [(response.requested_time - wire.start) // timedelta(microseconds=1) for response in run(scene())]
    assert microseconds == [512_501 * max(0, number - 2) for number in range(30)]


def test_no_more_calls_at_a_time_than_turns(wire: Any) -> None:
    """A call keeps its turn to the end, so that slots granted long ago cannot be sent all at once."""

    async def scene() -> Any:
        reply = wire.answer(200, BODY)
        async with wire.serving(reply) as server, wire.client(server, in_flight=2, connections=9) as client:
            await asyncio.gather(*(client.fetch(REQUEST) for _ in range(12)))
            return server

    server = run(scene())
    assert (len(server.requests), server.most_connections) == (12, 2)


def test_a_queue_without_end_is_left(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that gets no slot for too long says so, and not that the source gave no answer, instead of waiting on."""
    monkeypatch.setitem(QUEUE_SECONDS, Priority.INTRADAY, 0.2)

    async def scene() -> None:
        clock = MachineClock()
        async with wire.serving(wire.answer(429, Retry_After="60")) as server:
            async with wire.client(server, clock=clock, deadline_seconds=0.1) as client:
                with pytest.raises(RateLimitedError):
                    await client.fetch(REQUEST)
                with pytest.raises(DeadlineExceededError, match=r"no slot of the request limit within 0\.2 s.*plan`"):
                    await client.fetch(REQUEST)
            assert len(server.requests) == 1

    run(scene())


# --- authorization


def unauthorized(wire: Any) -> Any:
    """A 401 in Schwab's shape."""
    body = {"errors": [{"id": "x", "status": 401, "title": "Unauthorized", "detail": "Client not authorized"}]}
    return wire.answer(401, json.dumps(body).encode())


def test_a_401_is_one_refresh_and_one_repeat(wire: Any) -> None:
    """The repeat carries the new token and its answer is used."""
    tokens = wire.tokens()
    response, server = run(ask(wire, unauthorized(wire), wire.answer(200, BODY), tokens=tokens))
    assert (response.attempts, tokens.refreshes) == (2, 1)
    assert [server.header(index, "authorization") for index in range(2)] == ["Bearer token-0", "Bearer token-1"]


def test_a_second_401_is_final(wire: Any) -> None:
    """Still refused after the refresh: NotAuthorizedError with advice, two requests in all."""
    tokens = wire.tokens()
    error, server = run(fail(wire, unauthorized(wire), tokens=tokens))
    assert type(error) is NotAuthorizedError
    assert "Client not authorized" in str(error)
    assert "Market Data Production" in str(error)
    assert (len(server.requests), tokens.refreshes) == (2, 1)


def test_calls_in_flight_share_one_refresh(wire: Any) -> None:
    """Six calls that all meet a 401 with the same token refresh it once."""
    tokens = wire.tokens()

    async def scene() -> list[RawResponse]:
        replies = [unauthorized(wire)] * 6 + [wire.answer(200, BODY)]
        async with wire.serving(*replies) as server, wire.client(server, tokens=tokens) as client:
            return await asyncio.gather(*(client.fetch(REQUEST) for _ in range(6)))

    assert [response.attempts for response in run(scene())] == [2] * 6
    assert tokens.refreshes == 1


class NoTokens:
    """Raises what it is given, and counts."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    async def access_token(self) -> str:
        """Never one."""
        self.calls += 1
        raise self.error

    async def refresh_after_refusal(self, refused: str) -> str:
        """Never one."""
        raise type(self.error)(f"no other than {len(refused)} characters")


def test_a_dead_login_sends_nothing(wire: Any) -> None:
    """LoginRequiredError passes through at once: no request, no repeat, and of ten calls none takes a slot."""
    tokens = NoTokens(LoginRequiredError("run `trade-analyst login`"))

    async def scene() -> Any:
        async with wire.serving(wire.answer(200, BODY)) as server, wire.client(server, tokens=tokens) as client:
            for _ in range(10):
                with pytest.raises(LoginRequiredError):
                    await client.fetch(REQUEST)
            assert await client._budget.acquire() == wire.start
            return server

    assert (len(run(scene()).requests), tokens.calls) == (0, 10)


def test_an_outage_of_the_token_endpoint_is_unavailable(wire: Any) -> None:
    """Without a token for now the call is SourceUnavailableError, and the refresh is not repeated by the client."""
    tokens = NoTokens(AuthUnavailableError("token endpoint: 503"))
    error, server = run(fail(wire, wire.answer(200, BODY), tokens=tokens))
    assert type(error) is SourceUnavailableError
    assert error.is_retryable
    assert (len(server.requests), tokens.calls) == (0, 1)


# --- TLS


def test_an_untrusted_server_gets_no_token(wire: Any) -> None:
    """Wrong name, unknown CA: nothing is sent, nothing is repeated, the advice names the CA file."""

    async def scene(**options: Any) -> tuple[SourceError, Any]:
        async with wire.serving(wire.answer(200, BODY), identity=options.pop("identity")) as server:
            async with wire.client(server, **options) as client:
                with pytest.raises(SourceError) as caught:
                    await client.fetch(REQUEST)
            return caught.value, server

    for options in ({"identity": "other.example"}, {"identity": "127.0.0.1", "ca_file": None}):
        error, server = run(scene(**options))
        assert type(error) is UntrustedServerError
        assert server.requests == []


def test_a_server_without_tls_gets_no_token(wire: Any) -> None:
    """TLS against a plain port fails before any header is sent."""
    seen: list[bytes] = []

    async def answer_anything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(4096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def scene() -> SourceError:
        listener = await asyncio.start_server(answer_anything, "127.0.0.1", 0)
        async with listener, wire.serving(wire.answer(200, BODY)) as server:
            server.url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            async with wire.client(server) as client:
                with pytest.raises(SourceUnavailableError) as caught:
                    await client.fetch(REQUEST)
        return caught.value

    assert "SSL" in str(run(scene()))
    assert len(seen) == 4
    assert not any(b"token" in data for data in seen)


def test_the_environment_s_proxies_are_not_used(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy and CA variables change nothing."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    response, _ = run(ask(wire, wire.answer(200, BODY)))
    assert response.status == 200


# --- secrets


def test_the_token_is_in_no_error_log_or_frame(wire: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With every logger at DEBUG and local variables in the traceback, no failure shows the token."""
    canary = "CANARY-4f1d"
    caplog.set_level(logging.DEBUG)
    packed = wire.zipped(BODY)
    replies = {
        "repeat": wire.answer(503, b"x"),
        "limited": wire.answer(429, Retry_After="1"),
        "unauthorized": unauthorized(wire),
        "cut": wire.raw(HEAD + b"Content-Length: 90\r\n\r\n" + BODY, close=True),
        "gzip": wire.raw(ZIP_HEAD + b"Content-Length: 9\r\n\r\n" + packed[:9]),
        "dropped": wire.raw(b"", close=True),
        "bad": wire.answer(400, error_body("wrong")),
    }
    for reply in replies.values():
        error, server = run(fail(wire, reply, tokens=wire.tokens(canary)))
        assert canary in (server.header(0, "authorization") or "")
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert canary not in shown + repr(error) + str(error)
    assert caplog.records
    assert canary not in caplog.text
    assert canary not in "".join(repr(record.__dict__) for record in caplog.records)


def test_the_token_is_in_no_frame_when_sending_fails(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that gets stuck fails in the very frames that hold the header: they are not shown."""
    canary = "CANARY-4f1d"

    async def get_stuck(_: Any, event: Any, timeout: float | None = None) -> None:
        del timeout
        message = f"stuck with {len(event.headers)} headers"
        raise httpcore.WriteTimeout(message)

    monkeypatch.setattr(httpcore.AsyncHTTP11Connection, "_send_event", get_stuck)
    error, _ = run(fail(wire, wire.answer(200, BODY), tokens=wire.tokens(canary)))
    assert "WriteTimeout: stuck with" in str(error)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert canary not in shown


def test_control_the_traceback_scan_finds_a_plain_token() -> None:
    """The scan is able to fail: a token in a local variable of a frame is found."""

    def careless(token: str) -> None:
        int(token)

    with pytest.raises(ValueError, match="invalid literal") as caught:
        careless("CANARY-4f1d")
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "token = 'CANARY-4f1d'" in shown
