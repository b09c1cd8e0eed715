"""The key that encrypts the token file: given as text, or kept in a file made at first use.

Not here: the token file itself (`tokens.py`). A key file lies outside the data folder, mode 0600, in the user's
configuration folder.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.fernet import Fernet, MultiFernet
from pydantic import SecretStr

from trade_analyst_pipeline.errors import TokenStoreError
from trade_analyst_pipeline.schwab.private_files import (
    check_private_folder,
    hold_lock,
    open_private,
    reserve,
    write_reserved,
)

_KEY_BYTES = 32
_LARGEST_KEY_FILE = 4096
_LOCK_SECONDS = 10.0


def open_keys(given: SecretStr | None, *, key_file: Path, token_file: Path) -> MultiFernet:
    """The keys to encrypt with (the first) and to decrypt with (all), from `given` or else from `key_file`.

    `given` is one key or several separated by commas, the newest first. A missing key file is made, unless
    `token_file` already exists and would need the lost one. Raises TokenStoreError for a key that is not 32 bytes in
    URL-safe base64, and for a key file that others can reach.
    """
    if given is not None:
        return _fernets(given, "TRADE_ANALYST_TOKEN_KEY")
    if not os.path.lexists(key_file):
        if os.path.lexists(token_file):
            message = (
                f"key file {key_file} is missing, and {token_file} can only be opened with it. Restore the key file "
                "or set TRADE_ANALYST_TOKEN_KEY; or remove the token file and run `trade-analyst login`."
            )
            raise TokenStoreError(message)
        _make_key_file(key_file)
    with open_private(key_file, TokenStoreError) as descriptor:
        text = os.read(descriptor, _LARGEST_KEY_FILE)
    return _fernets(SecretStr(text.decode("latin-1").strip()), str(key_file))


def new_key() -> SecretStr:
    """A fresh random key as text."""
    return SecretStr(Fernet.generate_key().decode())


def _fernets(keys: SecretStr, where: str) -> MultiFernet:
    parts = [part.strip() for part in keys.get_secret_value().split(",")]
    return MultiFernet([_fernet(part, number, where) for number, part in enumerate(parts, 1)])


def _fernet(text: str, number: int, where: str) -> Fernet:
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raw = b""
    if len(raw) != _KEY_BYTES:
        message = (
            f"key {number} in {where} is not 32 bytes in URL-safe base64 (44 characters). "
            "Make one as docs/operations.md says, or unset it and let a key file be made."
        )
        raise TokenStoreError(message)
    return Fernet(text.encode("ascii"))


def _make_key_file(key_file: Path) -> None:
    """Put a complete new key in place; of several processes that try, one makes it and all use it."""
    check_private_folder(key_file.parent, TokenStoreError)
    with hold_lock(key_file.with_name(key_file.name + ".lock"), _LOCK_SECONDS):
        if not os.path.lexists(key_file):
            draft = key_file.with_name(key_file.name + ".draft")
            draft.unlink(missing_ok=True)
            descriptor = reserve(draft)
            try:
                write_reserved(descriptor, new_key().get_secret_value().encode(), key_file)
            finally:
                os.close(descriptor)
