"""Scenario files: read, refused, and played by a running server."""

from __future__ import annotations

import json
import re
import time
import zlib
from pathlib import Path

import httpx
import pytest
from visiting import BEFORE_CLOSE, SEED, Visitor, trusting

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.simulator.fault_kinds import FAULT_KINDS
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.scenario import load_scenario
from trade_analyst_pipeline.simulator.server import SimulatorServer

PAGE = Path(__file__).resolve().parents[2] / "docs/simulator.md"
# What each kind that needs to be told something is told here.
TOLD = {
    "answer": "status = 418",
    "slow": "seconds = 0.01",
    "dripping": "piece_bytes = 1024\nseconds = 0.01",
    "oversized": "size_bytes = 100000",
    "bomb": "mebibytes = 2",
    "omitted": 'fields = ["bid"]',
    "overwritten": "values = { bid = -1.0 }",
    "renamed": 'values = { bid = "bidPrice" }',
    "as-text": 'fields = ["bid"]',
    "as-number": 'fields = ["strategy"]',
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Where a test writes its scenario."""
    return tmp_path / "scenario.toml"


def test_a_whole_file_sets_everything(written: Path, market: Market) -> None:
    """Limits, quota with a change, burst, closures and faults reach the server as the file says."""
    written.write_text(
        """
        description = "everything"
        limits = { gateway_bytes = 2_000_000, most_symbols = 50, most_contracts = 300 }
        burst = { requests = 5, seconds = 2.0 }
        [quota]
        per_minute = 90
        retry_after = "none"
        time_scale = 60.0
        counts_refused = true
        changes = [{ per_minute = 45, after_seconds = 120 }, { per_minute = 9, after_requests = 7 }]
        [[outage]]
        first = 2025-12-09T21:00:00Z
        until = 2025-12-09T22:00:00Z
        closure = "message"
        [[maintenance]]
        first = 02:00:00
        until = 04:30:00
        weekdays = ["Saturday", "Sunday"]
        [[fault]]
        kind = "server-error"
        path = "/movers/*"
        times = "always"
        """,
        encoding="utf-8",
    )
    server = SimulatorServer(
        seed=SEED, ca_file=written.with_name("ca.pem"), market=market, scenario=load_scenario(written)
    )
    found = server.conditions
    assert (found.limits.gateway_bytes, found.limits.most_symbols, found.limits.most_contracts) == (2_000_000, 50, 300)
    assert found.quota is not None
    rules = found.quota.rules
    assert (rules.per_minute, rules.retry_after, rules.time_scale, rules.counts_refused) == (90, "none", 60.0, True)
    assert [(each.per_minute, each.after_seconds, each.after_requests) for each in rules.changes] == [
        (45, 120.0, 0),
        (9, 0.0, 7),
    ]
    assert found.burst is not None
    assert (found.burst.requests, found.burst.seconds) == (5, 2.0)
    assert [window.closure for window in found.closures] == ["message", "page"]
    (fault,) = server.faults.faults
    assert (fault.path, fault.times_left) == ("/movers/*", None)


def test_an_empty_file_changes_nothing(written: Path, market: Market) -> None:
    """Without any table the simulator is as it is without a scenario."""
    written.write_text("", encoding="utf-8")
    server = SimulatorServer(
        seed=SEED, ca_file=written.with_name("ca.pem"), market=market, scenario=load_scenario(written)
    )
    found = server.conditions
    assert (found.limits.gateway_bytes, found.limits.most_contracts, found.quota, found.burst, found.closures) == (
        10_000_000, None, None, None, (),
    )  # fmt: skip
    assert server.faults.faults == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("surprise = 1", "unknown field `surprise`"),
        ("[limits]\nmost_symbols = 0", "`limits.most_symbols`"),
        ('[quota]\nper_minute = "many"', "`quota.per_minute`"),
        ("[quota]\nretry_after = 'none'", "missing required field `per_minute`"),
        ("[burst]\nrequests = 1\nseconds = 0", "`burst.seconds`"),
        ("[[fault]]\npath = '/quotes'", "missing required field `kind`"),
        ("[[fault]]\nkind = 'zap'", "fault 1 (zap): no such kind; there are answer, rate-limited"),
        ("[[fault]]\nkind = 'cut'\n[[fault]]\nkind = 'slow'", "fault 2 (slow) needs seconds"),
        ("[[fault]]\nkind = 'cut'\nseconds = 1", "fault 1 (cut) takes no seconds"),
        ("[[fault]]\nkind = 'cut'\ntimes = 'often'", "`fault[0].times`"),
        ("[[fault]]\nkind = 'cut'\ninstant = 2026-01-05T20:55:00", "has no time zone"),
        ("[[fault]]\nkind = 'renamed'\nvalues = { bid = 1 }", "old and new names"),
        ("[[outage]]\nfirst = 2026-01-05T20:55:00\nuntil = 2026-01-05T21:55:00Z", "outage 1: 2026-01-05 20:55"),
        ("[[outage]]\nfirst = 2026-01-05T20:55:00Z\nuntil = 2026-01-05T20:55:00Z", "first is not before until"),
        ("[[maintenance]]\nfirst = 23:00:00\nuntil = 01:00:00", "over midnight it takes two"),
        ("[[maintenance]]\nfirst = 01:00:00\nuntil = 02:00:00\nweekdays = ['Caturday']", "Caturday"),
        ("quota = [", "is no TOML"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_file_and_culprit(written: Path, text: str, problem: str) -> None:
    """The message names the file, the key or the fault by its place, and what is wrong."""
    written.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_scenario(written)
    assert str(written) in str(refused.value)
    assert problem in str(refused.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, and one that is no text."""
    with pytest.raises(SettingsError, match="cannot be read"):
        load_scenario(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is no TOML"):
        load_scenario(tmp_path / "binary.toml")


@pytest.mark.parametrize("kind", sorted(FAULT_KINDS))
def test_every_kind_strikes_once_and_is_over(visitor: Visitor, written: Path, kind: str) -> None:
    """Each kind changes the next chain in body, headers, status or time to come; the one after it is well."""
    written.write_text(f"[[fault]]\nkind = '{kind}'\npath = '/chains'\n{TOLD.get(kind, '')}", encoding="utf-8")
    asked = {"symbol": "AAPL", "strikeCount": 2, "toDate": "2025-12-31"}
    well = visitor.get("/chains", **asked)
    load_scenario(written).apply(visitor.server.conditions, visitor.server.faults)
    (fault,) = visitor.server.faults.faults
    began = time.perf_counter()
    try:
        ill = visitor.get("/chains", **asked)
        is_changed = (ill.status_code, ill.content) != (well.status_code, well.content)
    except (httpx.RemoteProtocolError, json.JSONDecodeError):
        is_changed = True
    is_slow = time.perf_counter() - began > 0.01
    assert is_changed or (is_slow and kind in {"slow", "dripping"}) or kind == "as-number"
    assert fault.struck == 1
    assert visitor.get("/chains", **asked).content == well.content


def test_a_fault_can_spare_the_first_requests(visitor: Visitor, written: Path) -> None:
    """`skip` matching requests pass, `times` are struck, the rest pass; other paths do not count."""
    text = "[[fault]]\nkind = 'server-error'\npath = '/quotes'\nsymbol = 'AAPL'\nskip = 1\ntimes = 2"
    written.write_text(text, encoding="utf-8")
    load_scenario(written).apply(visitor.server.conditions, visitor.server.faults)
    assert visitor.get("/quotes", symbols="SPY").status_code == 200
    assert visitor.get("/markets/equity").status_code == 200
    assert [visitor.get("/quotes", symbols="AAPL").status_code for _ in range(5)] == [200, 500, 500, 200, 200]


def test_a_path_may_hold_a_star(visitor: Visitor, written: Path) -> None:
    """One pattern for a family of paths."""
    written.write_text("[[fault]]\nkind = 'unauthorized'\npath = '/movers/*'\ntimes = 'always'", encoding="utf-8")
    load_scenario(written).apply(visitor.server.conditions, visitor.server.faults)
    assert [visitor.get(path).status_code for path in ("/movers/NYSE", "/movers/$SPX")] == [401, 401]
    assert visitor.get("/markets/equity").status_code == 200


def test_a_dripping_answer_takes_its_time_and_is_whole(visitor: Visitor, written: Path) -> None:
    """About 1,900 bytes in pieces of 500 with 20 ms between them take at least 60 ms and hold the same content."""
    well = visitor.get("/quotes", symbols="AAPL")
    pieces = -(-len(well.content) // 500)
    written.write_text("[[fault]]\nkind = 'dripping'\npiece_bytes = 500\nseconds = 0.02", encoding="utf-8")
    load_scenario(written).apply(visitor.server.conditions, visitor.server.faults)
    began = time.perf_counter()
    ill = visitor.get("/quotes", symbols="AAPL")
    assert ill.content == well.content
    assert time.perf_counter() - began >= 0.02 * (pieces - 1)


def test_a_bomb_is_small_on_the_wire(visitor: Visitor, written: Path) -> None:
    """8 MiB of zeros come as less than 16 kB of gzip."""
    written.write_text("[[fault]]\nkind = 'bomb'\nmebibytes = 8", encoding="utf-8")
    load_scenario(written).apply(visitor.server.conditions, visitor.server.faults)
    url = f"{visitor.server.at(BEFORE_CLOSE)}/marketdata/v1/quotes?symbols=AAPL"
    headers = {"authorization": f"Bearer {visitor.tokens['access_token']}"}
    with visitor.http.stream("GET", url, headers=headers) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert len(sent) < 16_000
    assert zlib.decompress(sent, wbits=31) == bytes(8 << 20)


def test_a_bomb_is_coded_once(written: Path, market: Market) -> None:
    """Also a server that compresses leaves what is coded as it is."""
    written.write_text("[[fault]]\nkind = 'bomb'\nmebibytes = 2\npath = '/quotes'", encoding="utf-8")
    server = SimulatorServer(
        seed=SEED, ca_file=written.with_name("ca.pem"), market=market, compress=True, scenario=load_scenario(written)
    )
    with server, trusting(server.ca_file) as http:
        visitor = Visitor(server, http)
        visitor.log_in()
        assert visitor.get("/quotes", symbols="AAPL").content == bytes(2 << 20)


def examples() -> list[str]:
    """The scenarios shown on the page."""
    return re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_pages_examples_are_scenarios(written: Path) -> None:
    """Every example in docs/simulator.md can be used as it stands."""
    assert examples()
    for text in examples():
        written.write_text(text, encoding="utf-8")
        load_scenario(written)


def test_the_page_lists_every_kind_with_its_keys() -> None:
    """Kind, what it needs and what it takes stand in one row of docs/simulator.md."""
    page = PAGE.read_text(encoding="utf-8")
    for name, kind in FAULT_KINDS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert kind.summary in row
        for key in (*kind.needs, *kind.takes):
            assert f"`{key}`" in row


def test_a_scenario_plays_from_the_start(written: Path, market: Market) -> None:
    """A server made with a scenario is struck by its first request."""
    written.write_text("[[fault]]\nkind = 'maintenance'\npath = '/quotes'", encoding="utf-8")
    server = SimulatorServer(
        seed=SEED, ca_file=written.with_name("ca.pem"), market=market, scenario=load_scenario(written)
    )
    with server, trusting(server.ca_file) as http:
        visitor = Visitor(server, http)
        visitor.log_in()
        assert [visitor.get("/quotes", symbols="AAPL").status_code for _ in range(2)] == [503, 200]
