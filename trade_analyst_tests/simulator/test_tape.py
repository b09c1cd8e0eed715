"""The tape: it agrees with quotes and price history of the same instants, and conflation hides what it says it does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.tape import Conflation, Tape
from trade_analyst_pipeline.simulator.wire_quotes import quote_entry

OPEN = datetime(2025, 12, 9, 14, 30, tzinfo=UTC)
CLOSE = datetime(2025, 12, 9, 21, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def tape(market: Market) -> Tape:
    """One tape for all tests; it never changes."""
    return Tape(market)


def shown(tape: Tape, symbol: str, instant: datetime, conflation: Conflation) -> dict[str, float]:
    """The level-one state that a subscriber holds just before an instant."""
    source = tape.source(symbol, instant)
    assert source is not None
    updates, place = tape.state(source, conflation, round(instant.timestamp() * 1000))
    return {name: int(column[place]) for name, column in vars(updates).items()}


@pytest.mark.parametrize("symbol", ["AAPL", "SPY", "BRK/B", "SY0042", "/ES"])
@pytest.mark.parametrize("minute", [1, 30, 127, 390])
def test_states_are_those_of_the_quotes(tape: Tape, symbol: str, minute: int) -> None:
    """At a whole minute volume, last price, high, low and open are what /quotes says of the same instant."""
    instant = OPEN + timedelta(minutes=minute)
    entry = quote_entry(tape.market, instant, symbol)
    assert entry is not None
    quote, state = entry["quote"], shown(tape, symbol, instant, Conflation())
    assert state["volume"] == quote["totalVolume"]
    told = [quote[name] for name in ("lastPrice", "highPrice", "lowPrice", "openPrice")]
    assert [state[name] / 10_000 for name in ("last", "high", "low", "opened")] == pytest.approx(told, abs=1e-9)


def test_bars_of_the_prints_are_the_price_history(tape: Tape) -> None:
    """Every minute of a session: open, high, low, close and volume."""
    prints = tape.prints("MSFT", OPEN, CLOSE)
    bars = (
        prints.group_by(pl.col("time").dt.truncate("1m").alias("start"), maintain_order=True)
        .agg(
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            volume=pl.col("size").sum(),
        )
        .sort("start")
    )
    history = tape.market.minute_bars("MSFT", OPEN.date())
    assert bars.height == 390
    for name in ("open", "high", "low", "close", "volume"):
        assert bars[name].to_list() == history[name].to_list()


def test_a_contract_trades_what_its_quotes_say(tape: Tape) -> None:
    """Volume at whole minutes is that of /quotes; prints stand around the minute's quote."""
    table = tape.market.contracts("AAPL", CLOSE - timedelta(hours=2))
    symbol = table.sort("volume", descending=True)["option_symbol"][0]
    prints = tape.prints(symbol, OPEN, OPEN + timedelta(minutes=30))
    entry = quote_entry(tape.market, OPEN + timedelta(minutes=30), symbol)
    assert entry is not None
    assert prints["size"].sum() == entry["quote"]["totalVolume"] > 100
    assert (prints["price"] - (prints["bid"] + prints["ask"]) / 2).abs().max() <= 0.2


def test_an_index_has_neither_quotes_nor_sides(tape: Tape) -> None:
    """Its level moves with the bars, and nobody is the aggressor."""
    prints = tape.prints("$SPX", OPEN, OPEN + timedelta(minutes=5))
    assert prints["side"].is_null().all()
    assert prints["bid"].max() == prints["ask"].max() == 0.0
    assert prints["price"][-1] == tape.market.price("$SPX", OPEN + timedelta(minutes=5))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2])
def test_a_share_of_the_prints_is_withheld(tape: Tape, share: float) -> None:
    """So much of them, no other event, and the volume of each is told by the next print that is shown."""
    conflation = Conflation(share)
    prints = tape.prints("AAPL", OPEN, CLOSE, conflation)
    assert 1.0 - prints["is_shown"].mean() == pytest.approx(share, abs=0.01)
    assert tape.quotes("AAPL", OPEN, CLOSE, conflation)["is_shown"].all()
    assert (prints["update_time"] >= prints["time"]).all()
    following = (
        prints["time"]
        .to_frame()
        .with_columns(next=pl.when(prints["is_shown"]).then(prints["time"]).fill_null(strategy="backward"))
    )
    assert (following["next"] == prints["update_time"]).all()
    assert shown(tape, "AAPL", CLOSE, conflation)["volume"] == prints["size"].sum()


def test_one_state_a_second_shows_a_quarter_of_the_volume(tape: Tape) -> None:
    """As on real order books sampled so: about a quarter of the volume shows as last size, four trades an update."""
    prints = tape.prints("AAPL", OPEN, CLOSE, Conflation(interval_ms=1000))
    seen = prints.filter("is_shown")
    assert 0.15 <= seen["size"].sum() / prints["size"].sum() <= 0.35
    assert 3.0 <= prints.height / seen.height <= 6.0
    assert (prints["update_time"] - prints["time"] < SECOND).all()
    assert (prints["update_time"] >= prints["time"]).all()
    assert not tape.quotes("AAPL", OPEN, CLOSE, Conflation(interval_ms=1000))["is_shown"].all()


def test_a_tape_is_the_same_wherever_it_is_begun(market: Market, tape: Tape) -> None:
    """Asked for in the middle of a session first, or from its start on: the same prints and states."""
    fresh, middle = Tape(market), OPEN + timedelta(minutes=100)
    assert fresh.prints("JPM", middle, CLOSE).equals(tape.prints("JPM", OPEN, CLOSE).filter(pl.col("time") >= middle))
    assert shown(fresh, "JPM", middle, Conflation(0.2)) == shown(tape, "JPM", middle, Conflation(0.2))


def test_a_session_begins_anew(tape: Tape) -> None:
    """Before the open: the close before, and from 07:28 on no volume, high, low or open of today."""
    early = shown(tape, "AAPL", OPEN - timedelta(hours=1), Conflation())
    close = tape.market.moment("AAPL", OPEN).previous_close
    assert early["last"] / 10_000 == close
    assert [early[name] for name in ("volume", "high", "low", "opened")] == [0, 0, 0, 0]
    late = shown(tape, "AAPL", CLOSE + timedelta(hours=3), Conflation())
    assert late["volume"] == shown(tape, "AAPL", CLOSE, Conflation())["volume"] > 0


def test_what_has_no_flow_is_named(tape: Tape) -> None:
    """Funds, currencies, unknown and expired symbols have none."""
    for symbol in ("VTSAX", "EUR/USD", "NOPE", "AAPL  200117C00100000", "/XX", "/ESZ20"):
        assert tape.source(symbol, OPEN) is None
        with pytest.raises(KeyError):
            tape.prints(symbol, OPEN, CLOSE)


def test_half_days_and_sessions_in_a_row(tape: Tape) -> None:
    """A half day has 210 minutes of prints; a span over two sessions has both, and nothing between them."""
    first = datetime(2025, 11, 28, 14, 30, tzinfo=UTC)
    prints = tape.prints("SPY", first, first + timedelta(days=3, hours=1))
    days = prints["time"].dt.date().unique().sort().to_list()
    assert [day.isoformat() for day in days] == ["2025-11-28", "2025-12-01"]
    last = prints.filter(pl.col("time").dt.date() == days[0])["time"].max()
    assert first + timedelta(minutes=209) <= last < first + timedelta(minutes=210)
