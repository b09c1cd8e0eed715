"""A market, a running simulator and somebody who is logged in to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from visiting import BEFORE_CLOSE, SEED, MachineClock, Visitor, trusting

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.server import SimulatorServer


@pytest.fixture(scope="session")
def market() -> Market:
    """One synthetic market for all tests; it never changes."""
    return Market(SEED)


@pytest.fixture
def machine_clock() -> MachineClock:
    """A machine's clock under the test's control."""
    return MachineClock()


@pytest.fixture
def server(market: Market, machine_clock: MachineClock, tmp_path: Path) -> Iterator[SimulatorServer]:
    """A running simulator of the test's own, over that market."""
    running = SimulatorServer(
        seed=SEED, ca_file=tmp_path / "ca.pem", market=market, machine_now=machine_clock, now=lambda: BEFORE_CLOSE
    )
    with running:
        yield running


@pytest.fixture
def visitor(server: SimulatorServer) -> Iterator[Visitor]:
    """Somebody logged in to it."""
    with trusting(server.ca_file) as http:
        visitor = Visitor(server, http)
        visitor.log_in()
        yield visitor
