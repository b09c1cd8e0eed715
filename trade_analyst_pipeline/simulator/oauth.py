"""The OAuth side of the source: consent, codes, tokens and their lifetimes on the machine's clock."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from trade_analyst_pipeline.simulator.answers import Answer, html_answer, json_answer

SIMULATOR_APP_KEY = "SIMULATORSIMULATORSIMULATOR00001"
SIMULATOR_APP_SECRET = "SIMULATORSECRET1"  # noqa: S105  the simulator's own, known to everyone  # pragma: allowlist secret
DEFAULT_REDIRECT_URIS = ("https://127.0.0.1:8182/callback",)

CODE_SECONDS = 30.0
ACCESS_SECONDS = 1800
REFRESH_SECONDS = 7 * 86400.0
Rotation = Literal["same", "rotate", "omit"]


@dataclass(frozen=True)
class _Code:
    redirect_uri: str
    challenge: str | None
    issued: float


class OAuthDesk:
    """Who may call: one app, one user. A new log-in ends everything issued before.

    `rotation` says what a refresh does with the refresh token: the same again, a new one, or none in the answer.
    `is_consent_automatic` false shows the page a person would have to agree on.
    """

    def __init__(
        self,
        *,
        machine_now: Callable[[], float],
        app_key: str = SIMULATOR_APP_KEY,
        app_secret: str = SIMULATOR_APP_SECRET,
        redirect_uris: tuple[str, ...] = DEFAULT_REDIRECT_URIS,
        rotation: Rotation = "same",
    ) -> None:
        self._now = machine_now
        self._app_key = app_key
        self._app_secret = app_secret
        self._redirect_uris = redirect_uris
        self.rotation: Rotation = rotation
        self.is_consent_automatic = True
        self._codes: dict[str, _Code] = {}
        self._access: dict[str, float] = {}
        self._refresh: str | None = None
        self._logged_in = 0.0

    # -- authorize ---------------------------------------------------------------------------------------------

    def authorize(self, params: Mapping[str, str]) -> Answer:
        """Consent given: 302 back to the redirect address with a code. Refusals are never redirected."""
        if params.get("client_id") != self._app_key:
            return _invalid_client()
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
        self._codes[code] = _Code(redirect_uri, params.get("code_challenge"), self._now())
        query = f"code={quote(code, safe='')}&session={uuid.uuid4()}"
        if "state" in params:
            query += f"&state={quote(params['state'], safe='')}"
        return Answer(302, b"", headers=(("location", f"{redirect_uri}?{query}"),))

    # -- token -------------------------------------------------------------------------------------------------

    def token(self, authorization: str | None, form: Mapping[str, str]) -> Answer:
        """Tokens for a code or a refresh token."""
        if not self._knows(authorization):
            return _invalid_client()
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
        if code is None or self._now() - code.issued > CODE_SECONDS:
            return _refusal("invalid_grant", "Authorization code is invalid, expired or already used")
        if form.get("redirect_uri") != code.redirect_uri:
            return _refusal("invalid_grant", "redirect_uri does not match the one of the authorization")
        if code.challenge is not None and _challenge(form.get("code_verifier", "")) != code.challenge:
            return _refusal("invalid_grant", "code_verifier does not match")
        self.revoke()
        self._logged_in = self._now()
        self._refresh = _opaque()
        return self._issue(self._refresh)

    def _renew(self, refresh: str) -> Answer:
        is_alive = self._now() - self._logged_in < REFRESH_SECONDS
        if (
            self._refresh is None
            or not secrets.compare_digest(refresh.encode(), self._refresh.encode())
            or not is_alive
        ):
            return _dead_refresh_token()
        if self.rotation == "rotate":
            self._refresh = _opaque()
        return self._issue(None if self.rotation == "omit" else self._refresh)

    def _issue(self, refresh: str | None) -> Answer:
        host = base64.b64encode(b"oauth2.bdc.schwab.com").decode().rstrip("=")
        access = f"I0.{host}.{secrets.token_urlsafe(32)}@"
        self._access[access] = self._now() + ACCESS_SECONDS
        fields = {"expires_in": ACCESS_SECONDS, "token_type": "Bearer", "scope": "api"}
        fields |= {} if refresh is None else {"refresh_token": refresh}
        return json_answer(fields | {"access_token": access, "id_token": _id_token()})

    def accepts(self, access: str) -> bool:
        """Whether an access token is alive."""
        expires = self._access.get(access)
        return expires is not None and self._now() < expires

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


def _invalid_client() -> Answer:
    return json_answer({"error": "invalid_client", "error_description": "Unauthorized"}, 401)


def _refusal(error: str, description: str) -> Answer:
    return json_answer({"error": error, "error_description": description}, 400)


def _dead_refresh_token() -> Answer:
    inner = json.dumps(
        {"error_description": "Refresh token is invalid, expired or revoked", "error": "invalid_grant"},
        separators=(",", ":"),
    )
    return _refusal("unsupported_token_type", f'400 Bad Request: "{inner}"')


def _consent_page(params: Mapping[str, str]) -> Answer:
    agreed = urlencode({**params, "consent": "granted"})
    return html_answer(200, "Simulated consent", f'<a href="?{agreed.replace("&", "&amp;")}">Allow access</a>')
