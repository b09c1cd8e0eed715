"""The whole login in a real browser: consent by a click, the redirect to the listener, and the page that says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import PROGRAM, Chromium, key_pin

from trade_analyst_pipeline.errors import CallbackError
from trade_analyst_pipeline.schwab.login import login

pytestmark = [pytest.mark.reliability, pytest.mark.full_only, pytest.mark.auth_real_flow]


@pytest.fixture
def browser_at(logins: Any, tmp_path: Path) -> Iterator[Callable[..., Chromium]]:
    """Starts a Chromium that trusts the simulator, and the listener's certificate unless told otherwise."""
    if not PROGRAM.exists():
        pytest.skip(f"NOT RUN: {PROGRAM} is not installed")
    started: list[Chromium] = []

    def start(*, trusts_listener: bool) -> Chromium:
        pins = [simulator_pin(logins)]
        pins += [key_pin((logins.folder / "callback.pem").read_bytes())] if trusts_listener else []
        chromium = Chromium(tmp_path / "profile", pins=pins)
        started.append(chromium.__enter__())
        return started[-1]

    yield start
    for chromium in started:
        chromium.__exit__(None, None, None)


def simulator_pin(logins: Any) -> str:
    """The pin of the certificate that the running simulator shows."""
    import ssl

    port = int(logins.simulator.base_url.rpartition(":")[2])
    return key_pin(ssl.get_server_certificate(("127.0.0.1", port)).encode())


def log_in_with(logins: Any, open_browser: Callable[[str], None]) -> Any:
    """The login with this browser."""
    return login(
        logins.client(),
        logins.store,
        ledger=logins.ledger,
        open_browser=open_browser,
        certificate_file=logins.folder / "callback.pem",
        wait_seconds=10,
    )


ARRIVED = "document.body && document.body.innerText.includes('The login has arrived') && document.body.innerText"


def test_a_login_in_a_real_browser(logins: Any, browser_at: Callable[..., Chromium]) -> None:
    """The consent page is shown, a click agrees, the redirect is taken, and the page tells nothing secret."""
    logins.simulator.desk.is_consent_automatic = False
    seen: dict[str, Any] = {}

    def open_browser(url: str) -> None:
        chromium = browser_at(trusts_listener=True)
        assert chromium.go(url) is None
        seen["consent"] = chromium.wait_for("document.querySelector('a') && document.body.innerText", seconds=10)
        seen["requests before consent"] = logins.ledger.statistics().received
        chromium.run("document.querySelector('a').click()")
        seen["page"] = chromium.wait_for(ARRIVED, seconds=10)
        seen["address"] = chromium.run("location.href")
        seen["scripts"] = chromium.run("document.scripts.length")
        seen["referrer"] = chromium.run("document.referrer")

    begin = time.monotonic()
    stored = log_in_with(logins, open_browser)
    print(f"login in Chromium: {time.monotonic() - begin:.1f} s, page says {seen['page']!r}")
    assert "Allow access" in seen["consent"]
    assert seen["requests before consent"] == 0
    assert seen["page"].strip() == "The login has arrived. You can close this page."
    assert seen["address"].startswith(logins.redirect_uri + "?code=C0.")
    assert (seen["scripts"], seen["referrer"]) == (0, f"{logins.simulator.base_url}/")
    assert logins.open_store().load() == stored
    found = logins.ledger.statistics()
    assert (found.expected, found.received, found.accepted, found.refused) == (1, 1, 1, {})


def test_control_a_browser_that_does_not_trust_the_listener(logins: Any, browser_at: Callable[..., Chromium]) -> None:
    """Known-bad control: where the person does not accept the certificate nothing arrives, and the wait tells why."""

    def open_browser(url: str) -> None:
        chromium = browser_at(trusts_listener=False)
        problem = chromium.go(url)
        print(f"without trust in the listener Chromium says {problem}")
        assert problem is not None
        assert "CERT" in problem

    with pytest.raises(CallbackError, match="although it does not know the certificate"):
        log_in_with_short_wait(logins, open_browser)
    assert logins.ledger.statistics().received == 0
    assert logins.token_requests() == 0


def log_in_with_short_wait(logins: Any, open_browser: Callable[[str], None]) -> None:
    """The login, without waiting once the browser has given up."""
    login(
        logins.client(),
        logins.store,
        ledger=logins.ledger,
        open_browser=open_browser,
        certificate_file=logins.folder / "callback.pem",
        wait_seconds=0.1,
    )


def test_a_second_load_in_a_real_browser_is_told(logins: Any, browser_at: Callable[..., Chromium]) -> None:
    """Reloading the page sends the redirect again: it is refused as used, and the login stands."""
    seen: list[str] = []

    def open_browser(url: str) -> None:
        chromium = browser_at(trusts_listener=True)
        assert chromium.go(url) is None
        assert chromium.wait_for(ARRIVED, seconds=10)
        chromium.ask("Page.reload")
        again = "document.body && document.body.innerText.includes('already arrived') && document.body.innerText"
        seen.append(chromium.wait_for(again, seconds=10))

    log_in_with(logins, open_browser)
    assert seen[0].strip() == "An answer has already arrived. You can close this page."
    assert logins.ledger.statistics().refused == {"used": 1}
    assert logins.token_requests() == 1
