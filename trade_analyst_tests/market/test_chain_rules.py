"""Relations between the contracts of one chain, on quotes and Greeks made by hand, and on two real chains."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from math import log
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.market import chain_rules
from trade_analyst_pipeline.market.chain_rules import CHAIN_RULES
from trade_analyst_pipeline.market.columns import COLUMNS
from trade_analyst_pipeline.market.quote_status import quote_status

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "market"
SNAPSHOT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
CONTRACT: dict[str, Any] = {
    "symbol": "XYZ",
    "snapshot_time": SNAPSHOT,
    "chain_scope": "full",
    "option_root": "XYZ",
    "option_type": "C",
    "expiration_date": date(2026, 2, 20),
    "expiration_time": datetime(2026, 2, 20, 21, 0, tzinfo=UTC),
    "strike": 100.0,
    "bid": 4.0,
    "ask": 4.2,
    "quote_status": "ok",
    "exercise_type": "E",
    "underlying_price": 100.0,
    "interest_rate": 0.0,
    "dividend_yield": 0.0,
    "vendor_implied_volatility": 0.2,
    "vendor_delta": 0.5,
    "vendor_gamma": 0.05,
    "vendor_vega": 0.14,
    "is_non_standard": False,
    "is_mini": False,
}


def table(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Contracts as a table; what a row does not say is as in CONTRACT."""
    schema = {name: COLUMNS[name].dtype for name in CONTRACT}
    return pl.DataFrame([CONTRACT | row for row in rows], schema=schema, orient="row")


def outcomes(frame: pl.DataFrame) -> dict[str, list[bool | None]]:
    """Each rule's outcome for each row."""
    return frame.select(rule.passes.alias(rule.name) for rule in CHAIN_RULES).to_dict(as_series=False)


def broken(rows: Sequence[dict[str, Any]], rule: str) -> list[int]:
    """The places of the rows that break a rule."""
    return [place for place, held in enumerate(outcomes(table(rows))[rule]) if held is False]


def quoted(*quotes: tuple[float, float, float], **more: Any) -> list[dict[str, Any]]:
    """Contracts of these strikes, bids and asks."""
    return [{"strike": strike, "bid": bid, "ask": ask, **more} for strike, bid, ask in quotes]


def test_every_rule_is_a_warning_with_a_meaning() -> None:
    """Such rows are counted, never removed."""
    assert {rule.severity for rule in CHAIN_RULES} == {"warning"}
    assert all(rule.meaning.endswith(".") for rule in CHAIN_RULES)


def test_rows_of_a_chain_that_is_not_whole_are_counted() -> None:
    """Partial rows break the rule; full, bounded and unknown ones do not."""
    scopes = ("full", "partial", "bounded strikes=15", "unknown")
    assert broken([{"chain_scope": scope} for scope in scopes], "chain_incomplete") == [1]


# -- prices in strike ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option_type", "quotes", "rows"),
    [
        # mids rise from 3.1 to 3.2, but each may be half its spread off
        ("C", [(100, 3.0, 3.2), (105, 3.1, 3.3)], []),
        ("C", [(100, 3.0, 3.2), (105, 3.2, 3.4)], []),
        ("C", [(100, 3.0, 3.2), (105, 3.21, 3.4)], [1]),
        ("P", [(100, 3.0, 3.2), (105, 2.8, 3.0)], []),
        ("P", [(100, 3.01, 3.2), (105, 2.8, 3.0)], [0]),
        # whatever the order of rows
        ("C", [(105, 3.21, 3.4), (100, 3.0, 3.2)], [0]),
    ],
)
def test_call_gets_cheaper_and_put_dearer_with_the_strike(
    option_type: str, quotes: list[tuple[float, float, float]], rows: list[int]
) -> None:
    """A bid above the ask of a contract that is worth at least as much is found, to 1/10000 dollar."""
    assert broken(quoted(*quotes, option_type=option_type), "price_not_monotonic") == rows


def test_unusable_quote_is_passed_over() -> None:
    """The next usable strike is the neighbour; a stale or one-sided quote is neither judged nor judged by."""
    low, stale, high = quoted((100, 3.0, 3.2), (105, 9.0, 0.1), (110, 3.3, 3.5))
    assert broken([low, stale | {"quote_status": "stale"}, high], "price_not_monotonic") == [2]
    one_sided = stale | {"ask": None, "quote_status": "no_ask"}
    assert broken([low, one_sided, high | {"bid": 3.1}], "price_not_monotonic") == []


@pytest.mark.parametrize(
    "other",
    [
        {"option_root": "XYZ1"},
        {"expiration_date": date(2026, 3, 20)},
        {"snapshot_time": SNAPSHOT.replace(minute=40)},
        {"symbol": "ABC"},
        {"option_type": "P"},
    ],
)
def test_contracts_of_other_chains_are_no_neighbours(other: dict[str, Any]) -> None:
    """Root, expiration, snapshot, underlying and side have to agree."""
    low, high = quoted((100, 3.0, 3.2), (105, 5.0, 5.2))
    assert broken([low, high], "price_not_monotonic") == [1]
    assert broken([low, high | other], "price_not_monotonic") == []


@pytest.mark.parametrize(
    ("middle_bid", "rows"),
    [
        # three strikes 5 and 10 apart: (10 x 6.0 + 5 x 1.5) / 15 = 4.5
        (4.5, []),
        (4.51, [1]),
    ],
)
def test_price_is_convex_in_the_strike(middle_bid: float, rows: list[int]) -> None:
    """A butterfly that pays to hold is found: the middle bid against the asks on both sides, weighted by distance."""
    for option_type, quotes in (
        ("C", [(100, 5.8, 6.0), (105, middle_bid, middle_bid + 0.2), (115, 1.3, 1.5)]),
        ("P", [(110, 5.8, 6.0), (105, middle_bid, middle_bid + 0.2), (95, 1.3, 1.5)]),
    ):
        assert broken(quoted(*quotes, option_type=option_type), "price_not_convex") == rows


def test_outermost_strikes_have_no_butterfly() -> None:
    """With a neighbour on one side only, nothing is said."""
    assert outcomes(table(quoted((100, 4.0, 4.2), (105, 2.0, 2.2))))["price_not_convex"] == [None, None]


# -- variance in time ------------------------------------------------------------------------------------------------

NEAR, FAR = date(2026, 2, 20), date(2026, 3, 20)


def smile(day: date, volatility: float, strikes: Sequence[float] = (95, 100, 105), **more: Any) -> list[dict[str, Any]]:
    """Out-of-the-money contracts of one expiration with one volatility, quoted a cent wide."""
    last = datetime.combine(day, time(21 if day < date(2026, 3, 8) else 20), UTC)
    return [
        {
            "expiration_date": day,
            "expiration_time": last,
            "strike": float(strike),
            "option_type": "C" if strike >= 100 else "P",
            "vendor_implied_volatility": volatility,
            "bid": 3.0,
            "ask": 3.01,
            **more,
        }
        for strike in strikes
    ]


@pytest.mark.parametrize(
    ("far_volatility", "rows"),
    [
        # 46 days at 20 % is as much variance as 73.96 days at 15.77 %; a cent is 0.07 points at a vega of 0.14
        (0.25, []),
        (0.20, []),
        (0.158, []),
        (0.155, [0, 1, 2]),
    ],
)
def test_total_variance_grows_with_time(far_volatility: float, rows: list[int]) -> None:
    """Less variance to a later day than to an earlier one is found at the earlier contracts."""
    assert broken(smile(NEAR, 0.2) + smile(FAR, far_volatility), "variance_falls") == rows
    assert broken(smile(FAR, far_volatility) + smile(NEAR, 0.2), "variance_falls") == [row + 3 for row in rows]


def test_variance_is_reckoned_outside_of_polars_too() -> None:
    """Called by itself, on rows as one column, the reckoning gives what the rule gives inside of a query."""
    rows = table(smile(NEAR, 0.2) + smile(FAR, 0.155))
    packed = rows.select(pl.struct(chain_rules._SMILE_COLUMNS)).to_series()
    assert chain_rules._grows_to_next_expiration(packed).to_list() == [False] * 3 + [None] * 3


@pytest.mark.parametrize(("near_ask", "far_ask"), [(3.4, 3.01), (3.01, 3.4)])
def test_wide_quotes_forgive(near_ask: float, far_ask: float) -> None:
    """When half the spread of either is worth the difference in volatility (1.4 points), nothing is said."""
    near, far = smile(NEAR, 0.2, ask=near_ask), smile(FAR, 0.155, ask=far_ask)
    assert broken(near + far, "variance_falls") == []


@pytest.mark.parametrize(
    ("carry", "later", "strikes"),
    [
        # the forward is 3.9 % further at the later day, and so is the strike that compares with a near one
        ({"interest_rate": 0.5}, (112, 116, 117, 125), (110, 114, 121)),
        # and as much nearer with dividends
        ({"dividend_yield": 0.5}, (92, 96, 97, 105), (98, 102, 110)),
    ],
)
def test_variance_is_compared_at_one_moneyness(
    carry: dict[str, float], later: tuple[float, ...], strikes: tuple[float, ...]
) -> None:
    """Against the low part of the later smile it falls, against the high part not; past its last strike is unknown."""
    near = smile(NEAR, 0.2, strikes, **carry, option_type="C")
    low, high = (smile(FAR, iv, part, **carry, option_type="C") for iv, part in ((0.14, later[:2]), (0.3, later[2:])))
    assert outcomes(table(near + high[::-1] + low))["variance_falls"][:3] == [False, True, None]


def test_smile_is_interpolated_between_strikes() -> None:
    """Between two strikes of the later day total variance is linear in ln(strike)."""
    later = smile(FAR, 0.16, (100,)) + smile(FAR, 0.30, (110,))
    place = log(104 / 100) / log(110 / 100)
    years = 73.9618 / 365
    variance = ((1 - place) * 0.16**2 + place * 0.30**2) * years
    equal = (variance / (46.0035 / 365)) ** 0.5
    assert 0.25 < equal < 0.30
    assert broken(smile(NEAR, equal - 0.001, (104,)) + later, "variance_falls") == []
    assert broken(smile(NEAR, equal + 0.003, (104,)) + later, "variance_falls") == [0]


@pytest.mark.parametrize(
    "change",
    [
        {"quote_status": "stale"},
        {"is_non_standard": True},
        {"is_mini": True},
        {"vendor_implied_volatility": None},
        {"vendor_vega": None},
        {"vendor_vega": 0.001},
        {"underlying_price": None},
        {"underlying_price": -1.0},
        {"strike": -5.0},
        {"expiration_time": None},
        {"expiration_time": SNAPSHOT},
        {"option_type": "P"},
    ],
)
def test_what_says_nothing_about_variance_is_left_out(change: dict[str, Any]) -> None:
    """Without a usable quote, a volatility and a vega of more than one digit, or in the money, nothing is judged."""
    near, far = smile(NEAR, 0.2, (105,))[0], smile(FAR, 0.1)
    assert outcomes(table([near, *far]))["variance_falls"] == [False, None, None, None]
    assert outcomes(table([near | change, *far]))["variance_falls"] == [None] * 4


def test_expirations_of_one_instant_are_not_compared() -> None:
    """Two roots that end together are both compared with the next day; chains of other symbols never are."""
    rows = smile(NEAR, 0.2, (105,)) + smile(NEAR, 0.1, option_root="XYZW") + smile(FAR, 0.2)
    assert outcomes(table(rows))["variance_falls"] == [True] * 4 + [None] * 3
    other = smile(NEAR, 0.2, (105,)) + smile(FAR, 0.1, symbol="ZZZ")
    assert outcomes(table(other))["variance_falls"] == [None] * 4


# -- pairs -----------------------------------------------------------------------------------------------------------


def pair(call: dict[str, Any], put: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """A call and a put of one strike."""
    return [
        {"option_type": "C", "vendor_delta": 0.5, **call, **more},
        {"option_type": "P", "vendor_delta": -0.5, **put, **more},
    ]


@pytest.mark.parametrize(
    ("call_delta", "put_delta", "dividend_yield", "is_broken"),
    [
        (0.6, -0.4, 0.0, False),
        (0.61, -0.409, 0.0, False),
        (0.61, -0.42, 0.0, True),
        (0.6, -0.37, 0.0, True),
        # exp(-0.3 x 46/365) = 0.963
        (0.6, -0.363, 0.3, False),
        (0.6, -0.4, 0.3, True),
        # an unknown yield allows less than 1, not more
        (0.5, -0.3, None, False),
        (0.61, -0.42, None, True),
    ],
)
def test_deltas_of_call_and_put_differ_by_the_carried_unit(
    call_delta: float, put_delta: float, dividend_yield: float | None, is_broken: bool
) -> None:
    """Both rows of a pair break the rule or none does; an American pair never."""
    rows = pair({"vendor_delta": call_delta}, {"vendor_delta": put_delta}, dividend_yield=dividend_yield)
    assert broken(rows, "delta_parity") == ([0, 1] if is_broken else [])
    assert broken([row | {"exercise_type": "A"} for row in rows], "delta_parity") == []


@pytest.mark.parametrize("column", ["vendor_gamma", "vendor_vega"])
@pytest.mark.parametrize(
    ("call", "put", "is_broken"),
    [(0.2, 0.19, False), (0.2, 0.188, True), (0.001, 0.0, False), (0.003, 0.001, True)],
)
def test_gamma_and_vega_are_those_of_the_other_side(column: str, call: float, put: float, is_broken: bool) -> None:
    """They may differ by 5 % of the larger and one in the last digit; an American pair is not judged."""
    rule = f"{column.removeprefix('vendor_')}_sides_differ"
    for rows in (pair({column: call}, {column: put}), pair({column: put}, {column: call})):
        assert broken(rows, rule) == ([0, 1] if is_broken else [])
        assert broken([row | {"exercise_type": "A"} for row in rows], rule) == []


def test_contract_without_its_twin_has_no_pair_rules() -> None:
    """One side alone, or one without a delta, breaks nothing."""
    lonely = [{"vendor_delta": 0.9, "vendor_gamma": 0.3}, {"strike": 105.0, "option_type": "P", "vendor_delta": -0.9}]
    without = pair({"vendor_delta": 0.9}, {"vendor_delta": None})
    for rows in (lonely, without):
        for rule in ("delta_parity", "gamma_sides_differ", "vega_sides_differ"):
            assert broken(rows, rule) == []


# -- hostile and real ------------------------------------------------------------------------------------------------


def test_monstrous_numbers_raise_nothing() -> None:
    """Prices and strikes beyond reason are judged or passed over, without a warning of any library."""
    monsters = [1e300, 1e-300, -1e300, 0.0]
    rows = [
        {"strike": a, "bid": b, "ask": c, "underlying_price": d, "vendor_vega": a, "interest_rate": b}
        for a in monsters
        for b in monsters
        for c in monsters
        for d in (1e300, 1e-300)
    ]
    later = {"expiration_date": FAR, "expiration_time": datetime(2026, 3, 20, 20, 0, tzinfo=UTC)}
    assert len(outcomes(table(rows + [row | later for row in rows]))) == len(CHAIN_RULES)
    assert all(held == [] for held in outcomes(table([])).values())


def sample(name: str, closed: datetime) -> pl.DataFrame:
    """A real chain at its close, all quotes taken as fresh; skips where the samples are not there."""
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"NOT RUN: no samples beside the checkout ({name})")
    wire = pl.read_csv(path, try_parse_dates=True)
    instant = pl.lit(closed, COLUMNS["snapshot_time"].dtype)
    known = wire.with_columns(
        symbol="underlying",
        option_root="underlying",
        option_type="right",
        expiration_date="expiry",
        snapshot_time=instant,
        quote_time=instant,
        fresh=instant,
    ).with_columns(quote_status("fresh"))
    missing = [pl.lit(None, COLUMNS[name].dtype).alias(name) for name in CONTRACT if name not in known.columns]
    return known.with_columns(missing)


@pytest.mark.parametrize(
    ("name", "closed", "judged", "expected"),
    [
        ("chain_aapl_20140606.csv", datetime(2014, 6, 6, 20, 0, tzinfo=UTC), (2_020, 1_994), []),
        # the butterfly of 24 December at 760, 762.5, 765: asks of 0.10 and 0.05, a bid of 0.10 in the middle
        (
            "chain_goog_20151223.csv",
            datetime(2015, 12, 23, 21, 0, tzinfo=UTC),
            (1_582, 1_560),
            [(date(2015, 12, 24), 762.5)],
        ),
    ],
)
def test_real_chains_keep_the_order_of_prices(
    name: str, closed: datetime, judged: tuple[int, int], expected: list[tuple[date, float]]
) -> None:
    """At the close no price of two whole chains is out of order; one is dearer than its neighbours allow."""
    frame = sample(name, closed)
    found = outcomes(frame)
    assert (
        tuple(sum(held is not None for held in found[rule]) for rule in ("price_not_monotonic", "price_not_convex"))
        == judged
    )
    assert False not in found["price_not_monotonic"]
    bad = [held is False for held in found["price_not_convex"]]
    assert frame.filter(bad).select("expiration_date", "strike").rows() == expected
