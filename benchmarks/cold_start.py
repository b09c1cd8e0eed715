"""What the first call of compiled arithmetic costs a process: with nothing compiled yet, and with what others compiled.

Each call runs in processes of its own, the first with an empty folder of compiled code, the next with what it left.
Importing Polars and our module is not counted; loading the compiler is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

LATER_RUNS = 3
_FORWARD = """
from benchmarks.cold_start import expiry
from trade_analyst_pipeline.metrics.forward import forward
options = expiry()
"""
_OPTION = "forward=100.0, strike=100.0, years=0.5, discount_factor=0.99, is_call=True"
# Each call with what has to be there before it.
CALLS = {
    "black_volatility": (
        "from trade_analyst_pipeline.metrics.implied_volatility import black_volatility",
        f"black_volatility(5.0, {_OPTION})",
    ),
    "black_greeks": (
        "from trade_analyst_pipeline.metrics.implied_volatility import black_greeks",
        f"black_greeks(0.2, spot=99.0, {_OPTION})",
    ),
    "american_volatility": (
        "from trade_analyst_pipeline.metrics.american_volatility import american_volatility",
        f"american_volatility(5.0, spot=99.0, {_OPTION})",
    ),
    "forward": (_FORWARD, "forward(options)"),
}
_TIMED = """
import time
{before}
wall, processor = time.perf_counter(), time.process_time()
{call}
print(time.perf_counter() - wall, time.process_time() - processor)
"""


@dataclass(frozen=True)
class ColdStart:
    """Seconds of the first call, with nothing compiled and later (the least of several processes)."""

    name: str
    first_wall: float
    first_processor: float
    later_wall: float
    later_processor: float


def cold_starts() -> Iterator[ColdStart]:
    """One figure per call."""
    for name, (before, call) in CALLS.items():
        with tempfile.TemporaryDirectory() as folder:
            program = _TIMED.format(before=before, call=call)
            first = _run(program, folder)
            later = [_run(program, folder) for _ in range(LATER_RUNS)]
        yield ColdStart(name, *first, min(wall for wall, _ in later), min(processor for _, processor in later))


def _run(program: str, folder: str) -> tuple[float, float]:
    environment = os.environ | {"NUMBA_CACHE_DIR": folder}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    wall, processor = map(float, done.stdout.split())
    return wall, processor


def expiry() -> pl.DataFrame:
    """The rows of `options` of one expiry of ten strikes."""
    return pl.DataFrame(
        [
            {
                "symbol": "$XYZ",
                "session_date": date(2025, 3, 12),
                "snapshot_time": datetime(2025, 3, 12, 19, 55, tzinfo=UTC),
                "chain_scope": "full",
                "option_symbol": f"XYZ   250912{letter}{1000 * strike:08}",
                "option_root": "XYZ",
                "option_type": letter,
                "expiration_date": date(2025, 9, 12),
                "expiration_time": datetime(2025, 9, 12, 20, tzinfo=UTC),
                "settlement_type": "P",
                "exercise_type": "E",
                "strike": float(strike),
                "quote_status": "ok",
                "bid": 1.95 + max(sign * (102.0 - strike), 0.0),
                "ask": 2.05 + max(sign * (102.0 - strike), 0.0),
                "underlying_price": 101.0,
                "underlying_bid": 100.9,
                "underlying_ask": 101.1,
                "interest_rate": 0.05,
                "is_non_standard": False,
            }
            for strike in range(80, 130, 5)
            for letter, sign in (("C", 1), ("P", -1))
        ]
    )
