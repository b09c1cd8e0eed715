"""What a redirect must look like to be taken for the answer to a login, and what each other one is refused for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from trade_analyst_pipeline.errors import CallbackError
from trade_analyst_pipeline.schwab.callback import ExpectedCallback
from trade_analyst_pipeline.schwab.callback_ledger import REFUSAL_REASONS, CallbackLedger

STATE = "S" * 43
CODE = "C0.b2F1dGg.abc-DEF_123@"
SENT = CODE.replace("@", "%40")
SESSION = "&session=7b1f2a52-9a0e-4a53-8c5e-0d5e7c3a9f10"
REDIRECT = "https://127.0.0.1:8182/callback"
GOOD = f"https://127.0.0.1:8182/callback?code={SENT}{SESSION}&state={STATE}"


class Clock:
    """A steady clock moved by hand."""

    at = 100.0

    def __call__(self) -> float:
        """Where it stands."""
        return self.at


@pytest.fixture
def ledger(tmp_path: Path) -> CallbackLedger:
    """A ledger of this test."""
    return CallbackLedger(tmp_path / "callbacks" / "ledger")


@pytest.fixture
def clock() -> Clock:
    """The clock of the expectation."""
    return Clock()


Read = Callable[[str], str]


@pytest.fixture
def wanted(ledger: CallbackLedger, clock: Clock) -> ExpectedCallback:
    """A redirect expected for 300 s."""
    return expect(ledger, clock)


def expect(ledger: Any, clock: Clock, *, redirect: str = REDIRECT, state: str = STATE) -> ExpectedCallback:
    """An expectation of the source's."""
    return ExpectedCallback(
        redirect, state=SecretStr(state), issuer="https://api.schwabapi.com", ledger=ledger, seconds=300, clock=clock
    )


@pytest.fixture
def read(wanted: ExpectedCallback) -> Read:
    """The code that an address brings."""
    return lambda address: wanted.read(SecretStr(address)).get_secret_value()


@pytest.mark.parametrize("address", [GOOD, f"{REDIRECT}?state={STATE}&code={SENT}"])
def test_the_expected_redirect_brings_its_code(read: Read, ledger: CallbackLedger, address: str) -> None:
    """`%40` is decoded once; the session plays no part; the order does not matter. It is counted."""
    assert ledger.statistics().open == 1
    assert read(address) == CODE
    found = ledger.statistics()
    assert (found.expected, found.received, found.accepted, found.refused, found.open) == (1, 1, 1, {}, 0)


def test_a_plus_stays_a_plus(read: Read) -> None:
    """A code is no form text: `+` is not a blank, and `%2B` is a plus."""
    assert read(GOOD.replace(SENT, "a+b%2Bc")) == "a+b+c"


def test_an_unencoded_at_sign_is_accepted(read: Read) -> None:
    """Browsers show the code decoded; copied so it is the same code."""
    assert read(GOOD.replace("%40", "@")) == CODE


def test_the_issuer_may_be_named(read: Read) -> None:
    """`iss` is accepted when it is the source asked."""
    assert read(GOOD + "&iss=https%3A%2F%2Fapi.schwabapi.com") == CODE


@pytest.mark.parametrize("between", ["", "/"])
def test_a_registered_address_without_path_comes_back_with_a_slash(
    ledger: CallbackLedger, clock: Clock, between: str
) -> None:
    """Browsers add the slash; nothing else may follow."""
    wanted = expect(ledger, clock, redirect="https://127.0.0.1:8182")
    with pytest.raises(CallbackError, match="to the letter"):
        wanted.read(SecretStr(f"https://127.0.0.1:8182/x?code=a&state={STATE}"))
    assert wanted.read(SecretStr(f"https://127.0.0.1:8182{between}?code=a&state={STATE}")).get_secret_value() == "a"


WRONG = {
    "no state": ("no_state", GOOD.replace(f"&state={STATE}", ""), "does not belong to this login"),
    "empty state": ("no_state", GOOD.replace(STATE, ""), "does not belong to this login"),
    "other state": ("unexpected", GOOD.replace(STATE, "T" * 43), "does not belong to this login"),
    "longer state": ("unexpected", GOOD + "S", "does not belong to this login"),
    "two states": ("duplicate", GOOD + f"&state={STATE}", "'state' more than once"),
    "two codes": ("duplicate", GOOD + "&code=x", "'code' more than once"),
    "two codes, one name encoded": ("duplicate", GOOD + "&c%6Fde=x", "'code' more than once"),
    "two sessions": ("duplicate", GOOD + SESSION, "'session' more than once"),
    "no code": ("no_code", GOOD.replace(f"code={SENT}", "cod=x"), "it is missing"),
    "empty code": ("no_code", GOOD.replace(SENT, ""), "it is missing"),
    "code encoded twice": ("no_code", GOOD.replace("%40", "%2540"), "percent-encoded twice"),
    "code with a blank": ("no_code", GOOD.replace("%40", "%20"), "strange characters"),
    "code with a line break": ("no_code", GOOD.replace("%40", "%0A"), "strange characters"),
    "error": ("denied", GOOD.replace("code=", "error=access_denied&x="), "'access_denied' instead of a code"),
    "error with markup": ("denied", GOOD + "&error=<b>", r"'\?b\?' instead of a code"),
    "other issuer": ("issuer", GOOD + "&iss=https%3A%2F%2Fevil.example", "another server issued it"),
    "http": ("address", GOOD.replace("https:", "http:"), "to the letter"),
    "capitals": ("address", GOOD.replace("https:", "HTTPS:"), "to the letter"),
    "localhost": ("address", GOOD.replace("127.0.0.1", "localhost"), "to the letter"),
    "other port": ("address", GOOD.replace("8182", "8183"), "to the letter"),
    "user part": ("address", GOOD.replace("127.0.0.1", "127.0.0.1:8182@evil.example"), "to the letter"),
    "other path": ("address", GOOD.replace("callback", "callback/"), "to the letter"),
    "path with dots": ("address", GOOD.replace("callback", "x/../callback"), "to the letter"),
    "encoded path": ("address", GOOD.replace("callback", "%63allback"), "to the letter"),
    "no query": ("no_state", "https://127.0.0.1:8182/callback", "does not belong to this login"),
    "fragment": ("address", GOOD.replace("?", "#"), "to the letter"),
    "fragment behind": ("malformed", GOOD + "#x", "not well-formed"),
    "half an escape": ("malformed", GOOD + "&x=%4", "not well-formed"),
    "line break": ("malformed", GOOD[:60] + "\n" + GOOD[60:], "blanks, line breaks"),
    "blank in front": ("malformed", " " + GOOD, "blanks, line breaks"),
    "foreign letters": ("malformed", GOOD + "é", "blanks, line breaks"),
    "without scheme": ("address", GOOD.removeprefix("https://"), "to the letter"),
    "64 KiB": ("size", GOOD + "&x=" + "y" * 65_536, "too long"),
    "nothing": ("malformed", "", "is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_other_redirect_is_refused(wanted: ExpectedCallback, ledger: CallbackLedger, case: str) -> None:
    """The message names the fault and never the code or the state; it is counted under its reason and nothing else."""
    reason, address, text = WRONG[case]
    with pytest.raises(CallbackError, match=text) as caught:
        wanted.read(SecretStr(address))
    assert caught.value.reason == reason
    assert CODE[:20] not in str(caught.value)
    assert STATE not in str(caught.value)
    found = ledger.statistics()
    assert (found.refused, found.accepted) == ({reason: 1}, 0)
    assert b"C0." not in ledger.path.read_bytes()
    assert b"SSS" not in ledger.path.read_bytes()


def test_an_address_with_the_right_state_works_once(wanted: ExpectedCallback, ledger: CallbackLedger) -> None:
    """Whatever it brings: after a good one, and after one without a usable code, a second is refused as used."""
    wanted.read(SecretStr(GOOD))
    for address in (GOOD, GOOD.replace(SENT, "other")):
        with pytest.raises(CallbackError, match="has been used") as caught:
            wanted.read(SecretStr(address))
        assert caught.value.reason == "used"
    assert ledger.statistics().refused == {"used": 2}


@pytest.mark.parametrize("first", ["denied", "issuer", "no_code"])
def test_a_bad_answer_with_the_right_state_uses_the_login_up(
    wanted: ExpectedCallback, ledger: CallbackLedger, first: str
) -> None:
    """A code that follows a denial, a mix-up or an answer without code is not taken."""
    change = {"denied": "&error=x", "issuer": "&iss=x", "no_code": "%20"}[first]
    with pytest.raises(CallbackError) as caught:
        wanted.read(SecretStr(GOOD.replace(SENT, SENT + change)))
    assert caught.value.reason == first
    with pytest.raises(CallbackError, match="has been used"):
        wanted.read(SecretStr(GOOD))
    assert (ledger.statistics().open, ledger.fate(SecretStr(STATE))) == (0, "answered")


def test_an_address_works_in_time_only(wanted: ExpectedCallback, clock: Clock) -> None:
    """At 300 s it is too late."""
    clock.at += 300.0
    with pytest.raises(CallbackError, match="came too late") as caught:
        wanted.read(SecretStr(GOOD))
    assert caught.value.reason == "late"


def test_an_address_works_until_its_time(read: Read, clock: Clock) -> None:
    """At 299.9 s it is not."""
    clock.at += 299.9
    assert read(GOOD) == CODE


@pytest.mark.parametrize(("fate", "reason"), [("answered", "used"), ("expired", "late"), ("open", "unexpected")])
def test_an_answer_to_an_earlier_login_is_told_as_such(
    tmp_path: Path, hand_time: Any, clock: Clock, fate: str, reason: str
) -> None:
    """A state of another attempt, perhaps of another process, is known from the ledger: used, late, or elsewhere."""
    ledger = CallbackLedger(tmp_path / "ledger", now=hand_time)
    earlier = expect(ledger, clock, state="E" * 43)
    if fate == "answered":
        earlier.read(SecretStr(GOOD.replace(STATE, "E" * 43)))
    if fate == "expired":
        hand_time.at += 301
    later = expect(ledger, clock)
    with pytest.raises(CallbackError, match="does not belong to this login") as caught:
        later.read(SecretStr(GOOD.replace(STATE, "E" * 43)))
    assert caught.value.reason == reason
    assert later.read(SecretStr(GOOD)).get_secret_value() == CODE


def test_a_ledger_that_cannot_be_written_does_not_keep_anybody_out(tmp_path: Path, clock: Clock) -> None:
    """With a file where its folder should be, the redirect still works, once."""
    (tmp_path / "callbacks").write_bytes(b"")
    wanted = expect(CallbackLedger(tmp_path / "callbacks" / "ledger"), clock)
    assert wanted.read(SecretStr(GOOD)).get_secret_value() == CODE
    with pytest.raises(CallbackError, match="has been used"):
        wanted.read(SecretStr(GOOD))


class Tally:
    """A ledger in memory, for harnesses that judge thousands of addresses."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def expect(self, state: SecretStr, *, seconds: float) -> None:
        """Nothing to keep."""

    def accept(self, _: SecretStr) -> None:
        """Keep the outcome."""
        self.outcomes.append("accepted")

    def refuse(self, reason: str, _: SecretStr) -> None:
        """Keep the outcome."""
        self.outcomes.append(reason)

    def fate(self, state: SecretStr) -> None:
        """Nothing is known of others."""


PIECES = [
    "https://127.0.0.1:8182/callback", "?", "&", "=", "#", "%", "%2", "%40", "%00", "%25", "code", "state", "error",
    "iss", "session", SENT, STATE, "//", "/", "..", "@", ";", "+", "\x00", "\r\n", "é", "code=", f"&state={STATE}",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_arbitrary_addresses_give_a_code_or_a_callback_error(address: str) -> None:
    """Only an address of the registered form with the right state and one clean code is read, nothing else escapes.

    Each is counted once, under a reason the ledger knows.
    """
    tally = Tally()
    reason: str | None = None
    try:
        code = expect(tally, Clock()).read(SecretStr(address)).get_secret_value()
    except CallbackError as error:
        reason = error.reason
    if reason is not None:
        assert tally.outcomes == [reason]
        assert reason in REFUSAL_REASONS
        return
    assert tally.outcomes == ["accepted"]
    assert address.startswith("https://127.0.0.1:8182/callback?")
    assert address.count(f"state={STATE}") == 1
    assert re.fullmatch(r"[\w.~+/=@-]+", code)
