"""A halt: no print, no quote, no bar while it lasts; an auction after it; nothing of the session is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from streaming import Listener
from visiting import SEED

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.simulator.intraday import halt_of
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.simulator.scenario import load_scenario
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk
from trade_analyst_pipeline.simulator.tape import Tape
from trade_analyst_pipeline.simulator.wire_quotes import quote_entry

FIRST = datetime(2025, 12, 9, 17, 12, tzinfo=UTC)
UNTIL = FIRST + timedelta(minutes=5)
OPEN, CLOSE = datetime(2025, 12, 9, 14, 30, tzinfo=UTC), datetime(2025, 12, 9, 21, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def halted() -> Market:
    """The market with one halt of five minutes."""
    return Market(SEED, halts=(halt_of("AAPL", FIRST, UNTIL),))


def test_prints_stop_and_go_on_with_an_auction(halted: Market, market: Market) -> None:
    """The day's volume and range of closes stay; the five minutes' volume is traded in the sixth."""
    prints, usual = (Tape(each).prints("AAPL", OPEN, CLOSE) for each in (halted, market))
    during = (pl.col("time") >= FIRST) & (pl.col("time") < UNTIL)
    after = (pl.col("time") >= UNTIL) & (pl.col("time") < UNTIL + timedelta(minutes=1))
    assert prints.filter(during).height == 0 < usual.filter(during).height
    assert prints["size"].sum() == usual["size"].sum()
    assert prints.filter(after)["size"].sum() == usual.filter(during | after)["size"].sum()
    assert prints.filter(after)["kind"][0] == "auction"
    assert prints["price"][-1] == usual["price"][-1]


def test_history_has_no_bars_of_it(halted: Market) -> None:
    """Five of 390 are missing, whether the session is over or going on; the prints make the bars of the history."""
    span = {"frequencyType": "minute", "startDate": str(round(OPEN.timestamp() * 1000)), "symbol": "AAPL"}
    for instant, count in ((CLOSE + timedelta(hours=5), 385), (UNTIL, 162), (UNTIL - timedelta(seconds=30), 162)):
        body = answer(halted, instant, "/pricehistory", span | {"endDate": str(round(instant.timestamp() * 1000))}).body
        assert body.count(b'"datetime"') == count
    bars = halted.minute_bars("AAPL", OPEN.date()).filter(pl.col("volume") > 0)
    prints = Tape(halted).prints("AAPL", OPEN, CLOSE)
    made = prints.group_by(pl.col("time").dt.truncate("1m").alias("start"), maintain_order=True).agg(
        pl.col("price").first().alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").last().alias("close"),
    )
    assert made["start"].dt.epoch("ms").to_list() == bars["start_time"].dt.epoch("ms").to_list()
    for name in ("open", "high", "close"):
        assert made[name].to_list() == bars[name].to_list()


def test_quotes_and_stream_say_so(halted: Market) -> None:
    """Status Halted in both, no bid and no ask on the stream; then Normal again."""
    for instant, status in ((FIRST, "Halted"), (UNTIL, "Normal"), (FIRST - timedelta(seconds=1), "Normal")):
        entry = quote_entry(halted, instant, "AAPL")
        assert entry is not None
        assert entry["quote"]["securityStatus"] == status
    desk = StreamerDesk(Tape(halted), lambda _: True)
    charted = Listener.connect(desk, FIRST - timedelta(seconds=30))
    charted.log_in()
    charted.subscribe("CHART_EQUITY", "AAPL")
    bars = charted.run(460.0).items("CHART_EQUITY")
    assert [(bar["1"], bar["seq"] - bars[0]["seq"]) for bar in bars] == [(311, 0), (317, 1), (318, 2)]
    listener = Listener.connect(desk, FIRST - timedelta(seconds=30))
    listener.log_in()
    listener.subscribe("LEVELONE_EQUITIES", "AAPL", "0,1,2,8,32")
    first, *later = listener.run(400.0).items("LEVELONE_EQUITIES")
    assert first["32"] == "Normal"
    stopped, again = [item for item in later if "32" in item]
    assert (stopped["32"], stopped["1"], stopped["2"]) == ("Halted", 0.0, 0.0)
    assert (again["32"], again["1"] > 0.0) == ("Normal", True)
    assert later.index(again) == later.index(stopped) + 1


def test_a_scenario_halts(tmp_path: Path) -> None:
    """From a file; what is no halt is refused with its place."""
    written = tmp_path / "scenario.toml"
    written.write_text(
        "[[halt]]\nsymbol = 'AAPL'\nfirst = 2025-12-09T17:12:00Z\nuntil = 2025-12-09T17:17:00Z\n", "utf-8"
    )
    server = SimulatorServer(seed=SEED, ca_file=tmp_path / "ca.pem", scenario=load_scenario(written))
    assert server.market.halts == (halt_of("AAPL", FIRST, UNTIL),)
    for first, until in (
        ("17:12:30Z", "17:17:00Z"),
        ("17:17:00Z", "17:12:00Z"),
        ("14:30:00Z", "14:31:00Z"),
        ("17:12:00", "17:17:00"),
    ):
        written.write_text(
            f"[[halt]]\nsymbol = 'AAPL'\nfirst = 2025-12-09T{first}\nuntil = 2025-12-09T{until}\n", "utf-8"
        )
        with pytest.raises(SettingsError, match="halt 1: "):
            load_scenario(written)
