"""Segments of the stream: sealed captures of the name `stream`, whose records are blocks of messages.

A segment is filed under the session it was received in, and is read, verified, copied and compacted as any capture. A
record holds what one connection (its epoch) sent in a row; the first of a segment that begins in the middle of a
connection tells how its symbols stood. Each interval without proof of delivery is a gap among the records. How a block
is laid out is in `market/stream_blocks.py`; who writes segments is `capture/collect.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from trade_analyst_pipeline.market.stream_blocks import (
    CARRIED_PATH,
    EPOCH_PARAM,
    RECEIVED_PATH,
    StreamMessage,
    pack_block,
    unpack_block,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.captures import Gap

NAME: Final = "stream"
_STATUS = 101  # of a connection that is no request and answer any more


class StreamGapReason(StrEnum):
    """Why an interval of the stream has no proof of delivery; `docs/operations.md` has the table."""

    DISCONNECT = "disconnect"
    SILENCE = "silence"
    STALL = "stall"
    CRASH = "crash"
    NOT_RUNNING = "not_running"
    LOGIN = "login"
    DISPLACED = "displaced"
    REFUSED = "refused"
    SEQUENCE = "sequence"
    UNREADABLE = "unreadable"
    HALTED = "halted"


@dataclass(frozen=True)
class StreamGap:
    """An interval of the stream without proof of delivery, from the last proof before it to the first after, UTC.

    An empty `service` stands for all services, empty `symbols` for all that were subscribed to. `before` and `after`
    are the sequence numbers around it, of services that number what they send.
    """

    reason: StreamGapReason
    from_time: datetime
    to_time: datetime
    detail: str
    service: str = ""
    symbols: tuple[str, ...] = ()
    before: int | None = None
    after: int | None = None

    def as_gap(self) -> Gap:
        """The gap as a capture keeps it: service, times and numbers as the request that was not answered."""
        params = [("from", _text(self.from_time)), ("to", _text(self.to_time))]
        params += [("before", str(self.before))] if self.before is not None else []
        params += [("after", str(self.after))] if self.after is not None else []
        request = MarketDataRequest(NAME, f"/{self.service}", tuple(params), self.symbols)
        return Gap(NAME, self.symbols, self.reason, self.detail, request)


@dataclass(frozen=True)
class StreamBlock:
    """What one connection sent in a row; `epoch` is that of the connection, in microseconds since 1970.

    `is_carried` says that it holds no message that was received, but how symbols stood when the segment began.
    """

    epoch: int
    is_carried: bool
    messages: tuple[StreamMessage, ...]

    def as_record(self) -> RawResponse:
        """The block as a capture keeps it; a block without a message is none."""
        first_ns, last_ns = self.messages[0].received_ns, self.messages[-1].received_ns
        return block_record(self.epoch, pack_block(self.messages), first_ns, last_ns, is_carried=self.is_carried)


def block_record(epoch: int, body: bytes, first_ns: int, last_ns: int, *, is_carried: bool = False) -> RawResponse:
    """A packed block as a capture keeps it: `first_ns` and `last_ns` are when its first and last message came."""
    path = CARRIED_PATH if is_carried else RECEIVED_PATH
    request = MarketDataRequest(NAME, path, ((EPOCH_PARAM, str(epoch)),))
    return RawResponse(request, _STATUS, body, (), _instant(first_ns), _instant(last_ns))


def read_blocks(archive: Archive, capture: Capture) -> Iterator[StreamBlock]:
    """The blocks of a segment in the order they were received, every byte checked.

    Raises CaptureDamagedError, and StreamFrameError where a record is no block.
    """
    for response in archive.responses(capture):
        yield as_block(response)


def as_block(record: RawResponse) -> StreamBlock:
    """The block in a record of a segment; raises StreamFrameError (`damaged_block`)."""
    epoch = int(record.request.param(EPOCH_PARAM) or 0)
    return StreamBlock(epoch, record.request.path == CARRIED_PATH, tuple(unpack_block(record.body)))


def stream_gaps(capture: Capture) -> list[StreamGap]:
    """The gaps of a segment in the order they were noted.

    What the archive itself noted, such as a segment that a dead process left, is no interval and not among them.
    """
    return [_stream_gap(gap) for gap in capture.gaps if gap.reason in set(StreamGapReason)]


def _stream_gap(gap: Gap) -> StreamGap:
    assert gap.request is not None  # noqa: S101  each such gap was written by `as_gap`
    before, after = gap.request.param("before"), gap.request.param("after")
    return StreamGap(
        StreamGapReason(gap.reason),
        datetime.fromisoformat(gap.request.param("from") or ""),
        datetime.fromisoformat(gap.request.param("to") or ""),
        gap.detail,
        gap.request.path.removeprefix("/"),
        gap.symbols,
        None if before is None else int(before),
        None if after is None else int(after),
    )


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _instant(ns: int) -> datetime:
    seconds, rest = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
