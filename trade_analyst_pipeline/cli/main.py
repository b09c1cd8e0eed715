"""The `trade-analyst` command: puts the commands together and turns errors into messages and exit codes.

A command lives in a module beside this one and is named in `COMMANDS`; heavy libraries are imported inside
the commands, so that `--help` and `--version` answer at once. Exit codes: 0 success, 1 the thing asked about
is not well, 2 wrong use, 130 interrupted with Ctrl-C, quietly.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from trade_analyst_pipeline.cli import (
    archive,
    calibrate,
    classify,
    compact,
    data,
    gaps,
    healthcheck,
    login,
    plan,
    run,
    simulator,
    stream,
    symbols,
    token,
    trace,
    ui,
    verify,
)
from trade_analyst_pipeline.errors import TradeAnalystError

PROGRAM = "trade-analyst"
FAILED = 1
INTERRUPTED = 128 + signal.SIGINT

# name -> (function whose docstring is the help text, an example of its use); a first word that several share is a group
COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "run": (run.run, "trade-analyst run --from 2026-01-02 --to 2026-01-30"),
    "stream": (stream.stream, "trade-analyst stream"),
    "plan": (plan.plan, "trade-analyst plan --symbols 500"),
    "symbols": (symbols.symbols, "trade-analyst symbols --json"),
    "login": (login.login, "trade-analyst login"),
    "token status": (token.status, "trade-analyst token status --json"),
    "token refresh": (token.refresh, "trade-analyst token refresh"),
    "token revoke": (token.revoke, "trade-analyst token revoke"),
    "token rotate-key": (token.rotate_key, "trade-analyst token rotate-key"),
    "import": (
        data.import_recordings,
        "trade-analyst import chain.json --dataset options --captured-at 2025-05-09T20:59:00Z --symbol '$SPX'",
    ),
    "archive export": (archive.export_archive, "trade-analyst archive export /mnt/backup/market"),
    "archive import": (archive.import_archive, "trade-analyst archive import /mnt/backup/market --from 2026-01-02"),
    "archive retire": (
        archive.retire_captures,
        "trade-analyst archive retire --before 2025-01-02 --held-in /mnt/backup/market",
    ),
    "rebuild": (data.rebuild, "trade-analyst rebuild --from 2026-01-02 --dataset options"),
    "verify": (verify.verify, "trade-analyst verify --from 2026-01-02 --json"),
    "compact": (compact.compact, "trade-analyst compact --dry-run"),
    "query": (data.query, 'trade-analyst query "select symbol, iv_rank from metrics.iv_rank"'),
    "export": (data.export, "trade-analyst export metrics.iv_rank --format xlsx"),
    "trace": (
        trace.trace,
        "trade-analyst trace metrics.iv_rank symbol=AAPL series=atm30 window_sessions=252 session_date=2026-01-05",
    ),
    "calibrate": (
        calibrate.calibrate,
        "trade-analyst calibrate trades.parquet --quotes quotes.parquet --column trade_price=px --output table.json",
    ),
    "classify": (
        classify.classify,
        "trade-analyst classify trades.parquet --quotes quotes.parquet --column trade_price=px --output sides.parquet",
    ),
    "gaps": (gaps.gaps, "trade-analyst gaps --from 2026-01-02 --dataset options"),
    "healthcheck": (healthcheck.healthcheck, "trade-analyst healthcheck --json"),
    "simulator": (simulator.simulator, "trade-analyst simulator --port 8443 --seed 7 --ca-file ca.pem"),
    "ui": (ui.ui, "trade-analyst ui --port 3000"),
}

app = typer.Typer(name=PROGRAM, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


@app.callback(epilog="Example: trade-analyst run")
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything, and show the traceback of an error.")] = False,
) -> None:
    """Options market data: captured once, kept verbatim, turned into tables and metrics."""
    from trade_analyst_pipeline.ops.logs import configure_logging, protect_crashes

    protect_crashes()
    configure_logging(level="DEBUG" if debug else "WARNING")


_groups = {
    "token": typer.Typer(no_args_is_help=True, help="The stored login: its state, renewal, end and key."),
    "archive": typer.Typer(no_args_is_help=True, help="The archive as a whole: copies of it, and what may leave it."),
}

for _name, (_command, _example) in COMMANDS.items():
    _group, _, _last_word = _name.rpartition(" ")
    _groups.get(_group, app).command(_last_word, epilog=f"Example: {_example}")(_command)
for _name, _group_app in _groups.items():
    app.add_typer(_group_app, name=_name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 not well, 2 wrong use, 130 Ctrl-C; `--debug` lets errors through."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given, prog_name=PROGRAM)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if "--debug" in given:
            raise
        if isinstance(error, TradeAnalystError):
            _fail(str(error))
        advice = f"For the traceback: {PROGRAM} --debug {' '.join(given)}"
        _fail(f"Unexpected {type(error).__name__}: {error}\n{advice}")


def _fail(message: str) -> None:
    from trade_analyst_pipeline.ops.redaction import redact
    from trade_analyst_pipeline.ops.visible import visible

    typer.echo(visible(redact(message)), err=True)
    sys.exit(FAILED)


if __name__ == "__main__":
    main()
