"""No secret leaves a process of ours: not by logs, not by Dagster, not by a crash, not into a file of the project."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote

import leak_scan
import polars as pl
import pytest
from cryptography.fernet import Fernet

from trade_analyst_pipeline.defs.automation import CHAIN_ASSETS, END_OF_DAY_ASSETS, QUOTE_ASSETS, REFERENCE_ASSETS
from trade_analyst_pipeline.simulator import faults
from trade_analyst_pipeline.simulator.answers import Answer, html_answer, json_answer
from trade_analyst_pipeline.simulator.faults import Change
from trade_analyst_pipeline.simulator.oauth import OAuthDesk
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.simulator.wire_reference import errors_body

SCENARIO = Path(leak_scan.__file__).with_name("leak_scenario.py")
FIRST_FAULT = datetime(2026, 10, 27, 15, 0, tzinfo=UTC)
# Given to the process. The shapes are the source's, the values are made up.
GIVEN = {
    "app_key": "kAnArYaPpKeY0123456789abcdefghij",  # pragma: allowlist secret
    "app_secret": "sEcReT/cAnArY+42",  # pragma: allowlist secret
    "streamer_token": "StReAmEr-CaNaRy.token+/=~7",  # pragma: allowlist secret
    "customer_id": "canary-customer-7d1f2e3a",
    "correl_id": "canary-correl-5c4b3a29-1807",
    "account_number": "776655443322",
    "state": 'sTaTe CaNaRy "9f8e7d6c5b4a"',  # pragma: allowlist secret
}
# Made by the source or by the process itself, and known from what the source has seen.
SEEN = ("access_token", "refresh_token", "id_token", "code", "login_state", "code_verifier", "basic_header")
SINKS = {
    *("stderr", "debug.log", "Dagster events", "Dagster runs and ticks", "compute logs", ".cache"),
    *("raw", "tables", "quarantine", "metrics", "exports"),
}


class RecordingDesk(OAuthDesk):
    """A desk that remembers every secret that passes it."""

    def __init__(self, redirect_uri: str) -> None:
        super().__init__(
            machine_now=time.time,
            app_key=GIVEN["app_key"],
            app_secret=GIVEN["app_secret"],
            redirect_uris=(redirect_uri,),
            rotation="rotate",
        )
        self.seen: dict[str, set[str]] = defaultdict(set)
        self.latest = "none yet"

    def authorize(self, params: Mapping[str, str]) -> Answer:
        """As the source answers; state and code are remembered."""
        answer = super().authorize(params)
        query = parse_qs(dict(answer.headers)["location"].partition("?")[2])
        self.seen["code"].update(query["code"])
        self.seen["login_state"].add(params["state"])
        return answer

    def token(self, authorization: str | None, form: Mapping[str, str]) -> Answer:
        """As the source answers; everything sent and given is remembered."""
        self.seen["basic_header"].add((authorization or "").partition(" ")[2])
        answer = super().token(authorization, form)
        fields = dict(form) | (json.loads(answer.body) if answer.status == 200 else {})
        for name in ("code", "code_verifier", "access_token", "refresh_token", "id_token"):
            if name in fields:
                self.seen[name].add(fields[name])
        self.latest = fields.get("access_token", self.latest)
        return answer


def all_faults(desk: RecordingDesk) -> list[Change]:
    """Thirty ways of a source to fail, half of them with the caller's own token in what it says."""

    def told(status: int, **headers: str) -> Change:
        def change(_: Answer) -> Answer:
            body = errors_body(status, "Refused", f"token {desk.latest} of {quote(desk.latest)} is not good")
            sent = tuple((name.replace("_", "-"), value.format(desk.latest)) for name, value in headers.items())
            return Answer(status, json.dumps(body).encode(), "application/json", sent)

        return change

    def page(status: int) -> Change:
        return lambda _: html_answer(status, "Refused", f"Authorization: Bearer {desk.latest}")

    def bad_type(_: Answer) -> Answer:
        return Answer(200, b"{}", f"text/{desk.latest}")

    def headers(answer: Answer) -> Answer:
        sent = (("www-authenticate", f"Bearer {desk.latest}"), ("x-echo", desk.latest), ("set-cookie", desk.latest))
        return Answer(answer.status, answer.body, answer.content_type, sent)

    def message(_: Answer) -> Answer:
        return json_answer({"message": f"Bearer {desk.latest}"}, 400)

    echoing = [headers, bad_type, message, *(told(status) for status in (400, 401, 403, 404, 429, 500, 503))]
    echoing += [told(302, location="https://127.0.0.1/?code={0}"), *(page(status) for status in (200, 403, 404, 500))]
    plain = [faults.server_error(), faults.unauthorized(), faults.body_too_big(), faults.access_denied()]
    plain += [faults.rate_limited(), faults.rate_limited("0"), faults.rate_limited("junk"), faults.html_page()]
    plain += [faults.cut_body(), faults.truncated_json(), faults.truncated_json(0.0), faults.answered(204)]
    plain += [faults.answered(418, b"teapot"), faults.html_page(502), faults.answered(200, b"[]")]
    return [change for pair in zip(echoing, plain, strict=True) for change in pair]


@dataclass(frozen=True)
class Aftermath:
    """What a process left behind: its folder, its exit code, the secrets there were, and how long it took."""

    folder: Path
    code: int
    secrets: dict[str, set[str]]
    seconds: float

    def scan(self) -> tuple[Counter[tuple[str, str, str]], Counter[str]]:
        """Hits and bytes looked at."""
        return leak_scan.scan(self.folder, self.secrets)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_scenario(repository: Path, folder: Path, *, is_masked: bool, is_full: bool) -> Aftermath:
    """Let a process do everything it may do with secrets, against a simulator that fails on demand."""
    for name in ("config.toml", "dagster.yaml"):
        shutil.copy(repository / name, folder / name)
    redirect_uri, fernet_key = f"https://127.0.0.1:{free_port()}/callback", Fernet.generate_key().decode()
    desk = RecordingDesk(redirect_uri)
    changes = all_faults(desk) if is_full else all_faults(desk)[:8]
    instants = [FIRST_FAULT + timedelta(minutes=number) for number in range(len(changes))]
    scene = GIVEN | {
        "given": [*GIVEN, "fernet_key"],
        "fernet_key": fernet_key,
        "is_masked": is_masked,
        "is_full": is_full,
        "refreshes": 5 if is_full else 1,
        "sessions": ["2026-10-28", "2026-10-29", "2026-10-30"] if is_full else ["2026-10-30"],
        "fault_instants": [instant.isoformat() for instant in instants],
        "runs": FULL_RUNS if is_full else QUICK_RUNS if is_masked else {"everything": ["leaky"]},
        "commands": FULL_COMMANDS if is_full else FULL_COMMANDS[: 2 * is_masked],
    }
    with SimulatorServer(seed=7, ca_file=folder / ".cache" / "simulate" / "simulator-ca.pem") as server:
        server.desk = server._app.desk = desk
        for change, instant in zip(changes, instants, strict=True):
            server.faults.add(change, path="/quotes", instant=instant, times=None)
        server.faults.add(faults.contract_fields(1, delta="x", strikePrice="x"), path="/chains", times=None)
        environment = {
            "HOME": str(folder),
            "TRADE_ANALYST_TOKEN_KEY": fernet_key,
            "TRADE_ANALYST_SIMULATOR__PORT": server.base_url.rpartition(":")[2],
            "TRADE_ANALYST_SCHWAB__REDIRECT_URI": redirect_uri,
            "TRADE_ANALYST_SCHWAB__REDIRECT_ALLOWLIST": json.dumps([redirect_uri]),
            "TRADE_ANALYST_UNIVERSE__SYMBOLS": '["AAPL", "SPY"]' if is_full else '["AAPL"]',
            "TRADE_ANALYST_CAPTURE__WORKERS": "1",
        }
        started = time.monotonic()
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            done = subprocess.run(
                [sys.executable, str(SCENARIO)],
                cwd=folder,
                env=os.environ | environment,
                input=json.dumps(scene).encode(),
                stdout=out,
                stderr=err,
                timeout=600 if is_full else 200,
                check=False,
            )
    secrets = {name: {value} for name, value in GIVEN.items()} | {"fernet_key": {fernet_key}}
    secrets |= {name: desk.seen[name] for name in SEEN}
    return Aftermath(folder, done.returncode, secrets, time.monotonic() - started)


QUICK_RUNS = {
    "everything": ["raw/options", "tables/options", "metrics/put_call_ratio", "exports/metrics", "leaky"],
}
FULL_RUNS = {
    "history": CHAIN_ASSETS,
    "snapshots": QUOTE_ASSETS,
    "reference": REFERENCE_ASSETS,
    "end_of_day": END_OF_DAY_ASSETS,
    **QUICK_RUNS,
}
FULL_COMMANDS = [
    ["healthcheck", "--json"],
    ["token", "status", "--json"],
    ["token", "refresh"],
    ["token", "revoke"],
    ["login"],
    ["rebuild", "--workers", "1"],
    ["query", "select symbol, iv from metrics.iv_history", "--json"],
    ["export", "metrics.iv_history", "--format", "xlsx"],
]


def ended_as_written(aftermath: Aftermath) -> str:
    """That the process came to its end and crashed there; its standard error."""
    shown = (aftermath.folder / "stderr").read_text(errors="replace")
    assert (aftermath.folder / "done").exists(), shown[-4000:]
    assert aftermath.code == 1
    return shown


@pytest.mark.reliability
def test_no_secret_is_left_behind(repository: Path, tmp_path: Path, is_full: bool) -> None:
    """Fifteen kinds of secret in four encodings: none in any log, database, archive, table, export or crash.

    The control, beside it: the same with the mask off leaves secrets of every kind in every sink that can hold text.
    """
    folders = {True: tmp_path / "masked", False: tmp_path / "bare"}

    def run(is_masked: bool) -> Aftermath:
        folders[is_masked].mkdir()
        return run_scenario(repository, folders[is_masked], is_masked=is_masked, is_full=is_full)

    with ThreadPoolExecutor(2) as pool:
        masked, bare = pool.map(run, folders)
    check_masked(masked)
    check_bare(bare)


def check_masked(aftermath: Aftermath) -> None:
    """No secret, in no sink, and every sink was looked at."""
    shown = ended_as_written(aftermath)
    assert all(aftermath.secrets.values()), {name for name, values in aftermath.secrets.items() if not values}
    assert "RuntimeError: the end, with {'app_key': '[secret]'" in shown
    hits, looked_at = aftermath.scan()
    values = sum(map(len, aftermath.secrets.values()))
    print(f"{values} values of {len(aftermath.secrets)} secrets in {len(leak_scan.ENCODINGS)} encodings", end=", ")
    print(f"{sum(looked_at.values()) / 1e6:.1f} MB in {len(looked_at)} sinks: {sum(hits.values())} hits", end="; ")
    print(f"the process took {aftermath.seconds:.1f} s")
    for sink, size in sorted(looked_at.items()):
        print(f"  {sink}: {size:,} bytes")
    assert looked_at.keys() >= SINKS
    assert dict(hits) == {}


def check_bare(aftermath: Aftermath) -> None:
    """The control has to fail what the masked process has to pass."""
    ended_as_written(aftermath)
    hits, _ = aftermath.scan()
    by_sink = Counter({sink: sum(count for hit, count in hits.items() if hit[2] == sink) for _, _, sink in hits})
    print(f"without the mask: {len(hits)} kinds of hit; by sink {dict(by_sink)}")
    assert len(hits) >= 5
    assert by_sink.keys() >= {"stderr", "debug.log", "Dagster events", "Dagster runs and ticks", "compute logs", "raw"}
    assert {hit[0] for hit in hits} >= {*GIVEN, "fernet_key", "access_token", "refresh_token", "code", "basic_header"}
    assert {hit[1] for hit in hits} == set(leak_scan.ENCODINGS)


def test_scan_finds_each_encoding_in_each_kind_of_file(tmp_path: Path) -> None:
    """A secret put into a text, a database, a packed value and a table is found there, in the encoding it has."""
    secret = 'a/secret+with "quotes"'
    encoded = base64.b64encode(f"user:{secret}!".encode())
    (tmp_path / "log").write_bytes(b"x " + encoded)
    (tmp_path / "url").write_text("?v=a%2Fsecret%2Bwith%20%22quotes%22")
    with closing(sqlite3.connect(tmp_path / "rows.db")) as connection:
        connection.execute("CREATE TABLE t (a TEXT, b BLOB)")
        connection.execute("INSERT INTO t VALUES (?, ?)", (json.dumps(secret), zlib.compress(secret.encode())))
        connection.commit()
    pl.DataFrame({"a": [secret]}).write_parquet(tmp_path / "table.parquet", compression="zstd")
    hits, _ = leak_scan.scan(tmp_path, {"it": {secret}})
    found = {(encoding, sink) for _, encoding, sink in hits}
    assert found >= {
        ("base64", "log"),
        ("url", "url"),
        ("json", "rows.db"),
        ("raw", "rows.db"),
        ("json", "table.parquet"),
    }
