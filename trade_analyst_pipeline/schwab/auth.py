"""The OAuth pages of the source: authorize, exchange, refresh; and access tokens for the client out of the store.

Not here: a person's part in a login (`login.py`), what the redirect must look like (`callback.py`), what the token
endpoint's answers mean (`token_answers.py`), how tokens are kept (`tokens.py`). Every address used comes from the
configuration, never from an answer. Token requests are not counted in the request budget: the source's limit is on
market data.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests
from pydantic import SecretStr
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError, CallbackError
from trade_analyst_pipeline.ops.redaction import register_secret
from trade_analyst_pipeline.schwab.callback import ExpectedCallback
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.source_pages import authorize_problem
from trade_analyst_pipeline.schwab.token_answers import clock_problem, read_grant
from trade_analyst_pipeline.schwab.token_records import StoredTokens, TokenGrant
from trade_analyst_pipeline.schwab.token_transport import BoundedAdapter
from trade_analyst_pipeline.schwab.tokens import TokenStore

_TIMEOUT_SECONDS = (5.0, 10.0)  # to connect, and between bytes; the whole is bounded by the adapter
_FORCED_REFRESH_REST_SECONDS = 10.0
_FAILED_REFRESH_REST_SECONDS = 30.0

_log = logging.getLogger(__name__)


class TokenClient:
    """Talks to the authorize and token pages of one source for one app.

    `redirect_uri` must stand in `redirect_allowlist` and at the source, each to the letter. `ca_file` None means the
    public authorities. `pkce` off is for a source that refuses the extra parameters; `state` is always sent. `now` is
    the machine's clock in epoch seconds, compared with the source's.
    """

    def __init__(
        self,
        *,
        base_url: str,
        app_key: SecretStr,
        app_secret: SecretStr,
        redirect_uri: str,
        redirect_allowlist: Sequence[str],
        ca_file: Path | None,
        pkce: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        if redirect_uri not in redirect_allowlist:
            message = f"redirect address {redirect_uri} is not in schwab.redirect_allowlist (the match is exact)."
            raise CallbackError(message)
        key, secret = app_key.get_secret_value(), app_secret.get_secret_value()
        for text in (key, secret, base64.b64encode(f"{key}:{secret}".encode()).decode()):
            register_secret(text)
        self.base_url = base_url.rstrip("/")
        self.redirect_uri = redirect_uri
        self._app_key = app_key
        self._app_secret = app_secret
        self._verify: str | bool = str(ca_file) if ca_file else True
        self._pkce = pkce
        self._now = now
        _keep_library_quiet()

    def begin_login(self, *, ledger: CallbackLedger, seconds: float) -> LoginAttempt:
        """A new attempt with its own state and PKCE verifier, whose redirect is expected for so many seconds.

        Nothing is sent yet.
        """
        session, state = self._session(), secrets.token_urlsafe(32)
        url = session.authorization_url(f"{self.base_url}/v1/oauth/authorize", state=state)[0]
        expected = ExpectedCallback(
            self.redirect_uri, state=SecretStr(state), issuer=self.base_url, ledger=ledger, seconds=seconds
        )
        return LoginAttempt(self, session, url, expected)

    def authorize_problem(self) -> str | None:
        """What the authorize page itself says against a login, asked for without a browser; None: nothing."""
        with self._session() as session:
            url = session.authorization_url(f"{self.base_url}/v1/oauth/authorize", state=secrets.token_urlsafe(32))[0]
            plain = requests.Request("GET", url).prepare()  # not through the session: it would want a token
            try:
                answer = BoundedAdapter().send(plain, verify=self._verify, timeout=_TIMEOUT_SECONDS)
            except requests.RequestException as error:
                return self._no_answer("authorize page", error)
        return authorize_problem(answer.status_code, answer.content, redirect_uri=self.redirect_uri)

    def refresh(self, refresh_token: SecretStr) -> TokenGrant:
        """Tokens for a refresh token, asked for once and never repeated.

        Raises LoginRequiredError when the source calls it dead, ClientCredentialsError when it refuses the app,
        AuthUnavailableError for everything that may pass.
        """

        def ask(session: OAuth2Session) -> None:
            session.refresh_token(
                f"{self.base_url}/v1/oauth/token",
                refresh_token=refresh_token.get_secret_value(),
                **self._options(),
            )

        with self._session() as session:
            return self._grant(session, ask, is_refresh=True)

    def exchange(self, session: OAuth2Session, code: SecretStr) -> TokenGrant:
        """Tokens for the code that a login on this session brought.

        Raises CallbackError when the source refuses the code, else as `refresh`.
        """

        def ask(session: OAuth2Session) -> None:
            session.fetch_token(f"{self.base_url}/v1/oauth/token", code=code.get_secret_value(), **self._options())

        return self._grant(session, ask, is_refresh=False)

    def _grant(self, session: OAuth2Session, ask: Callable[[OAuth2Session], None], *, is_refresh: bool) -> TokenGrant:
        grants: list[TokenGrant] = []
        clock: list[str | None] = []

        def take(answer: requests.Response) -> requests.Response:
            clock.append(clock_problem(answer.headers.get("Date"), now=self._now()))
            grants.append(read_grant(answer.status_code, answer.content, is_refresh=is_refresh))
            return answer

        if is_refresh:
            session.register_compliance_hook("refresh_token_response", take)
        else:
            session.register_compliance_hook("access_token_response", take)
        try:
            ask(session)
        except AuthError as error:
            raise type(error)(" ".join(filter(None, [str(error), *clock]))) from None  # without frames with the tokens
        except requests.RequestException as error:
            raise AuthUnavailableError(self._no_answer("token endpoint", error)) from None  # likewise
        for problem in filter(None, clock):
            _log.warning("%s Sessions and expiries are judged by it.", problem)
        return grants[0]

    def _no_answer(self, what: str, error: requests.RequestException) -> str:
        """What to say when nothing usable arrived; a certificate out of its time may mean a wrong clock."""
        is_about_time = "not yet valid" in str(error) or "has expired" in str(error)
        advice = "Check this machine's date and time." if is_about_time else "Ask again later."
        return f"no answer from the {what} of {self.base_url} ({type(error).__name__}). {advice}"

    def _session(self) -> OAuth2Session:
        session = OAuth2Session(
            self._app_key.get_secret_value(), redirect_uri=self.redirect_uri, pkce="S256" if self._pkce else None
        )
        session.trust_env = False  # else CA variables override `verify`, and netrc the app's credentials
        session.max_redirects = 0
        session.mount("https://", BoundedAdapter())
        return session

    def _options(self) -> dict[str, Any]:
        credentials = HTTPBasicAuth(self._app_key.get_secret_value(), self._app_secret.get_secret_value())
        return {"auth": credentials, "verify": self._verify, "timeout": _TIMEOUT_SECONDS}


class LoginAttempt:
    """One interactive login: the address a person has to open, and the exchange of what comes back, once."""

    def __init__(
        self, client: TokenClient, session: OAuth2Session, authorization_url: str, expected: ExpectedCallback
    ) -> None:
        self._client = client
        self._session = session
        self.authorization_url = authorization_url
        self.expected = expected

    def exchange(self, address: SecretStr) -> TokenGrant:
        """Tokens for the address that the source redirected to, as a person copied it.

        Raises CallbackError, before anything is sent, unless it is the redirect expected and has not been used yet.
        """
        return self.exchange_code(self.expected.read(address))

    def exchange_code(self, code: SecretStr) -> TokenGrant:
        """Tokens for a code that this login's redirect brought."""
        with self._session:
            return self._client.exchange(self._session, code)


class StoredAccessTokens:
    """Access tokens out of the store, renewed when they are about to end, once for all processes.

    `refresh` is `TokenClient.refresh`. Blocking work runs on a thread; a token that is still good costs no thread.
    """

    def __init__(self, store: TokenStore, refresh: Callable[[SecretStr], TokenGrant]) -> None:
        self._store = store
        self._refresh = refresh
        self._rest_until = 0.0
        self._forced_generation = 0

    async def access_token(self) -> str:
        """A token that is good now; raises AuthError when there is none to be had."""
        tokens = self._store.load()
        if not tokens.is_fresh(self._store.now()):
            tokens = await asyncio.to_thread(self._renewed, tokens)
        return tokens.access_token.get_secret_value()

    async def refresh_after_refusal(self, refused: str) -> str:
        """Another token than `refused`, or the same if it came from such a refresh seconds ago.

        So a source that refuses every token is not asked for a new one at each request.
        """
        tokens = await asyncio.to_thread(self._replaced, SecretStr(refused))
        return tokens.access_token.get_secret_value()

    def _renewed(self, present: StoredTokens) -> StoredTokens:
        """Renewed tokens; the present ones while they live and a new one cannot be had just now."""
        if self._store.now() < self._rest_until and present.is_alive(self._store.now()):
            return present
        try:
            return self._store.renew(
                is_good=lambda tokens: tokens.is_fresh(self._store.now()),
                is_usable=lambda tokens: tokens.is_usable(self._store.now()),
                refresh=self._refresh,
                rests=True,
            )
        except AuthUnavailableError as error:
            if not present.is_alive(self._store.now()):
                raise
            self._rest_until = self._store.now() + _FAILED_REFRESH_REST_SECONDS
            _log.warning("the access token could not be renewed yet and is used until it ends: %s", error)
            return present

    def _replaced(self, refused: SecretStr) -> StoredTokens:
        def is_good(tokens: StoredTokens) -> bool:
            is_recent = self._store.now() - tokens.issued_time < _FORCED_REFRESH_REST_SECONDS
            return tokens.access_token != refused or (tokens.generation == self._forced_generation and is_recent)

        tokens = self._store.renew(is_good=is_good, refresh=self._refresh, rests=True)
        self._forced_generation = tokens.generation
        return tokens


def _is_serious(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _keep_library_quiet() -> None:
    """Keep the OAuth library's debug records, which quote requests and answers whole, out of every log."""
    logging.getLogger("requests_oauthlib.oauth2_session").addFilter(_is_serious)
