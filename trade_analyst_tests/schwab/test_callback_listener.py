"""The listener over real TLS: what it hands over, what it refuses, and what it leaves behind."""

from __future__ import annotations

import re
import socket
import ssl
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from trade_analyst_pipeline.errors import CallbackError
from trade_analyst_pipeline.schwab.callback import ExpectedCallback
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.callback_listener import CallbackListener

STATE = "S" * 43
ISSUER = "https://api.schwabapi.com"


@dataclass
class Scene:
    """A listener for one expected redirect, and requests to it."""

    listener: CallbackListener
    ledger: CallbackLedger
    redirect_uri: str

    @property
    def netloc(self) -> str:
        """Host and port, as a Host header names them."""
        return urlsplit(self.redirect_uri).netloc

    @property
    def port(self) -> int:
        """The port listened on."""
        return urlsplit(self.redirect_uri).port or 0

    def send(self, target: str, *, method: str = "GET", host: str | None = None, more: str = "") -> str:
        """What is answered to one request; target after `https://127.0.0.1:port`."""
        head = f"{method} {target} HTTP/1.1\r\nHost: {self.netloc if host is None else host}\r\n"
        return self.exchange((head + more + "\r\n").encode())

    def status(self, *arguments: Any, **options: Any) -> str:
        """The status of the answer."""
        return self.send(*arguments, **options).split("\r\n")[0].removeprefix("HTTP/1.0 ")[:3]

    def exchange(self, data: bytes) -> str:
        """Send bytes over TLS that trusts the listener's own certificate, read to the end."""
        context = ssl.create_default_context(cadata=self.listener.certificate_pem.decode())
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        with plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            secure.sendall(data)
            received = b""
            while piece := secure.recv(65_536):
                received += piece
        return received.decode()


@contextmanager
def listening(
    redirect_uri: str, ledger: CallbackLedger, kind: Callable[..., ExpectedCallback] = ExpectedCallback
) -> Iterator[Scene]:
    """A listener for a redirect with STATE."""
    expected = kind(redirect_uri, state=SecretStr(STATE), issuer=ISSUER, ledger=ledger, seconds=300)
    with CallbackListener(expected) as listener:
        yield Scene(listener, ledger, redirect_uri)


@pytest.fixture
def ledger(tmp_path: Path) -> CallbackLedger:
    """The ledger of these tests."""
    return CallbackLedger(tmp_path / "callbacks" / "ledger")


@pytest.fixture
def scene(redirect_uri: str, ledger: CallbackLedger) -> Iterator[Scene]:
    """A listener on a free port."""
    with listening(redirect_uri, ledger) as found:
        yield found


def test_the_listener_hands_over_the_code(scene: Scene) -> None:
    """The page echoes nothing, holds no script and may not be kept; the code is handed over, and counted."""
    page = scene.send(f"/callback?code=C0.abc%40&state={STATE}")
    assert page.startswith("HTTP/1.0 200")
    assert "The login has arrived" in page
    assert "C0" not in page
    assert STATE not in page
    for line in ("Cache-Control: no-store", "Referrer-Policy: no-referrer", "default-src 'none'"):
        assert line in page
    assert "<script" not in page
    assert "Server:" not in page
    code = scene.listener.wait(5)
    assert code is not None
    assert code.get_secret_value() == "C0.abc@"
    assert "C0" not in repr(code)
    assert (scene.ledger.statistics().accepted, scene.ledger.statistics().refused) == (1, {})


def test_only_the_first_redirect_counts(scene: Scene) -> None:
    """A second one, even with the right state, is told so and changes nothing."""
    scene.send(f"/callback?code=first&state={STATE}")
    assert scene.status(f"/callback?code=second&state={STATE}") == "409"
    assert scene.listener.wait(5) == SecretStr("first")
    assert scene.ledger.statistics().refused == {"used": 1}


@pytest.mark.parametrize(
    ("query", "reason", "sentence"),
    [
        ("error=access_denied", "denied", "The login was refused"),
        ("code=x&iss=https%3A%2F%2Fevil.example", "issuer", "cannot be used"),
        ("code=x%2540", "no_code", "cannot be used"),
    ],
)
def test_a_bad_answer_with_our_state_ends_the_wait(scene: Scene, query: str, reason: str, sentence: str) -> None:
    """The page sends the person to the terminal, and nobody waits in vain."""
    page = scene.send(f"/callback?{query}&state={STATE}")
    assert page.startswith("HTTP/1.0 400")
    assert sentence in page
    with pytest.raises(CallbackError) as caught:
        scene.listener.wait(5)
    assert caught.value.reason == reason
    assert scene.ledger.statistics().refused == {reason: 1}


GOOD = f"code=x&state={STATE}"
HOSTILE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no state": ("no_state", "400", {"target": "/callback?code=x"}),
    "empty state": ("no_state", "400", {"target": "/callback?code=x&state="}),
    "other state": ("unexpected", "400", {"target": "/callback?code=x&state=y"}),
    "state with a tail": ("unexpected", "400", {"target": f"/callback?{GOOD}S"}),
    "two states": ("duplicate", "400", {"target": f"/callback?{GOOD}&state={STATE}"}),
    "two codes": ("duplicate", "400", {"target": f"/callback?{GOOD}&code=y"}),
    "two codes, one encoded": ("duplicate", "400", {"target": f"/callback?{GOOD}&%63ode=y"}),
    "other path": ("address", "400", {"target": f"/other?{GOOD}"}),
    "path with slash": ("address", "400", {"target": f"/callback/?{GOOD}"}),
    "path in capitals": ("address", "400", {"target": f"/Callback?{GOOD}"}),
    "encoded path": ("address", "400", {"target": f"/%63allback?{GOOD}"}),
    "dots": ("address", "400", {"target": f"/x/../callback?{GOOD}"}),
    "two slashes": ("address", "400", {"target": f"//callback?{GOOD}"}),
    "root": ("address", "400", {"target": "/"}),
    "favicon with state": ("address", "400", {"target": f"/favicon.ico?{GOOD}"}),
    "absolute target": ("address", "400", {"target": f"https://evil.example/callback?{GOOD}"}),
    "fragment": ("malformed", "400", {"target": f"/callback?{GOOD}#x"}),
    "half an escape": ("malformed", "400", {"target": f"/callback?{GOOD}&x=%4"}),
    "blank": ("malformed", "400", {"target": f"/callback?{GOOD}&x=a b"}),
    "foreign letters": ("malformed", "400", {"target": f"/callback?{GOOD}&x=é"}),
    "no HTTP": ("malformed", "400", {"target": f"/callback?{GOOD} HTP/1.1\r\nX:"}),
    "no version": ("malformed", "400", {"target": f"/callback?{GOOD}\r\nX:"}),
    "HTTP/2": ("malformed", "400", {"target": f"/callback?{GOOD} HTTP/2.0\r\nX:"}),
    "POST": ("method", "405", {"target": f"/callback?{GOOD}", "method": "POST"}),
    "HEAD": ("method", "405", {"target": f"/callback?{GOOD}", "method": "HEAD"}),
    "OPTIONS": ("method", "405", {"target": f"/callback?{GOOD}", "method": "OPTIONS"}),
    "small letters": ("method", "405", {"target": f"/callback?{GOOD}", "method": "get"}),
    "other host": ("host", "421", {"target": f"/callback?{GOOD}", "host": "evil.example"}),
    "localhost": ("host", "421", {"target": f"/callback?{GOOD}", "host": "localhost"}),
    "two hosts": ("host", "421", {"target": f"/callback?{GOOD}", "more": "Host: evil.example\r\n"}),
    "long": ("size", "414", {"target": f"/callback?{GOOD}&x={'x' * 9_000}"}),
    "longer than a line": ("size", "414", {"target": f"/callback?{GOOD}&x={'x' * 70_000}"}),
    "many headers": ("size", "414", {"target": f"/callback?{GOOD}", "more": "A: b\r\n" * 200}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_malformed_and_hostile_callbacks_are_refused(scene: Scene, case: str) -> None:
    """Each gets a plain refusal that echoes nothing, is counted under its reason, and the wait goes on."""
    reason, status, options = HOSTILE[case]
    page = scene.send(**options)
    assert page.startswith(f"HTTP/1.0 {status}")
    assert "evil" not in page
    assert STATE not in page
    assert scene.listener.wait(0.0) is None
    assert scene.ledger.statistics().refused == {reason: 1}
    assert scene.status(f"/callback?{GOOD}") == "200"
    assert scene.ledger.statistics().accepted == 1


class SloppyCallback(ExpectedCallback):
    """The known-bad control: a judge as many programs have it, which looks for a code anywhere in the address."""

    def read(self, address: SecretStr) -> SecretStr:
        """The first code in the query, if some state is the right one."""
        fields = parse_qs(address.get_secret_value().partition("?")[2])
        if STATE in fields.get("state", [])[:1] and "code" in fields:
            return SecretStr(fields["code"][0])
        raise CallbackError("", "unexpected")


@pytest.mark.reliability
def test_a_sloppy_judge_fails_the_hostile_cases(redirect_uri: str, ledger: CallbackLedger) -> None:
    """Known-bad control: the usual way of reading the query takes many of them for the redirect."""
    taken = []
    for case, (_, _, options) in HOSTILE.items():
        with listening(redirect_uri, ledger, SloppyCallback) as scene:
            scene.send(**options)
            taken += [case] if scene.listener.wait(0.0) is not None else []
    print(f"control: the sloppy judge took {len(taken)} of {len(HOSTILE)} hostile callbacks")
    assert {"other path", "two codes", "two slashes", "absolute target"} <= set(taken)


def test_pictures_that_browsers_ask_for_are_no_callbacks(scene: Scene) -> None:
    """A favicon is not found and not counted."""
    assert scene.status("/favicon.ico") == "404"
    assert scene.ledger.statistics().received == 0


def test_a_redirect_after_its_time_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says that the login is over."""
    monkeypatch.setattr(scene.listener._expected, "_until", 0.0)
    assert scene.status(f"/callback?{GOOD}") == "410"
    assert scene.ledger.statistics().refused == {"late": 1}


# --- OA-2: addresses that nobody thought of

# name -> what is changed of (method, host, path, parameters); the first ones leave it the expected redirect
HARMLESS: dict[str, Callable[[dict[str, Any]], None]] = {
    "other parameter": lambda ask: ask["query"].append(("session", "7b1f2a52")),
    "other parameter without value": lambda ask: ask["query"].append(("x", "")),
    "turned round": lambda ask: ask["query"].reverse(),
    "right issuer": lambda ask: ask["query"].append(("iss", quote(ISSUER, safe=""))),
    "state with an escape": lambda ask: ask.update(state=f"%53{STATE[1:]}"),
    "code with a plus": lambda ask: ask.update(code="a+b"),
}
HARMFUL: dict[str, Callable[[dict[str, Any]], None]] = {
    "second code": lambda ask: ask["query"].append(("code", "z")),
    "second code, encoded": lambda ask: ask["query"].append(("c%6fde", "z")),
    "second state": lambda ask: ask["query"].append(("state", STATE)),
    "error": lambda ask: ask["query"].append(("error", "access_denied")),
    "wrong issuer": lambda ask: ask["query"].append(("iss", "https%3A%2F%2Fevil.example")),
    "fragment": lambda ask: ask["query"].append(("y", "#code=z")),
    "half an escape": lambda ask: ask["query"].append(("y", "%")),
    "64 KiB": lambda ask: ask["query"].append(("y", "y" * 65_536)),
    "code encoded twice": lambda ask: ask.update(code="a%2540"),
    "code with a line break": lambda ask: ask.update(code="a%0d%0ab"),
    "no code": lambda ask: ask.update(code=""),
    "state encoded twice": lambda ask: ask.update(state=f"%2553{STATE[1:]}"),
    "state with a zero": lambda ask: ask.update(state=f"{STATE}%00"),
    "other host": lambda ask: ask.update(host="evil.example"),
    "other path": lambda ask: ask.update(path="/callback;x"),
    "other method": lambda ask: ask.update(method="POST"),
    "a blank": lambda ask: ask.update(path="/call back"),
}
TRICKS = HARMLESS | HARMFUL


def requested(scene: Scene, tricks: list[str]) -> dict[str, Any]:
    """The request after these tricks, as `Scene.send` takes it."""
    ask: dict[str, Any] = {"code": "C0.a.b%40", "state": STATE, "path": "/callback", "query": []}
    for name in tricks:
        TRICKS[name](ask)
    pairs = [("code", ask["code"]), ("state", ask["state"])]
    pairs = pairs + ask["query"] if "turned round" not in tricks else ask["query"] + pairs[::-1]
    target = ask["path"] + "?" + "&".join(f"{name}={value}" for name, value in pairs)
    return {"target": target, "host": ask.get("host", scene.netloc), "method": ask.get("method", "GET")}


@pytest.mark.reliability
def test_exactly_the_expected_redirect_is_taken(
    redirect_uri: str, ledger: CallbackLedger, is_full: bool, harness_seed: int
) -> None:
    """2,000 addresses over TLS (full form): with harmless changes only it is taken, with one harmful it is not."""
    counts = {"taken": 0, "refused": 0}
    stack = ExitStack()
    scenes: list[Scene] = []

    @seed(harness_seed)
    @settings(max_examples=2_000 if is_full else 60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.sampled_from(sorted(HARMLESS)), max_size=3, unique=True),
        st.lists(st.sampled_from(sorted(HARMFUL)), max_size=2, unique=True),
    )
    def judge(harmless: list[str], harmful: list[str]) -> None:
        scene = scenes.pop() if scenes else stack.enter_context(listening(redirect_uri, ledger))
        status = scene.status(**requested(scene, [*harmless, *harmful]))
        code, is_over = answer_of(scene)
        if is_over:
            stack.pop_all().close()
        else:
            scenes.append(scene)
        assert (status == "200") == (code is not None) == (not harmful)
        counts["refused" if harmful else "taken"] += 1

    with stack:
        judge()
    found = ledger.statistics()
    print(f"OA-2: {counts['taken']} expected redirects taken, {counts['refused']} others refused: {found.refused}")
    assert (found.accepted, found.received) == (counts["taken"], counts["taken"] + counts["refused"])
    assert min(counts.values()) > 5


def answer_of(scene: Scene) -> tuple[SecretStr | None, bool]:
    """The code that has been handed over, and whether the wait is over."""
    try:
        code = scene.listener.wait(0.0)
    except CallbackError:
        return None, True
    return code, code is not None


# --- OA-3 and OA-7: the socket and the certificate


def test_a_browser_that_distrusts_and_an_idle_one_hold_nobody_up(scene: Scene) -> None:
    """A refused handshake, plain HTTP and a silent connection do not keep the redirect from being read."""
    begin = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", scene.port), timeout=5),
        socket.create_connection(("127.0.0.1", scene.port)) as plain,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with socket.create_connection(("127.0.0.1", scene.port), timeout=5) as untrusting, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(untrusting, server_hostname="127.0.0.1")
        assert scene.status(f"/callback?{GOOD}") == "200"
    assert time.monotonic() - begin < 3
    assert scene.listener.wait(5) == SecretStr("x")


def listening_rows(port: int) -> list[str]:
    """Local addresses on which the kernel's socket table shows a listener on the port (0A is LISTEN)."""
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]


def test_it_listens_on_loopback_only(scene: Scene) -> None:
    """The kernel's socket table shows the port on 127.0.0.1 and nowhere else."""
    assert listening_rows(scene.port) == [f"0100007F:{scene.port:04X}"]


def test_control_the_socket_table_shows_a_listener_on_all_addresses() -> None:
    """The look at the socket table is able to fail: one bound to every address is seen as such."""
    with socket.create_server(("0.0.0.0", 0)) as wide:  # noqa: S104 - the known-bad control
        port = wide.getsockname()[1]
        assert listening_rows(port) == [f"00000000:{port:04X}"]


def test_the_port_is_free_at_once_after_the_wait(redirect_uri: str, ledger: CallbackLedger) -> None:
    """Closed within a second of leaving, also when a connection is still open."""
    with listening(redirect_uri, ledger) as scene:
        idle = socket.create_connection(("127.0.0.1", scene.port), timeout=5)
        scene.send(f"/callback?{GOOD}")
        begin = time.monotonic()
    assert time.monotonic() - begin < 1
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", scene.port), timeout=1)
    assert listening_rows(scene.port) == []
    with listening(redirect_uri, ledger):
        pass


def test_a_port_in_use_is_named(scene: Scene, ledger: CallbackLedger) -> None:
    """The message names the port, the setting and the way without a port."""
    with (
        pytest.raises(CallbackError, match=r"port \d+ .*--manual.*schwab\.redirect_uri"),
        listening(scene.redirect_uri, ledger),
    ):
        pass


@pytest.mark.parametrize("uri", ["http://127.0.0.1:8182/", "https://localhost:8182/", "https://0.0.0.0:8182/"])
def test_other_addresses_are_not_listened_on(ledger: CallbackLedger, uri: str) -> None:
    """HTTPS on 127.0.0.1 and nothing else."""
    with pytest.raises(CallbackError, match="only that is listened on"), listening(uri, ledger):
        pass


def test_the_certificate_is_short_lived_and_for_loopback(
    redirect_uri: str, ledger: CallbackLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC P-256, SAN 127.0.0.1, at most a day; its key leaves no file and was never readable by others."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    seen: list[int] = []
    loaded = ssl.SSLContext.load_cert_chain

    def look(self: ssl.SSLContext, file: Path) -> None:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent))
        loaded(self, file)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    with listening(redirect_uri, ledger) as scene:
        certificate = x509.load_pem_x509_certificate(scene.listener.certificate_pem)
        assert list(folder.iterdir()) == []
    assert seen == [0o600, 0o700]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["127.0.0.1"]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=1)
    key = certificate.public_key()
    assert key.curve.name == "secp256r1"  # type: ignore[union-attr]  # other kinds of key have no curve


def test_several_redirects_at_once_hand_over_one(scene: Scene) -> None:
    """Ten browsers at the same time: one is accepted, nine are told that an answer has arrived."""
    statuses: list[str] = []

    def browse(number: int) -> None:
        statuses.append(scene.status(f"/callback?code={quote(f'c{number}')}&state={STATE}"))

    threads = [threading.Thread(target=browse, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == ["200"] + ["409"] * 9
    code = scene.listener.wait(5)
    assert code is not None
    assert re.fullmatch(r"c\d", code.get_secret_value())
    assert (scene.ledger.statistics().accepted, scene.ledger.statistics().refused) == (1, {"used": 9})
