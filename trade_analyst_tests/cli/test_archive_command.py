"""`trade-analyst archive`: its lines, its JSON and its exit codes."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
RAW = Path("data/simulate/raw")


@pytest.fixture
def archived(project: Path, run_command: Callable[..., Any]) -> Path:
    """A project whose archive has quotes of two sessions."""
    for day in ("05", "06"):
        captured = ("--captured-at", f"2026-01-{day}T20:55:00Z")
        assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *captured).code == 0
    return project


def size_of(folder: Path) -> str:
    """The bytes of the one capture in a folder, as a person reads them."""
    (capture,) = folder.glob("*.raw")
    return f"{capture.stat().st_size / 1000:.1f} kB"


class Pipe(io.BytesIO):
    """Standard input or output that is no terminal."""

    buffer = property(lambda self: self)


def test_a_copy_is_told_file_by_file_where_something_is_wrong(archived: Path, run_command: Callable[..., Any]) -> None:
    """Sums at the end; a changed file and one refused are exit code 1, each by its name."""
    size = size_of(RAW / "quotes/session_date=2026-01-06")
    first = run_command("archive", "export", "copy", "--from", "2026-01-06")
    assert (first.code, first.out) == (0, f"1 files copied ({size}), 0 held already, 0 refused, 0 damaged\n")
    both = run_command("archive", "export", "copy", "--dataset", "quotes", "--json")
    assert (both.code, json.loads(both.out)["held"], json.loads(both.out)["copied"]) == (0, 1, 1)
    moved = Path("copy") / "raw/quotes/session_date=2026-01-05/20260105T205500000000Z-quotes-0000.raw"
    content = moved.read_bytes()
    moved.write_bytes(content[:300] + b"x" + content[301:])
    shutil.rmtree(RAW)
    taken = run_command("archive", "import", "copy")
    name = moved.relative_to("copy").as_posix()
    what = "it does not match the SHA-256 in its manifest: it was changed on its way"
    assert (taken.code, taken.out.splitlines()) == (
        1,
        [f"damaged\t{name}\t{what}", f"1 files copied ({size}), 0 held already, 0 refused, 1 damaged"],
    )
    refused = run_command("archive", "import", "copy", "--json")
    report = json.loads(refused.out)
    assert (refused.code, report["problems"]) == (1, [{"path": name, "outcome": "damaged", "detail": what}])
    moved.write_bytes(content)
    assert run_command("archive", "import", "copy").code == 0
    assert archived.joinpath(RAW, *moved.parts[2:]).read_bytes() == content


@pytest.mark.usefixtures("archived")
def test_a_copy_goes_through_standard_output_and_input(
    run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told goes to standard error then; the stream can be taken in again from standard input."""
    sent, size = Pipe(), size_of(RAW / "quotes/session_date=2026-01-06")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", sent)
        done = run_command("archive", "export", "-")
    assert done.code == 0
    assert "2 files copied" in done.err
    shutil.move(RAW, "before")
    monkeypatch.setattr(sys, "stdin", Pipe(sent.getvalue()[:-2000]))
    cut = run_command("archive", "import", "-")
    assert cut.code == 1
    assert "1 files copied" in cut.out
    assert "Send it again" in cut.err
    monkeypatch.setattr(sys, "stdin", Pipe(sent.getvalue()))
    again = run_command("archive", "import", "-")
    assert (again.code, again.out) == (0, f"1 files copied ({size}), 1 held already, 0 refused, 0 damaged\n")


@pytest.mark.usefixtures("archived")
def test_wrong_use_and_nothing_to_do_are_said(run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal where a pipe is to be, an unknown dataset, no such session, a reader that went away."""
    terminal = Pipe()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert run_command("archive", "import", "-").code == 2
    assert run_command("archive", "export", "copy", "--dataset", "nothing").code == 2
    none = run_command("archive", "export", "copy", "--to", "2025-01-01")
    assert (none.code, "no sealed capture of these" in none.err) == (1, True)
    assert run_command("archive", "import", "nowhere").code == 1
    gone = Pipe()
    monkeypatch.setattr(gone, "write", lambda _: (_ for _ in ()).throw(BrokenPipeError), raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", gone)
        stopped = run_command("archive", "export", "-")
    assert stopped.code == 1
    assert "has ended before its end" in stopped.err


def test_retiring_takes_two_commands(archived: Path, run_command: Callable[..., Any]) -> None:
    """What is held nowhere else is named and nothing leaves; with a copy and its code it does, and verify says so."""
    assert run_command("rebuild", "--workers", "1").code == 0
    asked = ("archive", "retire", "--before", "2026-01-06", "--with-closing")
    name = "raw/quotes/session_date=2026-01-05/20260105T205500000000Z-quotes-0000.raw"
    lost = run_command(*asked)
    assert (lost.code, lost.out.splitlines()[0]) == (1, f"held nowhere else: {name}")
    assert "--confirm" not in lost.out
    assert run_command("archive", "export", "copy").code == 0
    asked = (*asked, "--held-in", "copy")
    shown = run_command(*asked)
    code = shown.out.split()[-1]
    assert (shown.code, "nothing has left yet" in shown.out) == (0, True)
    assert json.loads(run_command(*asked, "--json").out)["code"] == code
    wrong = run_command(*asked, "--confirm", "000000000000")
    assert (wrong.code, (archived / "data/simulate" / name).exists()) == (1, True)
    done = run_command(*asked, "--confirm", code)
    assert (done.code, done.out.splitlines()[0]) == (0, f"retired: {name}")
    assert not (archived / "data/simulate" / name).exists()
    assert run_command(*asked).out == "nothing is left to retire\n"
    well = run_command("verify")
    told = f"retired\traw/quotes\t1 captures, held in {(archived / 'copy').resolve()}"
    assert (well.code, well.out.splitlines()[0]) == (0, told)
    assert json.loads(run_command("verify", "--json").out)["retired"] == [
        {"path": name, "held_in": str((archived / "copy").resolve())}
    ]
    assert "1 retired" in run_command("archive", "export", "other").out
    assert run_command("rebuild", "--workers", "1").code == 0
    rebuilt = run_command("rebuild", "--full", "--workers", "1")
    assert (rebuilt.code, "bring it back by `trade-analyst archive import" in rebuilt.out) == (1, True)
    assert run_command("archive", "import", "copy").code == 0
    assert run_command("rebuild", "--full", "--workers", "1").code == 0


@pytest.mark.usefixtures("archived")
def test_what_is_to_be_lost_is_listed_before_and_after(run_command: Callable[..., Any]) -> None:
    """With --lose the first command shows the code, the second one does it; what stays is counted with its reason."""
    asked = ("archive", "retire", "--before", "2026-01-06", "--lose")
    assert run_command(*asked).out.splitlines()[0].startswith("1 captures stay: it is in no table yet")
    assert run_command("rebuild", "--workers", "1").code == 0
    assert run_command(*asked).out.splitlines()[0] == "1 captures stay: it has a closing snapshot"
    shown = run_command(*asked, "--with-closing")
    assert (shown.code, shown.out.startswith("held nowhere else: raw/quotes/")) == (0, True)
    done = run_command(*asked, "--with-closing", "--confirm", shown.out.split()[-1])
    assert (done.code, done.out.startswith("lost: raw/quotes/")) == (0, True)
    assert "held nowhere else" in run_command("verify").out
    assert run_command("archive", "retire", "--before", "today").code == 2
