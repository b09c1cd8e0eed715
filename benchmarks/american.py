"""American options: price and volatility beside QuantLib's QD+ fixed-point engine, processor time, on the same options.

The peer's engine is timed in its usual form and held, as ours is, against the same engine iterated to the end. Both
are called once an option; ours takes columns.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import QuantLib as ql  # noqa: N813

from trade_analyst_pipeline.metrics.american_volatility import american_price, american_volatility

COUNT = 400
SEED = 20250112


@dataclass(frozen=True)
class American:
    """Processor seconds an option, and the largest difference from the engine iterated to the end, in dollars."""

    count: int
    price: float
    peer_price: float
    error: float
    peer_error: float
    volatility: float


def american_figures(count: int = COUNT) -> American:
    """Random options on a spot of 100: a day to three years, volatilities of 5 to 150 %, either side of the money."""
    noise = np.random.default_rng(SEED)
    rate, dividend = noise.uniform(0, 0.1, count), noise.uniform(0, 0.1, count) * (noise.random(count) > 0.3)
    days, is_call = noise.integers(1, 1100, count), noise.random(count) < 0.5
    sigma, strike = (
        np.exp(noise.uniform(math.log(0.05), math.log(1.5), count)),
        100 * np.exp(noise.normal(0, 0.25, count)),
    )
    years = days / 365
    known = {
        "spot": np.full(count, 100.0),
        "forward": 100 * np.exp((rate - dividend) * years),
        "strike": strike,
        "years": years,
        "discount_factor": np.exp(-rate * years),
        "is_call": is_call,
    }
    american_price(0.3, **{name: column[:1] for name, column in known.items()})
    american_volatility(5.0, **{name: column[:1] for name, column in known.items()})
    start = time.process_time()
    price = american_price(sigma, **known)
    ours = time.process_time() - start
    start = time.process_time()
    american_volatility(price, **known)
    inverted = time.process_time() - start
    rows = list(zip(strike, rate, dividend, sigma, days, is_call, strict=True))
    peer, seconds = _quantlib(rows, ql.QdFpAmericanEngine.accurateScheme())
    true, _ = _quantlib(rows, ql.QdFpTanhSinhIterationScheme(30, 40, 1e-10))
    off, peer_off = float(np.abs(price - true).max()), float(np.abs(peer - true).max())
    return American(count, ours / count, seconds / count, off, peer_off, inverted / count)


def _quantlib(rows: list[tuple[float, ...]], scheme: ql.QdFpIterationScheme) -> tuple[np.ndarray, float]:
    today, count = ql.Date(2, 1, 2025), ql.Actual365Fixed()
    ql.Settings.instance().evaluationDate = today
    spot, rate, dividend, sigma = (ql.SimpleQuote(value) for value in (100.0, 0.0, 0.0, 0.0))
    flat = [
        ql.YieldTermStructureHandle(ql.FlatForward(today, ql.QuoteHandle(each), count)) for each in (dividend, rate)
    ]
    smile = ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), ql.QuoteHandle(sigma), count))
    engine = ql.QdFpAmericanEngine(ql.BlackScholesMertonProcess(ql.QuoteHandle(spot), *flat, smile), scheme)
    found = []
    start = time.process_time()
    for strike, r, q, volatility, days, is_call in rows:
        rate.setValue(r)
        dividend.setValue(q)
        sigma.setValue(volatility)
        payoff = ql.PlainVanillaPayoff(ql.Option.Call if is_call else ql.Option.Put, strike)
        option = ql.VanillaOption(payoff, ql.AmericanExercise(today, today + int(days)))
        option.setPricingEngine(engine)
        found.append(option.NPV())
    return np.array(found), time.process_time() - start


if __name__ == "__main__":
    print(american_figures())
