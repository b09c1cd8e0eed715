"""What the token endpoint answers: a grant, or the error of ours that its refusal stands for.

Not here: asking (`auth.py`), bounds of size and time (`token_transport.py`), pages in place of an answer
(`source_pages.py`) and keeping (`tokens.py`). No message ever quotes an answer: it may hold a token.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeGuard

from pydantic import SecretStr

from trade_analyst_pipeline.errors import (
    AuthError,
    AuthUnavailableError,
    CallbackError,
    ClientCredentialsError,
    LoginRequiredError,
)
from trade_analyst_pipeline.ops.redaction import register_secret
from trade_analyst_pipeline.schwab.callback import LOGIN_AGAIN
from trade_analyst_pipeline.schwab.date_header import told_time
from trade_analyst_pipeline.schwab.source_pages import REFUSED_APP_ADVICE, page_advice
from trade_analyst_pipeline.schwab.token_records import LOGIN_ADVICE, TokenGrant

CODE_SECONDS = 30
_CLOCK_SLACK_SECONDS = 60.0
_DEAD_TOKEN = re.compile(r"invalid_grant|refresh_token_authentication_error|unsupported_token_type")
_REFUSED_APP = re.compile(r"invalid_client|unauthorized_client")
_DEAD_TOKEN_OLD_STYLE = re.compile(r"refresh[ _]token", re.IGNORECASE)
_LATER = "Ask again later."


def read_grant(status: int, body: bytes, *, is_refresh: bool) -> TokenGrant:
    """The grant in an answer of the token endpoint.

    Raises LoginRequiredError for a dead refresh token, CallbackError for a refused code, ClientCredentialsError for a
    refused app, AuthUnavailableError for anything else: outage, HTML page, answer without tokens.
    """
    fields = _object(body)
    if status == 200 and fields is not None and "error" not in fields:
        return _grant(fields)
    if fields is None or status >= 500:
        what = "a page that is not JSON" if fields is None else "a server error"
        message = f"the token endpoint answered {status} with {what}. {page_advice(status, body)}"
        raise AuthUnavailableError(message)
    raise _refusal(status, fields, is_refresh=is_refresh)


def _refusal(status: int, fields: dict[str, Any], *, is_refresh: bool) -> AuthError:
    # the outer error may only wrap the real one, which then stands as JSON text inside the description
    said = f"{fields.get('error', '')} {fields.get('error_description', '')}"
    if is_refresh and (_DEAD_TOKEN.search(said) or (_REFUSED_APP.search(said) and _DEAD_TOKEN_OLD_STYLE.search(said))):
        return LoginRequiredError(f"the source no longer accepts the stored login. {LOGIN_ADVICE}")
    if _REFUSED_APP.search(said):
        return ClientCredentialsError(f"the source refuses the app key or secret. {REFUSED_APP_ADVICE}")
    if not is_refresh and re.search(r"invalid_grant|invalid_request", said):
        return CallbackError(
            f"the source refused the code: used before, older than {CODE_SECONDS} s, or for another redirect address. "
            f"Go on from the page at once; check that schwab.redirect_uri is registered to the letter. {LOGIN_AGAIN}"
        )
    return AuthUnavailableError(f"the token endpoint answered {status} with an error we do not know. {_LATER}")


def clock_problem(date: str | None, *, now: float) -> str | None:
    """What to say when this machine's clock (`now`, epoch seconds) is over a minute off the answer's Date header."""
    theirs = told_time(date)
    return None if theirs is None else _clock_words(now - theirs.timestamp())


def _clock_words(ahead: float) -> str | None:
    if abs(ahead) <= _CLOCK_SLACK_SECONDS:
        return None
    where = "ahead of" if ahead > 0 else "behind"
    return f"This machine's clock is {abs(ahead):.0f} s {where} the source's: set it, and keep it set (NTP)."


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, None for anything else; a key that stands twice makes it unusable."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_without_duplicates)  # as the library reads it
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        message = "duplicate key"
        raise ValueError(message)
    return fields


def _grant(fields: dict[str, Any]) -> TokenGrant:
    for name in ("access_token", "refresh_token", "id_token"):
        if isinstance(fields.get(name), str):
            register_secret(fields[name], is_passing=True)
    access, refresh = fields.get("access_token"), fields.get("refresh_token")
    lifetime, kind = fields.get("expires_in"), fields.get("token_type")
    if (
        not _is_token(access)
        or not (refresh is None or _is_token(refresh))
        or not (isinstance(lifetime, int) and not isinstance(lifetime, bool) and 0 < lifetime <= 86_400)
        or not (isinstance(kind, str) and kind.lower() == "bearer")
    ):
        message = f"the token endpoint answered 200 without usable tokens. {_LATER}"
        raise AuthUnavailableError(message)
    return TokenGrant(SecretStr(access), None if refresh is None else SecretStr(refresh), float(lifetime))


def _is_token(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,8192}", value) is not None
