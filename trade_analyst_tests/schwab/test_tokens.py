"""The token store: what it keeps, whom it trusts, one refresh per expiry, and what full disks and clocks do to it.

Kills, storms and damage: `test_token_storm.py`, `test_token_damage.py`.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from token_scenes import DAY, KEY, LOGIN, Hand, Source, fixed, grant, names_in, stale, store_at

from trade_analyst_pipeline.errors import (
    AuthUnavailableError,
    ClientCredentialsError,
    LoginRequiredError,
    TokenStoreError,
)
from trade_analyst_pipeline.schwab.key_sets import new_key
from trade_analyst_pipeline.schwab.keys import open_keys
from trade_analyst_pipeline.schwab.token_records import StoredTokens, TokenGrant
from trade_analyst_pipeline.schwab.tokens import app_mark, forget_login, token_owner

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
    assert second.renewal == {"refresh-1": "same", "refresh-2": "rotated", None: "omitted"}[answered]
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
    ("age", "is_fresh", "is_usable", "is_alive"),
    [
        (-3600, False, False, False),
        (-1, True, True, True),
        (0, True, True, True),
        (1499, True, True, True),
        (1501, False, True, True),
        (1739, False, True, True),
        (1741, False, False, True),
        (1800, False, False, False),
    ],
)
def test_freshness(age: float, is_fresh: bool, is_usable: bool, is_alive: bool) -> None:
    """A token should be renewed 5 minutes before its end, and must be 1 minute before it.

    A clock that stands before its issue proves nothing.
    """
    found = StoredTokens(SecretStr("a"), SecretStr("r"), 1, LOGIN, LOGIN, LOGIN + 1800)
    now = LOGIN + age
    assert (found.is_fresh(now), found.is_usable(now), found.is_alive(now)) == (is_fresh, is_usable, is_alive)


def test_short_lives_have_short_margins() -> None:
    """A token of one second is fresh for 0.8 s and usable for 0.9 s."""
    found = StoredTokens(SecretStr("a"), SecretStr("r"), 1, LOGIN, LOGIN, LOGIN + 1)
    assert [found.is_fresh(LOGIN + age) for age in (0.7, 0.85, 0.95)] == [True, False, False]
    assert [found.is_usable(LOGIN + age) for age in (0.7, 0.85, 0.95)] == [True, True, False]


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
    assert names_in(tmp_path / "private") == ["tokens", "tokens.lock"]


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
    assert_refused(tmp_path, "the key is another one or the file is damaged", keys=fixed(new_key().get_secret_value()))


def test_tokens_of_another_owner_are_refused(tmp_path: Path) -> None:
    """A file of the other environment or app is not used even though the key opens it."""
    store_at(tmp_path).save_login(grant())
    assert_refused(tmp_path, "another app or environment", owner="live:app")


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    """What decrypts but is no record of ours is left alone."""
    store_at(tmp_path).save_login(grant())
    (tmp_path / "private" / "tokens").write_bytes(Fernet(KEY).encrypt(b'{"token":1}'))
    assert_refused(tmp_path, "another version")


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
    with pytest.raises(TokenStoreError, match=r"mode 640.*chmod 600"):
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
    assert_refused(tmp_path, "it is a symbolic link")
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
    new = new_key().get_secret_value()
    both = store_at(tmp_path, keys=fixed(new, KEY))
    assert both.load().generation == 1
    both.renew(is_good=stale, refresh=Source(grant("second")))
    assert store_at(tmp_path, keys=fixed(new)).load().generation == 2
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


def held_refresh(entered: threading.Event, leave: threading.Event, calls: list[int]) -> Callable[..., TokenGrant]:
    """A refresh that says when it was entered, waits until it may leave, and counts itself."""

    def refresh(_: SecretStr) -> TokenGrant:
        calls.append(1)
        entered.set()
        leave.wait(10)
        return grant("second")

    return refresh


def test_threads_of_one_store_share_one_refresh(tmp_path: Path) -> None:
    """Eight threads that find the token stale refresh it once; one that waits too long says so."""
    store = store_at(tmp_path)
    store.save_login(grant())
    entered, leave, calls = threading.Event(), threading.Event(), list[int]()
    slow = held_refresh(entered, leave, calls)

    def renew() -> None:
        store.renew(is_good=lambda found: found.generation > 1, refresh=slow)

    threads = [threading.Thread(target=renew) for _ in range(8)]
    for thread in threads:
        thread.start()
    entered.wait(10)
    with pytest.raises(AuthUnavailableError, match="locked by another"):
        store_at(tmp_path, lock_seconds=0.02).renew(is_good=stale, refresh=slow)
    leave.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_usable_token_is_not_waited_for(tmp_path: Path) -> None:
    """While another renews, whoever has a token that will do for now goes on with it at once."""
    store = store_at(tmp_path)
    store.save_login(grant())
    entered, leave, calls = threading.Event(), threading.Event(), list[int]()
    slow = held_refresh(entered, leave, calls)
    thread = threading.Thread(target=lambda: store.renew(is_good=stale, refresh=slow))
    thread.start()
    entered.wait(10)
    assert store.is_busy()
    found = store_at(tmp_path).renew(is_good=stale, refresh=slow, is_usable=lambda tokens: tokens.generation == 1)
    assert (found.generation, len(calls), leave.is_set()) == (1, 1, False)
    leave.set()
    thread.join()
    assert not store.is_busy()
    assert store.load().generation == 2


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
    assert names_in(tmp_path / "private") == ["tokens", "tokens.lock"]


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


@pytest.mark.parametrize("junk", [b"\xff junk", b'{"state":"\xeb"}', b""])
def test_a_damaged_note_costs_one_refused_request_only(tmp_path: Path, junk: bytes) -> None:
    """The note beside the record is advice: junk in it changes nothing else."""
    store = store_at(tmp_path)
    store.save_login(grant())
    (tmp_path / "private" / "tokens.note").write_bytes(junk)
    (tmp_path / "private" / "tokens.note").chmod(0o600)
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
    assert names_in(tmp_path / "private") == ["tokens"]


def test_an_app_that_is_refused_says_nothing_about_the_login(tmp_path: Path) -> None:
    """A refused app key is told as such; the login is neither condemned nor called cut off."""
    store = store_at(tmp_path)
    first = store.save_login(grant())
    with pytest.raises(ClientCredentialsError):
        store.renew(is_good=stale, refresh=Source(ClientCredentialsError("app refused")))
    assert store.refusal(first) is None
    with pytest.raises(LoginRequiredError, match=r"^dead$"):
        store.renew(is_good=stale, refresh=Source(LoginRequiredError("dead")))
    store.save_login(grant())
    assert store.renew(is_good=stale, refresh=Source(grant("second"))).generation == 3


def test_a_refresh_without_answer_is_remembered(tmp_path: Path) -> None:
    """Whether the source acted on it is not known: a refusal afterwards says that a refresh was cut off, and when."""
    clock = Hand()
    store = store_at(tmp_path, now=clock)
    store.save_login(grant())
    with pytest.raises(AuthUnavailableError):
        store.renew(is_good=stale, refresh=Source(AuthUnavailableError("no answer")))
    note = store.refresh_note(1)
    assert note is not None
    assert (note.state, note.since, note.pid) == ("unanswered", LOGIN, os.getpid())
    clock.at += 3600
    said = r"dead An earlier refresh was cut off at 2026-01-05 20:55:00 UTC \(2026-01-05 15:55 New York\)"
    with pytest.raises(LoginRequiredError, match=said):
        store.renew(is_good=stale, refresh=Source(LoginRequiredError("dead")))
    with pytest.raises(LoginRequiredError, match=r"refused .* at 2026-01-05 21:55:00 UTC .* cut off at .*20:55:00 UTC"):
        store_at(tmp_path, now=clock).renew(is_good=stale, refresh=Source())


def test_a_refusal_on_a_full_disk_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noting a refusal needs no new room; where not even that can be written, the process itself remembers."""
    store = store_at(tmp_path)
    store.save_login(grant())

    def refuse(_: SecretStr) -> TokenGrant:
        monkeypatch.setattr(os, "pwrite", failing(errno.EIO))
        message = "dead"
        raise LoginRequiredError(message)

    with pytest.raises(LoginRequiredError, match="dead"):
        store.renew(is_good=stale, refresh=refuse)
    monkeypatch.undo()
    source = Source()
    with pytest.raises(LoginRequiredError, match="has refused the stored login"):
        store.renew(is_good=stale, refresh=source)
    assert source.shown == []


# --- nothing that arrived is lost


def cut_off(store: Any, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Renew at a source that rotates, with a disk that fails at this call once the answer is there."""

    def answer(_: SecretStr) -> TokenGrant:
        monkeypatch.setattr(os, call, failing(errno.EIO))
        return grant("second", refresh="refresh-2")

    with pytest.raises(AuthUnavailableError, match="could not be stored"):
        store.renew(is_good=stale, refresh=answer)
    monkeypatch.undo()


@pytest.mark.parametrize("call", ["ftruncate", "fsync"])
def test_what_was_written_and_not_put_in_place_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A record whose save was cut off is completed by whoever comes next, without asking the source."""
    store = store_at(tmp_path)
    store.save_login(grant())
    cut_off(store, monkeypatch, call)
    assert store_at(tmp_path).load().generation == 1
    found = store_at(tmp_path).renew(is_good=lambda tokens: tokens.generation == 2, refresh=Source())
    assert found.refresh_token.get_secret_value() == "refresh-2"
    assert store_at(tmp_path).load() == found
    store.renew(is_good=stale, refresh=Source(grant("third")))
    assert names_in(tmp_path / "private") == ["tokens", "tokens.lock"]


def test_what_could_not_be_written_at_all_is_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that has the answer stores it as soon as the disk takes it, before it asks again."""
    store = store_at(tmp_path)
    store.save_login(grant())
    cut_off(store, monkeypatch, "pwrite")
    found = store.renew(is_good=lambda tokens: tokens.generation == 2, refresh=Source())
    assert store_at(tmp_path).load() == found
    assert found.refresh_token.get_secret_value() == "refresh-2"


@pytest.mark.parametrize("left", [b"junk", b"", b"\0" * 100])
def test_a_draft_that_is_no_record_is_passed_over(tmp_path: Path, left: bytes) -> None:
    """What a killed process left before it had an answer, or halfway, is removed."""
    store = store_at(tmp_path)
    store.save_login(grant())
    (tmp_path / "private" / "tokens.draft").write_bytes(left)
    (tmp_path / "private" / "tokens.draft").chmod(0o600)
    assert store.renew(is_good=stale, refresh=Source(grant("second"))).generation == 2
    assert names_in(tmp_path / "private") == ["tokens", "tokens.lock"]


def test_an_old_draft_is_not_taken_for_news(tmp_path: Path) -> None:
    """Only a record that follows the stored one is completed; the same or an older one is not."""
    store = store_at(tmp_path)
    store.save_login(grant())
    old = (tmp_path / "private" / "tokens").read_bytes()
    store.renew(is_good=stale, refresh=Source(grant("second")))
    draft = tmp_path / "private" / "tokens.draft"
    draft.write_bytes(old)
    draft.chmod(0o600)
    source = Source(grant("third"))
    assert store.renew(is_good=stale, refresh=source).generation == 3
    assert source.shown == ["refresh-1"]


def test_what_could_not_be_written_of_an_old_login_is_not_news_of_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that kept an answer in memory does not put it over a login made since, whatever the generations are."""
    store, other = store_at(tmp_path), store_at(tmp_path)
    store.save_login(grant())
    store.renew(is_good=stale, refresh=Source(grant("second")))
    cut_off(store, monkeypatch, "pwrite")  # generation 3, in the memory of this process
    forget_login(store.path)
    other.save_login(grant("new", refresh="refresh-8"))
    newest = other.renew(is_good=stale, refresh=Source(grant("newer", refresh="refresh-9")))
    assert newest.generation == 2
    assert store.renew(is_good=lambda _: True, refresh=Source()) == newest
    assert store_at(tmp_path).load() == newest


def test_a_draft_of_an_old_login_is_not_news_of_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what a killed process has left on the disk."""
    store = store_at(tmp_path)
    store.save_login(grant())
    cut_off(store, monkeypatch, "fsync")
    draft = tmp_path / "private" / "tokens.draft"
    left = draft.read_bytes()
    forget_login(store.path)
    newest = store_at(tmp_path).save_login(grant("new", refresh="refresh-8"))
    draft.write_bytes(left)
    draft.chmod(0o600)
    assert store_at(tmp_path).renew(is_good=lambda _: True, refresh=Source()) == newest


def test_a_new_login_ends_what_was_kept_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an answer that could not be stored nor a refusal outlives the login it was of."""
    store = store_at(tmp_path)
    store.save_login(grant())
    cut_off(store, monkeypatch, "pwrite")
    store.save_login(grant("new", refresh="refresh-8"))
    assert store._unsaved is None
    assert store.renew(is_good=lambda _: True, refresh=Source()).refresh_token.get_secret_value() == "refresh-8"


def test_a_login_that_fails_loses_nothing_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a refresh had brought and not put in place is completed before another login is tried."""
    store = store_at(tmp_path)
    store.save_login(grant())
    cut_off(store, monkeypatch, "fsync")

    def refused() -> TokenGrant:
        message = "no"
        raise AuthUnavailableError(message)

    with pytest.raises(AuthUnavailableError, match="no"):
        store_at(tmp_path).log_in(refused)
    assert store_at(tmp_path).load().refresh_token.get_secret_value() == "refresh-2"
    assert names_in(tmp_path / "private") == ["tokens", "tokens.lock", "tokens.note"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_login_that_could_not_be_stored_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The lock is taken and room reserved before the code is exchanged, which ends the login there is."""
    store = store_at(tmp_path)
    first = store.save_login(grant())
    asked: list[int] = []

    def exchange() -> TokenGrant:
        asked.append(1)
        return grant("second")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", failing(error))
        for act in (store.check, lambda: store.log_in(exchange)):
            with pytest.raises(AuthUnavailableError, match="no room for a new token"):
                act()
    with (tmp_path / "private" / "tokens.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AuthUnavailableError, match="locked by another process"):
            store_at(tmp_path, lock_seconds=0.02).log_in(exchange)
    assert (asked, store_at(tmp_path).load()) == ([], first)
    assert store.log_in(exchange).generation == 2


def test_without_a_call_that_reserves_room_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS zeros take the room, and the record is the same."""
    monkeypatch.delattr(os, "posix_fallocate")
    store = store_at(tmp_path)
    sizes: list[int] = []

    def exchange() -> TokenGrant:
        sizes.append((tmp_path / "private" / "tokens.draft").stat().st_size)
        return grant()

    store.log_in(exchange)
    assert sizes == [16 << 10]
    assert store_at(tmp_path).load().generation == 1


# --- failures that may pass


def test_after_no_answer_all_who_rest_wait_ten_seconds(tmp_path: Path) -> None:
    """Whoever asks for each request leaves the endpoint alone for a while; a person who asks is not held up."""
    clock = Hand()
    store, other = store_at(tmp_path, now=clock), store_at(tmp_path, now=clock)
    store.save_login(grant())
    source = Source(*[AuthUnavailableError("503")] * 3, grant("second"))
    with pytest.raises(AuthUnavailableError, match="503"):
        store.renew(is_good=stale, refresh=source, rests=True)
    clock.at += 4
    for each in (store, other):
        with pytest.raises(AuthUnavailableError, match=r"gave no new token at 2026-01-05 20:55:00 UTC .* in 6 s"):
            each.renew(is_good=stale, refresh=source, rests=True)
    assert len(source.shown) == 1
    with pytest.raises(AuthUnavailableError, match="503"):
        other.renew(is_good=stale, refresh=source)
    clock.at -= 3600  # a clock that is set back does not lengthen the wait
    with pytest.raises(AuthUnavailableError, match="503"):
        store.renew(is_good=stale, refresh=source, rests=True)
    clock.at += 10
    assert store.renew(is_good=stale, refresh=source, rests=True).generation == 2


def test_a_refused_app_is_not_asked_for_again_until_it_is_another(tmp_path: Path) -> None:
    """For five minutes nobody with these credentials asks; corrected ones are tried at once."""
    clock = Hand()
    store, same = store_at(tmp_path, now=clock, app="a"), store_at(tmp_path, now=clock, app="a")
    store.save_login(grant())
    source = Source(*[ClientCredentialsError("refused")] * 2, grant("second"))
    with pytest.raises(ClientCredentialsError, match=r"^refused$"):
        store.renew(is_good=stale, refresh=source, rests=True)
    clock.at += 299
    for each in (store, same):
        with pytest.raises(ClientCredentialsError, match=r"refused the app key or secret at .*APP_SECRET"):
            each.renew(is_good=stale, refresh=source, rests=True)
    assert len(source.shown) == 1
    clock.at += 1
    with pytest.raises(ClientCredentialsError, match=r"^refused$"):
        store.renew(is_good=stale, refresh=source, rests=True)
    assert store_at(tmp_path, now=clock, app="b").renew(is_good=stale, refresh=source, rests=True).generation == 2
    assert app_mark(SecretStr("key"), SecretStr("a")) != app_mark(SecretStr("key"), SecretStr("b"))


def test_a_restored_backup_is_read(tmp_path: Path) -> None:
    """A lower generation than seen before is believed: each file was put there whole."""
    store = store_at(tmp_path)
    store.save_login(grant())
    file = tmp_path / "private" / "tokens"
    old = file.read_bytes()
    store.renew(is_good=stale, refresh=Source(grant("second")))
    file.unlink()
    file.write_bytes(old)
    file.chmod(0o600)
    assert store.load().generation == 1


def reads_of(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each time the store reads its file."""
    reads: list[int] = []
    read = store._content
    monkeypatch.setattr(store, "_content", lambda: (reads.append(1), read())[1])
    return reads


def test_a_replacement_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of the same generation, as after a change of keys, and an older one, as from a backup."""
    store = store_at(tmp_path)
    store.save_login(grant())
    file = tmp_path / "private" / "tokens"
    old = file.read_bytes()
    store.load()
    reads = reads_of(store, monkeypatch)
    again = store_at(tmp_path, keys=fixed(KEY, new_key().get_secret_value()))
    again.change_key()
    assert (store.load().generation, len(reads)) == (1, 1)
    again.renew(is_good=stale, refresh=Source(grant("second")))
    assert (store.load().generation, len(reads)) == (2, 2)
    file.unlink()
    file.write_bytes(old)
    file.chmod(0o600)
    assert (store.load().generation, len(reads)) == (1, 3)


def test_a_file_replaced_under_another_key_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that does not open is read again when the file has been replaced meanwhile, and only then."""
    store_at(tmp_path).save_login(grant())
    stranger = store_at(tmp_path, keys=fixed(new_key().get_secret_value()))
    reads = reads_of(stranger, monkeypatch)
    with pytest.raises(TokenStoreError):
        stranger.load()
    assert len(reads) == 1
    reader = store_at(tmp_path)
    content = reader._content

    def replaced() -> Any:
        monkeypatch.setattr(reader, "_content", content)
        store_at(tmp_path).save_login(grant("second"))
        return b"sealed with a key that is gone", content()[1]

    monkeypatch.setattr(reader, "_content", replaced)
    assert reader.load().generation == 2


def test_before_a_login_its_key_is_made_sure(tmp_path: Path) -> None:
    """Checking makes the key that the login will need, so that a login does not fail at its last step."""
    paths = {"key_file": tmp_path / "config" / "key", "token_file": tmp_path / "private" / "tokens"}
    store = store_at(tmp_path, keys=open_keys(None, **paths))
    store.check()
    made = (tmp_path / "config" / "key").read_text()
    store.save_login(grant())
    assert (tmp_path / "config" / "key").read_text() == made
    (tmp_path / "private" / "tokens").unlink()
    (tmp_path / "config" / "key").write_text("broken")
    with pytest.raises(TokenStoreError, match="not 32 bytes"):
        store_at(tmp_path, keys=open_keys(None, **paths)).check()


# --- the end of a login


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    """Login, draft and notes are gone, the lock stays; forgetting again finds nothing."""
    store = store_at(tmp_path)
    store.save_login(grant())
    with pytest.raises(LoginRequiredError):
        store.renew(is_good=stale, refresh=Source(LoginRequiredError("dead")))
    for name in ("tokens.draft", "tokens.note.draft"):
        (tmp_path / "private" / name).write_bytes(b"x")
    assert forget_login(store.path) is True
    assert names_in(tmp_path / "private") == ["tokens.lock"]
    assert forget_login(store.path) is False
    with pytest.raises(LoginRequiredError, match="no tokens are stored"):
        store.load()
    assert store.save_login(grant()).generation == 1


def test_forgetting_works_without_the_key(tmp_path: Path) -> None:
    """Being asked for by name, it also removes what cannot be opened."""
    store_at(tmp_path).save_login(grant())
    assert forget_login(tmp_path / "private" / "tokens") is True
    assert forget_login(tmp_path / "elsewhere" / "private" / "tokens") is False


def test_forgetting_on_a_failing_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the removal is not durable, it is not called done."""
    store = store_at(tmp_path)
    store.save_login(grant())
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(AuthUnavailableError, match="cannot be changed"):
        forget_login(store.path)
