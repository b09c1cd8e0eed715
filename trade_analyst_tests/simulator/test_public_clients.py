"""A client that others wrote for the real source works on the simulator: only the host it talks to is another.

schwab-py has `https://api.schwabapi.com` in its code; its session sends to the simulator what it addresses there, and
the browser's stand-in opens there the link it shows. Nothing else of it is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import ssl
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from streaming import MIDDAY
from visiting import BEFORE_CLOSE, SEED, Visitor, trusting

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.simulator.streamer_desk import StreamRules

schwab = pytest.importorskip("schwab", reason="NOT RUN: schwab-py is not installed")

REAL = "https://api.schwabapi.com"


@pytest.fixture
def redirect_uri() -> str:
    """A redirect address on a free port, without a path as schwab-py's manual recommends it."""
    while True:
        port = secrets.choice(range(12_000, 32_000))  # below those of outgoing connections
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return f"https://127.0.0.1:{port}"


@pytest.fixture
def source(market: Market, redirect_uri: str, tmp_path: Path) -> Iterator[SimulatorServer]:
    """A simulator of its own, on the machine's clock, with the market before its close."""
    with SimulatorServer(
        seed=SEED,
        market=market,
        ca_file=tmp_path / "ca.pem",
        redirect_uris=(redirect_uri,),
        now=lambda: BEFORE_CLOSE,
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def _sent_to_the_simulator(source: SimulatorServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Map the real source's host to the simulator in schwab-py's session, and close the sessions it leaves open."""
    sessions: list[Any] = []
    context = ssl.create_default_context(cafile=str(source.ca_file))
    host, _, port = source.base_url.removeprefix("https://").partition(":")

    class Mapped(schwab.auth.OAuth2Client):  # type: ignore[name-defined,misc]  # the library has no types
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, verify=context, trust_env=False, **options)
            sessions.append(self)

        def send(self, request: Any, **options: Any) -> Any:
            assert str(request.url).startswith(REAL)
            request.url = request.url.copy_with(host=host, port=int(port))
            return super().send(request, **options)

    monkeypatch.setattr(schwab.auth, "OAuth2Client", Mapped)
    yield
    for session in sessions:
        session.close()


def consented(source: SimulatorServer, url: str) -> str:
    """The address that the link shown by schwab-py leads to, with the host mapped."""
    assert url.startswith(f"{REAL}/v1/oauth/authorize?")
    with trusting(source.ca_file) as http:
        return http.get(url.replace(REAL, source.base_url, 1)).headers["location"]


def log_in_by_hand(source: SimulatorServer, redirect_uri: str, token_file: Path, monkeypatch: Any, capsys: Any) -> Any:
    """schwab-py's manual flow, with somebody who opens the link and pastes the address."""

    def paste(_: str) -> str:
        (link,) = [line.strip() for line in capsys.readouterr().out.splitlines() if "oauth/authorize" in line]
        return consented(source, link)

    monkeypatch.setattr("builtins.input", paste)
    return schwab.auth.client_from_manual_flow(
        SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET, redirect_uri, str(token_file), enforce_enums=True
    )


@pytest.mark.auth_real_flow
@pytest.mark.parametrize("rotation", ["same", "rotate", "omit"])
def test_schwab_py_logs_in_refreshes_and_reads(
    source: SimulatorServer,
    redirect_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rotation: Any,
) -> None:
    """Manual login; then, from its token file, a refresh before each of three requests; quotes and a chain as ours."""
    desk, token_file = source.desk, tmp_path / "token.json"
    desk.rotation, desk.access_seconds, desk.single_use_refresh = rotation, 200, True  # it refreshes 300 s ahead
    log_in_by_hand(source, redirect_uri, token_file, monkeypatch, capsys)
    assert (desk.exchanges, desk.refreshes) == (1, 0)
    client = schwab.auth.client_from_token_file(str(token_file), SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET)
    quotes = client.get_quotes(["AAPL", "$SPX", "BRK/B"])
    chain = client.get_option_chain("AAPL", strike_count=4, include_underlying_quote=True)
    history = client.get_price_history_every_day("AAPL")
    assert [answer.status_code for answer in (quotes, chain, history)] == [200, 200, 200]
    assert (desk.refreshes, desk.reuses, desk.refusals) == (3, 0, 0)
    with trusting(source.ca_file) as http:
        ours = Visitor(source, http, json.loads(token_file.read_text())["token"])
        assert quotes.json() == ours.json("/quotes", symbols="AAPL,$SPX,BRK/B")
        assert chain.json() == ours.json("/chains", symbol="AAPL", strikeCount=4, includeUnderlyingQuote="true")
    assert sorted(quotes.json()) == ["$SPX", "AAPL", "BRK/B"]
    assert chain.json()["numberOfContracts"] > 20
    assert chain.json()["underlying"]["symbol"] == "AAPL"
    assert len(history.json()["candles"]) > 1000


@pytest.mark.auth_real_flow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_schwab_py_logs_in_through_its_own_listener(
    source: SimulatorServer, redirect_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its browser flow: its listener gets the simulator's redirect, and its client reads a quote."""
    monkeypatch.setattr(webbrowser, "get", lambda _: Browser(source))
    client = schwab.auth.client_from_login_flow(
        SIMULATOR_APP_KEY,
        SIMULATOR_APP_SECRET,
        redirect_uri,
        str(tmp_path / "token.json"),
        callback_timeout=20.0,
        interactive=False,
    )
    assert client.get_quote("AAPL").json()["AAPL"]["symbol"] == "AAPL"
    assert source.desk.exchanges == 1


class Browser:
    """Opens a link and follows it to the listener, whose certificate it accepts as a person would."""

    def __init__(self, source: SimulatorServer) -> None:
        self._source = source

    def open(self, url: str) -> None:
        """Go there."""
        httpx.get(consented(self._source, url), verify=False, trust_env=False)  # noqa: S501 - as a person would


SERVICES = {
    "level_one_equity": ("AAPL", "BID_PRICE"),
    "level_one_option": ("AAPL  251219C00240000", "BID_PRICE"),
    "level_one_futures": ("/ES", "BID_PRICE"),
    "chart_equity": ("MSFT", "CLOSE_PRICE"),
    "nasdaq_book": ("AAPL", "BIDS"),
    "nyse_book": ("JPM", "BIDS"),
    "options_book": ("AAPL  251219C00240000", "BIDS"),
}


@pytest.mark.auth_real_flow
@pytest.mark.filterwarnings("ignore:.*websockets:DeprecationWarning", "ignore:remove second argument of ws_handler")
def test_schwab_py_streams(
    source: SimulatorServer,
    redirect_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Login, a subscription of each service, image and changes by the library's own field names, logout."""
    source.streamer.rules = StreamRules(speed=60.0, step_ms=1000)
    monkeypatch.setattr(source._app, "_now", lambda: MIDDAY)  # hours before the close
    host, _, port = source.base_url.removeprefix("https://").partition(":")
    reach = schwab.streaming.ws_client.connect

    def mapped(url: str, **options: Any) -> Any:
        assert url == "wss://api.schwabapi.com/ws"
        return reach(f"wss://{host}:{port}/ws", **options)

    monkeypatch.setattr(schwab.streaming.ws_client, "connect", mapped)
    client = log_in_by_hand(source, redirect_uri, tmp_path / "token.json", monkeypatch, capsys)
    stream = schwab.streaming.StreamClient(client, ssl_context=ssl.create_default_context(cafile=str(source.ca_file)))
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in SERVICES}

    async def whole() -> None:
        await stream.login()
        for name, (symbol, _) in SERVICES.items():
            getattr(stream, f"add_{name}_handler")(lambda told, name=name: seen[name].extend(told["content"]))
            await getattr(stream, f"{name}_subs")([symbol])
        while not all(len(items) > 1 for items in seen.values()):
            await asyncio.wait_for(stream.handle_message(), 20.0)
        await stream.level_one_equity_add(["MSFT"])
        await stream.level_one_equity_unsubs(["AAPL"])
        await stream.logout()

    asyncio.run(whole())
    assert source.streamer.logins == 1
    for name, (symbol, field) in SERVICES.items():
        first, *later = [item for item in seen[name] if item["key"] == symbol]
        assert field in first
        assert later
    first, *later = (item for item in seen["level_one_equity"])
    assert first["cusip"] == "037833100"
    assert len(first) > 50
    assert all(len(item) < 40 for item in later)
    bar = seen["chart_equity"][0]
    history = source.market.minute_bars("MSFT", MIDDAY.date())
    row = history.filter(history["start_time"].dt.epoch("ms") == bar["CHART_TIME_MILLIS"])
    assert (row["close"][0], row["volume"][0]) == (bar["CLOSE_PRICE"], bar["VOLUME"])


@pytest.mark.auth_real_flow
def test_control_the_simulator_refuses_schwab_py_too(
    source: SimulatorServer,
    redirect_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Known-bad controls: a code that is too old, an address not registered, and a dead refresh token all fail."""
    source.desk.code_seconds = -1.0
    with pytest.raises(Exception, match="invalid_grant"):
        log_in_by_hand(source, redirect_uri, tmp_path / "token.json", monkeypatch, capsys)
    source.desk.code_seconds = 30.0
    with pytest.raises(KeyError, match="location"):
        log_in_by_hand(source, redirect_uri + "/", tmp_path / "token.json", monkeypatch, capsys)
    source.desk.access_seconds = 200
    log_in_by_hand(source, redirect_uri, tmp_path / "token.json", monkeypatch, capsys)
    source.desk.revoke()
    client = schwab.auth.client_from_token_file(str(tmp_path / "token.json"), SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET)
    with pytest.raises(Exception, match="unsupported_token_type"):
        client.get_quote("AAPL")
