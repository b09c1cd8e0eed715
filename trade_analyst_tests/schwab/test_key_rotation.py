"""Changing the key of a login while others read it, and killed at every step of it: the login always opens."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keyring
import pytest
import stand_in_keyrings
from pydantic import SecretStr
from token_scenes import grant, process_context, run_all

from trade_analyst_pipeline.errors import LoginRequiredError, TokenStoreError
from trade_analyst_pipeline.schwab.key_places import KeyFile, SystemKeyring
from trade_analyst_pipeline.schwab.key_sets import KeySet, new_key
from trade_analyst_pipeline.schwab.keys import KeyChoice, open_keys
from trade_analyst_pipeline.schwab.tokens import TokenStore

PACE_SECONDS = 0.05


def store_in(folder: Path, choice: KeyChoice = "file") -> TokenStore:
    """A store whose key lies in `folder/config`, or in the stand-in keyring of this folder, as a process opens it."""
    os.environ["STAND_IN_KEYRING"] = str(folder / "keyring.json")
    path = folder / "private" / "tokens"
    keys = open_keys(
        None,
        key_file=folder / "config" / "key",
        token_file=path,
        choice=choice,
        keyring=SystemKeyring("live") if choice == "keyring" else None,
    )
    return TokenStore(path, keys=keys, owner="simulate:app")


# --- readers while the key changes


def _read_until_told(folder: str, number: int) -> None:
    """Read without pause, each hundredth time as a new process would; count reads and failures."""
    home, reads, failures = Path(folder), 0, []
    store = store_in(home)
    while not (home / "stop").exists():
        if reads % 100 == 0:
            store = store_in(home)
        try:
            assert store.load().generation == 1
        except (TokenStoreError, LoginRequiredError) as error:
            failures.append(str(error))
        reads += 1
        if reads == 1:
            (home / f"ready-{number}").touch()
        time.sleep(0.0005)
    (home / f"result-{number}").write_text(json.dumps({"reads": reads, "failures": failures}))


def change_in_the_wrong_order(folder: Path) -> None:
    """The known-bad change: the old key is gone before the login is under the new one."""
    tokens = store_in(folder).load()
    KeyFile(folder / "config" / "key").put("current", new_key().get_secret_value())
    (folder / "private" / "tokens").unlink()
    store_in(folder)._keys.prepare()
    store_in(folder).save_login(grant(tokens.access_token.get_secret_value()))


def change_under_readers(
    folder: Path, change: Callable[[Path], Any], *, readers: int, changes: int, is_full: bool
) -> tuple[list[bytes], list[str], list[dict[str, Any]]]:
    """Change the key at a steady pace under readers: records and keys that were, and what each reader counted."""
    store_in(folder).save_login(grant())
    records, keys = [], []
    context = process_context(is_full=is_full)
    workers = [context.Process(target=_read_until_told, args=(str(folder), number)) for number in range(readers)]  # type: ignore[attr-defined]
    for worker in workers:
        worker.start()
    wait_for(lambda: len(list(folder.glob("ready-*"))) == readers)
    begun = time.monotonic()
    for number in range(changes):
        records.append((folder / "private" / "tokens").read_bytes())
        keys.append((folder / "config" / "key").read_text())
        change(folder)
        time.sleep(max(0.0, begun + PACE_SECONDS * (number + 1) - time.monotonic()))
    (folder / "stop").touch()
    for worker in workers:
        worker.join(60)
    results = [json.loads((folder / f"result-{number}").read_text()) for number in range(readers)]
    return records, keys, results


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once it holds; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.reliability
def test_readers_do_not_notice_that_keys_change(tmp_path: Path, is_full: bool) -> None:
    """Every read succeeds; of the old keys none opens the login, and no old record is left in the folder."""
    readers, changes = (16, 95) if is_full else (4, 20)
    begun = time.monotonic()
    records, keys, results = change_under_readers(
        tmp_path, lambda folder: store_in(folder).change_key(), readers=readers, changes=changes, is_full=is_full
    )
    seconds = time.monotonic() - begun
    reads = sum(result["reads"] for result in results)
    failures = [failure for result in results for failure in result["failures"]]
    print(f"TOK-9: {changes} changes in {seconds:.0f} s, {readers} readers, {reads} reads, {len(failures)} failed")
    assert failures == [], failures[0]
    assert len(set(keys)) == changes
    present = (tmp_path / "private" / "tokens").read_bytes()
    for key in keys:
        with pytest.raises(TokenStoreError):
            open_keys(SecretStr(key), key_file=tmp_path / "none", token_file=tmp_path / "t").open(present)
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert [record for record in records if record in left] == []


@pytest.mark.slow
@pytest.mark.reliability
def test_control_in_the_wrong_order_readers_fail(tmp_path: Path, is_full: bool) -> None:
    """The readers are able to notice: when the old key goes first, reads fail."""
    _, _, results = change_under_readers(tmp_path, change_in_the_wrong_order, readers=4, changes=15, is_full=is_full)
    assert sum(len(result["failures"]) for result in results) > 0


# --- killed at every step


def _arm(step: int) -> None:
    """From now on, die by SIGKILL just before the call with this number that changes something that stays."""
    calls = iter(range(1_000_000))

    def hooked(call: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*arguments: Any, **options: Any) -> Any:
            if next(calls) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return hook

    for home, name in (
        (Path, "replace"),
        (Path, "unlink"),
        (os, "pwrite"),
        (os, "fsync"),
        (stand_in_keyrings.FileKeyring, "_write"),
    ):
        setattr(home, name, hooked(getattr(home, name)))


def _forked(action: Callable[[], object]) -> int:
    """Exit code of a child that does this; minus nine when it was killed."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        action()
        code = 0
    finally:
        os._exit(code)


def _opened(folder: Path, choice: KeyChoice) -> bool:
    try:
        return store_in(folder, choice).load().generation == 1
    except (TokenStoreError, LoginRequiredError):
        return False


def _change(folder: Path, choice: KeyChoice, is_good: bool) -> None:
    if is_good:
        store_in(folder, choice).change_key()
    else:
        change_in_the_wrong_order(folder)


def _kill_at_each_step(folder: str, choice: KeyChoice, is_good: bool) -> None:
    """For each step: a login, a change killed there, whether it opens, whether a second change ends well."""
    home, outcomes = Path(folder), []
    keyring.set_keyring(stand_in_keyrings.FileKeyring())
    for step in range(1000):
        scene = home / f"scene-{step}"
        scene.mkdir()
        store = store_in(scene, choice)
        store.save_login(grant())
        assert store.key is not None
        if _forked(partial(_change_and_die, scene, choice, is_good, step)) == 0:
            break
        is_open = _opened(scene, choice)
        finished = is_open and is_good and _finish(scene, choice, store.key)
        outcomes.append({"step": step, "opens": is_open, "finished": finished})
    (home / "outcomes").write_text(json.dumps(outcomes))


def _change_and_die(scene: Path, choice: KeyChoice, is_good: bool, step: int) -> None:
    _arm(step)
    _change(scene, choice, is_good)


def _finish(scene: Path, choice: KeyChoice, old: KeySet) -> bool:
    """Whether running the change again leaves the login open, under one key, and nothing for the old one."""
    store_in(scene, choice).change_key()
    left = [path.name for path in (scene / "config").glob("*")]
    is_one = left == ["key"] if choice == "file" else len(stand_in_keyrings.FileKeyring().entries()) == 1
    return _opened(scene, choice) and is_one and old.opened((scene / "private" / "tokens").read_bytes()) is None


@pytest.fixture
def outcomes(tmp_path: Path, is_full: bool) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Kill a change of keys at each of its steps, in a process that may fork; what was found after each."""

    def run(choice: KeyChoice, *, is_good: bool = True) -> list[dict[str, Any]]:
        context = process_context(is_full=is_full)
        assert run_all(context, _kill_at_each_step, [(str(tmp_path), choice, is_good)]) == [0]
        found: list[dict[str, Any]] = json.loads((tmp_path / "outcomes").read_text())
        return found

    yield run
    os.environ.pop("STAND_IN_KEYRING", None)


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize("choice", ["file", "keyring"])
def test_a_change_killed_at_any_step_still_opens_and_is_finished(
    outcomes: Callable[..., list[dict[str, Any]]], choice: KeyChoice
) -> None:
    """After a kill before each call that changes something, the login opens, and the next change ends the first."""
    found = outcomes(choice)
    print(
        f"TOK-9: key in {choice}: killed at {len(found)} steps, {sum(not each['opens'] for each in found)} unreadable"
    )
    assert len(found) >= 8
    assert [each for each in found if not each["opens"] or not each["finished"]] == []


@pytest.mark.slow
@pytest.mark.reliability
def test_control_a_change_in_the_wrong_order_is_caught_by_the_kills(
    outcomes: Callable[..., list[dict[str, Any]]],
) -> None:
    """The kills are able to do harm: when the old key goes first, logins are lost."""
    assert any(not each["opens"] for each in outcomes("file", is_good=False))
