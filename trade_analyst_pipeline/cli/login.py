"""`trade-analyst login`: the interactive login at the source; the simulator consents by itself."""

from __future__ import annotations

import getpass
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import typer

from trade_analyst_pipeline.cli.interrupts import interruptible
from trade_analyst_pipeline.errors import AuthUnavailableError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
    from trade_analyst_pipeline.schwab.token_records import StoredTokens
    from trade_analyst_pipeline.schwab.tokens import TokenStore
    from trade_analyst_pipeline.settings import Settings

CONSENT_SECONDS = 20
BROWSER_SECONDS = 5
LONGEST_PASTE = 16_384


def login(
    wait_seconds: Annotated[float, typer.Option(min=5, max=3600, help="How long to wait for the browser.")] = 300,
    manual: Annotated[
        bool, typer.Option("--manual", help="Print the link and ask for the address it ends at: no port, no browser.")
    ] = False,
) -> None:
    """Log in at the source through the browser and store the login, encrypted. At Schwab it lasts seven days.

    The browser warns about the certificate of 127.0.0.1: it was made for this one login; accept it. In a container or
    on a remote host use --manual.
    """
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    if settings.environment == "simulate" and not manual:
        login_to_simulator(settings)
        typer.echo("Logged in to the simulator.")
        return
    store, tokens = _log_in(settings, wait_seconds, manual=manual)
    typer.echo(f"Logged in. Tokens are stored in {store.path} (fingerprint {tokens.fingerprint}).")


def _log_in(settings: Settings, seconds: float, *, manual: bool) -> tuple[TokenStore, StoredTokens]:
    from trade_analyst_pipeline.defs.resources import token_client, token_store
    from trade_analyst_pipeline.schwab import login as flow

    client, store, ledger = token_client(settings), token_store(settings), _ledger(settings)
    if manual:
        return store, flow.login_by_hand(
            client, store, ledger=ledger, show_link=_show_link, ask_address=_pasted_address, link_seconds=seconds
        )
    return store, flow.login(client, store, ledger=ledger, open_browser=open_in_browser, wait_seconds=seconds)


def login_to_simulator(settings: Settings) -> None:
    """Go through the whole code flow with the running simulator, which consents where a person would."""
    from trade_analyst_pipeline.defs.resources import certificate_authority, token_client, token_store
    from trade_analyst_pipeline.schwab.login import login as log_in

    with tempfile.TemporaryDirectory(prefix="trade-analyst-login-") as folder:
        certificate = Path(folder) / "listener.pem"
        log_in(
            token_client(settings),
            token_store(settings),
            ledger=_ledger(settings),
            open_browser=_consent([certificate_authority(settings), certificate], settings.schwab.redirect_uri),
            certificate_file=certificate,
            wait_seconds=CONSENT_SECONDS,
        )


def _ledger(settings: Settings) -> CallbackLedger:
    from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger

    return CallbackLedger(settings.callback_ledger_file)


def open_in_browser(url: str) -> None:
    """Open `url` in a browser of this machine, or say what to do where there is none; never waits for it to end."""
    import webbrowser

    typer.echo(f"The login page opens in your browser. If it does not, open this link there:\n{url}", err=True)
    try:
        webbrowser.get()
    except webbrowser.Error:
        typer.echo(
            "No browser was found here. Open the link on this machine by other means, or press Ctrl-C and log in with "
            "`trade-analyst login --manual` from a browser anywhere.",
            err=True,
        )
        return
    # some browsers, those in the terminal above all, come back only when they are closed
    opening = threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True)
    opening.start()
    opening.join(BROWSER_SECONDS)


def _show_link(url: str, problem: str | None) -> None:
    if problem is not None:
        typer.echo(f"That did not work: {problem}", err=True)
    typer.echo(
        f"Open this link in a browser anywhere and agree:\n{url}\n"
        "The page that follows cannot be shown: copy its address from the browser's address line, whole, and paste it "
        "here at once. Its code lives for half a minute.",
        err=True,
    )


def _pasted_address() -> SecretStr:
    """What a person pastes, not shown and in no history; the next line of standard input where that is no terminal."""
    from pydantic import SecretStr

    if sys.stdin is None:  # closed before the program began
        return SecretStr("")
    with interruptible():
        if sys.stdin.isatty():
            return SecretStr(getpass.getpass("Address (not shown; empty to give up): ", stream=sys.stderr).strip())
        return SecretStr(sys.stdin.readline(LONGEST_PASTE).strip())


def _consent(trusted: list[Path | None], redirect_uri: str) -> Callable[[str], None]:
    """A browser's part on the simulator: follow the redirect of the authorize page to the listener."""

    def follow(url: str) -> None:
        try:
            context = ssl.create_default_context()
            for file in trusted:
                context.load_verify_locations(file)
            opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
            with opener.open(url, timeout=CONSENT_SECONDS) as page:
                page.read(1 << 16)
        except HTTPError as error:
            if not error.url.startswith(redirect_uri):  # else the listener knows more
                raise _refused_by_page(error, redirect_uri) from None
        except OSError as error:
            message = (
                f"no simulator answers at {urlsplit(url).netloc} ({error.strerror or 'no answer'}). Start one with "
                "`trade-analyst simulator` or `make ui`."
            )
            raise AuthUnavailableError(message) from error

    return follow


def _refused_by_page(error: HTTPError, redirect_uri: str) -> AuthUnavailableError:
    from trade_analyst_pipeline.schwab.source_pages import authorize_problem

    problem = authorize_problem(error.code, error.read(1 << 16), redirect_uri=redirect_uri)
    return AuthUnavailableError(f"{problem or f'the login page answered {error.code}.'}")
