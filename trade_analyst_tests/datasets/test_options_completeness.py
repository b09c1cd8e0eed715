"""A full chain is whole or refused by name: listed expirations, roots, contracts and pieces, on simulated bodies."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.market.chain_pieces import ChainPiece
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.simulator import routes
from trade_analyst_pipeline.simulator.faults import contracts_in
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.validation import validate

SESSION, ARRIVED = date(2026, 1, 5), datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
SIDES = ("callExpDateMap", "putExpDateMap")
NEAR = ChainPiece(last=date(2026, 1, 9))
THIRD_FRIDAY = ChainPiece(date(2026, 1, 10), date(2026, 1, 16))
REST = ChainPiece(date(2026, 1, 17), date(2026, 1, 31))
Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def market() -> Market:
    """The simulated market."""
    return Market(7)


@cache
def body_of(market: Market, request: MarketDataRequest) -> bytes:
    """The simulator's answer to a request."""
    return routes.answer(market, ARRIVED, request.path, dict(request.params)).body


def answered(market: Market, request: MarketDataRequest, change: Change | None = None) -> RawResponse:
    """The simulator's answer to a request, its document changed."""
    body = body_of(market, request)
    if change is not None:
        document = json.loads(body)
        change(document)
        body = json.dumps(document).encode()
    return RawResponse(request, 200, body, (), ARRIVED, ARRIVED)


def captured(market: Market, symbol: str, *, chain: Change | None = None, listing: Change | None = None) -> Normalized:
    """The list of a symbol and its whole chain as one capture, normalized."""
    requests = [options.listing_request(symbol), *options.requests([symbol])]
    responses = [answered(market, request, change) for request, change in zip(requests, (listing, chain), strict=True)]
    return options.normalize(responses, session_date=SESSION)


def scopes(found: Normalized) -> dict[str, str]:
    """The one scope of each symbol's rows."""
    return dict(found.frame.select("symbol", "chain_scope").unique().sort("symbol").iter_rows())


def refusals(found: Normalized) -> list[tuple[str, str]]:
    """Whose chain was refused, and why."""
    return [(each.symbols[0], each.detail) for each in found.problems if each.reason == "incomplete_chain"]


def weekly(chain: Any) -> None:
    """Take the second expiration out of a chain, as if it had been left out."""
    for side in SIDES:
        key = sorted(chain[side])[1]
        for listed in chain[side].pop(key).values():
            chain["numberOfContracts"] -= len(listed)


def test_a_chain_with_weeklies_is_whole(market: Market) -> None:
    """A stock's chain with all its weeklies and its list: full, nothing refused."""
    found = captured(market, "AAPL")
    assert (scopes(found), refusals(found)) == ({"AAPL": "full"}, [])
    assert found.frame["expiration_type"].unique().sort().to_list() == ["S", "W"]
    assert validate(found.frame, options.SCHEMA).rule_counts["chain_incomplete"] == 0


def test_a_weekly_left_out_is_named(market: Market) -> None:
    """One weekly missing of seventeen: every row is partial, which the rule counts, and the date is told."""
    found = captured(market, "AAPL", chain=weekly)
    ((symbol, detail),) = refusals(found)
    assert (symbol, detail) == ("AAPL", "1 of 17 expirations missing: 2026-01-16 AAPL")
    assert scopes(found) == {"AAPL": "partial"}
    assert validate(found.frame, options.SCHEMA).rule_counts["chain_incomplete"] == found.frame.height


def test_contracts_that_were_announced_and_did_not_come(market: Market) -> None:
    """Seven fewer than the source counts are seven short; one more than it counts is no fault."""
    found = captured(market, "AAPL", chain=lambda chain: chain.update(numberOfContracts=chain["numberOfContracts"] + 7))
    assert refusals(found) == [("AAPL", "7 contracts fewer than announced")]
    more = captured(market, "AAPL", chain=lambda chain: chain.update(numberOfContracts=chain["numberOfContracts"] - 1))
    assert (scopes(more), more.counts["announced_contracts_differ"]) == ({"AAPL": "full"}, 1)


def test_a_short_count_is_refused_without_a_list_too(market: Market) -> None:
    """A chain captured without its list is judged by its own count."""
    (request,) = options.requests(["AAPL"])
    short = answered(market, request, lambda chain: chain.update(numberOfContracts=chain["numberOfContracts"] + 1))
    assert scopes(options.normalize([short], session_date=SESSION)) == {"AAPL": "partial"}
    assert scopes(options.normalize([answered(market, request)], session_date=SESSION)) == {"AAPL": "full"}


def test_a_hole_is_told_without_a_list_too(market: Market) -> None:
    """Pieces that leave a hole are partial by themselves."""
    (request,) = options.pieces("AAPL", [NEAR])
    found = options.normalize([answered(market, request)], session_date=SESSION)
    assert (scopes(found), refusals(found)) == ({"AAPL": "partial"}, [("AAPL", "its pieces leave a hole")])


# -- roots -----------------------------------------------------------------------------------------------------------


def until_february(listing: Any) -> None:
    """The list as far as January goes, to keep bodies small."""
    listing["expirationList"] = [item for item in listing["expirationList"] if item["expirationDate"] < "2026-02"]


def index(market: Market, *pieces: ChainPiece, change: Change | None = None) -> Normalized:
    """The list of the index up to February and these pieces of its chain, each changed."""
    responses = [answered(market, options.listing_request("$SPX"), until_february)]
    responses += [answered(market, request, change) for request in options.pieces("$SPX", pieces)]
    return options.normalize(responses, session_date=SESSION)


def test_morning_and_evening_roots_on_one_date(market: Market) -> None:
    """SPX and SPXW stand under one strike on third Fridays; both are there and the chain in pieces is full."""
    found = index(market, NEAR, THIRD_FRIDAY, REST)
    assert (scopes(found), refusals(found)) == ({"$SPX": "full"}, [])
    each = found.frame.group_by("expiration_date", "strike", "option_type").agg(pl.col("option_root").sort())
    assert ["SPX", "SPXW"] in each["option_root"].to_list()


def test_a_missing_root_is_named_although_its_date_is_there(market: Market) -> None:
    """The morning contracts of the first third Friday are left out: refused, by date and root."""

    def without_morning(chain: Any) -> None:
        for side in SIDES:
            for key, strikes in chain[side].items():
                if key.startswith("2026-01-16"):
                    for listed in strikes.values():
                        kept = [contract for contract in listed if contract["optionRoot"] != "SPX"]
                        chain["numberOfContracts"] -= len(listed) - len(kept)
                        listed[:] = kept

    found = index(market, NEAR, THIRD_FRIDAY, REST, change=without_morning)
    ((_, detail),) = refusals(found)
    assert "expirations missing: 2026-01-16 SPX" in detail
    assert scopes(found) == {"$SPX": "partial"}


def test_a_piece_that_never_came_is_named(market: Market) -> None:
    """Without the middle of its windows the index is partial, and the dates of the hole are told."""
    ((_, detail),) = refusals(index(market, NEAR, REST))
    days = ", ".join(f"2026-01-{number}" for number in range(12, 17))
    assert detail == f"a piece never came, with {days}"


def test_windows_need_not_adjoin_where_no_expiration_lies_between(market: Market) -> None:
    """Pieces that hold every listed expiration are full, although a weekend is in none of them."""
    after_weekend = ChainPiece(date(2026, 1, 20), date(2026, 1, 31))
    assert scopes(index(market, NEAR, THIRD_FRIDAY, after_weekend)) == {"$SPX": "full"}


def adjusted(chain: Any) -> None:
    """Beside each standard contract of the first expiration an adjusted one, with root AAPL1."""
    for side in SIDES:
        strikes = chain[side][min(chain[side])]
        for listed in strikes.values():
            twin = copy.deepcopy(listed[0])
            twin["symbol"] = twin["symbol"].replace("AAPL  ", "AAPL1 ")
            twin |= {"optionRoot": "AAPL1", "nonStandard": True, "deliverableNote": "100 AAPL + $5.00"}
            listed.append(twin)
            chain["numberOfContracts"] += 1


def listed_with_adjusted(listing: Any) -> None:
    """The list has an entry of the adjusted root beside that of the standard one."""
    first = listing["expirationList"][0]
    listing["expirationList"].insert(1, first | {"optionRoots": "AAPL1"})


def test_adjusted_contracts_beside_standard_ones(market: Market) -> None:
    """Two contracts per strike, root AAPL1: whole with them, also where the list does not name them."""
    found = captured(market, "AAPL", chain=adjusted, listing=listed_with_adjusted)
    assert (scopes(found), refusals(found)) == ({"AAPL": "full"}, [])
    assert found.frame.filter(pl.col("option_root") == "AAPL1")["is_non_standard"].all()
    assert scopes(captured(market, "AAPL", chain=adjusted)) == {"AAPL": "full"}


def test_a_missing_adjusted_root_is_named(market: Market) -> None:
    """The list has AAPL1 and no contract of it came."""
    found = captured(market, "AAPL", listing=listed_with_adjusted)
    assert refusals(found) == [("AAPL", "1 of 18 expirations missing: 2026-01-09 AAPL1")]


def test_one_root_of_an_entry_is_enough(market: Market) -> None:
    """An entry that names both roots is there with the standard contracts alone."""
    both = captured(market, "AAPL", listing=lambda each: each["expirationList"][0].update(optionRoots="AAPL,AAPL1"))
    assert (scopes(both), refusals(both)) == ({"AAPL": "full"}, [])


@pytest.mark.parametrize("stated", [None, ""])
def test_contracts_without_a_root_are_of_that_in_their_symbol(market: Market, stated: str | None) -> None:
    """A chain whose contracts do not state their root is as whole as one whose do."""

    def unnamed(chain: Any) -> None:
        for contract in contracts_in(chain):
            contract["optionRoot"] = stated

    found = captured(market, "AAPL", chain=unnamed)
    assert (scopes(found), refusals(found)) == ({"AAPL": "full"}, [])


# -- the session's own expiration ------------------------------------------------------------------------------------

TODAY = ChainPiece(last=SESSION)
LATER = ChainPiece(first=date(2026, 1, 6))


def ending_today(listing: Any) -> None:
    """The list has an expiration of the session's own date besides."""
    listing["expirationList"].append(listing["expirationList"][0] | {"expirationDate": SESSION.isoformat()})


def emptied(chain: Any) -> None:
    """No contract of any expiration."""
    chain.update({side: {} for side in SIDES}, numberOfContracts=0)


@pytest.mark.parametrize("piece_came", [True, False])
def test_an_expiration_that_ended_today_is_no_fault(market: Market, piece_came: bool) -> None:
    """Listed still, without a contract any more: whole, but not where the piece of that day never came."""
    responses = [answered(market, options.listing_request("AAPL"), ending_today)]
    responses += [answered(market, request, emptied) for request in options.pieces("AAPL", [TODAY] * piece_came)]
    responses += [answered(market, request) for request in options.pieces("AAPL", [LATER])]
    found = options.normalize(responses, session_date=SESSION)
    assert scopes(found) == {"AAPL": "full" if piece_came else "partial"}
    assert refusals(found) == ([] if piece_came else [("AAPL", "a piece never came, with 2026-01-05")])


# -- what proves nothing ---------------------------------------------------------------------------------------------


def test_a_list_without_any_chain_is_told(market: Market) -> None:
    """The list came, of the chain nothing did: no row, and a problem that says so."""
    found = options.normalize([answered(market, options.listing_request("AAPL"))], session_date=SESSION)
    assert found.frame.is_empty()
    assert refusals(found) == [("AAPL", "nothing came of its 17 expirations")]


def test_an_empty_list_proves_nothing(market: Market) -> None:
    """Contracts that no list knows are not proven."""
    found = captured(market, "AAPL", listing=lambda listing: listing.update(expirationList=[]))
    assert scopes(found) == {"AAPL": "partial"}


def test_an_unreadable_list_is_a_problem_of_its_own(market: Market) -> None:
    """What is no list is named; the chain beside it is judged as one without a list."""
    found = captured(market, "AAPL", listing=lambda listing: listing.clear())
    assert [problem.reason for problem in found.problems] == ["no_expiration_list"]


def test_a_list_that_was_asked_for_in_vain_leaves_its_chain_unproven(market: Market) -> None:
    """Only the symbol whose list never came is refused, and only its full chain."""
    responses = [answered(market, request) for request in options.requests(["AAPL", "MSFT"])]
    found = options.normalize(responses, session_date=SESSION)
    judged = options.without_proof(found, [options.listing_request("AAPL"), *options.requests(["MSFT"])])
    assert scopes(judged) == {"AAPL": "partial", "MSFT": "full"}
    assert refusals(judged) == [("AAPL", "the list of expirations never came, so nothing proves the chain whole")]
    assert options.without_proof(found, []) is found


def test_bounded_chains_need_no_proof(market: Market) -> None:
    """Strikes around the money are what was asked for, list or no list."""
    (request,) = options.requests(["AAPL"], strike_count=5)
    found = options.normalize([answered(market, request)], session_date=SESSION)
    assert scopes(options.without_proof(found, [options.listing_request("AAPL")])) == {"AAPL": "bounded strikes=5"}


def test_every_contract_of_the_body_is_counted(market: Market) -> None:
    """The check against the body itself: rows of the table are the contracts that were sent."""
    (request,) = options.requests(["AAPL"])
    response = answered(market, request)
    sent = sum(1 for _ in contracts_in(json.loads(response.body)))
    assert options.normalize([response], session_date=SESSION).frame.height == sent
