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
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from pydantic import SecretStr

from trade_analyst_pipeline.errors import (
    AuthUnavailableError,
    ClientCredentialsError,
    LoginRequiredError,
    TokenStoreError,
)
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
from trade_analyst_pipeline.schwab.source_pages import REFUSED_APP_ADVICE
from trade_analyst_pipeline.schwab.token_notes import NoteFile, RefreshNote
from trade_analyst_pipeline.schwab.token_records import (
    LOGIN_ADVICE,
    StoredTokens,
    TokenGrant,
    decode_record,
    encode_record,
    logged_in,
    on_clock,
    refreshed,
)
from trade_analyst_pipeline.schwab.uptime import NO_UPTIME, Uptime, machine_uptime

_LARGEST_RECORD = 64 << 10
_READ_TRIES = 5
_NEW_YORK = ZoneInfo("America/New_York")

_log = logging.getLogger(__name__)


class TokenStore:
    """The token file of one app in one environment, shared by all processes.

    `owner` names whose tokens these are (see `token_owner`); a file of another owner is refused. `app` tells the
    credentials apart that are in use (see `app_mark`). `lock_seconds` bounds every wait for another process. `now`
    replaces the machine's clock, `uptime` its uptime (none, where only the clock is replaced).
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: TokenKeys,
        owner: str,
        app: str = "",
        now: Callable[[], float] | None = None,
        uptime: Callable[[], Uptime] | None = None,
        lock_seconds: float = 30.0,
    ) -> None:
        self.path = path
        self.now = now or time.time
        self._uptime = uptime or (machine_uptime if now is None else lambda: NO_UPTIME)
        self._keys = keys
        self._owner = owner
        self._app = app
        self._lock_seconds = lock_seconds
        self._notes = _notes_of(path)
        self._seen: tuple[Signature, StoredTokens] | None = None
        self._unsaved: StoredTokens | None = None
        self._refused: SecretStr | None = None

    # -- reading -----------------------------------------------------------------------------------------------

    def load(self) -> StoredTokens:
        """The record as it stands, without any lock and without network, its times told on the clock as it now stands.

        Raises LoginRequiredError when there is none, TokenStoreError when it cannot be opened or trusted,
        AuthUnavailableError when its key cannot be had just now.
        """
        return self._shown(self._loaded())

    def lead(self) -> float:
        """How many seconds ahead of the machine's clock the login is dated, 0.0 where it is not; raises as `load`.

        The clock is wrong then, or was at the login.
        """
        now = self.now()
        return max(0.0, on_clock(self._loaded(), now, self._uptime()).login_time - now)

    def _loaded(self) -> StoredTokens:
        for _ in range(_READ_TRIES - 1):
            found = signature(self.path)
            if self._seen is not None and self._seen[0] == found:
                return self._seen[1]
            try:
                return self._read()
            except TokenStoreError:
                if signature(self.path) == found:
                    raise
        return self._read()  # replaced each time it was read, perhaps with another key

    def check(self) -> None:
        """See that a login could be stored now.

        Raises TokenStoreError when the present file or its key cannot be trusted, AuthUnavailableError without room
        on the disk or while the key cannot be had.
        """
        with self._turn():
            self._generation()
            with Draft(self.path):
                pass

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
        return is_locked(_lock_of(self.path))

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

    def _shown(self, tokens: StoredTokens) -> StoredTokens:
        """The record as others get it: on the present clock, and of no future login.

        It is stored as it was told, because the clock may as well be wrong now.
        """
        now = self.now()
        tokens = on_clock(tokens, now, self._uptime())
        return tokens if tokens.login_time <= now else replace(tokens, login_time=now)

    # -- writing -----------------------------------------------------------------------------------------------

    def log_in(self, exchange: Callable[[], TokenGrant]) -> StoredTokens:
        """Store the tokens that `exchange` brings as an interactive login; the seven days begin now.

        The source ends an earlier login with the exchange, so it only happens when its tokens can be stored: under
        the lock, with room reserved. A file that cannot be opened is left alone: TokenStoreError, before anything.
        """
        with self._turn():
            generation = self._generation() + 1
            with Draft(self.path) as draft:
                tokens = logged_in(exchange(), generation, self.now(), self._uptime())
                self._notes.clear()  # first: what is noted of an older login must not touch this
                draft.put(self._encode(tokens))
            self._refused = self._unsaved = None
        return tokens

    def save_login(self, grant: TokenGrant) -> StoredTokens:
        """Store the tokens of an interactive login that has just succeeded."""
        return self.log_in(lambda: grant)

    def _generation(self) -> int:
        """That of the record, with what was cut off completed; 0 without one, and its key is made sure."""
        if signature(self.path) is None:
            self._keys.prepare()
            return 0
        return self._rescued(self._read()).generation

    def renew(
        self,
        *,
        is_good: Callable[[StoredTokens], bool],
        refresh: Callable[[SecretStr], TokenGrant],
        is_usable: Callable[[StoredTokens], bool] | None = None,
        rests: bool = False,
    ) -> StoredTokens:
        """The present record if it `is_good`, else the one that `refresh` brings under the lock.

        While another process holds the lock, a record that `is_usable` will do. A refresh token that the source has
        refused once is never sent again, by any process: LoginRequiredError at once until a login has changed the
        file. AuthUnavailableError when the lock or the disk cannot be had, or as `refresh` raises it; the record then
        stands as it was. Who `rests` does not ask for some time after a failure of any process, and gets its error.
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
            tokens = on_clock(self._rescued(self._read()), self.now(), self._uptime())
            if is_good(tokens):
                return self._shown(tokens)
            self._refuse_dead(tokens)
            if rests:
                self._rest(tokens)
            with Draft(self.path) as draft:
                return self._shown(self._refreshed(tokens, draft, refresh))

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
        begun, uptime = self.now(), self._uptime()
        note = RefreshNote(old.generation, "asking", begun, os.getpid(), self._cut_time(old.generation))
        self._notes.write(note)
        try:
            grant = refresh(old.refresh_token)
        except LoginRequiredError as error:
            self._refused = old.refresh_token  # also where the disk is too full to note it
            self._notes.change(msgspec.structs.replace(note, state="refused"))
            message = f"{error}{_cut_off(note)}"
            raise LoginRequiredError(message) from None
        except AuthUnavailableError:
            self._notes.change(msgspec.structs.replace(note, state="unanswered", since=self.now()))
            raise
        except ClientCredentialsError:
            refused = msgspec.structs.replace(note, state="app_refused", since=self.now(), app=self._app)
            self._notes.change(refused)
            raise
        new = refreshed(old, grant, begun, uptime)
        self._unsaved = new  # until it is on the disk, this is the only copy
        draft.put(self._encode(new))
        self._unsaved = None
        self._notes.clear()
        if begun < new.login_time:
            ahead = (new.login_time - begun) / 3600
            _log.warning(
                "this machine's clock stands %.1f h before the login was made: set it, and keep it set.", ahead
            )
        return new

    def _cut_time(self, generation: int) -> float | None:
        """When an earlier refresh of the record was cut off or went unanswered; None where it had its answer."""
        note = self._notes.read(generation)
        if note is None or note.state == "app_refused":  # then the refresh token was not looked at
            return None if note is None else note.cut_time
        return note.cut_time or note.since

    def _rescued(self, tokens: StoredTokens) -> StoredTokens:
        """The record that a refresh had brought but could not put in place, put there now; else `tokens`."""
        data = read_draft(self.path)
        if data is not None:
            with contextlib.suppress(TokenStoreError):
                if self._decode(data).follows(tokens):
                    finish_draft(self.path, data)
                    return self._read()
        unsaved = self._unsaved
        if unsaved is not None and unsaved.follows(tokens):
            with Draft(self.path) as draft:
                draft.put(self._encode(unsaved))
            return self._read()
        return tokens

    def _refuse_dead(self, tokens: StoredTokens) -> None:
        why = self.refusal(tokens)
        if why is not None:
            message = f"{why} {LOGIN_ADVICE}"
            raise LoginRequiredError(message)

    def _rest(self, tokens: StoredTokens) -> None:
        """Raise what the last refresh of the record failed with, while it is too early for another."""
        note = self._notes.read(tokens.generation)
        seconds = 0.0 if note is None else note.rest_seconds(self.now(), self._app)
        if note is None or not seconds:
            return
        at = both_times(note.since)
        if note.state == "app_refused":
            message = f"the source refused the app key or secret at {at}. {REFUSED_APP_ADVICE}"
            raise ClientCredentialsError(f"{message} It is not asked again with them for {seconds:.0f} s.")
        message = f"the token endpoint gave no new token at {at}; it is asked again in {seconds:.0f} s."
        raise AuthUnavailableError(message)

    # -- the file ----------------------------------------------------------------------------------------------

    def _turn(self, give_up: Callable[[], bool] | None = None) -> AbstractContextManager[bool]:
        return _turn(self.path, self._lock_seconds, give_up)

    def _encode(self, tokens: StoredTokens) -> bytes:
        return self._keys.seal(encode_record(tokens, self._owner))

    def _decode(self, data: bytes) -> StoredTokens:
        return decode_record(self._keys.open(data), self._owner, self.path)


@contextlib.contextmanager
def _turn(path: Path, seconds: float, give_up: Callable[[], bool] | None = None) -> Iterator[bool]:
    """This process's turn to change the file; false where `give_up` said that it is not needed."""
    check_private_folder(path.parent, TokenStoreError)
    with hold_lock(_lock_of(path), seconds, give_up=give_up) as is_mine:
        yield is_mine


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _notes_of(path: Path) -> NoteFile:
    return NoteFile(path.with_name(path.name + ".note"))


def forget_login(path: Path, *, lock_seconds: float = 30.0) -> bool:
    """Remove the login stored in this file, readable or not, with drafts and notes, for good; whether there was one.

    Needs no key. Raises AuthUnavailableError when the lock or the disk cannot be had.
    """
    if signature(path.parent) is None:
        return False
    with _turn(path, lock_seconds):
        was_there = signature(path) is not None
        notes = _notes_of(path).path
        remove_durably([draft_of(path), path, notes, draft_of(notes)])
    return was_there


def token_owner(environment: str, app_key: SecretStr) -> str:
    """Whose tokens a file holds: the environment, and the app key as a digest."""
    return f"{environment}:{hashlib.sha256(app_key.get_secret_value().encode()).hexdigest()[:16]}"


def app_mark(app_key: SecretStr, app_secret: SecretStr) -> str:
    """What tells an app's credentials from others, without showing them."""
    pair = f"{app_key.get_secret_value()}\0{app_secret.get_secret_value()}"
    return hashlib.sha256(pair.encode()).hexdigest()[:16]


def both_times(seconds: float) -> str:
    """An instant for a person: UTC to the second, and New York time."""
    instant = datetime.fromtimestamp(seconds, UTC)
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC ({instant.astimezone(_NEW_YORK):%Y-%m-%d %H:%M} New York)"


def _cut_off(note: RefreshNote) -> str:
    return "" if note.cut_time is None else f" An earlier refresh was cut off at {both_times(note.cut_time)}."
