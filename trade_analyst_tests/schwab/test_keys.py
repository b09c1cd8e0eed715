"""The key of the token file: where it comes from and what is refused."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.errors import TokenStoreError
from trade_analyst_pipeline.schwab.keys import new_key, open_keys


def folders(tmp_path: Path) -> dict[str, Path]:
    """Where key and tokens lie in these tests."""
    return {"key_file": tmp_path / "config" / "key", "token_file": tmp_path / "cache" / "tokens"}


def test_a_key_file_is_made_once_and_used_again(tmp_path: Path) -> None:
    """The first use makes it, readable by its owner only; later uses open what was encrypted before."""
    sealed = open_keys(None, **folders(tmp_path)).encrypt(b"x")
    assert open_keys(None, **folders(tmp_path)).decrypt(sealed) == b"x"
    file = tmp_path / "config" / "key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in file.parent.iterdir()) == ["key", "key.lock"]


def test_a_lost_key_file_is_not_replaced(tmp_path: Path) -> None:
    """While a token file exists a missing key is told as such; no new one hides the loss."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tokens").write_bytes(b"x")
    with pytest.raises(TokenStoreError, match=r"is missing.*can only be opened with it"):
        open_keys(None, **folders(tmp_path))
    assert not (tmp_path / "config").exists()


def test_a_given_key_is_used_and_no_file_made(tmp_path: Path) -> None:
    """Several keys: the first encrypts, all decrypt, blanks around them do not matter."""
    old, new = new_key(), new_key()
    sealed = open_keys(old, **folders(tmp_path)).encrypt(b"x")
    both = open_keys(SecretStr(f" {new.get_secret_value()} , {old.get_secret_value()}\n"), **folders(tmp_path))
    assert both.decrypt(sealed) == b"x"
    assert open_keys(new, **folders(tmp_path)).decrypt(both.encrypt(b"y")) == b"y"
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_keys_of_the_wrong_size_are_refused(tmp_path: Path, size: int) -> None:
    """Nothing but 32 bytes is a key, and nothing of it is shown."""
    text = base64.urlsafe_b64encode(b"K" * size).decode()
    with pytest.raises(TokenStoreError, match="key 1 in TRADE_ANALYST_TOKEN_KEY is not 32 bytes") as caught:
        open_keys(SecretStr(text), **folders(tmp_path))
    assert text == "" or text not in str(caught.value)


@pytest.mark.parametrize("text", ["ключ" * 11, "!" * 44, "short", "A" * 43])
def test_texts_that_are_no_key_are_refused(tmp_path: Path, text: str) -> None:
    """Foreign letters, signs outside the alphabet and missing padding are no key; there is no fall-back."""
    with pytest.raises(TokenStoreError, match="not 32 bytes") as caught:
        open_keys(SecretStr(text), **folders(tmp_path))
    assert text not in str(caught.value)


def test_a_key_file_others_can_read_is_refused(tmp_path: Path) -> None:
    """Open rights on the key are told with the fix."""
    open_keys(None, **folders(tmp_path))
    (tmp_path / "config" / "key").chmod(0o644)
    with pytest.raises(TokenStoreError, match="chmod 600"):
        open_keys(None, **folders(tmp_path))


def test_a_damaged_key_file_is_named(tmp_path: Path) -> None:
    """An empty key file, as after a full disk, names itself."""
    open_keys(None, **folders(tmp_path))
    (tmp_path / "config" / "key").write_bytes(b"")
    with pytest.raises(TokenStoreError, match="config/key is not 32 bytes"):
        open_keys(None, **folders(tmp_path))


def test_new_keys_differ() -> None:
    """Each key is fresh, and its repr hides it."""
    assert new_key() != new_key()
    assert repr(new_key()) == "SecretStr('**********')"
