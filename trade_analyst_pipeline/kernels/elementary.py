"""exp and log of doubles from additions, multiplications and divisions alone.

The same bits on every machine, whatever its mathematical library and its vector units, and in a form that a compiler
turns into vector instructions when the loop around is simple. Both are within one unit in the last place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.extending import intrinsic, overload

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # their sum is ln 2 to 33 bits more than a double
# Added to a double below 2**51 it leaves the nearest whole number in the low bits.
MAGIC = 6755399441055744.0
MAGIC_BITS = 0x4338000000000000
LEAST_EXPONENT, MOST_EXPONENT = -708.0, 709.0  # e to these is an ordinary double
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
LEAST_ORDINARY = 2.2250738585072014e-308
SCALE_UP, SCALE_BITS = 18014398509481984.0, 54  # 2**54

# (e**r - 1 - r) / r**2 for |r| <= ln(2)/2, and (ln((1+s)/(1-s)) - 2 s) / s**3 in s**2 for |s| <= 0.1716, both through
# Chebyshev points in 60-digit arithmetic; the error of either is under 1e-18 of the result.
EXP = (
    0.5,
    0.1666666666666667,
    0.04166666666666668,
    0.008333333333325973,
    0.0013888888888878852,
    0.000198412698753872,
    2.4801587337030426e-05,
    2.755725468382964e-06,
    2.755726265151805e-07,
    2.5105514240547173e-08,
    2.0918369213192096e-09,
)
LOG = (
    0.6666666666666666,
    0.40000000000000946,
    0.28571428570761775,
    0.22222222401087996,
    0.18181794648937943,
    0.1538629309963598,
    0.13267355817444512,
    0.13101324972982856,
)


@intrinsic
def _as_integer(_typing: Any, _number: Any) -> Any:
    """The bits of a double as an integer, when compiled."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.int64(types.float64), generate


@intrinsic
def _as_double(_typing: Any, _bits: Any) -> Any:
    """The double of these bits, when compiled."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.float64(types.int64), generate


def bits_of(number: float) -> int:
    """The bits of a double as a signed integer."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits)


def double_of(bits: int) -> float:
    """The double of these bits, of which the lower 64 count."""
    (number,) = struct.unpack("<d", struct.pack("<Q", bits & 0xFFFFFFFFFFFFFFFF))
    return float(number)


@overload(bits_of, inline="always")
def _compiled_bits_of(number: Any) -> Callable[[Any], Any]:  # noqa: ARG001  read by the compiler
    def compiled(number: Any) -> Any:
        return _as_integer(number)  # type: ignore[call-arg]  # the compiler gives the first

    return compiled


@overload(double_of, inline="always")
def _compiled_double_of(bits: Any) -> Callable[[Any], Any]:  # noqa: ARG001  read by the compiler
    def compiled(bits: Any) -> Any:
        return _as_double(bits)  # type: ignore[call-arg]  # the compiler gives the first

    return compiled


@njit(cache=True, nogil=True, forceinline=True)
def polynomial(u: float, coefficients: tuple[float, ...]) -> float:
    """The polynomial with these coefficients, of the lowest power first, at u."""
    value = coefficients[-1]
    for power in range(len(coefficients) - 2, -1, -1):
        value = value * u + coefficients[power]
    return value


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def exp(x: float) -> float:
    """The exponential of x: 0 below -708, where the result would not be an ordinary double, infinite above 709."""
    shifted = x * LOG2_E + MAGIC
    halvings = shifted - MAGIC
    r = (x - halvings * LN2_HIGH) - halvings * LN2_LOW
    near_one = 1.0 + (r + r * r * polynomial(r, EXP))
    value = double_of(bits_of(near_one) + (bits_of(shifted) << 52))
    value = value if x >= LEAST_EXPONENT else 0.0
    value = value if x <= MOST_EXPONENT else float("inf")
    return value if x == x else x


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def log(x: float) -> float:
    """The natural logarithm of a positive finite double; of 0 minus infinity, of what is less not a number."""
    small = x < LEAST_ORDINARY
    bits = bits_of(x * SCALE_UP if small else x)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    mantissa = double_of(bits - (exponent << 52))
    f = mantissa - 1.0
    s = f / (2.0 + f)
    w = s * s
    half_square = 0.5 * f * f
    doublings = (double_of(exponent + MAGIC_BITS) - MAGIC) - (SCALE_BITS if small else 0)
    rest = half_square - (s * (half_square + w * polynomial(w, LOG)) + doublings * LN2_LOW)
    value = doublings * LN2_HIGH - (rest - f)
    value = value if x < float("inf") else x
    return value if x > 0.0 else (float("-inf") if x == 0.0 else float("nan"))
