"""`trade-analyst calibrate`: figures of a labelled tape from files, the table it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trade_analyst_pipeline.cli.main import main
from trade_analyst_pipeline.market.aggressor_posterior import STEPS, posterior_from_json

TRADES = 1_000


def labelled() -> pl.DataFrame:
    """Every second trade at a side of the quote, the rest inside; one in twenty and one in five is the other side's."""
    number = np.arange(TRADES)
    is_at_side, is_upper = number % 2 == 0, np.random.default_rng(1).random(TRADES) < 0.5
    is_buyer = (number // 2 % np.where(is_at_side, 20, 5) != 0) == is_upper
    upper, lower = np.where(is_at_side, 10.10, 10.09), np.where(is_at_side, 10.00, 10.01)
    return pl.DataFrame(
        {
            "trade_time": number * 1_000_000_000,
            "trade_price": np.where(is_upper, upper, lower),
            "bid": 10.00,
            "ask": 10.10,
            "true_side": np.where(is_buyer, "buyer", "seller"),
        }
    )


def is_nearer_side(tape: pl.DataFrame) -> pl.Series:
    """Whether the aggressor was on the side where the trade stands."""
    return (tape["trade_price"] > 10.05) == (tape["true_side"] == "buyer")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, output and messages of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *map(str, words)])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_figures_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document has figures, bins and the table; the table written is the same and holds the shares of the tape."""
    tape = labelled()
    tape.write_parquet(tmp_path / "mine.parquet")
    code, out, _ = run(capsys, tmp_path / "mine.parquet", "--json", "--output", tmp_path / "table.json")
    document = json.loads(out)
    assert code == 0
    (figures,) = document["figures"]
    assert (figures["quote_quality"], figures["trades"], figures["is_calibrated"]) == ("exact", TRADES, True)
    # no trade is at the mid, so Lee-Ready and the likelier side are the side where it stands
    right = 100 * float(is_nearer_side(tape).sum()) / TRADES
    assert figures["best_rule_pct"] == pytest.approx(right)
    assert figures["accuracy_pct"] == pytest.approx(right)
    assert figures["ece"] < 0.03
    assert sum(each["trades"] for each in document["reliability"]) == TRADES
    written = posterior_from_json((tmp_path / "table.json").read_text())
    assert json.loads(written.to_json()) == document["posterior"]
    assert (written.version, written.fitted_on) == ("mine", ("mine.parquet",))
    for step, prices in (("at", (10.00, 10.10)), ("outer", (10.01, 10.09))):
        nearer = is_nearer_side(tape.filter(pl.col("trade_price").is_in(prices)))
        same, trades = written.cells["exact"][STEPS.index(step)].sum(axis=0)
        assert (same, trades) == (nearer.sum(), len(nearer))


def test_csv_with_other_names_and_a_file_of_quotes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are renamed, times of text and sides as 1 and -1 are read, and the join decides the quality."""
    tape = labelled()
    sides = pl.when(pl.col("true_side") == "buyer").then(1).otherwise(-1)
    times = pl.from_epoch("trade_time", time_unit="ns").dt.replace_time_zone("UTC")
    tape.select(times.alias("t"), pl.col("trade_price").alias("px"), sides.alias("who")).write_csv(tmp_path / "t.csv")
    quotes = tape.select((pl.col("trade_time") - 1_000_000).alias("quote_time"), "bid", "ask")
    quotes.write_parquet(tmp_path / "q.parquet")
    columns = ("--column", "trade_time=t", "--column", "trade_price=px", "--column", "true_side=who")
    given = (tmp_path / "t.csv", "--quotes", tmp_path / "q.parquet", *columns)
    code, out, _ = run(capsys, *given, "--resolution-ms", 1000)
    assert code == 0
    assert f"strict\t{TRADES:,}\t" in out
    assert "confidence from\ttrades\tmean confidence\tright" in out
    code, out, _ = run(capsys, *given, "--quality", "arrival")
    assert f"arrival\t{TRADES:,}\t" in out


def test_symbols_are_joined_each_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trades of a symbol whose quotes are missing are placed without one, those of the other with."""
    tape = pl.concat([labelled().with_columns(pl.lit(name).alias("symbol")) for name in "AB"])
    tape.drop("bid", "ask").write_parquet(tmp_path / "t.parquet")
    quotes = tape.filter(pl.col("symbol") == "B").select("symbol", pl.col("trade_time") - 1, "bid", "ask")
    quotes.rename({"trade_time": "quote_time"}).write_parquet(tmp_path / "q.parquet")
    _, out, _ = run(capsys, tmp_path / "t.parquet", "--quotes", tmp_path / "q.parquet", "--json")
    cells = json.loads(out)["posterior"]["cells"]["exact"]
    # the first trade of A has neither a quote nor an earlier price, and stands nowhere
    assert sum(trades for _, trades in cells["no_quote"].values()) == TRADES - 1
    assert sum(trades for step in ("at", "outer") for _, trades in cells[step].values()) == TRADES


def test_a_tape_that_changes_its_ways_is_not_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a fifth contradicts the others the command says so and exits with 1."""
    tape = labelled()
    other = pl.col("true_side").replace({"buyer": "seller", "seller": "buyer"})
    turned = pl.when(pl.int_range(pl.len()) < 250).then(other).otherwise("true_side").alias("true_side")
    tape.with_columns(turned).write_parquet(tmp_path / "t.parquet")
    code, out, _ = run(capsys, tmp_path / "t.parquet")
    assert code == 1
    assert "exact is not calibrated: an error of" in out


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"trade_price": None}, (), "has no column trade_price: it has trade_time, bid, ask, true_side"),
        ({}, ("--column", "trade_price=px"), "has no column px"),
        ({}, ("--column", "price=px"), "'price=px' is not of the form ours=theirs, ours being one of symbol"),
        ({}, ("--column", "trade_price"), "is not of the form ours=theirs"),
        ({"true_side": "maker"}, (), "true_side 'maker' in 1000 of 1000 rows is neither buyer nor seller"),
        ({"trade_price": "ten"}, (), "trade_price is String, not numbers; its first value is 'ten'"),
        ({"trade_time": "noon"}, (), "trade_time is String; give dates with times"),
        ({"trade_time": pl.lit(None, dtype=pl.Int64)}, (), "trade_time is missing in 1000 of 1000 rows"),
        ({"true_side": pl.lit(None, dtype=pl.String)}, (), "too few trades with a known side: none; 100 of each"),
        ({}, ("--output", "/no/such/folder/table.json"), "cannot be written to /no/such/folder/table.json"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], options: tuple[str, ...], words: str
) -> None:
    """The file, the column and the value are in the message, and the exit code is 1."""
    tape = labelled()
    for name, value in change.items():
        literal = value if isinstance(value, pl.Expr) else pl.lit(value)
        tape = tape.drop(name) if value is None else tape.with_columns(literal.alias(name))
    tape.write_parquet(tmp_path / "t.parquet")
    code, _, err = run(capsys, tmp_path / "t.parquet", *options)
    assert code == 1
    assert words in err


def test_files_that_cannot_be_read_or_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, one that is no Parquet, too few labels, quotes of another day, an unknown quality."""
    tape, broken = tmp_path / "t.parquet", tmp_path / "broken.parquet"
    labelled().write_parquet(tape)
    broken.write_text("not Parquet")
    late = labelled().select((pl.col("trade_time") + 10**15).alias("quote_time"), "bid", "ask")
    late.write_parquet(tmp_path / "late.parquet")
    labelled()[:99].write_parquet(tmp_path / "few.parquet")
    assert "cannot be read as Parquet" in run(capsys, tmp_path / "none.parquet")[2]
    assert "cannot be read as Parquet" in run(capsys, broken)[2]
    assert "their symbols or times do not meet" in run(capsys, tape, "--quotes", tmp_path / "late.parquet")[2]
    assert "99 of exact; 100 of each quality" in run(capsys, tmp_path / "few.parquet")[2]
    for quality in ("nbbo", "option_prior", "block"):
        code, _, err = run(capsys, tape, "--quality", quality)
        assert code == 2
        assert f"no table is fitted for '{quality}'" in err
