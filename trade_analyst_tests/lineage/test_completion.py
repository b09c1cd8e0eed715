"""A chain that came in two attempts at one snapshot is one chain, and each of the pieces alone is not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from trade_analyst_pipeline.datasets import DATASETS, options
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.simulator import routes
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.storage.archive import Archive, Gap
from trade_analyst_pipeline.storage.tables import TableStore

DAY, DUE = date(2026, 11, 20), datetime(2026, 11, 20, 20, 55, tzinfo=UTC)
RETRIED = DUE + timedelta(seconds=90)


def _answered(market: Market, request: MarketDataRequest, arrived: datetime) -> RawResponse:
    body = routes.answer(market, DUE, request.path, dict(request.params)).body
    return RawResponse(request, 200, body, (), arrived, arrived)


def _built(folder: Path, attempts: list[tuple[list[RawResponse], list[Gap]]]) -> set[tuple[str, datetime]]:
    """Scope and time of the snapshots in the table made of these attempts."""
    archive = Archive(folder / "raw")
    for responses, gaps in attempts:
        with archive.begin(dataset="options", session_date=DAY, scheduled_time=DUE, started_time=DUE) as writer:
            for response in responses:
                writer.append(response)
            for gap in gaps:
                writer.note_gap(gap)
            writer.seal(RETRIED)
    (built,) = build_tables(folder, "options", [DAY], workers=1, created_time=RETRIED)
    assert built.status == "built"
    rows = TableStore(folder).scan("tables", "options", schema=DATASETS["options"].schema).collect()
    return set(rows.select("chain_scope", "snapshot_time").unique().iter_rows())


@pytest.mark.parametrize("is_named", [True, False])
def test_attempts_at_a_snapshot_make_one_chain(tmp_path: Path, is_named: bool) -> None:
    """The missing piece comes a minute and a half later: all rows are of one full chain, complete at that time.

    Whether the gap names the request or the first attempt was cut off; the control without any gap is two parts.
    """
    market = Market(7)
    near, far = options.split(options.requests(["AAPL"])[0], session_date=DAY)
    first, second = _answered(market, near, DUE), _answered(market, far, RETRIED)
    named, cut = Gap("options", ("AAPL",), "unavailable", "", far), Gap("options", (), "interrupted", "")
    attempts = [([first], [named if is_named else cut]), ([second], list[Gap]())]
    assert _built(tmp_path / "data", attempts) == {("full", RETRIED)}
    control = _built(tmp_path / "control", [([first], []), ([second], [])])
    assert ("full", RETRIED) not in control
    assert len(control) == 2
