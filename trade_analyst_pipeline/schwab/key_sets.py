"""Sets of keys: what a key is, sealing and opening with it, and reading the keys that lie in a place.

Not here: which place is used (`keys.py`), and the places themselves (`key_places.py`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthError, TokenStoreError
from trade_analyst_pipeline.ops.redaction import register_secret
from trade_analyst_pipeline.schwab.key_places import KeyPlace

KeySource = Literal["environment", "keyring", "file", "ephemeral"]

_KEY_BYTES = 32


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


def new_key() -> SecretStr:
    """A fresh random key as text."""
    return SecretStr(Fernet.generate_key().decode())


def key_set(source: KeySource, label: str, texts: str, place: KeyPlace | None) -> KeySet:
    """The keys in `texts`, separated by commas, newest first; TokenStoreError for a text that is no key."""
    parts = list(dict.fromkeys(part.strip() for part in texts.split(",")))
    return KeySet(source, label, tuple(_fernet(part, number, label) for number, part in enumerate(parts, 1)), place)


def parse_keys(place: KeyPlace, texts: list[str]) -> KeySet | None:
    """The keys that `key_texts` found in a place; None without any."""
    return key_set(place.source, place.label, ",".join(texts), place) if texts else None


def key_texts(place: KeyPlace) -> list[str]:
    """What stands in the slots of a place, the next key first; TokenStoreError where it cannot be used or trusted."""
    # next before current: a change that ends in between has by then put the one in the other's place
    return [text for text in (place.get("next"), place.get("current")) if text is not None]


def read_keys(place: KeyPlace) -> KeySet | None:
    """The keys that lie in a place; None without any."""
    return parse_keys(place, key_texts(place))


def read_each(places: Sequence[KeyPlace], problems: list[AuthError]) -> Iterator[KeySet]:
    """The keys of each place that has any; what hinders is added to `problems`."""
    for place in places:
        try:
            keys = read_keys(place)
        except AuthError as error:
            problems.append(error)
        else:
            if keys is not None:
                yield keys


def make_key(place: KeyPlace) -> KeySet:
    """A new key, kept in this place; TokenStoreError, and nothing is written, where there is one already."""
    if place.get("current") is not None:
        message = f"another program has just put a key into the {place.label}. Ask again."
        raise TokenStoreError(message)
    place.put("current", new_key().get_secret_value())
    keys = read_keys(place)
    if keys is None:
        message = f"the new key is not to be found in the {place.label}."
        raise TokenStoreError(message)
    return keys


def promote_next(place: KeyPlace) -> None:
    """Make the next key of a place its only one."""
    text = place.get("next")
    if text is not None:
        place.put("current", text)
        place.drop("next")


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
