"""Somebody who uses a running simulator as a client would, and what answers look like."""

import json
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from trade_analyst_pipeline.simulator.oauth import DEFAULT_REDIRECT_URIS, SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer

SEED = 7
RECORDINGS = Path(__file__).resolve().parents[2] / "../shared/samples/schwab"
# A Tuesday in winter time, five minutes before the close of stocks: 15:55 New York.
BEFORE_CLOSE = datetime(2025, 12, 9, 20, 55, tzinfo=UTC)


@dataclass
class MachineClock:
    """A machine's clock that tests set by hand, seconds since 1970."""

    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Visitor:
    """A logged-in client of a running simulator."""

    server: SimulatorServer
    http: httpx.Client
    tokens: dict[str, Any] = field(default_factory=dict)

    def consent(self, **params: str) -> httpx.Response:
        """Ask for consent; the answer is the redirect, not followed."""
        asked = {"response_type": "code", "client_id": SIMULATOR_APP_KEY, "redirect_uri": DEFAULT_REDIRECT_URIS[0]}
        return self.http.get(f"{self.server.base_url}/v1/oauth/authorize", params=asked | params)

    def code(self, **params: str) -> str:
        """A fresh authorization code, decoded once."""
        return parse_qs(urlsplit(self.consent(**params).headers["location"]).query)["code"][0]

    def ask_token(self, *, secret: str = SIMULATOR_APP_SECRET, **form: str) -> httpx.Response:
        """Post to the token address."""
        auth = (SIMULATOR_APP_KEY, secret)
        return self.http.post(f"{self.server.base_url}/v1/oauth/token", data=form, auth=auth)

    def exchange(self, code: str, **more: str) -> httpx.Response:
        """Exchange a code for tokens."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": DEFAULT_REDIRECT_URIS[0]}
        return self.ask_token(**(form | more))

    def log_in(self) -> None:
        """Go through the whole flow and keep the tokens."""
        self.tokens = self.exchange(self.code()).json()

    def get(self, path: str, at: datetime | None = BEFORE_CLOSE, **params: object) -> httpx.Response:
        """Ask for market data at an instant, or with None by the server's clock."""
        base = self.server.base_url if at is None else self.server.at(at)
        headers = {"authorization": f"Bearer {self.tokens['access_token']}"}
        sent = {name: str(value) for name, value in params.items()}
        return self.http.get(f"{base}/marketdata/v1{path}", params=sent, headers=headers)

    def json(self, path: str, at: datetime | None = BEFORE_CLOSE, **params: object) -> Any:
        """The body of a good answer."""
        response = self.get(path, at, **params)
        assert response.status_code == 200, response.text
        return response.json()


def trusting(ca_file: Path) -> httpx.Client:
    """A client that trusts only the simulator's authority."""
    return httpx.Client(verify=ssl.create_default_context(cafile=str(ca_file)), trust_env=False, timeout=30.0)


def recording(name: str) -> Any:
    """A recorded answer of the real source; the test is skipped, visibly, where the recordings are absent."""
    path = RECORDINGS / name
    if not path.is_file():
        pytest.skip(f"NOT RUN: the recording {name} is not on this machine")
    return json.loads(path.read_text(encoding="utf-8"))


def shape(value: Any) -> Any:
    """The types of a JSON value, all numbers alike: what two answers of one kind have in common."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__
