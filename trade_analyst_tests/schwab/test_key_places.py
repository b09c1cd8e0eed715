"""Key files and the OS keyring: what they keep, which keyrings are used, and that none can hang the program."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
import stand_in_keyrings
from keyring.backends import chainer, fail, null

from trade_analyst_pipeline.errors import AuthUnavailableError, TokenStoreError
from trade_analyst_pipeline.schwab import key_places
from trade_analyst_pipeline.schwab.key_places import KeyFile, KeyPlace, SystemKeyring


@pytest.fixture(autouse=True)
def _own_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working keyring of the test's own; the library's choice and what hangs are forgotten afterwards."""
    monkeypatch.setenv("STAND_IN_KEYRING", str(tmp_path / "keyring.json"))
    before = keyring.core._keyring_backend
    keyring.set_keyring(stand_in_keyrings.FileKeyring())
    yield
    keyring.core._keyring_backend = before
    key_places._left_behind.clear()


def use(name: str) -> None:
    """Make this stand-in the keyring of the process."""
    keyring.set_keyring(getattr(stand_in_keyrings, name)())


@pytest.fixture(params=["file", "keyring"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> KeyPlace:
    """Each kind of place, empty."""
    return KeyFile(tmp_path / "config" / "key") if request.param == "file" else SystemKeyring("live")


def test_a_place_keeps_two_slots_apart(place: KeyPlace) -> None:
    """What is put is got back, replaced and dropped, each slot for itself; an empty slot is None."""
    assert (place.get("current"), place.get("next")) == (None, None)
    place.put("current", "a")
    place.put("next", "b")
    place.put("current", "c")
    assert (place.get("current"), place.get("next")) == ("c", "b")
    place.drop("next")
    place.drop("next")
    assert (place.get("current"), place.get("next")) == ("c", None)


def test_a_place_says_what_it_is(tmp_path: Path) -> None:
    """Kind and name, as `token status` shows them."""
    file, system = KeyFile(tmp_path / "key"), SystemKeyring("live")
    assert (file.source, file.label) == ("file", f"key file {tmp_path}/key")
    assert (system.source, system.label) == ("keyring", 'OS keyring, entry "trade-analyst" of "live"')


def test_environments_do_not_share_a_keyring_entry() -> None:
    """The key of one environment is not seen in the other."""
    SystemKeyring("live").put("current", "a")
    assert SystemKeyring("simulate").get("current") is None


def test_key_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Whatever the umask: folder 0700, files 0600; with open rights they are refused."""
    old = os.umask(0)
    try:
        KeyFile(tmp_path / "config" / "key").put("current", "a")
        KeyFile(tmp_path / "config" / "key").put("next", "b")
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "config").iterdir()}
    assert modes == {"key": 0o600, "key.next": 0o600}
    assert stat.S_IMODE((tmp_path / "config").stat().st_mode) == 0o700
    (tmp_path / "config" / "key").chmod(0o644)
    with pytest.raises(TokenStoreError, match="chmod 600"):
        KeyFile(tmp_path / "config" / "key").get("current")


def test_a_key_file_that_goes_away_while_it_is_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of keys that ends just then removes the next key: that is no failure."""
    file = KeyFile(tmp_path / "config" / "key")
    file.put("next", "a")
    opened = os.open

    def lose_the_race(path: Any, *arguments: Any) -> int:
        Path(path).unlink(missing_ok=True)
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", lose_the_race)
    assert file.get("next") is None


def test_a_key_file_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gives the error of a full disk, and the old file stands."""
    file = KeyFile(tmp_path / "config" / "key")
    file.put("current", "a")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(AuthUnavailableError, match="no room"):
        file.put("current", "b")
    assert file.get("current") == "a"


@pytest.mark.parametrize("backend", [fail.Keyring, null.Keyring, stand_in_keyrings.PlainKeyring])
def test_keyrings_that_do_not_encrypt_are_not_used(backend: type) -> None:
    """No keyring, one that swallows everything, one that does not recommend itself: refused."""
    keyring.set_keyring(backend())
    with pytest.raises(TokenStoreError, match="no OS keyring here that encrypts"):
        SystemKeyring("live").get("current")


def test_a_plain_text_backend_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends of keyrings.alt are refused whatever priority they claim."""
    monkeypatch.setattr(stand_in_keyrings.FileKeyring, "__module__", "keyrings.alt.file")
    with pytest.raises(TokenStoreError, match="encrypts"):
        SystemKeyring("live").get("current")


def test_of_several_keyrings_the_first_that_encrypts_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that would fall through to plain text is not used as a whole."""
    backends = [stand_in_keyrings.PlainKeyring(), stand_in_keyrings.FileKeyring()]
    monkeypatch.setattr(chainer.ChainerBackend, "backends", backends)
    keyring.set_keyring(chainer.ChainerBackend())
    SystemKeyring("live").put("current", "a")
    assert stand_in_keyrings.FileKeyring().get_password("trade-analyst", "live") == "a"


def test_a_keyring_that_forgets_is_found_out() -> None:
    """What was put is read back at once."""
    use("ForgetfulKeyring")
    with pytest.raises(TokenStoreError, match="does not keep what it is given"):
        SystemKeyring("live").put("current", "a")


def test_a_keyring_that_fails_is_named_without_its_words() -> None:
    """Only the kind of failure is told: what a backend says may hold anything."""
    use("BrokenKeyring")
    with pytest.raises(AuthUnavailableError, match=r"the OS keyring failed \(ConnectionError\)") as caught:
        SystemKeyring("live").get("current")
    assert "CANARY" not in str(caught.value)


def test_a_keyring_that_hangs_is_left_behind() -> None:
    """The call ends at its limit; until it is answered no further question is put."""
    use("HangingKeyring")
    started = time.monotonic()
    with pytest.raises(AuthUnavailableError, match=r"did not answer within 0\.05 s\. Unlock it and try again"):
        SystemKeyring("live", seconds=0.05).get("current")
    with pytest.raises(AuthUnavailableError, match="has not answered an earlier question"):
        SystemKeyring("live").get("current")
    assert time.monotonic() - started < 2.0


def test_no_keyring_costs_no_time(tmp_path: Path, repository: Path) -> None:
    """A machine without session bus, as CI or a container: told at once, in a process of its own."""
    code = (
        "import time\n"
        "from trade_analyst_pipeline.errors import TokenStoreError\n"
        "from trade_analyst_pipeline.schwab.key_places import SystemKeyring\n"
        "started = time.monotonic()\n"
        "try: SystemKeyring('live').get('current')\n"
        "except TokenStoreError as error: print(time.monotonic() - started, error)"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    seconds, _, said = done.stdout.partition(" ")
    assert "no OS keyring here that encrypts" in said
    assert float(seconds) < 2.5
