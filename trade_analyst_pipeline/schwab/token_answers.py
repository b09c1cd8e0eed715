"""What the token endpoint answers: a grant, or the error of ours that its refusal stands for; read within bounds.

Not here: asking (`auth.py`) and keeping (`tokens.py`). No message ever quotes an answer: it may hold a token.
"""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any, TypeGuard

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from trade_analyst_pipeline.errors import (
    AuthError,
    AuthUnavailableError,
    CallbackError,
    ClientCredentialsError,
    LoginRequiredError,
)
from trade_analyst_pipeline.schwab.tokens import TokenGrant

_LARGEST_ANSWER = 64 << 10
_ANSWER_SECONDS = 15.0
_DEAD_TOKEN = re.compile(r"invalid_grant|refresh_token_authentication_error|unsupported_token_type")
_REFUSED_APP = re.compile(r"invalid_client|unauthorized_client")
_DEAD_TOKEN_OLD_STYLE = re.compile(r"refresh[ _]token", re.IGNORECASE)
_LOGIN = "Run `trade-analyst login`."
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
        blocked = " The edge may block this address: leave VPNs and proxies." if status == 403 else ""
        message = f"the token endpoint answered {status} with {what}.{blocked} {_LATER}"
        raise AuthUnavailableError(message)
    raise _refusal(status, fields, is_refresh=is_refresh)


def _refusal(status: int, fields: dict[str, Any], *, is_refresh: bool) -> AuthError:
    # the outer error may only wrap the real one, which then stands as JSON text inside the description
    said = f"{fields.get('error', '')} {fields.get('error_description', '')}"
    if is_refresh and (_DEAD_TOKEN.search(said) or (_REFUSED_APP.search(said) and _DEAD_TOKEN_OLD_STYLE.search(said))):
        return LoginRequiredError(f"the source no longer accepts the stored login. {_LOGIN}")
    if _REFUSED_APP.search(said):
        return ClientCredentialsError(
            "the source refuses the app key or secret. Check TRADE_ANALYST_APP_KEY and TRADE_ANALYST_APP_SECRET for "
            "typing errors and blanks, and that the app is 'Ready For Use'."
        )
    if not is_refresh and re.search(r"invalid_grant|invalid_request", said):
        return CallbackError(
            "the source refused the code: used before, older than 30 s, or for another redirect address. Check that "
            "schwab.redirect_uri is registered to the letter, and run `trade-analyst login` again."
        )
    return AuthUnavailableError(f"the token endpoint answered {status} with an error we do not know. {_LATER}")


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, None for anything else; a key that stands twice makes it unusable."""
    try:
        value = json.loads(body, object_pairs_hook=_without_duplicates)
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


class BoundedAdapter(HTTPAdapter):
    """Reads each answer at once, at most 64 KiB of it and for at most 15 s."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The answer with its whole body in memory; raises RequestException when a bound is passed."""
        answer = super().send(request, *args, **{**kwargs, "stream": True})
        deadline = time.monotonic() + _ANSWER_SECONDS
        body = bytearray()
        try:
            for piece in answer.iter_content(1):  # a larger piece would be waited for until it is full
                body += piece
                if len(body) > _LARGEST_ANSWER or time.monotonic() > deadline:
                    message = "the answer is too large or too slow"
                    raise requests.RequestException(message)
        finally:
            answer.close()
        return _with_body(answer, bytes(body))


def _with_body(answer: requests.Response, body: bytes) -> requests.Response:
    whole = requests.Response()
    whole.status_code, whole.headers, whole.reason = answer.status_code, answer.headers, answer.reason
    whole.url, whole.request, whole.encoding = answer.url, answer.request, "utf-8"
    whole.raw = io.BytesIO(body)
    return whole
