"""The machine and what is installed on it are told as they are, and what does not fit is named."""

import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from trade_analyst_pipeline.errors import RequestSummary, SourceUnavailableError
from trade_analyst_pipeline.market import sessions
from trade_analyst_pipeline.ops.health import machine
from trade_analyst_pipeline.ops.health.report import SystemFacts
from trade_analyst_pipeline.schwab.ping import Ping

NOW = datetime(2026, 6, 1, 15, 0, tzinfo=UTC)


def test_facts_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of Python, of this package and of its declared packages, processors and memory as the system tells."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__)
    facts = machine.system_facts(NOW)
    assert facts.python == f"{platform.python_implementation()} {platform.python_version()}"
    assert (facts.processors, facts.memory_bytes) == (3, 4_096_000)
    assert facts.release == metadata.version("trade-analyst")
    assert facts.packages["dagster"] == metadata.version("dagster")
    assert set(facts.packages) >= {"polars", "duckdb", "httpx", "cryptography", "requests-oauthlib"}


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without that figure gives null, and the check says so."""

    def unknown(_: str) -> int:
        message = "unrecognized configuration name"
        raise ValueError(message)

    monkeypatch.setattr(os, "sysconf", unknown)
    facts = machine.system_facts(NOW)
    assert facts.memory_bytes is None
    assert "memory unknown" in machine.check_system(facts).detail


def test_system_is_told_in_one_line() -> None:
    """Operating system, processors, memory in GiB, time zone."""
    facts = SystemFacts("1.0", "CPython 3.11.7", "Linux 6.1 x86_64", 1, 8 << 30, "EST (UTC-0500)", {})
    assert machine.check_system(facts).detail == "Linux 6.1 x86_64, 1 processor, 8.0 GiB memory, EST (UTC-0500)"


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10), "fail"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "fail"), ((4, 0), "fail"), ((2, 7), "fail")],
)
def test_python_has_to_be_of_the_declared_range(version: tuple[int, int], status: str) -> None:
    """The lower bound is included, the upper one is not."""
    assert machine.check_python(">=3.11,<3.15", version).status == status


def test_this_python_is_declared() -> None:
    """The range comes from the installed package, and these tests run within it."""
    assert machine.check_python().status == "ok"
    assert machine.check_python(version=(3, 10)).status == "fail"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that exactly these packages are installed, with what each needs."""

    def pretend(versions: Mapping[str, str], needs: Mapping[str, list[str]]) -> None:
        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        def requires(name: str) -> list[str]:
            version(name)
            return needs.get(name, [])

        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(metadata, "requires", requires)
        monkeypatch.setattr(metadata, "distributions", lambda: [SimpleNamespace(name=name) for name in versions])

    return pretend


LOCK = """\
# a comment
dagster==1.13.27 \\
    --hash=sha256:00
polars[rt]==2.1.0 \\
    --hash=sha256:00
numpy==1.0 ; python_full_version < '3.12'
numpy==2.0 ; python_full_version >= '3.12'
pywin32==3 ; sys_platform == 'win32'
"""
NEEDS = {"trade-analyst": ["dagster==1.13.27", "polars>=2", 'pytest>=9; extra == "dev"']}
INSTALLED = {"trade-analyst": "1", "dagster": "1.13.27", "polars": "2.1.0", "numpy": "2.0"}


def test_versions_as_locked_are_ok(installed: Callable[..., None], tmp_path: Path) -> None:
    """Lines with a condition allow each version named and the package's absence; extras are nobody's need."""
    (tmp_path / "base.txt").write_text(LOCK)
    installed(INSTALLED, NEEDS)
    finding = machine.check_versions(tmp_path / "base.txt")
    assert (finding.status, finding.detail) == (
        "ok",
        "4 packages as locked; dagster 1.13.27 and its packages fit",
    )


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"polars": "2.2.0"}, "warn", "1 of 4 not as locked: polars 2.2.0"),
        ({"numpy": "1.5"}, "warn", "1 of 4 not as locked: numpy 1.5"),
        ({"polars": None}, "fail", "not installed: polars"),
    ],
)
def test_other_versions_warn_and_missing_packages_fail(
    installed: Callable[..., None], tmp_path: Path, changes: dict[str, str | None], status: str, detail: str
) -> None:
    """Another release than the locked one may work and is named; without a declared package nothing does."""
    (tmp_path / "base.txt").write_text(LOCK)
    present = {name: version for name, version in (INSTALLED | changes).items() if version is not None}
    installed(present, NEEDS)
    finding = machine.check_versions(tmp_path / "base.txt")
    assert (finding.status, finding.detail) == (status, detail)
    assert finding.remedy


def test_dagster_packages_of_two_releases_fail(installed: Callable[..., None], tmp_path: Path) -> None:
    """A Dagster library that demands another core than the one installed is named with both versions."""
    needs = NEEDS | {"dagster-duckdb": ["dagster==1.13.28", "duckdb>1", 'dagster==0; extra == "old"']}
    installed(INSTALLED | {"dagster-duckdb": "0.29.28"}, needs)
    finding = machine.check_versions(tmp_path / "none.txt")
    assert finding.status == "fail"
    assert finding.detail == (
        "Dagster packages do not fit: dagster-duckdb needs dagster==1.13.28, 1.13.27 is installed"
    )


def test_without_a_lock_file_the_rest_is_checked(installed: Callable[..., None], tmp_path: Path) -> None:
    """Installed without the checkout, there is nothing to compare with, and the check says so."""
    installed(INSTALLED, NEEDS)
    assert "no " in machine.check_versions(tmp_path / "none.txt").detail
    installed({}, {})
    assert machine.declared_packages() == []
    assert machine.check_python(version=(1, 0)).status == "fail"


def test_what_is_installed_here_fits(repository: Path) -> None:
    """The real lock, read with the real metadata: nothing is missing and Dagster's packages fit one another."""
    assert machine.check_versions(repository / "requirements" / "base.txt").status in ("ok", "warn")
    assert machine.mixed_dagster_packages() == []
    assert len(machine.locked_versions((repository / "requirements" / "base.txt").read_text())) > 80


def answered(seconds: float | None) -> Ping:
    """An answer whose clock stands so many seconds ahead."""
    return Ping(401, is_html=False, seconds=0.1, clock_offset=None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [
        (0.4, "ok", "0.4 s ahead"),
        (-5.0, "ok", "5.0 s behind"),
        (5.1, "warn", "5.1 s ahead"),
        (-3600.0, "warn", "3600.0 s behind"),
        (None, "skipped", "does not tell"),
    ],
)
def test_clock_may_be_five_seconds_off(seconds: float | None, status: str, words: str) -> None:
    """Up to five seconds either way are well; more needs NTP; an answer without a time says nothing."""
    finding = machine.check_clock(lambda: answered(seconds))
    assert finding.status == status
    assert words in finding.detail


def test_clock_is_not_compared_without_an_answer() -> None:
    """No simulator, or no answer: skipped, since the check of the source says what is wrong."""

    def refuse() -> Ping:
        raise SourceUnavailableError(RequestSummary("ping", "/", ()), "no route", "Check the network.")

    assert machine.check_clock(refuse).status == "skipped"
    assert machine.check_clock(lambda: None).status == "skipped"


def test_calendar_has_to_reach_a_year_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calendar passes when it ends exactly 365 days from now, and fails with one day less."""
    monkeypatch.setattr(sessions, "CALENDAR_END", datetime(2027, 6, 1, tzinfo=UTC).date())
    assert machine.check_calendar(NOW).status == "ok"
    monkeypatch.setattr(sessions, "CALENDAR_END", datetime(2027, 5, 31, tzinfo=UTC).date())
    finding = machine.check_calendar(NOW)
    assert finding.status == "fail"
    assert "needed to 2027-06-01" in finding.detail


def test_latest_complete_session_is_named() -> None:
    """At 11:00 New York on Monday 1 June 2026 the last complete session is Friday 29 May."""
    assert machine.check_calendar(NOW).detail == "latest complete session 2026-05-29"
