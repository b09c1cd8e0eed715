"""What the synthetic market trades: names as a source spells them, and the character of each price.

Identifiers and descriptions are those of the real instruments; every price and volume is made up from the figures
here. Prices are dollars at the epoch, volatilities annual fractions, volumes per session. Names come and go: renamed
and delisted ones are known only while they bore that name. `SY0001` to `SY3000` are stocks that exist nowhere, for
sessions of many symbols.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, lru_cache
from typing import Literal

Kind = Literal["stock", "etf", "index", "fund", "future", "forex"]
ListingStyle = Literal["none", "weekly", "three_a_week", "daily"]


@dataclass(frozen=True)
class Instrument:
    """One tradable name.

    `growth` is the yearly drift of the level its price returns to; `market_share` the correlation with the market
    as a whole; `skew` and `wing` shape its volatility surface; `dividend_yield` is a fraction a year, paid out every
    three months from `dividend_month` on, by a fund in that month (an index has it as a continuous yield). `listing`
    says how often options expire; `daily_contracts` is 0 where none are listed; `fine_strikes` is how many an index
    has on either side, `weekly_letter` what the root of its weeklies ends in. `volatility_of` is what a volatility
    index is about.

    The name is in use from `listed_from` to `listed_until` (both included, None: always). One with a `former_symbol`
    is the same company before; `path_of` names the symbol whose prices it has, "" for its own. From `adjusted_from`
    on, contracts listed before deliver `adjusted_shares` and have a root that ends in 1. `decimals` are those of a
    currency pair's price, `tick` and `multiplier` a future's. `sub_type` is a fund's.
    """

    symbol: str
    description: str
    kind: Kind
    cusip: str
    exchange: str
    exchange_name: str
    start_price: float
    growth: float
    volatility: float
    market_share: float
    daily_volume: float
    skew: float = -0.35
    wing: float = 0.9
    dividend_yield: float = 0.0
    dividend_month: int = 2
    listing: ListingStyle = "none"
    daily_contracts: float = 0.0
    is_penny_pilot: bool = True
    earnings_per_share: float = 0.0
    shares_outstanding: float = 0.0
    fine_strikes: int = 58
    weekly_letter: str = "W"
    listed_from: date | None = None
    listed_until: date | None = None
    former_symbol: str = ""
    path_of: str = ""
    adjusted_from: date | None = None
    adjusted_shares: int = 100
    decimals: int = 2
    tick: float = 0.01
    multiplier: float = 1.0
    sub_type: str = ""
    volatility_of: str = ""

    @property
    def root(self) -> str:
        """The root of its standard contracts: no $, no slash."""
        return self.symbol.lstrip("$").replace("/", "")

    @property
    def roots(self) -> tuple[str, ...]:
        """All roots of its contracts: standard, weeklies of an index, adjusted."""
        weekly = (f"{self.root}{self.weekly_letter}",) if self.listing == "daily" else ()
        return (self.root, *weekly, f"{self.root}1") if self.adjusted_from else (self.root, *weekly)

    def is_known_on(self, day: date) -> bool:
        """Whether it bore that name on a New York date."""
        return (self.listed_from is None or self.listed_from <= day) and (
            self.listed_until is None or day <= self.listed_until
        )

    @property
    def payments(self) -> int:
        """Dividends a year: a fund pays once, others every three months."""
        return 1 if self.kind == "fund" else 4

    @property
    def is_index(self) -> bool:
        """Whether it is a level that is computed, not traded."""
        return self.kind == "index"

    @property
    def has_options(self) -> bool:
        """Whether options are listed on it."""
        return self.listing != "none"


def _stock(symbol: str, description: str, cusip: str, exchange: str, *numbers: float, **more: object) -> Instrument:
    start, growth, volatility, share, volume, contracts, dividend_yield, eps, outstanding = numbers
    name = {"Q": "NASDAQ", "N": "NYSE"}[exchange]
    return Instrument(
        symbol, description, "stock", cusip, exchange, name, start, growth, volatility, share, volume,
        listing="weekly", daily_contracts=contracts, dividend_yield=dividend_yield,
        earnings_per_share=eps, shares_outstanding=outstanding, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _etf(symbol: str, description: str, cusip: str, exchange: str, *numbers: float) -> Instrument:
    start, growth, volatility, share, volume, contracts, dividend_yield = numbers
    name = {"P": "NYSE Arca", "Q": "NASDAQ"}[exchange]
    return Instrument(
        symbol, description, "etf", cusip, exchange, name, start, growth, volatility, share, volume,
        skew=-0.55, wing=1.0, listing="three_a_week", daily_contracts=contracts,
        dividend_yield=dividend_yield, dividend_month=3,
    )  # fmt: skip


def _fund(symbol: str, description: str, cusip: str, *numbers: float, sub_type: str = "OEF") -> Instrument:
    start, growth, volatility, share, dividend_yield = numbers
    return Instrument(
        symbol, description, "fund", cusip, "3", "Mutual Fund", start, growth, volatility, share, 0.0,
        dividend_yield=dividend_yield, dividend_month=12, sub_type=sub_type,
    )  # fmt: skip


def _future(symbol: str, description: str, *numbers: float) -> Instrument:
    start, growth, volatility, share, volume, tick, multiplier = numbers
    return Instrument(
        symbol, description, "future", "", "@", "XCME", start, growth, volatility, share, volume,
        tick=tick, multiplier=multiplier,
    )  # fmt: skip


def _pair(symbol: str, description: str, start: float, volatility: float, decimals: int) -> Instrument:
    return Instrument(symbol, description, "forex", "", "!", "GFT", start, 0.0, volatility, 0.1, 0.0, decimals=decimals)


def _index(symbol: str, description: str, *numbers: float, **more: object) -> Instrument:
    start, growth, volatility, share, volume = numbers
    return Instrument(
        symbol, description, "index", "", "0", "Index", start, growth, volatility, share, volume,
        skew=-0.6, wing=1.05, **more,  # type: ignore[arg-type]
    )  # fmt: skip


_ALL = (
    _stock("AAPL", "Apple Inc", "037833100", "Q", 129.41, 0.13, 0.27, 0.72, 9.0e7, 9.0e5, 0.006, 6.57, 1.52e10),
    _stock("MSFT", "Microsoft Corp", "594918104", "Q", 217.69, 0.15, 0.25, 0.75, 2.6e7, 3.5e5, 0.008, 11.8, 7.43e9),
    _stock("NVDA", "NVIDIA CORP", "67066G104", "Q", 13.11, 0.46, 0.44, 0.68, 3.0e8, 2.0e6, 0.0004, 2.55, 2.45e10),
    _stock("AMZN", "Amazon.com Inc", "023135106", "Q", 159.33, 0.08, 0.31, 0.7, 4.5e7, 6.0e5, 0.0, 4.67, 1.05e10),
    _stock("TSLA", "Tesla Inc", "88160R101", "Q", 243.26, 0.09, 0.52, 0.55, 9.5e7, 2.2e6, 0.0, 3.65, 3.2e9),
    _stock("JPM", "JPMorgan Chase & Co", "46625H100", "N", 125.87, 0.16, 0.23, 0.66, 1.0e7, 1.1e5, 0.024, 17.99, 2.8e9,
           dividend_month=1),
    _stock("XOM", "EXXON MOBIL CORP", "30231G102", "N", 41.5, 0.18, 0.26, 0.45, 1.6e7, 1.3e5, 0.034, 8.02, 4.4e9,
           skew=-0.25),
    _stock("BRK/B", "Berkshire Hathaway Class B", "084670702", "N", 228.62, 0.15, 0.18, 0.7, 4.2e6, 3.0e4, 0.0, 20.1,
           1.3e9, is_penny_pilot=False),
    _etf("SPY", "SPDR S&P 500 ETF", "78462F103", "P", 368.79, 0.115, 0.165, 0.995, 7.5e7, 8.0e6, 0.013),
    _etf("QQQ", "Invesco QQQ Trust Series 1", "46090E103", "Q", 309.31, 0.135, 0.215, 0.95, 4.6e7, 3.6e6, 0.006),
    _etf("IWM", "iShares Russell 2000 ETF", "464287655", "P", 193.5, 0.045, 0.225, 0.87, 3.1e7, 1.1e6, 0.012),
    _index("$SPX", "S&P 500 INDEX", 3700.65, 0.115, 0.165, 1.0, 2.6e9, dividend_yield=0.013, listing="daily",
           daily_contracts=3.2e6, is_penny_pilot=False),
    _index("$NDX", "NASDAQ 100 INDEX", 12694.66, 0.135, 0.215, 0.95, 1.1e9, dividend_yield=0.006, listing="daily",
           daily_contracts=6.0e4, is_penny_pilot=False, fine_strikes=100, weekly_letter="P"),
    _index("$VIX", "CBOE Market Volatility Index", 26.97, 0.0, 0.9, -0.8, 0.0, volatility_of="$SPX"),
    _index("$VXN", "CBOE NASDAQ-100 Volatility Index", 30.6, 0.0, 0.9, -0.8, 0.0, volatility_of="$NDX"),
    _index("$RVX", "CBOE Russell 2000 Volatility Index", 31.2, 0.0, 0.9, -0.8, 0.0, volatility_of="$RUT"),
    _index("$VXD", "CBOE DJIA Volatility Index", 25.1, 0.0, 0.9, -0.8, 0.0, volatility_of="$DJI"),
    _index("$DJI", "Dow Jones Industrial Average", 30223.89, 0.09, 0.155, 0.97, 3.6e8),
    _index("$COMPX", "NASDAQ Composite", 12698.45, 0.13, 0.21, 0.96, 5.2e9),
    _index("$RUT", "Russell 2000 Index", 1945.91, 0.045, 0.225, 0.87, 1.6e9),
    _fund("AAAIX", "AMERICAN CENTURY STRAT ALLC: AGRSV I", "025085853", 7.9, 0.02, 0.1, 0.9, 0.02),
    _fund("VTSAX", "Vanguard Total Stock Mkt Idx Adm", "922908728", 92.31, 0.11, 0.165, 0.99, 0.013),
    _fund("VWELX", "VANGUARD WELLINGTON INV", "921935102", 44.6, 0.04, 0.1, 0.93, 0.022),
    _fund("SWVXX", "SCHWAB VALUE ADVANTAGE MONEY INV", "808515605", 1.0, 0.0, 0.0001, 0.0, 0.0, sub_type="MMF"),
    _future("/ES", "E-mini S&P 500 Index Futures", 3692.25, 0.115, 0.165, 1.0, 1.4e6, 0.25, 50.0),
    _future("/NQ", "E-mini Nasdaq-100 Index Futures", 12660.5, 0.135, 0.215, 0.95, 5.8e5, 0.25, 20.0),
    _pair("EUR/USD", "Euro/USDollar Spot", 1.2248, 0.07, 5),
    _pair("GBP/USD", "British Pound/USDollar Spot", 1.3573, 0.08, 5),
    _pair("USD/JPY", "USDollar/Japanese Yen Spot", 103.14, 0.09, 3),
    # Names that changed, ended and began; the adjustment of XYZ's contracts (three shares for two) is made up.
    _stock("META", "Meta Platforms Inc", "30303M102", "Q", 268.94, 0.15, 0.36, 0.68, 1.5e7, 4.0e5, 0.0, 14.87, 2.2e9,
           listed_from=date(2022, 6, 9), former_symbol="FB"),
    _stock("XYZ", "Block Inc", "852234103", "N", 217.64, 0.02, 0.5, 0.6, 7.5e6, 6.0e4, 0.0, 1.9, 5.6e8,
           listed_from=date(2025, 1, 21), former_symbol="SQ", adjusted_from=date(2025, 6, 2), adjusted_shares=150),
    _stock("TWTR", "Twitter Inc", "90184L102", "N", 54.15, 0.01, 0.45, 0.5, 1.2e7, 9.0e4, 0.0, 0.3, 7.6e8,
           listed_until=date(2022, 10, 27)),
    _stock("ATVI", "Activision Blizzard Inc", "00507V109", "Q", 92.85, 0.01, 0.3, 0.5, 6.0e6, 4.0e4, 0.005, 2.1, 7.8e8,
           listed_until=date(2023, 10, 12)),
    _stock("ARM", "ARM HOLDINGS PLC ADR", "042068205", "Q", 51.0, 0.2, 0.55, 0.6, 8.0e6, 1.0e5, 0.0, 0.6, 1.05e9,
           listed_from=date(2023, 9, 14)),
)  # fmt: skip
_FORMER = {"META": date(2022, 6, 8), "XYZ": date(2025, 1, 20)}


def _under_its_former_name(instrument: Instrument) -> Instrument:
    """The same company as it was known before it was renamed."""
    return replace(
        instrument,
        symbol=instrument.former_symbol,
        path_of=instrument.symbol,
        former_symbol="",
        listed_from=None,
        listed_until=_FORMER[instrument.symbol],
        adjusted_from=None,
    )


INSTRUMENTS: dict[str, Instrument] = {
    instrument.symbol: instrument
    for instrument in (*_ALL, *(_under_its_former_name(item) for item in _ALL if item.former_symbol))
}

LOAD_SYMBOLS = 3000
_LOAD_PATHS = 24
_LOAD_SYMBOL = re.compile(r"SY(\d{4})")


@lru_cache(maxsize=8192)
def load_instrument(symbol: str) -> Instrument | None:
    """One of the stocks `SY0001` to `SY3000`, or None for another symbol; every 24th has the same prices."""
    found = _LOAD_SYMBOL.fullmatch(symbol)
    number = int(found[1]) if found else 0
    if not 1 <= number <= LOAD_SYMBOLS:
        return None
    kind = (number - 1) % _LOAD_PATHS
    instrument = _stock(
        symbol, f"Synthetic {number:04d} Inc", f"SY{number:07d}", "QN"[number % 2],
        12.0 + 17.0 * kind, 0.04 + 0.004 * kind, 0.22 + 0.012 * kind, 0.5, 2.0e6, 1.5e4, 0.0, 1.0 + 0.5 * kind, 1.0e9,
    )  # fmt: skip
    return instrument if number <= _LOAD_PATHS else replace(instrument, path_of=f"SY{kind + 1:04d}")


def load_symbols() -> tuple[str, ...]:
    """The symbols of all stocks made for load, ascending."""
    return tuple(f"SY{number:04d}" for number in range(1, LOAD_SYMBOLS + 1))


@cache
def everything() -> tuple[Instrument, ...]:
    """All instruments under all their names, those made for load at the end."""
    loads = [load_instrument(symbol) for symbol in load_symbols()]
    return (*INSTRUMENTS.values(), *(item for item in loads if item is not None))


def instrument_of(symbol: str) -> Instrument | None:
    """What is known of a symbol under any date; None for one that has never been traded here."""
    return INSTRUMENTS.get(symbol) or load_instrument(symbol)


def instrument_on(symbol: str, day: date) -> Instrument | None:
    """What is known of a symbol on a New York date; None for one that is not traded then."""
    found = instrument_of(symbol)
    return found if found is not None and found.is_known_on(day) else None


@cache
def _by_root() -> dict[str, str]:
    return {root: item.symbol for item in INSTRUMENTS.values() if item.has_options for root in item.roots}


def owner_of_root(root: str) -> str | None:
    """The symbol of the underlying with contracts of that root; None for a root that nobody has."""
    found = _by_root().get(root)
    return root if found is None and load_instrument(root) else found
