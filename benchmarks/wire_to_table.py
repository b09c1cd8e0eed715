"""A whole chain from its bytes to its validated table, beside what a Python user does today: json, pandas and checks.

Time against the faster of two full decodes; memory as the kernel counts it, each way in a process of its own. The
pandas way is what schwab-py hands over (`response.json()`) made into one frame with the same units, nulls, dates and
checks within a row and by key; checks between contracts of a chain, which ours makes too, it leaves out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pandas as pd

from benchmarks.normalize import INSTANT, chain_responses
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.validation import validate

ROUNDS = 7
WARM_SYMBOL = "AAPL"
_SIDES = ("callExpDateMap", "putExpDateMap")
_GREEKS = ["delta", "gamma", "theta", "vega", "rho", "volatility", "theoreticalVolatility"]
_PRICES = ["bid", "ask", "last", "mark", "openPrice", "highPrice", "lowPrice", "closePrice", "high52Week", "low52Week"]
_CATEGORIES = ["putCall", "exchangeName", "expirationType", "settlementType", "optionRoot", "exerciseType"]


@dataclass(frozen=True)
class WireFigures:
    """Microseconds per contract by way, the best of rounds in turn; memory grown over the size of the bodies."""

    contracts: int
    body_bytes: int
    elapsed: dict[str, float]
    processor: dict[str, float]
    memory: dict[str, float]

    @staticmethod
    def faster_decode(times: dict[str, float]) -> str:
        """The way that only decodes, and does it faster."""
        return min(("msgspec", "orjson"), key=times.__getitem__)


def ours(responses: Iterable[RawResponse]) -> int:
    """Valid rows, by the pipeline's own way."""
    table = options.normalize(responses, session_date=INSTANT.date())
    return validate(table.frame, options.SCHEMA).valid.height


def by_pandas(responses: Iterable[RawResponse]) -> int:
    """Valid rows, by way of json and pandas."""
    rows = []
    for response in responses:
        chain = json.loads(response.body)
        head = {f"chain_{name}": chain[name] for name in ("symbol", "interestRate", "dividendYield", "underlyingPrice")}
        head |= {
            f"underlying_{name}": chain["underlying"][name] for name in ("bid", "ask", "last", "mark", "quoteTime")
        }
        rows += [
            {**contract, **head}
            for side in _SIDES
            for strikes in chain[side].values()
            for listed in strikes.values()
            for contract in listed
        ]
    frame = _typed(pd.DataFrame(rows))
    return int(_checks(frame).sum())


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Dates, categories and nulls as a table for work has them."""
    for name in ("quoteTimeInLong", "tradeTimeInLong", "underlying_quoteTime"):
        frame[name] = pd.to_datetime(frame[name].where(frame[name] > 0), unit="ms", utc=True)
    frame["lastTradingDay"] = pd.to_datetime(frame["lastTradingDay"], unit="ms", utc=True).dt.tz_convert("US/Eastern")
    expires = pd.to_datetime(frame["expirationDate"], format="ISO8601", utc=True)
    frame["expirationTime"] = expires
    frame["expirationDate"] = expires.dt.tz_convert("US/Eastern").dt.normalize().dt.tz_localize(None)
    for name in _GREEKS:
        frame[name] = pd.to_numeric(frame[name], errors="coerce").where(lambda values: values.abs() < 999)
    for name in _PRICES:
        frame[name] = frame[name].where(frame[name] > 0)
    frame["volatility"] /= 100
    frame[_CATEGORIES] = frame[_CATEGORIES].astype("category")
    listed = frame.pop("optionDeliverablesList")
    frame["deliverables"] = [
        "; ".join(f"{thing['deliverableUnits']:.15g} {thing['symbol']} {thing['assetType']}" for thing in things)
        for things in listed
    ]
    crossed = frame["bid"] > frame["ask"]
    frame["quoteStatus"] = np.where(crossed, "crossed", np.where(frame["bid"].isna(), "no_bid", "usable"))
    frame.loc[crossed, ["bid", "ask"]] = np.nan
    return frame


def _checks(frame: pd.DataFrame) -> pd.Series:
    """True for rows that break none of the rules that quarantine; the warnings are reckoned and counted too."""
    is_call, symbol = frame["putCall"] == "CALL", frame["symbol"]
    written_date = pd.to_datetime(symbol.str.slice(6, 12), format="%y%m%d", errors="coerce")
    written_strike = pd.to_numeric(symbol.str.slice(13, 21), errors="coerce") / 1000
    today = pd.Timestamp(INSTANT.date())
    numbers = frame.select_dtypes("number")
    errors = [
        frame[["symbol", "strikePrice", "expirationDate", "putCall"]].notna().all(axis=1),
        ~np.isinf(numbers).any(axis=1),
        ~frame.duplicated("symbol", keep=False),
        frame["expirationDate"] >= today,
        (symbol.str.len() == 21)
        & (written_date == frame["expirationDate"])
        & (symbol.str.slice(12, 13) == np.where(is_call, "C", "P"))
        & np.isclose(written_strike, frame["strikePrice"]),
        frame["multiplier"] > 0,
        frame[["bidSize", "askSize", "totalVolume", "openInterest"]].ge(0).all(axis=1),
    ]
    years = (frame["expirationTime"] - pd.Timestamp(INSTANT)).dt.total_seconds().clip(lower=0) / (365 * 86_400)
    spot, strike = frame["chain_underlyingPrice"], frame["strikePrice"]
    carried_spot = spot * np.exp(-frame["chain_dividendYield"] / 100 * years)
    carried_strike = strike * np.exp(-frame["chain_interestRate"] / 100 * years)
    least = np.where(is_call, carried_spot - carried_strike, carried_strike - carried_spot)
    per_gamma = spot**2 * frame["volatility"] / 100
    warnings = [
        symbol.str.slice(0, 6).str.rstrip() == frame["optionRoot"].astype(str),
        (frame["expirationDate"] - today).dt.days == frame["daysToExpiration"],
        frame["delta"].where(is_call, -frame["delta"]).between(-0.001, 1.001),
        frame["gamma"] >= 0,
        frame["vega"] >= 0,
        frame["rho"].where(is_call, -frame["rho"]) >= 0,
        (frame["vega"] - per_gamma * frame["gamma"] * years).abs() <= 0.05 * frame["vega"] + 0.001,
        frame["volatility"] > 0.01,
        frame["ask"] >= least - 0.01,
        frame["bid"] <= np.where(is_call, carried_spot, carried_strike) + 0.01,
    ]
    for warning in warnings:
        int((~warning).sum())
    return pd.concat(errors, axis=1).all(axis=1)


WAYS: dict[str, Callable[[Iterable[RawResponse]], object]] = {
    "ours": ours,
    "pandas": by_pandas,
    "msgspec": lambda responses: [msgspec.json.decode(response.body) for response in responses],
    "orjson": lambda responses: [orjson.loads(response.body) for response in responses],
}


def measure_wire_to_table(*, seed: int = 7, rounds: int = ROUNDS) -> WireFigures:
    """The figures of the largest chain of the simulator; every row has to be valid either way, else AssertionError."""
    responses = chain_responses(seed=seed)
    contracts = sum(orjson.loads(response.body)["numberOfContracts"] for response in responses)
    assert ours(responses) == by_pandas(responses) == contracts
    elapsed: dict[str, list[float]] = {name: [] for name in WAYS}
    processor: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):  # in turn, so that what else the machine does meets all of them
        for name, work in WAYS.items():
            begin, began = time.perf_counter(), time.process_time()
            work(responses)
            processor[name].append((time.process_time() - began) * 1e6 / contracts)
            elapsed[name].append((time.perf_counter() - begin) * 1e6 / contracts)
    size = sum(len(response.body) for response in responses)
    memory = {name: grown_bytes(name, responses) / size for name in WAYS}
    return WireFigures(contracts, size, _least(elapsed), _least(processor), memory)


def _least(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: min(found) for name, found in times.items()}


def grown_bytes(name: str, responses: Sequence[RawResponse]) -> int:
    """How much a process of its own grew at most, from before it had the bodies, by one way from bytes to table."""
    with tempfile.TemporaryDirectory(prefix="wire-to-table-") as folder:
        for number, response in enumerate(responses):
            Path(folder, f"{number}.json").write_bytes(response.body)
            Path(folder, f"{number}.params").write_bytes(msgspec.json.encode(response.request.params))
        command = [sys.executable, "-m", "benchmarks.wire_to_table", name, folder]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _grown_here(name: str, folder: Path) -> int:
    """Work once on a small chain, so that the libraries are loaded and warm, then on the bodies of the folder."""
    work = WAYS[name]
    work(chain_responses(seed=7, symbol=WARM_SYMBOL))
    before = _kibibytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's mark of the most so far starts anew
    result = work(_read(folder))
    del result
    return (_kibibytes("VmHWM") - before) * 1024


def _read(folder: Path) -> Iterator[RawResponse]:
    """The responses of the folder, one at a time as the archive gives them."""
    for path in sorted(folder.glob("*.json")):
        params = msgspec.json.decode(path.with_suffix(".params").read_bytes(), type=tuple[tuple[str, str], ...])
        request = MarketDataRequest(options.NAME, options.PATH, params, ("$SPX",))
        yield RawResponse(request, 200, path.read_bytes(), (), INSTANT, INSTANT)


def _kibibytes(field: str) -> int:
    (found,) = re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(_grown_here(sys.argv[1], Path(sys.argv[2])))
    else:
        print(measure_wire_to_table())
