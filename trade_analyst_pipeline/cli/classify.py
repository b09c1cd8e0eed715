"""`trade-analyst classify`: sides and probabilities of the trades of any tape, from files."""

from __future__ import annotations

import json as json_text
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade_analyst_pipeline.cli.calibrate import Join
from trade_analyst_pipeline.cli.shown import say_line, show_table
from trade_analyst_pipeline.errors import TapeError

if TYPE_CHECKING:
    import polars as pl

    from trade_analyst_pipeline.market.aggressor_posterior import Posterior


def classify(
    tape: Annotated[Path, typer.Argument(help="Trades, Parquet or CSV.")],
    output: Annotated[Path, typer.Option("--output", help="Write the classified trades there, as Parquet.")],
    quotes: Annotated[Path | None, typer.Option("--quotes", help="Quotes to join, where the tape has none.")] = None,
    join: Annotated[Join, typer.Option("--join", help="Which of the quotes is taken as in force.")] = "before",
    resolution_ms: Annotated[float, typer.Option("--resolution-ms", min=0, help="What times are rounded down to.")] = 0,
    max_age_seconds: Annotated[
        float, typer.Option("--max-age-seconds", min=0, help="An older quote is none; 900 for options.")
    ] = 60,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Our column and the file's, as trade_price=px; repeatable.")
    ] = None,
    posterior: Annotated[Path | None, typer.Option("--posterior", help="A table of trade-analyst calibrate.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say of each trade of a tape where it stood, who crossed the spread and how surely, by the quote strictly before.

    Prints whose conditions of sale say nothing about the current quote are left out and counted.
    """
    from trade_analyst_pipeline.export import export_table
    from trade_analyst_pipeline.metrics.aggressor_confidence import aggressor_confidence
    from trade_analyst_pipeline.metrics.aggressor_side import aggressor_side

    table = _posterior(posterior)
    trades, excluded = _trades(tape, quotes, column or [])
    joined = _joined(trades, tape, quotes, column or [], join, timedelta(milliseconds=resolution_ms), max_age_seconds)
    signed = aggressor_side(joined)
    try:
        confidence = aggressor_confidence(signed, table)
    except ValueError as error:
        raise TapeError(str(error)) from error
    likelier = confidence.select("buy_probability", "confidence", "posterior_version")
    export_table(signed.with_columns(*likelier), output, format="parquet")
    _tell(signed, excluded, output, json=json)


def _posterior(path: Path | None) -> Posterior:
    from trade_analyst_pipeline.market.aggressor_posterior import default_posterior, posterior_from_json

    if path is None:
        return default_posterior()
    try:
        return posterior_from_json(path.read_text(encoding="utf-8"), name=str(path))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}. Give a file that trade-analyst calibrate has written"
        raise TapeError(message) from error


def _trades(tape: Path, quotes: Path | None, column: list[str]) -> tuple[pl.DataFrame, int]:
    """The trades that can be classified, and how many cannot by their conditions of sale."""
    import polars as pl

    from trade_analyst_pipeline.cli.tapes import column_map, numbers, read_tape
    from trade_analyst_pipeline.market.sale_conditions import is_excluded

    prices = ("trade_price", "trade_size", *(() if quotes else ("bid", "ask")))
    renamed = column_map(column)
    has_conditions = "conditions" in renamed
    found = read_tape(tape, renamed, ("trade_time", *prices, *(("conditions",) if has_conditions else ())))
    trades = numbers(tape, found, prices).with_columns(pl.int_range(pl.len()).alias("sequence"))
    if not has_conditions:
        return trades, 0
    kept = trades.filter(~is_excluded(pl.col("conditions").cast(pl.String)))
    return kept, trades.height - kept.height


def _joined(
    trades: pl.DataFrame,
    tape: Path,
    quotes: Path | None,
    column: list[str],
    join: Join,
    resolution: timedelta,
    age: float,
) -> pl.DataFrame:
    """The trades with the quote in force at each."""
    import polars as pl

    from trade_analyst_pipeline.cli.tapes import column_map, numbers, read_tape
    from trade_analyst_pipeline.metrics.prevailing_quote import prevailing_quote

    if quotes is None:
        return trades.with_columns(pl.lit("exact").alias("quote_quality"))
    prices = ("bid", "ask")
    table = numbers(quotes, read_tape(quotes, column_map(column), ("quote_time", *prices)), prices)
    found = prevailing_quote(trades, table, max_age=timedelta(seconds=age), join=join, resolution=resolution)
    if trades.height and found["quote_reason"].null_count() == 0:
        message = f"no trade of {tape} has a quote of {quotes} before it: their symbols or times do not meet"
        raise TapeError(message)
    return found


def _tell(signed: pl.DataFrame, excluded: int, output: Path, *, json: bool) -> None:
    """How many trades stood where, and their sides."""
    import polars as pl

    from trade_analyst_pipeline.market.trade_locations import LOCATIONS

    counts = signed.group_by("trade_location").agg(
        pl.len().alias("trades"),
        pl.col("trade_size").sum().alias("volume"),
        (pl.col("aggressor_side") == "buyer").sum().alias("buyers"),
        (pl.col("aggressor_side") == "seller").sum().alias("sellers"),
    )
    known = {row["trade_location"]: row for row in counts.rows(named=True)}
    rows: list[dict[str, Any]] = [known[place] for place in (*LOCATIONS[::-1], None) if place in known]
    if json:
        typer.echo(json_text.dumps({"output": str(output), "excluded": excluded, "locations": rows}, indent=2))
        return
    shown = [
        [
            each["trade_location"] or "no quote",
            *(f"{each[name]:,.0f}" for name in ("trades", "volume", "buyers", "sellers")),
        ]
        for each in rows
    ]
    show_table(("trade_location", "trades", "volume", "buyers", "sellers"), shown)
    if excluded:
        say_line(f"{excluded:,} prints are left out: their conditions of sale say nothing about the current quote.")
    say_line(f"The classified trades are in {output}.")
