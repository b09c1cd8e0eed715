"""OCC option symbols: root padded to six, expiration YYMMDD, C or P, strike times 1000 in eight digits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

OptionType = Literal["C", "P"]
_LENGTH = 21


@dataclass(frozen=True)
class OptionSymbol:
    """The parts of an OCC option symbol; `strike` in dollars."""

    root: str
    expiration_date: date
    option_type: OptionType
    strike: float

    def __str__(self) -> str:
        return format_option_symbol(self.root, self.expiration_date, self.option_type, self.strike)


def format_option_symbol(root: str, expiration_date: date, option_type: OptionType, strike: float) -> str:
    """The 21-character symbol; raises ValueError for a root over six characters or a strike that does not fit."""
    thousandths = round(strike * 1000)
    if not 0 < len(root) <= 6 or not 0 < thousandths < 10**8:
        message = (
            f"no option symbol for root {root!r} and strike {strike!r}: root has 1 to 6 letters, strike is below 100000"
        )
        raise ValueError(message)
    return f"{root:<6}{expiration_date:%y%m%d}{option_type}{thousandths:08d}"


def parse_option_symbol(text: str) -> OptionSymbol:
    """The parts of a 21-character symbol; raises ValueError naming what is wrong."""
    if len(text) != _LENGTH:
        message = (
            f"option symbol {text!r} has {len(text)} characters, not {_LENGTH} (the root is padded to six with spaces)"
        )
        raise ValueError(message)
    root, day, option_type, strike = text[:6].rstrip(), text[6:12], text[12], text[13:]
    if not root or option_type not in {"C", "P"} or not (text.isascii() and (day + strike).isdigit()):
        message = f"option symbol {text!r} is not root, YYMMDD, C or P, and eight digits of strike"
        raise ValueError(message)
    try:
        expiration_date = date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError as error:
        message = f"option symbol {text!r} holds no calendar date: {day!r}"
        raise ValueError(message) from error
    return OptionSymbol(root, expiration_date, "C" if option_type == "C" else "P", int(strike) / 1000)


def is_option_symbol(text: str) -> bool:
    """Whether a text is a 21-character option symbol."""
    try:
        parse_option_symbol(text)
    except ValueError:
        return False
    return True
