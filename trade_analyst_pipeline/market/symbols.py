"""How the source spells what can be watched: kinds of symbols by their form, and what the source has of each kind.

Whether a symbol exists is not known here; only the source can say it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

from trade_analyst_pipeline.market.option_symbols import is_option_symbol

Kind = Literal["share", "index", "fund", "future", "future_option", "forex", "option"]

_MONTH: Final = "[FGHJKMNQUVXZ][0-9]{2}"
_FORMS: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("index", re.compile(r"\$[A-Z][A-Z0-9.]{0,10}")),
    ("future", re.compile(rf"/[A-Z0-9]{{1,4}}({_MONTH})?")),
    ("future_option", re.compile(r"\./[A-Z0-9]{2,8}[CP][0-9]{1,7}(\.[0-9]{1,4})?")),
    ("fund", re.compile(r"[A-Z]{4}X")),
    ("share", re.compile(r"[A-Z][A-Z0-9]{0,9}([./][A-Z]{1,3})?")),
)
_CURRENCIES: Final = frozenset(
    [
        *("USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "NZD", "MXN", "SEK", "NOK", "DKK", "SGD", "HKD", "CNH"),
        *("CNY", "ZAR", "TRY", "PLN", "HUF", "CZK", "THB", "ILS", "INR", "KRW", "BRL"),
    ]
)
_DOTTED_CLASS: Final = re.compile(r"[A-Z]{1,5}\.[A-Z]{1,2}")

# Datasets that are asked for by symbol, and the kinds of which the source has them.
DATASET_KINDS: Final[dict[str, frozenset[Kind]]] = {
    "quotes": frozenset({"share", "index", "fund", "future", "future_option", "forex", "option"}),
    "options": frozenset({"share", "index"}),
    "ohlc": frozenset({"share", "index", "fund"}),
    "expirations": frozenset({"share", "index"}),
    "instruments": frozenset({"share", "index", "fund"}),
}
KIND_WORDS: Final[dict[Kind, str]] = {
    "share": "a stock or ETF",
    "index": "an index",
    "fund": "a mutual fund",
    "future": "a future",
    "future_option": "an option on a future",
    "forex": "a currency pair",
    "option": "an option",
}


@lru_cache(maxsize=1 << 14)
def kind_of(symbol: str) -> Kind | None:
    """What a symbol is by its form; None for one that the source cannot know, such as `spy`."""
    if is_option_symbol(symbol):
        return "option"
    first, slash, second = symbol.partition("/")
    if slash and first in _CURRENCIES and second in _CURRENCIES:
        return "forex"
    return next((kind for kind, form in _FORMS if form.fullmatch(symbol)), None)


def is_taken_of(dataset: str, symbol: str) -> bool:
    """Whether the source has that dataset of such a symbol; never for a dataset that is not asked for by symbol."""
    return kind_of(symbol) in DATASET_KINDS.get(dataset, frozenset())


def form_problem(symbol: str) -> str | None:
    """Why the source cannot know a symbol spelt like this, and how to spell it; None when it can."""
    if _DOTTED_CLASS.fullmatch(symbol):
        return f"{symbol!r} is not how Schwab writes a share class; write {symbol.replace('.', '/')}"
    if kind_of(symbol) is None:
        return (
            f"{symbol!r} is not a Schwab symbol: upper case, class shares as BRK/B, indices as $SPX, futures as /ES, "
            "currency pairs as EUR/USD, options in 21 characters with the root padded to six"
        )
    return None
