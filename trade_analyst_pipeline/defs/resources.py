"""What assets are given: the source and the storage, built from Settings; and what a client of the source is made of.

The only place where base addresses are chosen. A simulated source is asked at any instant through its address, with
a clock that stands there; the live source has one address and the machine's clock. Nothing downstream can tell them
apart.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from types import FrameType

from pydantic import SecretStr

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.gaps import Ledger
from trade_analyst_pipeline.capture.plan import (
    Scope,
    Snapshot,
    end_of_day_snapshot,
    is_capturable,
    latest_due,
    moments_due,
    not_begun,
    once_a_session,
)
from trade_analyst_pipeline.capture.requesting import Question, Source
from trade_analyst_pipeline.capture.take import Outcome, held, note_failure, take_each
from trade_analyst_pipeline.capture.urgency import urgency
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import SessionNotCapturableError, SettingsError
from trade_analyst_pipeline.market.clock import Clock, MachineClock, SimulatedClock
from trade_analyst_pipeline.market.sessions import NEW_YORK, capturable_session, latest_complete_session
from trade_analyst_pipeline.market.sessions import sessions as exchange_sessions
from trade_analyst_pipeline.schwab.auth import StoredAccessTokens, TokenClient
from trade_analyst_pipeline.schwab.budget import Priority, RequestBudget, Usage
from trade_analyst_pipeline.schwab.client import SchwabClient, Transport, open_http
from trade_analyst_pipeline.schwab.key_places import KEYRING_SECONDS, KeyFile, KeyPlace, SystemKeyring
from trade_analyst_pipeline.schwab.keys import TokenKeys, ephemeral_folder, name_of, open_keys
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.schwab.tokens import TokenStore, app_mark, token_owner
from trade_analyst_pipeline.settings import Settings
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

SourceAt = Callable[[datetime, Priority], Source]

_log = logging.getLogger("trade_analyst.capture")


class SourceResource:
    """The source of market data: what to ask it for, and asking."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def now(self) -> datetime:
        """The machine's present instant, UTC: which sessions exist, and the time of a run."""
        return MachineClock().now()

    def plan(self, dataset: str, sessions: Sequence[date], *, tick: datetime | None = None) -> list[Snapshot]:
        """The snapshots of a dataset for these sessions; those of one schedule tick when it is given.

        Without a tick: bars after the close (or as they stand); quotes and chains at each product's last closing
        snapshot that is due; what is taken once a session at its instant. The latest session asks for whole chains,
        earlier ones for bounded chains. Raises SessionNotCapturableError for a session that has not opened yet.
        """
        for day in sessions:
            if (problem := not_begun(day, self.now())) is not None:
                raise SessionNotCapturableError(f"{problem}. Choose a session up to the one before.")
        if dataset == "ohlc":
            return [self._bars(day) for day in sessions]
        if DATASETS[dataset].is_current_only:
            return [self._once(dataset, day) for day in sessions]
        if tick is not None:
            minutes = self._settings.capture.closing_snapshot_minutes
            return moments_due(dataset, tick, self._settings.cadences(dataset), minutes_before=minutes)
        return [snapshot for day in sessions for snapshot in self._latest_due(dataset, day)]

    def take(self, snapshots: Sequence[Snapshot], archive: Archive, usage: Usage | None = None) -> Iterator[Outcome]:
        """Take what is not archived yet of the snapshots, yielding each outcome in the order planned.

        What is asked for it is added to `usage`.

        First what processes that died left unsealed is sealed, so that it is not asked for again, and sessions that
        went by without a capture get their gap.
        """
        datasets = dict.fromkeys(snapshot.dataset for snapshot in snapshots)
        for name in datasets:
            _recover(archive, name)
        missed = [each for name in datasets for each in self.plan(name, self.missed_sessions(name, archive))]
        asked = partial(self._ask, archive=archive)

        async def outcomes() -> AsyncGenerator[Outcome, None]:
            async with open_source(self._settings, usage or Usage()) as open_at:
                source_for = partial(self._classed, open_at)
                async for gap in take_each(missed, source_for=source_for, ask=asked, archive=archive):
                    _log.warning("%s of session %s was missed", gap.snapshot.dataset, gap.snapshot.session_date)
                taken = take_each(snapshots, source_for=source_for, ask=asked, archive=archive)
                async with aclosing(taken):
                    async for outcome in taken:
                        yield outcome

        with asyncio.Runner() as runner:
            stream = outcomes()
            try:
                while (outcome := _next(runner, stream)) is not None:
                    yield outcome
            finally:
                runner.run(stream.aclose())  # the runner itself would close all generators at once, in no order

    def _classed(self, open_at: SourceAt, snapshot: Snapshot) -> Source:
        """The source at the instant of a snapshot, asked with its urgency, whatever else is due at that instant."""
        minutes = self._settings.capture.closing_snapshot_minutes
        return open_at(snapshot.scheduled_time, urgency(snapshot, minutes_before=minutes))

    def note_failure(self, snapshots: Sequence[Snapshot], archive: Archive, error: Exception) -> None:
        """Record of snapshots that nothing could be asked for why that was."""
        asked = partial(self._ask, archive=archive)
        note_failure(snapshots, error, ask=asked, archive=archive, now=self._stands_at)

    def _stands_at(self, snapshot: Snapshot) -> datetime:
        """The present of the source that a snapshot is asked of."""
        return snapshot.scheduled_time if self._goes_back else self.now()

    def has_to_ask(self, snapshots: Sequence[Snapshot], archive: Archive) -> bool:
        """Whether anything of the snapshots is neither archived nor over."""
        return any(self.missing(snapshot, archive) for snapshot in snapshots)

    def missing(self, snapshot: Snapshot, archive: Archive) -> list[MarketDataRequest]:
        """The requests that taking the snapshot would make now; none where the source has its session no more."""
        if not self._can_be_had(snapshot.dataset, snapshot.session_date):
            return []
        return self._ask(snapshot, archive=archive).missing(held(snapshot, archive))

    def ledger(self, archive: Archive) -> Ledger:
        """The ledger of gaps as it stands now."""
        return Ledger(archive, now=self.now(), goes_back=self._goes_back)

    def shown_session(self) -> date | None:
        """The session to run for when none is named.

        The latest complete one where the source can go back to it; else the one it shows, None when it shows none.
        """
        now = self.now()
        return latest_complete_session(now) if self._goes_back else capturable_session(now)

    def missed_sessions(self, dataset: str, archive: Archive) -> list[date]:
        """Sessions since the first archived one that can be had no more and of which the archive says nothing yet."""
        known = archive.sessions(dataset)
        today = self.now().astimezone(NEW_YORK).date()
        since = exchange_sessions(known[0], today) if known else []
        return [day for day in since if day not in known and self._is_over(dataset, day)]

    def is_available(self, dataset: str, session_date: date, archive: Archive) -> bool:
        """Whether a session of the dataset can be had: from the source as it stands, or from the archive.

        Not from the source where no symbol is watched in that dataset.
        """
        if self.is_watched(dataset) and self._can_be_had(dataset, session_date):
            return True
        return any(capture.answer_count for capture in archive.captures(dataset, session_date))

    def is_watched(self, dataset: str) -> bool:
        """Whether there is anything to ask for in a dataset: symbols of the watch list, or its own subjects."""
        return bool(DATASETS[dataset].subjects or self._settings.universe.symbols_of(dataset))

    @property
    def _goes_back(self) -> bool:
        """Whether the source can be asked as it stood at a past instant."""
        return self._settings.environment == "simulate"

    def _can_be_had(self, dataset: str, session_date: date) -> bool:
        now = self.now()
        if self._goes_back:
            return not_begun(session_date, now) is None
        return is_capturable(dataset, session_date, now)

    def _is_over(self, dataset: str, session_date: date) -> bool:
        return not_begun(session_date, self.now()) is None and not self._can_be_had(dataset, session_date)

    def _ask(self, snapshot: Snapshot, *, archive: Archive) -> Question:
        capture = self._settings.capture
        return ask(
            snapshot,
            capture.bounded_chain,
            archive,
            bars=capture.bars,
            has_extended_hours=capture.extended_hours,
        )

    def _bars(self, day: date) -> Snapshot:
        symbols, now = self._settings.universe.symbols_of("ohlc"), self.now()
        planned = end_of_day_snapshot("ohlc", day, symbols)
        return planned if planned.scheduled_time <= now else Snapshot("ohlc", day, now.replace(microsecond=0), symbols)

    def _once(self, dataset: str, day: date) -> Snapshot:
        symbols, now = DATASETS[dataset].subjects or self._settings.universe.symbols_of(dataset), self.now()
        planned = once_a_session(dataset, day, symbols, minutes_before=self._settings.capture.closing_snapshot_minutes)
        return planned if planned.scheduled_time <= now else replace(planned, scheduled_time=now.replace(microsecond=0))

    def _latest_due(self, dataset: str, day: date) -> list[Snapshot]:
        now = self.now()
        scope: Scope = "full" if day >= latest_complete_session(now) else "bounded"
        return latest_due(
            dataset,
            day,
            self._settings.universe.symbols_of(dataset),
            minutes_before=self._settings.capture.closing_snapshot_minutes,
            now=now,
            scope=scope,
        )


def _next(runner: asyncio.Runner, stream: AsyncGenerator[Outcome, None]) -> Outcome | None:
    """The next outcome, None after the last; Ctrl-C cancels the work under way and is KeyboardInterrupt after it.

    A handler that raises, such as Dagster's or asyncio's own, would do so wherever the signal finds the program: in a
    callback of the event loop that is dropped, or leaves the loop unfit for its own end.
    """
    if threading.current_thread() is not threading.main_thread():
        return runner.run(anext(stream, None))
    loop = runner.get_loop()
    task = loop.create_task(_awaited(anext(stream, None)))
    is_stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_stopped
        is_stopped = True
        loop.call_soon_threadsafe(task.cancel)

    present = signal.signal(signal.SIGINT, stop)
    try:
        found = loop.run_until_complete(task)
    except asyncio.CancelledError:
        found = None
    finally:
        signal.signal(signal.SIGINT, present)
    if is_stopped:
        raise KeyboardInterrupt
    return found


async def _awaited(outcome: Awaitable[Outcome | None]) -> Outcome | None:
    return await outcome


def _recover(archive: Archive, dataset: str) -> None:
    """Seal what dead processes left of a dataset, and say so; captures being written now are left alone."""
    for capture in archive.recover(dataset):
        _log.warning(
            "%s: sealed %d responses of session %s that a process left behind when it died",
            capture.path.name,
            capture.record_count,
            capture.session_date,
        )


class StorageResource:
    """This environment's data folder: the archive, the tables, and how many processes may build them."""

    def __init__(self, settings: Settings) -> None:
        self.data_folder = settings.data_folder
        self.workers = settings.capture.workers
        self.archive = Archive(self.data_folder / "raw")
        self.tables = TableStore(self.data_folder)


def source_address(settings: Settings) -> str:
    """Where the source's OAuth pages and market data start."""
    if settings.environment == "simulate":
        return f"https://127.0.0.1:{settings.simulator.port}"
    return settings.schwab.base_url


def certificate_authority(settings: Settings) -> Path | None:
    """The CA file that vouches for the source; None for the system's authorities."""
    return settings.cache_folder / "simulator-ca.pem" if settings.environment == "simulate" else None


def request_budget(settings: Settings, usage: Usage | None = None) -> RequestBudget:
    """The limit that all processes of this machine share for this environment."""
    return _budget(settings, MachineClock(), settings.cache_folder / "request_budget", usage)


def _budget(settings: Settings, clock: Clock, file: Path | None, usage: Usage | None) -> RequestBudget:
    return RequestBudget(
        per_minute=settings.schwab.requests_per_minute,
        reserved_per_minute=settings.schwab.reserved_per_minute,
        clock=clock,
        state_file=file,
        usage=usage,
    )


def app_credentials(settings: Settings) -> tuple[SecretStr, SecretStr]:
    """App key and secret: those of the settings, on the simulator its own; raises SettingsError when not set."""
    if settings.environment == "simulate":
        return SecretStr(SIMULATOR_APP_KEY), SecretStr(SIMULATOR_APP_SECRET)
    if settings.app_key is None or settings.app_secret is None:
        message = "set TRADE_ANALYST_APP_KEY and TRADE_ANALYST_APP_SECRET (environment or .env) for the live source"
        raise SettingsError(message)
    return settings.app_key, settings.app_secret


def token_client(settings: Settings) -> TokenClient:
    """The OAuth pages of the source, for this app."""
    app_key, app_secret = app_credentials(settings)
    return TokenClient(
        base_url=source_address(settings),
        app_key=app_key,
        app_secret=app_secret,
        redirect_uri=settings.schwab.redirect_uri,
        redirect_allowlist=settings.schwab.redirect_allowlist,
        ca_file=certificate_authority(settings),
        pkce=settings.schwab.pkce,
    )


def token_file(settings: Settings) -> Path:
    """Where the encrypted login lies; one under an ephemeral key in a folder that ends with this process."""
    choice = settings.token_key_source
    is_ephemeral = choice == "ephemeral" and settings.token_key is None
    return ephemeral_folder() / settings.token_file.name if is_ephemeral else settings.token_file


def token_store(settings: Settings, *, keyring_seconds: float = KEYRING_SECONDS) -> TokenStore:
    """The encrypted login of this environment; `keyring_seconds` bounds each wait for the OS keyring."""
    file, (app_key, app_secret) = token_file(settings), app_credentials(settings)
    keys = _token_keys(settings, file, keyring_seconds)
    owner = token_owner(settings.environment, app_key)
    return TokenStore(file, keys=keys, owner=owner, app=app_mark(app_key, app_secret))


def _token_keys(settings: Settings, file: Path, keyring_seconds: float) -> TokenKeys:
    """The keys to this token file: each has its own, so that changing one ends no other login.

    Of what lies under a name that several may share, nothing is changed; it still opens what was sealed with it.
    """
    choice, environment = settings.token_key_source, settings.environment
    if settings.token_key is not None or choice == "ephemeral":
        return open_keys(settings.token_key, token_file=file, choice=choice)
    name, key_file = name_of(file), settings.key_file
    shared: tuple[KeyPlace, ...] = (SystemKeyring(environment, seconds=keyring_seconds),)
    if environment == "live":  # in the user's own folder, for all project folders
        shared = (KeyFile(key_file), *shared)
        key_file = key_file.with_name(f"{key_file.stem}-{name}{key_file.suffix}")
    elif choice == "auto":
        choice = "file"  # what the simulator's tokens open is no secret: no keyring asks anybody for it
    keyring = SystemKeyring(f"{environment} {name}", seconds=keyring_seconds)
    return open_keys(None, token_file=file, key_file=key_file, choice=choice, keyring=keyring, shared=shared)


def access_tokens(settings: Settings) -> StoredAccessTokens:
    """Access tokens out of the stored login, renewed when needed."""
    return StoredAccessTokens(token_store(settings), token_client(settings).refresh)


@asynccontextmanager
async def open_source(settings: Settings, usage: Usage) -> AsyncIterator[SourceAt]:
    """The source, open for one event loop: from an instant and a class of requests to the source as it stands then.

    The live source stands at the present whatever instant is asked for; capture refuses what that cannot serve. What
    is asked is added to `usage`.
    """
    is_live = settings.environment != "simulate"
    in_flight = settings.schwab.requests_in_flight * (len(Priority) if is_live else 1)  # no class waits for another's
    async with open_http(ca_file=certificate_authority(settings), in_flight=in_flight) as http:
        yield _live(settings, http, usage) if is_live else _simulated(settings, http, usage)


def _simulated(settings: Settings, http: Transport, usage: Usage) -> SourceAt:
    tokens = access_tokens(settings)

    def source_at(instant: datetime, priority: Priority) -> Source:
        clock = SimulatedClock(instant)
        budget = _budget(settings, clock, None, usage)
        address = f"{source_address(settings)}/at/{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return Source(_client(settings, address, http, tokens, budget, clock, priority), clock, in_rounds=True)

    return source_at


def _live(settings: Settings, http: Transport, usage: Usage) -> SourceAt:
    clock, budget, tokens = MachineClock(), request_budget(settings, usage), access_tokens(settings)
    address = source_address(settings)
    clients = {each: _client(settings, address, http, tokens, budget, clock, each) for each in Priority}
    return lambda _, priority: Source(clients[priority], clock)


def _client(
    settings: Settings,
    address: str,
    http: Transport,
    tokens: StoredAccessTokens,
    budget: RequestBudget,
    clock: Clock,
    priority: Priority,
) -> SchwabClient:
    return SchwabClient(
        base_url=address,
        http=http,
        tokens=tokens,
        budget=budget,
        clock=clock,
        deadline_seconds=settings.schwab.deadline_seconds,
        max_response_bytes=settings.schwab.max_response_mib << 20,
        in_flight=settings.schwab.requests_in_flight,
        priority=priority,
        rng=random.Random(),  # noqa: S311 - jitter of waits, not a secret
    )
