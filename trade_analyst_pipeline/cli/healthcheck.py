"""`trade-analyst healthcheck`: one report on whether this installation can do its work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trade_analyst_pipeline.ops.health.examination import Wiring
    from trade_analyst_pipeline.ops.health.report import HealthReport
    from trade_analyst_pipeline.settings import Settings

KEYRING_SECONDS = 1.5  # less than checks may take in all, so that a keyring that hangs is told as such


def healthcheck(
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Check system, settings, log-in, source, data and open errors; ends within 5 s, with exit 1 if a check fails."""
    from trade_analyst_pipeline.defs import resources, standing  # noqa: F401  before the time for checks begins
    from trade_analyst_pipeline.market.clock import MachineClock
    from trade_analyst_pipeline.ops.health.examination import health_report
    from trade_analyst_pipeline.settings import load_settings

    report = health_report(now=MachineClock().now, load=load_settings, wire=_wiring)
    if json:
        typer.echo(report.to_json())
    else:
        _show(report)
    sys.exit(0 if report.is_well else 1)


def _wiring(settings: Settings) -> Wiring:
    from trade_analyst_pipeline.defs import resources, standing
    from trade_analyst_pipeline.defs.run_records import open_failures
    from trade_analyst_pipeline.market.clock import MachineClock
    from trade_analyst_pipeline.ops.health.examination import Wiring

    return Wiring(
        source_address=resources.source_address(settings),
        ca_file=resources.certificate_authority(settings),
        build_client=lambda: standing.check_client(settings),
        login=lambda: standing.stored_login(settings, keyring_seconds=KEYRING_SECONDS),
        budget=lambda: standing.budget_state(settings),
        failed_runs=lambda: open_failures(settings.data_folder / ".dagster", now=MachineClock().now()),
        gaps=lambda day: standing.gap_count(settings, day),
    )


def _show(report: HealthReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from trade_analyst_pipeline.ops.visible import visible

    console = Console()
    table = Table("check", "status", "found", title="trade-analyst healthcheck", title_justify="left")
    for check in report.checks:
        found = check.detail if check.remedy is None else f"{check.detail}\n-> {check.remedy}"
        # as it stands: what looks like markup is none, and what the terminal has no letters for is told all the same
        shown = visible(found).encode(console.encoding, "backslashreplace").decode(console.encoding)
        table.add_row(check.name, check.status, Text(shown))
    console.print(table)
