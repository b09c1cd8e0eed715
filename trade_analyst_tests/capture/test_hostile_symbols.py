"""Over real sockets: symbols that try to leave their place in an address are asked for as they are."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path

import pytest
from hostile_names import hostile_names
from pulling import DUE, pull, token_of

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.storage.archive import Archive

pytestmark = pytest.mark.reliability
# A comma parts symbols in the source's own query, and blanks around them do not count.
NAMES = tuple(
    name
    for name in hostile_names(1200, 20260105)
    if "," not in name and name.strip(" ") == name and len(name) < 60 and not name.startswith(("/", "./"))
)


def test_hostile_symbols_stay_in_the_query(tmp_path: Path) -> None:
    """The server sees its one path and every symbol as it is, and disowns each by its name; the capture keeps all."""
    with SimulatorServer(seed=7, ca_file=tmp_path / "ca.pem") as server:
        taken = asyncio.run(
            pull(
                archive := Archive(tmp_path / "raw"),
                address=server.at(DUE),
                ca_file=server.ca_file,
                token=token_of(server.desk),
                snapshot=Snapshot("quotes", date(2026, 1, 5), DUE, NAMES),
            )
        )
        asked = dict(server.requests)
    assert set(asked) == {"/quotes"}
    (capture,) = archive.captures("quotes")
    responses = list(archive.responses(capture))
    assert sorted(symbol for response in responses for symbol in response.request.symbols) == sorted(NAMES)
    bodies = [json.loads(response.body) for response in responses]
    disowned = {symbol for body in bodies for symbol in body.get("errors", {}).get("invalidSymbols", ())}
    answered = {symbol for body in bodies for symbol in body} - {"errors"}
    assert answered < {"A", "AAPL", "F", "GOOG", "EUR/USD", "$SPX", "BRK/B"}
    assert disowned == set(NAMES) - answered
    assert taken.gaps == ()
    stored = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert stored == {"ca.pem", "raw"}
