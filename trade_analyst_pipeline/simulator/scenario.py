"""Scenario files: what a simulator does wrong, and when, written down as TOML.

A file is read into a `Scenario`, which is checked as a whole before anything starts, and applied to a server. What the
kinds of faults do is in `fault_kinds.py` and below it, those under HTTP in `wire_faults.py`; the limits are in
`limits.py`. The page docs/simulator.md lists every key.
"""

from __future__ import annotations

import tomllib
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.simulator.body_faults import Sentinel
from trade_analyst_pipeline.simulator.fault_kinds import FAULT_KINDS
from trade_analyst_pipeline.simulator.faults import Change, FaultPlan
from trade_analyst_pipeline.simulator.intraday import Halt, halt_of
from trade_analyst_pipeline.simulator.limits import (
    AnswerLimits,
    Burst,
    Conditions,
    Maintenance,
    Outage,
    Quota,
    QuotaChange,
    QuotaRules,
)
from trade_analyst_pipeline.simulator.stream_faults import STREAM_FAULTS
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk, StreamRules
from trade_analyst_pipeline.simulator.tape import Conflation
from trade_analyst_pipeline.simulator.wire_faults import WIRE_FAULTS

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=86_400.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Weekday = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: keys that are not known are refused."""


class LimitsSection(_Section, frozen=True):
    """The table `[limits]`."""

    gateway_bytes: Count = 10_000_000
    most_symbols: Count = 500
    most_contracts: Count | None = None


class ChangeSection(_Section, frozen=True):
    """The table `[[quota.changes]]`."""

    per_minute: Annotated[int, msgspec.Meta(ge=0)]
    after_seconds: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    after_requests: Annotated[int, msgspec.Meta(ge=0)] = 0


class QuotaSection(_Section, frozen=True):
    """The table `[quota]`."""

    per_minute: Annotated[int, msgspec.Meta(ge=0)]
    retry_after: Literal["seconds", "none"] = "seconds"
    time_scale: Annotated[float, msgspec.Meta(gt=0.0, le=100_000.0)] = 1.0
    counts_refused: bool = False
    changes: tuple[ChangeSection, ...] = ()


class BurstSection(_Section, frozen=True):
    """The table `[burst]`."""

    requests: Count
    seconds: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0


class OutageSection(_Section, frozen=True):
    """The table `[[outage]]`: two instants."""

    first: datetime
    until: datetime
    closure: Literal["page", "message", "gateway"] = "page"


class MaintenanceSection(_Section, frozen=True):
    """The table `[[maintenance]]`: two times of day in New York."""

    first: time
    until: time
    weekdays: tuple[Weekday, ...] = _WEEKDAYS  # type: ignore[assignment]  # the same seven words
    closure: Literal["page", "message", "gateway"] = "page"


class StreamSection(_Section, frozen=True):
    """The table `[stream]`; a `speed` of "fastest" sends as fast as the client reads."""

    speed: Annotated[float, msgspec.Meta(gt=0.0, le=10_000.0)] | Literal["fastest"] = 1.0
    conflated_share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    conflated_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0
    heartbeat_seconds: Annotated[float, msgspec.Meta(gt=0.0)] = 10.0
    most_symbols: Count = 500

    def rules(self) -> StreamRules:
        """The streamer's rules."""
        return StreamRules(
            speed=None if self.speed == "fastest" else self.speed,
            conflation=Conflation(self.conflated_share, self.conflated_ms),
            heartbeat_seconds=self.heartbeat_seconds,
            most_symbols=self.most_symbols,
        )


class HaltSection(_Section, frozen=True):
    """The table `[[halt]]`: a symbol and two whole minutes of one session."""

    symbol: str
    first: datetime
    until: datetime


class FaultSection(_Section, frozen=True):
    """`[[fault]]`: whom it strikes, and what the kind needs to be told."""

    kind: str
    path: str | None = None
    symbol: str | None = None
    instant: datetime | None = None
    times: Count | Literal["always"] = 1
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    seconds: Seconds | None = None
    size_bytes: Count | None = None
    piece_bytes: Count | None = None
    mebibytes: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    retry_after: str | None = None
    share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] | None = None
    count: Count | None = None
    fields: tuple[str, ...] | None = None
    values: dict[str, Any] | None = None
    sentinel: Sentinel | None = None
    closure: Literal["page", "message", "gateway"] | None = None
    text: str | None = None


class Scenario(_Section, frozen=True):
    """A whole file. A part that is left out leaves the simulator as it is without a scenario."""

    description: str = ""
    limits: LimitsSection = LimitsSection()
    quota: QuotaSection | None = None
    burst: BurstSection | None = None
    outage: tuple[OutageSection, ...] = ()
    maintenance: tuple[MaintenanceSection, ...] = ()
    fault: tuple[FaultSection, ...] = ()
    stream: StreamSection = StreamSection()
    halt: tuple[HaltSection, ...] = ()

    @property
    def halts(self) -> tuple[Halt, ...]:
        """The halts, for the market."""
        return tuple(halt_of(section.symbol, section.first, section.until) for section in self.halt)

    @property
    def wire_faults(self) -> tuple[FaultSection, ...]:
        """The faults that only a proxy can play."""
        return tuple(section for section in self.fault if section.kind in WIRE_FAULTS)

    def apply_stream(self, desk: StreamerDesk) -> None:
        """Set the streamer's rules and switch its faults on, in the order of the file."""
        desk.rules = self.stream.rules()
        for section in self.fault:
            if section.kind in STREAM_FAULTS:
                times = None if section.times == "always" else section.times
                desk.faults.add(
                    section.kind,
                    path=section.path,
                    symbol=section.symbol,
                    times=times,
                    skip=section.skip,
                    **_told(section),
                )

    def apply(self, conditions: Conditions, plan: FaultPlan) -> None:
        """Set a server's conditions and switch the faults on, in the order of the file; not those of the wire."""
        conditions.limits = AnswerLimits(**msgspec.structs.asdict(self.limits))
        conditions.quota = None if self.quota is None else Quota(_quota_rules(self.quota))
        conditions.burst = None if self.burst is None else Burst(self.burst.requests, self.burst.seconds)
        outages = [Outage(section.first, section.until, section.closure) for section in self.outage]
        conditions.closures = (*outages, *(_window(section) for section in self.maintenance))
        for section in self.fault:
            if section.kind in FAULT_KINDS:
                plan.add(
                    _change(section),
                    path=section.path,
                    symbol=section.symbol,
                    instant=section.instant,
                    times=None if section.times == "always" else section.times,
                    skip=section.skip,
                )


def _quota_rules(section: QuotaSection) -> QuotaRules:
    changes = tuple(QuotaChange(**msgspec.structs.asdict(change)) for change in section.changes)
    return QuotaRules(section.per_minute, section.retry_after, section.time_scale, section.counts_refused, changes)


def _window(section: MaintenanceSection) -> Maintenance:
    weekdays = frozenset(_WEEKDAYS.index(day) for day in section.weekdays)
    return Maintenance(section.first, section.until, weekdays, section.closure)


# -- faults ------------------------------------------------------------------------------------------------------------

_MATCHING = frozenset({"kind", "path", "symbol", "instant", "times", "skip"})


def _told(section: FaultSection) -> dict[str, Any]:
    """What a section tells its kind, by key."""
    every = msgspec.structs.asdict(section)
    return {name: value for name, value in every.items() if name not in _MATCHING and value is not None}


def _change(section: FaultSection) -> Change:
    return FAULT_KINDS[section.kind].build(**_told(section))


# -- reading -------------------------------------------------------------------------------------------------------


def load_scenario(path: Path) -> Scenario:
    """The scenario of a file; raises SettingsError that names file, key and what is wrong with it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        scenario = msgspec.convert(table, Scenario)
    except OSError as error:
        message = f"the scenario {path} cannot be read: {error.strerror}"
        raise SettingsError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"the scenario {path} is no TOML: {error}"
        raise SettingsError(message) from error
    except msgspec.ValidationError as error:
        _refuse(path, str(error).replace("`$", "`").replace("`.", "`"), error)
    for place, section in enumerate(scenario.fault, start=1):
        _check_fault(path, place, section)
    for place, halt in enumerate(scenario.halt, start=1):
        try:
            halt_of(halt.symbol, halt.first, halt.until)
        except ValueError as error:
            _refuse(path, f"halt {place}: {error}", error)
    for place, window in enumerate(scenario.maintenance, start=1):
        _check_order(path, f"maintenance {place}", window.first < window.until, "over midnight it takes two of them")
    for place, outage in enumerate(scenario.outage, start=1):
        for instant in (outage.first, outage.until):
            _check_zone(path, f"outage {place}", instant)
        _check_order(path, f"outage {place}", outage.first < outage.until, "swap them")
    return scenario


def _refuse(path: Path, problem: str, cause: Exception | None = None) -> NoReturn:
    message = f"the scenario {path} cannot be used: {problem}; docs/simulator.md lists what may stand in it"
    raise SettingsError(message) from cause


def _check_fault(path: Path, place: int, section: FaultSection) -> None:
    where = f"fault {place} ({section.kind})"
    if section.kind in FAULT_KINDS:
        _check_told(path, where, section)
    elif section.kind in WIRE_FAULTS:
        _check_wire(path, where, section)
    elif section.kind in STREAM_FAULTS:
        _check_stream(path, where, section)
    else:
        _refuse(path, f"{where}: no such kind; there are {', '.join([*FAULT_KINDS, *WIRE_FAULTS, *STREAM_FAULTS])}")


def _check_told(path: Path, where: str, section: FaultSection) -> None:
    kind, told = FAULT_KINDS[section.kind], set(_told(section))
    missing, extra = set(kind.needs) - told, told - {*kind.needs, *kind.takes}
    if missing:
        _refuse(path, f"{where} needs {', '.join(sorted(missing))}")
    if extra:
        _refuse(path, f"{where} takes no {', '.join(sorted(extra))}")
    if section.instant is not None:
        _check_zone(path, where, section.instant)
    if section.kind == "renamed" and not all(isinstance(name, str) for name in (section.values or {}).values()):
        _refuse(path, f"{where}: values are old and new names, both texts")


def _check_wire(path: Path, where: str, section: FaultSection) -> None:
    """Below HTTP there are no instants, nothing to be told, and before TLS neither paths nor symbols."""
    told = {**_told(section), "instant": section.instant, "skip": section.skip or None}
    if WIRE_FAULTS[section.kind].is_before_tls:
        told |= {"path": section.path, "symbol": section.symbol}
    extra = sorted(name for name, value in told.items() if value is not None)
    if extra:
        _refuse(path, f"{where} takes no {', '.join(extra)}")


def _check_stream(path: Path, where: str, section: FaultSection) -> None:
    """A message has no instant to be chosen by; of the rest, a kind takes what it knows."""
    told = {**_told(section), "instant": section.instant}
    known = {STREAM_FAULTS[section.kind].takes}
    extra = sorted(name for name, value in told.items() if value is not None and name not in known)
    if extra:
        _refuse(path, f"{where} takes no {', '.join(extra)}")


def _check_zone(path: Path, where: str, instant: datetime) -> None:
    if instant.tzinfo is None:
        _refuse(path, f"{where}: {instant} has no time zone: write it as 2026-01-05T20:55:00Z")


def _check_order(path: Path, where: str, is_right: bool, advice: str) -> None:
    if not is_right:
        _refuse(path, f"{where}: first is not before until; {advice}")
