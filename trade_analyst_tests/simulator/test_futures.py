"""Which futures and options on them are listed, and how their symbols read."""

from datetime import date

import pytest

from trade_analyst_pipeline.simulator.futures import future_of, listed_futures, option_of, product_of


def test_four_quarters_are_listed() -> None:
    """On 9 December 2025 December to September; on the third Friday itself March is the active one."""
    assert [item.symbol for item in listed_futures("/ES", date(2025, 12, 9))] == [
        "/ESZ25",
        "/ESH26",
        "/ESM26",
        "/ESU26",
    ]
    assert listed_futures("/ES", date(2025, 12, 19))[0].symbol == "/ESH26"
    assert listed_futures("/NQ", date(2026, 9, 18))[0].symbol == "/NQZ26"


def test_a_product_means_its_active_contract() -> None:
    """A dated symbol means itself, while it is listed."""
    day = date(2025, 12, 9)
    active, dated = future_of("/ES", day), future_of("/ESM26", day)
    assert active is not None
    assert dated is not None
    assert (active.symbol, dated.expiration_date) == ("/ESZ25", date(2026, 6, 18))
    assert future_of("/ESZ26", day) is None
    assert future_of("/ESZ21", day) is None


@pytest.mark.parametrize(
    ("symbol", "product"),
    [("/ES", "/ES"), ("/ESZ25", "/ES"), ("./NQF26P25000", "/NQ"), ("/ESX25", None), ("EUR/USD", None), ("./ES", None)],
)
def test_the_product_is_read_from_a_symbol(symbol: str, product: str | None) -> None:
    """Months that are no quarters are no futures here; other symbols have no product."""
    assert product_of(symbol) == product


@pytest.mark.parametrize(
    ("symbol", "expires", "underlying"),
    [
        ("./ESZ25C6800", date(2025, 12, 19), "/ESZ25"),
        ("./ESF26P6800", date(2026, 1, 16), "/ESH26"),
        ("./ESG26P6800", date(2026, 2, 20), "/ESH26"),
    ],
)
def test_options_are_on_the_next_quarter(symbol: str, expires: date, underlying: str) -> None:
    """From 9 December 2025 the next three third Fridays, each on the contract that expires no earlier."""
    found = option_of(symbol, date(2025, 12, 9))
    assert found is not None
    assert (found.expiration_date, found.future.symbol, found.strike) == (expires, underlying, 6800.0)


def test_option_months_move_on_with_the_third_friday() -> None:
    """March is the fourth month on 9 December and the third one from the 19th on, when December has ended."""
    assert option_of("./ESH26C6800", date(2025, 12, 9)) is None
    later = option_of("./ESH26C6800", date(2025, 12, 19))
    assert later is not None
    assert later.future.symbol == "/ESH26"
    assert option_of("./ESZ25C6800", date(2025, 12, 19)) is None
