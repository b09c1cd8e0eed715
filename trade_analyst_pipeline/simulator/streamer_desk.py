"""Who streams: the one user's connections, the market's time at each address, the rules, and a record of what was sent.

A desk belongs to a server, as the OAuth desk does. One connection per user: a log-in ends the older one with code 12.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from trade_analyst_pipeline.simulator.noise import number_of
from trade_analyst_pipeline.simulator.paths import calendar
from trade_analyst_pipeline.simulator.stream_faults import StreamFaults
from trade_analyst_pipeline.simulator.stream_session import StreamSession
from trade_analyst_pipeline.simulator.stream_steps import Message, Step
from trade_analyst_pipeline.simulator.tape import FULL, Conflation, Tape

CHANNEL, FUNCTION_ID = "N9", "APIAPP"
_AFTER_CLOSE_MS = 5 * 3_600_000
_MOST_RECORDS = 1_000_000


@dataclass(frozen=True)
class StreamRules:
    """How the streamer behaves.

    The market's time runs `speed` times as fast as the clock; None sends as fast as the client reads, up to five hours
    after the close. Data is sent once in `step_ms` of the market's time. `most_symbols` holds for each service. A
    connection without a subscription ends after `idle_seconds`, one that lags behind after `most_behind_seconds`,
    both of the clock. A second log-in ends the `older` connection or the `newer` one (`over_limit`). With
    `tells_success_by_command` success is 26 to 29 in place of 0; `keeps_record` keeps what was sent.
    """

    speed: float | None = 1.0
    conflation: Conflation = FULL
    step_ms: int = 100
    heartbeat_seconds: float = 10.0
    idle_seconds: float = 30.0
    most_behind_seconds: float = 120.0
    most_symbols: int = 500
    tells_success_by_command: bool = False
    keeps_record: bool = False
    over_limit: Literal["older", "newer"] = "older"


class StreamClock:
    """The market's time at one address: it begins with the first connection and goes on through later ones."""

    def __init__(self, start_ms: int, now: float, speed: float | None) -> None:
        self._start_ms, self._began, self._speed = start_ms, now, speed
        index = calendar().index_at_or_before(calendar().days[-1])
        opens = [close for close in calendar().closes[: index + 1] if close * 1000.0 + _AFTER_CLOSE_MS > start_ms]
        self._end_ms = round(opens[0] * 1000.0) + _AFTER_CLOSE_MS if opens else start_ms
        self._passed = start_ms

    @property
    def is_unpaced(self) -> bool:
        """Whether time goes on only as far as it has been sent."""
        return self._speed is None

    def ms(self, now: float) -> int:
        """The market's instant."""
        if self._speed is None:
            return self._passed
        return self._start_ms + int((now - self._began) * self._speed * 1000.0)

    def reaches(self, ms: int, now: float) -> float:
        """When the market's time is at an instant; for an unpaced one at once, or never after its end."""
        if self._speed is None:
            return now if ms <= self._end_ms else float("inf")
        return self._began + (ms - self._start_ms) / (self._speed * 1000.0)

    def behind_seconds(self, ms: int, now: float) -> float:
        """How long ago an instant was."""
        return 0.0 if self._speed is None else now - self.reaches(ms, now)

    def passed(self, ms: int) -> None:
        """Everything before an instant has been sent."""
        self._passed = max(self._passed, ms)


@dataclass(frozen=True)
class Sent:
    """What became of a message: `fate` is sent, lost, late, altered or repeated, `fault` what made it so.

    `items` are (service, key, volume or sequence number) of a data frame's items; None where an item has neither.
    """

    connection: int
    kind: str
    fate: str
    fault: str | None
    timestamp: int
    items: tuple[tuple[str, str, int | None], ...]


@dataclass
class StreamerDesk:
    """The streamer's side of all connections; `accepts` tells whether an access token is good."""

    tape: Tape
    accepts: Callable[[str], bool]
    rules: StreamRules = field(default_factory=StreamRules)
    faults: StreamFaults = field(default_factory=StreamFaults)
    records: deque[Sent] = field(default_factory=lambda: deque(maxlen=_MOST_RECORDS))
    volume_bases: dict[tuple[str, str], int] = field(default_factory=dict)
    logins: int = 0

    def __post_init__(self) -> None:
        seed = self.tape.market.seed
        self.customer_id = "".join(f"{number_of(seed, 'customer', part):016X}" for part in range(4))
        self.correl_id = str(uuid.UUID(int=number_of(seed, "correl") << 64 | number_of(seed, "id"), version=4))
        self.session: StreamSession | None = None
        self._clocks: dict[str, StreamClock] = {}
        self._connections = 0

    def reset(self) -> None:
        """As good as new: the usual rules, no faults, no records, all addresses at their start."""
        self.rules = StreamRules()
        self.faults.clear()
        self.records.clear()
        self.volume_bases.clear()
        self._clocks.clear()
        self.session, self.logins = None, 0

    def next_number(self) -> int:
        """The number of a new connection."""
        self._connections += 1
        return self._connections

    def clock(self, address: str, start_ms: int, now: float) -> StreamClock:
        """The market's time at an address."""
        if address not in self._clocks:
            self._clocks[address] = StreamClock(start_ms, now, self.rules.speed)
        return self._clocks[address]

    def preference(self, socket_url: str) -> dict[str, Any]:
        """What /userPreference answers."""
        streamer = {
            "streamerSocketUrl": socket_url,
            "schwabClientCustomerId": self.customer_id,
            "schwabClientCorrelId": self.correl_id,
            "schwabClientChannel": CHANNEL,
            "schwabClientFunctionId": FUNCTION_ID,
        }
        account = {"accountNumber": "00000000", "primaryAccount": True, "type": "BROKERAGE", "displayAcctId": "...000"}
        offer = {"level2Permissions": True, "mktDataPermission": "NP"}
        return {"accounts": [account], "streamerInfo": [streamer], "offers": [offer]}

    def knows(self, request: dict[str, Any]) -> bool:
        """Whether a request carries the ids of /userPreference."""
        ids = (request.get("SchwabClientCustomerId"), request.get("SchwabClientCorrelId"))
        return ids == (self.customer_id, self.correl_id)

    def has_room(self, session: StreamSession) -> bool:
        """Whether a connection may log in, as far as there is another one."""
        return self.rules.over_limit == "older" or self.session in {None, session}

    def admit(self, session: StreamSession, now: float) -> None:
        """A connection has logged in: the one before ends."""
        older, self.session = self.session, session
        self.logins += 1
        if older is not None and older is not session:
            older.notify(12, "Connection limit reached: 1 per user", now)
            older.finish(Step("close", code=1000, reason="connection limit"), now)
            self.session = session

    def forget(self, session: StreamSession) -> None:
        """A connection has ended."""
        if self.session is session:
            self.session = None

    def record(self, connection: int, message: Message, fate: str, fault: str | None) -> None:
        """Keep what became of a message, where the rules say so."""
        if self.rules.keeps_record:
            self.records.append(Sent(connection, message.kind, fate, fault, message.timestamp, message.told()))
