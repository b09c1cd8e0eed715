"""Reading one response body off the wire: bounded in size, decompressed in small steps, known to be complete.

Not here: what a status or an error text means (`refusals.py`), and what the JSON says (`datasets/`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import httpx
import msgspec

from trade_analyst_pipeline.errors import (
    CutResponseError,
    RequestSummary,
    ResponseTooLargeError,
    UnexpectedContentError,
)

_STEP = 64 << 10
_ASK_AGAIN = "Nothing of it was used; ask again."


async def read_body(response: httpx.Response, *, summary: RequestSummary, limit: int) -> bytes:
    """The entity bytes of a streamed response, its gzip coding undone.

    Raises ResponseTooLargeError as soon as more than `limit` bytes are announced, received or unpacked;
    CutResponseError when the announced length or the end of the gzip stream is missing; UnexpectedContentError for a
    content coding that was not asked for. Memory in use stays below `limit` plus 64 KiB on refusal.
    """
    announced = _announced_length(response)
    if announced is not None and announced > limit:
        raise _too_large(summary, f"{announced} bytes announced", limit)
    decoder = _decoder(response, summary)
    pieces: list[bytes] = []
    received = size = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        for piece in decoder.feed(chunk):
            size += len(piece)
            if size > limit:
                raise _too_large(summary, f"more than {size - len(piece)} bytes unpacked", limit)
            pieces.append(piece)
    if announced is not None and received != announced:
        raise CutResponseError(summary, f"{received} of {announced} bytes arrived", _ASK_AGAIN, response.status_code)
    decoder.finish()
    return b"".join(pieces)


def check_json_shape(body: bytes, *, summary: RequestSummary) -> None:
    """Refuse a body that cannot be a whole JSON object or array; what else may be wrong with it is not looked at.

    Raises CutResponseError when it begins as JSON and does not end as such, UnexpectedContentError otherwise.
    """
    first, last = _edges(body)
    if first not in (b"{", b"["):
        if not first:
            raise CutResponseError(summary, "the body is empty", _ASK_AGAIN, 200)
        raise UnexpectedContentError(summary, f"the body begins with {first!r}", "Check schwab.base_url.", 200)
    if last != {b"{": b"}", b"[": b"]"}[first] or _is_truncated(body):
        raise CutResponseError(summary, f"the JSON stops after {len(body)} bytes", _ASK_AGAIN, 200)


_SKIMMING = msgspec.json.Decoder(msgspec.Raw)  # made here, as two threads must not make one at once


def _is_truncated(body: bytes) -> bool:
    """Whether the text ends within a value, though perhaps with a bracket; a pass that builds nothing."""
    try:
        _SKIMMING.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return "truncated" in str(error)
    return False


def _edges(body: bytes) -> tuple[bytes, bytes]:
    head = body[:256].lstrip() or body.lstrip()
    tail = body[-256:].rstrip() or body.rstrip()
    return head[:1], tail[-1:]


def _announced_length(response: httpx.Response) -> int | None:
    """Content-Length, where the framing uses it."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isdecimal() and "transfer-encoding" not in response.headers else None


def _too_large(summary: RequestSummary, found: str, limit: int) -> ResponseTooLargeError:
    return ResponseTooLargeError(
        summary, f"{found}, the bound is {limit}", "Ask for less, or raise schwab.max_response_mib."
    )


class _Decoder(Protocol):
    def feed(self, chunk: bytes) -> Iterator[bytes]: ...

    def finish(self) -> None: ...


def _decoder(response: httpx.Response, summary: RequestSummary) -> _Decoder:
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip"):
        return _Gzip(summary)
    if coding in ("identity", ""):
        return _Identity()
    raise UnexpectedContentError(
        summary, f"content coding {coding[:20]!r} was not asked for", "Check what stands between here and the source."
    )


class _Identity:
    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def finish(self) -> None:
        """Nothing marks the end of an uncoded body."""


class _Gzip:
    def __init__(self, summary: RequestSummary) -> None:
        self._summary = summary
        self._stream = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Unpack in pieces of at most 64 KiB, however much one chunk would expand to.

        Refuses whatever follows the end of the stream at once: kept for later, it would grow without bound.
        """
        while chunk and not self._stream.eof:
            try:
                piece = self._stream.decompress(chunk, _STEP)
            except zlib.error as error:
                raise CutResponseError(self._summary, f"damaged gzip ({error})", _ASK_AGAIN) from error
            if piece:
                yield piece
            # the trailer comes last, so output is never left behind without input; past the end it is not cleared
            chunk = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        if chunk:
            raise UnexpectedContentError(self._summary, "bytes follow the gzip stream", _ASK_AGAIN)

    def finish(self) -> None:
        if not self._stream.eof:
            raise CutResponseError(self._summary, "the gzip stream has no end", _ASK_AGAIN)
