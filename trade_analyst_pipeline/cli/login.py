"""`trade-analyst login`: the interactive login at the source; the simulator consents by itself."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import typer

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings

CONSENT_SECONDS = 20


def login(
    wait_seconds: Annotated[float, typer.Option(min=5, max=3600, help="How long to wait for the browser.")] = 300,
) -> None:
    """Log in at the source through the browser and store the login, encrypted. At Schwab it lasts seven days.

    The browser warns about the certificate of 127.0.0.1: it was made for this one login; accept it.
    """
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    if settings.environment == "simulate":
        login_to_simulator(settings)
        typer.echo("Logged in to the simulator.")
        return
    from trade_analyst_pipeline.defs.resources import token_client, token_store
    from trade_analyst_pipeline.schwab.auth import login as log_in

    tokens = log_in(token_client(settings), token_store(settings), open_browser=_open, wait_seconds=wait_seconds)
    typer.echo(f"Logged in. Tokens are stored in {settings.token_file} (fingerprint {tokens.fingerprint}).")


def login_to_simulator(settings: Settings) -> None:
    """Go through the whole code flow with the running simulator, which consents where a person would."""
    from trade_analyst_pipeline.defs.resources import certificate_authority, token_client, token_store
    from trade_analyst_pipeline.schwab.auth import login as log_in

    with tempfile.TemporaryDirectory(prefix="trade-analyst-login-") as folder:
        certificate = Path(folder) / "listener.pem"
        log_in(
            token_client(settings),
            token_store(settings),
            open_browser=_consent([certificate_authority(settings), certificate]),
            certificate_file=certificate,
            wait_seconds=CONSENT_SECONDS,
        )


def _open(url: str) -> None:
    import webbrowser

    typer.echo(f"If no browser opens, go to:\n{url}", err=True)
    webbrowser.open(url)


def _consent(trusted: list[Path | None]) -> Callable[[str], None]:
    """A browser's part on the simulator: follow the redirect of the authorize page to the listener."""

    def follow(url: str) -> None:
        context = ssl.create_default_context()
        for file in trusted:
            context.load_verify_locations(file)
        with build_opener(ProxyHandler({}), HTTPSHandler(context=context)).open(url, timeout=CONSENT_SECONDS) as page:
            page.read(1 << 16)

    return follow
