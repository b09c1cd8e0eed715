"""The redirect that is accepted and the many that are not; the listener on the loopback."""

from __future__ import annotations

import re
import socket
import ssl
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from trade_analyst_pipeline.errors import CallbackError
from trade_analyst_pipeline.schwab.callback import CallbackListener, Expectation

STATE = "S" * 43
CODE = "C0.b2F1dGg.abc-DEF_123@"
SENT = CODE.replace("@", "%40")
SESSION = "&session=7b1f2a52-9a0e-4a53-8c5e-0d5e7c3a9f10"
WANTED = Expectation("https://127.0.0.1:8182/callback", SecretStr(STATE), "https://api.schwabapi.com")
GOOD = f"https://127.0.0.1:8182/callback?code={SENT}{SESSION}&state={STATE}"


def read(address: str) -> str:
    """The code that an address brings."""
    return WANTED.read(SecretStr(address)).get_secret_value()


def test_the_expected_redirect_brings_its_code() -> None:
    """`%40` is decoded once; the session plays no part; the order does not matter."""
    assert read(GOOD) == CODE
    assert read(f"https://127.0.0.1:8182/callback?state={STATE}&code={SENT}") == CODE


def test_a_plus_stays_a_plus() -> None:
    """A code is no form text: `+` is not a blank, and `%2B` is a plus."""
    assert read(GOOD.replace(SENT, "a+b%2Bc")) == "a+b+c"


def test_an_unencoded_at_sign_is_accepted() -> None:
    """Browsers show the code decoded; copied so it is the same code."""
    assert read(GOOD.replace("%40", "@")) == CODE


def test_the_issuer_may_be_named() -> None:
    """`iss` is accepted when it is the source asked."""
    assert read(GOOD + "&iss=https%3A%2F%2Fapi.schwabapi.com") == CODE


def test_a_registered_address_without_path_comes_back_with_a_slash() -> None:
    """Browsers add the slash; nothing else may follow."""
    wanted = Expectation("https://127.0.0.1:8182", SecretStr(STATE), "x")
    for between in ("", "/"):
        assert wanted.read(SecretStr(f"https://127.0.0.1:8182{between}?code=a&state={STATE}")).get_secret_value() == "a"
    with pytest.raises(CallbackError, match="to the letter"):
        wanted.read(SecretStr(f"https://127.0.0.1:8182/x?code=a&state={STATE}"))


WRONG = {
    "no state": (GOOD.replace(f"&state={STATE}", ""), "does not belong to this login"),
    "empty state": (GOOD.replace(STATE, ""), "does not belong to this login"),
    "other state": (GOOD.replace(STATE, "T" * 43), "does not belong to this login"),
    "longer state": (GOOD + "S", "does not belong to this login"),
    "two states": (GOOD + f"&state={STATE}", "'state' more than once"),
    "two codes": (GOOD + "&code=x", "'code' more than once"),
    "two codes, one name encoded": (GOOD + "&c%6Fde=x", "'code' more than once"),
    "two sessions": (GOOD + SESSION, "'session' more than once"),
    "no code": (GOOD.replace(f"code={SENT}", "cod=x"), "it is missing"),
    "empty code": (GOOD.replace(SENT, ""), "it is missing"),
    "code encoded twice": (GOOD.replace("%40", "%2540"), "percent-encoded twice"),
    "code with a blank": (GOOD.replace("%40", "%20"), "strange characters"),
    "code with a line break": (GOOD.replace("%40", "%0A"), "strange characters"),
    "error": (GOOD.replace("code=", "error=access_denied&x="), "'access_denied' instead of a code"),
    "error with markup": (GOOD + "&error=<b>", r"'\?b\?' instead of a code"),
    "other issuer": (GOOD + "&iss=https%3A%2F%2Fevil.example", "another server issued it"),
    "http": (GOOD.replace("https:", "http:"), "to the letter"),
    "capitals": (GOOD.replace("https:", "HTTPS:"), "to the letter"),
    "localhost": (GOOD.replace("127.0.0.1", "localhost"), "to the letter"),
    "other port": (GOOD.replace("8182", "8183"), "to the letter"),
    "user part": (GOOD.replace("127.0.0.1", "127.0.0.1:8182@evil.example"), "to the letter"),
    "other path": (GOOD.replace("callback", "callback/"), "to the letter"),
    "path with dots": (GOOD.replace("callback", "x/../callback"), "to the letter"),
    "encoded path": (GOOD.replace("callback", "%63allback"), "to the letter"),
    "no query": ("https://127.0.0.1:8182/callback", "does not belong to this login"),
    "fragment": (GOOD.replace("?", "#"), "to the letter"),
    "fragment behind": (GOOD + "#x", "not well-formed"),
    "half an escape": (GOOD + "&x=%4", "not well-formed"),
    "line break": (GOOD[:60] + "\n" + GOOD[60:], "blanks or control characters"),
    "blank in front": (" " + GOOD, "blanks or control characters"),
    "foreign letters": (GOOD + "é", "blanks or control characters"),
    "without scheme": (GOOD.removeprefix("https://"), "to the letter"),
    "64 KiB": (GOOD + "&x=" + "y" * 65_536, "too long"),
    "nothing": ("", "too long or holds blanks"),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_other_redirect_is_refused(case: str) -> None:
    """The message names the fault and never the code or the state."""
    address, text = WRONG[case]
    with pytest.raises(CallbackError, match=text) as caught:
        read(address)
    assert CODE[:20] not in str(caught.value)
    assert STATE not in str(caught.value)


PIECES = [
    "https://127.0.0.1:8182/callback", "?", "&", "=", "#", "%", "%2", "%40", "%00", "%25", "code", "state", "error",
    "iss", "session", SENT, STATE, "//", "/", "..", "@", ";", "+", "\x00", "\r\n", "é", "code=", f"&state={STATE}",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_arbitrary_addresses_give_a_code_or_a_callback_error(address: str) -> None:
    """Only an address of the registered form with the right state and one clean code is read, nothing else escapes."""
    try:
        code = read(address)
    except CallbackError:
        return
    assert address.startswith("https://127.0.0.1:8182/callback?")
    assert address.count(f"state={STATE}") == 1
    assert re.fullmatch(r"[\w.~+/=@-]+", code)


# --- the listener


@pytest.fixture
def wanted(redirect_uri: str) -> Expectation:
    """A redirect to a free port."""
    return Expectation(redirect_uri, SecretStr(STATE), "https://api.schwabapi.com")


@pytest.fixture
def listener(wanted: Expectation) -> Iterator[CallbackListener]:
    """A listener for it."""
    with CallbackListener(wanted) as listening:
        yield listening


def send(listener: CallbackListener, wanted: Expectation, target: str, **options: Any) -> str:
    """What the listener answers to one raw request; target after `https://127.0.0.1:port`."""
    netloc = urlsplit(wanted.redirect_uri).netloc
    head = f"{options.get('method', 'GET')} {target} HTTP/1.1\r\nHost: {options.get('host', netloc)}\r\n"
    return exchange(listener, wanted, (head + options.get("more", "") + "\r\n").encode())


def exchange(listener: CallbackListener, wanted: Expectation, data: bytes) -> str:
    """Send bytes over TLS that trusts the listener's own certificate, read to the end."""
    context = ssl.create_default_context(cadata=listener.certificate_pem.decode())
    parts = urlsplit(wanted.redirect_uri)
    plain = socket.create_connection(("127.0.0.1", parts.port or 0), timeout=5)
    with plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
        secure.sendall(data)
        received = b""
        while piece := secure.recv(65_536):
            received += piece
    return received.decode()


def test_the_listener_hands_over_the_redirect(listener: CallbackListener, wanted: Expectation) -> None:
    """The page echoes nothing and may not be kept; the whole address is handed over."""
    page = send(listener, wanted, f"/callback?code={SENT}&state={STATE}")
    assert page.startswith("HTTP/1.0 200")
    assert "The login has arrived" in page
    assert "C0" not in page
    assert STATE not in page
    for line in ("Cache-Control: no-store", "Referrer-Policy: no-referrer", "default-src 'none'"):
        assert line in page
    assert "<script" not in page
    assert "Server:" not in page
    address = listener.wait(5)
    assert address.get_secret_value() == f"{wanted.redirect_uri}?code={SENT}&state={STATE}"
    assert "C0" not in repr(address)


def test_only_the_first_redirect_counts(listener: CallbackListener, wanted: Expectation) -> None:
    """A second one, even with the right state, is told so and changes nothing."""
    send(listener, wanted, f"/callback?code=first&state={STATE}")
    assert "409" in send(listener, wanted, f"/callback?code=second&state={STATE}").split("\r\n")[0]
    assert "code=first" in listener.wait(5).get_secret_value()


def test_a_denied_login_ends_the_wait(listener: CallbackListener, wanted: Expectation) -> None:
    """A redirect with our state and an error is handed over, so that nobody waits in vain."""
    assert "The login was refused" in send(listener, wanted, f"/callback?error=access_denied&state={STATE}")
    with pytest.raises(CallbackError, match="access_denied"):
        wanted.read(listener.wait(5))


STRANGERS: dict[str, dict[str, Any]] = {
    "other state": {"target": "/callback?code=x&state=y"},
    "other path": {"target": f"/other?code=x&state={STATE}"},
    "favicon": {"target": "/favicon.ico"},
    "absolute target": {"target": f"https://evil.example/callback?code=x&state={STATE}"},
    "post": {"target": f"/callback?code=x&state={STATE}", "method": "POST"},
    "head": {"target": f"/callback?code=x&state={STATE}", "method": "HEAD"},
    "other host": {"target": f"/callback?code=x&state={STATE}", "host": "evil.example"},
    "localhost": {"target": f"/callback?code=x&state={STATE}", "host": "localhost"},
    "two hosts": {"target": f"/callback?code=x&state={STATE}", "more": "Host: evil.example\r\n"},
    "long": {"target": f"/callback?code={'x' * 70_000}&state={STATE}"},
    "many headers": {"target": f"/callback?code=x&state={STATE}", "more": "A: b\r\n" * 200},
}


@pytest.mark.parametrize("case", STRANGERS)
def test_strangers_do_not_end_the_wait(listener: CallbackListener, wanted: Expectation, case: str) -> None:
    """Requests that are not the redirect get a plain refusal that echoes nothing, and the wait goes on."""
    page = send(listener, wanted, **STRANGERS[case])
    assert re.match(r"HTTP/1\.0 4\d\d|HTTP/1\.0 501", page)
    assert "evil" not in page
    assert STATE not in page
    with pytest.raises(CallbackError, match="no redirect came back"):
        listener.wait(0.01)
    assert "200" in send(listener, wanted, f"/callback?code=x&state={STATE}").split("\r\n")[0]


def test_a_browser_that_distrusts_and_an_idle_one_hold_nobody_up(
    listener: CallbackListener, wanted: Expectation
) -> None:
    """A refused handshake, plain HTTP and a silent connection do not keep the redirect from being read."""
    port = urlsplit(wanted.redirect_uri).port or 0
    begin = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5),
        socket.create_connection(("127.0.0.1", port)) as plain,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port), timeout=5) as untrusting, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(untrusting, server_hostname="127.0.0.1")
        assert "200" in send(listener, wanted, f"/callback?code=x&state={STATE}").split("\r\n")[0]
    assert time.monotonic() - begin < 3
    listener.wait(5)


def test_it_listens_on_loopback_only(listener: CallbackListener, wanted: Expectation) -> None:
    """The kernel's socket table shows the port on 127.0.0.1 and nowhere else (0A is LISTEN)."""
    port = f"{urlsplit(wanted.redirect_uri).port:04X}"
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    assert [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port}")] == [f"0100007F:{port}"]
    assert listener.certificate_pem


def test_the_port_is_free_at_once_after_the_wait(wanted: Expectation) -> None:
    """Closed within a second of leaving, also when a connection is still open."""
    port = urlsplit(wanted.redirect_uri).port or 0
    with CallbackListener(wanted) as listening:
        send(listening, wanted, f"/callback?code=x&state={STATE}")
        begin = time.monotonic()
    assert time.monotonic() - begin < 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    with CallbackListener(wanted):
        pass


def test_a_port_in_use_is_named(wanted: Expectation) -> None:
    """The message names the port and the setting."""
    with CallbackListener(wanted), pytest.raises(CallbackError, match=r"port \d+ .*schwab\.redirect_uri"):
        CallbackListener(wanted)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:8182/", "https://localhost:8182/", "https://0.0.0.0:8182/"])
def test_other_addresses_are_not_listened_on(uri: str) -> None:
    """HTTPS on 127.0.0.1 and nothing else."""
    with pytest.raises(CallbackError, match="only that is listened on"):
        CallbackListener(Expectation(uri, SecretStr(STATE), "x"))


def test_the_certificate_is_short_lived_and_for_loopback(
    wanted: Expectation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC P-256, SAN 127.0.0.1, at most a day; its key leaves no file and was never readable by others."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []
    loaded = ssl.SSLContext.load_cert_chain

    def look(self: ssl.SSLContext, file: Path) -> None:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent))
        loaded(self, file)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    with CallbackListener(wanted) as listening:
        certificate = x509.load_pem_x509_certificate(listening.certificate_pem)
        assert list(tmp_path.iterdir()) == []
    assert seen == [0o600, 0o700]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["127.0.0.1"]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=1)
    assert certificate.public_key().curve.name == "secp256r1"


def test_several_redirects_at_once_hand_over_one(listener: CallbackListener, wanted: Expectation) -> None:
    """Ten browsers at the same time: one is accepted, nine are told that an answer has arrived."""
    pages: list[str] = []

    def browse(number: int) -> None:
        pages.append(send(listener, wanted, f"/callback?code={quote(f'c{number}')}&state={STATE}").split("\r\n")[0])

    threads = [threading.Thread(target=browse, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(page.split()[1] for page in pages) == ["200"] + ["409"] * 9
    listener.wait(5)
