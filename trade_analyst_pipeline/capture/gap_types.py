"""The types of gaps, and which of them a word on record stands for. The ledger itself is `gaps.py`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from trade_analyst_pipeline import errors
from trade_analyst_pipeline.capture.requesting import EMPTY_ANSWER
from trade_analyst_pipeline.storage.captures import INTERRUPTED, SESSION_OVER, Gap


class GapType(StrEnum):
    """Why something of a session is not there; `docs/operations.md` has the table."""

    NOT_SCHEDULED = "not_scheduled"
    MARKET_CLOSED = "market_closed"
    PROCESS_DOWN = "process_down"
    TOKEN_DEAD = "token_dead"  # noqa: S105  no secret
    BUDGET = "budget"
    HALTED = "halted"
    ERROR = "error"
    UNKNOWN = "unknown"


NO_FAULT: Final = frozenset({GapType.NOT_SCHEDULED, GapType.MARKET_CLOSED})
"""Types of what nobody was to take."""

_TYPES: Final[dict[type[errors.SourceError], GapType]] = {
    errors.RateLimitedError: GapType.BUDGET,
    errors.NoSlotError: GapType.BUDGET,
    errors.NotAuthorizedError: GapType.TOKEN_DEAD,
    errors.SourceUnavailableError: GapType.ERROR,
    errors.UntrustedServerError: GapType.ERROR,
    errors.DeadlineExceededError: GapType.ERROR,
    errors.SymbolNotFoundError: GapType.ERROR,
    errors.BadRequestError: GapType.ERROR,
    errors.ResponseTooLargeError: GapType.ERROR,
    errors.ChainTooLargeError: GapType.ERROR,
    errors.CutResponseError: GapType.ERROR,
    errors.UnexpectedContentError: GapType.ERROR,
}
_REASONS: Final = {
    **{kind.reason: gap_type for kind, gap_type in _TYPES.items()},
    EMPTY_ANSWER: GapType.ERROR,
    SESSION_OVER: GapType.PROCESS_DOWN,
}


def type_of(gap: Gap) -> GapType:
    """The type of a gap on record; `unknown` for a word or a cause that nothing is known of."""
    if gap.reason != INTERRUPTED:
        return _REASONS.get(gap.reason, GapType.UNKNOWN)
    if gap.cause is None:
        return GapType.PROCESS_DOWN
    kind = getattr(errors, gap.cause, None)
    if not isinstance(kind, type):
        return GapType.UNKNOWN
    if issubclass(kind, errors.AuthError):
        return GapType.TOKEN_DEAD
    return GapType.ERROR if issubclass(kind, errors.SourceError | errors.StorageError) else GapType.UNKNOWN


def word_of(gap: Gap) -> str:
    """The word that stands on record: the class of the error that ended a capture, else the reason."""
    return gap.cause or gap.reason
