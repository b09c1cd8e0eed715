"""The keys that encrypt the token file: from the environment, the OS keyring or a key file, and changing them.

Not here: the places themselves (`key_places.py`) and the token file (`tokens.py`). The login must open wherever its
key lies, so every place is looked into before it is given up; only a first login may make a key, and only where there
is none for certain. What makes or changes a key is to be called under the lock of the token file.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cryptography.fernet import Fernet
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError, TokenStoreError
from trade_analyst_pipeline.schwab.key_places import KeyFile, KeyPlace, SystemKeyring
from trade_analyst_pipeline.schwab.key_sets import (
    KeySet,
    key_set,
    key_texts,
    make_key,
    new_key,
    parse_keys,
    promote_next,
    read_each,
    read_keys,
)

KeyChoice = Literal["auto", "keyring", "file", "ephemeral"]

_VARIABLE = "TRADE_ANALYST_TOKEN_KEY"
_ANOTHER_PLACE = f"Or set token_key_source to file, or set {_VARIABLE}."
_FORGET = "or forget the login with `trade-analyst token revoke` and run `trade-analyst login`"

_log = logging.getLogger(__name__)


class TokenKeys:
    """The keys to one token file.

    `fixed` keys leave no choice. Otherwise `places` are looked into, in this order, for a key that opens the file, then
    `shared` ones, which other token files may need: they are never written to. A first login makes a key in the first
    of `wanted` that works.
    """

    def __init__(
        self,
        *,
        fixed: KeySet | None,
        places: tuple[KeyPlace, ...],
        wanted: tuple[KeyPlace, ...],
        shared: tuple[KeyPlace, ...],
        token_file: Path,
    ) -> None:
        self._fixed = fixed
        self._places = places
        self._wanted = wanted
        self._shared = shared
        self._token_file = token_file
        self._in_force = fixed

    @property
    def in_force(self) -> KeySet | None:
        """The keys that opened or sealed the file last; None before."""
        return self._in_force

    def open(self, data: bytes) -> bytes:
        """What a sealed record holds.

        Raises AuthUnavailableError when no key opens it and a keyring does not answer, TokenStoreError when it is
        damaged, or every key that can be had is another one.
        """
        problems: list[AuthError] = []
        has_key = False
        for keys in self._candidates(problems):
            has_key = True
            plain = keys.opened(data)
            if plain is not None:
                self._in_force = keys
                return plain
        for problem in problems:
            if isinstance(problem, AuthUnavailableError):
                message = f"{self._token_file} cannot be opened now: {problem} Nothing was changed."
                raise AuthUnavailableError(message)
        raise TokenStoreError(self._explained(problems, has_key=has_key))

    def seal(self, plain: bytes) -> bytes:
        """The record sealed with the newest key in force; makes a key only where nothing was opened before."""
        return (self._in_force or self.prepare()).seal(plain)

    def prepare(self) -> KeySet:
        """Keys for a first login: those in a wanted place, else one made there.

        A place that could not be read is never written to: a key file that cannot be trusted, or a text that is no
        key, is TokenStoreError; of a keyring that cannot be used the next place is taken, else its error raised.
        """
        if self._fixed is None:
            self._in_force = self._present_or_made()
            return self._in_force
        return self._fixed

    def lookup(self) -> KeySet | None:
        """Keys that a first login would find; None when it would make one. Nothing is changed."""
        return self._fixed or next(read_each(self._wanted, []), None)

    def _present_or_made(self) -> KeySet:
        problems: list[AuthError] = []
        empty: list[KeyPlace] = []
        for place in self._wanted:
            try:
                texts = key_texts(place)
            except AuthError as error:
                if place.source == "file":
                    raise
                problems.append(error)
                continue
            keys = parse_keys(place, texts)
            if keys is not None:
                return keys
            empty.append(place)
        for place in empty:
            try:
                return make_key(place)
            except AuthError as error:
                _log.info("the key to the login is not kept there: %s", error)
                problems.append(error)
        raise self._nowhere(problems[-1])

    def _nowhere(self, problem: AuthError) -> AuthError:
        advice = f" {_ANOTHER_PLACE}" if self._wanted[-1].source == "keyring" else ""
        return type(problem)(f"{problem}{advice}")

    # -- changing keys: both to be called after the record was opened ---------------------------------------------

    def begin_change(self) -> None:
        """Bring a new key into force beside the old ones, or go on with a change that was cut off.

        Records sealed from now on need the new key. Raises TokenStoreError where the key is not ours to change, with
        what to do.
        """
        keys = self._in_force or self.prepare()
        if keys.place is None:
            _check_environment_change(keys)
            return
        target = self._wanted[0] if self._is_chosen else self._own(keys.place)
        if target.get("next") in (None, target.get("current")):  # equal: a change ended before it was tidied up
            target.put("next", new_key().get_secret_value())
        self._in_force = read_keys(target)

    def end_change(self, record: bytes) -> KeySet:
        """Retire the old keys, after seeing that the newest one opens the stored `record`; returns that one."""
        keys = self._in_force or self.prepare()
        if keys.newest.opened(record) is None:
            message = f"{self._token_file} does not open with the new key; the old one was kept. Change keys again."
            raise TokenStoreError(message)
        if keys.place is not None:
            promote_next(keys.place)
            self._retire_elsewhere(keys.place)
        self._in_force = keys.newest
        return keys.newest

    @property
    def _is_chosen(self) -> bool:
        """Whether the user named the place by its kind."""
        return len(self._wanted) == 1

    def _own(self, place: KeyPlace) -> KeyPlace:
        """The place of our own that is of the same kind."""
        return next((own for own in self._places if own.source == place.source), self._wanted[0])

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

    def _candidates(self, problems: list[AuthError]) -> Iterator[KeySet]:
        if self._in_force is not None:
            yield self._in_force
        if self._fixed is None:
            yield from read_each(self._places + self._shared, problems)

    def _explained(self, problems: list[AuthError], *, has_key: bool) -> str:
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
    token_file: Path,
    key_file: Path | None = None,
    choice: KeyChoice = "file",
    keyring: SystemKeyring | None = None,
    shared: tuple[KeyPlace, ...] = (),
) -> TokenKeys:
    """The keys to `token_file`: `given` ones, else wherever they lie, else as `choice` says.

    `given` is one key or several separated by commas, the newest first. `auto` makes a first key in the keyring where
    it works, else in `key_file`. An `ephemeral` key ends with the process. Only where keys
    are kept is a `key_file` needed. Raises TokenStoreError for a key that is not 32 bytes in URL-safe base64.
    """
    fixed = None
    if given is not None:
        fixed = key_set("environment", _VARIABLE, given.get_secret_value(), None)
    elif choice == "ephemeral":
        fixed = _ephemeral_keys()
    file = () if key_file is None else (KeyFile(key_file),)
    ring = () if keyring is None else (keyring,)
    places: tuple[KeyPlace, ...] = (*file, *ring)
    wanted = {"auto": places[::-1], "keyring": ring, "file": file, "ephemeral": ()}[choice]
    return TokenKeys(fixed=fixed, places=places, wanted=wanted, shared=shared, token_file=token_file)


def name_of(token_file: Path) -> str:
    """Ten hexadecimal digits that tell the key of this token file from those of others, by its place."""
    return hashlib.sha256(str(token_file.resolve()).encode()).hexdigest()[:10]


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
