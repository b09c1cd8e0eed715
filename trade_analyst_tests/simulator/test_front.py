"""Scenarios that name failures below HTTP: the fault proxy stands in the server's place."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from visiting import BEFORE_CLOSE, SEED, Visitor, trusting

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.scenario import load_scenario
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.simulator.wire_faults import WIRE_FAULTS

CHAIN = {"symbol": "AAPL", "strikeCount": 2, "toDate": "2025-12-31"}


@contextmanager
def playing(text: str, market: Market, folder: Path, **options: object) -> Iterator[SimulatorServer]:
    """A server that plays a scenario."""
    (folder / "scenario.toml").write_text(text, encoding="utf-8")
    scenario = load_scenario(folder / "scenario.toml")
    server = SimulatorServer(
        seed=SEED,
        ca_file=folder / "ca.pem",
        market=market,
        now=lambda: BEFORE_CLOSE,
        scenario=scenario,
        **options,  # type: ignore[arg-type]
    )
    with server:
        yield server


def test_a_fault_of_the_wire_strikes_whom_the_file_names(market: Market, tmp_path: Path) -> None:
    """The chain of AAPL ends half way through its body, once; log-in, quotes and the next chain are well."""
    text = "[[fault]]\nkind = 'end-in-body'\npath = '/chains'\nsymbol = 'AAPL'"
    with playing(text, market, tmp_path) as server, trusting(server.ca_file) as http:
        visitor = Visitor(server, http)
        visitor.log_in()
        assert visitor.get("/quotes", symbols="AAPL").status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            visitor.get("/chains", **CHAIN)
        assert visitor.json("/chains", **CHAIN)["status"] == "SUCCESS"
        assert server.requests["/chains"] == 2


def test_both_layers_play_together(market: Market, tmp_path: Path) -> None:
    """A fault of the answers and one of the wire in one file, each at its path."""
    text = "[[fault]]\nkind = 'server-error'\npath = '/quotes'\n[[fault]]\nkind = 'bad-chunk-size'\npath = '/chains'"
    with playing(text, market, tmp_path) as server, trusting(server.ca_file) as http:
        visitor = Visitor(server, http)
        visitor.log_in()
        assert visitor.get("/quotes", symbols="AAPL").status_code == 500
        with pytest.raises(httpx.RemoteProtocolError):
            visitor.get("/chains", **CHAIN)


def test_a_fault_before_tls_strikes_connections(market: Market, tmp_path: Path) -> None:
    """The first connection is closed at once, the second one is served."""
    with playing("[[fault]]\nkind = 'end-at-connect'", market, tmp_path) as server, trusting(server.ca_file) as http:
        with pytest.raises(httpx.ConnectError):
            http.get(server.base_url)
        assert http.get(server.base_url).status_code == 404


def test_the_proxys_certificate_carries_the_names(market: Market, tmp_path: Path) -> None:
    """Who connects under another name is shown a certificate for it, by the one authority that is written down."""
    names = ("api.schwabapi.com",)
    with playing("[[fault]]\nkind = 'silence'\npath = '/none'", market, tmp_path, names=names) as server:
        port = int(server.base_url.rpartition(":")[2])
        context = ssl.create_default_context(cafile=str(server.ca_file))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5.0) as plain,
            context.wrap_socket(plain, server_hostname=names[0]) as wrapped,
        ):
            assert wrapped.version() is not None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "scenario.toml"]


def test_a_taken_port_is_reported_and_nothing_stays_open(market: Market, tmp_path: Path) -> None:
    """The same OSError as without a proxy; afterwards the server can be started."""
    (tmp_path / "scenario.toml").write_text("[[fault]]\nkind = 'silence'\npath = '/none'", encoding="utf-8")
    scenario = load_scenario(tmp_path / "scenario.toml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = SimulatorServer(seed=SEED, ca_file=tmp_path / "ca.pem", market=market, port=port, scenario=scenario)
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            server.start()
    with server, trusting(server.ca_file) as http:
        assert server.base_url.endswith(f":{port}")
        assert http.get(server.base_url).status_code == 404


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[fault]]\nkind = 'black-hole'\npath = '/chains'", "fault 1 (black-hole) takes no path"),
        ("[[fault]]\nkind = 'end-in-body'\nskip = 2\nseconds = 1.0", "fault 1 (end-in-body) takes no seconds, skip"),
        ("[[fault]]\nkind = 'silence'\ninstant = 2026-01-05T20:55:00Z", "fault 1 (silence) takes no instant"),
    ],
)
def test_what_the_wire_cannot_be_told_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """Before TLS nobody knows a path; below HTTP nobody knows an instant, and kinds need nothing."""
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_scenario(tmp_path / "bad.toml")
    assert problem in str(refused.value)


def test_the_page_lists_every_fault_of_the_wire() -> None:
    """Name and summary stand in one row of docs/simulator.md."""
    page = (Path(__file__).resolve().parents[2] / "docs/simulator.md").read_text(encoding="utf-8")
    rows = page.splitlines()
    for name, fault in WIRE_FAULTS.items():
        assert any(row.startswith(f"| `{name}` |") and (fault.summary in row or row.count("|") > 3) for row in rows), (
            name
        )
