"""Request to response through one transport: deadlines, retries, the shared budget, one refresh on a 401.

The only module that sends market-data requests. What a body's JSON says belongs to `datasets/`, what an error answer
means to `refusals.py`, the token to `auth.py` and `tokens.py`. The transport is the `httpx.AsyncClient` handed in.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import httpx
from pydantic import SecretStr

from trade_analyst_pipeline.errors import (
    AuthUnavailableError,
    CutResponseError,
    DeadlineExceededError,
    NoSlotError,
    NotAuthorizedError,
    RateLimitedError,
    RequestSummary,
    SourceError,
    SourceUnavailableError,
)
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.ops.redaction import redact
from trade_analyst_pipeline.schwab.bodies import check_json_shape, read_body
from trade_analyst_pipeline.schwab.budget import LONGEST_PAUSE_SECONDS, Priority, RequestBudget
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.schwab.refusals import connection_failure, refusal, retry_after_seconds

MAX_TRIES = 4
QUEUE_SECONDS = {Priority.CLOSING: 300.0, Priority.INTRADAY: 1200.0, Priority.BACKFILL: 3600.0}

_BACKOFF_SECONDS, _BACKOFF_CAP_SECONDS = 0.5, 8.0
_LIMITED_BACKOFF_SECONDS, _LIMITED_BACKOFF_CAP_SECONDS = 2.0, 20.0
_LEAST_RETRY_RESERVE, _RETRY_SHARE = 5, 0.1
_ERROR_BODY_LIMIT = 64 << 10
_CONNECT_SECONDS, _READ_SECONDS, _WRITE_SECONDS = 5.0, 20.0, 10.0

# The library lets errors of TLS after the handshake through as they are; they are OSErrors.
_BROKEN_OFF = (httpx.RemoteProtocolError, httpx.ReadError, OSError)

Transport = httpx.AsyncClient

_log = logging.getLogger(__name__)


class AccessTokens(Protocol):
    """Where the client gets its bearer token; both methods raise AuthError when there is none to be had."""

    async def access_token(self) -> str:
        """A token that is good now."""
        ...

    async def refresh_after_refusal(self, refused: str) -> str:
        """Another token than `refused`, which the source has just answered with 401."""
        ...


def open_http(*, ca_file: Path | None, in_flight: int) -> httpx.AsyncClient:
    """The transport: TLS checked against `ca_file` or the system's CAs, HTTP/1.1, gzip, no redirects, no cookies.

    Nothing of the environment (proxies, netrc, CA variables) is used. Belongs to the running event loop; the caller
    closes it.
    """
    client = httpx.AsyncClient(
        verify=ssl.create_default_context(cafile=str(ca_file) if ca_file else None),
        trust_env=False,
        http2=False,
        follow_redirects=False,
        headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
        limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
        timeout=httpx.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS, write=_WRITE_SECONDS, pool=None),
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


class SchwabClient:
    """Fetches market data from one base address, as one class of requests. One object serves one event loop.

    A call waits for its turn (`in_flight` at a time, in call order) and for a slot of the budget, at most
    QUEUE_SECONDS, longer where others go first; from then on it ends within `deadline_seconds` of real time, whatever
    the source does.
    """

    def __init__(
        self,
        *,
        base_url: str,
        http: httpx.AsyncClient,
        tokens: AccessTokens,
        budget: RequestBudget,
        clock: Clock,
        rng: random.Random,
        deadline_seconds: float = 30.0,
        max_response_bytes: int = 32 << 20,
        in_flight: int = 6,
        priority: Priority = Priority.INTRADAY,
        api: str = "/marketdata/v1",
    ) -> None:
        self._root = base_url.rstrip("/") + api
        self._http = http
        self._tokens = tokens
        self._budget = budget
        self._clock = clock
        self._rng = rng
        self._deadline_seconds = deadline_seconds
        self._max_response_bytes = max_response_bytes
        self._turn = asyncio.Semaphore(in_flight)
        self._retry_reserve = float(max(_LEAST_RETRY_RESERVE, in_flight))  # a reset may break off all that are out
        self._retry_credit = self._retry_reserve
        self._priority = priority
        self._queue_seconds = QUEUE_SECONDS[priority]

    async def fetch(self, request: MarketDataRequest) -> RawResponse:
        """The answer to `request`: always status 200, JSON by content type, and complete.

        Raises a SourceError that names the request, the problem and what to do; AuthError when only a person can
        help (log in again, correct the app key, repair the token file).
        """
        async with self._turn:
            call = _Call(request)
            granted = await self._admit(call)
            self._retry_credit = min(self._retry_reserve, self._retry_credit + _RETRY_SHARE)
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    return await self._answer(call, granted)
            except TimeoutError:
                if call.out_since is not None:
                    self._budget.note_failure(call.out_since)
                raise call.last_error or self._deadline_error(call) from None

    async def _admit(self, call: _Call) -> datetime:
        """Wait for the first slot; a dead login fails here, before it takes one."""
        try:
            async with asyncio.timeout(self._queue_seconds):
                await self._token(call)
                return await self._budget.acquire(self._priority)
        except TimeoutError:
            raise self._queue_error(call) from None

    async def _answer(self, call: _Call, granted: datetime) -> RawResponse:
        while True:
            token = await self._token(call)
            call.out_since = granted
            try:
                response = await self._exchange(call, token, granted)
            except SourceError as error:
                call.out_since = None
                self._note(error, granted)
                await self._prepare_repeat(call, token, error)
            else:
                self._budget.note_answer()
                return response
            granted = await self._budget.acquire(self._priority)

    def _note(self, error: SourceError, granted: datetime) -> None:
        """Let all processes know what the answer says of the source: over its limit, down, or neither."""
        if isinstance(error, RateLimitedError):
            self._budget.note_refusal(granted)
        elif isinstance(error, SourceUnavailableError):
            self._budget.note_failure(granted)
        else:
            self._budget.note_answer()

    async def _token(self, call: _Call) -> SecretStr:
        try:
            return SecretStr(await self._tokens.access_token())
        except AuthUnavailableError as error:
            raise SourceUnavailableError(call.summary, f"no access token ({error})", "Ask again later.") from error

    async def _exchange(self, call: _Call, token: SecretStr, granted: datetime) -> RawResponse:
        call.attempts += 1
        call.retry_after = None
        correlation = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        opened = _Opened()
        try:
            async with self._http.stream(
                "GET",
                _address(self._root, call.request),
                auth=_Bearer(token),
                headers={"Schwab-Client-CorrelId": correlation},
                extensions={"trace": opened.note},
            ) as response:
                return await self._read(call, response, granted)
        except asyncio.CancelledError:
            await opened.close()
            raise
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # without its cause: the library's frames hold the Authorization header
            raise connection_failure(call.summary, error) from None

    async def _read(self, call: _Call, response: httpx.Response, granted: datetime) -> RawResponse:
        content_type = response.headers.get("content-type", "")
        if response.status_code != 200 or "json" not in content_type.lower():
            call.retry_after = retry_after_seconds(response.headers, now=self._clock.now())
            raise refusal(call.summary, response.status_code, content_type, await _error_body(call, response))
        try:
            body = await read_body(response, summary=call.summary, limit=self._max_response_bytes)
        except _BROKEN_OFF as error:
            raise CutResponseError(call.summary, f"the body broke off ({error})", "Ask again.", 200) from None
        check_json_shape(body, summary=call.summary)
        return RawResponse(
            request=call.request,
            status=response.status_code,
            body=body,
            headers=_kept_headers(response),
            requested_time=granted,
            received_time=self._clock.now(),
            attempts=call.attempts,
        )

    async def _prepare_repeat(self, call: _Call, token: SecretStr, error: SourceError) -> None:
        """Return when the call may be repeated, after the wait that takes; else raise `error`."""
        call.last_error = error
        if call.attempts >= MAX_TRIES:
            raise error
        if isinstance(error, NotAuthorizedError) and error.status == 401 and not call.was_refreshed:
            call.was_refreshed = True
            await self._refresh(call, token)
            return
        if not error.is_retryable:
            raise error
        if isinstance(error, RateLimitedError):
            wait = self._wait(call, _LIMITED_BACKOFF_SECONDS, _LIMITED_BACKOFF_CAP_SECONDS)
            await self._budget.pause_until(self._clock.now() + timedelta(seconds=wait))
        else:
            self._spend_retry(error)
            wait = self._wait(call, _BACKOFF_SECONDS, _BACKOFF_CAP_SECONDS)
            await self._clock.sleep(wait)
        _log.warning("%s: attempt %d failed (%s), asking again", call.summary, call.attempts, error.reason)

    async def _refresh(self, call: _Call, token: SecretStr) -> None:
        try:
            await self._tokens.refresh_after_refusal(token.get_secret_value())
        except AuthUnavailableError as error:
            raise SourceUnavailableError(call.summary, f"no access token ({error})", "Ask again later.") from error

    def _wait(self, call: _Call, base: float, cap: float) -> float:
        """Seconds: what the source asked for, else full jitter below an exponentially growing bound."""
        if call.retry_after is not None:
            return min(call.retry_after, LONGEST_PAUSE_SECONDS)
        return self._rng.uniform(0.0, min(cap, base * 2.0 ** (call.attempts - 1)))

    def _spend_retry(self, error: SourceError) -> None:
        """Retries are at most a tenth of the requests and those of one reset, lest an outage be answered by a flood."""
        if self._retry_credit < 1.0:
            raise error
        self._retry_credit -= 1.0

    def _queue_error(self, call: _Call) -> NoSlotError:
        problem = f"no slot of the request limit within {self._queue_seconds:g} s"
        advice = "Ask again later; `trade-analyst plan` shows whether the session fits into the limit."
        return NoSlotError(call.summary, problem, advice)

    def _deadline_error(self, call: _Call) -> DeadlineExceededError:
        problem = f"no answer within {self._deadline_seconds:g} s"
        return DeadlineExceededError(call.summary, problem, "Ask again later, or raise schwab.deadline_seconds.")


@dataclass
class _Call:
    """The state of one fetch over its attempts; `out_since` is when the one under way was granted."""

    request: MarketDataRequest
    attempts: int = 0
    was_refreshed: bool = False
    out_since: datetime | None = None
    retry_after: float | None = None
    last_error: SourceError | None = None

    @property
    def summary(self) -> RequestSummary:
        return RequestSummary(self.request.dataset, self.request.path, self.request.symbols, max(1, self.attempts))


class _Opened:
    """The connection one exchange has opened, if any, to close it where the library forgets it.

    It does so when a call is cancelled in the middle of a TLS handshake: the socket would stay open until it is
    collected as garbage.
    """

    def __init__(self) -> None:
        self._stream: Any = None

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        """The library's `trace` of what it does."""
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]

    async def close(self) -> None:
        """Close it; once more does no harm."""
        if self._stream is not None:
            await self._stream.aclose()


class _Bearer(httpx.Auth):
    """Keeps the token out of frames and reprs until the header is written."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request


def _kept_headers(response: httpx.Response) -> tuple[tuple[str, str], ...]:
    """The headers that are kept with a response: all but cookies, and whatever echoes a token masked."""
    return tuple((name, redact(value)) for name, value in response.headers.multi_items() if name != "set-cookie")


def _address(root: str, request: MarketDataRequest) -> str:
    query = urlencode(request.params, quote_via=quote, safe="")
    return root + quote(request.path, safe="/$") + (f"?{query}" if query else "")


async def _error_body(call: _Call, response: httpx.Response) -> bytes:
    """The text of a refusal as far as it can be had; the status alone says enough."""
    try:
        return await read_body(response, summary=call.summary, limit=_ERROR_BODY_LIMIT)
    except (SourceError, *_BROKEN_OFF):
        return b""
