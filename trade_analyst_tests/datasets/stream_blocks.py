"""Blocks of the stream made of the simulator's contents, and trades derived from the same messages a second time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from trade_analyst_pipeline.market.stream_blocks import (
    CARRIED_PATH,
    EPOCH_PARAM,
    RECEIVED_PATH,
    StreamMessage,
    pack_block,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.simulator.stream_feed import Contents, Feed
from trade_analyst_pipeline.simulator.tape import Conflation, Tape

FIELDS = frozenset(["1", "2", "3", "4", "5", "8", "9", "34", "35", "41"])
OPEN = datetime(2025, 12, 9, 14, 30, tzinfo=UTC)

Message = tuple[int, str]


def milliseconds(instant: datetime) -> int:
    """Since 1970."""
    return round(instant.timestamp() * 1000)


def message_of(contents: Contents) -> Message:
    """A data frame of the wire, received half a millisecond after the source's time."""
    part = {
        "service": contents.service,
        "timestamp": contents.timestamp,
        "command": "SUBS",
        "content": contents.items,
    }
    return contents.timestamp * 1_000_000 + 500_000, json.dumps({"data": [part]}, separators=(",", ":"))


def streamed(
    tape: Tape, symbols: list[str], minutes: int, conflation: Conflation, *, start: datetime = OPEN
) -> list[Message]:
    """Everything that a subscriber to shares gets from `start` on."""
    feed = Feed(tape, conflation)
    first = milliseconds(start)
    sent = feed.subscribe("LEVELONE_EQUITIES", symbols, FIELDS, first, replaces=True)
    until = first + 60_000 * minutes
    return [message_of(each) for each in (*sent, *feed.pull(until))]


def block(messages: Iterable[Message], *, epoch: int = 1, is_carried: bool = False) -> RawResponse:
    """The record of a segment that holds these messages."""
    listed = list(messages)
    body = pack_block(StreamMessage(received, text.encode()) for received, text in listed)
    request = MarketDataRequest("stream", CARRIED_PATH if is_carried else RECEIVED_PATH, ((EPOCH_PARAM, str(epoch)),))
    first, last = (
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at[0] // 1000) for at in (listed[0], listed[-1])
    )
    return RawResponse(request, 101, body, (), first, last)


def carried(messages: Iterable[Message]) -> Message:
    """How every symbol stands after these messages, as the message that a segment begins with."""
    state: dict[str, dict[str, Any]] = {}
    received = 0
    for received, text in messages:  # noqa: B007  the last is used
        for part in json.loads(text).get("data", []):
            for item in part["content"]:
                state.setdefault(item["key"], {}).update(item)
    part = {"service": "LEVELONE_EQUITIES", "timestamp": received // 1_000_000, "command": "SUBS"}
    return received, json.dumps({"data": [part | {"content": list(state.values())}]}, separators=(",", ":"))


def plain_trades(messages: Iterable[Message]) -> list[tuple[Any, ...]]:
    """(symbol, kind, price, size, volume, bid, ask) of each rise of volume, with a dictionary per symbol.

    A second reckoning of what `timesales` does, for one connection without a silence.
    """
    state: dict[str, dict[str, Any]] = {}
    found: list[tuple[Any, ...]] = []
    for _, text in messages:
        for part in json.loads(text).get("data", []):
            for item in part["content"]:
                before = state.get(item["key"])
                if before is None:
                    state[item["key"]] = dict(item)
                    continue
                rise = item.get("8", before["8"]) - before["8"]
                after = before | item
                is_shown = "3" in item or "9" in item or item.get("35", before["35"]) != before["35"]
                if rise > 0:
                    size = min(after["9"], rise) if is_shown or rise == after["9"] else 0
                    at = (before["1"] or None, before["2"] or None)
                    if rise > size:
                        price = after["3"] if size else None
                        found.append((item["key"], "unseen", price, rise - size, after["8"] - size, *at))
                    if size:
                        found.append((item["key"], "shown", after["3"], size, after["8"], *at))
                state[item["key"]] = after
    return found
