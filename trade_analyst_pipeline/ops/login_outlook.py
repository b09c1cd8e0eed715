"""How long the login still lasts and what to say about it: when to warn, and whether it outlasts a piece of work.

Not here: reading the stored login (`schwab/tokens.py`), and where warnings go. All instants are UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from trade_analyst_pipeline.market.sessions import session_close
from trade_analyst_pipeline.schwab.tokens import both_times

WARN_HOURS = (48, 12)
LEAD_ALLOWED = timedelta(minutes=1)
ADVICE = "Run `trade-analyst login`: a new login lasts seven days from then."


@dataclass(frozen=True)
class Login:
    """The login as it is stored: when it was made and when it ends, both None without one.

    `problem` says why it cannot be used although it has not ended (the source refused it, the file cannot be opened).
    `generation` grows with each renewal; `key_source` is where the key to the file comes from. `lead` is how far ahead
    of the machine's clock the login is dated: such a one counts from now, and when it ends is not known.
    """

    login_time: datetime | None
    ends_time: datetime | None
    generation: int = 0
    problem: str | None = None
    key_source: str = "unknown"
    lead: timedelta = timedelta()

    @property
    def is_ahead(self) -> bool:
        """Whether it is dated in the future: the clock is wrong now, or was when the login was made."""
        return self.lead > LEAD_ALLOWED

    def left(self, now: datetime) -> timedelta:
        """How long it still lasts; zero without a usable login."""
        if self.ends_time is None or self.problem is not None:
            return timedelta()
        return max(timedelta(), self.ends_time - now)

    def is_usable(self, now: datetime) -> bool:
        """Whether the source can be asked with it."""
        return self.left(now) > timedelta()


def _told(instant: datetime) -> str:
    return both_times(instant.timestamp())


def span(length: timedelta) -> str:
    """A length of time in its two largest units: 6 days 3 h, 1 day 0 h, 11 h 58 min, 4 min."""
    minutes = int(length.total_seconds() // 60)
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    if days:
        return f"{days} day{'s' * (days > 1)} {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def ahead_notice(login: Login) -> str | None:
    """What to say of a login that is dated in the future; None of any other."""
    if not login.is_ahead:
        return None
    return (
        f"the login is dated {span(login.lead)} ahead of this machine's clock, so when it ends is not known: set the "
        "clock (NTP); if it is right, log in again"
    )


def standing(login: Login, now: datetime) -> str:
    """One sentence on how the login stands."""
    if login.ends_time is None:
        return login.problem or "nobody has logged in"
    if login.problem is not None:
        return login.problem
    if not login.is_usable(now):
        return f"the login ended at {_told(login.ends_time)}, seven days after it was made"
    return ahead_notice(login) or f"{span(login.left(now))} left, until {_told(login.ends_time)}"


def passed_threshold(login: Login, now: datetime) -> int | None:
    """The smallest of `WARN_HOURS` that is not more than the hours left; None before the first, and without a login.

    The first also for a login dated in the future, which may end at any time.
    """
    if not login.is_usable(now):
        return None
    if login.is_ahead:
        return max(WARN_HOURS)
    return min((hours for hours in WARN_HOURS if login.left(now) <= timedelta(hours=hours)), default=None)


def ending_notice(login: Login, now: datetime) -> str:
    """What to tell a person whose login is about to end: when, in both zones, and what to do."""
    when = "may end at any time" if login.is_ahead else "ends soon"
    return f"the login at the source {when}: {standing(login, now)}. {ADVICE}"


def shortfall(login: Login, *, now: datetime, takes: timedelta, sessions: Sequence[date]) -> str | None:
    """Why a run that `takes` so long over these sessions is longer than the login lasts; None if it is not.

    It is when the run would still be going on at the login's end, or when its last session closes after that.
    """
    if login.ends_time is None:
        return None
    ends = _told(login.ends_time)
    if now + takes > login.ends_time:
        return (
            f"this run is estimated to take {span(takes)}, until {_told(now + takes)}, but the login ends before "
            f"that, at {ends}. What is captured until then stands. {ADVICE}"
        )
    closes = max((session_close(day, "late") for day in sessions), default=now)
    if closes > login.ends_time:
        return (
            f"session {max(sessions)} closes at {_told(closes)}, after the end of the login at {ends}: its "
            f"closing snapshots need a new one. {ADVICE}"
        )
    return None
