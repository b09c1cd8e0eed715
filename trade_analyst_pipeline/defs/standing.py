"""How things stand in this installation, looked at without asking the source or changing anything.

Belongs here: the stored login, whether a client can be built, and the request limit, for the health report, the token
asset and runs about to start. What each of them is built from is chosen in `resources.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from datetime import UTC, date, datetime, timedelta

from trade_analyst_pipeline.capture.gap_lines import sums
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.resources import (
    SourceResource,
    StorageResource,
    app_credentials,
    certificate_authority,
    request_budget,
    token_client,
    token_store,
)
from trade_analyst_pipeline.errors import AuthUnavailableError, LoginRequiredError, SettingsError, TokenStoreError
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.ops.health.stores import GapCount
from trade_analyst_pipeline.ops.login_outlook import Login
from trade_analyst_pipeline.schwab.budget import BudgetState
from trade_analyst_pipeline.schwab.client import open_http
from trade_analyst_pipeline.schwab.key_places import KEYRING_SECONDS
from trade_analyst_pipeline.schwab.tokens import TokenStore, both_times
from trade_analyst_pipeline.settings import Settings

_NO_KEY = "nowhere: it cannot be read"


class TokenResource:
    """The login at the source, as it is stored; looking at it asks nothing of the source."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def now(self) -> datetime:
        """The machine's present instant, UTC: lifetimes of logins count on it."""
        return MachineClock().now()

    def login(self) -> Login:
        """How the stored login stands; raises SettingsError where the app's credentials are missing."""
        return stored_login(self._settings)


def stored_login(settings: Settings, *, keyring_seconds: float = KEYRING_SECONDS) -> Login:
    """The login as it is stored; raises SettingsError where the app's credentials are missing.

    `keyring_seconds` bounds each wait for the OS keyring.
    """
    try:
        store = token_store(settings, keyring_seconds=keyring_seconds)
    except TokenStoreError as error:  # what was given as its key is none
        return Login(None, None, problem=str(error), key_source=_NO_KEY)
    try:
        tokens, lead = store.load(), store.lead()
    except LoginRequiredError:
        return Login(None, None, key_source=_key_source(store))
    except (TokenStoreError, AuthUnavailableError) as error:  # the second: while a keyring does not answer
        return Login(None, None, problem=str(error))
    note = store.refresh_note(tokens.generation)
    refused = note if note is not None and note.state == "refused" else None
    return Login(
        login_time=_instant(tokens.login_time),
        ends_time=_instant(tokens.login_ends_time),
        generation=tokens.generation,
        problem=f"the source refused the stored login at {both_times(refused.since)}" if refused else None,
        key_source=_key_source(store),
        lead=timedelta(seconds=lead),
    )


def _key_source(store: TokenStore) -> str:
    try:
        key = store.key
    except TokenStoreError:
        return _NO_KEY
    return "nowhere yet" if key is None else key.label


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def check_client(settings: Settings) -> None:
    """Build what asks the source, and ask nothing: raises what stands in the way.

    SettingsError where the certificate to trust cannot be read as one.
    """
    app_credentials(settings)
    token_client(settings)
    request_budget(settings)

    authority = certificate_authority(settings)

    async def open_and_close() -> None:
        await open_http(ca_file=authority, in_flight=1).aclose()

    try:
        asyncio.run(open_and_close())
    except ssl.SSLError as error:
        message = (
            f"{authority or 'the list of authorities of this system'} holds no certificate that can be read "
            f"({error.reason or error}). `trade-analyst simulator` and `make ui` write the simulator's anew"
        )
        raise SettingsError(message) from error


def gap_count(settings: Settings, day: date) -> GapCount:
    """How a session stands in the ledger of gaps."""
    ledger = SourceResource(settings).ledger(StorageResource(settings).archive)
    lines = [line for dataset in DATASETS for line in ledger.lines(dataset, day)]
    found, lacking = sums(lines), Counter(str(line.type) for line in lines if line.is_lacking)
    can_be_had = sum(line.can_be_had for line in lines)
    return GapCount(day, found.expected, found.captured, dict(lacking), can_be_had, tuple(map(str, ledger.damaged)))


def budget_state(settings: Settings) -> BudgetState | None:
    """How the request limit stands that all processes share; None on the simulator, where each run has its own.

    Raises StorageError where this process cannot take part in it.
    """
    if settings.environment == "simulate":
        return None
    budget = request_budget(settings)
    budget.check_access()
    return budget.state()
