"""`trade-analyst calibrate`: fits a table of posteriors on a tape whose aggressors are known; says how far it holds."""

from __future__ import annotations

import json as json_text
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trade_analyst_pipeline.cli.shown import say_line, show_table
from trade_analyst_pipeline.errors import TapeError

if TYPE_CHECKING:
    import polars as pl

    from trade_analyst_pipeline.market.aggressor_posterior import Posterior

FEWEST_LABELLED = 100
CALIBRATION_AIM, BRIER_AIM = 0.03, 0.85

Join = Literal["before", "at_or_before", "match"]
Figures = list[dict[str, Any]]


def calibrate(
    tape: Annotated[Path, typer.Argument(help="Trades with known aggressors, Parquet or CSV.")],
    quotes: Annotated[Path | None, typer.Option("--quotes", help="Quotes to join, where the tape has none.")] = None,
    join: Annotated[Join, typer.Option("--join", help="Which of the quotes is taken as in force.")] = "before",
    resolution_ms: Annotated[float, typer.Option("--resolution-ms", min=0, help="What times are rounded down to.")] = 0,
    quality: Annotated[
        str | None, typer.Option("--quality", help="How quotes were had, where it is not what the join says.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Our column and the file's, as trade_price=px; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the table there, as JSON.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Fit a table of posteriors on a tape with known aggressors; exit 1 when it is not calibrated on the tape itself.

    The figures are of each fifth of the tape, scored with a table fitted on the other four.
    """
    labelled = _labelled(tape, quotes, column or [], join, timedelta(milliseconds=resolution_ms), quality)
    posterior, figures, bins = _fitted(tape, labelled)
    if output is not None:
        _write(output, posterior)
    if json:
        document = {"posterior": json_text.loads(posterior.to_json()), "figures": figures, "reliability": bins}
        typer.echo(json_text.dumps(document, indent=2))
    else:
        _show(figures, bins, output)
    sys.exit(0 if all(each["is_calibrated"] for each in figures) else 1)


def _labelled(
    tape: Path, quotes: Path | None, column: list[str], join: Join, resolution: timedelta, quality: str | None
) -> pl.DataFrame:
    """Rows of `aggressor_side` with `true_side`, of the trades whose side is known."""
    import polars as pl

    from trade_analyst_pipeline.cli.tapes import column_map, numbers, read_tape, true_sides
    from trade_analyst_pipeline.market.aggressor_posterior import CAPPED
    from trade_analyst_pipeline.market.trade_locations import QUOTE_QUALITIES
    from trade_analyst_pipeline.metrics.aggressor_side import aggressor_side
    from trade_analyst_pipeline.metrics.prevailing_quote import prevailing_quote

    fitted = [each for each in QUOTE_QUALITIES if each not in CAPPED]
    if quality is not None and quality not in fitted:
        message = f"no table is fitted for {quality!r}: there are {', '.join(fitted)}"
        raise typer.BadParameter(message, param_hint="--quality")
    renamed = column_map(column)
    prices = ("bid", "ask")
    of_trades = ("trade_time", "trade_price", "true_side", *(() if quotes else prices))
    trades = numbers(tape, read_tape(tape, renamed, of_trades), [name for name in of_trades[1:] if name != "true_side"])
    trades = trades.with_columns(
        true_sides(tape, trades["true_side"]),
        pl.int_range(pl.len()).alias("sequence"),
        pl.lit(None, dtype=pl.Float64).alias("trade_size"),
    )
    if quotes is not None:
        table = numbers(quotes, read_tape(quotes, renamed, ("quote_time", *prices)), prices)
        trades = prevailing_quote(trades, table, max_age=None, join=join, resolution=resolution)
        if trades["quote_reason"].null_count() == 0:
            message = f"no trade of {tape} has a quote of {quotes} before it: their symbols or times do not meet"
            raise TapeError(message)
    if quality is not None or quotes is None:
        trades = trades.with_columns(pl.lit(quality or "exact").alias("quote_quality"))
    known = aggressor_side(trades).with_columns(trades["true_side"]).filter(pl.col("true_side").is_not_null())
    _refuse_few(tape, known)
    return known


def _refuse_few(tape: Path, known: pl.DataFrame) -> None:
    counts = dict(known["quote_quality"].value_counts().rows())
    few = {quality: count for quality, count in counts.items() if count < FEWEST_LABELLED}
    if few or not counts:
        shown = ", ".join(f"{count} of {quality}" for quality, count in sorted(few.items())) or "none"
        message = f"{tape} has too few trades with a known side: {shown}; {FEWEST_LABELLED} of each quality are needed"
        raise TapeError(message)


def _fitted(tape: Path, labelled: pl.DataFrame) -> tuple[Posterior, Figures, Figures]:
    """The table, one row of figures per quality, and the bins of its reliability."""
    import polars as pl

    from trade_analyst_pipeline.metrics.aggressor_confidence import (
        accuracy,
        cross_validated,
        fit_posterior,
        reliability,
    )
    from trade_analyst_pipeline.metrics.aggressor_side import CLNV, EMO, LEE_READY, aggressor_side

    posterior = fit_posterior(labelled, version=tape.stem, fitted_on=(tape.name,))
    parts = labelled.partition_by("quote_quality", as_dict=True)
    scored = pl.concat(cross_validated(part) for part in parts.values())
    figures = accuracy(scored).rows(named=True)
    for each in figures:
        of = parts[each["quote_quality"],]
        sides = [aggressor_side(of, layers)["aggressor_side"] for layers in (LEE_READY, EMO, CLNV)]
        rights = [100 * (int((side == of["true_side"]).sum()) + side.null_count() / 2) / of.height for side in sides]
        each["best_rule_pct"] = max(rights)
        each["is_calibrated"] = each["ece"] <= CALIBRATION_AIM and each["brier"] <= BRIER_AIM * each["constant_brier"]
    return posterior, figures, reliability(scored).rows(named=True)


def _write(output: Path, posterior: Posterior) -> None:
    try:
        output.write_text(posterior.to_json(), encoding="utf-8")
    except OSError as error:
        message = f"the table cannot be written to {output}: {error.strerror}. Give another file with --output"
        raise TapeError(message) from error


def _show(figures: Figures, bins: Figures, output: Path | None) -> None:
    headings = ("quote_quality", "trades", "right", "best fixed rule", "calibration error", "Brier", "of constant")
    rows = [
        [
            each["quote_quality"],
            f"{each['trades']:,}",
            f"{each['accuracy_pct']:.2f} %",
            f"{each['best_rule_pct']:.2f} %",
            f"{each['ece']:.4f}",
            f"{each['brier']:.4f}",
            f"{each['constant_brier']:.4f}",
        ]
        for each in figures
    ]
    show_table(headings, rows)
    lines = [
        [
            each["quote_quality"],
            f"{each['from_confidence']:.2f}",
            f"{each['trades']:,}",
            f"{each['mean_confidence']:.3f}",
            f"{each['right_share']:.3f}",
        ]
        for each in bins
    ]
    show_table(("quote_quality", "confidence from", "trades", "mean confidence", "right"), lines)
    for each in figures:
        if not each["is_calibrated"]:
            say_line(
                f"{each['quote_quality']} is not calibrated: an error of {each['ece']:.4f} "
                f"(at most {CALIBRATION_AIM}), or a Brier score of {each['brier']:.4f} "
                f"(at most {BRIER_AIM} of the constant forecast's). More trades, or a tape of one kind, can help."
            )
    if output is not None:
        say_line(f"The table is in {output}.")
