"""Messages of the streamer as they are kept: many of them, byte for byte, in the body of one archived record.

A block is what one connection sent in a row. Each message is a head (received instant, length) and its
bytes. Where blocks are stored belongs to `storage/segments.py`, what a message says to
`schwab/stream.py` and the datasets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from trade_analyst_pipeline.errors import StreamFrameError

RECEIVED_PATH: Final = "/stream"
"""Path of the records that hold messages as they arrived."""

CARRIED_PATH: Final = "/carried"
"""Path of the record that tells how symbols stood when a segment began in the middle of a connection.

It holds one message of our own in the shape of the streamer's data, an item for each symbol with the last value of
every field so far: with it a segment can be read without those before it. Nothing in it was received then.
"""

EPOCH_PARAM: Final = "epoch"
"""The parameter that says of which connection a record is: the instant it was made, in microseconds since 1970."""

_HEAD = struct.Struct("<QI")
HEAD_BYTES: Final = _HEAD.size


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message as it arrived: `received_ns` in nanoseconds since 1970, and its bytes, be it text or binary."""

    received_ns: int
    data: bytes


def pack_message(message: StreamMessage) -> bytes:
    """A message with its head; a block is these end to end."""
    return _HEAD.pack(message.received_ns, len(message.data)) + message.data


def pack_block(messages: Iterable[StreamMessage]) -> bytes:
    """The body of a record that holds these messages, in order."""
    return b"".join(map(pack_message, messages))


def unpack_block(body: bytes) -> Iterator[StreamMessage]:
    """The messages of a block, in the order they arrived; StreamFrameError (`damaged_block`) where it is not whole."""
    offset = 0
    while offset < len(body):
        start = offset + HEAD_BYTES
        if start > len(body):
            raise StreamFrameError("damaged_block", f"the head at byte {offset} is not whole")
        received_ns, length = _HEAD.unpack_from(body, offset)
        offset = start + length
        if offset > len(body):
            raise StreamFrameError("damaged_block", f"the message at byte {start} is not whole")
        yield StreamMessage(received_ns, body[start:offset])
