"""Log format and redaction: one record is one line, and no secret is in it.

Commands call `configure_logging` once, Dagster's code location `protect_records`. Whoever holds a secret calls
`register_secret` as soon as it is known. What a line says is decided where it is written.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any
from urllib.parse import quote, quote_plus

import structlog
from structlog.typing import EventDict, Processor

MASK = "[secret]"
MAXIMUM_LINE_BYTES = 8192
SHORTEST_SECRET = 6
# These print addresses, frames and headers, secrets included, at their lower levels.
TALKATIVE_LOGGERS = ("httpx", "httpcore", "websockets", "oauthlib", "requests_oauthlib", "urllib3")

_SECRET_KEYS = re.compile(
    r"(secret|password|passphrase|token|authorization|cookie|verifier|credential|client_?id|correl_?id|customer_?id"
    r"|(api|app|token|fernet|encryption)_?key|account_?(number|hash)|hash_?value)s?$|^(code|state|nonce)$|auth\w*_code$",
    re.IGNORECASE,
)
# Each pattern keeps its first group and masks the rest.
_SECRET_PATTERNS = (
    re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=@%-]{6,}", re.IGNORECASE),
    re.compile(
        r"((?:[?&;\s\"']|^)(?:code|state|session|access_token|refresh_token|id_token|client_secret|code_verifier)"
        r"(?:=|%3D|\\?[\"']\s*:\s*\\?[\"']))[^&\s\"'\\,;#}]+",
        re.IGNORECASE,
    ),
    re.compile(r"()\b[IC]0\.[A-Za-z0-9_.~+/=-]{8,}(?:@|%40)?"),
    re.compile(r"()\bgAAAAA[A-Za-z0-9_-]{20,}={0,2}"),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
)

_lock = threading.Lock()
_registered: tuple[str, ...] = ()  # longest first; replaced, never changed


def register_secret(value: str) -> None:
    """Mask this value from now on, also as base64, URL-encoded or JSON-escaped text; very short ones are left."""
    global _registered  # noqa: PLW0603  one process has one set of secrets
    with _lock:
        _registered = tuple(sorted({*_registered, *_forms(value)}, key=len, reverse=True))


def _forms(value: str) -> set[str]:
    raw = value.encode()
    forms = {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1]}
    # Inside a longer base64 text the value starts at one of three offsets; only its inner letters are then fixed.
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        end = len(encoded) - (1 if (offset + len(raw)) % 3 else 0)
        inner = encoded[-(-offset * 8 // 6) : end]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= SHORTEST_SECRET}


def redact(text: str) -> str:
    """The text with registered secrets, and whatever looks like a token or a code, masked."""
    for form in _registered:
        text = text.replace(form, MASK)
    for pattern in _SECRET_PATTERNS:
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def redact_value(value: Any, key: str = "") -> Any:
    """The value with secrets masked at any depth; everything under a key that names a secret is masked whole."""
    if value is not None and _SECRET_KEYS.search(key):
        return MASK
    if isinstance(value, Mapping):
        return {redact(str(name)): redact_value(item, str(name)) for name, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes | bytearray):
        return [redact_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(value if isinstance(value, str) else str(value))


def redact_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The structlog processor: masks each field of an event."""
    return {key: redact_value(value, key) for key, value in event.items()}


def bounded_line(_logger: Any, _method: str, event: EventDict) -> str:
    """One ASCII line of JSON of at most `MAXIMUM_LINE_BYTES`; the longest text is cut, and the cut is told."""
    line = json.dumps(event, default=str)
    while len(line) > MAXIMUM_LINE_BYTES:
        longest = max(event, key=lambda key: len(json.dumps(event[key], default=str)))
        text = json.dumps(event[longest], default=str)
        surplus = len(line) - MAXIMUM_LINE_BYTES + 40
        event = {**event, longest: text[: max(0, len(text) - 2 * surplus)], "is_cut": True}
        line = json.dumps(event, default=str)
    return line


def _add_dagster_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:
    meta = getattr(event.get("_record"), "dagster_meta", None) or {}
    wanted = {"run_id": "run_id", "job_name": "job_name", "step_key": "step_key", "orig_message": "event"}
    event.update({name: meta[key] for key, name in wanted.items() if meta.get(key)})
    return event


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _formatter(render: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            _add_dagster_fields,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact_event,
            render,
        ],
    )


def json_formatter() -> logging.Formatter:
    """A formatter that writes each record as one line of JSON without secrets, for a handler set up elsewhere."""
    return _formatter(bounded_line)


def protect_records() -> None:
    """Mask secrets when a record is made, whoever handles it, and hold talkative libraries at WARNING or above."""
    if logging.getLogRecordFactory() is not _masked_record:
        logging.setLogRecordFactory(_masked_record)
    for name in TALKATIVE_LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logger.level))


def _masked_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    if isinstance(record.msg, Mapping):
        record.msg = redact_value(record.msg)
        return record
    try:
        record.msg = redact(record.getMessage())
    except (TypeError, ValueError):  # the arguments do not fit the format: show the format alone
        record.msg = redact(str(record.msg))
    record.args = ()
    return record


def configure_logging(*, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send log records to `stream` (standard error): coloured lines on a terminal, JSON lines otherwise."""
    target = sys.stderr if stream is None else stream
    render: Processor = structlog.dev.ConsoleRenderer() if target.isatty() else bounded_line
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(render))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    protect_records()
    structlog.configure(
        processors=[*_shared_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
