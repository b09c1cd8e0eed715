"""The bought share of each bar's volume from its price change alone, by a normal or a Student distribution."""

from __future__ import annotations

import math

from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import FLOATS, READ_FLOATS, READ_INTEGERS, Floats, Integers

_MOST_STEPS = 10_000


@njit(cache=True, nogil=True)
def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


@njit(cache=True, nogil=True)
def _student(z: float, freedom: float) -> float:
    """Half the regularised incomplete beta function of v/2, 1/2 at v / (v + z²) is the tail beyond z."""
    x = freedom / (freedom + z * z)
    tail = 0.5 * _incomplete_beta(0.5 * freedom, 0.5, x)
    return tail if z < 0.0 else 1.0 - tail


@njit(cache=True, nogil=True)
def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The continued fraction of DLMF 8.17.22, on the side where it converges fast."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # evaluated forwards as numerator / denominator, both rescaled at each step (Lentz)
    ratio, c, d = 1.0, 1.0, 0.0
    for step in range(_MOST_STEPS):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        d = 1.0 / (1.0 + term * d)
        c = 1.0 + term / c
        ratio *= c * d
        if step > 0 and abs(c * d - 1.0) < 1e-15:
            break
    return front * (ratio - 1.0) / a


@njit(types.void(READ_FLOATS, READ_INTEGERS, types.float64, FLOATS), cache=True, nogil=True)
def bulk_shares(closes: Floats, starts: Integers, freedom: float, shares: Floats) -> None:
    """Into `shares`, Z(change / deviation) of each bar; -1 for fewer than two changes, -2 where the deviation is 0.

    The deviation is that of the changes of the group up to and with this one, n - 1 in the denominator. `starts` are
    the first rows of the groups, then the number of rows. A `freedom` of 0 is the normal distribution. A close that is
    not finite has no share (-1), and no change is made across it.
    """
    for g in range(len(starts) - 1):
        count, mean, squares = 0, 0.0, 0.0
        for i in range(starts[g], starts[g + 1]):
            shares[i] = -1.0
            if i == starts[g]:
                continue
            change = closes[i] - closes[i - 1]
            if not math.isfinite(change):
                continue
            count += 1
            distance = change - mean
            mean += distance / count
            squares += distance * (change - mean)
            if count < 2:
                continue
            deviation = math.sqrt(squares / (count - 1))
            if deviation <= 0.0:
                shares[i] = -2.0
            else:
                z = change / deviation
                shares[i] = _student(z, freedom) if freedom > 0.0 else _normal(z)
