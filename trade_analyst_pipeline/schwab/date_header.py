"""The time a server tells in a header of its answer: Date, or a Retry-After that is a date.

Not here: what is made of it (`ping.py` for the health report, `token_answers.py` for log-ins, `refusals.py` for waits).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def told_time(header: str | None) -> datetime | None:
    """The instant in a Date header, UTC to the second, and read as UTC without a zone; None for none, and for junk."""
    try:
        told = parsedate_to_datetime(header or "")
        return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):  # as email.utils and datetime raise them for absurd numbers
        return None
