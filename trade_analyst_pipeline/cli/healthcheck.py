"""`trade-analyst healthcheck`: one report on whether this installation can do its work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trade_analyst_pipeline.ops.health import HealthReport


def healthcheck(
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Check settings, calendar, data folder, redirect, credentials and Dagster; exit 1 if any fails."""
    from trade_analyst_pipeline.market.clock import MachineClock
    from trade_analyst_pipeline.ops.health import health_report

    report = health_report(now=MachineClock().now())
    if json:
        typer.echo(report.to_json())
    else:
        _show(report)
    sys.exit(0 if report.is_well else 1)


def _show(report: HealthReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "result", "found", title="trade-analyst healthcheck", title_justify="left")
    for check in report.checks:
        found = check.detail if check.advice is None else f"{check.detail}\n-> {check.advice}"
        table.add_row(check.name, check.result, found)
    Console().print(table)
