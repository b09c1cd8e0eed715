"""Whether the source answers at all: one request over TLS, without credentials, and what its answer tells.

Not here: requests for market data (`client.py`). Blocking, on the caller's thread; each step is bounded, the whole is
not: who needs a bound on the whole leaves the thread behind.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from trade_analyst_pipeline.errors import RequestSummary
from trade_analyst_pipeline.schwab.date_header import told_time
from trade_analyst_pipeline.schwab.refusals import connection_failure

PING_PATH = "/marketdata/v1/markets"
_HALF_SECOND = timedelta(seconds=0.5)


@dataclass(frozen=True)
class Ping:
    """An answer: status, whether it is a page, seconds it took, and how far the source's clock stands ahead.

    `clock_offset` is right to a second, which is what a Date header tells; None without one.
    """

    status: int
    is_html: bool
    seconds: float
    clock_offset: timedelta | None


def is_listening(base_url: str, *, seconds: float) -> bool:
    """Whether anything takes a connection at that address; False only when the machine there refuses it."""
    parts = urlsplit(base_url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=seconds):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True


def ping(base_url: str, *, ca_file: Path | None, seconds: float, now: Callable[[], datetime]) -> Ping:
    """What the source answers to a request for its market hours without credentials: any status is an answer.

    The certificate is checked as for every request. `seconds` bounds the connection, and each wait for bytes. Raises
    UntrustedServerError or SourceUnavailableError, and SourceUnavailableError where `ca_file` cannot be read.
    """
    summary = RequestSummary("ping", PING_PATH, ())
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        with httpx.Client(verify=context, trust_env=False, follow_redirects=False, timeout=seconds) as http:
            sent = now()
            with http.stream("GET", base_url.rstrip("/") + PING_PATH) as answer:
                received = now()
                return Ping(
                    answer.status_code,
                    "html" in answer.headers.get("content-type", "").lower(),
                    (received - sent).total_seconds(),
                    _clock_offset(answer.headers.get("date"), sent + (received - sent) / 2),
                )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise connection_failure(summary, error) from error


def _clock_offset(date: str | None, ours: datetime) -> timedelta | None:
    theirs = told_time(date)
    return None if theirs is None else theirs + _HALF_SECOND - ours
