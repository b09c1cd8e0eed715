"""Every exception of this package.

TradeAnalystError
├── SettingsError                 a setting is missing, unknown or out of range
├── AuthError
│   ├── LoginRequiredError        no usable token: a person has to log in again
│   ├── ClientCredentialsError    app key or secret refused by the source
│   ├── CallbackError             the redirect that came back is not the one expected
│   ├── TokenStoreError           the token file cannot be trusted or opened
│   └── AuthUnavailableError      no new token just now (outage, full disk, busy lock): ask again later
├── SourceError                   a request that brought no usable answer (carries the request)
│   ├── SourceUnavailableError    outage, 5xx, connection failure: ask again later
│   ├── RateLimitedError          429 after all waits
│   ├── UntrustedServerError      the server's certificate is not one we trust
│   ├── DeadlineExceededError     the call did not end in its time
│   │   └── NoSlotError           the request limit had no slot for it in time
│   ├── NotAuthorizedError        401 after one refresh, or 403
│   ├── SymbolNotFoundError       404
│   ├── BadRequestError           other 4xx: the request itself is wrong
│   ├── ResponseTooLargeError     over our bound on size
│   ├── ChainTooLargeError        502 TooBigBody or a truncated chain: ask for less
│   ├── CutResponseError          the body ended early
│   └── UnexpectedContentError    HTML, redirect or anything that is not the JSON asked for
├── CaptureError
│   └── SessionNotCapturableError the source's clock is not in the session asked for
├── StorageError
│   ├── CaptureDamagedError       an archived capture fails its checks
│   │   └── CaptureRetiredError   its bodies were retired from this archive: a copy holds them
│   ├── CaptureMissingError       a capture that a table was made from is not archived
│   ├── RetirementRefusedError    captures may not leave the archive as asked; none has left
│   ├── ArchiveCopyError          a copy of the archive cannot be taken in, written or relied on
│   ├── PartitionDamagedError     a table file or manifest fails its checks
│   ├── PartitionMissingError     nothing is stored under that partition
│   ├── FencedWriteError          a newer run has already written this partition
│   ├── SchemaMismatchError       columns or types are not those of the schema
│   └── DiskFullError             no space or quota left; the last good state stands
├── StreamFrameError          a message of the streamer that cannot be read (carries the reason)
├── StreamEndedError              a connection to the streamer has ended or was never made (carries the reason)
├── ResponseRejectedError         a whole response is unusable (carries the reason)
├── VerdictError                  too many bad rows: the partition keeps its last good data
├── ImportRefusedError            a file offered to `import` is not a recorded response of that dataset
├── TapeError                     a tape of trades, or a posterior table, cannot be used as it is
├── PointInTimeError              a table cannot be read as of an instant
├── QueryError                    an SQL text that cannot be answered
├── LoadError                     rows cannot be loaded as asked: no such table or symbol
├── ExportError                   a table cannot be exported as asked
├── TraceError                    a value cannot be traced as asked: no such table, column or row, or several
├── RunFailedError                a Dagster run ended without success; the others' work stands
└── AlreadyRunningError           another `run` or `stream` works on the same data folder

Each message says what, where and what to do next. None ever holds a token, key, code or account number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trade_analyst_pipeline.ops.redaction import redact
from trade_analyst_pipeline.ops.visible import visible


class TradeAnalystError(Exception):
    """Anything this package raises on purpose; texts given to it are kept masked and visible."""

    def __init__(self, *texts: object) -> None:
        super().__init__(*(visible(redact(text)) if isinstance(text, str) else text for text in texts))


class SettingsError(TradeAnalystError):
    """A setting is missing, unknown or out of range."""


class AuthError(TradeAnalystError):
    """Access to the source is not possible as things stand."""


class LoginRequiredError(AuthError):
    """No usable token is left; only an interactive login helps."""


class ClientCredentialsError(AuthError):
    """The source does not know the app key or refuses its secret."""


class CallbackError(AuthError):
    """A redirect arrived that is not the one expected.

    `reason` is the word it is counted under in the callback statistics; None when the source refused its code, or
    when no redirect could be waited for.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class TokenStoreError(AuthError):
    """The token file cannot be opened or trusted; it is left untouched."""


class AuthUnavailableError(AuthError):
    """No new token can be had just now; the present state stands and asking again later can help."""


@dataclass(frozen=True)
class RequestSummary:
    """What a failed request was, without any secret: dataset, path, symbols and attempts made."""

    dataset: str
    path: str
    symbols: tuple[str, ...]
    attempts: int = 1

    def __str__(self) -> str:
        shown = ", ".join(self.symbols[:5]) + (f" and {len(self.symbols) - 5} more" if len(self.symbols) > 5 else "")
        return f"{self.dataset} {self.path}" + (f" [{shown}]" if shown else "")


class SourceError(TradeAnalystError):
    """A request that brought no usable answer.

    `reason` is a short stable word for gap records (such as `rate_limited`), `status` the HTTP status or None,
    `is_retryable` whether asking again later can help.
    """

    reason = "source_error"
    is_retryable = False

    def __init__(self, request: RequestSummary, problem: str, advice: str, status: int | None = None) -> None:
        super().__init__(f"{request}: {problem}. {advice}")
        self.request = request
        self.problem = redact(problem)
        self.advice = advice
        self.status = status


class SourceUnavailableError(SourceError):
    """Outage, server error or connection failure."""

    reason = "unavailable"
    is_retryable = True


class RateLimitedError(SourceError):
    """The source refused the call for going over its request limit."""

    reason = "rate_limited"
    is_retryable = True


class UntrustedServerError(SourceError):
    """The server's certificate is not one we trust; nothing was sent to it."""

    reason = "untrusted_server"


class DeadlineExceededError(SourceError):
    """The call did not end in the time it was given."""

    reason = "deadline"
    is_retryable = True


class NoSlotError(DeadlineExceededError):
    """The request limit had no slot for the call in the time it may wait."""

    reason = "no_slot"


class NotAuthorizedError(SourceError):
    """Refused although the token was refreshed once."""

    reason = "not_authorized"


class SymbolNotFoundError(SourceError):
    """The source does not know the symbol."""

    reason = "unknown_symbol"


class BadRequestError(SourceError):
    """The source calls the request wrong."""

    reason = "bad_request"


class ResponseTooLargeError(SourceError):
    """The answer is larger than we accept."""

    reason = "too_large"


class ChainTooLargeError(SourceError):
    """The source cannot send so large a chain in one answer."""

    reason = "chain_too_large"


class CutResponseError(SourceError):
    """The body ended before its announced end."""

    reason = "cut"
    is_retryable = True


class UnexpectedContentError(SourceError):
    """The answer is not the JSON that was asked for."""

    reason = "unexpected_content"


class CaptureError(TradeAnalystError):
    """A snapshot could not be taken."""


class SessionNotCapturableError(CaptureError):
    """The source's clock is not in the session asked for, and chains of other sessions cannot be had."""


class StorageError(TradeAnalystError):
    """The data folder cannot give or take what was asked."""


class CaptureDamagedError(StorageError):
    """An archived capture, the file at `path`, fails its checks."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[type[CaptureDamagedError], tuple[str, Path]]:
        return type(self), (str(self), self.path)


class CaptureRetiredError(CaptureDamagedError):
    """The bodies of a capture were retired from this archive; the message says where they are held."""


class CaptureMissingError(StorageError):
    """A capture that a table was made from is not archived."""


class RetirementRefusedError(StorageError):
    """Captures may not leave the archive as asked; none has left."""


class ArchiveCopyError(StorageError):
    """A copy of the archive cannot be taken in, written or relied on; what of it was taken before stands."""


class PartitionDamagedError(StorageError):
    """A table file or manifest fails its checks."""


class PartitionMissingError(StorageError):
    """Nothing is stored under that partition."""


class FencedWriteError(StorageError):
    """A newer run has already written this partition."""


class SchemaMismatchError(StorageError):
    """Columns or types are not those of the schema."""


class DiskFullError(StorageError):
    """No space or quota is left; the last good state stands."""


class ResponseRejectedError(TradeAnalystError):
    """A whole response is unusable; `reason` is a short stable word for reports."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"response rejected ({reason}): {detail}")
        self.reason = reason
        self.detail = detail


class StreamFrameError(TradeAnalystError):
    """A message of the streamer that cannot be read; `reason` is a short stable word for gaps and counts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"message of the streamer not read ({reason}): {detail}")
        self.reason = reason


class StreamEndedError(TradeAnalystError):
    """A connection to the streamer that has ended, or could not be made; `reason` is a short stable word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"the connection to the streamer has ended ({reason}): {detail}")
        self.reason = reason
        self.detail = str(visible(redact(detail)))


class VerdictError(TradeAnalystError):
    """Too many rows of a partition are bad; it keeps its last good data."""


class ImportRefusedError(TradeAnalystError):
    """A file offered to `import` is not a recorded response of that dataset."""


class TapeError(TradeAnalystError):
    """A tape of trades or quotes, or a table of posteriors, cannot be used as it is."""


class PointInTimeError(TradeAnalystError):
    """A table cannot be read as of an instant, or what was given is none."""


class QueryError(TradeAnalystError):
    """An SQL text that cannot be answered."""


class LoadError(TradeAnalystError):
    """Rows cannot be loaded as asked: no such table or symbol."""


class ExportError(TradeAnalystError):
    """A table cannot be exported as asked."""


class TraceError(TradeAnalystError):
    """A value cannot be traced as asked: no such table, column or row, or several rows."""


class RunFailedError(TradeAnalystError):
    """A Dagster run ended without success; what succeeded in it stands."""


class AlreadyRunningError(TradeAnalystError):
    """Another `run` works on the same data folder; nothing was started."""
