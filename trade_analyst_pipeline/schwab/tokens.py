"""The encrypted token file: load, save, renew under one lock for all processes, and the key that opens it.

Not here: asking the source for tokens (`auth.py`). Token lifetimes count on the machine's clock (`now`, seconds since
the epoch), never on a simulated one.

Readers take no lock: they look at the file's identity and read it again only when it changed. A renewal holds a
thread lock and an advisory lock on a side-car file (never deleted) across reading, asking and saving, so that one
refresh happens per expiry. Room for the new record is reserved on the disk before the source is asked, because an
answer that cannot be stored may be the only copy of a login. A file that cannot be trusted is never written over.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from cryptography.fernet import InvalidToken, MultiFernet
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthUnavailableError, LoginRequiredError, TokenStoreError
from trade_analyst_pipeline.schwab.private_files import (
    check_private_folder,
    hold_lock,
    open_private,
    reserve,
    signature,
    write_reserved,
)

REFRESH_TOKEN_SECONDS = 7 * 86_400
LOGIN_ADVICE = "Run `trade-analyst login`."

_LARGEST_RECORD = 64 << 10
_LONGEST_MARGIN_SECONDS = 60.0
_CLOCK_SLACK_SECONDS = 5.0
_NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class TokenGrant:
    """What the token endpoint gave: `refresh_token` None where the answer leaves it out; lifetime in seconds."""

    access_token: SecretStr
    refresh_token: SecretStr | None
    lifetime_seconds: float


@dataclass(frozen=True)
class StoredTokens:
    """One record of the store. Times are seconds since the epoch on the machine's clock.

    `generation` grows by one with each save. `login_time` is that of the interactive login and survives refreshes.
    """

    access_token: SecretStr
    refresh_token: SecretStr
    generation: int
    login_time: float
    issued_time: float
    expires_time: float

    def is_fresh(self, now: float) -> bool:
        """Whether the access token is good and not about to end; false also when the clock stands before its issue."""
        margin = min(_LONGEST_MARGIN_SECONDS, 0.2 * (self.expires_time - self.issued_time))
        return self.issued_time - _CLOCK_SLACK_SECONDS <= now < self.expires_time - margin

    def is_alive(self, now: float) -> bool:
        """Whether the access token has not ended yet."""
        return self.issued_time - _CLOCK_SLACK_SECONDS <= now < self.expires_time

    @property
    def login_ends_time(self) -> float:
        """When the refresh token ends, and with it all access without a new login."""
        return self.login_time + REFRESH_TOKEN_SECONDS

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that tell access tokens apart without showing them."""
        return hashlib.sha256(self.access_token.get_secret_value().encode()).hexdigest()[:8]


class TokenStore:
    """The token file of one app in one environment, shared by all processes.

    `owner` names whose tokens these are (see `token_owner`); a file of another owner is refused. `lock_seconds` bounds
    every wait for another process.
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: MultiFernet,
        owner: str,
        now: Callable[[], float] = time.time,
        lock_seconds: float = 30.0,
    ) -> None:
        self.path = path
        self._keys = keys
        self._owner = owner
        self.now = now
        self._lock_seconds = lock_seconds
        self._lock_path = path.with_name(path.name + ".lock")
        self._note_path = path.with_name(path.name + ".note")
        self._thread_lock = threading.Lock()
        self._seen: tuple[tuple[int, ...], StoredTokens] | None = None

    def load(self) -> StoredTokens:
        """The record as it stands, without any lock and without network.

        Raises LoginRequiredError when there is none, TokenStoreError when it cannot be opened or trusted.
        """
        seen = self._seen
        found = signature(self.path)
        if found is None:
            message = f"no tokens are stored in {self.path}. {LOGIN_ADVICE}"
            raise LoginRequiredError(message)
        if seen is not None and seen[0] == found:
            return seen[1]
        with open_private(self.path, TokenStoreError) as descriptor:
            identity = signature(descriptor)
            data = os.read(descriptor, _LARGEST_RECORD + 1)
        tokens = self._decode(data)
        if identity is not None:
            self._seen = (identity, tokens)
        return tokens

    def check(self) -> None:
        """Raise TokenStoreError when there is a token file that cannot be opened or trusted; none at all is fine."""
        with contextlib.suppress(LoginRequiredError):
            self.load()

    def save_login(self, grant: TokenGrant) -> StoredTokens:
        """Store the tokens of an interactive login that has just succeeded; the seven days begin now.

        A file that cannot be opened with this key is left alone: TokenStoreError, before anything is written.
        """
        with self._locked():
            if grant.refresh_token is None:
                message = f"the source gave no refresh token with this login. {LOGIN_ADVICE}"
                raise AuthUnavailableError(message)
            generation = self.load().generation + 1 if signature(self.path) is not None else 1
            now = self.now()
            tokens = StoredTokens(
                grant.access_token, grant.refresh_token, generation, now, now, now + grant.lifetime_seconds
            )
            with self._reserved() as draft:
                self._note_path.unlink(missing_ok=True)  # first: what is noted of an older login must not touch this
                self._write(draft, tokens)
        return tokens

    def renew(
        self, *, is_good: Callable[[StoredTokens], bool], refresh: Callable[[SecretStr], TokenGrant]
    ) -> StoredTokens:
        """The present record if it `is_good` once the lock is held, else the one that `refresh` brings.

        A refresh token that the source has refused once is never sent again, by any process: LoginRequiredError at
        once until a login has changed the file. AuthUnavailableError when the lock or the disk cannot be had, or as
        `refresh` raises it; the record then stands as it was.
        """
        with self._locked():
            tokens = self.load()
            if is_good(tokens):
                return tokens
            self._refuse_dead(tokens)
            with self._reserved() as draft:
                return self._refreshed(tokens, draft, refresh)

    def _refreshed(self, old: StoredTokens, draft: int, refresh: Callable[[SecretStr], TokenGrant]) -> StoredTokens:
        interrupted = self._read_note(old.generation)
        begun = self.now()
        self._write_note(_Note(generation=old.generation, state="asking", since=begun, pid=os.getpid()))
        try:
            grant = refresh(old.refresh_token)
        except LoginRequiredError as error:
            self._write_note(_Note(generation=old.generation, state="refused", since=begun, pid=os.getpid()))
            if interrupted is not None:
                message = f"{error} An earlier refresh was cut off at {_both_times(interrupted.since)}."
                raise LoginRequiredError(message) from None
            raise
        new = StoredTokens(
            access_token=grant.access_token,
            refresh_token=grant.refresh_token or old.refresh_token,
            generation=old.generation + 1,
            login_time=old.login_time,
            issued_time=begun,
            expires_time=begun + grant.lifetime_seconds,
        )
        self._write(draft, new)
        self._note_path.unlink(missing_ok=True)
        return new

    def _refuse_dead(self, tokens: StoredTokens) -> None:
        if self.now() >= tokens.login_ends_time:
            message = f"the login ended at {_both_times(tokens.login_ends_time)}, seven days after it. {LOGIN_ADVICE}"
            raise LoginRequiredError(message)
        note = self._read_note(tokens.generation)
        if note is not None and note.state == "refused":
            message = f"the source refused the stored login at {_both_times(note.since)}. {LOGIN_ADVICE}"
            raise LoginRequiredError(message)

    # -- the file ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        check_private_folder(self.path.parent, TokenStoreError)
        if not self._thread_lock.acquire(timeout=self._lock_seconds):
            message = f"another thread has been renewing the tokens for {self._lock_seconds:g} s. Ask again later."
            raise AuthUnavailableError(message)
        try:
            with hold_lock(self._lock_path, self._lock_seconds):
                yield
        finally:
            self._thread_lock.release()

    @contextlib.contextmanager
    def _reserved(self) -> Iterator[int]:
        """An open draft with its room on the disk made sure; what killed holders of the lock left is removed."""
        draft = self.path.with_name(self.path.name + ".draft")
        draft.unlink(missing_ok=True)
        descriptor = reserve(draft)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            draft.unlink(missing_ok=True)

    def _write(self, draft: int, tokens: StoredTokens) -> None:
        record = _Record(
            owner=self._owner,
            access_token=tokens.access_token.get_secret_value(),
            refresh_token=tokens.refresh_token.get_secret_value(),
            generation=tokens.generation,
            login_time=tokens.login_time,
            issued_time=tokens.issued_time,
            expires_time=tokens.expires_time,
        )
        write_reserved(draft, self._keys.encrypt(msgspec.json.encode(record)), self.path)

    def _decode(self, data: bytes) -> StoredTokens:
        try:
            record = msgspec.json.decode(_opened(self._keys, data), type=_Record)
        except InvalidToken:
            message = (
                f"{self.path} cannot be opened: the key is another one or the file is damaged. Nothing was changed. "
                f"Restore the key (TRADE_ANALYST_TOKEN_KEY or the key file), or remove the file. {LOGIN_ADVICE}"
            )
            raise TokenStoreError(message) from None
        except msgspec.DecodeError:
            message = f"{self.path} was written by another version. Remove the file. {LOGIN_ADVICE}"
            raise TokenStoreError(message) from None
        if record.owner != self._owner:
            message = (
                f"{self.path} holds the tokens of another app or environment. Restore the app key, or move the file "
                f"away. {LOGIN_ADVICE}"
            )
            raise TokenStoreError(message)
        return StoredTokens(
            access_token=SecretStr(record.access_token),
            refresh_token=SecretStr(record.refresh_token),
            generation=record.generation,
            login_time=record.login_time,
            issued_time=record.issued_time,
            expires_time=record.expires_time,
        )

    def _read_note(self, generation: int) -> _Note | None:
        """What is noted beside the record of this generation; a lost or unreadable note costs one refused request."""
        try:
            note = msgspec.json.decode(self._note_path.read_bytes()[:_LARGEST_RECORD], type=_Note)
        except (OSError, msgspec.DecodeError):
            return None
        return note if note.generation == generation else None

    def _write_note(self, note: _Note) -> None:
        draft = self._note_path.with_name(self._note_path.name + ".draft")
        try:
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.encode(note))
            draft.replace(self._note_path)
        except OSError as error:
            message = f"{self._note_path} cannot be written ({error.strerror}). Make room and see that it is writable."
            raise AuthUnavailableError(message) from error


def token_owner(environment: str, app_key: SecretStr) -> str:
    """Whose tokens a file holds: the environment, and the app key as a digest."""
    return f"{environment}:{hashlib.sha256(app_key.get_secret_value().encode()).hexdigest()[:16]}"


def _opened(keys: MultiFernet, data: bytes) -> bytes:
    """What `data` holds; InvalidToken unless it is to the letter what was written."""
    plain = keys.decrypt(data)
    if base64.urlsafe_b64encode(base64.urlsafe_b64decode(data)) != data:
        raise InvalidToken  # the lax base64 of Fernet overlooks some flipped bits
    return plain


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    owner: str
    access_token: str
    refresh_token: str
    generation: int
    login_time: float
    issued_time: float
    expires_time: float

    def __repr__(self) -> str:
        return "_Record(hidden)"


class _Note(msgspec.Struct, frozen=True):
    """Without secrets: which generation's refresh was begun or refused, when, and by which process."""

    generation: int
    state: str
    since: float
    pid: int


def _both_times(seconds: float) -> str:
    instant = datetime.fromtimestamp(seconds, UTC)
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC ({instant.astimezone(_NEW_YORK):%Y-%m-%d %H:%M} New York)"
