"""Damage to the token file and its key: none of it is accepted, and whatever happens the file stays as it is."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from token_scenes import KEY, FileSource, Source, fixed, grant, process_context, run_all, stale, store_at
from token_workers import renew_under_a_size_limit

from trade_analyst_pipeline.errors import TokenStoreError
from trade_analyst_pipeline.schwab.key_sets import new_key
from trade_analyst_pipeline.schwab.keys import TokenKeys
from trade_analyst_pipeline.schwab.login import login
from trade_analyst_pipeline.schwab.token_records import StoredTokens, TokenGrant
from trade_analyst_pipeline.schwab.tokens import TokenStore

pytestmark = pytest.mark.reliability

# as long as the ones of the source: an access token of some 100 letters, a refresh token of 200
LONG = TokenGrant(SecretStr("I0." + "a" * 100 + "@"), SecretStr("r" * 200 + "@"), 1800.0)


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit turned over."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def damaged(good: bytes, rng: random.Random, flips: int) -> Iterator[tuple[str, bytes]]:
    """Every truncation, bits flipped at random and all of the last 40, junk of all sizes, something appended."""
    for length in range(len(good)):
        yield "truncation", good[:length]
    last = range(8 * len(good) - 40, 8 * len(good))
    for bit in [*(rng.randrange(8 * len(good)) for _ in range(flips)), *last]:
        yield "bit flip", flipped(good, bit)
    for _ in range(200):
        yield "junk", rng.randbytes(rng.randrange(1, 2 * len(good)))
    for more in (b"=", b"\n", b"\0", good):
        yield "appended", good + more


def under_damage(folder: Path, open_store: Callable[[], TokenStore], flips: int, seed: int) -> dict[str, int]:
    """Damage a stored login in every way: counts of each kind, of those accepted, and of changes to the file."""
    open_store().save_login(LONG)
    file = folder / "private" / "tokens"
    good, rng = file.read_bytes(), random.Random(seed)  # noqa: S311 - seeded damage
    counts = {"accepted": 0, "changed": 0}
    for kind, data in damaged(good, rng, flips):
        counts[kind] = counts.get(kind, 0) + 1
        file.write_bytes(data)
        with contextlib.suppress(TokenStoreError):
            open_store().load()
            counts["accepted"] += 1
        counts["changed"] += file.read_bytes() != data
    file.write_bytes(good)
    assert counts["truncation"] == len(good)
    assert open_store().load().generation == 1
    print(f"TOK-7: {counts}")
    return counts


def test_damage_is_never_accepted(tmp_path: Path, is_full: bool, harness_seed: int) -> None:
    """Cut at every byte, 3,000 bits flipped, 200 times junk: one kind of error, the file left as it is."""
    counts = under_damage(tmp_path, lambda: store_at(tmp_path), 3000 if is_full else 1000, harness_seed)
    assert (counts["accepted"], counts["changed"]) == (0, 0)


class PlainKeys(TokenKeys):
    """The known-bad keys: they neither encrypt nor authenticate."""

    def open(self, data: bytes) -> bytes:
        """As it stands."""
        return data

    def seal(self, plain: bytes) -> bytes:
        """As it is."""
        return plain


class HastyStore(TokenStore):
    """The known-bad store: it clears away what it cannot open, as if to log in anew."""

    def load(self) -> StoredTokens:
        """The record, or the error after the harm."""
        try:
            return super().load()
        except TokenStoreError:
            self.path.write_bytes(b"")
            raise


@pytest.mark.parametrize(("kind", "harm"), [("plain", "accepted"), ("hasty", "changed")])
def test_control_damage_to_known_bad_stores_is_found(tmp_path: Path, kind: str, harm: str, harness_seed: int) -> None:
    """The harness is able to find harm: records without authentication, and files that are cleared away."""
    path = tmp_path / "private" / "tokens"
    plain = PlainKeys(fixed=fixed(KEY).in_force, places=(), wanted=(), shared=(), token_file=path)

    def open_store() -> TokenStore:
        if kind == "plain":
            return TokenStore(path, keys=plain, owner="simulate:app")
        return HastyStore(path, keys=fixed(KEY), owner="simulate:app")

    assert under_damage(tmp_path, open_store, 300, harness_seed)[harm] > 20


class NeverAsked:
    """A client that must not be used: no login may begin by itself."""

    def __getattr__(self, name: str) -> Any:
        message = f"the client was asked for {name}"
        raise AssertionError(message)


@pytest.mark.parametrize(
    "damage", ["cut", "bit flip", "empty", "junk", "wrong key", "tokens of another account", "another version"]
)
def test_what_is_not_trusted_is_neither_used_nor_written_over(tmp_path: Path, damage: str) -> None:
    """Reading, renewing, checking, changing the key and a new login are refused: no request, no page, no change."""
    store_at(tmp_path).save_login(LONG)
    file, keys, owner = tmp_path / "private" / "tokens", fixed(KEY), "simulate:app"
    good = file.read_bytes()
    if damage == "wrong key":
        keys = fixed(new_key().get_secret_value())
    elif damage == "tokens of another account":
        store_at(tmp_path / "theirs", owner="simulate:other").save_login(grant("theirs"))
        file.write_bytes((tmp_path / "theirs" / "private" / "tokens").read_bytes())
    else:
        others = {
            "cut": good[:-10],
            "bit flip": flipped(good, 8 * 300),
            "empty": b"",
            "junk": b"\x80" * 500,
            "another version": keys.seal(b'{"token":1}'),
        }
        file.write_bytes(others[damage])
    before, source = hashlib.sha256(file.read_bytes()).digest(), Source()
    store = store_at(tmp_path, keys=keys, owner=owner)
    for act in (
        store.load,
        store.check,
        lambda: store.renew(is_good=stale, refresh=source),
        lambda: store.save_login(grant("forced")),
        store.change_key,
        lambda: login(NeverAsked(), store, ledger=NeverAsked(), open_browser=NeverAsked()),  # type: ignore[arg-type]
    ):
        with pytest.raises(TokenStoreError, match=r"login|Run"):
            act()
    assert source.shown == []
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_files_may_not_grow(tmp_path: Path, is_full: bool) -> None:
    """Under a limit on the size of files the room cannot be had: a clear error, no request, the record stands."""
    source = FileSource(tmp_path)
    store_at(tmp_path).save_login(source.begin())
    before = (tmp_path / "private" / "tokens").read_bytes()
    assert run_all(process_context(is_full=is_full), renew_under_a_size_limit, [(str(tmp_path), 8192)]) == [0]
    outcome = (tmp_path / "outcome").read_text()
    print(f"TOK-6: file size limit: {outcome}")
    assert outcome.startswith("AuthUnavailableError: ")
    assert "no room for a new token (File too large). Free some space" in outcome
    assert source.events() == []
    assert (tmp_path / "private" / "tokens").read_bytes() == before
    assert run_all(process_context(is_full=is_full), renew_under_a_size_limit, [(str(tmp_path), 1 << 20)]) == [0]
    assert (tmp_path / "outcome").read_text() == "saved"
