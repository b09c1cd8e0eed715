"""The redirect that comes back from the source after consent: what it must look like, and what is told when it differs.

Belongs here: judging one address against the one redirect that is expected. Not here: the listener it comes to
(`callback_listener.py`), counting (`callback_ledger.py`), making the authorize address and exchanging the code
(`auth.py`).
"""

from __future__ import annotations

import hmac
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from trade_analyst_pipeline.errors import CallbackError
from trade_analyst_pipeline.ops.redaction import register_secret
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger, RefusalReason

LOGIN_AGAIN = "Run `trade-analyst login` again."

_LONGEST_ADDRESS = 8192
_CODE = re.compile(r"[A-Za-z0-9._~+/=@-]{1,4096}")
_ESCAPES = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


class _Refusal(Exception):  # noqa: N818 - turned into a CallbackError before it leaves this module
    def __init__(self, reason: RefusalReason, problem: str) -> None:
        super().__init__(problem)
        self.reason: RefusalReason = reason


class ExpectedCallback:
    """The one redirect that is waited for: the registered address, the state sent, and who may say it issued it.

    Registered in the ledger on creation, good for one answer within `seconds`. `issuer` is the only value that `iss`
    may have in it. Used by several threads at once.
    """

    def __init__(
        self,
        redirect_uri: str,
        *,
        state: SecretStr,
        issuer: str,
        ledger: CallbackLedger,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        register_secret(state.get_secret_value(), is_passing=True)
        self.redirect_uri = redirect_uri
        self.state = state
        self._issuer = issuer
        self._ledger = ledger
        self._clock = clock
        self._until = clock() + seconds
        self._is_unanswered = threading.Lock()
        ledger.expect(state, seconds=seconds)

    def read(self, address: SecretStr) -> SecretStr:
        """The authorization code in the address that came back, percent-decoded once; counted in the ledger.

        Raises CallbackError with its reason unless the address is the registered one, to the letter, with the state
        that was sent and one well-formed code, in time and for the first time. Parameters that are not known are
        ignored, repeated ones refused. An address with the right state uses this up, whatever else it brings.
        """
        try:
            code = self._read(address.get_secret_value())
        except _Refusal as refusal:
            self.refuse(refusal.reason)
            raise CallbackError(str(refusal), refusal.reason) from None  # without the frames that hold the code
        self._ledger.accept(self.state)
        return code

    def seconds_left(self) -> float:
        """How long an answer is still taken, 0 or more."""
        return max(0.0, self._until - self._clock())

    def refuse(self, reason: RefusalReason) -> None:
        """Count an arrival that is refused for a reason that its address does not show."""
        self._ledger.refuse(reason, self.state)

    def _read(self, address: str) -> SecretStr:
        fields = _fields(self._query(address))
        self._claim(fields.get("state", ""))
        if "error" in fields:
            problem = f"the source answered the login with {_word(fields['error'])!r} instead of a code."
            raise _Refusal("denied", f"{problem} {LOGIN_AGAIN}")
        if fields.get("iss", self._issuer) != self._issuer:
            raise _Refusal("issuer", f"the redirect says that another server issued it. {LOGIN_AGAIN}")
        return _code(fields)

    def _query(self, address: str) -> str:
        if len(address) > _LONGEST_ADDRESS:
            raise _Refusal("size", "the address that came back is too long for a redirect. Copy the address alone.")
        if not re.fullmatch(r"[\x21-\x7e]+", address):
            problem = "the address that came back is empty, or holds blanks, line breaks or control characters."
            raise _Refusal("malformed", f"{problem} Copy it whole, in one line.")
        before, _, query = address.partition("?")
        if before not in (self.redirect_uri, self.redirect_uri + "/" * _has_no_path(self.redirect_uri)):
            raise _Refusal("address", _difference(before, self.redirect_uri))
        if "#" in query or not _ESCAPES.fullmatch(query):
            raise _Refusal("malformed", f"the address that came back is not well-formed. {LOGIN_AGAIN}")
        return query

    def _claim(self, state: str) -> None:
        """Take the one use, for an address with our state."""
        if not state:
            problem = "the redirect does not belong to this login (it has no state)."
            raise _Refusal("no_state", f"{problem} Copy the whole address, to its end.")
        if not hmac.compare_digest(self.state.get_secret_value().encode(), state.encode()):
            raise self._foreign(SecretStr(state))
        if self.seconds_left() == 0.0:
            raise _Refusal("late", f"the redirect came too late: this login is over. {LOGIN_AGAIN}")
        if not self._is_unanswered.acquire(blocking=False):
            raise _Refusal("used", f"this login has been used. {LOGIN_AGAIN}")

    def _foreign(self, state: SecretStr) -> _Refusal:
        problem = "the redirect does not belong to this login"
        match self._ledger.fate(state):
            case "answered":
                return _Refusal("used", f"{problem}: it answers an earlier one, which has been used. {LOGIN_AGAIN}")
            case "expired":
                return _Refusal("late", f"{problem}: it answers an earlier one, whose time is over. {LOGIN_AGAIN}")
        return _Refusal("unexpected", f"{problem} (its state is another). {LOGIN_AGAIN}")


def _has_no_path(redirect_uri: str) -> bool:
    return urlsplit(redirect_uri).path == ""


def _difference(found: str, wanted: str) -> str:
    """What is wrong with an address that does not begin as it should, as far as a person can mend it."""
    if "://" not in found:
        hint = "It has no https:// in front: copy the whole address."
    elif re.match(r"https?://(localhost|127\.0\.0\.1|\[::1\])", found, re.IGNORECASE):
        hint = "Scheme, host, port, path and slash must be those that are registered; see schwab.redirect_uri."
    else:
        hint = "Agree on the source's page first; the address that follows it is the one."
    return f"the address that came back does not begin with {wanted} to the letter. {hint}"


def _fields(query: str) -> dict[str, str]:
    """The query's parameters, each decoded once; a plus sign stays one, because codes are not form text."""
    fields: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        name = unquote(name, errors="replace")
        if name in fields:
            raise _Refusal("duplicate", f"the redirect names {_word(name)!r} more than once. {LOGIN_AGAIN}")
        fields[name] = unquote(value, errors="replace")
    return fields


def _code(fields: dict[str, str]) -> SecretStr:
    code = fields.get("code", "")
    if not _CODE.fullmatch(code):
        hint = "it was percent-encoded twice" if "%" in code else "it is missing or holds strange characters"
        raise _Refusal("no_code", f"the code in the redirect cannot be used: {hint}. {LOGIN_AGAIN}")
    register_secret(code, is_passing=True)
    return SecretStr(code)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "?", text)[:40]
