"""Whether the source can be asked: redirect address, credentials, login, callbacks, answer, client and budget."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from trade_analyst_pipeline.errors import SourceError, UntrustedServerError
from trade_analyst_pipeline.ops.health.report import Finding, fail, ok, skipped, warn
from trade_analyst_pipeline.ops.login_outlook import ADVICE, Login, passed_threshold, standing
from trade_analyst_pipeline.schwab.budget import BudgetState
from trade_analyst_pipeline.schwab.callback_ledger import CallbackStatistics
from trade_analyst_pipeline.schwab.ping import Ping
from trade_analyst_pipeline.settings import Settings

LONGEST_WAIT_SECONDS = 60.0
NO_SIMULATOR = (
    "What listens there is not the simulator that wrote the certificate: end it, or set simulator.port to another. "
    "`trade-analyst run` needs neither."
)
_LOG_IN = "Run `trade-analyst login`."
_AS_SAID = "Do what the message says: a new login would not be stored over one that cannot be opened."


def check_redirect(settings: Settings) -> Finding:
    """The redirect address has to be private to this machine and match an allowed one exactly."""
    uri, allowed = settings.schwab.redirect_uri, settings.schwab.redirect_allowlist
    strangers = [entry for entry in (uri, *allowed) if not _is_private(entry)]
    if strangers or uri not in allowed:
        problem = f"not https on 127.0.0.1: {', '.join(strangers)}" if strangers else f"{uri} is not in the allowlist"
        return fail(problem, "Correct redirect_uri and redirect_allowlist.")
    others = f"; {len(allowed) - 1} more allowed" if len(allowed) > 1 else ""
    return ok(f"{uri} (register exactly this with the source){others}")


def _is_private(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme == "https" and parts.hostname == "127.0.0.1"


def check_credentials(settings: Settings) -> Finding:
    """The live environment needs the app's key and secret; the simulator knows its own."""
    if settings.environment == "simulate":
        return ok("the simulator needs none")
    missing = [name for name in ("app_key", "app_secret") if getattr(settings, name) is None]
    if missing:
        advice = "Set TRADE_ANALYST_APP_KEY and TRADE_ANALYST_APP_SECRET in the environment or .env."
        return fail(f"{' and '.join(missing)} not set", advice)
    return ok("app key and secret are set")


def check_token(login: Login, now: datetime, *, is_live: bool) -> Finding:
    """The stored login lasts; more than 48 hours are fine. On the simulator runs make their own, and none is needed."""
    if login.ends_time is None and login.problem is None and not is_live:
        return skipped("each run logs in to its own simulator")
    detail = f"{standing(login, now)}; key from {login.key_source}"
    if not login.is_usable(now):
        remedy = _AS_SAID if login.login_time is None and login.problem is not None else _LOG_IN
        return fail(detail, remedy) if is_live else warn(detail, remedy)
    if passed_threshold(login, now) is not None:
        return warn(detail, ADVICE)
    return ok(detail)


def check_callbacks(statistics: CallbackStatistics) -> Finding:
    """Login callbacks so far: expected, received, accepted, refused by reason, and how long the last took."""
    if statistics.problem is not None:
        return warn(statistics.problem, "Nothing has to be done: counting goes on.")
    if not statistics.expected and not statistics.received:
        return skipped("no callback has been expected yet")
    detail = f"{statistics.expected} expected, {statistics.received} received, {statistics.accepted} accepted"
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(statistics.refused.items()) if count)
    detail += f", refused: {refused or 'none'}; {statistics.expired} not answered in time"
    if statistics.last_latency_seconds is not None:
        detail += f"; the last took {statistics.last_latency_seconds:.1f} s"
    return ok(detail)


def check_source(ask: Callable[[], Ping | None], address: str, *, is_live: bool) -> Finding:
    """The source answers one request over TLS, without credentials: a refusal is an answer. None: no simulator runs.

    Where the simulator would be, another program is no failure: runs start a simulator of their own elsewhere.
    """
    try:
        answer = ask()
    except SourceError as error:
        detail = f"{address}: {error.problem}"
        return fail(detail, _remedy(error)) if is_live else warn(detail, NO_SIMULATOR)
    if answer is None:
        return skipped("no simulator runs here now; `trade-analyst run` starts its own")
    detail = f"{address} answered {answer.status} in {answer.seconds * 1000:.0f} ms, certificate trusted"
    if answer.status >= 500:
        return warn(detail, "The source has an outage: nothing can be done but to try again later.")
    if answer.status == 403 and answer.is_html:
        return warn(detail, "The edge blocks this address for now: wait some minutes, leave VPNs and proxies.")
    return ok(detail)


def _remedy(error: SourceError) -> str:
    if isinstance(error, UntrustedServerError):
        return "Check schwab.base_url and what stands between here and the source."
    return "Check the network, name resolution and schwab.base_url."


def check_adapter(build: Callable[[], None]) -> Finding:
    """A client of the source can be built: certificate authorities, credentials, redirect address, request limit."""
    build()
    return ok("client, log-in and request limit can be set up")


def check_budget(state: BudgetState, now: datetime) -> Finding:
    """What may be asked now under the limit all processes of this machine share."""
    limit = _limit(state)
    if not state.is_known:
        return warn(f"{limit}; the file that counts is damaged", "It mends itself: the next request waits a minute.")
    detail = f"{limit}; {_next(state, now)}; {_refusals(state)}"
    if state.is_down:
        return warn(
            f"{detail}; the source failed often in a row", "Wait: one request each 30 s finds out when it is up."
        )
    if state.next_time is not None and (state.next_time - now).total_seconds() > LONGEST_WAIT_SECONDS:
        return warn(detail, "The source asked for a pause, or refused requests: wait, or start fewer programs.")
    if state.learned < state.configured:
        return warn(detail, "It recovers by 1 a minute; if it keeps coming back, lower schwab.requests_per_minute.")
    return ok(detail)


def _limit(state: BudgetState) -> str:
    parts = f"{state.configured} set, {state.learned} learned, {state.reserved} reserved"
    return f"{state.per_minute} a minute for this machine ({parts})"


def _next(state: BudgetState, now: datetime) -> str:
    used = f"{state.used_last_minute} went in the last minute"
    if state.next_time is None:
        return f"{used}, {state.free_now} may go at once"
    wait = (state.next_time - now).total_seconds()
    return f"{used}, the next may go in {wait:.0f} s, at {state.next_time:%H:%M:%S} UTC"


def _refusals(state: BudgetState) -> str:
    if state.last_refusal_time is None:
        return "no 429 so far"
    return f"last 429 at {state.last_refusal_time:%Y-%m-%d %H:%M:%S} UTC ({state.refusals} in all)"
