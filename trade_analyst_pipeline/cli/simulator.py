"""`trade-analyst simulator`: the built-in source as a server of its own, until it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

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
    name: Annotated[
        list[str] | None,
        typer.Option(help="A further host name the certificate is for, such as api.schwabapi.com; may be repeated."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="UTC instant that addresses without one show, such as 2026-01-05T20:55:00Z. [the clock]"),
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="TOML file of limits and failures to play; docs/simulator.md describes it.")
    ] = None,
    rotation: Annotated[
        Literal["same", "rotate", "omit"], typer.Option(help="What a refresh does with the refresh token.")
    ] = "same",
    single_use_refresh: Annotated[
        bool, typer.Option("--single-use-refresh", help="A replaced refresh token used again ends the whole login.")
    ] = False,
    refusal: Annotated[
        Literal["revoked", "digest", "old_style"],
        typer.Option("--dead-token", help="How a dead refresh token is refused."),
    ] = "revoked",
    access_seconds: Annotated[int, typer.Option(min=1, max=86_400, help="Life of an access token.")] = 1800,
    refresh_seconds: Annotated[float, typer.Option(min=1, help="Life of a login.")] = 604_800,
    code_seconds: Annotated[float, typer.Option(min=0, help="Life of an authorization code.")] = 30,
    answer_seconds: Annotated[float, typer.Option(min=0, help="How slow the token endpoint is.")] = 0,
    clock_skew_seconds: Annotated[float, typer.Option(help="How far its clock stands ahead of the machine's.")] = 0,
    ask_consent: Annotated[
        bool, typer.Option("--ask-consent", help="Show the page on which a person agrees, instead of agreeing at once.")
    ] = False,
) -> None:
    """Serve a Schwab-shaped market without an account, over HTTPS on 127.0.0.1, until Ctrl-C.

    The address of an instant is https://127.0.0.1:PORT/at/2026-01-05T20:55:00Z; log-in lives at /v1/oauth.
    """
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.simulator.scenario import load_scenario
    from trade_analyst_pipeline.simulator.server import serve

    settings = load_settings()
    wanted = settings.simulator.port if port is None else port
    names, instant = _host_names(name or []), None if at is None else _instant(at)
    played = None if scenario is None else load_scenario(scenario)
    with free_port_needed(wanted), suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        serve(
            port=wanted,
            seed=settings.simulator.seed if seed is None else seed,
            ca_file=ca_file or settings.cache_folder / "simulator-ca.pem",
            redirect_uris=settings.schwab.redirect_allowlist,
            announce=typer.echo,
            names=names,
            instant=instant,
            scenario=played,
            rotation=rotation,
            single_use_refresh=single_use_refresh,
            dead_token=refusal,
            access_seconds=access_seconds,
            refresh_seconds=refresh_seconds,
            code_seconds=code_seconds,
            answer_seconds=answer_seconds,
            clock_skew_seconds=clock_skew_seconds,
            is_consent_automatic=not ask_consent,
        )


def _host_names(names: list[str]) -> tuple[str, ...]:
    """The names of `--name`; raises SettingsError for one that is no host name."""
    from trade_analyst_pipeline.simulator.certificate import checked_host_name

    try:
        return tuple(checked_host_name(name) for name in names)
    except ValueError as error:
        message = f"--name: {error}"
        raise SettingsError(message) from error


def _instant(text: str) -> datetime:
    """The instant of `--at`; raises SettingsError for a text that is none."""
    from trade_analyst_pipeline.simulator.application import parse_instant

    try:
        return parse_instant(text)
    except ValueError as error:
        message = f"--at {text}: {error}; write it as 2026-01-05T20:55:00Z"
        raise SettingsError(message) from error


@contextmanager
def free_port_needed(port: int, *, advice: str = "--port or simulator.port") -> Iterator[None]:
    """Explain it when the simulator cannot listen on its port; raises SettingsError for that.

    `advice` says where another port is chosen.
    """
    try:
        yield
    except OSError as error:
        message = (
            f"the simulator cannot listen on 127.0.0.1:{port}: {error.strerror}. Is another one running? "
            f"Choose another port with {advice}."
        )
        raise SettingsError(message) from error
