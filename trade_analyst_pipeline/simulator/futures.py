"""Futures and options on them: which contracts there are, and how their symbols read.

A product such as `/ES` has a contract for each quarter; the active one is the next to expire and is what a query for
the product is answered with. Options exist on the next three third Fridays; each is on the first contract that expires
no earlier. Dates are New York dates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Literal

from trade_analyst_pipeline.simulator.listing import third_friday

MONTH_CODES = "FGHJKMNQUVXZ"
QUARTERS = (3, 6, 9, 12)
_LISTED = 4
_OPTION_MONTHS = 3
_FUTURE = re.compile(r"(/[A-Z]{2})([HMUZ])(\d{2})")
_OPTION = re.compile(r"\.(/[A-Z]{2})([FGHJKMNQUVXZ])(\d{2})([CP])([1-9]\d{1,5})")


@dataclass(frozen=True)
class FutureContract:
    """One contract of a product; it trades up to and including `expiration_date`."""

    product: str
    expiration_date: date

    @property
    def symbol(self) -> str:
        """Such as `/ESZ25`."""
        when = self.expiration_date
        return f"{self.product}{MONTH_CODES[when.month - 1]}{when.year % 100:02d}"


@dataclass(frozen=True)
class FutureOption:
    """One option on a future; `strike` in points."""

    future: FutureContract
    expiration_date: date
    contract_type: Literal["C", "P"]
    strike: float


@lru_cache(maxsize=1024)
def listed_futures(product: str, day: date) -> tuple[FutureContract, ...]:
    """The four quarterly contracts that expire after `day`, the active one first."""
    dates = (third_friday(day.year + ahead, month) for ahead in (0, 1, 2) for month in QUARTERS)
    return tuple(FutureContract(product, when) for when in [when for when in dates if when > day][:_LISTED])


def future_of(symbol: str, day: date) -> FutureContract | None:
    """The contract behind a product or a dated symbol; None when it is not listed on that day."""
    listed = listed_futures(symbol[:3], day)
    if len(symbol) == 3:
        return listed[0]
    return next((contract for contract in listed if contract.symbol == symbol), None)


def product_of(symbol: str) -> str | None:
    """The product of a future's symbol, dated or not, or of an option on one; None for anything else."""
    found = _FUTURE.fullmatch(symbol) or _OPTION.fullmatch(symbol)
    return found[1] if found else symbol if re.fullmatch(r"/[A-Z]{2}", symbol) else None


def option_of(symbol: str, day: date) -> FutureOption | None:
    """The option behind a symbol such as `./ESZ25C6800`; None when it is none that is listed on that day."""
    found = _OPTION.fullmatch(symbol)
    if found is None:
        return None
    product, month, year = found[1], MONTH_CODES.index(found[2]) + 1, 2000 + int(found[3])
    ahead = (year - day.year) * 12 + month - day.month
    expiration_date = third_friday(year, month) if 0 <= ahead <= _OPTION_MONTHS else day
    if expiration_date <= day or ahead - (third_friday(day.year, day.month) <= day) >= _OPTION_MONTHS:
        return None
    future = next(item for item in listed_futures(product, day) if item.expiration_date >= expiration_date)
    return FutureOption(future, expiration_date, "C" if found[4] == "C" else "P", float(found[5]))
