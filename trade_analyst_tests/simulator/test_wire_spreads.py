"""Chains of spread strategies."""

import json
from typing import Any

import pytest
from visiting import BEFORE_CLOSE

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer

MONTH_FIELDS = [
    "month", "year", "day", "daysToExp", "type", "leap",
    "secondaryMonth", "secondaryYear", "secondaryDay", "secondaryDaysToExp", "secondaryType", "secondaryLeap",
    "optionStrategyList",
]  # fmt: skip
LEG_FIELDS = ["symbol", "putCallInd", "description", "bid", "ask", "range", "strikePrice", "totalVolume"]


def ask(market: Market, **params: str) -> Any:
    """The decoded chain of a good request for few strikes of AAPL in December."""
    asked = {"symbol": "AAPL", "strikeCount": "4", "toDate": "2025-12-31", **params}
    found = answer(market, BEFORE_CLOSE, "/chains", asked)
    assert found.status == 200, found.body
    return json.loads(found.body)


def strategies(chain: Any) -> list[Any]:
    """All strategies of a chain, each with the month it stands in."""
    return [(month, item) for month in chain["monthlyStrategyList"] for item in month["optionStrategyList"]]


@pytest.mark.parametrize("strategy", ["VERTICAL", "STRADDLE", "STRANGLE", "CALENDAR", "DIAGONAL"])
def test_strategies_stand_in_a_list_beside_empty_maps(market: Market, strategy: str) -> None:
    """Both maps are empty; each month has pairs of legs whose quotes are those of the chain."""
    chain, plain = ask(market, strategy=strategy), ask(market)
    assert (chain["status"], chain["strategy"], chain["numberOfContracts"]) == ("SUCCESS", strategy, 0)
    assert chain["callExpDateMap"] == {} == chain["putExpDateMap"]
    quotes = {
        contract["symbol"]: (contract["bid"], contract["ask"], contract["totalVolume"])
        for side in ("callExpDateMap", "putExpDateMap")
        for row in plain[side].values()
        for (contract,) in row.values()
    }
    found = strategies(chain)
    assert found
    for month, item in found:
        assert list(month) == MONTH_FIELDS
        for leg in (item["primaryLeg"], item["secondaryLeg"]):
            assert list(leg) == LEG_FIELDS
            assert quotes[leg["symbol"]] == (leg["bid"], leg["ask"], leg["totalVolume"])
        assert item["strategyBid"] <= item["strategyAsk"]


def test_a_vertical_buys_one_strike_and_sells_the_next(market: Market) -> None:
    """Same expiration and side, strikes ascending; the bid is the first's bid less the second's ask."""
    for _, item in strategies(ask(market, strategy="VERTICAL")):
        first, second = item["primaryLeg"], item["secondaryLeg"]
        assert first["putCallInd"] == second["putCallInd"]
        assert first["symbol"][6:12] == second["symbol"][6:12]
        assert first["strikePrice"] < second["strikePrice"]
        assert item["strategyBid"] == pytest.approx(first["bid"] - second["ask"], abs=0.001)
        assert item["strategyAsk"] == pytest.approx(first["ask"] - second["bid"], abs=0.001)
    puts = strategies(ask(market, strategy="VERTICAL", contractType="PUT"))
    assert {item["primaryLeg"]["putCallInd"] for _, item in puts} == {"P"}


def test_an_interval_sets_the_strikes_apart(market: Market) -> None:
    """Ten dollars between the legs, repeated in the answer; an interval that no two strikes have is no strategy."""
    chain = ask(market, strategy="VERTICAL", interval="10", strikeCount="12")
    assert chain["interval"] == 10.0
    found = strategies(chain)
    assert found
    assert {item["secondaryLeg"]["strikePrice"] - item["primaryLeg"]["strikePrice"] for _, item in found} == {10.0}
    assert ask(market, strategy="VERTICAL", interval="0.37")["status"] == "FAILED"


def test_straddles_and_strangles_buy_both_sides(market: Market) -> None:
    """A call and a put at one strike, or a put below and a call above; prices add up."""
    for _, item in strategies(ask(market, strategy="STRADDLE")):
        call, put = item["primaryLeg"], item["secondaryLeg"]
        assert (call["putCallInd"], put["putCallInd"], call["strikePrice"]) == ("C", "P", put["strikePrice"])
        assert item["strategyAsk"] == pytest.approx(call["ask"] + put["ask"], abs=0.001)
    for _, item in strategies(ask(market, strategy="STRANGLE")):
        put, call = item["primaryLeg"], item["secondaryLeg"]
        assert (put["putCallInd"], call["putCallInd"]) == ("P", "C")
        assert put["strikePrice"] < call["strikePrice"]


def test_calendars_and_diagonals_reach_over_two_expirations(market: Market) -> None:
    """The second leg expires at the next date; a calendar keeps the strike, a diagonal moves up."""
    for strategy, is_higher in (("CALENDAR", False), ("DIAGONAL", True)):
        for month, item in strategies(ask(market, strategy=strategy)):
            first, second = item["primaryLeg"], item["secondaryLeg"]
            assert month["daysToExp"] < month["secondaryDaysToExp"]
            assert first["symbol"][6:12] < second["symbol"][6:12]
            assert (first["strikePrice"] < second["strikePrice"]) is is_higher


@pytest.mark.parametrize("strategy", ["COVERED", "BUTTERFLY", "CONDOR", "COLLAR", "ROLL", "LADDER"])
def test_other_strategies_are_refused(market: Market, strategy: str) -> None:
    """Those of more than two contracts or with stock, and words that are no strategy, are a 400."""
    found = answer(market, BEFORE_CLOSE, "/chains", {"symbol": "AAPL", "strategy": strategy})
    assert found.status == 400
