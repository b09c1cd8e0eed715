"""Chains under assumptions of the caller."""

import json
from typing import Any

import pytest
from visiting import BEFORE_CLOSE

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer


def ask(market: Market, **params: str) -> Any:
    """The decoded chain of a good request: one strike, one expiration."""
    asked = {"symbol": "AAPL", "fromDate": "2025-12-19", "toDate": "2025-12-19", **params}
    found = answer(market, BEFORE_CLOSE, "/chains", asked)
    assert found.status == 200, found.body
    return json.loads(found.body)


def only(chain: Any, side: str) -> Any:
    """The one contract of a side."""
    ((row,),) = [list(found.values()) for found in chain[side].values()]
    return row[0]


def test_values_follow_the_assumptions(market: Market) -> None:
    """At 20 %, a year, 5 % and a price at a strike of 100 the textbook has 10.4506 for the call, 5.5735 for the put."""
    strike = only(ask(market, strikeCount="1"), "callExpDateMap")["strikePrice"]
    chain = ask(
        market, strategy="ANALYTICAL", strike=str(strike), volatility="20", underlyingPrice=str(strike),
        interestRate="5", daysToExpiration="365",
    )  # fmt: skip
    call, put = only(chain, "callExpDateMap"), only(chain, "putExpDateMap")
    assert call["theoreticalOptionValue"] == pytest.approx(strike * 0.104506, rel=1e-4)
    assert put["theoreticalOptionValue"] == pytest.approx(strike * 0.055735, rel=1e-4)
    assert (call["volatility"], put["volatility"]) == (20.0, 20.0)
    assert call["delta"] == pytest.approx(0.637, abs=0.0005)
    told = {name: chain[name] for name in ("strategy", "volatility", "interestRate", "daysToExpiration")}
    assert told == {"strategy": "ANALYTICAL", "volatility": 20.0, "interestRate": 5.0, "daysToExpiration": 365.0}
    assert chain["underlyingPrice"] == strike


def test_quotes_stay_those_of_the_market(market: Market) -> None:
    """Only the model's figures change: bid, ask, last and volume are the same as without assumptions."""
    plain = only(ask(market, strikeCount="1"), "putExpDateMap")
    assumed = only(ask(market, strikeCount="1", strategy="ANALYTICAL", volatility="80"), "putExpDateMap")
    model = {"volatility", "delta", "gamma", "theta", "vega", "rho", "theoreticalOptionValue"}
    assert {name for name in plain if plain[name] != assumed[name]} <= model
    assert assumed["theoreticalOptionValue"] > plain["theoreticalOptionValue"]


def test_without_assumptions_the_sources_constant_is_used(market: Market) -> None:
    """29 percent; other strategies pay no attention to the parameters."""
    chain = ask(market, strikeCount="1", strategy="ANALYTICAL")
    assert only(chain, "callExpDateMap")["volatility"] == 29.0
    plain = ask(market, strikeCount="1")
    assert ask(market, strikeCount="1", volatility="80", interestRate="9") == plain
