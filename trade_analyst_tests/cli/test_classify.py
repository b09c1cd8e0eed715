"""`trade-analyst classify`: the trades of files, with quotes joined strictly before and conditions of sale heeded."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from trade_analyst_pipeline.cli.main import main
from trade_analyst_pipeline.market.sale_conditions import is_excluded

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "market"
SECOND = 1_000_000_000


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, output and messages of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["classify", *map(str, words)])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def tape(folder: Path) -> tuple[Path, Path]:
    """Three trades, one of them an average price; a quote before the first, another of the second one's own time."""
    trades, quotes = folder / "trades.csv", folder / "quotes.parquet"
    pl.DataFrame(
        {
            "trade_time": [2 * SECOND, 3 * SECOND, 4 * SECOND],
            "px": [10.02, 10.02, 12.00],
            "trade_size": [100, 200, 50],
            "cond": ["@   ", "@F I", "@  W"],
        }
    ).write_csv(trades)
    pl.DataFrame({"quote_time": [SECOND, 3 * SECOND], "bid": [10.00, 10.02], "ask": [10.02, 10.04]}).write_parquet(
        quotes
    )
    return trades, quotes


def test_sides_of_a_tape_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quote of a trade's own time does not count, unless asked for; the average price is left out and told."""
    trades, quotes = tape(tmp_path)
    words = [trades, "--quotes", quotes, "--column", "trade_price=px", "--column", "conditions=cond"]
    code, out, _ = run(capsys, *words, "--output", tmp_path / "sides.parquet", "--json")
    assert code == 0
    assert json.loads(out) == {
        "output": str(tmp_path / "sides.parquet"),
        "excluded": 1,
        "locations": [{"trade_location": "ask", "trades": 2, "volume": 300, "buyers": 2, "sellers": 0}],
    }
    sides = pl.read_parquet(tmp_path / "sides.parquet")
    assert sides["aggressor_side"].to_list() == ["buyer", "buyer"]
    assert sides["buy_probability"].min() > 0.9
    run(capsys, *words, "--output", tmp_path / "other.parquet", "--join", "at_or_before")
    assert pl.read_parquet(tmp_path / "other.parquet")["trade_location"].to_list() == ["ask", "bid"]


def test_what_cannot_be_classified_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column that is missing, quotes that never meet the trades, and a table that is none."""
    trades, quotes = tape(tmp_path)
    output = ["--output", tmp_path / "sides.parquet"]
    assert run(capsys, trades, *output)[0] == 1
    pl.read_parquet(quotes).with_columns(pl.col("quote_time") + 9 * SECOND).write_parquet(quotes)
    code, _, told = run(capsys, trades, "--quotes", quotes, "--column", "trade_price=px", *output)
    assert code == 1
    assert "their symbols or times do not meet" in " ".join(told.split())
    code, _, told = run(capsys, trades, "--posterior", quotes, *output)
    assert code == 1
    assert not (tmp_path / "sides.parquet").exists()


@pytest.mark.parametrize(
    ("conditions", "expected"), [("", False), ("@F I", False), ("@  4", True), ("T", True), (None, False)]
)
def test_conditions_of_sale(conditions: str | None, expected: bool) -> None:
    """Regular, sweep, automatic and odd lot say something about the current quote; all else does not."""
    frame = pl.DataFrame({"conditions": [conditions]}, schema={"conditions": pl.String})
    assert frame.select(is_excluded(pl.col("conditions"))).item() is expected


def test_taq_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The published counts of a consolidated tape, with quotes of its primary venue."""
    if not SAMPLES.is_dir():
        pytest.skip("NOT RUN: ../shared/samples is not here")
    trades, quotes = (pl.read_parquet(SAMPLES / f"taq_xxx_20180102_{kind}.parquet") for kind in ("trades", "quotes"))
    opened, closed = pl.datetime(2018, 1, 2, 14, 30), pl.datetime(2018, 1, 2, 21)
    session = trades.filter(pl.col("DT").is_between(opened, closed, closed="left") & (pl.col("CORR") == 0))
    session.write_parquet(tmp_path / "trades.parquet")
    quotes.filter(pl.col("EX") == "N").write_parquet(tmp_path / "quotes.parquet")
    names = (
        "symbol=SYMBOL trade_time=DT trade_price=PRICE trade_size=SIZE conditions=COND quote_time=DT bid=BID ask=OFR"
    )
    columns = [word for name in names.split() for word in ("--column", name)]
    code, out, _ = run(
        capsys, tmp_path / "trades.parquet", "--quotes", tmp_path / "quotes.parquet", *columns,
        "--max-age-seconds", 86_400, "--output", tmp_path / "sides.parquet", "--json",
    )  # fmt: skip
    found = {each["trade_location"]: (each["trades"], each["volume"]) for each in json.loads(out)["locations"]}
    assert code == 0
    assert (found["ask"], found["mid"], found["bid"], found[None]) == (
        *((7_604, 692_437), (5_353, 587_414), (8_526, 802_030), (8, 2_482)),
    )
    assert sum(trades for trades, _ in found.values()) == 38_858
