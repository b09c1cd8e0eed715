"""JSON files that end in the SHA-256 of all that stands before it, so that no changed byte of them passes as a value.

The file is one JSON object whose last member is `checksum`; any JSON reader reads it. What the members mean belongs to
whoever writes them.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TypeVar

import msgspec

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.storage import durable

Value = TypeVar("Value")

_END = re.compile(rb'(?s)(.+),\n "checksum": "([0-9a-f]{64})"\n}\n')


def checked_json(value: object) -> bytes:
    """The text of a dataclass with at least one field, indented by one, with its checksum."""
    body = msgspec.json.format(msgspec.json.encode(value), indent=1).removesuffix(b"\n}")
    return b'%b,\n "checksum": "%b"\n}\n' % (body, hashlib.sha256(body).hexdigest().encode())


def refuse_unchecked(text: bytes) -> None:
    """Raise ValueError unless every byte of the text is as `checked_json` made it."""
    match = _END.fullmatch(text)
    if match is None:
        raise ValueError("it does not end in a checksum: it was cut, or an earlier version wrote it")
    if hashlib.sha256(match[1]).hexdigest().encode() != match[2]:
        raise ValueError("its text does not match its checksum")


def read_checked(path: Path, decoder: msgspec.json.Decoder[Value], *, limit: int, advice: str) -> Value | None:
    """What such a file says, None without one; raises StorageError, with `advice`, where it is not as written."""
    try:
        text = durable.read_bytes(path, limit=limit)
        refuse_unchecked(text)
        return decoder.decode(text)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StorageError(f"{path} is not as it was written ({error}); {advice}") from error
