"""`trade-analyst verify`: its lines, its JSON and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.errors import DiskFullError
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.last_verification import last_verification

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"


@pytest.mark.usefixtures("project")
def test_verify_tells_a_changed_byte_and_a_repeated_key(run_command: Callable[..., Any]) -> None:
    """All well is exit code 0; a byte changed or a key that came twice is exit code 1, with the file and what it is."""
    captured = ("--captured-at", "2026-01-05T20:55:00Z")
    assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *captured).code == 0
    assert run_command("rebuild", "--workers", "1").code == 0
    well = run_command("verify")
    assert (well.code, well.out.endswith("read back: all well\n")) == (0, True)
    (table,) = Path("data/simulate/tables/quotes").rglob("*.parquet")
    content = bytearray(table.read_bytes())
    content[100] ^= 1
    table.write_bytes(content)
    found = run_command("verify", "--json")
    report = json.loads(found.out)
    assert (found.code, report["is_well"]) == (1, False)
    path = table.relative_to("data/simulate").as_posix()
    assert report["flaws"] == [{"path": path, "kind": "damaged", "detail": "it does not match its SHA-256"}]
    assert run_command("verify", "--dataset", "options", "--against-sources").code == 0
    assert run_command("verify", "--from", "2026-01-06").code == 0
    assert run_command("verify", "--dataset", "nothing").code == 2
    assert run_command("rebuild", "--workers", "1").code == 0
    text = (PAYLOADS / "quotes/several.json").read_text().replace('"XYZ": {', '"XYZ": {"ssid": 1, ', 1)
    Path("twice.json").write_text(text)
    captured = ("--captured-at", "2026-01-06T20:55:00Z")
    assert run_command("import", "twice.json", "--dataset", "quotes", *captured).code == 0
    assert run_command("rebuild", "--workers", "1").code == 0
    twice = run_command("verify")
    assert twice.code == 1
    assert twice.out.splitlines()[0].startswith("repeated_keys\traw/quotes/session_date=2026-01-06/")
    assert "record 0, import:twice.json: a key came more than once in one object: ssid" in twice.out
    assert "1 findings" in twice.out


@pytest.mark.usefixtures("project")
def test_repair_says_what_it_does_and_what_is_left(run_command: Callable[..., Any]) -> None:
    """Each step is a line or an object; exit code 0 when all is well at the end, 1 when a capture is damaged."""
    captured = ("--captured-at", "2026-01-05T20:55:00Z")
    assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *captured).code == 0
    assert run_command("rebuild", "--workers", "1").code == 0
    folder = Path("data/simulate")
    (table,) = (folder / "tables/quotes").rglob("*.parquet")
    (fence,) = (folder / "tables/quotes").rglob("_fence")
    table.write_bytes(b"x")
    fence.write_bytes(b"x")
    done = run_command("verify", "--repair")
    assert (done.code, done.out.endswith("read back: all well\n")) == (0, True)
    assert f"mended\t{fence.relative_to(folder)}\twritten anew\n" in done.out
    assert "mended\ttables/quotes 2026-01-05\tbuilt, " in done.out
    assert run_command("verify", "--repair").out == run_command("verify").out
    (capture,) = (folder / "raw/quotes").rglob("*.raw")
    capture.write_bytes(capture.read_bytes()[:-1])
    (folder / "raw/quotes/notes.txt").write_text("mine")
    left = run_command("verify", "--repair", "--json")
    report = json.loads(left.out)
    assert (left.code, report["is_well"], [flaw["kind"] for flaw in report["flaws"]]) == (1, False, ["damaged"])
    assert report["repaired"] == [
        {"path": "raw/quotes/notes.txt", "is_mended": True, "detail": "moved to set_aside/raw/quotes/notes.txt"}
    ]


@pytest.mark.usefixtures("project")
def test_the_result_of_verifying_everything_is_kept(
    run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of a part; and a disk that does not take it makes no finding, and is told."""
    captured = ("--captured-at", "2026-01-05T20:55:00Z")
    assert run_command("verify").code == 0
    assert not Path("data").exists()
    assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *captured).code == 0
    folder = Path("data/simulate").resolve()
    assert run_command("verify", "--dataset", "options").code == 0
    assert last_verification(folder) is None
    assert run_command("verify").code == 1
    found = last_verification(folder)
    assert found is not None
    assert (found.flaws, found.shown) == (
        1,
        ("not_built quarantine/quotes/session_date=2026-01-05/_manifest.json",),
    )
    assert run_command("rebuild", "--workers", "1").code == 0
    monkeypatch.setattr(durable, "write_bytes", lambda *_: (_ for _ in ()).throw(DiskFullError("no space left")))
    full = run_command("verify")
    assert (full.code, full.err) == (0, "The result could not be kept for healthcheck: no space left\n")
