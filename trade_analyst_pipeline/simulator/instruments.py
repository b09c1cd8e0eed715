"""What the synthetic market trades: names as a source spells them, and the character of each price.

Identifiers and descriptions are those of the real instruments; every price and volume is made up from the figures
here. Prices are dollars at the epoch, volatilities annual fractions, volumes per session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["stock", "etf", "index", "fund", "future", "forex"]
ListingStyle = Literal["none", "weekly", "three_a_week", "daily"]


@dataclass(frozen=True)
class Instrument:
    """One tradable name.

    `growth` is the yearly drift of the level its price returns to; `market_share` the correlation with the market
    as a whole; `skew` and `wing` shape its volatility surface; `dividend_yield` is a fraction a year, paid out every
    three months from `dividend_month` on (an index has it as a continuous yield). `listing` says how often options
    expire; `daily_contracts` is 0 where none are listed.
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
    _index("$NDX", "NASDAQ 100 INDEX", 12694.66, 0.135, 0.215, 0.95, 1.1e9),
    _index("$VIX", "CBOE Market Volatility Index", 26.97, 0.0, 0.9, -0.8, 0.0),
    Instrument("AAAIX", "AMERICAN CENTURY STRAT ALLC: AGRSV I", "fund", "025085853", "3", "Mutual Fund", 7.9, 0.02,
               0.1, 0.9, 0.0, dividend_yield=0.02, dividend_month=12),
    Instrument("/ES", "E-mini S&P 500 Index Futures", "future", "", "@", "XCME", 3692.25, 0.115, 0.165, 1.0, 1.4e6),
    Instrument("EUR/USD", "Euro/USDollar Spot", "forex", "", "!", "GFT", 1.2248, 0.0, 0.07, 0.1, 0.0),
)  # fmt: skip

INSTRUMENTS: dict[str, Instrument] = {instrument.symbol: instrument for instrument in _ALL}
