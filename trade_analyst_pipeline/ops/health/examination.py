"""The health report as a whole: which checks there are, in which order, and what each needs.

What only the wiring knows (addresses, stores, run records) is handed in as a `Wiring`: nothing here loads Dagster or
chooses an address. Nothing is changed, and nothing of the credentials is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.market.sessions import latest_complete_session, sessions
from trade_analyst_pipeline.ops.health import access, folders, machine, stores, stream
from trade_analyst_pipeline.ops.health.report import Finding, HealthReport, fail, ok, skipped, warn
from trade_analyst_pipeline.ops.health.running import Probe, Shared, busy, run_probes
from trade_analyst_pipeline.ops.health.stores import FailedRun, GapCount
from trade_analyst_pipeline.ops.login_outlook import Login
from trade_analyst_pipeline.schwab.budget import BudgetState
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.ping import Ping, is_listening, ping
from trade_analyst_pipeline.settings import Settings
from trade_analyst_pipeline.storage.archive import Archive

CHECK_SECONDS = 2.5  # for all checks; what starts the command comes before, and 5 s are promised
SETTINGS_SECONDS = 1.0
PING_SECONDS = 2.0
DAGSTER_FILE = Path("dagster.yaml")
LOCK_FILE = Path("requirements") / "base.txt"


@dataclass(frozen=True)
class Wiring:
    """What the checks need of how this installation is put together.

    `ca_file` None stands for the system's authorities. `build_client` builds a client and asks nothing; `budget` is
    None where no limit is shared. Each function may raise what it meets.
    """

    source_address: str
    ca_file: Path | None
    build_client: Callable[[], None]
    login: Callable[[], Login]
    budget: Callable[[], BudgetState | None]
    failed_runs: Callable[[], Sequence[FailedRun]]
    gaps: Callable[[date], GapCount]


def health_report(
    *,
    now: Callable[[], datetime],
    load: Callable[[], Settings],
    wire: Callable[[Settings], Wiring],
    seconds: float = CHECK_SECONDS,
) -> HealthReport:
    """Make every check within `seconds`: the settings first, then all others side by side.

    Without usable settings, what needs them is skipped. Nothing that may hang is done on the caller's thread.
    """
    started, checked = time.monotonic(), now()
    read, facts = Shared(load), Shared(partial(machine.system_facts, checked))
    first = run_probes([Probe("settings", partial(_check_settings, read), late_settings)], seconds=_at_first(seconds))
    settings = read.made if first[0].status == "ok" else None
    examination = None if settings is None else _Examination(settings, Shared(partial(wire, settings)), checked, now)
    probes = [
        Probe("python", machine.check_python),
        Probe("system", lambda: machine.check_system(facts())),
        Probe("versions", partial(machine.check_versions, LOCK_FILE)),
        Probe("calendar", partial(machine.check_calendar, checked)),
    ]
    if examination is None:
        probes += [Probe(name, lambda: skipped("the settings are not usable")) for name in LOOKS]
    else:
        probes += examination.probes()
    others = run_probes(probes, seconds=max(0.0, seconds - (time.monotonic() - started)))
    environment = None if settings is None else settings.environment
    took = round(time.monotonic() - started, 3)
    budget = None if examination is None else examination.budget_state.made
    return HealthReport(checked, took, environment, facts.made, (*first, *others), budget)


def _at_first(seconds: float) -> float:
    """How much of the whole time the settings may take: they are read in milliseconds, or something hangs."""
    return min(SETTINGS_SECONDS, seconds / 2)


def _check_settings(read: Callable[[], Settings]) -> Finding:
    """The settings can be read and are valid."""
    try:
        settings = read()
    except SettingsError as error:
        return fail(str(error), "Correct the keys named above.")
    except (OSError, ValueError) as error:  # ValueError: also what the libraries of texts and settings raise
        detail = f"the settings cannot be read: {type(error).__name__}: {error}"
        return fail(detail, "See that config.toml and .env are readable UTF-8 files and variables are well-formed.")
    return ok(f"environment {settings.environment}, symbols watched: {len(settings.universe.all_symbols)}")


def late_settings() -> Finding:
    """Settings lie in two small files: what keeps them waiting is no load."""
    return fail("timed out: config.toml or .env does not answer", "See that both are plain files on a local disk.")


class _Examination:
    """The looks that need the settings, and what several of them share."""

    def __init__(
        self, settings: Settings, wiring: Shared[Wiring], checked: datetime, now: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self.wiring = wiring
        self.checked = checked
        self.is_live = settings.environment == "live"
        self.archive = Archive(settings.data_folder / "raw")
        self.is_asking = False
        self.ping = Shared(partial(self._ask_source, now))
        self.budget_state = Shared(lambda: self.wiring().budget())
        self.captured = Shared(lambda: stores.last_captured_session(self.archive, stores.FRESH_DATASET))

    def probes(self) -> list[Probe]:
        """The checks in the order of the report."""
        late = {"source": self.late_source, "clock": self.late_clock, "token": late_token, "adapter": late_adapter}
        late |= dict.fromkeys(ON_DISK, late_disk)
        return [Probe(name, partial(look, self), late.get(name, busy)) for name, look in LOOKS.items()]

    def late_source(self) -> Finding:
        """A source that was asked and says nothing is not reachable; one that was not asked yet may be."""
        if not self.is_asking:
            return busy()
        detail = "timed out: neither an answer nor a refusal came"
        if not self.is_live:
            return warn(detail, access.NO_SIMULATOR)
        return fail(detail, "Check the network, name resolution and schwab.base_url.")

    def late_clock(self) -> Finding:
        """Without an answer nothing is to be compared."""
        return skipped("the source did not answer in time")

    def _ask_source(self, now: Callable[[], datetime]) -> Ping | None:
        """The source's answer; None where that is the simulator and none runs."""
        address, ca_file = self.wiring().source_address, self.wiring().ca_file
        if not self.is_live and not (ca_file and ca_file.exists() and is_listening(address, seconds=PING_SECONDS)):
            return None
        self.is_asking = True
        return ping(address, ca_file=ca_file, seconds=PING_SECONDS, now=now)

    def token(self) -> Finding:
        return access.check_token(self.wiring().login(), self.checked, is_live=self.is_live)

    def callbacks(self) -> Finding:
        return access.check_callbacks(CallbackLedger(self.settings.callback_ledger_file).statistics())

    def source(self) -> Finding:
        return access.check_source(self.ping, self.wiring().source_address, is_live=self.is_live)

    def clock(self) -> Finding:
        return machine.check_clock(self.ping)

    def adapter(self) -> Finding:
        wiring = self.wiring()
        if not self.is_live and not (wiring.ca_file and wiring.ca_file.exists()):
            return skipped("the simulator writes the certificate to trust when it starts")
        return access.check_adapter(wiring.build_client)

    def budget(self) -> Finding:
        state = self.budget_state()
        if state is None:
            return skipped("on the simulator each run has a limit of its own")
        return access.check_budget(state, self.checked)

    def freshness(self) -> Finding:
        captured = self.captured()
        missed = [] if captured is None else sessions(captured, latest_complete_session(self.checked))[1:]
        return stores.check_freshness(captured, missed, is_live=self.is_live)

    def gaps(self) -> Finding:
        return stores.check_gaps(self.wiring().gaps(latest_complete_session(self.checked)))

    def open_errors(self) -> Finding:
        captured = self.captured()
        gaps = [] if captured is None else stores.latest_gaps(self.archive, captured)
        return stores.check_open_errors(self.wiring().failed_runs(), gaps, captured)


def late_token() -> Finding:
    """A login that does not open in time does not open for a run either."""
    remedy = "Look at the OS keyring and the disk of cache_root; token_key_source chooses another place for the key."
    return fail("timed out: the stored login or its key does not answer", remedy)


def late_adapter() -> Finding:
    """Without a client there are no requests."""
    remedy = "Run it again; if it stays so, look at the disk of cache_root and of this installation."
    return fail("timed out: no client could be set up", remedy)


def late_disk() -> Finding:
    """A disk that takes seconds to say what is on it cannot be worked on."""
    remedy = "Look at the disk and its mounts, or set data_root and cache_root to folders on a local disk."
    return fail("timed out: the disk does not answer", remedy)


Look = Callable[[_Examination], Finding]

ON_DISK = ("cache folder", "data folder", "free space", "local disk")

LOOKS: dict[str, Look] = {
    "redirect address": lambda of: access.check_redirect(of.settings),
    "credentials": lambda of: access.check_credentials(of.settings),
    "token": _Examination.token,
    "callbacks": _Examination.callbacks,
    "source": _Examination.source,
    "clock": _Examination.clock,
    "adapter": _Examination.adapter,
    "request budget": _Examination.budget,
    "cache folder": lambda of: folders.check_cache_folder(of.settings),
    "data folder": lambda of: folders.check_data_folder(of.settings.data_folder),
    "free space": lambda of: folders.check_free_space(of.settings.data_folder),
    "local disk": lambda of: folders.check_file_systems(
        folders.folders_to_trust(of.settings), mounts_file=folders.MOUNTS_FILE
    ),
    "catalogue": lambda of: stores.check_catalogue(of.settings.data_folder),
    "verification": lambda of: stores.check_verified(of.settings.data_folder, of.checked),
    "stream": lambda of: stream.check_stream(of.settings.data_folder, of.checked),
    "freshness": _Examination.freshness,
    "gaps": _Examination.gaps,
    "open errors": _Examination.open_errors,
    "dagster": lambda of: stores.check_dagster(DAGSTER_FILE, of.settings.data_folder / ".dagster"),
}
