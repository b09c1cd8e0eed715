"""What holds a secret does not show it when it is shown itself: as text, in a container, by its attributes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.errors import LoginRequiredError
from trade_analyst_pipeline.ops.redaction import register_secret
from trade_analyst_pipeline.schwab.auth import TokenClient
from trade_analyst_pipeline.schwab.callback import ExpectedCallback
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.key_sets import KeySet
from trade_analyst_pipeline.schwab.keys import open_keys
from trade_analyst_pipeline.schwab.token_records import StoredTokens, TokenGrant
from trade_analyst_pipeline.schwab.tokens import TokenStore
from trade_analyst_pipeline.settings import Settings

SECRET = "cAnArY-0123456789-of-the-types"  # pragma: allowlist secret
KEY = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbjE="  # pragma: allowlist secret
REDIRECT = "https://127.0.0.1:8182/callback"


def client(_: Path) -> TokenClient:
    """The OAuth pages for an app whose key and secret are the canary."""
    return TokenClient(
        base_url="https://api.example",
        app_key=SecretStr(SECRET),
        app_secret=SecretStr(SECRET),
        redirect_uri=REDIRECT,
        redirect_allowlist=[REDIRECT],
        ca_file=None,
    )


def store(folder: Path) -> TokenStore:
    """A token store whose key is the canary."""
    keys = open_keys(SecretStr(KEY), key_file=folder / "key", token_file=folder / "tokens")
    return TokenStore(folder / "tokens", keys=keys, owner="owner")


def key_set(folder: Path) -> KeySet | None:
    """The keys that the store uses."""
    return store(folder).key


def expected(folder: Path) -> ExpectedCallback:
    """A redirect waited for whose state is the canary."""
    ledger = CallbackLedger(folder / "ledger")
    return ExpectedCallback(REDIRECT, state=SecretStr(SECRET), issuer="https://api.example", ledger=ledger, seconds=9)


HOLDERS: dict[str, Callable[[Path], Any]] = {
    "settings": lambda _: Settings(
        universe={"symbols": ["SPY"]},
        app_key=SECRET,
        app_secret=SECRET,
        token_key=KEY,  # type: ignore[arg-type]
    ),
    "grant": lambda _: TokenGrant(SecretStr(SECRET), SecretStr(SECRET), 1800.0),
    "stored tokens": lambda _: StoredTokens(SecretStr(SECRET), SecretStr(SECRET), 1, 0.0, 0.0, 1800.0),
    "token client": client,
    "token store": store,
    "keys": key_set,
    "expected callback": expected,
    "login attempt": lambda folder: client(folder).begin_login(ledger=CallbackLedger(folder / "ledger"), seconds=9),
    "error": lambda _: LoginRequiredError(f"refused {SECRET}"),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_holder_of_a_secret_does_not_show_it(name: str, tmp_path: Path) -> None:
    """As text, in a container, and by its attributes one level down."""
    register_secret(SECRET)
    holder = HOLDERS[name](tmp_path)
    shown = [repr(holder), str(holder), f"{holder}", repr([holder]), repr(getattr(holder, "__dict__", {}))]
    for text in shown:
        if name == "login attempt":  # the link a person has to open names the app key: it shows nothing else
            text = text.replace(f"client_id={SECRET}", "")
        assert SECRET not in text
        assert KEY not in text
