"""One session streamed: one connection after another, each message kept before it is looked at, until the hours end.

Connections are made again for ever, at once the first time and then after growing waits. What each brings goes to the
journal as it came; taken apart, it answers our commands, moves the symbols' state, and proves or breaks delivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from trade_analyst_pipeline.capture.bounded_log import BoundedLog
from trade_analyst_pipeline.capture.stream_conversation import Conversation, severed
from trade_analyst_pipeline.capture.stream_delivery import Delivery
from trade_analyst_pipeline.capture.stream_journal import Journal
from trade_analyst_pipeline.capture.stream_plan import Hours, Wanted
from trade_analyst_pipeline.capture.stream_state import StreamState
from trade_analyst_pipeline.capture.stream_watch import StreamWatch
from trade_analyst_pipeline.errors import AuthError, SourceError, StreamEndedError, StreamFrameError
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.market.stream_blocks import StreamMessage
from trade_analyst_pipeline.schwab.stream import StreamFrame, read_frame
from trade_analyst_pipeline.schwab.stream_connection import PING_SECONDS, PONG_SECONDS, StreamConnection
from trade_analyst_pipeline.schwab.stream_requests import StreamAddress
from trade_analyst_pipeline.schwab.stream_source import StreamSource
from trade_analyst_pipeline.storage.segments import StreamGap, StreamGapReason

TICK_SECONDS: Final = 0.25
BACKOFF_SECONDS, BACKOFF_CAP_SECONDS = 1.0, 60.0
DISPLACED_SECONDS: Final = (60.0, 120.0)  # before the seat of the one connection is taken back from another program
_GOOD_SECONDS: Final = 30.0  # a connection that lived as long ends the growth of the waits
_LOGOUT_SECONDS: Final = 2.0
_RESUBSCRIBE_SECONDS: Final = 60.0
_STALL_SECONDS: Final = 1.0
_STALL_SHOWS_SECONDS: Final = 30.0  # so long after a stall an end of the connection is still its doing
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS: Final = {
    "silence": StreamGapReason.SILENCE,
    "displaced": StreamGapReason.DISPLACED,
    "login": StreamGapReason.LOGIN,
}

_log = logging.getLogger("trade_analyst.stream")


@dataclass
class Figures:
    """Counts of one session, and how things stand in it."""

    messages: int = 0
    message_bytes: int = 0
    connections: int = 0
    left_out: int = 0
    connected_time: datetime | None = None
    message_time: datetime | None = None
    detail: str = ""


class SessionStream:
    """The connections of one session; `source` is asked for each, `journal` keeps what they bring."""

    def __init__(
        self,
        hours: Hours,
        asked: tuple[Wanted, ...],
        source: StreamSource,
        journal: Journal,
        state: StreamState,
        *,
        clock: Clock,
        rng: random.Random,
        stop: asyncio.Event,
    ) -> None:
        self.hours = hours
        self.figures = Figures()
        self.gaps: Counter[str] = Counter()
        self.delivery = Delivery(asked, self._note)
        self._asked = asked
        self._source = source
        self._journal = journal
        self._state = state
        self._clock = clock
        self._rng = rng
        self._stop = stop
        self._watch = StreamWatch()
        self._warnings = BoundedLog(_log)
        self._address: StreamAddress | None = None
        self._refused_token: str | None = None
        self._epoch = 0
        self._proof = self._data_proof = clock.now()
        self._is_stalled = False
        self._stall_ended: float | None = None
        self._resubscribe_at: float | None = None
        self._resubscribed_at: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the hours have ended, or the collector is to stop."""
        return self._stop.is_set() or self._clock.now() >= self.hours.ends

    async def run(self) -> None:
        """Stream until the hours end or the collector is to stop."""
        failures = 0
        while not self.is_over:
            began = self._now()
            try:
                await self._connection()
            except StreamEndedError as error:
                self._lost(error)
                reason = error.reason
            except (SourceError, AuthError, StreamFrameError) as error:
                self._lost(StreamEndedError("login" if isinstance(error, AuthError) else "unreachable", str(error)))
                reason = "login" if isinstance(error, AuthError) else "unreachable"
            else:
                break
            is_good = self.figures.connected_time is not None and self._now() - began >= _GOOD_SECONDS
            failures = 0 if is_good else failures
            self.figures.connected_time = None
            await self._pause(self._wait(reason, failures))
            failures += 1
        self.delivery.finish(min(self._clock.now(), self.hours.ends))

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _connection(self) -> None:
        """Connect, log in, subscribe and take what comes; returns when it is over. Raises StreamEndedError."""
        if not await self._room():
            return
        address = self._address or await self._source.address()
        self._address = None  # asked for again unless this log-in succeeds
        token = await self._token()
        connection = await self._source.connect(address)
        self.figures.connections += 1
        self._epoch = max(self._epoch + 1, (self._clock.now() - _EPOCH) // timedelta(microseconds=1))
        self._state.forget()
        self._watch.opened(self._now())
        conversation = Conversation(address, self._asked, self._refused)
        self._resubscribe_at = None
        watching = asyncio.create_task(self._watching(connection, conversation))
        try:
            await connection.send(conversation.login(token, self._now()))
            await self._reading(connection, conversation)
        except StreamEndedError as error:
            if error.reason == "finished" or (self.is_over and conversation.is_logged_in):
                return
            if error.reason == "login_denied":
                await self._denied(token, error)
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOGOUT_SECONDS * 2):
                    await connection.close()
            if conversation.is_logged_in:
                self._address, self._refused_token = address, None

    async def _reading(self, connection: StreamConnection, conversation: Conversation) -> None:
        while True:
            if not self._journal.has_room and not await self._room():
                raise StreamEndedError("finished", "the collector stops")
            message = await connection.receive()
            was_logged_in = conversation.is_logged_in
            if self._take(message, conversation):
                if conversation.is_logged_in and not was_logged_in:
                    self.figures.connected_time = self._clock.now()
                await self._send_due(connection, conversation)

    async def _send_due(self, connection: StreamConnection, conversation: Conversation) -> None:
        text = conversation.due(self._now())
        if text is not None:
            await connection.send(text)

    def _take(self, message: bytes, conversation: Conversation) -> bool:
        """Keep a message, then see what it says; whether it held an answer. Raises StreamEndedError."""
        now, at = self._clock.now(), self._now()
        self._journal.take(self._epoch, StreamMessage((now - _EPOCH) // timedelta(microseconds=1) * 1000, message))
        self.figures.messages += 1
        self.figures.message_bytes += len(message)
        self.figures.message_time = now
        self._watch.message(at)
        try:
            frame = read_frame(message)
        except StreamFrameError as error:
            self._unreadable(error.reason)
            return False
        if frame.data:
            self._watch.data(at)
            for part in frame.data:
                self._state.apply(part)
                self.delivery.data(part, now)
            self._data_proof = now
        if frame.problems:
            self._unreadable(f"{frame.problems[0].place}: {frame.problems[0].reason}")
        self._proof = now
        return self._heed(frame, conversation, at) if frame.responses or frame.notices or frame.heartbeats else False

    def _heed(self, frame: StreamFrame, conversation: Conversation, at: float) -> bool:
        for _ in frame.heartbeats:
            self._watch.beat(at)
        for notice in frame.notices:
            if notice.severs:
                raise severed(notice.code, notice.text)
        for response in frame.responses:
            conversation.answered(response, at)
        return bool(frame.responses)

    def _unreadable(self, why: str) -> None:
        """Changes may be missing of any symbol: only full images tell again how things stand."""
        detail = f"a message that cannot be read ({why}); it is kept as it came"
        self._warnings.warning("unreadable", "%s", detail)
        self.delivery.lost(self._proof, StreamGapReason.UNREADABLE, detail)
        if self._resubscribe_at is None:
            last = self._resubscribed_at
            self._resubscribe_at = self._now() if last is None else max(self._now(), last + _RESUBSCRIBE_SECONDS)

    # -- beside it -----------------------------------------------------------------------------------------------------

    async def _watching(self, connection: StreamConnection, conversation: Conversation) -> None:
        """End the connection when it is dead, mute or over; send what is due."""
        pinged_at, pinging = self._now(), None
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)
                if self.is_over:
                    await self._leave(connection, conversation)
                    return
                self.delivery.tick(self._clock.now())
                if self._is_stalled:
                    pinged_at = self._now()
                    continue
                self._judge(connection)
                if self._now() - pinged_at >= PING_SECONDS:
                    pinged_at = self._now()
                    pinging = asyncio.create_task(self._ping(connection))
                self._resubscribe(conversation)
                await self._send_due(connection, conversation)
        except StreamEndedError as error:
            connection.abort(error.reason, error.detail)
        finally:
            if pinging is not None:
                pinging.cancel()
                await asyncio.gather(pinging, return_exceptions=True)

    def _judge(self, connection: StreamConnection) -> None:
        is_data_due = self.hours.opens <= self._clock.now() <= self.hours.closes and self.delivery.is_whole
        problem = self._watch.problem(self._now(), is_data_due=is_data_due)
        if problem is not None:
            connection.abort("silence", problem)

    async def _ping(self, connection: StreamConnection) -> None:
        try:
            async with asyncio.timeout(PONG_SECONDS):
                await connection.ping()
        except TimeoutError:
            if not self._is_stalled:
                connection.abort("silence", f"a ping was not answered within {PONG_SECONDS:g} s")
        except StreamEndedError:
            pass  # whoever reads is told

    def _resubscribe(self, conversation: Conversation) -> None:
        if self._resubscribe_at is not None and self._now() >= self._resubscribe_at and conversation.is_settled:
            self._resubscribe_at, self._resubscribed_at = None, self._now()
            conversation.subscribe()

    async def _leave(self, connection: StreamConnection, conversation: Conversation) -> None:
        """Log out, and end the connection whether that is answered or not."""
        if conversation.is_logged_in and not self._is_stalled:
            await connection.send(conversation.logout())
            await asyncio.sleep(_LOGOUT_SECONDS)
        connection.abort("finished", "the session is over, or the collector stops")

    async def _room(self) -> bool:
        """Wait until the journal has room; False when the collector is to stop before."""
        began = self._now()
        self._is_stalled = not self._journal.has_room
        while not self._journal.has_room:
            if self._stop.is_set():
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._journal.room(), 2 * TICK_SECONDS)
        if self._is_stalled:
            self._is_stalled = False
            self._watch.paused(self._now())
            if self._now() - began >= _STALL_SECONDS:
                self._stall_ended = self._now()
                self._warnings.warning("stall", "the disk held the stream up for %.1f s", self._now() - began)
        return True

    # -- between connections -------------------------------------------------------------------------------------------

    async def _token(self) -> str:
        if self._refused_token is not None:
            return await self._source.token_after_refusal(self._refused_token)
        return await self._source.token()

    async def _denied(self, token: str, error: StreamEndedError) -> None:
        """A token may have ended between two looks at it; one just made is refused for another reason."""
        if self._refused_token is not None:
            raise StreamEndedError("login", error.detail)
        self._refused_token = token

    def _lost(self, error: StreamEndedError) -> None:
        """Nothing is proven any more, from the last message on."""
        reason = _REASONS.get(error.reason, StreamGapReason.DISCONNECT)
        if reason is StreamGapReason.DISCONNECT and self._is_of_a_stall():
            reason = StreamGapReason.STALL
        since = self._data_proof if error.reason == "silence" else self._proof
        detail = error.detail
        self._warnings.warning(error.reason, "not connected (%s): %s", error.reason, detail)
        self.delivery.lost(min(since, self._clock.now()), reason, detail)
        if reason in {StreamGapReason.LOGIN, StreamGapReason.DISPLACED}:
            self.delivery.explain(self._clock.now(), reason, detail)
        self.figures.detail = f"{error.reason}: {detail}"

    def _is_of_a_stall(self) -> bool:
        return self._stall_ended is not None and self._now() - self._stall_ended <= _STALL_SHOWS_SECONDS

    def _wait(self, reason: str, failures: int) -> float:
        """Seconds until the next try: none the first time, then full jitter below a bound that doubles."""
        if reason == "displaced":
            return self._rng.uniform(*DISPLACED_SECONDS)
        if reason == "login":
            return BACKOFF_CAP_SECONDS
        if failures == 0:
            return 0.0
        return self._rng.uniform(0.0, min(BACKOFF_CAP_SECONDS, BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10)))

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the collector is to stop."""
        until = self._now() + seconds
        while not self.is_over and (left := until - self._now()) > 0.0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), min(left, 1.0))
            self.delivery.tick(self._clock.now())

    def _refused(self, service: str, symbols: tuple[str, ...], why: str) -> None:
        self.figures.left_out += len(symbols)
        self._warnings.warning("refused", "%d symbols of %s are left out: %s", len(symbols), service, why)
        now, reason = self._clock.now(), StreamGapReason.REFUSED
        self.delivery.lost(now, reason, why, service=service, symbols=symbols)
        self.delivery.explain(now, reason, why, service=service, symbols=symbols)

    def _note(self, gap: StreamGap) -> None:
        self.gaps[gap.reason] += 1
        self._journal.note(gap)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
