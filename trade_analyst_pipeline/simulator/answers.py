"""An answer before it is sent: status, body and headers as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON = "application/json;charset=UTF-8"
HTML = "text/html;charset=UTF-8"
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Answer:
    """What a request is answered with; `is_cut` breaks the connection half way through the body.

    It is kept back for `delay_seconds`. A `drip_bytes` above 0 sends the body in pieces of that size with
    `drip_seconds` between them.
    """

    status: int
    body: bytes = field(repr=False)
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    is_cut: bool = False
    delay_seconds: float = 0.0
    drip_bytes: int = 0
    drip_seconds: float = 0.0


def json_answer(value: Any, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer(status, _encoder.encode(value))


def html_answer(status: int, title: str, text: str) -> Answer:
    """A small page for a person."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
    return Answer(status, page.encode(), HTML)
