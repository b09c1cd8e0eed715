"""How fast the simulator's streamer sends: level-one field updates a second to one client over TLS.

Server and client are processes of their own, so that each has a core; the client only takes messages off the socket and
counts afterwards. A collector is measured against this source, which must not be the slower of the two.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import ssl
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
from websockets.asyncio.client import connect

from trade_analyst_pipeline.schwab.stream_requests import encode_requests, login, read_preference, subscription
from trade_analyst_pipeline.simulator.oauth import DEFAULT_REDIRECT_URIS, SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.simulator.streamer_desk import StreamRules

SYMBOLS = 50
UPDATES = 3_000_000
LIMIT = 300_000
_RUNS = 3
_FIELDS = range(52)
_START = datetime(2025, 12, 9, 14, 30, tzinfo=UTC)


@dataclass(frozen=True)
class SourceFigures:
    """The best of the runs: field updates a second of the clock, and of the server's processor time."""

    updates: int
    per_second: float
    per_processor_second: float


def source_figures() -> SourceFigures:
    """Measure a few times, each with a server of its own; the best of them."""
    return max((_measured() for _ in range(_RUNS)), key=lambda found: found.per_second)


def _measured() -> SourceFigures:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        process = context.Process(target=_serve, args=(theirs, ca_file))
        process.start()
        try:
            base_url = ours.recv()
            trusted = ssl.create_default_context(cafile=str(ca_file))
            messages, seconds, before = asyncio.run(_taken(base_url, trusted, ours))
            ours.send("processor")
            processor = ours.recv() - before
        finally:
            ours.send("end")
            process.join(30.0)
    updates = sum(_fields(message) for message in messages)
    return SourceFigures(updates, updates / seconds, updates / processor)


def _serve(control: Connection, ca_file: Path) -> None:
    """The simulator, telling its processor time when asked, until it is told to end."""
    with SimulatorServer(seed=7, ca_file=ca_file) as server:
        server.streamer.rules = StreamRules(speed=None, step_ms=1000)
        control.send(server.base_url)
        while control.recv() == "processor":
            used = resource.getrusage(resource.RUSAGE_SELF)
            control.send(used.ru_utime + used.ru_stime)


async def _taken(base_url: str, trusted: ssl.SSLContext, control: Connection) -> tuple[list[str], float, float]:
    """Messages of data after the images, how long they took, and the server's processor time before them."""
    at = f"{base_url}/at/{_START.isoformat().replace('+00:00', 'Z')}"
    token = _logged_in(base_url, trusted)
    headers = {"authorization": f"Bearer {token}"}
    told = httpx.get(f"{at}/trader/v1/userPreference", headers=headers, verify=trusted, trust_env=False)
    address = read_preference(told.content)
    symbols = [f"SY{number:04d}" for number in range(1, SYMBOLS + 1)]
    async with connect(address.url, ssl=trusted, max_size=None, max_queue=None, compression=None) as socket:
        await socket.send(encode_requests(address, [login(1, address, token)]))
        await socket.recv()
        control.send("processor")
        before = control.recv()
        await socket.send(encode_requests(address, [subscription(2, "LEVELONE_EQUITIES", symbols, _FIELDS)]))
        await socket.recv()
        await socket.recv()
        messages, updates, started = list[str](), 0, time.perf_counter()
        while updates < UPDATES:
            message = str(await socket.recv())
            messages.append(message)
            updates += message.count('":') - 6
        return messages, time.perf_counter() - started, before


def _logged_in(base_url: str, trusted: ssl.SSLContext) -> str:
    """An access token, through the whole flow."""
    with httpx.Client(verify=trusted, trust_env=False, timeout=30.0) as http:
        asked = {"response_type": "code", "client_id": SIMULATOR_APP_KEY, "redirect_uri": DEFAULT_REDIRECT_URIS[0]}
        there = http.get(f"{base_url}/v1/oauth/authorize", params=asked).headers["location"]
        form = {"grant_type": "authorization_code", "code": parse_qs(urlsplit(there).query)["code"][0]}
        answer = http.post(
            f"{base_url}/v1/oauth/token",
            data=form | {"redirect_uri": DEFAULT_REDIRECT_URIS[0]},
            auth=(SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET),
        )
        return str(answer.json()["access_token"])


def _fields(message: str) -> int:
    """Field updates in a message: the members of its items without their keys."""
    parts = msgspec.json.decode(message).get("data", ())
    return sum(len(item) - 1 for part in parts for item in part["content"])


if __name__ == "__main__":
    print(json.dumps(vars(source_figures()), indent=1))
