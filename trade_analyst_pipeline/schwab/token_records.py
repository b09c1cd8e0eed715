"""One record of the token store: what it says, when it is still good, and how it is written.

Not here: encrypting it (`keys.py`) and keeping it (`tokens.py`). Times are seconds since the epoch on the machine's
clock.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthUnavailableError, TokenStoreError
from trade_analyst_pipeline.ops.redaction import register_secret
from trade_analyst_pipeline.schwab.uptime import NO_UPTIME, Uptime

LOGIN_ADVICE = "Run `trade-analyst login`."
REFRESH_TOKEN_SECONDS = 7 * 86_400

_LONGEST_ADVISORY_SECONDS = 300.0
_LONGEST_MANDATORY_SECONDS = 60.0
_CLOCK_SLACK_SECONDS = 5.0
_CLOCK_STEP_SECONDS = 1.0

Renewal = Literal["login", "same", "rotated", "omitted"]


@dataclass(frozen=True)
class TokenGrant:
    """What the token endpoint gave: `refresh_token` None where the answer leaves it out; lifetime in seconds."""

    access_token: SecretStr
    refresh_token: SecretStr | None
    lifetime_seconds: float

    def __post_init__(self) -> None:
        """From now on both tokens are masked in all output."""
        _mask(self.access_token, self.refresh_token)


@dataclass(frozen=True)
class StoredTokens:
    """One record of the store. Times are seconds since the epoch on the machine's clock.

    `generation` grows by one with each save. `login_time` is that of the interactive login and survives refreshes.
    `renewal` is how the record came: by a login, or by a refresh that left the refresh token the same, rotated it or
    omitted it. `issued_uptime` and `login_uptime` are the machine's uptime at `issued_time` and `login_time`.
    `login_id` is a random name of the login, which its refreshes keep: generations begin anew after a login was
    forgotten.
    """

    access_token: SecretStr
    refresh_token: SecretStr
    generation: int
    login_time: float
    issued_time: float
    expires_time: float
    renewal: Renewal = "login"
    issued_uptime: Uptime = NO_UPTIME
    login_uptime: Uptime = NO_UPTIME
    login_id: str = ""

    def __post_init__(self) -> None:
        """From now on both tokens are masked in all output."""
        _mask(self.access_token, self.refresh_token)

    def is_fresh(self, now: float) -> bool:
        """Whether the access token is good and need not be renewed yet: 5 minutes before its end it should be.

        The margin of a short life is a fifth of it. False also when the clock stands before the issue.
        """
        return self._has_left(now, _LONGEST_ADVISORY_SECONDS, 0.2)

    def is_usable(self, now: float) -> bool:
        """Whether the access token is good enough to go on with while another process renews it.

        Not so in the last minute, or the last tenth of a short life.
        """
        return self._has_left(now, _LONGEST_MANDATORY_SECONDS, 0.1)

    def is_alive(self, now: float) -> bool:
        """Whether the access token has not ended yet."""
        return self._has_left(now, 0.0, 0.0)

    def _has_left(self, now: float, margin: float, share: float) -> bool:
        margin = min(margin, share * (self.expires_time - self.issued_time))
        return self.issued_time - _CLOCK_SLACK_SECONDS <= now < self.expires_time - margin

    def follows(self, other: StoredTokens) -> bool:
        """Whether this came of refreshing that record."""
        return self.login_id == other.login_id and self.generation == other.generation + 1

    @property
    def login_ends_time(self) -> float:
        """When the refresh token ends, and with it all access without a new login."""
        return self.login_time + REFRESH_TOKEN_SECONDS

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that tell access tokens apart without showing them."""
        return hashlib.sha256(self.access_token.get_secret_value().encode()).hexdigest()[:8]


def _mask(*tokens: SecretStr | None) -> None:
    for token in tokens:
        if token is not None:
            register_secret(token.get_secret_value(), is_passing=True)


def logged_in(grant: TokenGrant, generation: int, now: float, uptime: Uptime) -> StoredTokens:
    """The record of an interactive login that has just succeeded; AuthUnavailableError without a refresh token."""
    if grant.refresh_token is None:
        message = f"the source gave no refresh token with this login. {LOGIN_ADVICE}"
        raise AuthUnavailableError(message)
    expires = now + grant.lifetime_seconds
    login_id = secrets.token_hex(8)
    return StoredTokens(
        grant.access_token, grant.refresh_token, generation, now, now, expires, "login", uptime, uptime, login_id
    )


def refreshed(old: StoredTokens, grant: TokenGrant, begun: float, uptime: Uptime) -> StoredTokens:
    """The record after a refresh that was begun then: its life counts from before the request, the login's goes on."""
    if grant.refresh_token is None:
        renewal: Renewal = "omitted"
    else:
        renewal = "same" if grant.refresh_token == old.refresh_token else "rotated"
    return StoredTokens(
        access_token=grant.access_token,
        refresh_token=grant.refresh_token or old.refresh_token,
        generation=old.generation + 1,
        login_time=old.login_time,
        issued_time=begun,
        expires_time=begun + grant.lifetime_seconds,
        renewal=renewal,
        issued_uptime=uptime,
        login_uptime=old.login_uptime,
        login_id=old.login_id,
    )


def on_clock(tokens: StoredTokens, now: float, uptime: Uptime) -> StoredTokens:
    """The record with its times on the clock as it stands now, where that was set since they were written down."""

    def step(instant: float, then: Uptime) -> float:
        age = uptime.since(then)
        found = 0.0 if age is None else now - (instant + age)
        return found if abs(found) >= _CLOCK_STEP_SECONDS else 0.0

    login = step(tokens.login_time, tokens.login_uptime)
    issue = step(tokens.issued_time, tokens.issued_uptime)
    if not login and not issue:
        return tokens
    return replace(
        tokens,
        login_time=tokens.login_time + login,
        issued_time=tokens.issued_time + issue,
        expires_time=tokens.expires_time + issue,
    )


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    owner: str
    access_token: str
    refresh_token: str
    generation: int
    login_time: float
    issued_time: float
    expires_time: float
    renewal: Renewal = "login"
    boot: str = ""
    uptime: float = 0.0
    login_boot: str = ""
    login_uptime: float = 0.0
    login_id: str = ""

    def __repr__(self) -> str:
        return "_Record(hidden)"


# made here: two threads that decode a type for the first time at once crash the library
_DECODER = msgspec.json.Decoder(_Record)


def encode_record(tokens: StoredTokens, owner: str) -> bytes:
    """The record in the clear, to be encrypted, with whose tokens it holds."""
    record = _Record(
        owner=owner,
        access_token=tokens.access_token.get_secret_value(),
        refresh_token=tokens.refresh_token.get_secret_value(),
        generation=tokens.generation,
        login_time=tokens.login_time,
        issued_time=tokens.issued_time,
        expires_time=tokens.expires_time,
        renewal=tokens.renewal,
        boot=tokens.issued_uptime.boot,
        uptime=tokens.issued_uptime.seconds,
        login_boot=tokens.login_uptime.boot,
        login_uptime=tokens.login_uptime.seconds,
        login_id=tokens.login_id,
    )
    return msgspec.json.encode(record)


def decode_record(plain: bytes, owner: str, path: Path) -> StoredTokens:
    """The record that `encode_record` wrote for this owner; TokenStoreError, naming `path`, for any other."""
    try:
        record = _DECODER.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = f"{path} was written by another version. Remove the file. {LOGIN_ADVICE}"
        raise TokenStoreError(message) from None
    if record.owner != owner:
        message = (
            f"{path} holds the tokens of another app or environment. Restore the app key, or move the file away. "
            f"{LOGIN_ADVICE}"
        )
        raise TokenStoreError(message)
    return StoredTokens(
        access_token=SecretStr(record.access_token),
        refresh_token=SecretStr(record.refresh_token),
        generation=record.generation,
        login_time=record.login_time,
        issued_time=record.issued_time,
        expires_time=record.expires_time,
        renewal=record.renewal,
        issued_uptime=Uptime(record.boot, record.uptime),
        login_uptime=Uptime(record.login_boot, record.login_uptime),
        login_id=record.login_id,
    )
