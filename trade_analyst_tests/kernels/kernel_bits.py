"""Print the bits that the kernels give for 200 options of a seed, as text: `python kernel_bits.py SEED`."""

import random
import sys

import numpy as np

from trade_analyst_pipeline.kernels.black_scholes import normalised_price
from trade_analyst_pipeline.kernels.elementary import exp, log
from trade_analyst_pipeline.kernels.greeks import evaluate
from trade_analyst_pipeline.kernels.inversion import invert
from trade_analyst_pipeline.kernels.normal import cdf

COUNT = 200


def main(seed: int) -> None:
    """Price options by the normalised form, invert them, and print both with exp, log, cdf and Greeks of them."""
    chance = random.Random(seed)  # noqa: S311
    total = np.array([chance.uniform(0.01, 0.4) ** 2 * 10 for _ in range(COUNT)])
    x = np.array([chance.uniform(1e-3, 6.0) for _ in range(COUNT)]) * total
    beta = np.array([normalised_price(float(a) / 2, float(s)) for a, s in zip(x, total, strict=True)])
    forward = np.full(COUNT, 100.0)
    strike = np.array([100.0 * exp(float(a)) for a in x])
    price = beta * np.sqrt(forward) * np.sqrt(strike)
    volatility, reason = np.empty(COUNT), np.empty(COUNT, dtype=np.int8)
    ones, calls = np.ones(COUNT), np.ones(COUNT, dtype=np.bool_)
    invert(price, forward, strike, ones, ones, calls, 0.0, volatility, reason)
    others = [(log(float(a)), cdf(-float(a))) for a in x]
    greeks = [np.empty(COUNT) for _ in range(6)]
    evaluate(volatility, forward, strike, ones * 0.99, ones, ones * 99.0, calls, *greeks)
    columns = (beta, volatility, *np.array(others).T, *greeks)
    print(" ".join(float(value).hex() for column in columns for value in column), reason.tolist())


if __name__ == "__main__":
    main(int(sys.argv[1]))
