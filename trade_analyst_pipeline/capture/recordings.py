"""A recorded response becomes a capture, exactly as if it had just arrived.

One thing differs: what gives no row is refused before it is archived, since the archive never forgets and the
recording is still in the user's hands.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from trade_analyst_pipeline.datasets import DATASETS, Dataset
from trade_analyst_pipeline.errors import ImportRefusedError
from trade_analyst_pipeline.market.sessions import NEW_YORK, is_session, previous_session
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.validation import validate

LARGEST_RECORDING = 256 << 20
_SHOWN_REASONS = 3
_SKEW = timedelta(minutes=5)
_ADVICE = "Check --dataset and --symbol, and that the file is the whole body of one answer"


def session_shown(instant: datetime) -> date:
    """The session whose data the source shows at an instant: that of the New York date, or the last one before it."""
    day = instant.astimezone(NEW_YORK).date()
    return day if is_session(day) else previous_session(day)


def import_recordings(
    files: Sequence[Path],
    *,
    dataset: str,
    captured_time: datetime,
    symbols: tuple[str, ...],
    archive: Archive,
    now: datetime,
) -> Capture:
    """Seal recorded responses of one snapshot into the archive and return the capture; done before, return that one.

    Each file holds one response body. `captured_time` (zone-aware) is when they arrived; `symbols` what was asked
    for, where the bodies do not say. Raises ImportRefusedError naming the file and what is wrong, also where a file
    gives no valid row of the dataset: another dataset's answer, another symbol's, an empty one.
    """
    if dataset not in DATASETS:
        message = f"there is no dataset {dataset!r}; choose one of {', '.join(sorted(DATASETS))}"
        raise ImportRefusedError(message)
    if captured_time > now + _SKEW:
        message = (
            f"the recording cannot be from {captured_time.isoformat()}, which lies ahead; give the time it was made"
        )
        raise ImportRefusedError(message)
    responses = [_response(path, dataset, captured_time, symbols) for path in files]
    session_date = session_shown(captured_time)
    for path, response in zip(files, responses, strict=True):
        _refuse_without_rows(path, response, DATASETS[dataset], session_date)
    known = _archived_before(archive, dataset, session_date, captured_time, responses)
    if known is not None:
        return known
    with archive.begin(
        dataset=dataset, session_date=session_date, scheduled_time=captured_time, started_time=captured_time
    ) as writer:
        for response in responses:
            writer.append(response)
        return writer.seal(captured_time)


def _response(path: Path, dataset: str, captured_time: datetime, symbols: tuple[str, ...]) -> RawResponse:
    try:
        if path.stat().st_size > LARGEST_RECORDING:
            message = f"{path} is over {LARGEST_RECORDING >> 20} MiB; that is no response of the source"
            raise ImportRefusedError(message)
        body = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise ImportRefusedError(message) from error
    if body.lstrip()[:1] not in {b"{", b"["}:
        message = f"{path} does not hold JSON; give files with the body of one response each"
        raise ImportRefusedError(message)
    request = MarketDataRequest(dataset, f"import:{path.name}", (), symbols)
    return RawResponse(request, 200, body, (), captured_time, captured_time)


def _refuse_without_rows(path: Path, response: RawResponse, dataset: Dataset, session_date: date) -> None:
    """Raise ImportRefusedError, saying why and what else the file may be, when no valid row comes of a recording."""
    reasons = _reasons_against(response, dataset, session_date)
    if not reasons:
        return
    message = f"{path} gives no row of {dataset.name}, so nothing was archived: {'; '.join(reasons[:_SHOWN_REASONS])}"
    if len(reasons) > _SHOWN_REASONS:
        message += f"; and {len(reasons) - _SHOWN_REASONS} more reasons"
    others = (other for other in DATASETS.values() if other is not dataset)
    fitting = [other.name for other in others if not _reasons_against(response, other, session_date)]
    advice = f"Is it of {' or '.join(fitting)}? Then say --dataset {fitting[0]}" if fitting else _ADVICE
    raise ImportRefusedError(f"{message}. {advice}.")


def _reasons_against(response: RawResponse, dataset: Dataset, session_date: date) -> list[str]:
    """Why no valid row of a dataset comes of a response, the most frequent reason first; empty when one does."""
    found = dataset.normalize([response], session_date=session_date)
    judged = validate(found.frame, dataset.schema)
    if judged.valid.height:
        return []
    broken = Counter({rule: count for rule, count in judged.rule_counts.items() if count})
    broken.update(found.rejected["rule"].to_list())
    problems = [f"{problem.reason}, {problem.detail}" for problem in found.problems]
    return problems + [f"{rule} ({count:,} times)" for rule, count in broken.most_common()] or ["it is empty"]


def _archived_before(
    archive: Archive, dataset: str, session_date: date, captured_time: datetime, responses: Sequence[RawResponse]
) -> Capture | None:
    """The capture of that instant with just these bodies, or None."""
    wanted = sorted(hashlib.sha256(response.body).hexdigest() for response in responses)
    for capture in archive.captures(dataset, session_date):
        held = sorted(entry.body_sha256 for entry in archive.index(capture))
        if capture.scheduled_time == captured_time and held == wanted:
            return capture
    return None
