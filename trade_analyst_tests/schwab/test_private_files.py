"""Private files: whatever the umask, for their owner only; and whatever a stranger has prepared, not followed."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from token_scenes import Source, grant, stale, store_at

from trade_analyst_pipeline.errors import AuthUnavailableError, LoginRequiredError, TokenStoreError
from trade_analyst_pipeline.schwab import private_files
from trade_analyst_pipeline.schwab.private_files import (
    Draft,
    check_private_folder,
    finish_draft,
    hold_lock,
    is_locked,
    read_draft,
    read_private,
    remove_durably,
    signature,
)


def failing(error: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: Any, **__: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return call


def mode(path: Path) -> int:
    """Its permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


# --- modes


@pytest.mark.reliability
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everything_is_for_its_owner_only(tmp_path: Path, umask: int) -> None:
    """File, lock, note and draft 0600, their folder 0700, at any umask; folders above it only we can write."""
    modes: dict[str, int] = {}

    def answer(_: object) -> Any:
        modes.update({path.name: mode(path) for path in (tmp_path / "a" / "b" / "private").iterdir()})
        message = "dead"
        raise LoginRequiredError(message)

    old = os.umask(umask)
    try:
        store = store_at(tmp_path / "a" / "b")
        store.save_login(grant())
        with pytest.raises(LoginRequiredError):
            store.renew(is_good=stale, refresh=answer)
    finally:
        os.umask(old)
    assert modes == {"tokens": 0o600, "tokens.lock": 0o600, "tokens.note": 0o600, "tokens.draft": 0o600}
    assert mode(tmp_path / "a" / "b" / "private") == 0o700
    assert [mode(folder) & 0o022 for folder in (tmp_path / "a", tmp_path / "a" / "b")] == [0, 0]


@pytest.mark.reliability
def test_control_a_plain_open_gives_the_file_to_everybody(tmp_path: Path) -> None:
    """The umask is able to do harm: what is opened the plain way can be read and written by all."""
    old = os.umask(0)
    try:
        (tmp_path / "plain").write_text("x")
    finally:
        os.umask(old)
    assert mode(tmp_path / "plain") == 0o666


# --- what a stranger may have prepared


def prepared(tmp_path: Path, what: str, victim: str) -> Path:
    """A store with a login, and one of its names replaced by something hostile; returns a file outside of it."""
    store_at(tmp_path).save_login(grant())
    outside, name = tmp_path / "outside", tmp_path / "private" / victim
    outside.write_bytes(name.read_bytes() if name.exists() else b"")
    outside.chmod(0o600)
    name.unlink(missing_ok=True)
    if what == "symbolic link":
        name.symlink_to(outside)
    elif what == "hard link":
        name.hardlink_to(outside)
    elif what == "folder":
        name.mkdir()
    elif what == "fifo":
        os.mkfifo(name, 0o600)
    else:
        name.write_bytes(outside.read_bytes())
        name.chmod(0o666 if what == "open rights" else 0o600)
        if what == "foreign owner":
            os.chown(name, 12345, -1)
    return outside


HOSTILE = ["symbolic link", "hard link", "folder", "fifo", "open rights", "foreign owner"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: giving a file away needs root")


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("what", "victim"),
    [
        pytest.param(what, victim, marks=[needs_root] if what == "foreign owner" else [])
        for what in HOSTILE
        for victim in ("tokens", "tokens.lock")
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, what: str, victim: str) -> None:
    """Links, fifos, open rights, another owner, for the file and its lock: refused, nothing asked, nothing followed."""
    outside = prepared(tmp_path, what, victim)
    before, source = outside.read_bytes(), Source()
    with pytest.raises(TokenStoreError):
        store_at(tmp_path).renew(is_good=stale, refresh=source)
    with pytest.raises(TokenStoreError):
        store_at(tmp_path).save_login(grant("forced"))
    assert (source.shown, outside.read_bytes()) == ([], before)


@pytest.mark.reliability
@pytest.mark.parametrize("what", ["symbolic link", "hard link", "fifo"])
@pytest.mark.parametrize("victim", ["tokens.draft", "tokens.note", "tokens.note.draft"])
def test_hostile_drafts_and_notes_are_replaced_and_not_followed(tmp_path: Path, what: str, victim: str) -> None:
    """What only prepares or advises is thrown away: the renewal works, and nothing outside was touched."""
    outside = prepared(tmp_path, what, victim)
    outside.write_bytes(b"outside")
    assert store_at(tmp_path).renew(is_good=stale, refresh=Source(grant("second"))).generation == 2
    assert (outside.read_bytes(), mode(outside)) == (b"outside", 0o600)


def test_a_folder_that_is_not_private_is_closed_or_refused(tmp_path: Path) -> None:
    """One others may look into is closed; one they could write into is refused, and so are links and files."""
    for name, before in (("readable", 0o755), ("writable", 0o777), ("by the group", 0o770)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(before)
    check_private_folder(tmp_path / "readable", TokenStoreError)
    assert mode(tmp_path / "readable") == 0o700
    for name in ("writable", "by the group"):
        with pytest.raises(TokenStoreError, match="chmod 700"):
            check_private_folder(tmp_path / name, TokenStoreError)
    (tmp_path / "link").symlink_to(tmp_path / "readable")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(TokenStoreError, match="not a folder of yours"):
            check_private_folder(tmp_path / name, TokenStoreError)
    with pytest.raises(TokenStoreError, match=r"cannot be made private \(Not a directory\)"):
        check_private_folder(tmp_path / "file" / "below", TokenStoreError)


# --- reading


def test_a_signature_changes_with_each_replacement(tmp_path: Path) -> None:
    """None without a file; another one once the file was replaced or its rights changed."""
    file = tmp_path / "file"
    assert signature(file) is None
    file.write_bytes(b"a")
    first = signature(file)
    (tmp_path / "other").write_bytes(b"a")
    (tmp_path / "other").replace(file)
    second = signature(file)
    file.chmod(0o600)
    assert len({first, second, signature(file)}) == 3


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    """Where the folder is no folder, the error is ours."""
    (tmp_path / "file").touch()
    with pytest.raises(TokenStoreError, match=r"cannot be looked at \(Not a directory\)"):
        signature(tmp_path / "file" / "below")


def test_no_more_is_read_than_allowed(tmp_path: Path) -> None:
    """One byte more than the bound tells that it was passed."""
    (tmp_path / "file").write_bytes(b"x" * 100)
    (tmp_path / "file").chmod(0o600)
    found = read_private(tmp_path / "file", TokenStoreError, largest=10)
    assert found is not None
    assert len(found[0]) == 11
    assert read_private(tmp_path / "none", TokenStoreError, largest=10) is None


def test_a_disk_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while reading is named, and nothing is taken for a damaged record."""
    store_at(tmp_path).save_login(grant())
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(errno.EIO))
        with pytest.raises(TokenStoreError, match=r"cannot be read \(Input/output error\)"):
            store_at(tmp_path).load()
    assert store_at(tmp_path).load().generation == 1


# --- locks


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """Also between threads of one process; free again afterwards, and the file stays."""
    lock = tmp_path / "lock"
    assert not is_locked(lock)
    with hold_lock(lock, 1.0) as is_mine:
        assert is_mine
        assert is_locked(lock)
        with pytest.raises(AuthUnavailableError, match=r"locked by another process for 0\.01 s"), hold_lock(lock, 0.01):
            pass
        outcome: list[bool] = []
        thread = threading.Thread(target=lambda: outcome.append(is_locked(lock)))
        thread.start()
        thread.join()
        assert outcome == [True]
    assert not is_locked(lock)
    assert lock.exists()


def test_a_lock_that_is_no_longer_needed_is_not_waited_for(tmp_path: Path) -> None:
    """The wait ends as soon as the caller says so, without the lock."""
    lock, answers = tmp_path / "lock", iter([False, False, True])
    with hold_lock(lock, 1.0), hold_lock(lock, 10.0, give_up=lambda: next(answers)) as is_mine:
        assert not is_mine
    assert list(answers) == []


def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot lock is named as such."""
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    with pytest.raises(AuthUnavailableError, match="Keep it on a local disk"), hold_lock(tmp_path / "lock", 1.0):
        pass


# --- drafts


def test_a_draft_takes_the_place_of_its_file(tmp_path: Path) -> None:
    """Room first, then content; nothing is left beside the file."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with Draft(file) as draft:
        assert (tmp_path / "file.draft").stat().st_blocks * 512 >= 16 << 10
        assert file.read_bytes() == b"old"
        draft.put(b"new")
    assert (file.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (b"new", ["file"])


def test_a_draft_that_was_not_filled_is_removed(tmp_path: Path) -> None:
    """Without content it is of no use to anybody."""
    with Draft(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_was_filled_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure in the midst of a save, its content can be read and put in place."""
    file = tmp_path / "file"
    with monkeypatch.context() as patch, Draft(file) as draft:
        patch.setattr(os, "ftruncate", failing(errno.EIO))
        with pytest.raises(AuthUnavailableError, match="could not be stored"):
            draft.put(b"new")
    assert (tmp_path / "file.draft").stat().st_size == 16 << 10
    assert read_draft(file) == b"new"
    finish_draft(file, b"new")
    assert (file.read_bytes(), read_draft(file)) == (b"new", None)
    with pytest.raises(AuthUnavailableError, match="cannot be opened"):
        finish_draft(file, b"new")


def test_a_place_that_is_taken_is_told(tmp_path: Path) -> None:
    """A left-over that cannot be removed shows as the reason."""
    (tmp_path / "file.draft").mkdir()
    with pytest.raises(AuthUnavailableError, match=r"no room .*File exists"):
        Draft(tmp_path / "file")


@pytest.mark.parametrize(("error", "advice"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "folder writable")])
def test_without_room_there_is_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, advice: str
) -> None:
    """The advice fits the reason, and nothing is left."""
    monkeypatch.setattr(os, "posix_fallocate", failing(error))
    with pytest.raises(AuthUnavailableError, match=advice):
        Draft(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_what_is_removed_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that exist go, others are no error; the folder is made durable, or the failure told."""
    (tmp_path / "a").touch()
    remove_durably([tmp_path / "a", tmp_path / "b"])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(private_files, "sync_folder", failing(errno.EIO))
    with pytest.raises(AuthUnavailableError, match="cannot be changed"):
        remove_durably([tmp_path / "a"])


def open_descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by reads, locks and saves that work nor by those that are refused."""
    store = store_at(tmp_path)
    store.save_login(grant())
    (tmp_path / "open").touch(mode=0o666)
    (tmp_path / "open").chmod(0o666)
    before = open_descriptors()
    for _ in range(3):
        store.renew(is_good=stale, refresh=Source(grant("again")))
        for refused in (
            lambda: read_private(tmp_path / "open", TokenStoreError, largest=10),
            lambda: hold_lock(tmp_path / "open", 1.0).__enter__(),
        ):
            with pytest.raises(TokenStoreError, match="chmod 600"):
                refused()
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", failing(errno.ENOSPC))
            with pytest.raises(AuthUnavailableError):
                Draft(tmp_path / "file")
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", failing(errno.EIO))
            with pytest.raises(AuthUnavailableError), Draft(tmp_path / "file") as draft:
                draft.put(b"new")
        finish_draft(tmp_path / "file", b"new")
        assert not is_locked(tmp_path / "private" / "tokens.lock")
    assert open_descriptors() == before
