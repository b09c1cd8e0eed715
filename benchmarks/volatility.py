"""Black-Scholes-Merton volatilities, prices and Greeks beside iv-engine, vollib and QuantLib, on the same options.

Times are processor time of all threads, the least of several runs that take turns. iv-engine takes undiscounted prices,
and one type to a call: it is given calls and puts apart and undiscounted already, which is not timed. vollib and
QuantLib are called once an option, on a sample. Errors are of out-of-the-money options, against 40 digits on the very
doubles that were passed.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import iv_engine
import mpmath
import numpy as np
import numpy.typing as npt
import QuantLib as ql  # noqa: N813
from vollib.black.greeks import analytical
from vollib.black.implied_volatility import implied_volatility as vollib_volatility

from benchmarks.cold_start import cold_starts
from benchmarks.row import Row
from trade_analyst_pipeline.metrics.implied_volatility import black_greeks, black_volatility

Options = dict[str, npt.NDArray[Any]]

COUNT, SAMPLE, CHECKED = 1_000_000, 5_000, 10_000
RUNS, THREAD_RUNS = 5, 15
SEED = 20250312
DIGITS = 40
DEVIATIONS = 3.0
LIMIT_NANOSECONDS, LIMIT_ERROR, LIMIT_MEMORY = 200.0, 1e-13, 1.5
IV_ENGINE, VOLLIB, QUANTLIB = (f"{name} {version(name)}" for name in ("iv-engine", "vollib", "QuantLib"))
_KNOWN = ("forward", "strike", "years", "discount_factor", "is_call")


def options(count: int, *, is_out: bool = False) -> Options:
    """Calls and puts of a day to two years at 5 to 200 %, up to three deviations off the forward, yields up to 3 %."""
    noise = np.random.default_rng(SEED)
    years = np.exp(noise.uniform(math.log(1 / 365), math.log(2.0), count))
    volatility = np.exp(noise.uniform(math.log(0.05), math.log(2.0), count))
    rate, dividend = noise.uniform(0, 0.05, count), noise.uniform(0, 0.03, count)
    spot = np.exp(noise.uniform(math.log(5.0), math.log(5000.0), count))
    forward = spot * np.exp((rate - dividend) * years)
    off = noise.uniform(-DEVIATIONS, DEVIATIONS, count)
    given = {
        "volatility": volatility,
        "forward": forward,
        "strike": forward * np.exp(off * volatility * np.sqrt(years)),
        "years": years,
        "discount_factor": np.exp(-rate * years),
        "spot": spot,
        "is_call": off >= 0 if is_out else noise.random(count) < 0.5,
    }
    return given | {"price": black_greeks(**given).price}


def volatility_rows() -> Iterator[Row]:
    """Speed, error, threads, memory and first calls."""
    given = options(COUNT)
    yield from _inversion_rows(given)
    yield from _error_rows(options(CHECKED, is_out=True))
    yield from _size_rows(given)
    yield from _greeks_rows(given)
    for found in cold_starts():
        for when, wall, processor in (
            ("the first after set-up", found.first_wall, found.first_processor),
            ("of a later process", found.later_wall, found.later_processor),
        ):
            yield _row(f"first call of {found.name}, {when}", f"{wall:.1f} s, processor {processor:.1f} s")


def _inversion_rows(given: Options) -> Iterator[Row]:
    count = len(given["price"])
    halves = [(given["is_call"] == is_call, is_call) for is_call in (True, False)]
    columns = [(_undiscounted(given, where), is_call) for where, is_call in halves]
    known = {name: given[name] for name in _KNOWN}
    ours, peer = _least_processor_seconds(
        lambda: black_volatility(given["price"], **known, threads=1),
        lambda: [iv_engine.implied_volatilities(*each, is_call, False) for each, is_call in columns],
    )
    name = f"volatility of an option, {count:,} calls and puts, processor time"
    nanoseconds = 1e9 * ours / count
    yield _row(name, f"{nanoseconds:.0f} ns", f"limit {LIMIT_NANOSECONDS:.0f} ns", nanoseconds / LIMIT_NANOSECONDS)
    yield _row("  beside", f"{nanoseconds:.0f} ns", f"{IV_ENGINE} {1e9 * peer / count:.0f} ns", ours / peer)
    rows = _sample(given, ("price", "forward", "strike", "discount_factor", "years", "is_call"))
    (scalar,) = _least_processor_seconds(lambda: [_vollib_volatility(*row) for row in rows])
    each = scalar / len(rows)
    yield _row("  beside", f"{nanoseconds:.0f} ns", f"{VOLLIB} {1e9 * each:,.0f} ns", ours / count / each)


def _error_rows(given: Options) -> Iterator[Row]:
    """Ours, with and without iv-engine's, sorted: the median, the 99.9th percentile and the greatest."""
    known = {name: given[name] for name in _KNOWN}
    found, _ = black_volatility(given["price"], **known)
    theirs = np.empty_like(found)
    for is_call in (True, False):
        where = given["is_call"] == is_call
        theirs[where] = iv_engine.implied_volatilities(*_undiscounted(given, where), is_call, False)
    # iv-engine takes the price undiscounted: its truth is that of the double it was given
    plain = given | {"price": given["price"] / given["discount_factor"], "discount_factor": np.ones_like(found)}
    ours, peer = relative_errors(given, found), relative_errors(plain, theirs)
    for what, share in (("median", 0.5), ("99.9 %", 0.999), ("greatest", 1.0)):
        mine, other = float(np.quantile(ours, share)), float(np.quantile(peer, share))
        name = f"  its relative error out of the money, {len(found):,} against {DIGITS} digits: {what}"
        yield _row(name, f"{mine:.1e}", f"{IV_ENGINE} {other:.1e}", mine / other)
    worst = float(ours.max())
    yield _row("  greatest beside its limit", f"{worst:.1e}", f"limit {LIMIT_ERROR:.0e}", worst / LIMIT_ERROR)


def relative_errors(given: Options, found: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far each volatility lies from the exact root of its price, as a share of that; inf where there is none."""
    rows = zip(*(given[name].tolist() for name in ("price", *_KNOWN)), found.tolist(), strict=True)
    with mpmath.workdps(DIGITS):
        return np.array([_relative_error(*row) for row in rows])


def _relative_error(
    price: float, forward: float, strike: float, years: float, discount: float, is_call: bool, found: float
) -> float:
    if not found > 0:
        return math.inf
    sign, root, moneyness = (1 if is_call else -1), mpmath.sqrt(years), mpmath.log(mpmath.mpf(forward) / strike)
    truth = mpmath.mpf(found)
    for _ in range(3):  # Newton's steps, each squares the error
        s = truth * root
        d1 = moneyness / s + s / 2
        value = sign * (forward * mpmath.ncdf(sign * d1) - strike * mpmath.ncdf(sign * (d1 - s)))
        truth -= (value - mpmath.mpf(price) / discount) / (forward * mpmath.npdf(d1) * root)
    return float(abs(found / truth - 1))


def _size_rows(given: Options) -> Iterator[Row]:
    known = {name: given[name] for name in _KNOWN}
    seconds = {}
    for _ in range(THREAD_RUNS):
        for threads in (1, 2):
            start = time.perf_counter()
            black_volatility(given["price"], **known, threads=threads)
            seconds[threads] = min(seconds.get(threads, math.inf), time.perf_counter() - start)
    yield _row(
        "  elapsed, two threads", _milliseconds(seconds[2]), f"one {_milliseconds(seconds[1])}", seconds[2] / seconds[1]
    )
    inputs = sum(column.nbytes for column in (given["price"], *known.values()))
    tracemalloc.start()
    black_volatility(given["price"], **known)
    _, added = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    peak = (inputs + added) / inputs
    yield _row(
        "  peak memory (tracemalloc), inputs included",
        f"{peak:.2f} x inputs",
        f"limit {LIMIT_MEMORY} x",
        peak / LIMIT_MEMORY,
    )


def _greeks_rows(given: Options) -> Iterator[Row]:
    """All six figures beside those that make all six; beside the four of iv-engine, which has no theta and rho."""
    count = len(given["price"])
    known = {name: column for name, column in given.items() if name != "price"}
    names = ("forward", "strike", "years", "volatility")
    halves = [(given["is_call"] == is_call, is_call) for is_call in (True, False)]
    columns = [([given[name][where] for name in names], is_call) for where, is_call in halves]
    ours, four = _least_processor_seconds(
        lambda: black_greeks(**known, threads=1), lambda: [_four_of_iv_engine(*each) for each in columns]
    )
    nanoseconds = 1e9 * ours / count
    yield _row(
        f"price and five Greeks of an option, {count:,} of them, processor time",
        f"{nanoseconds:.0f} ns",
        f"{IV_ENGINE} {1e9 * four / count:.0f} ns without theta and rho (aim 0.5)",
        ours / four,
    )
    sample = _sample(given, ("volatility", "forward", "strike", "discount_factor", "years", "spot", "is_call"))
    for name, six in ((QUANTLIB, _six_of_quantlib), (VOLLIB, _six_of_vollib)):
        (seconds,) = _least_processor_seconds(lambda six=six: [six(*row) for row in sample])
        each = seconds / len(sample)
        yield _row("  beside", f"{nanoseconds:.0f} ns", f"{name} {1e9 * each:,.0f} ns", ours / count / each)


def _four_of_iv_engine(columns: list[npt.NDArray[np.float64]], is_call: bool) -> None:
    iv_engine.black_prices(*columns, is_call, False)
    iv_engine.deltas(*columns, is_call, False)
    iv_engine.gammas(*columns, False)
    iv_engine.vegas(*columns, False)


def _six_of_quantlib(
    volatility: float, forward: float, strike: float, discount: float, years: float, spot: float, is_call: bool
) -> tuple[float, ...]:
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if is_call else ql.Option.Put, strike)
    made = ql.BlackCalculator(payoff, forward, volatility * math.sqrt(years), discount)
    return (
        made.value(),
        made.delta(spot),
        made.gamma(spot),
        made.vega(years),
        made.theta(spot, years),
        made.rho(years),
    )


def _six_of_vollib(
    volatility: float, forward: float, strike: float, discount: float, years: float, _spot: float, is_call: bool
) -> tuple[float, ...]:
    flag, rate = ("c" if is_call else "p"), -math.log(discount) / years
    given = (flag, forward, strike, years, rate, volatility)
    greeks = (analytical.delta, analytical.gamma, analytical.vega, analytical.theta, analytical.rho)
    return (analytical.black(flag, forward, strike, years, rate, volatility), *(greek(*given) for greek in greeks))


def _vollib_volatility(
    price: float, forward: float, strike: float, discount: float, years: float, is_call: bool
) -> float:
    return vollib_volatility(price, forward, strike, -math.log(discount) / years, years, "c" if is_call else "p")


def _undiscounted(given: Options, where: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.float64]]:
    price = given["price"] / given["discount_factor"]
    return [column[where] for column in (price, given["forward"], given["strike"], given["years"])]


def _sample(given: Options, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Options whose time value does not vanish in their price, which scalar packages refuse."""
    sign = np.where(given["is_call"], 1.0, -1.0)
    intrinsic = np.maximum(given["discount_factor"] * sign * (given["forward"] - given["strike"]), 0)
    usable = np.flatnonzero(given["price"] > intrinsic * (1 + 1e-12))[:SAMPLE]
    return list(zip(*(given[name][usable].tolist() for name in names), strict=True))


def _least_processor_seconds(*runs: Callable[[], object]) -> list[float]:
    least = [math.inf] * len(runs)
    for _ in range(RUNS):
        for place, run in enumerate(runs):
            start = time.process_time()
            run()
            least[place] = min(least[place], time.process_time() - start)
    return least


def _row(name: str, ours: str, other: str = "", ratio: float | None = None) -> Row:
    return Row(name, "volatility", ours, other, ratio)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
