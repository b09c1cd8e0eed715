"""What a run did not get, or cannot read, is told in lines that name it."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.cli.troubles import damage, readable_captures, troubles
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

CHAIN = Path(__file__).resolve().parents[1] / "payloads" / "options" / "chain.json"
MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)


@pytest.mark.usefixtures("project")
def test_a_damaged_capture_is_named_and_stops_nothing(run_command: Callable[..., Any]) -> None:
    """Its session counts for nothing, the others for what they are, and one line names the file and what to do."""
    for day in (MONDAY, TUESDAY):
        instant = f"{day}T20:55:00Z"
        assert run_command("import", str(CHAIN), "--dataset", "options", "--captured-at", instant).code == 0
    folder = Path("data/simulate")
    archive = Archive(folder / "raw")
    damaged = archive.captures("options", MONDAY)[0].path
    assert list(damage(archive)) == []
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert readable_captures(archive, "options", MONDAY) == []
    assert len(readable_captures(archive, "options", TUESDAY)) == 1
    (line,) = damage(archive)
    assert line.startswith(f"options of session 2026-01-05 is not counted here: {damaged}: footer: ")
    assert "restore the file from a copy" in line
    assert list(troubles(archive, TableStore(folder), [MONDAY, TUESDAY], ["XYZ"])) == []


@pytest.mark.usefixtures("project")
def test_only_what_is_watched_of_a_dataset_can_be_missing(run_command: Callable[..., Any]) -> None:
    """A symbol without rows is told for the datasets it is watched in; a future has rows under its contract."""
    quotes, instant = Path("quotes.json"), f"{MONDAY}T20:55:00Z"
    quotes.write_text('{"/ESH26": {"symbol": "/ESH26", "assetMainType": "FUTURE", "reference": {"product": "/ES"}}}')
    arguments = ("import", str(quotes), "--dataset", "quotes", "--captured-at", instant, "--symbol", "/ES")
    assert run_command(*arguments).code == 0
    assert run_command("import", str(CHAIN), "--dataset", "options", "--captured-at", instant).code == 0
    assert run_command("rebuild").code == 0
    watched = dict.fromkeys(DATASETS, ()) | {"options": ("XYZ", "ABC"), "quotes": ("/ES",)}
    found = troubles(
        Archive(Path("data/simulate/raw")),
        TableStore(Path("data/simulate")),
        [MONDAY],
        ["XYZ", "ABC", "/ES"],
        watched=watched,
    )
    assert [line.partition(" in session")[0] for line in found] == ["ABC: no options"]
