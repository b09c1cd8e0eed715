"""`trade-analyst compact`: what it does, says and leaves alone."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
RAW = Path("data/simulate/raw/quotes")


def names(day: str) -> list[str]:
    """The files of a session's captures."""
    return sorted(path.name for path in (RAW / f"session_date={day}").iterdir())


@pytest.fixture
def captured(project: Path, run_command: Callable[..., Any]) -> Path:
    """Quotes of one session imported three times, and tables of them."""
    for minute in (15, 30, 45):
        captured = ("--captured-at", f"2026-01-05T20:{minute}:00Z")
        assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *captured).code == 0
    assert run_command("rebuild", "--workers", "1").code == 0
    return project


@pytest.mark.usefixtures("captured")
def test_a_session_becomes_one_file_and_says_so(run_command: Callable[..., Any]) -> None:
    """A dry run changes nothing; then three files are one, queries, traces and `verify` say the same, again nothing."""
    asked = ("query", "select count(*), sum(bid_price) from tables.quotes", "--json")
    traced = ("trace", "tables.quotes", "symbol=XYZ", "snapshot_time=2026-01-05T20:30:00Z", "--json")
    before, way = run_command(*asked).out, json.loads(run_command(*traced).out)
    dry = run_command("compact", "--dry-run")
    assert dry.code == 0
    assert "raw/quotes 2026-01-05: 3 files with " in dry.out
    assert "1 of 3 folders would be compacted: " in dry.out
    assert len(names("2026-01-05")) == 3
    done = run_command("compact", "--json")
    report = json.loads(done.out)
    (folder,) = report["folders"]
    assert (folder["stage"], folder["name"], folder["partition"], folder["problem"]) == (
        *("raw", "quotes", "2026-01-05"),
        "",
    )
    assert (folder["before"]["files"], folder["after"]["files"], report["is_dry_run"]) == (3, 1, False)
    assert names("2026-01-05") == ["captures.pack"]
    assert run_command("verify", "--against-sources").code == 0
    after = json.loads(run_command(*traced).out)
    assert (run_command(*asked).out, after["verdict"]) == (before, "equal")
    (record,), (earlier,) = after["records"], way["records"]
    moved = {"file", "offset"}
    assert {key: record[key] for key in record.keys() - moved} == {key: earlier[key] for key in record.keys() - moved}
    content = Path(record["file"]).read_bytes()
    assert (Path(record["file"]).name, content[record["offset"] : record["offset"] + 4]) == ("captures.pack", b"TAFR")
    again = run_command("compact")
    assert again.out.startswith("0 of 3 folders compacted: ")
    assert len(again.out.splitlines()) == 1
    assert run_command("rebuild", "--workers", "1").code == 0
    assert run_command(*asked).out == before


@pytest.mark.usefixtures("captured")
def test_only_what_is_asked_for_is_compacted(run_command: Callable[..., Any]) -> None:
    """Other datasets, other sessions and the present one are left alone; named, the present one is compacted too."""
    assert run_command("compact", "--dataset", "nothing").code == 2
    for apart in (("--dataset", "options"), ("--from", "2026-01-06"), ("--to", "2026-01-02")):
        assert run_command("compact", *apart).out.startswith("0 of 0 folders compacted")
    today = datetime.now(UTC).astimezone(ZoneInfo("America/New_York")).date()
    folder = RAW / f"session_date={today}"
    from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
    from trade_analyst_pipeline.storage.archive import Archive

    for number in range(2):
        moment = datetime.now(UTC) + timedelta(seconds=number)
        with Archive(RAW.parent).begin(
            dataset="quotes", session_date=today, scheduled_time=moment, started_time=moment
        ) as writer:
            writer.append(RawResponse(MarketDataRequest("quotes", "/quotes"), 200, b"{}", (), moment, moment))
            writer.seal(moment)
    assert run_command("compact").code == 0
    assert len(list(folder.iterdir())) == 2
    assert run_command("compact", "--to", today.isoformat()).code == 0
    assert names(today.isoformat()) == ["captures.pack"]


@pytest.mark.usefixtures("captured")
def test_damage_is_left_alone_and_named(run_command: Callable[..., Any]) -> None:
    """A damaged capture, or manifest, keeps its folder as it is: exit code 1, and why; the pack's own damage too."""
    (victim, *_) = sorted((RAW / "session_date=2026-01-05").iterdir())
    content = victim.read_bytes()
    victim.write_bytes(content[:-3])
    left = run_command("compact")
    assert (left.code, len(names("2026-01-05"))) == (1, 3)
    assert f"raw/quotes 2026-01-05: left alone: {victim.resolve()}: footer: " in left.out
    victim.write_bytes(content)
    manifest = Path("data/simulate/tables/quotes/session_date=2026-01-05/_manifest.json")
    whole = manifest.read_text()
    manifest.write_text("{")
    broken = run_command("compact")
    assert (broken.code, names("2026-01-05")) == (1, ["captures.pack"])
    assert "tables/quotes 2026-01-05: left alone: " in broken.out
    manifest.write_text(whole)
    pack = RAW / "session_date=2026-01-05/captures.pack"
    content = pack.read_bytes()
    pack.write_bytes(content[:-1])
    found = run_command("verify")
    assert found.code == 1
    (line,) = found.out.splitlines()[:-1]
    assert line.startswith("damaged\traw/quotes/session_date=2026-01-05/captures.pack\tdirectory: ")
    assert run_command("verify", "--repair").out.splitlines()[-2] == line
    pack.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    (line,) = run_command("verify").out.splitlines()[:-1]
    assert "tables/quotes 2026-01-05; quarantine/quotes 2026-01-05 made of it, which keep their rows" in line
