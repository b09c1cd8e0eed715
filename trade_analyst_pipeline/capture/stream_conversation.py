"""What is asked on one connection and what the answers mean: the log-in, then each subscription in its turn.

One command is out at a time, since the source refuses some that come in parallel; answers are matched by number, not by
order. A subscription that is over the symbol limit is cut in halves until it fits. Nothing here sends or waits: times
are seconds of the caller's clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from trade_analyst_pipeline.capture.stream_plan import Wanted
from trade_analyst_pipeline.errors import StreamEndedError
from trade_analyst_pipeline.schwab.stream import StreamCode, StreamResponse
from trade_analyst_pipeline.schwab.stream_requests import (
    MOST_KEYS,
    StreamAddress,
    StreamRequest,
    addition,
    encode_requests,
    login,
    logout,
    subscription,
)

ANSWER_SECONDS: Final = 10.0
MOST_TRIES: Final = 3
_AGAIN_SECONDS: Final = 2.0
_HOPELESS: Final = frozenset({StreamCode.SERVICE_NOT_AVAILABLE, StreamCode.BAD_COMMAND_FORMAT})

Refused = Callable[[str, tuple[str, ...], str], None]
"""Told of symbols of a service that will not come on this connection, and why."""


@dataclass(frozen=True)
class _Ask:
    """Symbols of a service still to be asked for; `first` puts them in place of all others."""

    service: str
    symbols: tuple[str, ...]
    fields: tuple[int, ...]
    is_first: bool
    tries: int = 0

    def request(self, number: int) -> StreamRequest:
        make = subscription if self.is_first else addition
        return make(number, self.service, self.symbols, self.fields)


class Conversation:
    """The commands of one connection; `refused` is told of what the source does not give."""

    def __init__(self, address: StreamAddress, asked: Sequence[Wanted], refused: Refused) -> None:
        self._address = address
        self._asked = asked
        self._refused = refused
        self._number = 0
        self._waiting: deque[_Ask] = deque()
        self._out: _Ask | None = None
        self._out_since = 0.0
        self._not_before = 0.0
        self._taken: dict[str, int] = {}
        self.is_logged_in = False

    def login(self, access_token: str, now: float) -> str:
        """The first message."""
        self._out_since = now
        return self._encoded(login(self._next_number(), self._address, access_token))

    def logout(self) -> str:
        """The last message."""
        return self._encoded(logout(self._next_number()))

    def subscribe(self) -> None:
        """Ask for everything, in place of what was asked for before."""
        self._waiting.clear()
        self._out = None
        self._taken.clear()
        for wanted in self._asked:
            for start in range(0, len(wanted.symbols), MOST_KEYS):
                symbols = wanted.symbols[start : start + MOST_KEYS]
                self._waiting.append(_Ask(wanted.service, symbols, wanted.fields, is_first=start == 0))

    @property
    def is_settled(self) -> bool:
        """Whether everything asked for is answered."""
        return self.is_logged_in and self._out is None and not self._waiting

    def due(self, now: float) -> str | None:
        """The next message to send, None when none is due yet.

        Raises StreamEndedError (`no_answer`) when the source does not answer the log-in, or a command asked for time
        and again.
        """
        if not self.is_logged_in:
            if now - self._out_since > ANSWER_SECONDS:
                raise StreamEndedError("no_answer", f"the log-in was not answered within {ANSWER_SECONDS:g} s")
            return None
        if self._out is not None:
            if now - self._out_since <= ANSWER_SECONDS:
                return None
            self._retry(self._out, "it was not answered", now, wait=0.0)
            self._out = None
        if not self._waiting or now < self._not_before:
            return None
        self._out, self._out_since = self._waiting.popleft(), now
        return self._encoded(self._out.request(self._next_number()))

    def answered(self, response: StreamResponse, now: float) -> None:
        """Take an answer; one that is none of ours, or comes a second time, is passed over.

        Raises StreamEndedError: `login_denied`, `displaced` (another connection of this user), `stopped`, `lost`.
        """
        if response.number != self._number:
            return
        if not self.is_logged_in:
            self._logged_in(response)
            return
        if response.severs or response.code == StreamCode.STREAM_CONN_NOT_FOUND:
            raise severed(response.code, response.text)
        ask, self._out = self._out, None
        if ask is None:
            return
        if response.is_success:
            self._taken[ask.service] = self._taken.get(ask.service, 0) + len(ask.symbols)
        elif response.code == StreamCode.REACHED_SYMBOL_LIMIT:
            self._cut(ask)
        elif response.code in _HOPELESS:
            self._refuse(ask.service, [ask], f"the source answered with code {response.code} ({response.text})")
        else:
            self._retry(ask, f"code {response.code} ({response.text})", now, wait=_AGAIN_SECONDS)

    def _logged_in(self, response: StreamResponse) -> None:
        if not response.is_success:
            raise severed(response.code, response.text)
        self.is_logged_in = True
        self.subscribe()

    def _retry(self, ask: _Ask, why: str, now: float, *, wait: float) -> None:
        if ask.tries + 1 < MOST_TRIES:
            self._not_before = now + wait
            self._waiting.appendleft(replace(ask, tries=ask.tries + 1))
        elif wait == 0.0:
            raise StreamEndedError("no_answer", f"{ask.service} was asked for {MOST_TRIES} times: {why}")
        else:
            self._refuse(ask.service, [ask], f"refused {MOST_TRIES} times, the last with {why}")

    def _cut(self, ask: _Ask) -> None:
        """Half of it fits, perhaps; where not even one symbol does, nor does any other of that service."""
        middle = len(ask.symbols) // 2
        if middle:
            first, second = ask.symbols[:middle], ask.symbols[middle:]
            self._waiting.extendleft(
                [replace(ask, symbols=second, is_first=False, tries=0), replace(ask, symbols=first, tries=0)]
            )
            return
        limit = self._taken.get(ask.service, 0)
        self._refuse(ask.service, [ask], f"over the source's limit of symbols: {limit} were taken")

    def _refuse(self, service: str, asks: list[_Ask], why: str) -> None:
        """Neither these nor what is still to be asked of the service."""
        asks += [each for each in self._waiting if each.service == service]
        self._waiting = deque(each for each in self._waiting if each.service != service)
        self._refused(service, tuple(symbol for each in asks for symbol in each.symbols), why)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _encoded(self, request: StreamRequest) -> str:
        return encode_requests(self._address, [request])


def severed(code: int | None, text: str) -> StreamEndedError:
    """Why the streamer ends a connection, by its code."""
    words = {
        StreamCode.LOGIN_DENIED: "login_denied",
        StreamCode.CLOSE_CONNECTION: "displaced",
        StreamCode.STOP_STREAMING: "stopped",
    }
    reason = next((word for each, word in words.items() if each == code), "lost")
    return StreamEndedError(reason, f"code {code} ({text})")
