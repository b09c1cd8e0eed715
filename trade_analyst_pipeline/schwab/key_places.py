"""Where a key to the token file may lie for good: a file of the user's, or the keyring of the operating system.

Both have two slots: `current`, and `next` while keys are changed. Not here: which place is used, and what a key is
(`keys.py`). A keyring can hang, ask a person, or keep its secrets in the clear: each call has a time limit, and one
that is still under way when the program ends does not hold it up; backends without encryption are not used.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError, TokenStoreError
from trade_analyst_pipeline.schwab.private_files import (
    Draft,
    check_private_folder,
    read_private,
    remove_durably,
    signature,
)

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

KEYRING_SECONDS = 3.0

_SERVICE = "trade-analyst"
_LARGEST_KEY_FILE = 4096
_NOT_TRUSTED = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")
_UNLOCK = "Unlock it and try again."

Slot = Literal["current", "next"]
Value = TypeVar("Value")


class KeyPlace(Protocol):
    """A place for the texts of keys.

    Raises TokenStoreError where it cannot be used or trusted, AuthUnavailableError where that may pass.
    """

    @property
    def source(self) -> Literal["keyring", "file"]:
        """What kind of place it is."""

    @property
    def label(self) -> str:
        """What it is called to a person."""

    def get(self, slot: Slot) -> str | None:
        """The text in a slot; None where there is none."""

    def put(self, slot: Slot, text: str) -> None:
        """Keep this text in a slot, for good, in place of what was there."""

    def drop(self, slot: Slot) -> None:
        """Empty a slot."""


class KeyFile:
    """A key in a file that nobody else can read, `next` beside it."""

    source: Literal["file"] = "file"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def label(self) -> str:
        """The file's path."""
        return f"key file {self.path}"

    def get(self, slot: Slot) -> str | None:
        """The file's text without blanks around it; None where there is no file."""
        found = read_private(self._path(slot), TokenStoreError, largest=_LARGEST_KEY_FILE)
        return None if found is None else found[0].decode("latin-1").strip()

    def put(self, slot: Slot, text: str) -> None:
        """Replace the file, durably; AuthUnavailableError without room."""
        check_private_folder(self.path.parent, TokenStoreError)
        with Draft(self._path(slot)) as draft:
            draft.put(text.encode())

    def drop(self, slot: Slot) -> None:
        """Remove the file, durably."""
        path = self._path(slot)
        if signature(path) is not None:
            remove_durably([path])

    def _path(self, slot: Slot) -> Path:
        return self.path if slot == "current" else self.path.with_name(self.path.name + ".next")


class SystemKeyring:
    """The operating system's keyring, each call bounded by `seconds`; `user` tells the keys of environments apart."""

    source: Literal["keyring"] = "keyring"

    def __init__(self, user: str, *, seconds: float = KEYRING_SECONDS) -> None:
        self._user = user
        self._seconds = seconds

    @property
    def label(self) -> str:
        """The name of the entry."""
        return f'OS keyring, entry "{_SERVICE}" of "{self._user}"'

    def get(self, slot: Slot) -> str | None:
        """The entry's text; TokenStoreError where there is no keyring that can be used."""
        return _within(self._seconds, lambda: _backend().get_password(_SERVICE, self._name(slot)))

    def put(self, slot: Slot, text: str) -> None:
        """Keep the text, and see that the keyring gives it back."""

        def put() -> str | None:
            backend = _backend()
            backend.set_password(_SERVICE, self._name(slot), text)
            return backend.get_password(_SERVICE, self._name(slot))

        if _within(self._seconds, put) != text:
            message = "the OS keyring does not keep what it is given."
            raise TokenStoreError(message)

    def drop(self, slot: Slot) -> None:
        """Remove the entry if there is one."""

        def drop() -> None:
            backend = _backend()
            if backend.get_password(_SERVICE, self._name(slot)) is not None:
                backend.delete_password(_SERVICE, self._name(slot))

        _within(self._seconds, drop)

    def _name(self, slot: Slot) -> str:
        return self._user if slot == "current" else f"{self._user}, next"


def _backend() -> KeyringBackend:
    """The backend to use: of several in a row, the first that encrypts."""
    import keyring

    found = keyring.get_keyring()
    for backend in getattr(found, "backends", None) or [found]:
        if not type(backend).__module__.startswith(_NOT_TRUSTED) and backend.priority >= 1:
            trusted: KeyringBackend = backend
            return trusted
    message = "there is no OS keyring here that encrypts what it keeps."
    raise TokenStoreError(message)


_left_behind: list[threading.Thread] = []


def _within(seconds: float, call: Callable[[], Value]) -> Value:
    """What `call` returns, if it does in time; else it is left behind on a thread that ends with the process."""
    if any(thread.is_alive() for thread in _left_behind):
        message = f"the OS keyring has not answered an earlier question yet. {_UNLOCK}"
        raise AuthUnavailableError(message)
    answers: queue.SimpleQueue[tuple[Value] | AuthError] = queue.SimpleQueue()
    thread = threading.Thread(target=_answer, args=(call, answers), name="keyring", daemon=True)
    thread.start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        _left_behind[:] = [thread]
        message = f"the OS keyring did not answer within {seconds:g} s. {_UNLOCK}"
        raise AuthUnavailableError(message) from None
    if isinstance(answer, AuthError):
        raise answer
    return answer[0]


def _answer(call: Callable[[], Value], answers: queue.SimpleQueue[tuple[Value] | AuthError]) -> None:
    try:
        answers.put((call(),))
    except AuthError as error:
        answers.put(error)
    except Exception as error:  # noqa: BLE001  backends raise whatever their bus or library raises
        answers.put(AuthUnavailableError(f"the OS keyring failed ({type(error).__name__}). {_UNLOCK}"))
