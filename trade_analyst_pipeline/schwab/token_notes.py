"""The note beside the token file: which refresh was begun, went unanswered or was refused, when, by which process.

It holds no secret and is advice only: a lost or damaged one costs one refused request. Not here: the tokens
(`tokens.py`). Times are seconds since the epoch on the machine's clock.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

import msgspec

from trade_analyst_pipeline.errors import AuthUnavailableError, TokenStoreError
from trade_analyst_pipeline.schwab.private_files import discard, draft_of, read_private

UNANSWERED_REST_SECONDS = 10.0
REFUSED_APP_REST_SECONDS = 300.0

_NOTE_BYTES = 512  # a change of state fits into what is there: no room is needed for it


class RefreshNote(msgspec.Struct, frozen=True):
    """What is known of refreshing the record of `generation`.

    `state`: `asking` since `since` by process `pid` (cut off, where that process no longer holds the lock);
    `unanswered` since then, so that it is unknown whether the source acted on it; `refused` for good; `app_refused`,
    where the source would not even look at it with the credentials of mark `app`. `cut_time` is when an earlier refresh
    of the same record was cut off, or went unanswered.
    """

    generation: int
    state: Literal["asking", "unanswered", "refused", "app_refused"]
    since: float
    pid: int
    cut_time: float | None = None
    app: str = ""

    def rest_seconds(self, now: float, app: str) -> float:
        """How long the source is not to be asked again after a failure that may pass; 0: ask.

        10 s after one without an answer, five minutes after refused credentials, unless they are others by now.
        """
        if self.state == "unanswered":
            rest = UNANSWERED_REST_SECONDS
        elif self.state == "app_refused" and self.app == app:
            rest = REFUSED_APP_REST_SECONDS
        else:
            return 0.0
        left = self.since + rest - now
        return left if 0 < left <= rest else 0.0  # more: the clock was set back


_DECODER = msgspec.json.Decoder(RefreshNote)  # made here: see token_records.py


class NoteFile:
    """The note of one token file; to be written under its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, generation: int) -> RefreshNote | None:
        """What is noted about the record of this generation; None without a note that can be read."""
        try:
            found = read_private(self.path, TokenStoreError, largest=_NOTE_BYTES)
            note = None if found is None else _DECODER.decode(found[0])
        except (TokenStoreError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return note if note is not None and note.generation == generation else None

    def write(self, note: RefreshNote) -> None:
        """Note this in place of what was noted; raises AuthUnavailableError when the disk refuses."""
        draft = draft_of(self.path)
        try:
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(_encoded(note))
            draft.replace(self.path)
        except OSError as error:
            message = f"{self.path} cannot be written ({error.strerror}). Make room and see that it is writable."
            raise AuthUnavailableError(message) from error

    def change(self, note: RefreshNote) -> None:
        """Note this over the note written before, which needs no room; where even that fails, the old one stays."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.pwrite(descriptor, _encoded(note), 0)
            finally:
                os.close(descriptor)

    def clear(self) -> None:
        """Forget what was noted."""
        discard(self.path)


def _encoded(note: RefreshNote) -> bytes:
    return msgspec.json.encode(note).ljust(_NOTE_BYTES)
