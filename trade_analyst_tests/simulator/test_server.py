"""The running server: TLS, base addresses, headers, counters, start and stop."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from visiting import BEFORE_CLOSE, SEED, Visitor, trusting

from trade_analyst_pipeline.simulator.application import parse_instant
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer, create_app


def test_only_its_own_authority_is_trusted(server: SimulatorServer) -> None:
    """The address is loopback TLS; a client with the usual authorities refuses it, one with the CA file accepts it."""
    assert server.base_url.startswith("https://127.0.0.1:")
    with httpx.Client(verify=ssl.create_default_context(), trust_env=False) as http, pytest.raises(httpx.ConnectError):
        http.get(server.base_url)
    with trusting(server.ca_file) as http:
        assert http.get(server.base_url).status_code == 404
        assert http.get(server.base_url.replace("127.0.0.1", "localhost")).status_code == 404


def test_the_key_is_not_left_on_disk(server: SimulatorServer) -> None:
    """The CA file holds one certificate and no key."""
    text = server.ca_file.read_text(encoding="ascii")
    assert text.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in text
    assert sorted(path.name for path in server.ca_file.parent.iterdir()) == [server.ca_file.name]


def test_the_instant_comes_from_the_base_address(visitor: Visitor, market: Market) -> None:
    """Two instants asked about at the same time each have their own prices; the plain address follows the clock."""
    instants = [datetime(2025, 3, day, 18, 0, tzinfo=UTC) for day in (3, 4, 5, 6)] * 4
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda instant: visitor.json("/quotes", instant, symbols="AAPL"), instants))
    shown = [body["AAPL"]["quote"]["lastPrice"] for body in bodies]
    assert shown == [market.price("AAPL", instant) for instant in instants]
    by_clock = visitor.json("/quotes", None, symbols="AAPL")["AAPL"]["quote"]["lastPrice"]
    assert by_clock == market.price("AAPL", BEFORE_CLOSE)


def test_answers_are_reproducible(visitor: Visitor) -> None:
    """The same request at the same instant has the same bytes."""
    asked = {"symbol": "SPY", "strikeCount": 4, "toDate": "2025-12-31"}
    assert visitor.get("/chains", **asked).content == visitor.get("/chains", **asked).content


@pytest.mark.parametrize("text", ["2026-01-05T20:55:00", "yesterday"])
def test_an_instant_without_zone_is_refused(visitor: Visitor, text: str) -> None:
    """A base address that names no instant is a 400."""
    response = visitor.http.get(f"{visitor.server.base_url}/at/{text}/marketdata/v1/quotes?symbols=AAPL")
    assert response.status_code == 400
    with pytest.raises(ValueError, match=r"zone|Invalid"):
        parse_instant(text)


def test_headers_are_those_of_the_source(visitor: Visitor) -> None:
    """Content type, resource version and caching are as observed; the correlation id is echoed or made up."""
    response = visitor.get("/quotes", symbols="AAPL")
    assert response.headers["content-type"] == "application/json;charset=UTF-8"
    assert response.headers["schwab-resource-version"] == "1"
    assert (response.headers["cache-control"], response.headers["expires"]) == ("no-store", "-1")
    assert len(response.headers["schwab-client-correlid"]) == 36
    sent = {"schwab-client-correlid": "mine", "authorization": f"Bearer {visitor.tokens['access_token']}"}
    url = f"{visitor.server.base_url}/marketdata/v1/quotes?symbols=AAPL"
    assert visitor.http.get(url, headers=sent).headers["schwab-client-correlid"] == "mine"


def test_a_token_is_needed(visitor: Visitor) -> None:
    """No header is a 400 naming it, a wrong scheme or token a 401."""
    url = f"{visitor.server.base_url}/marketdata/v1/quotes?symbols=AAPL"
    missing = visitor.http.get(url)
    (error,) = missing.json()["errors"]
    assert (missing.status_code, error["detail"], error["source"]) == (
        400,
        "Missing header",
        {"header": "Authorization"},
    )
    for header in ("Bearer nonsense", f"Basic {visitor.tokens['access_token']}"):
        assert visitor.http.get(url, headers={"authorization": header}).status_code == 401


def test_symbols_with_slash_and_dollar_arrive(visitor: Visitor) -> None:
    """BRK/B and $SPX in a query, and $SPX in a path, are understood encoded."""
    assert set(visitor.json("/quotes", symbols="BRK/B,$SPX")) == {"BRK/B", "$SPX"}
    assert set(visitor.json("/%24SPX/quotes")) == {"$SPX"}
    assert visitor.json("/movers/%24SPX")["screeners"]


def test_requests_are_counted_by_path(visitor: Visitor) -> None:
    """The counter tells how often each path was asked for, whatever the answer."""
    visitor.server.requests.clear()
    visitor.get("/chains", symbol="AAPL", strikeCount=1)
    visitor.get("/chains", symbol="ZZZZ")
    visitor.get("/quotes", symbols="AAPL")
    assert visitor.server.requests == {"/chains": 2, "/quotes": 1}


def test_compression_is_a_switch(market: Market, tmp_path: Path) -> None:
    """Off by default; switched on, bodies go out as gzip to those who accept it, with the same content."""
    server = SimulatorServer(seed=SEED, ca_file=tmp_path / "ca.pem", market=market, compress=True)
    with server, trusting(server.ca_file) as http:
        visitor = Visitor(server, http)
        visitor.log_in()
        response = visitor.get("/chains", symbol="AAPL", strikeCount=2)
        assert response.headers["content-encoding"] == "gzip"
        assert response.json()["numberOfContracts"] > 0
        plain = http.get(response.url, headers={**response.request.headers, "accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == response.content


def test_start_and_stop_take_less_than_half_a_second(market: Market, tmp_path: Path) -> None:
    """Also with a client that keeps its connection open; afterwards the port is free and the address dead."""
    began = time.perf_counter()
    server = SimulatorServer(seed=SEED, ca_file=tmp_path / "ca.pem", market=market)
    server.start()
    started = time.perf_counter()
    with trusting(server.ca_file) as http:
        Visitor(server, http).log_in()
        stopping = time.perf_counter()
        server.stop()
        stopped = time.perf_counter()
        with pytest.raises(httpx.TransportError):
            http.get(server.base_url)
    assert started - began < 1.0
    assert stopped - stopping < 1.0
    server.stop()


def test_a_taken_port_is_reported(server: SimulatorServer, tmp_path: Path) -> None:
    """A second server on the same port raises OSError and leaves the first one alone."""
    port = int(server.base_url.rpartition(":")[2])
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        SimulatorServer(seed=SEED, ca_file=tmp_path / "other.pem", port=port).start()
    with trusting(server.ca_file) as http:
        assert http.get(server.base_url).status_code == 404


def test_the_application_can_be_served_elsewhere(market: Market) -> None:
    """create_app gives the application alone: an in-process transport gets the same refusals."""
    transport = httpx.ASGITransport(create_app(market))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="https://simulator") as http:
            return await http.get("/marketdata/v1/quotes")

    assert asyncio.run(ask()).status_code == 400


def test_app_credentials_have_the_sources_lengths() -> None:
    """Clients check for 32 or 48 characters of key and 16 or 64 of secret."""
    assert len(SIMULATOR_APP_KEY) == 32
    assert len(SIMULATOR_APP_SECRET) == 16


def test_serving_in_the_foreground_ends_on_a_signal(tmp_path: Path) -> None:
    """serve() prints one line once it listens, answers, and ends soon after an interrupt."""
    code = (
        "import sys; from pathlib import Path; from trade_analyst_pipeline.simulator.server import serve\n"
        "serve(port=0, seed=7, ca_file=Path(sys.argv[1]), announce=lambda line: print(line, flush=True))"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "ca.pem")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "simulator ready at https://127.0.0.1:" in line
        assert "seed 7" in line
        base = line.split()[3]
        with trusting(tmp_path / "ca.pem") as http:
            assert http.get(f"{base}/v1/oauth/authorize").status_code == 401
            process.send_signal(signal.SIGINT)
            process.wait(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode is not None


def test_numbers_are_plain_json(visitor: Visitor) -> None:
    """No NaN or Infinity token stands in any answer of a healthy server."""

    def refuse(token: str) -> None:
        raise AssertionError(token)

    evening = datetime(2025, 12, 9, 23, 0, tzinfo=UTC)
    for instant in (BEFORE_CLOSE, evening):
        for path, params in (
            ("/chains", {"symbol": "AAPL"}), ("/quotes", {"symbols": "AAPL,SPY,$SPX,$VIX,/ES,EUR/USD,AAAIX"}),
            ("/pricehistory", {"symbol": "AAPL", "periodType": "month", "frequencyType": "daily"}),
        ):  # fmt: skip
            json.loads(visitor.get(path, instant, **params).text, parse_constant=refuse)
