"""Where things are kept is looked at without changing it: folders that take no file, disks full or far away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.defs.resources import token_store
from trade_analyst_pipeline.errors import AuthError
from trade_analyst_pipeline.ops.health import folders
from trade_analyst_pipeline.schwab.token_records import TokenGrant
from trade_analyst_pipeline.settings import Settings

MOUNTS = """\
rootfs / ext4 rw 0 0
server:/export /mnt/share nfs4 rw 0 0
/dev/sdb /mnt/share/fast\\040disk xfs rw 0 0
overlay /mnt/share/fast\\040disk ext4 rw 0 0
"""


def make_settings(**changes: Any) -> Settings:
    """Settings of the simulator with everything under the current folder."""
    return Settings(universe={"symbols": ["SPY"]}, **changes)


def test_data_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    """A data folder below a plain file can never be made, and the report says so instead of raising."""
    (tmp_path / "file").touch()
    finding = folders.check_data_folder(tmp_path / "file" / "data")
    assert finding.status == "fail"
    assert finding.remedy is not None


def test_data_folder_is_not_made_by_looking(tmp_path: Path) -> None:
    """Where it is not there yet, the check says it will be made, and leaves it so; then it takes a file."""
    folder = tmp_path / "data" / "simulate"
    assert "will be made" in folders.check_data_folder(folder).detail
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    assert folders.check_data_folder(folder).detail == str(folder)
    assert list(folder.iterdir()) == []


def test_little_free_space_fails_with_the_amount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free space under the limit fails and says how much there is."""
    assert folders.check_free_space(tmp_path / "none").detail.endswith("GiB free")
    monkeypatch.setattr(folders, "MINIMUM_FREE_BYTES", 1 << 60)
    finding = folders.check_free_space(tmp_path)
    assert finding.status == "fail"
    assert finding.detail.endswith("GiB free")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/data", "ext4"),
        ("/mnt/share/data", "nfs4"),
        ("/mnt/share/fast disk/data", "ext4"),
        ("/mnt/shared", "ext4"),
    ],
)
def test_file_system_is_that_of_the_deepest_mount(path: str, kind: str) -> None:
    """The deepest mount point decides, a later mount on it covers an earlier one, and names are compared whole."""
    assert folders.file_system_kind(Path(path), MOUNTS) == kind


def test_network_file_system_fails(tmp_path: Path) -> None:
    """A data folder on NFS is refused, as locks and renames there cannot be trusted."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/export {tmp_path} nfs4 rw 0 0\n")
    finding = folders.check_file_systems({"data_root": tmp_path / "data"}, mounts_file=mounts)
    assert (finding.status, finding.detail) == ("fail", f"{tmp_path / 'data'} is on nfs4")
    mounts.write_text(f"/dev/sda {tmp_path} xfs rw 0 0\n")
    assert folders.check_file_systems({"data_root": tmp_path / "data"}, mounts_file=mounts).detail == "xfs"


def test_unknown_mounts_are_skipped(tmp_path: Path) -> None:
    """Where mounts are not listed the check is skipped: not checked is not the same as well."""
    finding = folders.check_file_systems({"data_root": tmp_path}, mounts_file=tmp_path / "absent")
    assert (finding.status, finding.remedy) == ("skipped", None)


def log_in(settings: Settings) -> Path:
    """Store a login; returns the folder it is in."""
    token_store(settings).save_login(TokenGrant(SecretStr("access-token"), SecretStr("refresh-token"), 1800.0))
    return settings.token_file.parent


def test_cache_folder_is_not_made_by_looking() -> None:
    """Before the first use it will be made; with a login in it it is told with its room; nothing is added to it."""
    settings = make_settings()
    assert folders.check_cache_folder(settings).detail.startswith(".cache/simulate will be made at first use; ")
    assert list(Path.cwd().iterdir()) == []
    log_in(settings)
    before = sorted(Path(".cache").rglob("*"))
    finding = folders.check_cache_folder(settings)
    assert finding.status == "ok"
    assert finding.detail.startswith(".cache/simulate; ")
    assert finding.detail.endswith("GiB free")
    assert sorted(Path(".cache").rglob("*")) == before


@pytest.mark.parametrize("place", [".cache", ".cache/simulate", ".cache/simulate/tokens"])
def test_cache_folder_that_cannot_be_written_fails(place: str) -> None:
    """Something else in the place of any of its folders: no login could be stored, and the place is named."""
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).touch()
    finding = folders.check_cache_folder(make_settings())
    assert finding.status == "fail"
    assert place in finding.detail
    assert "cache_root" in (finding.remedy or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="NOT RUN: root may write everywhere")
@pytest.mark.parametrize("place", [".cache", ".cache/simulate", ".cache/simulate/tokens"])
def test_cache_folder_without_write_permission_fails(place: str) -> None:
    """Permission taken away from any of its folders."""
    log_in(make_settings())
    Path(place).chmod(0o500)
    try:
        finding = folders.check_cache_folder(make_settings())
    finally:
        Path(place).chmod(0o700)
    assert finding.status == "fail"
    assert "Permission denied" in finding.detail


def test_refused_file_in_any_of_its_folders_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk mounted read-only: whichever folder refuses is named with the system's words."""
    settings = make_settings()
    tokens = log_in(settings)

    def refuse(*, dir: Path, prefix: str) -> Any:  # noqa: A002, ARG001  the library's own names
        if dir == tokens.absolute():
            raise OSError(30, "Read-only file system")
        return Path(os.devnull).open()

    monkeypatch.setattr(folders.tempfile, "NamedTemporaryFile", refuse)
    finding = folders.check_cache_folder(settings)
    assert (finding.status, finding.detail) == ("fail", f"{tokens.absolute()}: Read-only file system")


def test_full_cache_disk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room a renewed login could not be stored."""
    monkeypatch.setattr(folders, "MINIMUM_CACHE_BYTES", 1 << 60)
    finding = folders.check_cache_folder(make_settings())
    assert finding.status == "fail"
    assert finding.detail.endswith("MiB free")
    assert "cache_root" in (finding.remedy or "")


def test_folder_of_the_login_has_to_be_private() -> None:
    """A folder that others may write, or that is a link, is refused by the token store, and so by the check."""
    settings = make_settings()
    tokens = log_in(settings)
    tokens.chmod(0o770)
    finding = folders.check_cache_folder(settings)
    assert (finding.status, "can be written by others (mode 770)" in finding.detail) == ("fail", True)
    with pytest.raises(AuthError):
        log_in(settings)
    tokens.chmod(0o700)
    tokens.rename(tokens.with_name("elsewhere"))
    tokens.symlink_to("elsewhere")
    assert "is not a folder of this user" in folders.check_cache_folder(settings).detail


def test_lock_of_the_login_has_to_be_usable() -> None:
    """A lock file that others may reach, or that is none, is told with what to do; it is the one the store uses."""
    settings = make_settings()
    tokens = log_in(settings)
    (lock,) = tokens.glob("*.lock")
    lock.chmod(0o666)
    with pytest.raises(AuthError, match="can be reached by others"):
        folders.check_cache_folder(settings)
    lock.unlink()
    lock.mkdir()
    with pytest.raises(AuthError, match="Is a directory"):
        folders.check_cache_folder(settings)


def test_every_folder_with_locks_has_to_be_local(tmp_path: Path) -> None:
    """Data, cache and key are looked at each: the one that is far away is named with the setting that moves it."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/home {tmp_path}/far nfs4 rw 0 0\n")
    (tmp_path / "far").mkdir()
    settings = make_settings(cache_root=tmp_path / "far" / "cache", token_key_source="file")
    found = folders.folders_to_trust(settings)
    assert list(found) == ["data_root", "cache_root", "token_key_source"]
    finding = folders.check_file_systems(found, mounts_file=mounts)
    assert finding.status == "fail"
    assert finding.detail == (f"{tmp_path}/far/cache/simulate is on nfs4; {tmp_path}/far/cache/simulate/key is on nfs4")
    assert finding.remedy == "Keep what is there on a local disk: set cache_root and token_key_source otherwise."


def test_key_that_is_in_no_file_needs_no_disk() -> None:
    """With a key from the environment or the keyring the folder of the key file does not matter."""
    assert list(folders.folders_to_trust(make_settings())) == ["data_root", "cache_root"]
    given = make_settings(token_key="anything", token_key_source="file")
    assert list(folders.folders_to_trust(given)) == ["data_root", "cache_root"]
    log_in(make_settings())
    assert "token_key_source" in folders.folders_to_trust(make_settings())
