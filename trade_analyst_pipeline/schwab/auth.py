"""The OAuth code flow: authorize, exchange, refresh; and access tokens for the client out of the token store.

Not here: what the redirect must look like (`callback.py`), what the token endpoint's answers mean
(`token_answers.py`), how tokens are kept (`tokens.py`). Every address used comes from the configuration, never from an
answer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests
from pydantic import SecretStr
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError, CallbackError
from trade_analyst_pipeline.schwab.callback import LOGIN_AGAIN, CallbackListener, Expectation
from trade_analyst_pipeline.schwab.token_answers import BoundedAdapter, read_grant
from trade_analyst_pipeline.schwab.tokens import StoredTokens, TokenGrant, TokenStore

_TIMEOUT_SECONDS = (5.0, 10.0)  # to connect, and between bytes
_FORCED_REFRESH_REST_SECONDS = 10.0
_FAILED_REFRESH_REST_SECONDS = 30.0

_log = logging.getLogger(__name__)


class TokenClient:
    """Talks to the authorize and token pages of one source for one app.

    `redirect_uri` must stand in `redirect_allowlist` and at the source, each to the letter. `ca_file` None means the
    public authorities. `pkce` off is for a source that refuses the extra parameters; `state` is always sent.
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
    ) -> None:
        if redirect_uri not in redirect_allowlist:
            message = f"redirect address {redirect_uri} is not in schwab.redirect_allowlist (the match is exact)."
            raise CallbackError(message)
        self.base_url = base_url.rstrip("/")
        self.redirect_uri = redirect_uri
        self._app_key = app_key
        self._app_secret = app_secret
        self._verify: str | bool = str(ca_file) if ca_file else True
        self._pkce = pkce
        _keep_library_quiet()

    def begin_login(self) -> LoginAttempt:
        """A new attempt with its own state and PKCE verifier; nothing is sent yet."""
        return LoginAttempt(self, self._session())

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

        def take(answer: requests.Response) -> requests.Response:
            grants.append(read_grant(answer.status_code, answer.content, is_refresh=is_refresh))
            return answer

        if is_refresh:
            session.register_compliance_hook("refresh_token_response", take)
        else:
            session.register_compliance_hook("access_token_response", take)
        try:
            ask(session)
        except AuthError as error:
            raise type(error)(str(error)) from None  # without the library's frames, which hold the tokens
        except requests.RequestException as error:
            message = f"no answer from the token endpoint of {self.base_url} ({type(error).__name__}). Ask again later."
            raise AuthUnavailableError(message) from None  # likewise
        return grants[0]

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

    def __init__(self, client: TokenClient, session: OAuth2Session) -> None:
        state = secrets.token_urlsafe(32)
        self._client = client
        self._session = session
        self._is_spent = False
        self.authorization_url: str = session.authorization_url(f"{client.base_url}/v1/oauth/authorize", state=state)[0]
        self.expectation = Expectation(client.redirect_uri, SecretStr(state), client.base_url)

    def exchange(self, address: SecretStr) -> TokenGrant:
        """Tokens for the address that the source redirected to, as received by the listener or pasted by a person.

        Raises CallbackError, before anything is sent, unless it is the redirect expected and has not been used yet.
        """
        code = self.expectation.read(address)
        if self._is_spent:
            message = f"this login has been used. {LOGIN_AGAIN}"
            raise CallbackError(message)
        self._is_spent = True
        with self._session:
            return self._client.exchange(self._session, code)


def login(
    client: TokenClient,
    store: TokenStore,
    *,
    open_browser: Callable[[str], None],
    certificate_file: Path | None = None,
    wait_seconds: float = 300.0,
) -> StoredTokens:
    """A whole interactive login: open the authorize page, wait for the redirect, exchange its code, store the tokens.

    `open_browser` gets the address to open and may return before or after the redirect. `certificate_file` is where
    the listener's public certificate goes, for a program in the browser's place that has to trust it. Raises
    TokenStoreError, before anything is asked, when the present token file must not be written over.
    """
    store.check()
    attempt = client.begin_login()
    with CallbackListener(attempt.expectation) as listener:
        if certificate_file is not None:
            certificate_file.write_bytes(listener.certificate_pem)
        open_browser(attempt.authorization_url)
        address = listener.wait(wait_seconds)
    return store.save_login(attempt.exchange(address))


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
            return self._store.renew(is_good=lambda tokens: tokens.is_fresh(self._store.now()), refresh=self._refresh)
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

        tokens = self._store.renew(is_good=is_good, refresh=self._refresh)
        self._forced_generation = tokens.generation
        return tokens


def _is_serious(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _keep_library_quiet() -> None:
    """Keep the OAuth library's debug records, which quote requests and answers whole, out of every log."""
    logging.getLogger("requests_oauthlib.oauth2_session").addFilter(_is_serious)
