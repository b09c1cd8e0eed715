"""The keys of the token file: where they come from, that a login always finds its own, and what is refused."""

from __future__ import annotations

import base64
import os
import stat
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthUnavailableError, TokenStoreError
from trade_analyst_pipeline.ops.redaction import redact
from trade_analyst_pipeline.schwab import keys as keys_module
from trade_analyst_pipeline.schwab.key_places import KeyFile, KeyPlace
from trade_analyst_pipeline.schwab.key_sets import new_key
from trade_analyst_pipeline.schwab.keys import KeyChoice, TokenKeys, open_keys


class MemoryKeyring:
    """A keyring in memory, which can be taken away."""

    source: Literal["keyring"] = "keyring"
    label = "OS keyring"

    def __init__(self) -> None:
        self.slots: dict[str, str] = {}
        self.is_there = True
        self.calls = 0

    def get(self, slot: str) -> str | None:
        """A slot's text."""
        self._check()
        return self.slots.get(slot)

    def put(self, slot: str, text: str) -> None:
        """Keep a text."""
        self._check()
        self.slots[slot] = text

    def drop(self, slot: str) -> None:
        """Empty a slot."""
        self._check()
        self.slots.pop(slot, None)

    def _check(self) -> None:
        self.calls += 1
        if not self.is_there:
            message = "the OS keyring did not answer within 3 s. Unlock it and try again."
            raise AuthUnavailableError(message)


@pytest.fixture
def keyring() -> MemoryKeyring:
    """A keyring that works."""
    return MemoryKeyring()


def opened(
    tmp_path: Path,
    choice: KeyChoice = "file",
    keyring: Any = None,
    given: str | None = None,
    shared: tuple[KeyPlace, ...] = (),
) -> TokenKeys:
    """The keys as another process would open them."""
    return open_keys(
        None if given is None else SecretStr(given),
        key_file=tmp_path / "config" / "key",
        token_file=tmp_path / "cache" / "tokens",
        choice=choice,
        keyring=keyring,
        shared=shared,
    )


def text_of(tmp_path: Path) -> str:
    """What stands in the key file."""
    return (tmp_path / "config" / "key").read_text()


# --- a first login


def test_a_key_file_is_made_once_and_used_again(tmp_path: Path) -> None:
    """The first use makes it, readable by its owner only; later uses open what was sealed before."""
    sealed = opened(tmp_path).seal(b"x")
    assert opened(tmp_path).open(sealed) == b"x"
    file = tmp_path / "config" / "key"
    before = file.read_bytes()
    opened(tmp_path).prepare()
    assert file.read_bytes() == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in file.parent.iterdir()) == ["key"]


def test_auto_prefers_the_keyring(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """With a keyring that works no key file is made, and the keys say where they lie."""
    keys = opened(tmp_path, "auto", keyring)
    sealed = keys.seal(b"x")
    assert keys.in_force is not None
    assert (keys.in_force.source, keys.in_force.label) == ("keyring", "OS keyring")
    assert not (tmp_path / "config" / "key").exists()
    assert opened(tmp_path, "auto", keyring).open(sealed) == b"x"


def test_auto_without_a_keyring_makes_a_key_file(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """A keyring that cannot be used is no error: the key file is the next place, and status says so."""
    keyring.is_there = False
    keys = opened(tmp_path, "auto", keyring)
    assert keys.prepare().source == "file"
    assert keys.open(keys.seal(b"x")) == b"x"


def test_auto_uses_a_key_that_lies_in_either_place(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """A first login makes no second key where there is one already."""
    opened(tmp_path, "file").prepare()
    keys = opened(tmp_path, "auto", keyring)
    assert keys.lookup() is not None
    assert keys.prepare().source == "file"
    assert keyring.slots == {}


def test_a_place_chosen_by_name_is_the_only_one(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """`keyring` falls back to nothing, `file` asks no keyring."""
    opened(tmp_path, "file", keyring).prepare()
    assert keyring.calls == 0
    keyring.is_there = False
    with pytest.raises(AuthUnavailableError, match=r"did not answer.*token_key_source to file"):
        opened(tmp_path, "keyring", keyring).prepare()


@pytest.mark.parametrize("damage", ["open rights", "no key"])
@pytest.mark.parametrize("choice", ["file", "auto"])
def test_a_key_file_that_is_not_trusted_is_not_written_over(
    tmp_path: Path, keyring: MemoryKeyring, damage: str, choice: KeyChoice
) -> None:
    """Another folder's login may need it: a first login stops there instead of making a new key."""
    opened(tmp_path).prepare()
    file = tmp_path / "config" / "key"
    if damage == "open rights":
        file.chmod(0o644)
    else:
        file.write_text("broken")
    before = file.read_bytes()
    for is_there in (True, False):
        keyring.is_there = is_there
        with pytest.raises(TokenStoreError, match=r"chmod 600|not 32 bytes"):
            opened(tmp_path, choice, keyring).prepare()
    assert (file.read_bytes(), keyring.slots) == (before, {})


def test_an_entry_of_the_keyring_that_is_no_key_is_not_written_over(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """It is told instead, also where another place would do."""
    keyring.slots["current"] = "broken"
    with pytest.raises(TokenStoreError, match="key 1 in OS keyring is not 32 bytes"):
        opened(tmp_path, "auto", keyring).prepare()
    assert (keyring.slots, (tmp_path / "config" / "key").exists()) == ({"current": "broken"}, False)


def test_a_keyring_that_failed_once_is_not_written_to(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """Its key may be that of a login: it is left alone in this call, though it answers again by then."""
    sealed = opened(tmp_path, "keyring", keyring).seal(b"x")
    before, get = dict(keyring.slots), keyring.get
    failures = iter([True])

    def failing_once(slot: str) -> str | None:
        if next(failures, False):
            message = "the OS keyring failed"
            raise AuthUnavailableError(message)
        return get(slot)

    keyring.get = failing_once  # type: ignore[method-assign]
    assert opened(tmp_path, "auto", keyring).prepare().source == "file"
    failures = iter([True])
    with pytest.raises(AuthUnavailableError, match="the OS keyring failed"):
        opened(tmp_path, "keyring", keyring).prepare()
    assert keyring.slots == before
    assert opened(tmp_path, "auto", keyring).open(sealed) == b"x"


def test_a_key_that_appears_meanwhile_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and making a key another program has put one there: it stays."""
    opened(tmp_path).prepare()
    before = text_of(tmp_path)
    monkeypatch.setattr(keys_module, "key_texts", lambda _: [])
    with pytest.raises(TokenStoreError, match="has just put a key into the key file"):
        opened(tmp_path).prepare()
    assert text_of(tmp_path) == before


def test_lookup_makes_nothing(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """Asking which key would be used leaves both places empty."""
    assert opened(tmp_path, "auto", keyring).lookup() is None
    assert (keyring.slots, (tmp_path / "config").exists()) == ({}, False)


def test_a_key_that_is_gone_right_after_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that loses what it was given is no place for a login."""
    monkeypatch.setattr(keys_module.KeyFile, "put", lambda *_: None)
    with pytest.raises(TokenStoreError, match="not to be found"):
        opened(tmp_path).prepare()


# --- a login finds its key wherever it lies


def test_a_keyring_that_appears_later_changes_nothing(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """The login made with a key file opens; the keyring is not even asked."""
    sealed = opened(tmp_path, "file").seal(b"x")
    assert opened(tmp_path, "auto", keyring).open(sealed) == b"x"
    assert opened(tmp_path, "keyring", keyring).open(sealed) == b"x"
    assert keyring.calls == 0


def test_a_login_under_a_keyring_opens_although_a_file_is_wanted(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """The place that holds the key is found, also beside a key file that opens something else."""
    sealed = opened(tmp_path, "keyring", keyring).seal(b"x")
    assert opened(tmp_path, "file", keyring).open(sealed) == b"x"
    opened(tmp_path, "file").prepare()
    keys = opened(tmp_path, "file", keyring)
    assert keys.open(sealed) == b"x"
    assert keys.in_force is not None
    assert keys.in_force.source == "keyring"
    assert keys.open(keys.seal(b"y")) == b"y"


def test_a_lost_key_is_not_replaced(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """What cannot be opened is told with both places and the way out; no new key hides the loss."""
    sealed = opened(tmp_path, "file").seal(b"x")
    (tmp_path / "config" / "key").unlink()
    with pytest.raises(TokenStoreError, match=r"its key is missing .*key file.*OS keyring.*token revoke"):
        opened(tmp_path, "auto", keyring).open(sealed)
    assert (keyring.slots, (tmp_path / "config" / "key").exists()) == ({}, False)


def test_a_keyring_that_is_gone_is_told(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """The login's key is in a keyring that does not answer: it is to be asked again, and nothing is to be given up."""
    sealed = opened(tmp_path, "keyring", keyring).seal(b"x")
    opened(tmp_path, "file").prepare()  # another key, which does not open it
    keyring.is_there = False
    with pytest.raises(AuthUnavailableError, match=r"cannot be opened now: .*did not answer.*Unlock it") as caught:
        opened(tmp_path, "auto", keyring).open(sealed)
    assert "revoke" not in str(caught.value)
    assert "login" not in str(caught.value)
    keyring.is_there = True
    assert opened(tmp_path, "auto", keyring).open(sealed) == b"x"


def test_a_damaged_key_file_does_not_hide_the_keyring(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """The login opens with the keyring's key; without it the damage is named."""
    sealed = opened(tmp_path, "keyring", keyring).seal(b"x")
    opened(tmp_path, "file").prepare()
    (tmp_path / "config" / "key").write_bytes(b"")
    assert opened(tmp_path, "auto", keyring).open(sealed) == b"x"
    with pytest.raises(TokenStoreError, match="config/key is not 32 bytes"):
        opened(tmp_path).open(sealed)


def test_a_key_file_others_can_read_is_refused(tmp_path: Path) -> None:
    """Open rights on the key are told with the fix."""
    sealed = opened(tmp_path).seal(b"x")
    (tmp_path / "config" / "key").chmod(0o644)
    with pytest.raises(TokenStoreError, match="chmod 600"):
        opened(tmp_path).open(sealed)


def test_sealed_text_with_other_letters_for_the_same_bytes_is_refused(tmp_path: Path) -> None:
    """Base64 that decodes to the same bytes but was not written so is damage."""
    keys = opened(tmp_path)
    sealed = keys.seal(b"x")
    last = sealed.rstrip(b"=")[-1:]
    other = f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}-_".encode()
    twin = sealed.rstrip(b"=")[:-1] + other[other.index(last) ^ 1 : (other.index(last) ^ 1) + 1]
    twin += b"=" * (len(sealed) - len(twin))
    assert base64.urlsafe_b64decode(twin) == base64.urlsafe_b64decode(sealed)
    with pytest.raises(TokenStoreError, match="damaged"):
        keys.open(twin)


def test_a_place_that_others_share_opens_and_is_never_changed(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """A login under a key that other logins use too opens, is saved, and gets a key of its own when that is changed."""
    sealed = opened(tmp_path / "shared").seal(b"x")
    place = KeyFile(tmp_path / "shared" / "config" / "key")
    before = place.path.read_bytes()
    keys = opened(tmp_path, "auto", keyring, shared=(place,))
    sealed = changed(keys, keys.seal(keys.open(sealed)))
    assert place.path.read_bytes() == before
    assert opened(tmp_path).open(sealed) == b"x"
    with pytest.raises(TokenStoreError):
        opened(tmp_path / "shared").open(sealed)
    shared = opened(tmp_path / "shared").seal(b"x")
    moved = changed(opened(tmp_path / "new", "keyring", keyring, shared=(place,)), shared)
    assert opened(tmp_path / "new", "keyring", keyring).open(moved) == b"x"
    assert place.path.read_bytes() == before


def test_a_first_login_makes_no_use_of_a_shared_key(tmp_path: Path) -> None:
    """It has a key of its own from the start."""
    opened(tmp_path / "shared").prepare()
    place = KeyFile(tmp_path / "shared" / "config" / "key")
    sealed = opened(tmp_path, shared=(place,)).seal(b"x")
    with pytest.raises(TokenStoreError):
        opened(tmp_path / "shared").open(sealed)


# --- keys from the environment


def test_a_given_key_is_used_and_no_file_made(tmp_path: Path) -> None:
    """Several keys: the first seals, all open, blanks around them do not matter."""
    old, new = new_key().get_secret_value(), new_key().get_secret_value()
    sealed = opened(tmp_path, given=old).seal(b"x")
    both = opened(tmp_path, given=f" {new} , {old}\n")
    assert both.open(sealed) == b"x"
    assert opened(tmp_path, given=new).open(both.seal(b"y")) == b"y"
    assert both.prepare().is_changing
    assert not (tmp_path / "config").exists()


def test_a_given_key_that_does_not_fit_is_told(tmp_path: Path) -> None:
    """A login made with a key file is not opened behind the back of a key that was given."""
    sealed = opened(tmp_path).seal(b"x")
    with pytest.raises(TokenStoreError, match="Restore the key in TRADE_ANALYST_TOKEN_KEY"):
        opened(tmp_path, given=new_key().get_secret_value()).open(sealed)


def put_into_file(tmp_path: Path, _: Any, text: str) -> TokenKeys:
    """Keys of a key file with this text."""
    opened(tmp_path).prepare()
    (tmp_path / "config" / "key").write_text(text)
    return opened(tmp_path)


def put_into_keyring(tmp_path: Path, keyring: MemoryKeyring, text: str) -> TokenKeys:
    """Keys of a keyring with this text."""
    keyring.slots["current"] = text
    return opened(tmp_path, "keyring", keyring)


def put_into_environment(tmp_path: Path, _: Any, text: str) -> TokenKeys:
    """Keys given as this text."""
    return opened(tmp_path, given=text)


@pytest.mark.parametrize("put", [put_into_environment, put_into_file, put_into_keyring])
@pytest.mark.parametrize(
    "text",
    [
        *(base64.urlsafe_b64encode(b"K" * size).decode() for size in (0, 16, 31, 33)),
        *("ключ" * 11, "!" * 44, "short", "A" * 43),
    ],
    ids=["0 bytes", "16 bytes", "31 bytes", "33 bytes", "foreign letters", "other signs", "short", "no padding"],
)
def test_texts_that_are_no_key_are_refused(
    tmp_path: Path, keyring: MemoryKeyring, put: Callable[..., TokenKeys], text: str
) -> None:
    """Nothing but 32 bytes in URL-safe base64 is a key, wherever it stands; nothing of it is shown, nothing sealed."""
    with pytest.raises(TokenStoreError, match=r"key 1 in .* is not 32 bytes") as caught:
        put(tmp_path, keyring, text).open(b"x")
    assert text == "" or text not in str(caught.value)


def test_new_keys_differ() -> None:
    """Each key is fresh, and its repr hides it."""
    assert new_key() != new_key()
    assert repr(new_key()) == "SecretStr('**********')"


def test_keys_in_use_are_masked_everywhere(tmp_path: Path) -> None:
    """A key that was read is a registered secret from then on."""
    opened(tmp_path).prepare()
    assert redact(f"before {text_of(tmp_path)} after") == "before [secret] after"


# --- an ephemeral key


def test_an_ephemeral_key_is_the_same_all_over_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for by name, kept nowhere, warned about once, and cannot be changed."""
    monkeypatch.setattr(keys_module, "_ephemeral_keys", keys_module.functools.cache(_uncached()))
    sealed = opened(tmp_path, "ephemeral").seal(b"x")
    assert opened(tmp_path, "ephemeral").open(sealed) == b"x"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not (tmp_path / "config").exists()
    with pytest.raises(TokenStoreError, match="ephemeral key is not changed"):
        opened(tmp_path, "ephemeral").begin_change()


def _uncached() -> Callable[[], Any]:
    made: Callable[[], Any] = keys_module._ephemeral_keys.__wrapped__
    return made


def test_a_given_key_comes_before_an_ephemeral_one(tmp_path: Path) -> None:
    """The environment wins whatever the source says."""
    assert opened(tmp_path, "ephemeral", given=new_key().get_secret_value()).prepare().source == "environment"


# --- changing keys


def changed(keys: TokenKeys, sealed: bytes) -> bytes:
    """What was sealed, under a new key."""
    plain = keys.open(sealed)
    keys.begin_change()
    again = keys.seal(plain)
    keys.end_change(again)
    return again


@pytest.mark.parametrize("choice", ["file", "keyring", "auto"])
def test_a_change_replaces_the_key_where_it_lies(tmp_path: Path, keyring: MemoryKeyring, choice: KeyChoice) -> None:
    """The new key opens what is sealed anew, the old one nothing of it, and only one is left."""
    sealed = opened(tmp_path, choice, keyring).seal(b"x")
    before = text_of(tmp_path) if choice == "file" else keyring.slots["current"]
    again = changed(opened(tmp_path, choice, keyring), sealed)
    assert opened(tmp_path, choice, keyring).open(again) == b"x"
    with pytest.raises(TokenStoreError):
        opened(tmp_path, given=before).open(again)
    left = list((tmp_path / "config").glob("key*")) if choice == "file" else list(keyring.slots)
    assert len([name for name in left if not str(name).endswith(".lock")]) == 1


def test_a_change_moves_the_key_to_the_place_named(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """With `keyring` named the key file is gone afterwards, and the other way round."""
    sealed = opened(tmp_path, "file").seal(b"x")
    (tmp_path / "config" / "key.next").write_text(text_of(tmp_path))
    (tmp_path / "config" / "key.next").chmod(0o600)
    sealed = changed(opened(tmp_path, "keyring", keyring), sealed)
    assert not (tmp_path / "config" / "key.next").exists()
    assert (list(keyring.slots), (tmp_path / "config" / "key").exists()) == (["current"], False)
    sealed = changed(opened(tmp_path, "file", keyring), sealed)
    assert (keyring.slots, (tmp_path / "config" / "key").exists()) == ({}, True)
    assert opened(tmp_path, "auto", keyring).open(sealed) == b"x"


def test_a_move_away_from_a_keyring_that_is_gone_is_finished(tmp_path: Path, keyring: MemoryKeyring) -> None:
    """A process that still has the key moves it; what it cannot drop in the keyring is left there."""
    keys = opened(tmp_path, "file", keyring)
    keys.open(opened(tmp_path, "keyring", keyring).seal(b"x"))
    keyring.is_there = False
    keys.begin_change()
    again = keys.seal(b"x")
    assert keys.end_change(again).source == "file"
    assert opened(tmp_path).open(again) == b"x"


def test_a_change_that_was_cut_off_goes_on_with_its_key(tmp_path: Path) -> None:
    """The next key made before is used, no further one is made; both open until the end."""
    sealed = opened(tmp_path).seal(b"x")
    keys = opened(tmp_path)
    keys.open(sealed)
    keys.begin_change()
    waiting = (tmp_path / "config" / "key.next").read_text()
    again = changed(opened(tmp_path), sealed)
    assert text_of(tmp_path) == waiting
    assert opened(tmp_path).open(again) == b"x"
    assert not (tmp_path / "config" / "key.next").exists()


def test_a_change_that_was_cut_off_at_its_last_step_begins_anew(tmp_path: Path) -> None:
    """With the same key in both slots there is one key, and a change makes a new one."""
    sealed = opened(tmp_path).seal(b"x")
    before = text_of(tmp_path)
    (tmp_path / "config" / "key.next").write_text(before)
    (tmp_path / "config" / "key.next").chmod(0o600)
    keys = opened(tmp_path)
    keys.open(sealed)
    assert keys.in_force is not None
    assert not keys.in_force.is_changing
    changed(opened(tmp_path), sealed)
    assert text_of(tmp_path) != before


def test_the_old_key_stays_until_the_record_is_under_the_new_one(tmp_path: Path) -> None:
    """Ending a change over a record that the new key does not open is refused, and the old key still opens it."""
    sealed = opened(tmp_path).seal(b"x")
    keys = opened(tmp_path)
    keys.open(sealed)
    keys.begin_change()
    with pytest.raises(TokenStoreError, match="the old one was kept"):
        keys.end_change(sealed)
    assert opened(tmp_path).open(sealed) == b"x"


def test_two_changes_at_once_end_with_a_key(tmp_path: Path) -> None:
    """Two project folders that share a key change it at the same time: the second finds the first's work done."""
    sealed = opened(tmp_path).seal(b"x")
    first, second = opened(tmp_path), opened(tmp_path)
    for keys in (first, second):
        keys.open(sealed)
        keys.begin_change()
    records = [keys.seal(b"x") for keys in (first, second)]
    for keys, record in zip((first, second), records, strict=True):
        keys.end_change(record)
    assert [opened(tmp_path).open(record) for record in records] == [b"x", b"x"]


def test_a_given_key_is_changed_by_its_owner(tmp_path: Path) -> None:
    """One given key: the procedure is told. Two: what is sealed from now on needs the first."""
    old, new = new_key().get_secret_value(), new_key().get_secret_value()
    sealed = opened(tmp_path, given=old).seal(b"x")
    with pytest.raises(TokenStoreError, match="set the variable to the new and the old one"):
        opened(tmp_path, given=old).begin_change()
    again = changed(opened(tmp_path, given=f"{new},{old}"), sealed)
    assert opened(tmp_path, given=new).open(again) == b"x"


def test_a_key_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk stops a first login before it begins."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(AuthUnavailableError, match="no room"):
        opened(tmp_path).prepare()
