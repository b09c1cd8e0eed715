"""Failures below HTTP: what may go wrong between the first byte of a connection and the last byte of an answer.

Each is a function that plays one failure on one connection; `WIRE_FAULTS` names them. An ASGI application can make
none of the first two groups: the server above it sees to framing, lengths and headers. Who is struck, and when, is
decided in `fault_proxy.py`; answers that are whole but wrong in what they say are made in `faults.py` too.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from trade_analyst_pipeline.simulator import faults
from trade_analyst_pipeline.simulator.answers import Answer

BOMB_BYTES: Final = 512 << 20
_MIB: Final = 1 << 20
_PIECE: Final = 256 << 10
_LINGER_NOT_AT_ALL: Final = struct.pack("ii", 1, 0)
_INTERIM: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_ALERT: Final = bytes([21, 3, 3, 0, 2, 2, 40])  # TLS 1.2, fatal, handshake failure
_NOT_TLS: Final = b"\x17\x03\x03\x00\x20" + bytes(range(32))  # a record that nobody has encrypted
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
_ELSEWHERE: Final = "https://127.0.0.1:9/elsewhere"


@dataclass
class Wire:
    """One connection while a fault has it: `answer` is what would have been sent, `pace` seconds between drips."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    context: ssl.SSLContext = field(repr=False)
    answer: Answer = field(default_factory=lambda: Answer(200, b"{}"))
    pace: float = 0.02

    async def send(self, data: bytes) -> None:
        """Send exactly these bytes; raises ConnectionResetError when the other side has gone."""
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(0)  # else the loop does not come to see that the other side has gone

    async def drip(self, unit: bytes, pause: float | None = None) -> None:
        """Send `unit` again and again until the other side has gone."""
        while not self.writer.is_closing():
            await self.send(unit)
            await asyncio.sleep(self.pace if pause is None else pause)

    async def hold(self) -> None:
        """Say nothing until the other side has gone."""
        while await self.reader.read(1 << 16):
            pass

    def socket(self) -> socket.socket:
        """The socket below TLS."""
        found: socket.socket = self.writer.get_extra_info("socket")
        return found

    def reset(self) -> None:
        """Break the connection off so that the other side gets a reset instead of an end."""
        self.socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
        self.writer.transport.abort()

    async def send_answer(self, answer: Answer) -> None:
        """Send a whole answer, well framed, and keep the connection; a long body in pieces, after its head."""
        head = head_of(answer, f"Content-Length: {len(answer.body)}")
        await self.send(head + answer.body[:_PIECE])
        for start in range(_PIECE, len(answer.body), _PIECE):
            await self.send(answer.body[start : start + _PIECE])

    async def send_head(self, *lines: str, status: int = 200) -> None:
        """Send a head with these further lines."""
        await self.send(head_of(replace(self.answer, status=status), *lines))


Play = Callable[[Wire], Awaitable[None]]


@dataclass(frozen=True)
class WireFault:
    """A named failure. One `is_before_tls` strikes a connection, before anybody can know what it is for."""

    name: str
    summary: str
    play: Play = field(repr=False)
    is_before_tls: bool = False


def head_of(answer: Answer, *lines: str, version: str = "1.1") -> bytes:
    """Status line and headers of an answer, with further header lines, up to the empty line."""
    sent = [f"HTTP/{version} {answer.status} X", f"Content-Type: {answer.content_type}", *lines]
    sent += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join([*sent, "", ""]).encode()


# -- before TLS ----------------------------------------------------------------------------------------------------


async def _hold(wire: Wire) -> None:
    await wire.hold()


async def _reset(wire: Wire) -> None:
    wire.reset()


async def _close(wire: Wire) -> None:
    wire.writer.close()


async def _slow_handshake(wire: Wire) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = wire.context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(await wire.reader.read(1 << 16))
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    for byte in outgoing.read():
        await wire.send(bytes([byte]))
        await asyncio.sleep(wire.pace)
    await wire.hold()


async def _plain_text(wire: Wire) -> None:
    await wire.reader.read(1 << 16)
    await wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    wire.writer.close()


async def _alert(wire: Wire) -> None:
    await wire.reader.read(1 << 16)
    await wire.send(_ALERT)
    wire.writer.close()


# -- framing and time ----------------------------------------------------------------------------------------------


async def _reset_in_head(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 X\r\nContent-Ty")
    wire.reset()


async def _end_in_head(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 X\r\nContent-Ty")
    wire.writer.close()


async def _send_half(wire: Wire) -> None:
    await wire.send_head(f"Content-Length: {len(wire.answer.body)}")
    await wire.send(wire.answer.body[: len(wire.answer.body) // 2])


async def _reset_in_body(wire: Wire) -> None:
    await _send_half(wire)
    await asyncio.sleep(wire.pace)  # else the reset overtakes what was sent
    wire.reset()


async def _end_in_body(wire: Wire) -> None:
    await _send_half(wire)
    wire.writer.close()


async def _stall_in_body(wire: Wire) -> None:
    await _send_half(wire)
    await wire.hold()


async def _half_close(wire: Wire) -> None:
    await _send_half(wire)
    wire.socket().shutdown(socket.SHUT_WR)
    await wire.hold()


async def _foreign_record(wire: Wire) -> None:
    await _send_half(wire)
    with wire.socket().dup() as below:
        below.send(_NOT_TLS)
    await wire.hold()


async def _drip_head(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 X\r\nX-Slow: ")
    await wire.drip(b"a")


async def _drip_body(wire: Wire) -> None:
    await wire.send_head("Content-Length: 1000000")
    await wire.send(b"{")
    await wire.drip(b" ")


async def _drip_chunks(wire: Wire) -> None:
    await wire.send_head("Transfer-Encoding: chunked")
    await wire.send(b"1\r\n{\r\n")
    await wire.drip(b"1\r\n \r\n")


async def _drip_error(wire: Wire) -> None:
    await wire.send_head("Content-Length: 9000", status=503)
    await wire.drip(b"x")


async def _flood_of_interims(wire: Wire) -> None:
    await wire.drip(_INTERIM * 50, pause=0.001)


async def _length_too_short(wire: Wire) -> None:
    await wire.send_head("Connection: close", f"Content-Length: {len(wire.answer.body) // 2}")
    await wire.send(wire.answer.body)
    wire.writer.close()


async def _two_lengths(wire: Wire) -> None:
    size = len(wire.answer.body)
    await wire.send_head(f"Content-Length: {size}", f"Content-Length: {size + 9}")
    await wire.send(wire.answer.body)


async def _length_of_words(wire: Wire) -> None:
    await wire.send_head("Content-Length: many")
    await wire.send(wire.answer.body)
    wire.writer.close()


async def _chunks_without_end(wire: Wire) -> None:
    await wire.send_head("Transfer-Encoding: chunked")
    await wire.send(b"%x\r\n%b\r\n" % (len(wire.answer.body), wire.answer.body))
    wire.writer.close()


async def _bad_chunk_size(wire: Wire) -> None:
    await wire.send_head("Transfer-Encoding: chunked")
    await wire.send(b"zz\r\n" + wire.answer.body + b"\r\n0\r\n\r\n")


async def _bad_status_line(wire: Wire) -> None:
    await wire.send(b"\x00\x01 hello\r\n\r\n")
    wire.writer.close()


async def _switch_protocols(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 101 X\r\nUpgrade: smtp\r\nConnection: Upgrade\r\n\r\n220 hello\r\n")
    await wire.hold()


async def _until_close(wire: Wire) -> None:
    await wire.send(head_of(wire.answer, version="1.0") + wire.answer.body)
    wire.writer.close()


async def _until_close_cut(wire: Wire) -> None:
    await wire.send(head_of(wire.answer, version="1.0") + wire.answer.body[:-2])
    wire.writer.close()


# -- codings and sizes ---------------------------------------------------------------------------------------------


def _coded(coding: str, code: Callable[[bytes], bytes]) -> Play:
    async def play(wire: Wire) -> None:
        headers = (*wire.answer.headers, ("Content-Encoding", coding))
        await wire.send_answer(replace(wire.answer, body=code(wire.answer.body), headers=headers))

    return play


def _zipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


@lru_cache(maxsize=1)
def gzip_bomb() -> bytes:
    """512 MiB of zeros in half a megabyte, gzip-coded: one stretch that stands alone, again and again."""
    zeros, count = bytes(_MIB), BOMB_BYTES // _MIB
    packer = zlib.compressobj(9, wbits=-15)
    stretch = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(count):
        checksum = zlib.crc32(zeros, checksum)
    trailer = checksum.to_bytes(4, "little") + BOMB_BYTES.to_bytes(4, "little")
    return _GZIP_HEAD + stretch * count + packer.flush() + trailer


async def _announced_giant(wire: Wire) -> None:
    await wire.send_head("Content-Length: 99999999999")
    await wire.drip(b"{" * 60_000)


async def _endless_body(wire: Wire) -> None:
    await wire.send_head("Transfer-Encoding: chunked")
    await wire.drip(b"ea60\r\n" + b"{" * 60_000 + b"\r\n", pause=0.0)


async def _gzip_and_endless(wire: Wire) -> None:
    await wire.send_head("Content-Encoding: gzip", "Transfer-Encoding: chunked")
    packed = _zipped(wire.answer.body)
    await wire.send(b"%x\r\n%b\r\n" % (len(packed), packed))
    await wire.drip(b"ea60\r\n" + b"{" * 60_000 + b"\r\n", pause=0.0)


async def _long_header(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 X\r\nX-Long: " + b"a" * (2 * _MIB))
    await wire.hold()


async def _many_headers(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 X\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(20_000)))
    await wire.hold()


# -- whole answers -------------------------------------------------------------------------------------------------


def _answered(change: faults.Change) -> Play:
    async def play(wire: Wire) -> None:
        await wire.send_answer(change(wire.answer))

    return play


def _body(make: Callable[[bytes], bytes]) -> faults.Change:
    return lambda answer: replace(answer, body=make(answer.body))


def _nested(_: bytes) -> bytes:
    return b"[" * 100_000 + b"]" * 100_000


def _long_string(_: bytes) -> bytes:
    return b'{"symbol":"' + b"x" * (50 * _MIB) + b'"}'


def _utf_16(body: bytes) -> bytes:
    return body.decode().encode("utf-16")


def _gateway_has_no_route() -> faults.Change:
    return faults.answered(404, b"Requested route ('api') does not exist", "text/plain")


def _timeout_page() -> faults.Change:
    return faults.answered(504, json.dumps({"message": "upstream request timeout"}).encode())


_BEFORE_TLS: Final[dict[str, tuple[str, Play]]] = {
    "black-hole": ("accepts the connection and never says a word", _hold),
    "slow-handshake": ("sends its part of the TLS handshake byte by byte", _slow_handshake),
    "reset-at-connect": ("resets the connection at once", _reset),
    "end-at-connect": ("closes the connection at once", _close),
    "plain-text": ("speaks HTTP without TLS", _plain_text),
    "handshake-alert": ("refuses the TLS handshake", _alert),
}

_AFTER_REQUEST: Final[dict[str, tuple[str, Play]]] = {
    "silence": ("reads the request and never answers", _hold),
    "reset-before-answer": ("reads the request and resets", _reset),
    "end-before-answer": ("reads the request and closes", _close),
    "reset-in-header": ("resets within a header line", _reset_in_head),
    "end-in-header": ("closes within a header line", _end_in_head),
    "reset-in-body": ("resets half way through the body", _reset_in_body),
    "end-in-body": ("closes half way through the body", _end_in_body),
    "stall-in-body": ("sends half of the body, then nothing", _stall_in_body),
    "half-close": ("ends its direction half way through the body, without an end of TLS", _half_close),
    "foreign-record": ("a record that is not of this TLS session stands in the middle", _foreign_record),
    "drip-header": ("a header that never ends, byte by byte", _drip_head),
    "drip-body": ("a body byte by byte", _drip_body),
    "drip-chunks": ("a chunked body, a byte each", _drip_chunks),
    "drip-error": ("503 with a body byte by byte", _drip_error),
    "interim-flood": ("100 Continue without end", _flood_of_interims),
    "length-too-short": ("Content-Length says half of what comes", _length_too_short),
    "two-lengths": ("two Content-Lengths that differ", _two_lengths),
    "length-of-words": ("a Content-Length that is no number", _length_of_words),
    "chunks-without-end": ("closes before the last chunk", _chunks_without_end),
    "bad-chunk-size": ("a chunk size that is no number", _bad_chunk_size),
    "bad-status-line": ("bytes that are not HTTP", _bad_status_line),
    "other-protocol": ("101, switching to another protocol", _switch_protocols),
    "until-close": ("HTTP/1.0: a whole body that ends with the connection", _until_close),
    "until-close-cut": ("HTTP/1.0: the connection ends before the body does", _until_close_cut),
    "gzip-cut": ("a gzip stream without its end, the length right", _coded("gzip", lambda body: _zipped(body)[:-9])),
    "gzip-checksum": (
        "a gzip stream with a wrong checksum",
        _coded("gzip", lambda body: _zipped(body)[:-8] + bytes(8)),
    ),
    "gzip-and-more": ("bytes behind the gzip stream", _coded("gzip", lambda body: _zipped(body) + b"more")),
    "gzip-and-endless": ("bytes without end behind the gzip stream", _gzip_and_endless),
    "gzip-in-name-only": ("said to be gzip, but plain", _coded("gzip", bytes)),
    "gzip-bomb": ("512 MiB out of half a megabyte of gzip", _coded("gzip", lambda _: gzip_bomb())),
    "brotli": ("a coding that nobody asked for", _coded("br", bytes)),
    "zstd": ("another coding that nobody asked for", _coded("zstd", bytes)),
    "announced-giant": ("a Content-Length of 100 GB", _announced_giant),
    "endless-body": ("a chunked body that never ends", _endless_body),
    "long-header": ("a header line of 2 MiB", _long_header),
    "many-headers": ("20,000 header lines", _many_headers),
}

_WHOLE_ANSWERS: Final[dict[str, tuple[str, faults.Change]]] = {
    "redirect": ("302 to another host", faults.answered(302, location=_ELSEWHERE)),
    "moved-method-kept": ("307 to another host", faults.answered(307, location=_ELSEWHERE)),
    "html-200": ("200 with a page", faults.html_page()),
    "html-called-json": ("200 with a page that is called JSON", faults.answered(200, b"<html>soon</html>")),
    "text-200": ("200 with plain text", faults.answered(200, b"ok", "text/plain")),
    "empty-200": ("200 with an empty body", faults.answered(200)),
    "no-content": ("204", faults.answered(204)),
    "json-cut": ("a whole answer whose JSON stops", _body(lambda body: body[:-1])),
    "json-nested": ("JSON nested 100,000 deep", _body(_nested)),
    "json-long-string": ("one text of 50 MiB", _body(_long_string)),
    "json-utf-16": ("JSON in UTF-16", _body(_utf_16)),
    "limited": ("429 without Retry-After", faults.rate_limited()),
    "limited-seconds": ("429 with Retry-After in seconds", faults.rate_limited("2")),
    "limited-date": ("429 with Retry-After as a date", faults.rate_limited("Mon, 05 Jan 2026 20:56:00 GMT")),
    "limited-absurd": (
        "429 with a Retry-After beyond all calendars",
        faults.rate_limited("Mon, 05 Jan 99999999999999999999 20:56:00 GMT"),
    ),
    "unauthorized": ("401", faults.unauthorized()),
    "access-denied": ("403 page of the edge", faults.access_denied()),
    "no-route": ("404 of the gateway", _gateway_has_no_route()),
    "server-error": ("500", faults.server_error()),
    "too-big-body": ("502 of the gateway for a body over its limit", faults.body_too_big()),
    "bad-gateway": ("502 page", faults.html_page(502)),
    "maintenance": ("503 page", faults.html_page(503)),
    "gateway-timeout": ("504", _timeout_page()),
    "overload": ("529", faults.answered(529, b"", "text/plain")),
}

WIRE_FAULTS: Final[dict[str, WireFault]] = {
    name: WireFault(name, *rest)
    for name, rest in (
        *((name, (summary, play, True)) for name, (summary, play) in _BEFORE_TLS.items()),
        *((name, (summary, play, False)) for name, (summary, play) in _AFTER_REQUEST.items()),
        *((name, (summary, _answered(change), False)) for name, (summary, change) in _WHOLE_ANSWERS.items()),
    )
}
