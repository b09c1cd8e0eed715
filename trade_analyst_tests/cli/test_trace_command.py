"""`trade-analyst trace`: how rows are named, what is shown, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
CAPTURED = ("--captured-at", "2026-01-05T20:55:00Z")


@pytest.fixture
def quoted(project: Path, run_command: Callable[..., Any]) -> Path:
    """A project with the tables of one imported answer."""
    assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *CAPTURED).code == 0
    assert run_command("rebuild", "--workers", "1").code == 0
    return project


@pytest.mark.usefixtures("quoted")
def test_a_value_is_shown_with_its_way(run_command: Callable[..., Any]) -> None:
    """The value, the record, the member and the verdict are told; exit code 0."""
    shown = run_command("trace", "quotes", "symbol=XYZ", "session_date=2026-01-05", "--column", "bid")
    assert (shown.code, shown.err) == (0, "")
    lines = [line.strip() for line in shown.out.splitlines()]
    assert lines[0] == "tables.quotes  symbol=XYZ  snapshot_time=2026-01-05T20:55:00+00:00"
    assert [line for line in lines if line.startswith("bid from $.XYZ.quote.bidPrice: bytes ")]
    assert lines[-1].startswith("EQUAL: made again from these bytes by version ")


@pytest.mark.usefixtures("quoted")
def test_the_document_has_every_record_and_member(run_command: Callable[..., Any]) -> None:
    """With --json one document says what stands where."""
    shown = run_command(
        "trace", "tables.quotes", "symbol~XY", "asset_type~QUIT", "snapshot_time=2026-01-05 20:55:00", "--json"
    )
    document = json.loads(shown.out)
    assert (document["verdict"], document["key"]["symbol"], document["below"]) == ("equal", "XYZ", [])
    (record,) = document["records"]
    body = (PAYLOADS / "quotes/several.json").read_bytes()
    assert record["body_bytes"] == len(body)
    (bid,) = [
        member for member in record["members"] if member["path"] == "$.XYZ.quote.bidPrice" and member["column"] == "bid"
    ]
    assert body[bid["offset"] : bid["offset"] + bid["length"]].decode() == bid["text"]


@pytest.mark.usefixtures("quoted")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("quotes", "symbol=NONE"), 1, "no row of tables.quotes has symbol=NONE"),
        (("quote",), 1, "there is no table 'quote'"),
        (("quotes", "session_date=today"), 2, "is no value of session_date"),
        (("quotes", "volume=many"), 2, "is no value of volume"),
        (("quotes", "XYZ"), 2, "names nothing"),
    ],
)
def test_what_cannot_be_traced_ends_with_its_code(
    run_command: Callable[..., Any], words: tuple[str, ...], code: int, said: str
) -> None:
    """What is not there is 1, what is written wrongly 2; both say what is wrong."""
    shown = run_command("trace", *words)
    assert (shown.code, shown.out) == (code, "")
    assert said in " ".join(shown.err.replace("│", " ").split())


def test_a_value_that_is_not_of_the_bytes_ends_with_1(quoted: Path, run_command: Callable[..., Any]) -> None:
    """A damaged capture is an error of the command."""
    (path,) = (quoted / "data/simulate/raw/quotes").rglob("*.raw")
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    shown = run_command("trace", "quotes", "symbol=XYZ")
    assert (shown.code, shown.out) == (1, "")
    assert str(path.name) in shown.err
