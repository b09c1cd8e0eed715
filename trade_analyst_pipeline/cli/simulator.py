"""`trade-analyst simulator`: the built-in source as a server of its own, until it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from trade_analyst_pipeline.errors import SettingsError


def simulator(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one. [simulator.port]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Which market. [simulator.seed]")] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Where the certificate that clients have to trust is written.")
    ] = None,
) -> None:
    """Serve a Schwab-shaped market without an account, over HTTPS on 127.0.0.1, until Ctrl-C.

    The address of an instant is https://127.0.0.1:PORT/at/2026-01-05T20:55:00Z; log-in lives at /v1/oauth.
    """
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.simulator.server import serve

    settings = load_settings()
    wanted = settings.simulator.port if port is None else port
    with free_port_needed(wanted):
        serve(
            port=wanted,
            seed=settings.simulator.seed if seed is None else seed,
            ca_file=ca_file or settings.cache_folder / "simulator-ca.pem",
            redirect_uris=settings.schwab.redirect_allowlist,
            announce=typer.echo,
        )


@contextmanager
def free_port_needed(port: int) -> Iterator[None]:
    """Explain it when the simulator cannot listen on its port; raises SettingsError for that."""
    try:
        yield
    except OSError as error:
        message = (
            f"the simulator cannot listen on 127.0.0.1:{port}: {error.strerror}. Is another one running? "
            "Choose another port with --port or simulator.port."
        )
        raise SettingsError(message) from error
