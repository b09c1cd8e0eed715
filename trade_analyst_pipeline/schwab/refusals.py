"""What an answer that is not the JSON asked for means: status, error body and Retry-After into our own errors.

Not here: whether and when to ask again (`client.py`), and answers of the token endpoint (`auth.py`).
"""

from __future__ import annotations

import re
from datetime import datetime

import httpx
import msgspec

from trade_analyst_pipeline.errors import (
    BadRequestError,
    ChainTooLargeError,
    NotAuthorizedError,
    RateLimitedError,
    RequestSummary,
    SourceError,
    SourceUnavailableError,
    SymbolNotFoundError,
    UnexpectedContentError,
    UntrustedServerError,
)
from trade_analyst_pipeline.schwab.date_header import told_time

_LONGEST_DETAIL = 200
_LATER = "Ask again later."
_CHECK_ADDRESS = "Check schwab.base_url and what stands between here and the source."
_EDGE_BLOCK = (
    "The source's edge blocks this address for now: wait some minutes, ask more slowly, leave VPNs and proxies."
)
_NO_PRODUCT = (
    "The token was refreshed once. Check that the app is 'Ready For Use' and carries 'Market Data Production', "
    "then run `trade-analyst login`."
)


def refusal(summary: RequestSummary, status: int, content_type: str, body: bytes) -> SourceError:
    """The error that an answer other than 200 with JSON stands for; `body` may be the beginning only."""
    text = body.decode("utf-8", "replace")
    if 300 <= status < 400:
        return UnexpectedContentError(
            summary, f"a redirect ({status}), which is never followed", _CHECK_ADDRESS, status
        )
    if status < 400:
        kind = "HTML" if _is_html(content_type, text) else f"content type {_clean(content_type) or 'none'}"
        return UnexpectedContentError(summary, f"status {status} with {kind}", _CHECK_ADDRESS, status)
    if "TooBigBody" in text:
        return ChainTooLargeError(summary, "the answer is too big for the source", "Ask for fewer expirations.", status)
    if status >= 500:
        return SourceUnavailableError(summary, f"server error {status}{_detail(text)}", _LATER, status)
    return _client_refusal(summary, status, content_type, text)


def _client_refusal(summary: RequestSummary, status: int, content_type: str, text: str) -> SourceError:
    if status == 401:
        return NotAuthorizedError(summary, f"not authorized{_detail(text)}", _NO_PRODUCT, status)
    if status == 403:
        advice = _EDGE_BLOCK if _is_html(content_type, text) else _NO_PRODUCT
        return NotAuthorizedError(summary, f"access denied{_detail(text)}", advice, status)
    if status == 404:
        return _not_found(summary, content_type, text)
    if status == 408:
        return SourceUnavailableError(summary, "the source gave up waiting for the request", _LATER, status)
    if status == 429:
        return RateLimitedError(summary, "over the source's request limit", "Lower schwab.requests_per_minute.", status)
    return BadRequestError(summary, f"refused with status {status}{_detail(text)}", "Correct the request.", status)


def _not_found(summary: RequestSummary, content_type: str, text: str) -> SourceError:
    if "Requested route" in text:
        return SourceUnavailableError(summary, "the source's gateway has lost the route", _LATER, 404)
    if _is_html(content_type, text):
        return UnexpectedContentError(summary, "status 404 with HTML", _CHECK_ADDRESS, 404)
    return SymbolNotFoundError(summary, "the source knows no such symbol", "Check its spelling (BRK/B, $SPX).", 404)


def connection_failure(summary: RequestSummary, error: httpx.HTTPError | httpx.InvalidURL | OSError) -> SourceError:
    """The error that a failed exchange stands for, for every exception the HTTP library raises or lets through."""
    what = f"{type(error).__name__}: {_clean(str(error)) or 'no details'}"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UntrustedServerError(summary, what, "Check schwab.base_url and the CA file; nothing was sent.")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.InvalidURL):
        return BadRequestError(summary, what, "Check schwab.base_url.")
    return SourceUnavailableError(summary, what, "Check the network; ask again later.")


def retry_after_seconds(headers: httpx.Headers, *, now: datetime) -> float | None:
    """Seconds to wait that the source asks for (0 or more), from whole seconds or an HTTP date; None for junk.

    A date counts from the answer's own Date header where there is one, else from `now` (UTC).
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,10}", text):
        return float(text)
    until = told_time(text)
    if until is None:
        return None
    return max(0.0, (until - (told_time(headers.get("date")) or now)).total_seconds())


def _is_html(content_type: str, text: str) -> bool:
    return "html" in content_type.lower() or text.lstrip()[:1] == "<"


class _OneError(msgspec.Struct):
    title: str = ""
    detail: str = ""


class _ErrorBody(msgspec.Struct):
    errors: list[_OneError] = []
    message: str = ""


# made here: two threads that decode a type for the first time at once crash the library
_ERROR_BODY = msgspec.json.Decoder(_ErrorBody)


def _detail(text: str) -> str:
    """What the source itself says, cleaned and shortened; empty when it says nothing readable."""
    try:
        body = _ERROR_BODY.decode(text.encode())
    except (msgspec.DecodeError, RecursionError):
        return ""
    said = [error.detail or error.title for error in body.errors] or [body.message]
    words = _clean("; ".join(said))
    return f": {words}" if words else ""


def _clean(text: str) -> str:
    """Printable ASCII on one line, at most 200 characters."""
    return re.sub(r"[^\x20-\x7e]+", " ", text).strip()[:_LONGEST_DETAIL]
