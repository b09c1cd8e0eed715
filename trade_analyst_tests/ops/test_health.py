"""The health report finds what is wrong, says what to do, and never raises."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.market import sessions
from trade_analyst_pipeline.ops import health
from trade_analyst_pipeline.settings import Settings

NOW = datetime(2026, 6, 1, 15, 0, tzinfo=UTC)
MOUNTS = """\
rootfs / ext4 rw 0 0
server:/export /mnt/share nfs4 rw 0 0
/dev/sdb /mnt/share/fast\\040disk xfs rw 0 0
overlay /mnt/share/fast\\040disk ext4 rw 0 0
"""


def make_settings(**changes: Any) -> Settings:
    """Settings of the simulator with data under the current folder."""
    return Settings(universe={"symbols": ["SPY"]}, **changes)


def names_and_results(report: health.HealthReport) -> dict[str, str]:
    """Each check's result by name."""
    return {check.name: check.result for check in report.checks}


def test_everything_in_order_is_well() -> None:
    """A project folder with valid settings passes every check without creating the data folder."""
    Path("dagster.yaml").touch()
    report = health.health_report(now=NOW, load=make_settings)
    assert names_and_results(report) == {
        "settings": "ok",
        "calendar": "ok",
        "data folder": "ok",
        "free space": "ok",
        "local disk": "ok",
        "redirect address": "ok",
        "credentials": "ok",
        "dagster": "ok",
    }
    assert report.is_well
    assert not Path("data").exists()


def test_unusable_settings_are_the_only_finding() -> None:
    """When the settings cannot be read, the report holds their message and nothing else."""

    def load() -> Settings:
        message = "universe.symbols: missing"
        raise SettingsError(message)

    report = health.health_report(now=NOW, load=load)
    assert [check.detail for check in report.checks] == ["universe.symbols: missing"]
    assert not report.is_well


def test_report_as_json_names_each_check_and_its_advice() -> None:
    """The JSON form is one object with `is_well` and the checks in order."""
    failed = health.Check("dagster", "failed", "no dagster.yaml", "Start the command in the project folder.")
    assert json.loads(health.HealthReport((failed,)).to_json()) == {
        "is_well": False,
        "checks": [
            {
                "name": "dagster",
                "result": "failed",
                "detail": "no dagster.yaml",
                "advice": "Start the command in the project folder.",
            }
        ],
    }


def test_calendar_has_to_reach_a_year_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calendar passes when it ends exactly 365 days from now, and fails with one day less."""
    monkeypatch.setattr(sessions, "CALENDAR_END", datetime(2027, 6, 1, tzinfo=UTC).date())
    assert health.check_calendar(NOW).result == "ok"
    monkeypatch.setattr(sessions, "CALENDAR_END", datetime(2027, 5, 31, tzinfo=UTC).date())
    check = health.check_calendar(NOW)
    assert check.result == "failed"
    assert "needed to 2027-06-01" in check.detail


def test_latest_complete_session_is_named() -> None:
    """At 11:00 New York on Monday 1 June 2026 the last complete session is Friday 29 May."""
    assert health.check_calendar(NOW).detail == "latest complete session 2026-05-29"


def test_data_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    """A data folder below a plain file can never be made, and the report says so instead of raising."""
    (tmp_path / "file").touch()
    check = health.check_data_folder(tmp_path / "file" / "data")
    assert check.result == "failed"
    assert check.advice is not None


def test_little_free_space_fails_with_the_amount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free space under the limit fails and says how much there is."""
    monkeypatch.setattr(health, "MINIMUM_FREE_BYTES", 1 << 60)
    check = health.check_free_space(tmp_path)
    assert check.result == "failed"
    assert check.detail.endswith("GiB free")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/data", "ext4"),
        ("/mnt/share/data", "nfs4"),
        ("/mnt/share/fast disk/data", "ext4"),
        ("/mnt/shared", "ext4"),
    ],
)
def test_file_system_is_that_of_the_deepest_mount(path: str, kind: str) -> None:
    """The deepest mount point decides, a later mount on it covers an earlier one, and names are compared whole."""
    assert health.file_system_kind(Path(path), MOUNTS) == kind


def test_network_file_system_fails(tmp_path: Path) -> None:
    """A data folder on NFS is refused, as locks and renames there cannot be trusted."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/export {tmp_path} nfs4 rw 0 0\n")
    check = health.check_file_system(tmp_path / "data", mounts_file=mounts)
    assert check.result == "failed"
    assert "nfs4" in check.detail


def test_unknown_mounts_are_a_note(tmp_path: Path) -> None:
    """Where mounts are not listed the check is a note: not checked is not the same as well."""
    check = health.check_file_system(tmp_path, mounts_file=tmp_path / "absent")
    assert (check.result, check.advice) == ("note", None)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:8182/callback", "https://localhost:8182/callback", "https://10.0.0.1/callback"]
)
def test_redirect_address_off_this_machine_fails(uri: str) -> None:
    """Only https on 127.0.0.1 is private to this machine; names and other addresses are not."""
    settings = make_settings()
    schwab = settings.schwab.model_copy(update={"redirect_uri": uri, "redirect_allowlist": (uri,)})
    check = health.check_redirect(settings.model_copy(update={"schwab": schwab}))
    assert check.result == "failed"
    assert uri in check.detail


def test_redirect_address_has_to_be_allowed_exactly() -> None:
    """An address that differs from the allowed one by a trailing slash is not allowed."""
    settings = make_settings()
    schwab = settings.schwab.model_copy(update={"redirect_uri": "https://127.0.0.1:8182/callback/"})
    check = health.check_redirect(settings.model_copy(update={"schwab": schwab}))
    assert check.detail == "https://127.0.0.1:8182/callback/ is not in the allowlist"


def test_live_environment_needs_key_and_secret() -> None:
    """In live the missing one of app key and secret is named; with both set nothing of them is shown."""
    check = health.check_credentials(make_settings(environment="live", app_key="canary-key"))
    assert (check.result, check.detail) == ("failed", "app_secret not set")
    check = health.check_credentials(make_settings(environment="live", app_key="canary-key", app_secret="canary"))
    assert check.result == "ok"
    assert "canary" not in check.detail


def test_folder_without_instance_description_fails() -> None:
    """Outside the project folder there is no dagster.yaml, and the advice is to go there."""
    check = health.check_dagster(health.DAGSTER_FILE)
    assert (check.result, check.advice) == ("failed", "Start the command in the project folder.")
