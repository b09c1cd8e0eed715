"""The token store: what it keeps, whom it trusts, one refresh per expiry, and what kills and damage do to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import logging
import multiprocessing
import os
import random
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet, MultiFernet
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthUnavailableError, LoginRequiredError, TokenStoreError
from trade_analyst_pipeline.schwab import private_files, tokens
from trade_analyst_pipeline.schwab.tokens import StoredTokens, TokenGrant, TokenStore, token_owner

KEY = Fernet(b"0123456789abcdef0123456789abcdef0123456789A=")
LOGIN = 1_767_646_500.0  # 2026-01-05 20:55:00 UTC
DAY = 86_400.0


class Hand:
    """The machine's clock, moved by the test."""

    def __init__(self) -> None:
        self.at = LOGIN

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.at


def store_at(folder: Path, **options: Any) -> TokenStore:
    """A store in `folder/private`, with the key above unless told otherwise."""
    options = {"keys": MultiFernet([KEY]), "owner": "simulate:app", **options}
    return TokenStore(folder / "private" / "tokens", **options)


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


# --- what it keeps


def test_a_login_is_kept_and_read_by_another_store(tmp_path: Path) -> None:
    """All fields come back; the seven days begin at the login."""
    clock = Hand()
    store_at(tmp_path, now=clock).save_login(grant())
    found = store_at(tmp_path).load()
    assert found.access_token.get_secret_value() == "access-first"
    assert found.refresh_token.get_secret_value() == "refresh-1"
    assert (found.generation, found.login_time, found.issued_time) == (1, LOGIN, LOGIN)
    assert (found.expires_time, found.login_ends_time) == (LOGIN + 1800, LOGIN + 7 * DAY)


@pytest.mark.parametrize(
    ("answered", "kept"), [("refresh-1", "refresh-1"), ("refresh-2", "refresh-2"), (None, "refresh-1")]
)
def test_a_refresh_keeps_login_time_and_the_right_refresh_token(
    tmp_path: Path, answered: str | None, kept: str
) -> None:
    """Whether the answer repeats, rotates or omits the refresh token, the next refresh shows the right one."""
    clock = Hand()
    store = store_at(tmp_path, now=clock)
    store.save_login(grant())
    clock.at += 1790
    source = Source(grant("second", refresh=answered), grant("third"))
    second = store.renew(is_good=stale, refresh=source)
    assert (second.generation, second.login_time, second.issued_time) == (2, LOGIN, LOGIN + 1790)
    assert store.load() == second
    store.renew(is_good=stale, refresh=source)
    assert source.shown == ["refresh-1", kept]


def test_life_counts_from_before_the_request(tmp_path: Path) -> None:
    """The time the answer took is not added to the token's life."""
    clock = Hand()
    store = store_at(tmp_path, now=clock)
    store.save_login(grant())

    def slow(_: SecretStr) -> TokenGrant:
        clock.at += 40
        return grant("second")

    renewed = store.renew(is_good=stale, refresh=slow)
    assert (renewed.issued_time, renewed.expires_time) == (LOGIN, LOGIN + 1800)


def test_a_good_record_is_not_refreshed(tmp_path: Path) -> None:
    """What another process has just renewed is taken as it is."""
    store = store_at(tmp_path)
    store.save_login(grant())
    assert store.renew(is_good=lambda _: True, refresh=Source()).generation == 1


def test_a_new_login_is_the_next_generation(tmp_path: Path) -> None:
    """Generations grow over logins too, and the seven days begin again."""
    clock = Hand()
    store = store_at(tmp_path, now=clock)
    store.save_login(grant())
    clock.at += DAY
    again = store.save_login(grant("again"))
    assert (again.generation, again.login_time) == (2, LOGIN + DAY)


def test_a_login_without_refresh_token_is_refused(tmp_path: Path) -> None:
    """Tokens that end in half an hour for good are not stored as a login."""
    with pytest.raises(AuthUnavailableError, match="no refresh token"):
        store_at(tmp_path).save_login(grant(refresh=None))
    assert not (tmp_path / "private" / "tokens").exists()


def test_readers_notice_a_replacement(tmp_path: Path) -> None:
    """A reader serves from memory and still sees what another store has written, at the next read."""
    writer, reader = store_at(tmp_path), store_at(tmp_path)
    writer.save_login(grant())
    first = reader.load()
    assert reader.load() is first
    writer.save_login(grant("second"))
    assert reader.load().access_token.get_secret_value() == "access-second"


@pytest.mark.parametrize(
    ("age", "is_fresh", "is_alive"),
    [
        (-3600, False, False),
        (-1, True, True),
        (0, True, True),
        (1739, True, True),
        (1741, False, True),
        (1800, False, False),
    ],
)
def test_freshness(age: float, is_fresh: bool, is_alive: bool) -> None:
    """A token is fresh until a minute before its end; a clock that stands before its issue proves nothing."""
    found = StoredTokens(SecretStr("a"), SecretStr("r"), 1, LOGIN, LOGIN, LOGIN + 1800)
    assert (found.is_fresh(LOGIN + age), found.is_alive(LOGIN + age)) == (is_fresh, is_alive)


def test_short_lives_have_a_short_margin() -> None:
    """A token of one second is fresh for 0.8 s."""
    found = StoredTokens(SecretStr("a"), SecretStr("r"), 1, LOGIN, LOGIN, LOGIN + 1)
    assert found.is_fresh(LOGIN + 0.7)
    assert not found.is_fresh(LOGIN + 0.9)


def test_owner_tells_environment_and_app() -> None:
    """The owner holds the app key as a digest only (SHA-256 of `abc`, FIPS 180-2 appendix B.1)."""
    assert token_owner("live", SecretStr("abc")) == "live:ba7816bf8f01cfea"


# --- no login, dead login


def test_no_file_means_log_in(tmp_path: Path) -> None:
    """The message names the file and the command; nothing is made."""
    with pytest.raises(LoginRequiredError, match=r"private/tokens\. Run `trade-analyst login`"):
        store_at(tmp_path).load()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_login_is_asked_once_and_for_all_processes(tmp_path: Path) -> None:
    """After one refusal no store sends the token again; a new login ends that."""
    store, other = store_at(tmp_path), store_at(tmp_path)
    store.save_login(grant())
    before = (tmp_path / "private" / "tokens").read_bytes()
    source = Source(LoginRequiredError("no longer accepted"))
    with pytest.raises(LoginRequiredError, match="no longer accepted"):
        store.renew(is_good=stale, refresh=source)
    for each in (store, other, store_at(tmp_path)):
        with pytest.raises(LoginRequiredError, match=r"refused the stored login at .* UTC .*New York.*login"):
            each.renew(is_good=stale, refresh=source)
    assert len(source.shown) == 1
    assert (tmp_path / "private" / "tokens").read_bytes() == before
    other.save_login(grant("new", refresh="refresh-9"))
    assert store.renew(is_good=stale, refresh=Source(grant("newer"))).generation == 3


def test_the_note_of_an_old_login_does_not_condemn_a_new_one(tmp_path: Path) -> None:
    """After the token file was removed and a login made anew, the old refusal is forgotten."""
    store = store_at(tmp_path)
    store.save_login(grant())
    with pytest.raises(LoginRequiredError):
        store.renew(is_good=stale, refresh=Source(LoginRequiredError("dead")))
    (tmp_path / "private" / "tokens").unlink()
    store.save_login(grant())
    assert store.renew(is_good=stale, refresh=Source(grant("second"))).generation == 2


def test_after_seven_days_nothing_is_asked(tmp_path: Path) -> None:
    """The end of the login is told with its time in both zones, without a request."""
    clock = Hand()
    store = store_at(tmp_path, now=clock)
    store.save_login(grant())
    clock.at += 7 * DAY
    source = Source()
    with pytest.raises(LoginRequiredError, match=r"2026-01-12 20:55:00 UTC \(2026-01-12 15:55 New York\)"):
        store.renew(is_good=stale, refresh=source)
    assert source.shown == []


def test_a_passing_failure_changes_nothing(tmp_path: Path) -> None:
    """An outage of the token endpoint leaves the record, and the next try asks again."""
    store = store_at(tmp_path)
    first = store.save_login(grant())
    with pytest.raises(AuthUnavailableError):
        store.renew(is_good=stale, refresh=Source(AuthUnavailableError("503")))
    assert store.load() == first
    assert store.renew(is_good=stale, refresh=Source(grant("second"))).generation == 2
    assert sorted(path.name for path in (tmp_path / "private").iterdir()) == ["tokens", "tokens.lock"]


# --- trust


def assert_refused(folder: Path, text: str, **options: Any) -> None:
    """Loading, renewing, checking and a new login are all refused, and the file is untouched."""
    file = folder / "private" / "tokens"
    before = file.read_bytes()
    for act in ("load", "check", "renew", "save_login"):
        store = store_at(folder, **options)
        arguments: dict[str, Any] = {"is_good": stale, "refresh": Source()} if act == "renew" else {}
        with pytest.raises(TokenStoreError, match=text):
            getattr(store, act)(*([grant()] if act == "save_login" else []), **arguments)
    assert file.read_bytes() == before


def test_a_wrong_key_never_touches_the_file(tmp_path: Path) -> None:
    """Another key is told as such and the tokens stay."""
    store_at(tmp_path).save_login(grant())
    assert_refused(
        tmp_path, "the key is another one or the file is damaged", keys=MultiFernet([Fernet(Fernet.generate_key())])
    )


def test_tokens_of_another_owner_are_refused(tmp_path: Path) -> None:
    """A file of the other environment or app is not used even though the key opens it."""
    store_at(tmp_path).save_login(grant())
    assert_refused(tmp_path, "another app or environment", owner="live:app")


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    """What decrypts but is no record of ours is left alone."""
    store_at(tmp_path).save_login(grant())
    (tmp_path / "private" / "tokens").write_bytes(KEY.encrypt(b'{"token":1}'))
    assert_refused(tmp_path, "another version")


@pytest.mark.reliability
def test_damage_is_never_accepted(tmp_path: Path) -> None:
    """Cut at every 7th byte, a bit flipped (400 at random, the last 40), or junk: refused, and left as it is."""
    store_at(tmp_path).save_login(grant())
    file = tmp_path / "private" / "tokens"
    good, rng = file.read_bytes(), random.Random(20260105)  # noqa: S311 - seeded damage
    damaged = [good[:length] for length in range(0, len(good), 7)] + [rng.randbytes(size) for size in (1, 40, 4000)]
    last_bits = range(8 * len(good) - 40, 8 * len(good))
    for bit in [*(rng.randrange(8 * len(good)) for _ in range(400)), *last_bits]:
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << (bit % 8)
        damaged.append(bytes(flipped))
    accepted = 0
    for data in damaged:
        file.write_bytes(data)
        with contextlib.suppress(TokenStoreError):
            store_at(tmp_path).load()
            accepted += 1
        assert file.read_bytes() == data
    assert accepted == 0
    file.write_bytes(good)
    assert store_at(tmp_path).load().generation == 1


def test_control_damage_to_a_plain_record_is_accepted() -> None:
    """The damage is able to do harm: a record without authentication swallows some of the flips."""
    good, accepted = b'{"access_token":"aaaaaaaaaaaaaaaaaaaaaaaa","generation":1}', 0
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << (bit % 8)
        with contextlib.suppress(ValueError):
            json.loads(bytes(flipped))
            accepted += 1
    assert accepted > 20


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Whatever the umask: token, lock and note 0600, folder 0700, also where the folder was open for reading."""
    (tmp_path / "private").mkdir(mode=0o755)
    old = os.umask(0)
    try:
        store = store_at(tmp_path)
        store.save_login(grant())
        with pytest.raises(LoginRequiredError):
            store.renew(is_good=stale, refresh=Source(LoginRequiredError("dead")))
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "private").iterdir()}
    assert modes == {"tokens": 0o600, "tokens.lock": 0o600, "tokens.note": 0o600}
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """Somebody may have put a file there: nothing is stored, the fix is told."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private").chmod(0o777)
    with pytest.raises(TokenStoreError, match="chmod 700"):
        store_at(tmp_path).save_login(grant())
    assert list((tmp_path / "private").iterdir()) == []


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A copied file with open rights is not used until its rights are corrected; a cached one neither."""
    store = store_at(tmp_path)
    store.save_login(grant())
    store.load()
    (tmp_path / "private" / "tokens").chmod(0o640)
    with pytest.raises(TokenStoreError, match="chmod 600"):
        store.load()
    assert_refused(tmp_path, "chmod 600")


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: giving a file away needs root")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    """Only our own files are trusted."""
    store_at(tmp_path).save_login(grant())
    os.chown(tmp_path / "private" / "tokens", 12345, -1)
    assert_refused(tmp_path, "belongs to another user")


def test_links_are_refused(tmp_path: Path) -> None:
    """Neither symbolic nor hard links are followed, for the token file and for its lock."""
    store_at(tmp_path).save_login(grant())
    file = tmp_path / "private" / "tokens"
    (tmp_path / "second").hardlink_to(file)
    assert_refused(tmp_path, "hard link")
    file.unlink()
    file.symlink_to(tmp_path / "second")
    assert_refused(tmp_path, "symbolic link")
    (tmp_path / "private" / "tokens.lock").unlink()
    (tmp_path / "private" / "tokens.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TokenStoreError, match="lock file"):
        store_at(tmp_path).renew(is_good=stale, refresh=Source())
    assert not (tmp_path / "elsewhere").exists()


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is really a link elsewhere is not used."""
    (tmp_path / "real").mkdir()
    (tmp_path / "private").symlink_to(tmp_path / "real")
    with pytest.raises(TokenStoreError, match="not a folder of yours"):
        store_at(tmp_path).save_login(grant())


def test_a_file_replaced_while_it_is_opened_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has opened the old file when the new one takes its place reads the old record whole."""
    store_at(tmp_path).save_login(grant())
    opened = os.open

    def open_and_lose_the_race(path: Any, *arguments: Any) -> int:
        descriptor = opened(path, *arguments)
        monkeypatch.setattr(os, "open", opened)
        store_at(tmp_path).save_login(grant("second"))
        return descriptor

    reader = store_at(tmp_path)
    monkeypatch.setattr(os, "open", open_and_lose_the_race)
    assert reader.load().access_token.get_secret_value() == "access-first"
    assert reader.load().access_token.get_secret_value() == "access-second"


def test_secrets_are_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither records, grants, errors, logs nor the files show a token."""
    caplog.set_level(logging.DEBUG)
    store = store_at(tmp_path)
    found = store.save_login(grant("CANARY-a", refresh="CANARY-r"))
    with pytest.raises(LoginRequiredError) as caught:
        store.renew(is_good=stale, refresh=Source(LoginRequiredError("dead")))
    shown = [repr(found), str(found), repr(grant("CANARY-a")), repr(caught.value), caplog.text, found.fingerprint]
    shown += [path.read_bytes().decode("latin-1") for path in (tmp_path / "private").iterdir()]
    assert "CANARY" not in "".join(shown)
    assert len(found.fingerprint) == 8


# --- keys change


def test_a_new_key_takes_over(tmp_path: Path) -> None:
    """With the new key first and the old one behind it all is read; after the next save the old key opens nothing."""
    store_at(tmp_path).save_login(grant())
    new = Fernet(Fernet.generate_key())
    both = store_at(tmp_path, keys=MultiFernet([new, KEY]))
    assert both.load().generation == 1
    both.renew(is_good=stale, refresh=Source(grant("second")))
    assert store_at(tmp_path, keys=MultiFernet([new])).load().generation == 2
    assert_refused(tmp_path, "the key is another one")


# --- locks, disks


def test_a_busy_lock_is_waited_for_and_then_told(tmp_path: Path) -> None:
    """Another process that holds the lock too long gives AuthUnavailableError; nothing is asked."""
    store = store_at(tmp_path, lock_seconds=0.05)
    store.save_login(grant())
    source = Source()
    with (tmp_path / "private" / "tokens.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AuthUnavailableError, match="locked by another process"):
            store.renew(is_good=stale, refresh=source)
    assert source.shown == []


def test_threads_of_one_store_share_one_refresh(tmp_path: Path) -> None:
    """Eight threads that find the token stale refresh it once; one that waits too long says so."""
    store = store_at(tmp_path)
    store.save_login(grant())
    entered, leave, calls = threading.Event(), threading.Event(), []

    def slow(_: SecretStr) -> TokenGrant:
        calls.append(1)
        entered.set()
        leave.wait(10)
        return grant("second")

    def renew() -> None:
        store.renew(is_good=lambda found: found.generation > 1, refresh=slow)

    threads = [threading.Thread(target=renew) for _ in range(8)]
    for thread in threads:
        thread.start()
    entered.wait(10)
    impatient = store_at(tmp_path, lock_seconds=0.02)
    impatient._thread_lock = store._thread_lock
    with pytest.raises(AuthUnavailableError, match="another thread"):
        impatient.renew(is_good=stale, refresh=slow)
    leave.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def failing(error: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: Any, **__: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_without_room_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """The room for the answer is reserved first: on a full disk no request is made and the record stands."""
    store = store_at(tmp_path)
    first = store.save_login(grant())
    source = Source()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", failing(error))
        with pytest.raises(AuthUnavailableError, match="no room for a new token"):
            store.renew(is_good=stale, refresh=source)
    assert (source.shown, store_at(tmp_path).load()) == ([], first)
    assert sorted(path.name for path in (tmp_path / "private").iterdir()) == ["tokens", "tokens.lock"]


@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "fsync"])
def test_a_disk_that_fails_in_between_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """An error while saving is named, and the record is the old one."""
    store = store_at(tmp_path)
    first = store.save_login(grant())

    def answer(_: SecretStr) -> TokenGrant:
        monkeypatch.setattr(os, call, failing(errno.EIO))
        return grant("second")

    with pytest.raises(AuthUnavailableError, match="could not be stored"):
        store.renew(is_good=stale, refresh=answer)
    monkeypatch.undo()
    assert store_at(tmp_path).load() == first


def test_a_disk_that_fills_after_the_reserve_still_takes_the_token(tmp_path: Path) -> None:
    """The record goes into the blocks reserved before: with growth of any file forbidden meanwhile it is saved."""
    store = store_at(tmp_path)
    store.save_login(grant())
    sizes: list[int] = []

    def answer(_: SecretStr) -> TokenGrant:
        draft = tmp_path / "private" / "tokens.draft"
        sizes.append(draft.stat().st_blocks * 512)
        return grant("second")

    store.renew(is_good=stale, refresh=answer)
    assert sizes[0] >= 16 << 10
    assert (tmp_path / "private" / "tokens").stat().st_size < sizes[0]


def test_an_oversized_record_is_refused(tmp_path: Path) -> None:
    """A record larger than the reserve is not stored."""
    store = store_at(tmp_path)
    store.save_login(grant())
    with pytest.raises(TokenStoreError, match="larger than any known"):
        store.renew(is_good=stale, refresh=Source(grant("x" * 20_000)))
    assert store_at(tmp_path).load().generation == 1


# --- many processes


class FileSource:
    """A token endpoint that processes share through files: counts grants and refusals, rotates if told."""

    def __init__(self, folder: Path, *, life: float, rotate: bool, slow: float = 0.05) -> None:
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


@contextlib.contextmanager
def _no_lock(*_: Any) -> Iterator[None]:
    yield


def _read_for(folder: str, seconds: float, is_locked: bool, output: str) -> None:
    if not is_locked:
        tokens.hold_lock = _no_lock
    store = store_at(Path(folder))
    source = FileSource(Path(folder), life=1.0, rotate=True)
    stop, last = time.time() + seconds, 0
    result = {"reads": 0, "backward": 0, "expired": 0, "refused": 0}
    while time.time() < stop:
        found = store.load()
        try:
            if not found.is_fresh(time.time()):
                found = store.renew(is_good=lambda each: each.is_fresh(time.time()), refresh=source)
        except (LoginRequiredError, AuthUnavailableError):
            result["refused"] += 1
            break
        result["reads"] += 1
        result["backward"] += found.generation < last
        result["expired"] += not found.is_alive(time.time())
        last = found.generation
        time.sleep(0.0005)
    Path(output).write_text(json.dumps(result))


def race(folder: Path, *, is_locked: bool) -> tuple[list[dict[str, int]], list[tuple[str, float]]]:
    """Eight processes read for four seconds a token that lives one second and rotates at each refresh."""
    source = FileSource(folder, life=1.0, rotate=True)
    store_at(folder).save_login(source.begin())
    context = multiprocessing.get_context("spawn")
    outputs = [folder / f"result-{number}" for number in range(8)]
    workers = [context.Process(target=_read_for, args=(str(folder), 4.0, is_locked, str(path))) for path in outputs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [json.loads(path.read_text()) for path in outputs], source.events()


@pytest.mark.slow
@pytest.mark.reliability
def test_one_refresh_per_expiry_for_all_processes(tmp_path: Path) -> None:
    """Eight readers over several expiries of a rotating token: one grant per expiry, nothing stale, nothing refused."""
    results, events = race(tmp_path, is_locked=True)
    assert [result for result in results if result["refused"] or result["backward"] or result["expired"]] == []
    assert sum(result["reads"] for result in results) > 2000
    grants = [when for kind, when in events if kind == "grant"]
    assert len(grants) == len(events)
    assert len(grants) >= 3
    # life 1 s less the margin of 0.2 s, counted from just before each request
    assert min(after - before for before, after in itertools.pairwise(grants)) >= 0.75


@pytest.mark.slow
@pytest.mark.reliability
def test_control_without_the_lock_a_rotating_login_dies(tmp_path: Path) -> None:
    """The race is able to do harm: without the lock an old refresh token is shown and the login is lost."""
    results, events = race(tmp_path, is_locked=False)
    assert any(kind == "refused" for kind, _ in events)
    assert any(result["refused"] for result in results)


def _torn_write(descriptor: int, data: bytes, path: Path) -> None:
    """The known-bad writer: in place, in two steps."""
    with path.open("wb", buffering=0) as file:
        file.write(data[:100])
        time.sleep(0.001)
        file.write(data[100:])
    os.ftruncate(descriptor, 0)


def _storm(folder: str, seconds: float, is_durable: bool, output: str) -> None:
    """Fork children that renew without pause; kill one every few milliseconds; check the file after each kill."""
    if not is_durable:
        tokens.write_reserved = _torn_write
    home, rng = Path(folder), random.Random(7)  # noqa: S311 - seeded kills
    source = FileSource(home, life=1800.0, rotate=False, slow=0.0)
    result = {"kills": 0, "unreadable": 0, "children_failed": 0}

    def child() -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            store = store_at(home)
            while True:
                store.renew(is_good=stale, refresh=source)
        except TokenStoreError:
            status = 2
        finally:
            os._exit(status)

    children = [child() for _ in range(4)]
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        time.sleep(rng.uniform(0.005, 0.03))
        victim = children.pop(rng.randrange(len(children)))
        os.kill(victim, signal.SIGKILL)
        result["children_failed"] += os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) != -signal.SIGKILL
        result["kills"] += 1
        try:
            store_at(home).load()
        except TokenStoreError:
            result["unreadable"] += 1
        children.append(child())
    for each in children:
        os.kill(each, signal.SIGKILL)
        os.waitpid(each, 0)
    Path(output).write_text(json.dumps(result))


def storm(folder: Path, *, is_durable: bool) -> tuple[dict[str, int], FileSource]:
    """The storm in a process of its own that has no threads and may fork."""
    source = FileSource(folder, life=1800.0, rotate=False)
    store_at(folder).save_login(source.begin())
    master = multiprocessing.get_context("spawn").Process(
        target=_storm, args=(str(folder), 4.0, is_durable, str(folder / "result"))
    )
    master.start()
    master.join(60)
    return json.loads((folder / "result").read_text()), source


@pytest.mark.slow
@pytest.mark.reliability
def test_kills_never_leave_the_file_unreadable(tmp_path: Path) -> None:
    """A storm of kill -9 amid renewals: readable after each, nothing refused, no draft left after the next renewal."""
    result, source = storm(tmp_path, is_durable=True)
    assert result["kills"] >= 60
    assert (result["unreadable"], result["children_failed"]) == (0, 0)
    assert all(kind == "grant" for kind, _ in source.events())
    store_at(tmp_path).renew(is_good=stale, refresh=source)
    assert sorted(path.name for path in (tmp_path / "private").iterdir()) == ["tokens", "tokens.lock"]


@pytest.mark.slow
@pytest.mark.reliability
def test_control_a_writer_in_place_is_caught_by_the_storm(tmp_path: Path) -> None:
    """The storm is able to do harm: writing in place leaves unreadable files."""
    result, _ = storm(tmp_path, is_durable=False)
    assert result["unreadable"] + result["children_failed"] > 0


POINTS = ["before request", "after answer", "before fsync", "before replace", "after replace"]


def _killed_at(folder: str, point: str, rotate: bool) -> None:
    """Renew once in this process and die by SIGKILL at the named point."""

    def die(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    home = Path(folder)
    source = FileSource(home, life=1800.0, rotate=rotate, slow=0.0)
    replace = Path.replace

    def refresh(token: SecretStr) -> TokenGrant:
        if point == "before request":
            die()
        answer = source(token)
        if point == "after answer":
            die()
        if point == "before fsync":
            os.fsync = die  # type: ignore[assignment]  # the process ends there
        if point == "before replace":
            Path.replace = die  # type: ignore[method-assign]  # likewise
        if point == "after replace":
            Path.replace = lambda *arguments: (replace(*arguments), die())  # type: ignore[method-assign, assignment]
        return answer

    store_at(home).renew(is_good=stale, refresh=refresh)


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize("rotate", [False, True])
def test_a_kill_at_each_named_point(tmp_path: Path, rotate: bool) -> None:
    """A fixed refresh token survives a kill anywhere; a rotated one is lost only between its answer and its file.

    Then there is exactly one refused request, a message that says what happened, and no further request.
    """
    context = multiprocessing.get_context("spawn")
    workers = {}
    for point in POINTS:
        home = tmp_path / point
        home.mkdir()
        store_at(home).save_login(FileSource(home, life=1800.0, rotate=rotate).begin())
        workers[point] = context.Process(target=_killed_at, args=(str(home), point, rotate))
        workers[point].start()
    for point, worker in workers.items():
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        home, source = tmp_path / point, FileSource(tmp_path / point, life=1800.0, rotate=rotate, slow=0.0)
        is_lost = rotate and point in ("after answer", "before fsync", "before replace")
        if not is_lost:
            assert store_at(home).renew(is_good=stale, refresh=source).generation >= 2
            continue
        before = (home / "private" / "tokens").read_bytes()
        with pytest.raises(LoginRequiredError, match="An earlier refresh was cut off at"):
            store_at(home).renew(is_good=stale, refresh=source)
        for _ in range(3):
            with pytest.raises(LoginRequiredError, match="refused the stored login"):
                store_at(home).renew(is_good=stale, refresh=source)
        assert [kind for kind, _ in source.events()].count("refused") == 1
        assert (home / "private" / "tokens").read_bytes() == before


def test_a_damaged_note_costs_one_refused_request_only(tmp_path: Path) -> None:
    """The note beside the record is advice: junk in it changes nothing else."""
    store = store_at(tmp_path)
    store.save_login(grant())
    (tmp_path / "private" / "tokens.note").write_bytes(b"\xff junk")
    assert store.renew(is_good=stale, refresh=Source(grant("second"))).generation == 2


def test_a_note_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Where the note's place is taken by a folder, the renewal stops before it asks."""
    store = store_at(tmp_path)
    store.save_login(grant())
    (tmp_path / "private" / "tokens.note.draft").mkdir()
    source = Source()
    with pytest.raises(AuthUnavailableError, match="cannot be written"):
        store.renew(is_good=stale, refresh=source)
    assert source.shown == []


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """Only a regular file is opened."""
    (tmp_path / "private" / "tokens").mkdir(parents=True)
    with pytest.raises(TokenStoreError, match="not a regular file"):
        store_at(tmp_path).load()
    assert private_files.signature(tmp_path / "private" / "tokens") is not None
