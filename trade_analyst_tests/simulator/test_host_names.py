"""Clients made for Schwab reach the simulator under Schwab's own addresses, unmodified.

What a hosts file does is done here by the resolver of one process: it sends the two names to the simulator's port. The
authority to trust comes from a CA bundle, as a user would set it. Nothing in any client is changed.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from visiting import BEFORE_CLOSE, SEED, Visitor, trusting

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import DEFAULT_REDIRECT_URIS, SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer

API, STREAMER = "api.schwabapi.com", "streamer-api.schwab.com"


@pytest.fixture(scope="module")
def named(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorServer]:
    """A simulator whose certificate carries Schwab's names."""
    ca_file = tmp_path_factory.mktemp("named") / "ca.pem"
    with SimulatorServer(
        seed=SEED, market=market, ca_file=ca_file, now=lambda: BEFORE_CLOSE, names=(API, STREAMER)
    ) as server:
        yield server


@pytest.fixture
def hosts_file(named: SimulatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two names lead to the simulator, and the environment names its authority as the CA bundle."""
    port = int(named.base_url.rpartition(":")[2])
    resolve = socket.getaddrinfo

    def resolved(host: Any, asked: Any, *rest: Any, **named: Any) -> Any:
        if host in {API, STREAMER, API.encode(), STREAMER.encode()} and int(asked) == 443:
            host, asked = "127.0.0.1", port
        return resolve(host, asked, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setenv("SSL_CERT_FILE", str(named.ca_file))
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.mark.usefixtures("hosts_file")
@pytest.mark.parametrize("host", [API, STREAMER])
def test_httpx_reaches_it_under_the_real_address(host: str) -> None:
    """The address has the real host and no port; SNI, Host header and certificate check are the library's own."""
    with httpx.Client() as http:
        answer = http.get(f"https://{host}/marketdata/v1/quotes?symbols=AAPL")
    assert answer.request.headers["host"] == host
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (400, "Missing header")


def test_curl_reaches_it_under_the_real_address(named: SimulatorServer) -> None:
    """curl, told the address of the name and the CA file, gets the simulator's answer."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("NOT RUN: curl is not installed")
    port = named.base_url.rpartition(":")[2]
    told = [curl, "-s", "--noproxy", "*", "--cacert", str(named.ca_file), "--connect-to", f"{API}:443:127.0.0.1:{port}"]
    found = subprocess.run([*told, f"https://{API}/marketdata/v1/markets"], capture_output=True, check=True, timeout=20)
    assert json.loads(found.stdout)["errors"][0]["detail"] == "Missing header"


@pytest.mark.usefixtures("hosts_file")
def test_schwab_py_works_unmodified(named: SimulatorServer, tmp_path: Path) -> None:
    """From a token file of its own shape it reads quotes, refreshes before that, and asks https://api.schwabapi.com."""
    schwab = pytest.importorskip("schwab", reason="NOT RUN: schwab-py is not installed")
    with httpx.Client() as http:
        asked = {"response_type": "code", "client_id": SIMULATOR_APP_KEY, "redirect_uri": DEFAULT_REDIRECT_URIS[0]}
        redirect = http.get(f"https://{API}/v1/oauth/authorize", params=asked).headers["location"]
        code = parse_qs(urlsplit(redirect).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": DEFAULT_REDIRECT_URIS[0]}
        credentials = (SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET)
        tokens = http.post(f"https://{API}/v1/oauth/token", data=form, auth=credentials).json()
    now = int(time.time())
    stored = {"creation_timestamp": now, "token": tokens | {"expires_at": now - 1}}
    (tmp_path / "token.json").write_text(json.dumps(stored), encoding="utf-8")
    before = named.desk.refreshes
    client = schwab.auth.client_from_token_file(
        str(tmp_path / "token.json"), SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET, enforce_enums=False
    )
    quotes = client.get_quotes(["AAPL", "$SPX"])
    client.session.close()
    assert str(quotes.url).startswith(f"https://{API}/marketdata/v1/quotes")
    assert sorted(quotes.json()) == ["$SPX", "AAPL"]
    assert named.desk.refreshes == before + 1


@pytest.mark.usefixtures("hosts_file")
def test_control_a_certificate_without_the_name_is_refused(
    market: Market, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Known-bad control: the same way in to a simulator started without names ends at the certificate check."""
    with SimulatorServer(seed=SEED, market=market, ca_file=tmp_path / "ca.pem") as plain:
        port, resolve = int(plain.base_url.rpartition(":")[2]), socket.getaddrinfo

        def resolved(_: Any, __: Any, *rest: Any, **options: Any) -> Any:
            return resolve("127.0.0.1", port, *rest, **options)

        with monkeypatch.context() as patch, httpx.Client(verify=_trusting(plain)) as http:
            patch.setattr(socket, "getaddrinfo", resolved)
            with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
                http.get(f"https://{API}/marketdata/v1/quotes")
        with trusting(plain.ca_file) as http:
            Visitor(plain, http).log_in()


def _trusting(server: SimulatorServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(server.ca_file))
