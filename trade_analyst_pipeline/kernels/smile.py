"""The smile of each expiry: at the money, at 25 delta on either side, its slope, and the straddle next to the forward.

An expiry is a run of contracts from `starts[i]` to `starts[i + 1]`, ascending by strike; NaN stands for what a contract
has not. Whose volatilities and deltas these are, and what is refused, is decided where the metric is.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from trade_analyst_pipeline.kernels.arrays import (
    FLOAT_ROWS,
    READ_FLAGS,
    READ_FLOATS,
    READ_INTEGERS,
    Flags,
    Floats,
    Integers,
)
from trade_analyst_pipeline.kernels.elementary import log

# What is found of each expiry, the columns of the result of `smiles`.
STRIKES, AT_MONEY, DISAGREEMENT, PUT, CALL, DELTAS, SLOPE, SLOPE_STRIKES, STRADDLE_STRIKE, STRADDLE = range(10)
FOUND = 10
WING = 0.25
FEWEST_FOR_SLOPE = 3

# The columns of a board: one row per strike, what its call and its put have.
_STRIKE, _CALL_IV, _PUT_IV, _CALL_DELTA, _PUT_DELTA, _CALL_MID, _PUT_MID = range(7)


@njit(cache=True, nogil=True)
def _board(strike: Floats, is_call: Flags, iv: Floats, delta: Floats, mid: Floats) -> Floats:
    """One row per strike; of two contracts of a strike and type the later counts."""
    board = np.full((len(strike), 7), np.nan)
    last = -1
    for row in range(len(strike)):
        if last < 0 or strike[row] != board[last, _STRIKE]:
            last += 1
            board[last, _STRIKE] = strike[row]
        side = 0 if is_call[row] else 1
        board[last, _CALL_IV + side] = iv[row]
        board[last, _CALL_DELTA + side] = delta[row]
        board[last, _CALL_MID + side] = mid[row]
    return board[: last + 1]


@njit(cache=True, nogil=True)
def _strike_volatility(row: Floats, forward: float) -> float:
    call, put = row[_CALL_IV], row[_PUT_IV]
    if not math.isnan(call) and not math.isnan(put):
        return float((call + put) / 2.0)
    return float(call if row[_STRIKE] >= forward else put)


@njit(cache=True, nogil=True, error_model="numpy")
def _disagreement(row: Floats) -> float:
    call, put = row[_CALL_IV], row[_PUT_IV]
    if math.isnan(call) or math.isnan(put):
        return 0.0
    return float(abs(call - put) / min(0.05, 0.1 * (call + put)))


@njit(cache=True, nogil=True, error_model="numpy")
def _at_money(found: Floats, board: Floats, own: Floats, forward: float) -> None:
    below, above = -1, -1
    for k in range(len(board)):
        if not math.isnan(own[k]):
            if board[k, _STRIKE] <= forward:
                below = k
            elif above < 0:
                above = k
    if below >= 0 and board[below, _STRIKE] == forward:
        found[AT_MONEY], found[DISAGREEMENT] = own[below], _disagreement(board[below])
    elif below >= 0 and above >= 0:
        low, high = log(board[below, _STRIKE] / forward), log(board[above, _STRIKE] / forward)
        weight = -low / (high - low)
        variance = (1.0 - weight) * own[below] * own[below] + weight * own[above] * own[above]
        found[AT_MONEY] = math.sqrt(variance)
        found[DISAGREEMENT] = max(_disagreement(board[below]), _disagreement(board[above]))


@njit(cache=True, nogil=True)
def _wings(found: Floats, board: Floats, forward: float) -> None:
    deltas = 0
    for side in range(2):
        iv, size, has_delta = math.nan, math.nan, False
        for step in range(len(board)):
            k = step if side == 0 else len(board) - 1 - step
            is_out = board[k, _STRIKE] > forward if side == 0 else board[k, _STRIKE] < forward
            here, now = board[k, _CALL_IV + side], abs(board[k, _CALL_DELTA + side])
            if not is_out or math.isnan(here) or math.isnan(now):
                continue
            has_delta = True
            if now <= WING:
                if now == WING:
                    found[CALL - side] = here
                elif size > WING:
                    found[CALL - side] = here + (iv - here) * (WING - now) / (size - now)
                break
            iv, size = here, now
        deltas += has_delta
    found[DELTAS] = deltas


@njit(cache=True, nogil=True, error_model="numpy")
def _slope(found: Floats, board: Floats, own: Floats, forward: float) -> None:
    count, mean_x, mean_y = 0, 0.0, 0.0
    x, y = np.empty(len(board)), np.empty(len(board))
    for k in range(len(board)):
        strike = board[k, _STRIKE]
        side = 0 if strike >= forward else 1
        here = own[k] if strike == forward else board[k, _CALL_IV + side]
        if abs(board[k, _CALL_DELTA + side]) >= WING and not math.isnan(here):
            x[count], y[count] = log(strike / forward), here
            mean_x, mean_y, count = mean_x + x[count], mean_y + y[count], count + 1
    found[SLOPE_STRIKES] = count
    if count >= FEWEST_FOR_SLOPE:
        mean_x, mean_y = mean_x / count, mean_y / count
        above, below = 0.0, 0.0
        for k in range(count):
            above += (x[k] - mean_x) * (y[k] - mean_y)
            below += (x[k] - mean_x) * (x[k] - mean_x)
        found[SLOPE] = above / below


@njit(cache=True, nogil=True)
def _straddle(found: Floats, board: Floats, forward: float) -> None:
    nearest = math.inf
    for k in range(len(board)):
        distance = abs(board[k, _STRIKE] - forward)
        price = board[k, _CALL_MID] + board[k, _PUT_MID]
        if distance < nearest and not math.isnan(price):
            nearest = distance
            found[STRADDLE_STRIKE], found[STRADDLE] = board[k, _STRIKE], price


@njit(
    FLOAT_ROWS(READ_INTEGERS, READ_FLOATS, READ_FLAGS, READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLOATS),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def smiles(
    starts: Integers, strike: Floats, is_call: Flags, iv: Floats, delta: Floats, mid: Floats, forward: Floats
) -> Floats:
    """One row per expiry, columns as named above; NaN where there is no such figure.

    `STRIKES` counts those with a volatility. `AT_MONEY` is the volatility at the forward, variance being linear in
    ln(strike / forward) between the strikes with a volatility around it: of each the mean of call and put, or that of
    the side out of the money; `DISAGREEMENT` the largest |call - put| there over the lesser of 0.05 and a fifth of
    their mean. `PUT` and `CALL` are volatilities out of the money at a delta of 0.25, linear in delta between two
    strikes; `DELTAS` counts the sides that have any delta. `SLOPE` is the least-squares slope of volatilities out of
    the money in ln(strike / forward) over the strikes whose delta is 0.25 or more in size.
    """
    expiries = len(forward)
    found = np.full((expiries, FOUND), np.nan)
    for i in range(expiries):
        rows = slice(starts[i], starts[i + 1])
        board = _board(strike[rows], is_call[rows], iv[rows], delta[rows], mid[rows])
        own = np.empty(len(board))
        for k in range(len(board)):
            own[k] = _strike_volatility(board[k], forward[i])
        found[i, STRIKES] = np.sum(~np.isnan(own))
        if forward[i] > 0.0:
            _at_money(found[i], board, own, forward[i])
            _wings(found[i], board, forward[i])
            _slope(found[i], board, own, forward[i])
            _straddle(found[i], board, forward[i])
    return found
