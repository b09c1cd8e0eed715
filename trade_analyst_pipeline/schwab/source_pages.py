"""What a page of the source means that comes in place of an answer, said so that a person can act on it.

Not here: JSON answers of the token endpoint (`token_answers.py`). No text ever quotes a page: it may hold a token.
"""

from __future__ import annotations

import json
import re

PENDING_ADVICE = (
    "An app that is not approved yet looks like this: wait until the developer portal shows it as 'Ready For Use' "
    "(any edit of the app sends it back to waiting). Else the source has trouble: ask again later."
)
REFUSED_APP_ADVICE = (
    "Check TRADE_ANALYST_APP_KEY and TRADE_ANALYST_APP_SECRET for typing errors and blanks, and that the app is "
    "'Ready For Use' in the developer portal."
)
_PENDING = re.compile(rb"Whitelabel Error Page|unable to complete your request", re.IGNORECASE)
_BLOCKED = re.compile(rb"Access Denied", re.IGNORECASE)


def page_advice(status: int, body: bytes) -> str:
    """What to make of a page that is not the JSON asked for, or of a server error."""
    if status == 403 or _BLOCKED.search(body):
        return "The edge in front of the source blocks this address: leave VPNs and proxies, and ask again later."
    if _PENDING.search(body):
        return PENDING_ADVICE
    return "Ask again later."


def authorize_problem(status: int, body: bytes, *, redirect_uri: str) -> str | None:
    """Why the authorize page cannot lead to a login; None when it answers as it should."""
    if status == 401 or _names_invalid_client(body):
        return f"the source refuses the app. {REFUSED_APP_ADVICE}"
    if status == 400:
        return (
            f"the source refuses the login address, most likely because {redirect_uri} is not registered with the app "
            "to the letter. Compare schwab.redirect_uri with the callback address in the developer portal: scheme, "
            "port, path and final slash."
        )
    if status >= 400:
        return f"the login page of the source answers {status}. {page_advice(status, body)}"
    return None


def _names_invalid_client(body: bytes) -> bool:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("error") in ("invalid_client", "unauthorized_client")
