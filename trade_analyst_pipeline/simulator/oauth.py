"""The OAuth side of the source: consent, codes, tokens and their lifetimes on the machine's clock.

What the desk does with tokens is chosen by `DeskOptions`, whose values may also be changed on a desk at work. Not
here: broken answers (`faults.py`) and how slowly they are sent (`server.py`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack
from urllib.parse import quote, urlencode

from trade_analyst_pipeline.simulator.answers import Answer, html_answer, json_answer

SIMULATOR_APP_KEY = "SIMULATORSIMULATORSIMULATOR00001"
SIMULATOR_APP_SECRET = "SIMULATORSECRET1"  # noqa: S105  the simulator's own, known to everyone  # pragma: allowlist secret
DEFAULT_REDIRECT_URIS = ("https://127.0.0.1:8182/callback",)

CODE_SECONDS = 30.0
ACCESS_SECONDS = 1800
REFRESH_SECONDS = 7 * 86400.0
Rotation = Literal["same", "rotate", "omit"]
DeadToken = Literal["revoked", "digest", "old_style"]
_MOST_REMEMBERED = 10_000


class DeskOptions(TypedDict, total=False):
    """What a desk may be told to do otherwise than the real source is known to do.

    `access_seconds` (30 minutes), `refresh_seconds` (7 days from the log-in) and `code_seconds` (30) are lifetimes.
    `answer_seconds` is how long the token endpoint keeps an answer back after it has acted on the request.
    `clock_skew_seconds` is how far the source's clock stands ahead of the machine's; changed on a desk at work, it is
    a jump of that clock. `rotation` says what a refresh does with the refresh token: the same again, a new one, or
    none in the answer. With `single_use_refresh` a refresh token used again after it was replaced ends the whole
    login. `dead_token` chooses between the recorded refusals of a dead refresh token. `is_consent_automatic` false
    shows the page a person would have to agree on.
    """

    access_seconds: int
    refresh_seconds: float
    code_seconds: float
    answer_seconds: float
    clock_skew_seconds: float
    rotation: Rotation
    single_use_refresh: bool
    dead_token: DeadToken
    is_consent_automatic: bool


@dataclass(frozen=True)
class _Code:
    redirect_uri: str
    challenge: str | None
    issued: float


class OAuthDesk:
    """Who may call: one app, one user. A new log-in ends everything issued before.

    Counted for tests: `exchanges` and `refreshes` are grants given for codes and for refresh tokens, `refusals` what
    the token endpoint refused, `reuses` refresh tokens of the present login that were used after their replacement;
    `refresh_times` is when the last refreshes were granted, by the machine's clock.
    """

    def __init__(
        self,
        *,
        machine_now: Callable[[], float],
        app_key: str = SIMULATOR_APP_KEY,
        app_secret: str = SIMULATOR_APP_SECRET,
        redirect_uris: tuple[str, ...] = DEFAULT_REDIRECT_URIS,
        **options: Unpack[DeskOptions],
    ) -> None:
        self._machine_now = machine_now
        self._app_key = app_key
        self._app_secret = app_secret
        self._redirect_uris = redirect_uris
        self.access_seconds = options.get("access_seconds", ACCESS_SECONDS)
        self.refresh_seconds = options.get("refresh_seconds", REFRESH_SECONDS)
        self.code_seconds = options.get("code_seconds", CODE_SECONDS)
        self.answer_seconds = options.get("answer_seconds", 0.0)
        self.clock_skew_seconds = options.get("clock_skew_seconds", 0.0)
        self.rotation: Rotation = options.get("rotation", "same")
        self.single_use_refresh = options.get("single_use_refresh", False)
        self.dead_token: DeadToken = options.get("dead_token", "revoked")
        self.is_consent_automatic = options.get("is_consent_automatic", True)
        self.exchanges = self.refreshes = self.refusals = self.reuses = 0
        self.refresh_times: deque[float] = deque(maxlen=_MOST_REMEMBERED)
        self._codes: dict[str, _Code] = {}
        self._access: dict[str, float] = {}
        self._refresh: str | None = None
        self._replaced: set[str] = set()
        self._logged_in = 0.0

    def now(self) -> float:
        """The source's clock, seconds since the epoch."""
        return self._machine_now() + self.clock_skew_seconds

    # -- authorize ---------------------------------------------------------------------------------------------

    def authorize(self, params: Mapping[str, str]) -> Answer:
        """Consent given: 302 back to the redirect address with a code. Refusals are never redirected."""
        if params.get("client_id") != self._app_key:
            return invalid_client()
        redirect_uri = params.get("redirect_uri", "")
        if redirect_uri not in self._redirect_uris:
            return html_answer(
                400, "Unable to complete your request", "The callback is not one registered for the app."
            )
        if params.get("response_type", "code") != "code":
            return _refusal("unsupported_response_type", "response_type must be code")
        if "code_challenge" in params and params.get("code_challenge_method") != "S256":
            return _refusal("invalid_request", "code_challenge_method must be S256")
        if not self.is_consent_automatic and params.get("consent") != "granted":
            return _consent_page(params)
        return self._consent(redirect_uri, params)

    def _consent(self, redirect_uri: str, params: Mapping[str, str]) -> Answer:
        host = base64.b64encode(b"oauth2.bdc.schwab.com").decode().rstrip("=")
        code = f"C0.{host}.{secrets.token_urlsafe(32)}@"
        self._codes[code] = _Code(redirect_uri, params.get("code_challenge"), self.now())
        query = f"code={quote(code, safe='')}&session={uuid.uuid4()}"
        if "state" in params:
            query += f"&state={quote(params['state'], safe='')}"
        return Answer(302, b"", headers=(("location", f"{redirect_uri}?{query}"),))

    # -- token -------------------------------------------------------------------------------------------------

    def token(self, authorization: str | None, form: Mapping[str, str]) -> Answer:
        """Tokens for a code or a refresh token."""
        answer = self._token(authorization, form)
        self.refusals += answer.status != 200
        return answer

    def _token(self, authorization: str | None, form: Mapping[str, str]) -> Answer:
        if not self._knows(authorization):
            return invalid_client()
        grant = form.get("grant_type")
        if grant == "authorization_code":
            return self._exchange(form)
        if grant == "refresh_token":
            return self._renew(form.get("refresh_token", ""))
        return _refusal("unsupported_grant_type", "grant_type must be authorization_code or refresh_token")

    def _knows(self, authorization: str | None) -> bool:
        expected = base64.b64encode(f"{self._app_key}:{self._app_secret}".encode()).decode()
        return authorization is not None and secrets.compare_digest(
            authorization.encode(), f"Basic {expected}".encode()
        )

    def _exchange(self, form: Mapping[str, str]) -> Answer:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or self.now() - code.issued > self.code_seconds:
            return _refusal("invalid_grant", "Authorization code is invalid, expired or already used")
        if form.get("redirect_uri") != code.redirect_uri:
            return _refusal("invalid_grant", "redirect_uri does not match the one of the authorization")
        if code.challenge is not None and _challenge(form.get("code_verifier", "")) != code.challenge:
            return _refusal("invalid_grant", "code_verifier does not match")
        self.revoke()
        self.exchanges += 1
        self._logged_in = self.now()
        self._replaced.clear()
        self._refresh = _opaque()
        return self._issue(self._refresh)

    def _renew(self, refresh: str) -> Answer:
        if refresh in self._replaced:
            self.reuses += 1
            if self.single_use_refresh:
                self.revoke()
        is_alive = self.now() - self._logged_in < self.refresh_seconds
        if (
            self._refresh is None
            or not secrets.compare_digest(refresh.encode(), self._refresh.encode())
            or not is_alive
        ):
            return dead_refresh_token(self.dead_token)
        self.refreshes += 1
        self.refresh_times.append(self._machine_now())
        if self.rotation == "rotate":
            self._replaced.add(self._refresh)
            self._refresh = _opaque()
        return self._issue(None if self.rotation == "omit" else self._refresh)

    def _issue(self, refresh: str | None) -> Answer:
        host = base64.b64encode(b"oauth2.bdc.schwab.com").decode().rstrip("=")
        access = f"I0.{host}.{secrets.token_urlsafe(32)}@"
        self._access = {token: ends for token, ends in self._access.items() if ends > self.now()}
        self._access[access] = self.now() + self.access_seconds
        fields = {"expires_in": self.access_seconds, "token_type": "Bearer", "scope": "api"}
        fields |= {} if refresh is None else {"refresh_token": refresh}
        return json_answer(fields | {"access_token": access, "id_token": _id_token()})

    def accepts(self, access: str) -> bool:
        """Whether an access token is alive."""
        expires = self._access.get(access)
        return expires is not None and self.now() < expires

    def revoke(self) -> None:
        """End all tokens, as a log-in elsewhere or a password reset does."""
        self._access.clear()
        self._refresh = None

    def expire_access(self) -> None:
        """End the access tokens only."""
        self._access.clear()


def _opaque() -> str:
    return secrets.token_urlsafe(48) + "@"


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _id_token() -> str:
    parts = ({"alg": "none", "typ": "JWT"}, {"iss": "https://api.schwabapi.com"})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "simulated"])


def invalid_client() -> Answer:
    """The refusal of an app that is unknown, wrong in its secret, or not approved yet."""
    return json_answer({"error": "invalid_client", "error_description": "Unauthorized"}, 401)


def _refusal(error: str, description: str) -> Answer:
    return json_answer({"error": error, "error_description": description}, 400)


def dead_refresh_token(kind: DeadToken = "revoked") -> Answer:
    """The refusal of a refresh token that has ended: the recorded shapes, which hold a JSON text inside a text.

    `revoked` is the one seen last, `digest` an older one, `old_style` the plain one before both.
    """
    if kind == "old_style":
        return _refusal("invalid_client", "refresh token invalid")
    inner = json.dumps(_DEAD_INSIDE[kind], separators=(",", ":"))
    return _refusal("unsupported_token_type", f'400 Bad Request: "{inner}"')


_DEAD_INSIDE = {
    "revoked": {"error_description": "Refresh token is invalid, expired or revoked", "error": "invalid_grant"},
    "digest": {
        "error_description": "Failed refresh token authentication, tokenDigest=c2ltdWxhdGVk",
        "error": "refresh_token_authentication_error",
    },
}


def _consent_page(params: Mapping[str, str]) -> Answer:
    agreed = urlencode({**params, "consent": "granted"})
    return html_answer(200, "Simulated consent", f'<a href="?{agreed.replace("&", "&amp;")}">Allow access</a>')
