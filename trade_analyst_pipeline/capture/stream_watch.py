"""Whether a connection is alive: by what it says, and by whether data comes at the rate it usually does.

An open connection that answers pings can be mute for hours. So the silence is watched, against the interval of
heartbeats that was learned, and the data, against the rate of the minutes before.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FIRST_INTERVAL: Final = 10.0  # seconds between heartbeats until two have come
_LEAST_INTERVAL, _MOST_INTERVAL = 1.0, 60.0
_DATA_LEAST_SECONDS: Final = 30.0
_DATA_LONGEST: Final = 20.0  # times the usual time between data messages
_WINDOW_SECONDS: Final = 60.0
_MINUTES: Final = 15
_NORM_LEAST: Final = 50.0  # messages a minute below which a rate says nothing
_DEGRADED_SHARE: Final = 0.1
_AGAIN_SECONDS: Final = 300.0


class StreamWatch:
    """Watches one connection after another; times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._interval = FIRST_INTERVAL
        self._last_message = self._last_data = 0.0
        self._last_beat: float | None = None
        self._usual_pause: float | None = None
        self._minute_start: float | None = None
        self._in_minute = 0
        self._norms: deque[int] = deque(maxlen=_MINUTES)
        self._complained_at: float | None = None

    def opened(self, now: float) -> None:
        """A connection begins."""
        self._last_message = self._last_data = now
        self._last_beat, self._minute_start, self._in_minute = None, None, 0

    def paused(self, now: float) -> None:
        """Nothing was read up to now, for reasons of our own: that it was silent says nothing."""
        self._last_message = self._last_data = now
        self._minute_start, self._in_minute, self._last_beat = None, 0, None

    def message(self, now: float) -> None:
        """A message came, whatever it says."""
        self._last_message = now

    def beat(self, now: float) -> None:
        """A heartbeat came."""
        if self._last_beat is not None:
            self._interval = min(max(now - self._last_beat, _LEAST_INTERVAL), _MOST_INTERVAL)
        self._last_beat = now

    def data(self, now: float) -> None:
        """Data came."""
        pause = now - self._last_data
        self._usual_pause = pause if self._usual_pause is None else self._usual_pause + (pause - self._usual_pause) / 64
        self._last_data = now
        self._in_minute += 1

    @property
    def silence_limit(self) -> float:
        """Seconds without any message after which a connection counts as dead: three heartbeats and a second."""
        return 3.0 * self._interval + 1.0

    def problem(self, now: float, *, is_data_due: bool) -> str | None:
        """Why the connection should be made anew, in words; None while it is well.

        Data is only missed while it is due, and complained about once in five minutes at most.
        """
        if now - self._last_message > self.silence_limit:
            silent = now - self._last_message
            return f"nothing came for {silent:.1f} s, and a heartbeat is due every {self._interval:.1f} s"
        found = self._data_problem(now) if is_data_due else None
        if not is_data_due:
            self._last_data, self._minute_start = max(self._last_data, now), None
        if found is None or (self._complained_at is not None and now - self._complained_at < _AGAIN_SECONDS):
            return None
        self._complained_at = now
        return found

    def _data_problem(self, now: float) -> str | None:
        pause = now - self._last_data
        if pause > max(_DATA_LEAST_SECONDS, _DATA_LONGEST * (self._usual_pause or 0.0)):
            return f"heartbeats come and no data for {pause:.1f} s"
        if self._minute_start is None:
            self._minute_start, self._in_minute = now, 0
        if now - self._minute_start < _WINDOW_SECONDS:
            return None
        count, norm = self._in_minute, sum(self._norms) / len(self._norms) if len(self._norms) >= 3 else 0.0
        self._minute_start, self._in_minute = now, 0
        if norm >= _NORM_LEAST and count < _DEGRADED_SHARE * norm:
            return f"{count} data messages in a minute, where {norm:.0f} are usual"
        self._norms.append(count)
        return None
