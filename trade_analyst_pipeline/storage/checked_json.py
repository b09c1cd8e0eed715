"""JSON files that end in the SHA-256 of all that stands before it, so that no changed byte of them passes as a value.

The file is one JSON object whose last member is `checksum`; any JSON reader reads it. What the members mean belongs to
whoever writes them.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

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
