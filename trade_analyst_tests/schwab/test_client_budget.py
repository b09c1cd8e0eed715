"""What the client tells the shared budget of each answer, and with which class it asks for its slots."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.errors import DeadlineExceededError, SourceUnavailableError, SymbolNotFoundError
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.schwab.budget import Priority, RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.schwab.messages import MarketDataRequest

REQUEST = MarketDataRequest("options", "/chains", (("symbol", "SPY"),), ("SPY",))


def run(scene: Coroutine[Any, Any, Any]) -> Any:
    """The scene's result, within 30 s."""
    return asyncio.run(asyncio.wait_for(scene, 30))


@asynccontextmanager
async def sharing(
    wire: Any, server: Any, file: Path, *, deadline_seconds: float = 10.0, priority: Priority = Priority.INTRADAY
) -> AsyncIterator[tuple[SchwabClient, RequestBudget]]:
    """A client whose budget lies in a file, on a simulated clock."""
    clock = SimulatedClock(wire.start)
    budget = RequestBudget(per_minute=120, clock=clock, state_file=file)
    async with open_http(ca_file=wire.authority.file, in_flight=6) as http:
        client = SchwabClient(
            base_url=server.url,
            http=http,
            tokens=wire.tokens(),
            budget=budget,
            clock=clock,
            rng=random.Random(7),  # noqa: S311 - seeded jitter
            deadline_seconds=deadline_seconds,
            priority=priority,
        )
        yield client, budget


def test_five_failures_in_a_row_are_an_outage_and_an_answer_ends_it(wire: Any, tmp_path: Path) -> None:
    """A call of four tries and one of two more fail: from the fifth failure on it is a try each 30 s."""

    async def scene() -> None:
        replies = [*[wire.answer(503)] * 6, wire.answer(200, b"{}")]
        async with (
            wire.serving(*replies) as server,
            sharing(wire, server, tmp_path / "budget") as (client, budget),
        ):
            with pytest.raises(SourceUnavailableError):
                await client.fetch(REQUEST)
            assert not budget.state().is_down
            began = client._clock.now()
            response = await client.fetch(REQUEST)
            assert response.attempts == 3
            assert 60.0 <= (response.requested_time - began).total_seconds() < 65.0
            assert not budget.state().is_down

    run(scene())


def test_one_reset_of_all_connections_loses_no_request(wire: Any, tmp_path: Path) -> None:
    """Six requests under way break off at once: each is answered when repeated, and nobody takes it for an outage."""
    under_way: list[int] = []
    all_there = asyncio.Event()

    async def broken_off(writer: asyncio.StreamWriter) -> None:
        under_way.append(1)
        if len(under_way) == 6:
            all_there.set()
        await all_there.wait()
        writer.close()

    async def scene() -> None:
        replies = [*[broken_off] * 6, wire.answer(200, b"{}")]
        async with (
            wire.serving(*replies) as server,
            sharing(wire, server, tmp_path / "budget") as (client, budget),
        ):
            began = client._clock.now()
            responses = await asyncio.gather(*(client.fetch(REQUEST) for _ in range(6)))
            assert [response.attempts for response in responses] == [2] * 6
            assert max((each.requested_time - began).total_seconds() for each in responses) < 10.0
            assert not budget.state().is_down

    run(scene())


def test_a_refusal_of_one_symbol_is_an_answer(wire: Any, tmp_path: Path) -> None:
    """A 404 between failures says that the source is up: they are not five in a row."""

    async def scene() -> None:
        replies = [*[wire.answer(503)] * 4, wire.answer(404, b"{}"), *[wire.answer(503)] * 4]
        async with (
            wire.serving(*replies) as server,
            sharing(wire, server, tmp_path / "budget") as (client, budget),
        ):
            for error in (SourceUnavailableError, SymbolNotFoundError, SourceUnavailableError):
                with pytest.raises(error):
                    await client.fetch(REQUEST)
            assert not budget.state().is_down

    run(scene())


def test_calls_that_end_at_their_deadline_are_failures(wire: Any, tmp_path: Path) -> None:
    """A source that takes requests and says nothing is down after five of them."""

    async def scene() -> None:
        async with (
            wire.serving(wire.drip(b"", b"")) as server,
            sharing(wire, server, tmp_path / "budget", deadline_seconds=0.1) as (client, budget),
        ):
            for number in range(5):
                assert not budget.state().is_down, number
                with pytest.raises(DeadlineExceededError):
                    await client.fetch(REQUEST)
            assert budget.state().is_down

    run(scene())


def test_a_429_lowers_the_limit_of_all(wire: Any, tmp_path: Path) -> None:
    """Whoever opens the file learns it; the refusal counts once for the call."""

    async def scene() -> None:
        replies = wire.answer(429, Retry_After="3"), wire.answer(200, b"{}")
        async with (
            wire.serving(*replies) as server,
            sharing(wire, server, tmp_path / "budget") as (client, budget),
        ):
            await client.fetch(REQUEST)
            assert budget.usage.refusals == 1
        other = RequestBudget(per_minute=120, clock=SimulatedClock(wire.start), state_file=tmp_path / "budget")
        assert (other.state().learned, other.state().refusals) == (108, 1)

    run(scene())


@pytest.mark.parametrize("priority", list(Priority))
def test_every_slot_is_asked_for_in_the_clients_class(
    wire: Any, tmp_path: Path, priority: Priority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First tries and repeats alike."""
    asked: list[Priority] = []
    acquire = RequestBudget.acquire

    async def noted(budget: RequestBudget, own: Priority) -> Any:
        asked.append(own)
        return await acquire(budget, own)

    monkeypatch.setattr(RequestBudget, "acquire", noted)

    async def scene() -> None:
        async with (
            wire.serving(wire.answer(503), wire.answer(200, b"{}")) as server,
            sharing(wire, server, tmp_path / "budget", priority=priority) as (client, _),
        ):
            await client.fetch(REQUEST)

    run(scene())
    assert asked == [priority, priority]
