"""Messages of the streamer to columns of level-one updates, over their bytes.

A block holds messages end to end, each after a head of 12 bytes (received instant in nanoseconds, length; little
endian). Of JSON this reads only what the streamer usually writes: no blanks, no escapes, ASCII, numbers of at most 15
digits without an exponent, each field once. A message that is anything else is left to the caller, whole; of one that
is read, every value is exactly that which a JSON library reads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import (
    BYTES,
    FLOAT_ROWS,
    INTEGER_ROWS,
    INTEGERS,
    PLACES,
    READ_BYTE_ROWS,
    READ_TEXT,
    READ_TEXT_ROWS,
    TEXT,
    Bytes,
    Floats,
    Integers,
    Places,
    Text,
)
from trade_analyst_pipeline.kernels.level_one_trades import NUMBERS

HEAD_BYTES = 12
VENUE = NUMBERS
"""The slot of the one field that is text, at most 8 bytes of which are kept as an integer; 0 where not sent."""
UNREAD = -1
"""The slot of fields that are passed over."""
NO_TIMESTAMP = -1
NAME_BYTES = 32

_MOST_DIGITS = 15
_FIELDS = 62
_POWERS = 10.0 ** np.arange(_MOST_DIGITS + 1)
_BEGIN = np.frombuffer(b'{"data":[', np.uint8)
_BEAT = np.frombuffer(b'{"notify":[{"heartbeat":"', np.uint8)
_BEAT_END = np.frombuffer(b'"}]}', np.uint8)
_SERVICE = np.frombuffer(b"service", np.uint8)
_TIMESTAMP = np.frombuffer(b"timestamp", np.uint8)
_COMMAND = np.frombuffer(b"command", np.uint8)
_CONTENT = np.frombuffer(b"content", np.uint8)
_KEY = np.frombuffer(b"key", np.uint8)
_DELAYED = np.frombuffer(b"delayed", np.uint8)
_ASSET = np.frombuffer(b"asset", np.uint8)
_CUSIP = np.frombuffer(b"cusip", np.uint8)
_TRUE = np.frombuffer(b"true", np.uint8)
_FALSE = np.frombuffer(b"false", np.uint8)
_NULL = np.frombuffer(b"null", np.uint8)


@njit(inline="always")
def _is(text: Text, start: int, stop: int, word: Text) -> bool:
    if stop - start != len(word) or text[start] != word[0]:
        return False
    for i in range(1, len(word)):  # noqa: SIM110  compiled
        if text[start + i] != word[i]:
            return False
    return True


@njit(inline="always")
def _begins(text: Text, start: int, stop: int, word: Text) -> bool:
    return stop - start >= len(word) and _is(text, start, start + len(word), word)


@njit(inline="always")
def _text_end(text: Text, at: int, stop: int) -> int:
    """Where the text that begins after the quotation mark at `at` ends; -1 for what is not plain ASCII."""
    if at >= stop or text[at] != 34:
        return -1
    at += 1
    while at < stop:
        byte = text[at]
        if byte == 34:
            return at
        if byte < 32 or byte > 126 or byte == 92:
            return -1
        at += 1
    return -1


@njit(inline="always")
def _number_end(text: Text, at: int, stop: int) -> int:  # noqa: C901  JSON's grammar in one place
    """Where a JSON number ends; -1 where there is none."""
    if at < stop and text[at] == 45:
        at += 1
    start = at
    while at < stop and 48 <= text[at] <= 57:
        at += 1
    if at == start or (at - start > 1 and text[start] == 48):
        return -1
    if at < stop and text[at] == 46:
        at += 1
        start = at
        while at < stop and 48 <= text[at] <= 57:
            at += 1
        if at == start:
            return -1
    if at < stop and (text[at] == 101 or text[at] == 69):
        at += 1
        if at < stop and (text[at] == 43 or text[at] == 45):
            at += 1
        start = at
        while at < stop and 48 <= text[at] <= 57:
            at += 1
        if at == start:
            return -1
    return at


@njit(inline="always")
def _number(text: Text, start: int, stop: int) -> float:
    """The number written there; NaN for one of too many digits or with an exponent. Division rounds once, as it must.

    Both the digits and the power of ten are whole numbers that a double holds.
    """
    at, digits, after_point, value = start, 0, -1, 0
    if text[at] == 45:
        at += 1
    while at < stop:
        byte = text[at]
        if byte == 46:
            after_point = 0
        elif byte > 57:
            return np.nan
        else:
            value = value * 10 + (byte - 48)
            digits += 1
            if after_point >= 0:
                after_point += 1
        if digits > _MOST_DIGITS:
            return np.nan
        at += 1
    number: float = float(value) / _POWERS[max(after_point, 0)]
    return -number if text[start] == 45 else number


@njit(inline="always")
def _scalar_end(text: Text, at: int, stop: int) -> int:
    """Where a text, number, true, false or null ends; -1 for anything else."""
    if at >= stop:
        return -1
    first = text[at]
    if first == 34:
        end = _text_end(text, at, stop)
        return end + 1 if end >= 0 else -1
    if first < 58:
        return _number_end(text, at, stop)
    if _begins(text, at, stop, _TRUE) or _begins(text, at, stop, _NULL):
        return at + 4
    return at + 5 if _begins(text, at, stop, _FALSE) else -1


@njit(cache=True, nogil=True)
def _symbol(text: Text, start: int, stop: int, table: Places, names: Text, lengths: Integers) -> int:
    """The number of a symbol, a new one where it has none; -1 where it is too long or there are too many."""
    length = stop - start
    if length == 0 or length > NAME_BYTES:
        return -1
    spread = 1469598103934665603
    for i in range(start, stop):
        spread = (spread ^ int(text[i])) * 1099511628211
    place = (spread ^ (spread >> 29)) & (len(table) - 1)
    while table[place] >= 0:
        number = table[place]
        if lengths[number] == length:
            same = True
            for i in range(length):
                if names[number * NAME_BYTES + i] != text[start + i]:
                    same = False
                    break
            if same:
                return int(number)
        place = (place + 1) & (len(table) - 1)
    number = lengths[len(lengths) - 1]
    if number >= len(lengths) - 1:
        return -1
    table[place] = number
    lengths[number] = length
    for i in range(length):
        names[number * NAME_BYTES + i] = text[start + i]
    lengths[len(lengths) - 1] = number + 1
    return int(number)


@njit(inline="always")
def _field(text: Text, start: int, stop: int) -> int:
    """The number of a field that has one or two digits; -1 for any other name."""
    if stop - start == 1 and 48 <= text[start] <= 57:
        return int(text[start]) - 48
    if stop - start == 2 and 49 <= text[start] <= 57 and 48 <= text[start + 1] <= 57:
        return (int(text[start]) - 48) * 10 + int(text[start + 1]) - 48
    return -1


@njit(cache=True, nogil=True)
def _item(  # noqa: C901  one pass over the members
    text: Text,
    at: int,
    stop: int,
    slots: Bytes,
    table: Places,
    names: Text,
    lengths: Integers,
    row: int,
    symbols: Places,
    images: Bytes,
    numbers: Floats,
    venues: Integers,
) -> int:
    """Read the item at `at` into the row; where it ends, -1 for one that is not as usual."""
    symbols[row], images[row], venues[row] = -1, 0, 0
    for slot in range(NUMBERS):
        numbers[slot, row] = np.nan
    seen = 0
    if at >= stop or text[at] != 123:
        return -1
    at += 1
    while True:
        name_end = _text_end(text, at, stop)
        if name_end < 0 or name_end + 1 >= stop or text[name_end + 1] != 58:
            return -1
        name, value = at + 1, name_end + 2
        end = _scalar_end(text, value, stop)
        if end < 0:
            return -1
        field = _field(text, name, name_end)
        if field >= 0:
            if field >= _FIELDS or (seen >> field) & 1:
                return -1
            seen |= 1 << field
            slot = slots[field]
            if slot == VENUE:
                if text[value] != 34 or end - value - 2 > 8:
                    return -1
                packed = 0
                for i in range(end - 2, value, -1):
                    packed = packed * 256 + int(text[i])
                venues[row] = packed
            elif slot != UNREAD:
                if text[value] == 34 or text[value] > 57:
                    return -1
                number = _number(text, value, end)
                if not np.isfinite(number):
                    return -1
                numbers[slot, row] = number
        elif _is(text, name, name_end, _KEY):
            if symbols[row] >= 0 or text[value] != 34:
                return -1
            symbols[row] = _symbol(text, value + 1, end - 1, table, names, lengths)
            if symbols[row] < 0:
                return -1
        elif _is(text, name, name_end, _DELAYED):
            if not _is(text, value, end, _FALSE):
                return -1
            images[row] = 1
        elif _begins(text, name, name_end, _ASSET) or _is(text, name, name_end, _CUSIP):
            images[row] = 1
        else:
            return -1
        if end >= stop:
            return -1
        if text[end] == 125:
            return end + 1 if symbols[row] >= 0 else -1
        if text[end] != 44:
            return -1
        at = end + 1


@njit(cache=True, nogil=True)
def _service(text: Text, start: int, stop: int, services: Text) -> int:
    for number in range(services.shape[0]):
        if _is(text, start, stop, services[number, 1 : 1 + services[number, 0]]):
            return number
    return -1


@njit(cache=True, nogil=True)
def _heartbeat(text: Text, start: int, stop: int) -> bool:
    at = start + len(_BEAT)
    if not _begins(text, start, stop, _BEAT):
        return False
    digits = at
    while at < stop and 48 <= text[at] <= 57:
        at += 1
    return at > digits and _is(text, at, stop, _BEAT_END)


@njit(cache=True, nogil=True)
def _length(block: Text, at: int) -> int:
    length = 0
    for i in range(11, 7, -1):
        length = length * 256 + int(block[at + i])
    return length


@njit(cache=True, nogil=True)
def _received(block: Text, at: int) -> int:
    instant = 0
    for i in range(7, -1, -1):
        instant = instant * 256 + int(block[at + i])
    return instant


@njit(
    types.int64(READ_TEXT),
    cache=True,
    nogil=True,
)
def count_messages(block: Text) -> int:
    """How many messages a block holds; -1 where it is not whole."""
    at, found = 0, 0
    while at < len(block):
        if at + HEAD_BYTES > len(block):
            return -1
        at += HEAD_BYTES + _length(block, at)
        if at > len(block):
            return -1
        found += 1
    return found


@njit(cache=True, nogil=True)
def _part(  # noqa: C901  one pass over the members
    text: Text,
    at: int,
    stop: int,
    services: Text,
    slots: Bytes,
    table: Places,
    names: Text,
    lengths: Integers,
    message: int,
    row: int,
    of_message: Integers,
    of_service: Bytes,
    symbols: Places,
    images: Bytes,
    timestamps: Integers,
    numbers: Floats,
    venues: Integers,
) -> tuple[int, int]:
    """Read one service's part of a message from its `{` on; the rows there are then (-1: not as usual), and its end."""
    service, timestamp, first = -1, NO_TIMESTAMP, row
    members = 0
    if at >= stop or text[at] != 123:
        return -1, at
    at += 1
    while True:
        name_end = _text_end(text, at, stop)
        if name_end < 0 or name_end + 2 >= stop or text[name_end + 1] != 58:
            return -1, at
        name, value = at + 1, name_end + 2
        if _is(text, name, name_end, _CONTENT):
            member = 8
            if service < 0 or text[value] != 91 or value + 1 >= stop:
                return -1, at
            end = value + 1
            while text[value + 1] != 93:
                end = _item(
                    text, end, stop, slots[service], table, names, lengths, row, symbols, images, numbers, venues
                )  # fmt: skip
                if end < 0 or end >= stop:
                    return -1, at
                of_message[row], of_service[row] = message, service
                row += 1
                if text[end] == 93:
                    break
                if text[end] != 44:
                    return -1, at
                end += 1
            end += 1
        else:
            end = _scalar_end(text, value, stop)
            if end < 0:
                return -1, at
            if _is(text, name, name_end, _SERVICE):
                member = 1
                service = _service(text, value + 1, end - 1, services)
                if service < 0 or text[value] != 34:
                    return -1, at
            elif _is(text, name, name_end, _TIMESTAMP):
                member = 2
                number = np.nan if text[value] == 34 or text[value] > 57 else _number(text, value, end)
                if not (number >= 0.0 and number == np.floor(number)):
                    return -1, at
                timestamp = int(number)
            elif _is(text, name, name_end, _COMMAND) and text[value] == 34:
                member = 4
            else:
                return -1, at
        if members & member:
            return -1, at
        members |= member
        if end >= stop:
            return -1, at
        if text[end] == 125:
            break
        if text[end] != 44:
            return -1, at
        at = end + 1
    if not members & 8:
        return -1, at
    for each in range(first, row):
        timestamps[each] = timestamp
    return row, end + 1


@njit(
    types.int64(
        READ_TEXT,
        READ_TEXT_ROWS,
        READ_BYTE_ROWS,
        PLACES,
        TEXT,
        INTEGERS,
        INTEGER_ROWS,
        INTEGERS,
        BYTES,
        PLACES,
        BYTES,
        INTEGERS,
        FLOAT_ROWS,
        INTEGERS,
    ),
    cache=True,
    nogil=True,
)
def read_messages(
    block: Text,
    services: Text,
    slots: Bytes,
    table: Places,
    names: Text,
    lengths: Integers,
    messages: Integers,
    of_message: Integers,
    of_service: Bytes,
    symbols: Places,
    images: Bytes,
    timestamps: Integers,
    numbers: Floats,
    venues: Integers,
) -> int:
    """Read a whole block; how many rows there are.

    `services` has a row per service, its length and its name; `slots` for each of its fields where the value goes:
    `UNREAD`, `VENUE` or a row of `numbers`. `table` (a power of two long), `names` and `lengths`, whose last element
    counts them, keep the symbols met from call to call. Into `messages` go received instant, first byte, the byte after
    the last, and 1 for a message left to the caller. The other arrays, as long as the block has `{`, get a row an item.
    """
    at, row, message = 0, 0, 0
    while at < len(block):
        start = at + HEAD_BYTES
        stop = start + _length(block, at)
        messages[0, message], messages[1, message], messages[2, message] = _received(block, at), start, stop
        read = row
        if _begins(block, start, stop, _BEGIN):
            place = start + len(_BEGIN)
            while read >= 0:
                read, place = _part(
                    block, place, stop, services, slots, table, names, lengths, message, read,
                    of_message, of_service, symbols, images, timestamps, numbers, venues,
                )  # fmt: skip
                if read < 0:
                    break
                if place < stop and block[place] == 44:
                    place += 1
                    continue
                is_end = stop - place == 2 and block[place] == 93 and block[place + 1] == 125
                read = read if is_end else -1
                break
        elif not _heartbeat(block, start, stop):
            read = -1
        messages[3, message] = read < 0
        if read >= 0:
            row = read
        message += 1
        at = stop
    return row
