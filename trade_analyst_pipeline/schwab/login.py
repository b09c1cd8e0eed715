"""An interactive login from start to stored tokens: with a browser on this machine, or by hand.

Not here: what is sent to the source (`auth.py`), how the redirect is judged (`callback.py`), and what a person sees
(`cli/login.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from trade_analyst_pipeline.errors import CallbackError
from trade_analyst_pipeline.schwab.auth import LoginAttempt, TokenClient
from trade_analyst_pipeline.schwab.callback import LOGIN_AGAIN
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.callback_listener import CallbackListener
from trade_analyst_pipeline.schwab.token_records import StoredTokens
from trade_analyst_pipeline.schwab.tokens import TokenStore

# After these the same link still leads to a login: what was pasted is not what it leads to.
_SAME_LINK = frozenset(["address", "malformed", "size", "duplicate", "no_state", "unexpected"])


def login(
    client: TokenClient,
    store: TokenStore,
    *,
    ledger: CallbackLedger,
    open_browser: Callable[[str], None],
    certificate_file: Path | None = None,
    wait_seconds: float = 300.0,
) -> StoredTokens:
    """A whole interactive login: open the authorize page, wait for the redirect, exchange its code, store the tokens.

    `open_browser` gets the address to open and may return before or after the redirect. `certificate_file` is where
    the listener's public certificate goes, for a program in the browser's place that has to trust it. Raises
    TokenStoreError, before anything is asked, when the present token file must not be written over;
    AuthUnavailableError when there is no room for another, and then the present login stands; CallbackError when
    nothing came back in time, with what the authorize page itself says about it.
    """
    store.check()
    attempt = client.begin_login(ledger=ledger, seconds=wait_seconds)
    with CallbackListener(attempt.expected) as listener:
        if certificate_file is not None:
            certificate_file.write_bytes(listener.certificate_pem)
        open_browser(attempt.authorization_url)
        code = listener.wait(attempt.expected.seconds_left())
    if code is None:
        raise CallbackError(_why_nothing_came(client, wait_seconds))
    return store.log_in(partial(attempt.exchange_code, code))


def login_by_hand(
    client: TokenClient,
    store: TokenStore,
    *,
    ledger: CallbackLedger,
    show_link: Callable[[str, str | None], None],
    ask_address: Callable[[], SecretStr],
    link_seconds: float = 300.0,
    tries: int = 5,
) -> StoredTokens:
    """A whole interactive login without a listener: a person opens the link and pastes the address it ends at.

    `show_link` gets the link and what was wrong with the address before, None at first; `ask_address` returns what
    was pasted, an empty text to give up. A code that was too old or used already gets a new link, a wrong paste the
    same one again; after `tries` addresses it is CallbackError. Other errors as `login`.
    """
    store.check()
    attempt: LoginAttempt | None = None
    problem: str | None = None
    for _ in range(tries):
        attempt = attempt or client.begin_login(ledger=ledger, seconds=link_seconds)
        show_link(attempt.authorization_url, problem)
        address = ask_address()
        if not address.get_secret_value():
            message = f"no address was given, so nobody is logged in. {LOGIN_AGAIN}"
            raise CallbackError(message)
        try:
            code = attempt.expected.read(address)
            return store.log_in(partial(attempt.exchange_code, code))
        except CallbackError as error:
            problem = str(error).removesuffix(LOGIN_AGAIN).rstrip()
            attempt = attempt if error.reason in _SAME_LINK else None
    message = f"none of {tries} addresses led to a login; the last one: {problem} {LOGIN_AGAIN}"
    raise CallbackError(message)


def _why_nothing_came(client: TokenClient, seconds: float) -> str:
    problem = client.authorize_problem()
    if problem is not None:
        return f"no redirect came back within {seconds:g} s: {problem}"
    return (
        f"no redirect came back within {seconds:g} s, though the login page answers. On it, log in with the brokerage "
        "account, not with that of the developer portal, choose an account and agree; then let the browser go on to "
        f"{client.redirect_uri} although it does not know the certificate; and see that this address is registered "
        "with the app to the letter. From a container or a remote host log in with --manual. Run `trade-analyst "
        "login` again."
    )
