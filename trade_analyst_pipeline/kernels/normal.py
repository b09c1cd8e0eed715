"""The normal distribution to double precision, tails included: density, distribution and Mills' ratio.

With M(n, z) = integral of u**n exp(-z u - u**2 / 2) over u > 0: M(0, z) is Mills' ratio N(-z) / n(z), and
M(1, z) = 1 - z M(0, z) without the cancellation. Both are one polynomial each in (z - 5) / (z + 5) over all z >= 0:
(z + 0.8) M(0, z) and (z**2 + 1.25 z + 1) M(1, z), which stay near 1, expanded in Chebyshev polynomials with 50 digits,
cut where the rest is below 2e-17, and written out in powers.
"""

from __future__ import annotations

import math

from numba import njit

from trade_analyst_pipeline.kernels.elementary import exp

SQRT_2_PI = 2.5066282746310002

# Coefficients of even and of odd powers, the highest first: two chains that a processor works on at once.
_RATIO_EVEN = (
    -6.443183106005331e-10,
    8.384640770911835e-09,
    -6.073477795860837e-08,
    2.822420843840214e-07,
    1.6187848011868206e-07,
    -2.813676522815537e-05,
    0.00048733774618552826,
    -0.004311356742293892,
    -0.0425341969162248,
    -0.09016871660465973,
    0.019593325733480715,
    1.1182870073488314,
)
_RATIO_ODD = (
    -9.87623205705202e-10,
    1.1424331366959728e-08,
    -8.059455627237263e-08,
    5.117618306266175e-07,
    -3.399348634968401e-06,
    2.3346354340422428e-05,
    -0.00013485620957560864,
    -4.778578775779148e-05,
    0.01754080698611479,
    0.07324303483655334,
    0.065621342044048,
    -0.15756858540527083,
)
_MOMENT_EVEN = (
    2.2034645877627644e-09,
    -2.5399314807387102e-08,
    1.6556673798720649e-07,
    -8.892055585475768e-07,
    4.760157561749244e-06,
    -2.7473427207385237e-05,
    0.0001659089273540662,
    -0.0008781966582340035,
    0.0012022910306515818,
    0.05153474753708156,
    0.06508010825634492,
    -0.15550281017848083,
    -0.12127170346573378,
    1.1596931146553329,
)
_MOMENT_ODD = (
    9.36088919540544e-10,
    -1.4734543680206158e-08,
    1.2586418183098447e-07,
    -7.797547870469159e-07,
    3.629233860401602e-06,
    -7.163059898459884e-06,
    -0.00011964873176181643,
    0.0022197328186043456,
    -0.01835071173084603,
    -0.08092142966665117,
    0.024798846831724675,
    0.22289435228183424,
    -0.1505169402878062,
)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _polynomial(even: tuple[float, ...], odd: tuple[float, ...], q: float) -> float:
    square = q * q
    sum_even, sum_odd = even[0], odd[0]
    for i in range(1, len(even)):
        sum_even = sum_even * square + even[i]
    for i in range(1, len(odd)):
        sum_odd = sum_odd * square + odd[i]
    return sum_even + q * sum_odd


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def mills_ratio(z: float) -> float:
    """N(-z) / n(z) for z >= 0, within two units of the last place."""
    return _polynomial(_RATIO_EVEN, _RATIO_ODD, (z - 5.0) / (z + 5.0)) / (z + 0.8)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def mills_pair(z: float) -> tuple[float, float]:
    """M(0, z) and M(1, z) for z >= 0: Mills' ratio and 1 - z times it, both within a few units of the last place."""
    q = (z - 5.0) / (z + 5.0)
    ratio = _polynomial(_RATIO_EVEN, _RATIO_ODD, q) / (z + 0.8)
    return ratio, _polynomial(_MOMENT_EVEN, _MOMENT_ODD, q) / (z * (z + 1.25) + 1.0)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def pdf(x: float) -> float:
    """Density of the normal distribution; relative precision is kept in the tails, since x is squared in two parts."""
    if not abs(x) < 40.0:
        return x * 0.0 if math.isnan(x) else 0.0
    head = math.floor(x * 1024.0) / 1024.0
    return exp(-0.5 * head * head) * exp(-0.5 * (x - head) * (x + head)) / SQRT_2_PI


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def cdf(x: float) -> float:
    """Distribution function of the normal distribution; relative precision is kept in the left tail."""
    if not abs(x) < 40.0:
        return x if math.isnan(x) else (1.0 if x > 0.0 else 0.0)
    tail = pdf(x) * mills_ratio(abs(x))
    return 1.0 - tail if x > 0.0 else tail
