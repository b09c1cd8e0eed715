"""The login at the source as Dagster shows it: the observed asset `token`, its check, and when to warn of its end.

Observing asks nothing of the source. When the sensor looks is written in `automation.py`; what a run about to start
is told of the login is `login_foresight.py`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import dagster as dg
import msgspec

from trade_analyst_pipeline.defs.standing import TokenResource
from trade_analyst_pipeline.ops.login_outlook import (
    ADVICE,
    WARN_HOURS,
    Login,
    ending_notice,
    passed_threshold,
    standing,
)

TOKEN_KEY = dg.AssetKey("token")
CHECK_NAME = "login_lasts"
AGAIN = timedelta(hours=6)
_OVER = 0  # the threshold behind the last: the login has ended or was refused

Token = dg.ResourceParam[TokenResource]


def token_asset() -> dg.SourceAsset:
    """`token`: observing it records how long the stored login lasts."""

    @dg.observable_source_asset(
        key=TOKEN_KEY,
        group_name="access",
        description="The login at the source: how long it still lasts. The 7 days count from the interactive login.",
    )
    def observe(token: Token) -> dg.ObserveResult:
        login, now = token.login(), token.now()
        version = dg.DataVersion(str(login.generation))
        return dg.ObserveResult(data_version=version, metadata=login_metadata(login, now))

    return observe


@dg.asset_check(
    asset=TOKEN_KEY,
    name=CHECK_NAME,
    description=f"The login lasts more than {max(WARN_HOURS)} hours: fewer warn, a login that is over fails.",
)
def login_lasts(token: Token) -> dg.AssetCheckResult:
    """Check the stored login."""
    login, now = token.login(), token.now()
    return dg.AssetCheckResult(
        passed=lasts(login, now), severity=severity(login, now), metadata=login_metadata(login, now)
    )


def lasts(login: Login, now: datetime) -> bool:
    """Whether nothing has to be done about the login."""
    return login.is_usable(now) and passed_threshold(login, now) is None


def severity(login: Login, now: datetime) -> dg.AssetCheckSeverity:
    """How bad it is if something has to be done."""
    return dg.AssetCheckSeverity.WARN if login.is_usable(now) else dg.AssetCheckSeverity.ERROR


def login_metadata(login: Login, now: datetime) -> dict[str, Any]:
    """What the asset's page shows: days left as a number, which is plotted over time, and the end in both zones."""
    return {
        "is_logged_in": login.is_usable(now),
        "days_left": round(login.left(now).total_seconds() / 86_400, 3),
        "login_ends": dg.MetadataValue.timestamp(login.ends_time) if login.ends_time else "never logged in",
        "standing": standing(login, now),
        "key_source": login.key_source,
    }


Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Memory(msgspec.Struct, frozen=True):
    """What the sensor has told so far, kept as its cursor: of which login, down to which hours, and when it observed.

    `login_time` is that of the last login that could be read; None before the first. `warned_hours` None: not warned
    yet. `told_unreadable_time`: when it was last said that a login cannot be read; `is_readable`: how it was last seen.
    """

    login_time: Instant | None = None
    warned_hours: int | None = None
    observed_time: Instant | None = None
    is_readable: bool = True
    told_unreadable_time: Instant | None = None


# made here: two threads that decode a type for the first time at once crash the library
_MEMORY = msgspec.json.Decoder(Memory)


def remembered(cursor: str | None) -> Memory:
    """The memory in a cursor; a new one where there is none or it cannot be read."""
    try:
        return _MEMORY.decode(cursor or "{}")
    except msgspec.DecodeError:
        return Memory()


@dataclass(frozen=True)
class Foresight:
    """What the sensor is to do: give a warning (`is_over`: the login is no longer usable), and observe or not."""

    memory: Memory
    warning: str | None
    is_over: bool
    observe: bool


def foresee(login: Login, now: datetime, memory: Memory) -> Foresight:
    """What is to be told now: each threshold once per login, the smallest passed; a login that is over, once too.

    One that cannot be read is told of every `AGAIN` while that lasts, and not more often when it comes and goes.
    """
    if login.login_time is None and login.problem is not None:
        return _unreadable(login.problem, now, memory)
    told = memory.warned_hours if memory.login_time == login.login_time else None
    is_over = login.login_time is not None and not login.is_usable(now)
    passed = _OVER if is_over else passed_threshold(login, now)
    is_new = passed is not None and (told is None or passed < told)
    is_news = is_new or not memory.is_readable or memory.login_time != login.login_time
    observe = is_news or _is_due(memory.observed_time, now)
    return Foresight(
        Memory(
            login_time=login.login_time,
            warned_hours=passed if is_new else told,
            observed_time=now if observe else memory.observed_time,
            told_unreadable_time=memory.told_unreadable_time,
        ),
        _warning(login, now, is_over=is_over) if is_new else None,
        is_over,
        observe,
    )


def _unreadable(problem: str, now: datetime, memory: Memory) -> Foresight:
    """What is to be told of a login that is there and cannot be read; what is known of it is kept."""
    is_new = _is_due(memory.told_unreadable_time, now)
    observe = is_new or memory.is_readable or _is_due(memory.observed_time, now)
    kept = msgspec.structs.replace(
        memory,
        is_readable=False,
        observed_time=now if observe else memory.observed_time,
        told_unreadable_time=now if is_new else memory.told_unreadable_time,
    )
    warning = f"the login at the source cannot be used: {problem}" if is_new else None
    return Foresight(kept, warning, is_over=True, observe=observe)


def _is_due(last_time: datetime | None, now: datetime) -> bool:
    """Whether something is to be done again; also where the clock was set back to before the last time."""
    return last_time is None or not timedelta() <= now - last_time < AGAIN


def _warning(login: Login, now: datetime, *, is_over: bool) -> str:
    if is_over:
        return f"the login at the source is over: {standing(login, now)}. {ADVICE}"
    return ending_notice(login, now)


def login_events(login: Login, now: datetime) -> list[dg.AssetObservation | dg.AssetCheckEvaluation]:
    """An observation of the asset and an evaluation of its check, as the sensor records them."""
    metadata = login_metadata(login, now)
    return [
        dg.AssetObservation(TOKEN_KEY, metadata=metadata),
        dg.AssetCheckEvaluation(
            TOKEN_KEY,
            CHECK_NAME,
            passed=lasts(login, now),
            severity=severity(login, now),
            metadata={name: dg.MetadataValue.text(str(value)) for name, value in metadata.items()},
        ),
    ]
