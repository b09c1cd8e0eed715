"""What the simulator does with a request, apart from sockets: OAuth, market data, limits and failures on demand.

The address names the instant; what stands at it is answered by `routes.py`. Threads, TLS and ports are in `server.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from trade_analyst_pipeline.simulator import routes
from trade_analyst_pipeline.simulator.answers import Answer, json_answer
from trade_analyst_pipeline.simulator.faults import Ask, FaultPlan, empty_candles, rate_limited, under_maintenance
from trade_analyst_pipeline.simulator.limits import Conditions
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import OAuthDesk
from trade_analyst_pipeline.simulator.streamer import StreamSocket, Transports
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk
from trade_analyst_pipeline.simulator.tape import Tape
from trade_analyst_pipeline.simulator.wire_reference import errors_body

_FIXED_HEADERS = {
    "Schwab-Resource-Version": "1",
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Expires": "-1",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}
_NOTHING = Answer(200, b"")
_SMALLEST_GZIP = 512


@lru_cache(maxsize=4096)
def parse_instant(text: str) -> datetime:
    """The UTC instant in a base address; raises ValueError for a text without zone or that is no instant."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        message = f"{text!r} has no time zone: write it as 2026-01-05T20:55:00Z"
        raise ValueError(message)
    return instant.astimezone(UTC)


class _CutResponse(Response):
    """Announces its whole body, sends half of it and breaks off."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})


class _DrippingResponse(Response):
    """Sends its body in pieces, with a pause before each but the first."""

    def __init__(self, answer: Answer, headers: dict[str, str]) -> None:
        super().__init__(answer.body, answer.status, headers)
        self._size, self._pause = answer.drip_bytes, answer.drip_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), self._size):
            await asyncio.sleep(self._pause if start else 0.0)
            piece = bytes(self.body[start : start + self._size])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class SimulatorApp:
    """What the server does with a request, apart from sockets.

    `compress` answers with gzip those who accept it; on loopback that costs more than it saves, so it is off.
    `conditions` limit what is answered, `faults` then change it.
    """

    def __init__(
        self,
        market: Market,
        *,
        desk: OAuthDesk,
        now: Callable[[], datetime],
        faults: FaultPlan | None = None,
        compress: bool = False,
    ) -> None:
        self.market = market
        self.desk = desk
        self.faults = faults if faults is not None else FaultPlan()
        self.conditions = Conditions()
        self.requests: Counter[str] = Counter()
        self.streamer = StreamerDesk(Tape(market), desk.accepts)
        self.transports: Transports = _no_transport
        self._now = now
        self._compress = compress

    def asgi(self) -> Starlette:
        """The application to serve."""
        return Starlette(
            routes=[
                Route("/v1/oauth/authorize", self._authorize),
                Route("/v1/oauth/token", self._token, methods=["POST"]),
                Route("/marketdata/v1{rest:path}", self._market_data),
                Route("/at/{instant}/marketdata/v1{rest:path}", self._market_data),
                Route("/trader/v1/userPreference", self._preference),
                Route("/at/{instant}/trader/v1/userPreference", self._preference),
                Route("/truth/{what:str}", self._truth),
                WebSocketRoute("/ws", self._stream),
                WebSocketRoute("/at/{instant}/ws", self._stream),
            ]
        )

    async def _authorize(self, request: Request) -> Response:
        answer = self.desk.authorize(dict(request.query_params))
        return await self._reply(request, Ask(request.url.path), answer)

    async def _token(self, request: Request) -> Response:
        form = dict(_form(await request.body()))
        answer = self.desk.token(request.headers.get("authorization"), form)
        await asyncio.sleep(self.desk.answer_seconds)
        return await self._reply(request, Ask(request.url.path), answer)

    async def _market_data(self, request: Request) -> Response:
        path, params = request.path_params["rest"], request.query_params
        named = params.get("symbols", params.get("symbol", ""))
        symbols = tuple(named.split(",")) if named else (path[1:].partition("/")[0],)
        try:
            text = request.path_params.get("instant")
            instant = self._now() if text is None else parse_instant(text)
        except ValueError as error:
            answer = json_answer(errors_body(400, "Bad Request", str(error)), 400)
            return await self._reply(request, Ask(path, symbols), answer)
        refusal = self._closed(instant) or self._refusal(request.headers.get("authorization")) or self._limited()
        answer = refusal or routes.answer(self.market, instant, path, params, self.conditions.limits)
        if path == "/pricehistory" and self.conditions.burst is not None and self.conditions.burst.is_over():
            answer = answer if answer.status != 200 else empty_candles()(answer)
        return await self._reply(request, Ask(path, symbols, instant), answer)

    async def _preference(self, request: Request) -> Response:
        """Where the streamer is: at the address that was asked, under the same instant."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        instant = request.path_params.get("instant")
        place = "" if instant is None else f"/at/{instant}"
        body = self.streamer.preference(f"wss://{request.headers.get('host', '')}{place}/ws")
        answer = json_answer(body) if self.desk.accepts(token) else json_answer({"message": "Unauthorized"}, 401)
        return await self._reply(request, Ask("/userPreference"), answer)

    async def _truth(self, request: Request) -> Response:
        """Every print or quote of a symbol between two instants, as CSV: what is behind the stream, sent or not."""
        tape, params = self.streamer.tape, request.query_params
        tell = tape.prints if request.path_params["what"] == "prints" else tape.quotes
        try:
            first, until = (parse_instant(params.get(name, "")) for name in ("first", "until"))
            table = tell(params.get("symbol", ""), first, until, self.streamer.rules.conflation)
        except KeyError as error:
            answer = json_answer(errors_body(404, "Not Found", f"no flow of {error}"), 404)
        except ValueError as error:
            answer = json_answer(errors_body(400, "Bad Request", str(error)), 400)
        else:
            answer = Answer(200, table.write_csv().encode(), "text/csv;charset=UTF-8")
        return await self._reply(request, Ask("/truth"), answer)

    async def _stream(self, websocket: WebSocket) -> None:
        text = websocket.path_params.get("instant")
        try:
            instant = self._now() if text is None else parse_instant(text)
        except ValueError:
            await websocket.close()
            return
        await StreamSocket(self.streamer, self.transports).serve(websocket, text or "", instant)

    def _closed(self, instant: datetime) -> Answer | None:
        closure = self.conditions.closure_at(instant)
        return None if closure is None else under_maintenance(closure)(_NOTHING)

    def _limited(self) -> Answer | None:
        quota = self.conditions.quota
        wait = None if quota is None else quota.admit()
        return None if quota is None or wait is None else rate_limited(quota.retry_after(wait))(_NOTHING)

    def _refusal(self, authorization: str | None) -> Answer | None:
        if authorization is None:
            body = errors_body(400, "Bad Request", "Missing header", {"header": "Authorization"})
            return json_answer(body, 400)
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not self.desk.accepts(token):
            return json_answer(errors_body(401, "Unauthorized", "Client not authorized"), 401)
        return None

    async def _reply(self, request: Request, ask: Ask, answer: Answer) -> Response:
        self.requests[ask.path] += 1
        answer = self.faults.apply(ask, answer)
        if answer.delay_seconds > 0.0:
            await asyncio.sleep(answer.delay_seconds)
        correlation = request.headers.get("schwab-client-correlid") or str(uuid.uuid4())
        date = formatdate(self.desk.now(), usegmt=True)
        headers = {"Date": date, "Schwab-Client-CorrelId": correlation, **_FIXED_HEADERS, **dict(answer.headers)}
        body = answer.body
        if (
            self._compress
            and "Content-Encoding" not in headers
            and len(body) >= _SMALLEST_GZIP
            and "gzip" in request.headers.get("accept-encoding", "")
        ):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        headers["Content-Type"] = answer.content_type
        if answer.drip_bytes > 0:
            return _DrippingResponse(replace(answer, body=body), headers)
        return (_CutResponse if answer.is_cut else Response)(body, answer.status, headers)


def _no_transport(_: tuple[str, int]) -> None:
    """Nobody knows the sockets behind an application that another server serves."""


def _form(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
