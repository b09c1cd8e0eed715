"""What the tests of the token store share: a store, grants, stand-ins for the source, and processes that can be killed.

Processes are started from this module's functions, so it imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from trade_analyst_pipeline.errors import LoginRequiredError
from trade_analyst_pipeline.schwab.keys import TokenKeys, open_keys
from trade_analyst_pipeline.schwab.token_records import StoredTokens, TokenGrant
from trade_analyst_pipeline.schwab.tokens import TokenStore

KEY = "0123456789abcdef0123456789abcdef0123456789A="  # pragma: allowlist secret
LOGIN = 1_767_646_500.0  # 2026-01-05 20:55:00 UTC
DAY = 86_400.0


class Hand:
    """The machine's clock, moved by the test."""

    def __init__(self) -> None:
        self.at = LOGIN

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.at


def fixed(*keys: str) -> TokenKeys:
    """Keys as they come from the environment, newest first."""
    given = SecretStr(",".join(keys))
    return open_keys(given, key_file=Path("none"), token_file=Path("private/tokens"))


def store_at(folder: Path, **options: Any) -> TokenStore:
    """A store in `folder/private`, with the key above unless told otherwise."""
    options = {"owner": "simulate:app", **options}
    if "keys" not in options:
        options["keys"] = fixed(KEY)
    return TokenStore(folder / "private" / "tokens", **options)


def names_in(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def grant(name: str = "first", *, refresh: str | None = "refresh-1", life: float = 1800.0) -> TokenGrant:
    """An answer of the token endpoint."""
    return TokenGrant(SecretStr(f"access-{name}"), SecretStr(refresh) if refresh else None, life)


def stale(_: StoredTokens) -> bool:
    """Nothing is good enough."""
    return False


class Source:
    """Stands for `TokenClient.refresh`: gives what it is told and keeps the refresh tokens it was shown."""

    def __init__(self, *answers: TokenGrant | Exception) -> None:
        self.answers = list(answers)
        self.shown: list[str] = []

    def __call__(self, refresh_token: SecretStr) -> TokenGrant:
        """The next answer."""
        self.shown.append(refresh_token.get_secret_value())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FileSource:
    """A token endpoint that processes share through files: counts grants and refusals, rotates if told."""

    def __init__(self, folder: Path, *, life: float = 1800.0, rotate: bool = False, slow: float = 0.0) -> None:
        self.folder, self.life, self.rotate, self.slow = folder, life, rotate, slow

    def begin(self) -> TokenGrant:
        """The grant of the login."""
        (self.folder / "current").write_text("r0")
        (self.folder / "log").write_text("")
        return TokenGrant(SecretStr("a0"), SecretStr("r0"), self.life)

    def __call__(self, refresh_token: SecretStr) -> TokenGrant:
        """A grant for the current refresh token, a refusal for any other."""
        with self._alone() as log:
            if (self.folder / "current").read_text() != refresh_token.get_secret_value():
                log.write("refused 0\n")
                message = "no longer accepted"
                raise LoginRequiredError(message)
            number = len((self.folder / "log").read_text().splitlines()) + 1
            if self.rotate:
                (self.folder / "current").write_text(f"r{number}")
            log.write(f"grant {time.time()}\n")
        time.sleep(self.slow)
        return TokenGrant(SecretStr(f"a{number}"), SecretStr(f"r{number}") if self.rotate else None, self.life)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Any]:
        with (self.folder / "log").open("a") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            yield log

    def events(self) -> list[tuple[str, float]]:
        """What happened, in order."""
        lines = [line.split() for line in (self.folder / "log").read_text().splitlines()]
        return [(kind, float(when)) for kind, when in lines]

    def count(self, kind: str) -> int:
        """How many grants, or how many refusals."""
        return [each for each, _ in self.events()].count(kind)


@contextlib.contextmanager
def no_lock(*_: Any, **__: Any) -> Iterator[bool]:
    """The known-bad lock: everybody gets it."""
    yield True


def write_in_place(descriptor: int, data: bytes, path: Path) -> None:
    """The known-bad writer: into the file itself, in two steps."""
    with path.open("wb", buffering=0) as file:
        file.write(data[:100])
        time.sleep(0.001)
        file.write(data[100:])
    os.ftruncate(descriptor, 0)


def process_context(*, is_full: bool) -> BaseContext:
    """Spawned processes in the full form; in the quick one children of a server that has the modules loaded."""
    if is_full:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["token_workers", "trade_analyst_pipeline.schwab.auth"])
    return context


def run_all(context: BaseContext, target: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """Run a process for each call, all at once; their exit codes."""
    workers = [context.Process(target=target, args=arguments) for arguments in calls]  # type: ignore[attr-defined]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(180)
    codes = [worker.exitcode for worker in workers]
    for worker in workers:
        worker.kill()
        worker.join()
    return codes
