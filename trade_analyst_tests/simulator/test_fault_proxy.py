"""The fault proxy: what it passes on, and whom it strikes. What each fault does: schwab/test_fault_matrix.py."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from visiting import Visitor, trusting

from trade_analyst_pipeline.simulator.fault_proxy import WIRE_FAULTS, FaultProxy, forwarding
from trade_analyst_pipeline.simulator.server import SimulatorServer


@pytest.fixture
def proxy(server: SimulatorServer, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy in front of the simulator."""
    with FaultProxy(forwarding(server.base_url, server.ca_file), ca_file=tmp_path / "ca.pem") as found:
        yield found


@pytest.fixture
def http(proxy: FaultProxy, visitor: Visitor) -> Iterator[httpx.Client]:
    """Somebody logged in at the simulator who talks to the proxy."""
    with trusting(proxy.ca_file) as client:
        client.headers["authorization"] = f"Bearer {visitor.tokens['access_token']}"
        yield client


def quotes(proxy: FaultProxy, http: httpx.Client, symbols: str = "AAPL", base: str | None = None) -> httpx.Response:
    """Ask for quotes."""
    return http.get(f"{base or proxy.base_url}/marketdata/v1/quotes", params={"symbols": symbols})


def test_what_is_not_struck_is_passed_on(proxy: FaultProxy, http: httpx.Client, visitor: Visitor) -> None:
    """Path, query, token and body arrive, and the simulator's answer comes back as it gave it."""
    answered = quotes(proxy, http, "AAPL,BRK/B")
    assert answered.json() == visitor.json("/quotes", at=None, symbols="AAPL,BRK/B")
    assert answered.headers["content-type"] == "application/json;charset=UTF-8"
    assert answered.headers["schwab-resource-version"] == "1"
    asked = proxy.requests[-1]
    assert (asked.ask.path, asked.ask.symbols) == ("/quotes", ("AAPL", "BRK/B"))
    refused = http.post(f"{proxy.base_url}/v1/oauth/token", data={"grant_type": "refresh_token", "refresh_token": "x"})
    assert refused.status_code in (400, 401)
    assert proxy.requests[-1].body == b"grant_type=refresh_token&refresh_token=x"


def test_a_strike_is_for_some_requests_only(proxy: FaultProxy, http: httpx.Client) -> None:
    """Path, symbol and number of times decide; what was struck is counted, and clear() ends it."""
    struck = proxy.strike("server-error", path="/quotes", symbol="MSFT", times=2)
    statuses = [quotes(proxy, http, symbols).status_code for symbols in ("AAPL", "AAPL,MSFT", "MSFT", "MSFT")]
    assert statuses == [200, 500, 500, 200]
    assert struck.rule.struck == 2
    proxy.strike("overload", times=None)
    assert [quotes(proxy, http).status_code for _ in range(3)] == [529] * 3
    proxy.clear()
    assert quotes(proxy, http).status_code == 200


def test_an_address_names_a_fault(proxy: FaultProxy, http: httpx.Client) -> None:
    """Every request below it is struck, nothing else; a name that is none is 404; one before TLS has no address."""
    assert quotes(proxy, http, base=proxy.url_with("maintenance")).status_code == 503
    assert quotes(proxy, http).status_code == 200
    assert quotes(proxy, http, base=f"{proxy.base_url}/fault/no-such").status_code == 404
    with pytest.raises(ValueError, match="acts before a request is known"):
        proxy.url_with("black-hole")


def test_a_fault_before_tls_strikes_connections(proxy: FaultProxy, http: httpx.Client) -> None:
    """The next connection is refused its handshake, the one after that works."""
    proxy.strike("handshake-alert")
    with pytest.raises(httpx.ConnectError):
        quotes(proxy, http)
    assert quotes(proxy, http).status_code == 200


def received(connection: socket.socket) -> bytes:
    """What comes before the connection ends, however it ends; raises TimeoutError when it does not."""
    try:
        return connection.recv(64)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_whoever_does_not_speak_http_is_left(proxy: FaultProxy, http: httpx.Client) -> None:
    """Junk, no TLS at all, or nothing: the connection ends, and the proxy goes on."""
    host, port = "127.0.0.1", int(proxy.base_url.rpartition(":")[2])
    with socket.create_connection((host, port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert not received(plain).startswith(b"HTTP")
    context = ssl.create_default_context(cafile=str(proxy.ca_file))
    with context.wrap_socket(socket.create_connection((host, port), timeout=5), server_hostname=host) as talking:
        talking.sendall(b"hello\r\n\r\n")
        assert received(talking) == b""
    assert quotes(proxy, http).status_code == 200


def test_thirty_kinds_and_more() -> None:
    """Names are plain words joined by dashes, each with a sentence of its own."""
    assert len(WIRE_FAULTS) >= 30
    assert all(name == fault.name and name.replace("-", "").isalnum() for name, fault in WIRE_FAULTS.items())
    assert len({fault.summary for fault in WIRE_FAULTS.values()}) == len(WIRE_FAULTS)
