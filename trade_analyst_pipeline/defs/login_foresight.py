"""What a run about to start is told of the login: nothing, that it ends too soon, or that there is none.

A run that has nothing to ask the source needs no login and is told nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta

import dagster as dg

from trade_analyst_pipeline.defs.automation import MAX_RUN_SECONDS
from trade_analyst_pipeline.defs.run_records import RANGE_END, RANGE_START
from trade_analyst_pipeline.defs.standing import TokenResource
from trade_analyst_pipeline.errors import LoginRequiredError
from trade_analyst_pipeline.market.sessions import sessions
from trade_analyst_pipeline.ops.login_outlook import ADVICE, shortfall, standing

_LAST_RUNS = 5


def estimated_duration(instance: dg.DagsterInstance, job: str, session_count: int) -> timedelta:
    """How long a run over so many sessions takes, as the slowest a session of the job's last five successful runs.

    Without any on record: the longest a run may take at all.
    """
    wanted = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
    paces = [
        (record.end_time - record.start_time) / _session_count(record.dagster_run.tags)
        for record in instance.get_run_records(wanted, limit=_LAST_RUNS)
        if record.end_time is not None and record.start_time is not None
    ]
    limit = timedelta(seconds=MAX_RUN_SECONDS)
    return min(limit, timedelta(seconds=max(paces) * session_count)) if paces else limit


def _session_count(tags: Mapping[str, str]) -> int:
    """How many sessions a run was about; 1 where it does not say."""
    first, last = tags.get(RANGE_START), tags.get(RANGE_END)
    if first is None or last is None:
        return 1
    return max(1, len(sessions(date.fromisoformat(first), date.fromisoformat(last))))


def check_login(
    token: TokenResource, *, takes: timedelta, days: Sequence[date], has_to_ask: Callable[[], bool]
) -> str | None:
    """What to warn of before a run that `takes` so long over these sessions; None when the login outlasts it.

    Raises LoginRequiredError, before anything is captured, when the login is over or missing.
    """
    login, now = token.login(), token.now()
    if not login.is_usable(now):
        if has_to_ask():
            message = f"nothing was captured: {standing(login, now)}. {ADVICE}"
            raise LoginRequiredError(message)
        return None
    told = shortfall(login, now=now, takes=takes, sessions=days)
    return told if told is not None and has_to_ask() else None
