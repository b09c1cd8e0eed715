"""The streamer over a real socket: TLS, WebSocket, the whole bootstrap, and ends that a library would not make."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from streaming import MIDDAY, request
from visiting import Visitor
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.simulator.streamer_desk import StreamRules

EQUITIES = "LEVELONE_EQUITIES"
FAST = StreamRules(speed=60.0, step_ms=500)


@pytest.fixture
def server(server: SimulatorServer) -> SimulatorServer:
    """The running simulator with its streamer as good as new, an hour a minute."""
    server.streamer.reset()
    server.streamer.rules = FAST
    return server


@dataclass
class Client:
    """A connected client."""

    visitor: Visitor
    socket: ClientConnection
    asked: int = 0

    async def ask(self, service: str, command: str, **parameters: str) -> dict[str, Any]:
        """The content of the answer to a request; data that comes before it is passed over."""
        self.asked += 1
        desk = self.visitor.server.streamer
        await self.socket.send(json.dumps({"requests": [request(desk, self.asked, service, command, **parameters)]}))
        while True:
            value = await self.value()
            if "response" in value:
                return value["response"][0]["content"]

    async def value(self) -> dict[str, Any]:
        """The next message."""
        return json.loads(await asyncio.wait_for(self.socket.recv(), 20.0))

    async def items(self, count: int) -> list[dict[str, Any]]:
        """So many data items."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += [item for part in (await self.value()).get("data", ()) for item in part["content"]]
        return found

    async def end(self) -> ConnectionClosed:
        """How the connection ends; what comes before is passed over."""
        try:
            while True:
                await asyncio.wait_for(self.socket.recv(), 20.0)
        except ConnectionClosed as closed:
            return closed

    async def log_in(self) -> Client:
        """With the token of the visitor."""
        answer = await self.ask("ADMIN", "LOGIN", Authorization=self.visitor.tokens["access_token"])
        assert answer["code"] == 0
        return self


def preference(visitor: Visitor, at: datetime | None = MIDDAY) -> dict[str, Any]:
    """Where the streamer is, as userPreference says."""
    base = visitor.server.base_url if at is None else visitor.server.at(at)
    headers = {"authorization": f"Bearer {visitor.tokens['access_token']}"}
    answer = visitor.http.get(f"{base}/trader/v1/userPreference", headers=headers)
    return answer.json()["streamerInfo"][0]


@asynccontextmanager
async def connected(visitor: Visitor) -> AsyncIterator[Client]:
    """A client at the address of userPreference."""
    context = ssl.create_default_context(cafile=str(visitor.server.ca_file))
    url = preference(visitor)["streamerSocketUrl"]
    async with connect(url, ssl=context, max_size=8 << 20, close_timeout=1.0) as socket:
        yield Client(visitor, socket)


def run(visitor: Visitor, talk: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    """Let a client talk."""

    async def whole() -> None:
        async with connected(visitor) as client:
            await talk(client)

    asyncio.run(whole())


def test_user_preference_names_the_streamer(server: SimulatorServer, visitor: Visitor) -> None:
    """Address under the same instant, ids, channel; 401 without a good token."""
    told = preference(visitor)
    assert told["streamerSocketUrl"] == server.at(MIDDAY).replace("https", "wss") + "/ws"
    assert preference(visitor, None)["streamerSocketUrl"] == server.base_url.replace("https", "wss") + "/ws"
    assert (len(told["schwabClientCustomerId"]), told["schwabClientChannel"]) == (64, "N9")
    refused = visitor.http.get(f"{server.base_url}/trader/v1/userPreference", headers={"authorization": "Bearer x"})
    assert (refused.status_code, refused.json()) == (401, {"message": "Unauthorized"})


def test_a_client_streams_over_tls(server: SimulatorServer, visitor: Visitor) -> None:
    """Login, image, changes; every print of the first minutes as the truth of the same address tells it; logout."""

    async def talk(client: Client) -> None:
        await client.log_in()
        assert (await client.ask(EQUITIES, "SUBS", keys="AAPL", fields="0,1,2,3,8,9,35"))["code"] == 0
        first, *later = await client.items(600)
        last = max(item.get("35", 0) for item in later)
        params = {"symbol": "AAPL", "first": MIDDAY.isoformat(), "until": (MIDDAY + timedelta(hours=1)).isoformat()}
        rows = csv.DictReader(io.StringIO(visitor.http.get(f"{server.base_url}/truth/prints", params=params).text))
        truth = [row for row in rows if first["35"] < _ms(row["time"]) < last]
        seen, volume = [], first["8"]
        for item in later:
            if "8" in item:
                seen.append(item["8"] - volume)
                volume = item["8"]
        assert len(truth) > 50
        assert seen[: len(truth)] == [int(row["size"]) for row in truth]
        assert (await client.ask("ADMIN", "LOGOUT"))["msg"] == "SUCCESS"
        assert (await client.end()).rcvd.code == 1000

    run(visitor, talk)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("+0000", "+00:00")).timestamp() * 1000)


def test_a_second_connection_ends_the_first(visitor: Visitor) -> None:
    """The older one gets code 12 and is closed."""

    async def talk(client: Client) -> None:
        await client.log_in()
        async with connected(visitor) as newer:
            await newer.log_in()
            value = await client.value()
            assert value["notify"][0]["content"]["code"] == 12
            assert (await client.end()).rcvd.code == 1000

    run(visitor, talk)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("close-restart", 1012), ("close-error", 1011), ("reset", None), ("end", None), ("cut-frame", None)],
)
def test_ends_with_and_without_a_goodbye(
    server: SimulatorServer, visitor: Visitor, fault: str, code: int | None
) -> None:
    """A close has its code; a reset, an end and a cut frame have none. The next connection goes on."""

    async def talk(client: Client) -> None:
        await client.log_in()
        server.streamer.faults.add(fault, skip=1)
        await client.ask(EQUITIES, "SUBS", keys="AAPL", fields="0,1,2,3,8")
        ended = await client.end()
        assert (ended.rcvd.code if ended.rcvd else None) == code
        assert isinstance(ended.__cause__, ConnectionResetError) == (fault in {"reset", "cut-frame"})
        async with connected(visitor) as newer:
            await newer.log_in()
            await newer.ask(EQUITIES, "SUBS", keys="AAPL", fields="0,1,2,3,8")
            assert "delayed" in (await newer.items(1))[0]

    run(visitor, talk)


@pytest.mark.parametrize("fault", ["drip", "fragments", "giant", "stall"])
def test_slow_broken_and_giant_frames_arrive_whole(server: SimulatorServer, visitor: Visitor, fault: str) -> None:
    """The client's library puts them together, and nothing is missing."""
    told = {"stall": {"seconds": 1.0}}.get(fault, {})

    async def talk(client: Client) -> None:
        await client.log_in()
        server.streamer.faults.add(fault, skip=1, **told)
        await client.ask(EQUITIES, "SUBS", keys="AAPL", fields="0,8")
        first, *later = await client.items(40)
        volumes = [first["8"], *(item["8"] for item in later)]
        rises = [after - before for before, after in pairwise(volumes)]
        truth = server.streamer.tape.prints("AAPL", MIDDAY, MIDDAY + timedelta(hours=1))["size"].to_list()
        start = next(place for place in range(len(truth)) if truth[place : place + len(rises)] == rises)
        assert start < 200

    run(visitor, talk)


def test_a_text_that_is_no_utf_8_ends_it(server: SimulatorServer, visitor: Visitor) -> None:
    """The client's library closes with 1007, as the standard wants; a binary message comes as bytes."""

    async def talk(client: Client) -> None:
        await client.log_in()
        server.streamer.faults.add("binary")
        server.streamer.faults.add("bad-utf8")
        await client.ask(EQUITIES, "SUBS", keys="AAPL", fields="0,8")
        assert isinstance(await client.socket.recv(), bytes)
        assert (await client.end()).sent.code == 1007

    run(visitor, talk)


def test_an_expired_token_does_not_log_in(server: SimulatorServer, visitor: Visitor, machine_clock: Any) -> None:
    """Code 3 once the token's half hour is over; a connection that has logged in goes on."""

    async def talk(client: Client) -> None:
        await client.log_in()
        machine_clock.seconds += 1801.0
        await client.ask(EQUITIES, "SUBS", keys="AAPL", fields="0,8")
        assert await client.items(3)
        async with connected_with(preferred, server) as late:
            answer = await Client(visitor, late).ask("ADMIN", "LOGIN", Authorization=visitor.tokens["access_token"])
            assert answer["code"] == 3

    preferred = preference(visitor)["streamerSocketUrl"]
    run(visitor, talk)


@asynccontextmanager
async def connected_with(url: str, server: SimulatorServer) -> AsyncIterator[ClientConnection]:
    """A socket at an address known from before."""
    async with connect(url, ssl=ssl.create_default_context(cafile=str(server.ca_file))) as socket:
        yield socket


def test_the_truth_refuses_what_it_does_not_know(server: SimulatorServer, visitor: Visitor) -> None:
    """404 for a symbol without a flow, 400 for instants that are none; quotes are told too."""
    asked = {"first": MIDDAY.isoformat(), "until": (MIDDAY + timedelta(minutes=1)).isoformat()}
    get = visitor.http.get
    assert get(f"{server.base_url}/truth/prints", params=asked | {"symbol": "NOPE"}).status_code == 404
    assert get(f"{server.base_url}/truth/prints", params={"symbol": "AAPL"}).status_code == 400
    quotes = get(f"{server.base_url}/truth/quotes", params=asked | {"symbol": "AAPL"}).text.splitlines()
    assert quotes[0] == "symbol,time,bid,ask,bid_size,ask_size,is_shown"
    assert len(quotes) > 5


def test_an_address_that_is_no_instant_is_closed(server: SimulatorServer) -> None:
    """Before anything is said."""

    async def whole() -> None:
        url = f"{server.base_url.replace('https', 'wss')}/at/noon/ws"
        with pytest.raises(Exception, match="403"):
            async with connected_with(url, server):
                pass

    asyncio.run(whole())
