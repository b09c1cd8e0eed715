"""What is secret, and text without it: values registered by whoever learns them, and whatever has a secret's shape.

Belongs here: masking of texts and values. Not here: where logs go and what a line looks like (`logs.py`). Knows the
standard library only and stands below everything, so that each module that learns a secret can register it.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "[secret]"
SHORTEST_SECRET = 8
MOST_PASSING = 64  # a renewal brings three at most: ten hours of them

_SECRET_KEYS = re.compile(
    r"(secret|password|passphrase|token|authorization|cookie|verifier|credential|client_?id|correl_?id|customer_?id"
    r"|(api|app|token|fernet|encryption)_?key|account_?(number|hash)|hash_?value)s?$|^(code|state|nonce)$|auth\w*_code$",
    re.IGNORECASE,
)
# Each pattern keeps its first group and masks the rest.
_SECRET_PATTERNS = (
    re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=@%-]{6,}", re.IGNORECASE),
    re.compile(
        r"((?:[?&;\s\"']|^)(?:code|state|session|access_token|refresh_token|id_token|client_secret|code_verifier)"
        r"(?:=|%3D|\\?[\"']\s*:\s*\\?[\"']))[^&\s\"'\\,;#}]+",
        re.IGNORECASE,
    ),
    re.compile(r"()\b[IC]0\.[A-Za-z0-9_.~+/=-]{8,}(?:@|%40)?"),
    # Refresh tokens end like access tokens and begin like nothing. Each run of letters is looked at once.
    re.compile(r"()(?<![A-Za-z0-9_.~+/=-])[A-Za-z0-9_.~+/=-]{40,}+(?:@|%40)"),
    re.compile(r"()\bgAAAAA[A-Za-z0-9_-]{20,}={0,2}"),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]*"),
)


class _Known:
    """What is registered, each value with its forms: lasting values for good, passing ones the newest last."""

    def __init__(self) -> None:
        self.lasting: dict[str, set[str]] = {}
        self.passing: dict[str, set[str]] = {}
        self.forms: tuple[str, ...] = ()  # longest first; replaced, never changed

    def add_lasting(self, value: str) -> None:
        if value not in self.lasting:
            self.passing.pop(value, set())
            self.lasting[value] = forms_of(value)
            self._list_forms()

    def add_passing(self, value: str) -> None:
        if value in self.lasting:
            return
        known = self.passing.pop(value, None)
        self.passing[value] = known or forms_of(value)
        if known is None:
            for oldest in list(self.passing)[:-MOST_PASSING]:
                del self.passing[oldest]
            self._list_forms()

    def _list_forms(self) -> None:
        forms = set().union(*self.lasting.values(), *self.passing.values())
        self.forms = tuple(sorted(forms, key=len, reverse=True))


_lock = threading.Lock()
_known = _Known()


def register_secret(value: str, *, is_passing: bool = False) -> None:
    """Mask this value from now on, in every form that a text may give it; very short ones are left.

    Of passing secrets, which are replaced within minutes or days (tokens, codes, states), the last `MOST_PASSING` are
    known: a process that runs for weeks would be slowed down by all it has seen. What has a token's shape is masked
    beyond that too.
    """
    with _lock:
        if is_passing:
            _known.add_passing(value)
        else:
            _known.add_lasting(value)


def forms_of(value: str) -> set[str]:
    """The value as it stands, URL-encoded once or twice, inside JSON, Python and HTML texts, as base64 and as hex.

    Those of fewer than `SHORTEST_SECRET` letters are left out: they would mask half of every text.
    """
    escaped = {json.dumps(value)[1:-1], json.dumps(value)[1:-1].replace("/", "\\/"), repr(value)[1:-1]}
    urls = {quote(value, safe=""), quote_plus(value), quote(quote(value, safe=""), safe="")}
    urls |= {_lower_escapes(url) for url in urls}
    raw = value.encode()
    forms = {value, html.escape(value), raw.hex(), raw.hex().upper(), *escaped, *urls, *_base64_forms(raw)}
    forms |= {json.dumps(form)[1:-1] for form in escaped}
    return {form for form in forms if len(form) >= SHORTEST_SECRET}


def _lower_escapes(url: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), url)


def _base64_forms(raw: bytes) -> set[str]:
    """What of the value is fixed inside a longer base64 text, where it starts at one of three offsets."""
    forms = set()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        end = len(encoded) - (1 if (offset + len(raw)) % 3 else 0)
        inner = encoded[-(-offset * 8 // 6) : end]
        forms |= {inner, inner.replace("+", "-").replace("/", "_"), quote(inner, safe="")}
    return forms


def redact(text: str) -> str:
    """The text with registered secrets, and whatever looks like a token or a code, masked."""
    for form in _known.forms:
        text = text.replace(form, MASK)
    for pattern in _SECRET_PATTERNS:
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def redact_value(value: Any, key: str = "") -> Any:
    """The value with secrets masked at any depth; everything under a key that names a secret is masked whole."""
    if value is not None and _SECRET_KEYS.search(key):
        return MASK
    if isinstance(value, Mapping):
        return {redact(str(name)): redact_value(item, str(name)) for name, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes | bytearray):
        return [redact_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(value if isinstance(value, str) else str(value))
