"""The keys that encrypt the token file: from the environment, the OS keyring or a key file, and changing them.

Not here: the places themselves (`key_places.py`) and the token file (`tokens.py`). The login must open wherever its
key lies, so every place is looked into before it is given up; only a first login may make a key.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import functools
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthError, TokenStoreError
from trade_analyst_pipeline.ops.redaction import register_secret
from trade_analyst_pipeline.schwab.key_places import KeyFile, KeyPlace, SystemKeyring
from trade_analyst_pipeline.schwab.private_files import check_private_folder, hold_lock

KeyChoice = Literal["auto", "keyring", "file", "ephemeral"]
KeySource = Literal["environment", "keyring", "file", "ephemeral"]

_KEY_BYTES = 32
_LOCK_SECONDS = 10.0
_VARIABLE = "TRADE_ANALYST_TOKEN_KEY"
_FORGET = "or forget the login with `trade-analyst token revoke` and run `trade-analyst login`"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeySet:
    """Keys as they were found in one place, newest first: the first encrypts, all of them open.

    `place` is None where they cannot be changed from here.
    """

    source: KeySource
    label: str
    fernets: tuple[Fernet, ...]
    place: KeyPlace | None = None

    @property
    def is_changing(self) -> bool:
        """Whether there are several: keys are being changed, or that was cut off."""
        return len(self.fernets) > 1

    @property
    def newest(self) -> KeySet:
        """The same without all keys but the first."""
        return KeySet(self.source, self.label, self.fernets[:1], self.place)

    def seal(self, plain: bytes) -> bytes:
        """`plain` encrypted with the first key."""
        return self.fernets[0].encrypt(plain)

    def opened(self, data: bytes) -> bytes | None:
        """What `data` holds; None unless it is to the letter what was sealed with one of these keys."""
        try:
            plain = MultiFernet(self.fernets).decrypt(data)
        except InvalidToken:
            return None
        # the lax base64 of Fernet overlooks some flipped bits
        return plain if base64.urlsafe_b64encode(base64.urlsafe_b64decode(data)) == data else None


class TokenKeys:
    """The keys to one token file.

    `fixed` keys leave no choice. Otherwise `places` are looked into, in this order, for a key that opens the file, and
    a first login makes one in the first of `wanted` that works.
    """

    def __init__(
        self,
        *,
        fixed: KeySet | None,
        places: tuple[KeyPlace, ...],
        wanted: tuple[KeyPlace, ...],
        key_file: Path,
        token_file: Path,
    ) -> None:
        self._fixed = fixed
        self._places = places
        self._wanted = wanted
        self._lock_file = key_file.with_name(key_file.name + ".lock")
        self._token_file = token_file
        self._in_force = fixed

    @property
    def in_force(self) -> KeySet | None:
        """The keys that opened or sealed the file last; None before."""
        return self._in_force

    def open(self, data: bytes) -> bytes:
        """What a sealed record holds; TokenStoreError when it is damaged, or no key that can be had opens it."""
        problems: list[str] = []
        has_key = False
        for keys in self._candidates(problems):
            has_key = True
            plain = keys.opened(data)
            if plain is not None:
                self._in_force = keys
                return plain
        raise TokenStoreError(self._explained(problems, has_key=has_key))

    def seal(self, plain: bytes) -> bytes:
        """The record sealed with the newest key in force; makes a key only where nothing was opened before."""
        return (self._in_force or self.prepare()).seal(plain)

    def prepare(self) -> KeySet:
        """Keys for a first login: those in a wanted place, else one made there; TokenStoreError where none works."""
        if self._fixed is not None:
            return self._fixed
        with self._locked():
            found = next(_read_each(self._wanted, []), None)
            self._in_force = found or self._made()
            return self._in_force

    def lookup(self) -> KeySet | None:
        """Keys that a first login would find; None when it would make one. Nothing is changed."""
        return self._fixed or next(_read_each(self._wanted, []), None)

    def _made(self) -> KeySet:
        for place in self._wanted[:-1]:
            try:
                return _make(place)
            except AuthError as error:
                _log.info("the key to the login is not kept there: %s", error)
        return _make(self._wanted[-1])

    # -- changing keys: both to be called while the record is locked, and after it was opened ---------------------

    def begin_change(self) -> None:
        """Bring a new key into force beside the old ones, or go on with a change that was cut off.

        Records sealed from now on need the new key. Raises TokenStoreError where the key is not ours to change, with
        what to do.
        """
        keys = self._in_force or self.prepare()
        if keys.place is None:
            _check_environment_change(keys)
            return
        target = self._wanted[0] if self._is_chosen else keys.place
        with self._locked():
            if target.get("next") in (None, target.get("current")):  # equal: a change ended before it was tidied up
                target.put("next", new_key().get_secret_value())
            self._in_force = _read(target)

    def end_change(self, record: bytes) -> KeySet:
        """Retire the old keys, after seeing that the newest one opens the stored `record`; returns that one."""
        keys = self._in_force or self.prepare()
        if keys.newest.opened(record) is None:
            message = f"{self._token_file} does not open with the new key; the old one was kept. Change keys again."
            raise TokenStoreError(message)
        if keys.place is not None:
            with self._locked():
                _promote(keys.place)
                self._retire_elsewhere(keys.place)
        self._in_force = keys.newest
        return keys.newest

    @property
    def _is_chosen(self) -> bool:
        """Whether the user named the place by its kind."""
        return len(self._wanted) == 1

    def _retire_elsewhere(self, kept: KeyPlace) -> None:
        """Drop the keys of the place that the login has moved away from."""
        for place in self._places if self._is_chosen else ():
            if place.source != kept.source:
                try:
                    place.drop("next")
                    place.drop("current")
                except AuthError as error:
                    _log.info("an old key may be left in the %s: %s", place.label, error)

    # -- looking for keys --------------------------------------------------------------------------------------

    def _candidates(self, problems: list[str]) -> Iterator[KeySet]:
        if self._in_force is not None:
            yield self._in_force
        if self._fixed is None:
            yield from _read_each(self._places, problems)

    def _locked(self) -> AbstractContextManager[bool]:
        check_private_folder(self._lock_file.parent, TokenStoreError)
        return hold_lock(self._lock_file, _LOCK_SECONDS)

    def _explained(self, problems: list[str], *, has_key: bool) -> str:
        why, what = "the key is another one or the file is damaged", "Restore the key"
        if self._fixed is not None:
            what = f"Restore the key in {self._fixed.label} (unset it where the login was made without)"
        elif not has_key:
            places = " or ".join(place.label for place in self._places)
            why, what = f"its key is missing ({places})", f"Restore it, or set {_VARIABLE}"
        said = "".join(f" {problem}" for problem in problems)
        return f"{self._token_file} cannot be opened: {why}. Nothing was changed.{said} {what}, {_FORGET}."


def open_keys(
    given: SecretStr | None,
    *,
    key_file: Path,
    token_file: Path,
    choice: KeyChoice = "file",
    keyring: SystemKeyring | None = None,
) -> TokenKeys:
    """The keys to `token_file`: `given` ones, else wherever they lie, else as `choice` says.

    `given` is one key or several separated by commas, the newest first. `auto` makes a first key in the keyring where
    it works, else in `key_file`. An `ephemeral` key ends with the process. Raises TokenStoreError for a key that is not
    32 bytes in URL-safe base64.
    """
    if given is not None:
        fixed = _key_set("environment", _VARIABLE, given.get_secret_value(), None)
    elif choice == "ephemeral":
        fixed = _ephemeral_keys()
    else:
        fixed = None
    file = KeyFile(key_file)
    places: tuple[KeyPlace, ...] = (file,) if keyring is None else (file, keyring)
    wanted = {"auto": places[::-1], "keyring": places[1:], "file": places[:1], "ephemeral": ()}[choice]
    return TokenKeys(fixed=fixed, places=places, wanted=wanted, key_file=key_file, token_file=token_file)


def new_key() -> SecretStr:
    """A fresh random key as text."""
    return SecretStr(Fernet.generate_key().decode())


@functools.cache
def _ephemeral_keys() -> KeySet:
    """The one key of this process that is kept nowhere."""
    _log.warning("the key to the login is kept in memory only: the login ends with this process")
    return KeySet("ephemeral", "memory of this process", (Fernet(new_key().get_secret_value()),))


@functools.cache
def ephemeral_folder() -> Path:
    """A private folder for what an ephemeral key seals; removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="trade-analyst-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _make(place: KeyPlace) -> KeySet:
    """A new key, kept in this place."""
    place.put("current", new_key().get_secret_value())
    keys = _read(place)
    if keys is None:
        message = f"the new key is not to be found in the {place.label}."
        raise TokenStoreError(message)
    return keys


def _promote(place: KeyPlace) -> None:
    """Make the next key of a place its only one."""
    text = place.get("next")
    if text is not None:
        place.put("current", text)
        place.drop("next")


def _read_each(places: Sequence[KeyPlace], problems: list[str]) -> Iterator[KeySet]:
    """The keys of each place that has any; what hinders is added to `problems`."""
    for place in places:
        try:
            keys = _read(place)
        except AuthError as error:
            problems.append(str(error))
        else:
            if keys is not None:
                yield keys


def _read(place: KeyPlace) -> KeySet | None:
    # next before current: a change that ends in between has by then put the one in the other's place
    texts = [place.get("next"), place.get("current")]
    found = ",".join(text for text in texts if text is not None)
    return _key_set(place.source, place.label, found, place) if texts != [None, None] else None


def _key_set(source: KeySource, label: str, texts: str, place: KeyPlace | None) -> KeySet:
    parts = list(dict.fromkeys(part.strip() for part in texts.split(",")))
    return KeySet(source, label, tuple(_fernet(part, number, label) for number, part in enumerate(parts, 1)), place)


def _fernet(text: str, number: int, where: str) -> Fernet:
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raw = b""
    if len(raw) != _KEY_BYTES:
        message = (
            f"key {number} in {where} is not 32 bytes in URL-safe base64 (44 characters). "
            "Restore it, or make one as docs/operations.md says."
        )
        raise TokenStoreError(message)
    register_secret(text)
    return Fernet(text.encode("ascii"))


def _check_environment_change(keys: KeySet) -> None:
    if keys.source == "ephemeral":
        message = "an ephemeral key is not changed: it ends with the process. Set token_key_source to another value."
        raise TokenStoreError(message)
    if not keys.is_changing:
        message = (
            f"the key comes from {_VARIABLE}, which only you can change: make a new key (docs/operations.md), set the "
            "variable to the new and the old one with a comma between, run `trade-analyst token rotate-key`, then set "
            "it to the new one alone."
        )
        raise TokenStoreError(message)
