"""Log format, and the last filter before anything is shown: one record is one line, without secrets and controls.

Commands call `configure_logging` once, Dagster's code location `protect_records`. What is secret is known to
`redaction.py`; what a line says is decided where it is written.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from trade_analyst_pipeline.ops.redaction import redact, redact_value
from trade_analyst_pipeline.ops.visible import visible

MAXIMUM_LINE_BYTES = 8192
# These print addresses, frames and headers, secrets included, at their lower levels.
TALKATIVE_LOGGERS = ("httpx", "httpcore", "websockets", "oauthlib", "requests_oauthlib", "urllib3", "authlib")


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


def _terminal_line(logger: Any, method: str, event: EventDict) -> str:
    """A coloured record; what goes on in further lines is set in, so that no text can look like a record of its own."""
    shown = {key: visible(value) if isinstance(value, str) else value for key, value in event.items()}
    return str(structlog.dev.ConsoleRenderer()(logger, method, shown)).replace("\n", "\n    ")


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
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = visible(redact("".join(traceback.format_exception(*record.exc_info)).rstrip("\n")))
    if record.stack_info:
        record.stack_info = visible(redact(record.stack_info))
    if isinstance(record.msg, Mapping):
        record.msg = redact_value(record.msg)
        return record
    try:
        record.msg = visible(redact(record.getMessage()))
    except (TypeError, ValueError):  # the arguments do not fit the format: show the format alone
        record.msg = visible(redact(str(record.msg)))
    record.args = ()
    return record


def protect_crashes() -> None:
    """Mask what Python itself prints: the traceback of an error nobody caught, on any thread, and warnings."""
    sys.excepthook = _print_error
    threading.excepthook = _print_thread_error
    sys.unraisablehook = _print_unraisable
    warnings.showwarning = _print_warning


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(visible(redact("".join(traceback.format_exception(kind, error, trace)))))


def _print_thread_error(found: threading.ExceptHookArgs) -> None:
    if found.exc_type is not SystemExit and found.exc_value is not None:
        name = found.thread.name if found.thread else "unknown"
        sys.stderr.write(f"Error in thread {name}:\n")
        _print_error(found.exc_type, found.exc_value, found.exc_traceback)


def _print_unraisable(found: sys.UnraisableHookArgs) -> None:
    if found.exc_value is not None:
        sys.stderr.write("Error that could not be raised:\n")
        _print_error(found.exc_type, found.exc_value, found.exc_traceback)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    (file or sys.stderr).write(visible(redact(warnings.formatwarning(message, category, filename, lineno, line))))


def configure_logging(*, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send log records to `stream` (standard error): coloured lines on a terminal, JSON lines otherwise."""
    target = sys.stderr if stream is None else stream
    render: Processor = _terminal_line if target.isatty() else bounded_line
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
