"""The commands over the data folder: what they print, write and refuse."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.cli import data
from trade_analyst_pipeline.lineage.built import Built

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
CAPTURED = ("--captured-at", "2026-01-05T20:55:00Z")
DAY = date(2026, 1, 5)


@pytest.mark.usefixtures("project")
def test_chain_offered_as_quotes_leaves_nothing_to_rebuild(run_command: Callable[..., Any]) -> None:
    """The import is refused with exit code 1, and `rebuild` then has nothing that fails."""
    refused = run_command("import", str(PAYLOADS / "options/chain.json"), "--dataset", "quotes", *CAPTURED)
    assert (refused.code, refused.out) == (1, "")
    assert "Is it of options? Then say --dataset options." in refused.err
    assert run_command("rebuild", "--workers", "1").code == 0


@pytest.mark.usefixtures("project")
def test_rebuild_names_what_could_not_be_used(run_command: Callable[..., Any]) -> None:
    """A symbol that the source did not know is listed below the line of its session, which is built all the same."""
    assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *CAPTURED).code == 0
    rebuilt = run_command("rebuild", "--workers", "1")
    assert rebuilt.code == 0
    lines = rebuilt.out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("quotes 2026-01-05: built"))
    assert lines[place + 1].startswith("  unknown_symbol (NOPE): ")


def test_problems_of_a_session_are_said_once_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """What is part of the detail is not repeated, and of many problems the first five are listed."""
    problems = ("it broke", *(f"problem {number}" for number in range(7)))
    data._show_result(Built("quotes", DAY, "failed", detail="capture x: it broke", problems=problems))
    assert capsys.readouterr().out.splitlines() == [
        "quotes 2026-01-05: failed, 0 rows, 0 quarantined. capture x: it broke",
        *(f"  problem {number}" for number in range(5)),
        "  and 2 more problems",
    ]
