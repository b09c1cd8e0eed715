"""Keyring backends for tests: one that works, one that hangs, one that loses what it is given, one that fails.

They are chosen by name through PYTHON_KEYRING_BACKEND, as a user would choose one, or set in the process.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from keyring.backend import KeyringBackend


class FileKeyring(KeyringBackend):
    """A keyring that processes share through the file named by STAND_IN_KEYRING; counts as one that encrypts."""

    priority = 9  # type: ignore[assignment]  # a class property in the library

    @property
    def file(self) -> Path:
        """Where the entries lie."""
        return Path(os.environ["STAND_IN_KEYRING"])

    def entries(self) -> dict[str, str]:
        """All entries by service and user."""
        found: dict[str, str] = json.loads(self.file.read_text()) if self.file.exists() else {}
        return found

    def get_password(self, service: str, username: str) -> str | None:
        """An entry."""
        return self.entries().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        """Add or replace an entry, first removing it, as some systems do."""
        self._write({name: text for name, text in self.entries().items() if name != f"{service}/{username}"})
        self._write(self.entries() | {f"{service}/{username}": password})

    def delete_password(self, service: str, username: str) -> None:
        """Remove an entry."""
        entries = self.entries()
        del entries[f"{service}/{username}"]
        self._write(entries)

    def _write(self, entries: dict[str, str]) -> None:
        draft = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        draft.write_text(json.dumps(entries))
        draft.replace(self.file)


class HangingKeyring(FileKeyring):
    """One that waits for a person who never comes."""

    def get_password(self, service: str, username: str) -> str | None:  # noqa: ARG002  the library's signature
        """Never returns."""
        threading.Event().wait()
        return None


class ForgetfulKeyring(FileKeyring):
    """One that takes everything and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Drop it."""


class BrokenKeyring(FileKeyring):
    """One whose bus is gone, and whose error says more than it should."""

    def get_password(self, service: str, username: str) -> str | None:
        """Fail."""
        message = f"CANARY {service} {username}"
        raise ConnectionError(message)


class PlainKeyring(FileKeyring):
    """One that says of itself that it is not recommended."""

    priority = 0.5  # type: ignore[assignment]


# only by name: the library would take the first of them for the keyring of this machine
KeyringBackend._classes -= {FileKeyring, HangingKeyring, ForgetfulKeyring, BrokenKeyring, PlainKeyring}
