"""The encrypted token file: load, save, renew under one lock for all processes, forget, change its key.

Not here: asking the source for tokens (`auth.py`), where keys lie (`keys.py`), how files are replaced
(`private_files.py`). Token lifetimes count on the machine's clock (`now`, seconds since the epoch), never on a
simulated one; where the machine knows how long it has been up, setting its clock does not age a token.

Readers take no lock: they look at the file's identity and read it again only when it changed. A renewal holds an
advisory lock on a side-car file (never deleted) across reading, asking and saving, so that one refresh happens per
expiry. Room for the new record is reserved on the disk before the source is asked, because an answer that cannot be
stored may be the only copy of a login; what a killed process had written of it is found by the next one. A file that
cannot be trusted is never written over.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError, LoginRequiredError, TokenStoreError
from trade_analyst_pipeline.schwab.key_sets import KeySet
from trade_analyst_pipeline.schwab.keys import TokenKeys
from trade_analyst_pipeline.schwab.private_files import (
    Draft,
    Signature,
    check_private_folder,
    draft_of,
    finish_draft,
    hold_lock,
    is_locked,
    read_draft,
    read_private,
    remove_durably,
    signature,
)
from trade_analyst_pipeline.schwab.token_notes import NoteFile, RefreshNote
from trade_analyst_pipeline.schwab.token_records import (
    StoredTokens,
    TokenGrant,
    decode_record,
    encode_record,
    logged_in,
    refreshed,
)
from trade_analyst_pipeline.schwab.uptime import NO_UPTIME, Uptime, machine_uptime

LOGIN_ADVICE = "Run `trade-analyst login`."
LOGIN_WARNING_SECONDS = (24 * 3600, 6 * 3600, 3600)

_LARGEST_RECORD = 64 << 10
_READ_TRIES = 5
_CLOCK_STEP_SECONDS = 1.0
_NEW_YORK = ZoneInfo("America/New_York")

_log = logging.getLogger(__name__)


class TokenStore:
    """The token file of one app in one environment, shared by all processes.

    `owner` names whose tokens these are (see `token_owner`); a file of another owner is refused. `lock_seconds` bounds
    every wait for another process. `now` replaces the machine's clock, `uptime` its uptime (none, where only the clock
    is replaced).
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: TokenKeys,
        owner: str,
        now: Callable[[], float] | None = None,
        uptime: Callable[[], Uptime] | None = None,
        lock_seconds: float = 30.0,
    ) -> None:
        self.path = path
        self.now = now or time.time
        self._uptime = uptime or (machine_uptime if now is None else lambda: NO_UPTIME)
        self._keys = keys
        self._owner = owner
        self._lock_seconds = lock_seconds
        self._lock_path = path.with_name(path.name + ".lock")
        self._notes = NoteFile(path.with_name(path.name + ".note"))
        self._seen: tuple[Signature, StoredTokens] | None = None
        self._unsaved: StoredTokens | None = None
        self._refused: SecretStr | None = None

    # -- reading -----------------------------------------------------------------------------------------------

    def load(self) -> StoredTokens:
        """The record as it stands, without any lock and without network, its life told on the clock as it now stands.

        Raises LoginRequiredError when there is none, TokenStoreError when it cannot be opened or trusted.
        """
        for tries_left in reversed(range(_READ_TRIES)):
            seen, found = self._seen, signature(self.path)
            if found is None:
                raise self._no_login()
            if seen is not None and seen[0] == found:
                return self._on_present_clock(seen[1])
            try:
                tokens = self._read()
            except TokenStoreError:
                if not tries_left or signature(self.path) == found:
                    raise
                continue  # replaced meanwhile, perhaps with another key
            if not tries_left or seen is None or tokens.generation >= seen[1].generation:
                break
        return self._on_present_clock(tokens)

    def check(self) -> None:
        """See that a login could be stored: TokenStoreError when the present file or its key cannot be trusted."""
        try:
            self.load()
        except LoginRequiredError:
            self._keys.prepare()

    @property
    def key(self) -> KeySet | None:
        """The keys that opened or sealed the file last; without any yet, those that a login would find."""
        return self._keys.in_force or self._keys.lookup()

    def refresh_note(self, generation: int) -> RefreshNote | None:
        """What is known of refreshing the record of this generation; None while nothing is going on."""
        return self._notes.read(generation)

    def refusal(self, tokens: StoredTokens) -> str | None:
        """Why the login of this record is over, as a sentence; None while it can still be renewed."""
        if self.now() >= tokens.login_ends_time:
            return f"the login ended at {both_times(tokens.login_ends_time)}, seven days after it."
        note = self._notes.read(tokens.generation)
        if note is not None and note.state == "refused":
            return f"the source refused the stored login at {both_times(note.since)}.{_cut_off(note)}"
        if self._refused == tokens.refresh_token:
            return "the source has refused the stored login."
        return None

    def is_busy(self) -> bool:
        """Whether some process is renewing or saving just now."""
        return is_locked(self._lock_path)

    def _read(self) -> StoredTokens:
        """The record read anew, whatever was seen before."""
        data, identity = self._content()
        tokens = self._decode(data)
        self._seen = (identity, tokens)
        return tokens

    def _content(self) -> tuple[bytes, Signature]:
        found = read_private(self.path, TokenStoreError, largest=_LARGEST_RECORD)
        if found is None:
            raise self._no_login()
        return found

    def _no_login(self) -> LoginRequiredError:
        return LoginRequiredError(f"no tokens are stored in {self.path}. {LOGIN_ADVICE}")

    def _on_present_clock(self, tokens: StoredTokens) -> StoredTokens:
        """The record with its life on the clock as it stands now, where that was set since the tokens were issued."""
        age = self._uptime().since(tokens.issued_uptime)
        if age is None:
            return tokens
        step = self.now() - (tokens.issued_time + age)
        if abs(step) < _CLOCK_STEP_SECONDS:
            return tokens
        return replace(tokens, issued_time=tokens.issued_time + step, expires_time=tokens.expires_time + step)

    # -- writing -----------------------------------------------------------------------------------------------

    def save_login(self, grant: TokenGrant) -> StoredTokens:
        """Store the tokens of an interactive login that has just succeeded; the seven days begin now.

        A file that cannot be opened is left alone: TokenStoreError, before anything is written.
        """
        with self._turn():
            generation = 1
            if signature(self.path) is None:
                self._keys.prepare()
            else:
                generation += self._read().generation
            tokens = logged_in(grant, generation, self.now(), self._uptime())
            with Draft(self.path) as draft:
                self._notes.clear()  # first: what is noted of an older login must not touch this
                draft.put(self._encode(tokens))
            self._refused = self._unsaved = None
        return tokens

    def renew(
        self,
        *,
        is_good: Callable[[StoredTokens], bool],
        refresh: Callable[[SecretStr], TokenGrant],
        is_usable: Callable[[StoredTokens], bool] | None = None,
    ) -> StoredTokens:
        """The present record if it `is_good`, else the one that `refresh` brings under the lock.

        While another process holds the lock, a record that `is_usable` will do. A refresh token that the source has
        refused once is never sent again, by any process: LoginRequiredError at once until a login has changed the
        file. AuthUnavailableError when the lock or the disk cannot be had, or as `refresh` raises it; the record then
        stands as it was.
        """
        will_do: list[StoredTokens] = []

        def is_settled() -> bool:
            tokens = self.load()
            if is_good(tokens) or (is_usable is not None and is_usable(tokens)):
                will_do.append(tokens)
            return bool(will_do)

        with self._turn(is_settled) as is_mine:
            if not is_mine:
                return will_do[0]
            tokens = self._on_present_clock(self._rescued(self._read()))
            if is_good(tokens):
                return tokens
            self._refuse_dead(tokens)
            with Draft(self.path) as draft:
                return self._refreshed(tokens, draft, refresh)

    def forget(self) -> bool:
        """Remove the stored login, readable or not, with drafts and notes, for good; whether there was one."""
        if signature(self.path.parent) is None:
            return False
        with self._turn():
            was_there = signature(self.path) is not None
            notes = self._notes.path
            remove_durably([draft_of(self.path), self.path, notes, draft_of(notes)])
            self._seen = self._unsaved = None
        return was_there

    def change_key(self) -> KeySet:
        """Encrypt the record with a new key and retire the old one; the login stays. Returns the new key.

        Cut off anywhere, the record still opens, and the next call goes on. Raises LoginRequiredError without a
        login, TokenStoreError where the key is not ours to change, with what to do.
        """
        with self._turn():
            tokens = self._rescued(self._read())
            self._keys.begin_change()
            with Draft(self.path) as draft:
                draft.put(self._encode(tokens))
            return self._keys.end_change(self._content()[0])

    # -- a refresh ---------------------------------------------------------------------------------------------

    def _refreshed(self, old: StoredTokens, draft: Draft, refresh: Callable[[SecretStr], TokenGrant]) -> StoredTokens:
        earlier = self._notes.read(old.generation)
        begun, uptime = self.now(), self._uptime()
        cut_time = None if earlier is None else earlier.cut_time or earlier.since
        note = RefreshNote(old.generation, "asking", begun, os.getpid(), cut_time)
        self._notes.write(note)
        try:
            grant = refresh(old.refresh_token)
        except LoginRequiredError as error:
            self._refused = old.refresh_token  # also where the disk is too full to note it
            self._notes.change(msgspec.structs.replace(note, state="refused"))
            message = f"{error}{_cut_off(note)}"
            raise LoginRequiredError(message) from None
        except AuthUnavailableError:
            self._notes.change(msgspec.structs.replace(note, state="unanswered"))
            raise
        except AuthError:
            self._notes.clear()  # the app was refused: the refresh token was not looked at
            raise
        new = refreshed(old, grant, begun, uptime)
        self._unsaved = new  # until it is on the disk, this is the only copy
        draft.put(self._encode(new))
        self._unsaved = None
        self._notes.clear()
        _warn_of_login_end(old, new)
        return new

    def _rescued(self, tokens: StoredTokens) -> StoredTokens:
        """The record that a refresh had brought but could not put in place, put there now; else `tokens`."""
        data = read_draft(self.path)
        if data is not None:
            with contextlib.suppress(TokenStoreError):
                if self._decode(data).generation == tokens.generation + 1:
                    finish_draft(self.path, data)
                    return self._read()
        unsaved = self._unsaved
        if unsaved is not None and unsaved.generation == tokens.generation + 1:
            with Draft(self.path) as draft:
                draft.put(self._encode(unsaved))
            return self._read()
        return tokens

    def _refuse_dead(self, tokens: StoredTokens) -> None:
        why = self.refusal(tokens)
        if why is not None:
            message = f"{why} {LOGIN_ADVICE}"
            raise LoginRequiredError(message)

    # -- the file ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _turn(self, give_up: Callable[[], bool] | None = None) -> Iterator[bool]:
        """This process's turn to change the file; false where `give_up` said that it is not needed."""
        check_private_folder(self.path.parent, TokenStoreError)
        with hold_lock(self._lock_path, self._lock_seconds, give_up=give_up) as is_mine:
            yield is_mine

    def _encode(self, tokens: StoredTokens) -> bytes:
        return self._keys.seal(encode_record(tokens, self._owner))

    def _decode(self, data: bytes) -> StoredTokens:
        return decode_record(self._keys.open(data), self._owner, self.path)


def token_owner(environment: str, app_key: SecretStr) -> str:
    """Whose tokens a file holds: the environment, and the app key as a digest."""
    return f"{environment}:{hashlib.sha256(app_key.get_secret_value().encode()).hexdigest()[:16]}"


def both_times(seconds: float) -> str:
    """An instant for a person: UTC to the second, and New York time."""
    instant = datetime.fromtimestamp(seconds, UTC)
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC ({instant.astimezone(_NEW_YORK):%Y-%m-%d %H:%M} New York)"


def _cut_off(note: RefreshNote) -> str:
    return "" if note.cut_time is None else f" An earlier refresh was cut off at {both_times(note.cut_time)}."


def _warn_of_login_end(old: StoredTokens, new: StoredTokens) -> None:
    """Log once for all processes when the login's end has come nearer than one of the steps of warning."""
    ends = new.login_ends_time
    for seconds in LOGIN_WARNING_SECONDS:
        if ends - new.issued_time <= seconds < ends - old.issued_time:
            hours = (ends - new.issued_time) / 3600
            _log.warning("the login ends at %s, in %.1f hours. %s", both_times(ends), hours, LOGIN_ADVICE)
            return
