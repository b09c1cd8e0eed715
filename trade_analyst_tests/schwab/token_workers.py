"""What the processes of the token harnesses do. Imports nothing heavy: each of many processes pays for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from token_scenes import FileSource, no_lock, stale, store_at, write_in_place

from trade_analyst_pipeline.errors import AuthError, LoginRequiredError, TokenStoreError
from trade_analyst_pipeline.schwab import private_files, token_notes, tokens
from trade_analyst_pipeline.schwab.token_records import StoredTokens, TokenGrant
from trade_analyst_pipeline.schwab.tokens import TokenStore

# --- readers of the real client at the real simulator


@dataclass(frozen=True)
class ReaderPlan:
    """What one process does: so many reads spread over so many seconds, by this many threads, and what is broken."""

    folder: str
    base_url: str
    ca_file: str
    app: tuple[str, str]
    reads: int
    seconds: float
    threads: int = 1
    broken: str = ""


@dataclass
class ReaderTally:
    """What one reader saw: latencies in seconds, issue time by generation, and everything that must not happen.

    `recovered` is when it first got a token after a refusal, in epoch seconds; 0: never.
    """

    latencies: list[float] = field(default_factory=list)
    backward: int = 0
    expired: int = 0
    unknown: int = 0
    refused: list[str] = field(default_factory=list)
    issued: dict[int, float] = field(default_factory=dict)
    recovered: float = 0.0


def read_at_simulator(plan: ReaderPlan, output: str) -> None:
    """Read access tokens as the client does and write a tally."""
    from trade_analyst_pipeline.schwab.auth import StoredAccessTokens, TokenClient

    _break(plan.broken)
    store = store_at(Path(plan.folder))
    client = TokenClient(
        base_url=plan.base_url,
        app_key=SecretStr(plan.app[0]),
        app_secret=SecretStr(plan.app[1]),
        redirect_uri="https://127.0.0.1:8182/callback",
        redirect_allowlist=["https://127.0.0.1:8182/callback"],
        ca_file=Path(plan.ca_file),
    )
    access = StoredAccessTokens(store, client.refresh)
    tallies = [ReaderTally() for _ in range(plan.threads)]
    threads = [
        threading.Thread(target=lambda tally=tally: asyncio.run(_read(plan, store, access, tally))) for tally in tallies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Path(output).write_text(json.dumps([asdict(tally) for tally in tallies]))


async def _read(plan: ReaderPlan, store: TokenStore, access: Any, tally: ReaderTally) -> None:
    """One reader: after each read it looks up what record the token was of, and judges it."""
    begun, known, last = time.monotonic(), dict[str, StoredTokens](), 0
    for number in range(plan.reads):
        await asyncio.sleep(max(0.0, begun + plan.seconds * number / plan.reads - time.monotonic()))
        asked = time.monotonic()
        try:
            token = await access.access_token()
        except AuthError as error:
            tally.refused.append(str(error))
            (Path(plan.folder) / f"refused-{os.getpid()}").touch()
            continue
        answered, moment = time.monotonic(), time.time()
        if tally.refused and not tally.recovered:
            tally.recovered = moment
        tally.latencies.append(answered - asked)
        with contextlib.suppress(AuthError):
            record = store.load()
            known[record.access_token.get_secret_value()] = record
        found = known.get(token)
        if found is None:
            tally.unknown += 1
            continue
        tally.issued[found.generation] = found.issued_time
        tally.backward += found.generation < last
        tally.expired += not found.is_alive(moment)
        last = found.generation


def _break(what: str) -> None:
    """Put the known-bad variant of this name in force."""
    if what == "no lock":
        tokens.hold_lock = no_lock  # type: ignore[assignment]  # the known-bad one
    elif what == "one descriptor for all threads":
        shared: dict[Path, int] = {}
        opened = private_files._open_lock
        private_files._open_lock = lambda path: (
            shared[path] if path in shared else shared.setdefault(path, opened(path))
        )
        private_files._close_lock = lambda _: None
    elif what == "no note":
        token_notes.NoteFile.read = lambda *_: None  # type: ignore[method-assign]  # the known-bad one
    elif what:
        raise ValueError(what)


# --- kill -9 amid renewals


def storm(folder: str, kills: int, children: int, pauses: tuple[float, float], seed: int, in_place: bool) -> None:
    """Fork children that renew without pause; kill one at every pause and start another; read after each kill."""
    if in_place:
        private_files.write_reserved = write_in_place
    home, rng = Path(folder), random.Random(seed)  # noqa: S311 - seeded kills
    result = {"kills": 0, "reads": 0, "unreadable": 0, "backward": 0, "children_failed": 0}
    running, last = [_renewing_child(home) for _ in range(children)], 0
    for _ in range(kills):
        time.sleep(rng.uniform(*pauses))
        victim = running.pop(rng.randrange(len(running)))
        result["children_failed"] += _killed(victim) != -signal.SIGKILL
        result["kills"] += 1
        try:
            generation = store_at(home).load().generation
            result["backward"] += generation < last
            result["reads"] += 1
            last = generation
        except (TokenStoreError, LoginRequiredError):
            result["unreadable"] += 1
        running.append(_renewing_child(home))
    for each in running:
        _killed(each)
    (home / "result").write_text(json.dumps(result))


def _killed(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _renewing_child(home: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        store, source = store_at(home), FileSource(home)
        while True:
            store.renew(is_good=stale, refresh=source)
    finally:
        os._exit(2)


# --- a kill at each named point

POINTS = [
    "before the request",
    "after the answer",
    "before the record is written",
    "before it is synced",
    "before it is put in place",
    "after it is put in place",
    "after the folder is synced",
]


def die_at(folder: str, point: str, rotate: bool) -> None:
    """Renew once in this process and die by SIGKILL at the named point."""
    home = Path(folder)
    source = FileSource(home, rotate=rotate)

    def refresh(token: SecretStr) -> TokenGrant:
        if point == "before the request":
            _die()
        answer = source(token)
        if point == "after the answer":
            _die()
        _arm(point)
        return answer

    store_at(home).renew(is_good=stale, refresh=refresh)


def _die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _then_die(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: (call(*arguments), _die())


def _arm(point: str) -> None:
    if point == "before the record is written":
        os.pwrite = _die
    elif point == "before it is synced":
        os.fsync = _die
    elif point == "before it is put in place":
        Path.replace = _die  # type: ignore[method-assign]
    elif point == "after it is put in place":
        Path.replace = _then_die(Path.replace)  # type: ignore[method-assign]
    elif point == "after the folder is synced":
        private_files.sync_folder = _then_die(private_files.sync_folder)


# --- holders of the lock that die


def hold_and_die(folder: str, how: str, is_protected: bool) -> None:
    """Hold the lock, start a child in this way, write down its number, and die by SIGKILL."""
    if not is_protected:
        private_files._close_locks_in_forks = lambda: None
    home = Path(folder)
    with private_files.hold_lock(home / "lock", 5.0):
        if how == "forked":
            child = os.fork()
            if child == 0:
                signal.pause()
        else:
            child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid
        (home / "child").write_text(str(child))
        _die()


@contextlib.contextmanager
def seconds_until_free(lock: Path, most: float) -> Iterator[float]:
    """How long the lock of a dead holder could not be had, at most about `most` seconds."""
    begun = time.monotonic()
    with contextlib.suppress(Exception), private_files.hold_lock(lock, most):
        pass
    yield time.monotonic() - begun


# --- one renewal under the eyes of strace, and under a limit of the size of files


def renew_when_told(folder: str, in_place: bool, line: Any) -> None:
    """Say ready, wait, renew once at a source that repeats the refresh token, and say how that ended.

    What is said: the name of the error or `saved`, and how often the source was asked.
    """
    if in_place:
        private_files.write_reserved = write_in_place
    asked: list[int] = []

    def refresh(_: SecretStr) -> TokenGrant:
        asked.append(1)
        return TokenGrant(SecretStr("access-second"), SecretStr("refresh-1"), 1800.0)

    store = store_at(Path(folder))
    store.load()
    line.send("ready")
    line.recv()
    try:
        outcome = "saved" if store.renew(is_good=stale, refresh=refresh).generation == 2 else "not renewed"
    except Exception as error:  # noqa: BLE001  whatever it is, the harness judges it
        outcome = type(error).__name__
    line.send((outcome, len(asked)))
    os._exit(0)


def renew_under_a_size_limit(folder: str, largest: int) -> None:
    """Renew where no file may grow beyond so many bytes; write down how that ended."""
    import resource

    home, source = Path(folder), FileSource(Path(folder))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        store_at(home).renew(is_good=stale, refresh=source)
        outcome = "saved"
    except Exception as error:  # noqa: BLE001  whatever it is, the harness judges it
        outcome = f"{type(error).__name__}: {error}"
    (home / "outcome").write_text(outcome)


# --- renewals until the power goes


def renew_until_the_power_goes(folder: str, is_durable: bool, line: Any) -> None:
    """Renew without pause and say each generation once it is saved, until the disk fails."""
    if not is_durable:
        os.fsync = lambda _: None
    store = store_at(Path(folder))
    line.send(store.load().generation)
    try:
        while True:
            grant = TokenGrant(SecretStr("access"), SecretStr("refresh-1"), 1800.0)
            line.send(store.renew(is_good=stale, refresh=lambda _, grant=grant: grant).generation)
    finally:
        os._exit(0)
