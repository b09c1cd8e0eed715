"""Failures on demand: one place where an answer may be replaced before it is sent.

A fault names the requests it is for and how often it strikes; what it does is a function from answer to answer. The
functions that follow make the failures that clients have met. Tests switch them on through `SimulatorServer.faults`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from trade_analyst_pipeline.simulator.answers import JSON, Answer, html_answer, json_answer
from trade_analyst_pipeline.simulator.oauth import DeadToken, dead_refresh_token, invalid_client
from trade_analyst_pipeline.simulator.wire_reference import errors_body

Change = Callable[[Answer], Answer]


@dataclass(frozen=True)
class Ask:
    """A request as a fault sees it: `path` below the market-data base (`/chains`) or the whole OAuth path."""

    path: str
    symbols: tuple[str, ...] = ()
    instant: datetime | None = None


@dataclass
class Fault:
    """A change for some requests. A None matches everything; `times_left` None means always.

    A `*` in `path` stands for anything. The first `skip_left` matching requests are spared.
    """

    change: Change
    path: str | None = None
    symbol: str | None = None
    instant: datetime | None = None
    times_left: int | None = 1
    struck: int = 0
    skip_left: int = 0

    def matches(self, ask: Ask) -> bool:
        """Whether it is for this request."""
        return (
            self.times_left != 0
            and (self.path is None or self.path == ask.path or fnmatchcase(ask.path, self.path))
            and (self.symbol is None or self.symbol in ask.symbols)
            and (self.instant is None or self.instant == ask.instant)
        )


@dataclass
class FaultPlan:
    """The faults switched on at present, the oldest first; at most one strikes a request."""

    faults: list[Fault] = field(default_factory=list)

    def add(
        self,
        change: Change,
        *,
        path: str | None = None,
        symbol: str | None = None,
        instant: datetime | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> Fault:
        """Switch a fault on for the next `times` matching requests (None: for all) after `skip` others."""
        fault = Fault(change, path, symbol, instant, times, skip_left=skip)
        self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Switch all faults off."""
        self.faults.clear()

    def apply(self, ask: Ask, answer: Answer) -> Answer:
        """The answer as the first matching fault leaves it."""
        for fault in self.faults:
            if fault.matches(ask):
                if fault.skip_left > 0:
                    fault.skip_left -= 1
                    continue
                fault.struck += 1
                fault.times_left = None if fault.times_left is None else fault.times_left - 1
                return fault.change(answer)
        return answer


# -- whole answers -------------------------------------------------------------------------------------------------


def answered(status: int, body: bytes = b"", content_type: str = "application/json", **headers: str) -> Change:
    """Any answer; header names with `_` for `-`."""
    sent = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return lambda _: Answer(status, body, content_type, sent)


def rate_limited(retry_after: str | None = None) -> Change:
    """429, with `Retry-After` when given."""
    headers = () if retry_after is None else (("retry-after", retry_after),)
    return lambda _: replace(json_answer(errors_body(429, "Too Many Requests"), 429), headers=headers)


def server_error() -> Change:
    """500 in the usual error shape."""
    return lambda _: json_answer(errors_body(500, "Internal Server Error"), 500)


def unauthorized() -> Change:
    """401, as for a token that has just been revoked."""
    return lambda _: json_answer(errors_body(401, "Unauthorized", "Client not authorized"), 401)


def token_dead(kind: DeadToken = "revoked") -> Change:
    """400 of the token endpoint for a refresh token that has ended, in one of the recorded shapes."""
    return lambda _: dead_refresh_token(kind)


def app_refused() -> Change:
    """401 of the OAuth pages for an app that is unknown, wrong in its secret or not approved yet."""
    return lambda _: invalid_client()


def app_pending() -> Change:
    """500 page of the OAuth pages, as seen while an app waits for its approval."""
    return lambda _: html_answer(500, "Whitelabel Error Page", "This application has no explicit mapping for /error.")


def body_too_big() -> Change:
    """502 of the gateway for an answer over its limit."""
    return lambda _: too_big_answer()


def too_big_answer() -> Answer:
    """What the gateway says when a body is over its limit."""
    detail = {"errorcode": "protocol.http.TooBigBody"}
    return json_answer({"fault": {"faultstring": "Body buffer overflow", "detail": detail}}, 502)


def access_denied() -> Change:
    """403 page of the edge."""
    return lambda _: html_answer(403, "Access Denied", "You don't have permission. Reference #18.7d5c.1")


def html_page(status: int = 200) -> Change:
    """A page where JSON was asked for."""
    return lambda _: html_answer(status, "Maintenance", "We will be back soon.")


def cut_body() -> Change:
    """The connection breaks half way through the body."""
    return lambda answer: replace(answer, is_cut=True)


def slow(seconds: float) -> Change:
    """The right answer, that much later."""
    return lambda answer: replace(answer, delay_seconds=answer.delay_seconds + seconds)


def dripping(piece_bytes: int, seconds: float) -> Change:
    """The right answer in pieces of that size, with a pause between them."""
    return lambda answer: replace(answer, drip_bytes=piece_bytes, drip_seconds=seconds)


def oversized(size_bytes: int) -> Change:
    """The right answer, blown up to at least that size with white space that JSON allows."""
    return lambda answer: replace(answer, body=answer.body.ljust(size_bytes))


def gzip_bomb(mebibytes: int) -> Change:
    """A small gzip body that unpacks to so many MiB of zeros."""
    packer, zeros = zlib.compressobj(9, wbits=31), bytes(1 << 20)
    body = b"".join(packer.compress(zeros) for _ in range(mebibytes)) + packer.flush()
    return lambda answer: Answer(200, body, answer.content_type, (("Content-Encoding", "gzip"),))


def under_maintenance(closure: str = "page") -> Change:
    """503 while the source is being worked on: a `page`, a `message` as JSON, or the 404 text of the `gateway`."""
    if closure == "gateway":
        return lambda _: Answer(404, b"Requested route ('api') does not exist", "text/plain")
    if closure == "message":
        return lambda _: json_answer({"message": "Service Unavailable"}, 503)
    return html_page(503)


def truncated_json(share: float = 0.5) -> Change:
    """A complete answer whose JSON text ends early."""
    return lambda answer: replace(answer, body=answer.body[: int(len(answer.body) * share)])


# -- inside a body -------------------------------------------------------------------------------------------------


def edited(edit: Callable[[Any], Any]) -> Change:
    """The JSON value after `edit`, which changes it in place or returns another; NaN becomes a bare token.

    An answer that is no JSON stays as it is.
    """

    def change(answer: Answer) -> Answer:
        if answer.content_type != JSON:
            return answer
        value = json.loads(answer.body)
        result = edit(value)
        return replace(answer, body=json.dumps(value if result is None else result, separators=(",", ":")).encode())

    return change


def contracts_in(chain: Any) -> Iterator[dict[str, Any]]:
    """The contracts of a decoded chain, in order."""
    for side in ("callExpDateMap", "putExpDateMap"):
        for row in chain.get(side, {}).values():
            for found in row.values():
                yield from found


def contract_fields(count: int = 1, **fields: Any) -> Change:
    """Other values in the first `count` contracts of a chain: a wrong type, -999, NaN, a crossed quote."""

    def edit(chain: Any) -> None:
        for _, contract in zip(range(count), contracts_in(chain), strict=False):
            contract.update(fields)

    return edited(edit)


def without_fields(*names: str, count: int = 1) -> Change:
    """The first `count` contracts of a chain lack these fields."""

    def edit(chain: Any) -> None:
        for _, contract in zip(range(count), contracts_in(chain), strict=False):
            for name in names:
                contract.pop(name)

    return edited(edit)


def duplicate_key(name: str, text: str = "1.0") -> Change:
    """The first occurrence of a key stands twice, first with the value `text`."""

    def change(answer: Answer) -> Answer:
        key = f'"{name}":'.encode()
        return replace(answer, body=answer.body.replace(key, key + text.encode() + b"," + key, 1))

    return change


def empty_candles() -> Change:
    """A price history of 200 without candles, as bursts have been answered."""
    return edited(lambda history: {"candles": [], "symbol": history.get("symbol", ""), "empty": True})


def empty_chain() -> Change:
    """A chain without contracts, status FAILED."""

    def edit(chain: Any) -> None:
        chain.update(status="FAILED", numberOfContracts=0, callExpDateMap={}, putExpDateMap={})

    return edited(edit)
