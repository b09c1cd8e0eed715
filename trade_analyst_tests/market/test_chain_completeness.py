"""A chain is proven whole by list and count, or refused in words that name what is missing."""

from __future__ import annotations

from datetime import date
from functools import partial

import pytest

from trade_analyst_pipeline.market import chain_completeness
from trade_analyst_pipeline.market.chain_pieces import ChainPiece

NEAR, FAR = date(2026, 1, 16), date(2026, 2, 20)
SPX, SPXW = frozenset({"SPX"}), frozenset({"SPXW"})
LISTED = frozenset({(NEAR, SPX), (NEAR, SPXW), (FAR, SPXW)})
SEEN = {(NEAR, "SPX"), (NEAR, "SPXW"), (FAR, "SPXW")}
shortfall = partial(chain_completeness.shortfall, session_date=date(2025, 12, 31))
WHOLE = [ChainPiece()]


def test_a_whole_chain_lacks_nothing() -> None:
    """Every listed expiration of every root came in one piece, and one that is not listed besides."""
    assert shortfall(LISTED, WHOLE, {*SEEN, (FAR, "SPXW1")}, 0) == ""


@pytest.mark.parametrize(
    ("pieces", "seen", "short", "words"),
    [
        (WHOLE, {(NEAR, "SPXW"), (FAR, "SPXW")}, 0, "1 of 3 expirations missing: 2026-01-16 SPX"),
        (WHOLE, set(), 0, "3 of 3 expirations missing: 2026-01-16 SPX, 2026-01-16 SPXW, 2026-02-20 SPXW"),
        ([], set(), 0, "nothing came of its 3 expirations"),
        (WHOLE, SEEN, 12, "12 contracts fewer than announced"),
        (WHOLE, SEEN, 1, "1 contract fewer than announced"),
        ([ChainPiece(last=NEAR)], {(NEAR, "SPX"), (NEAR, "SPXW")}, 0, "a piece never came, with 2026-02-20"),
        ([ChainPiece(contract_type="CALL")], SEEN, 0,
         "a piece never came, with the puts of 2026-01-16, the puts of 2026-02-20"),
        ([ChainPiece(first=NEAR), ChainPiece(last=NEAR, moneyness="ITM")], SEEN, 0, ""),
        ([ChainPiece(last=NEAR), ChainPiece(FAR, FAR, None, "CALL"), ChainPiece(FAR, FAR, None, "PUT", "ITM")], SEEN,
         0, "a piece never came, with OTM puts of 2026-02-20"),
        ([ChainPiece(last=NEAR)], {(NEAR, "SPXW")}, 3,
         ("1 of 3 expirations missing: 2026-01-16 SPX; a piece never came, with 2026-02-20; "
          "3 contracts fewer than announced")),
        ([ChainPiece(strike_count=15)], SEEN, 0, "a piece never came, with 2026-01-16, 2026-02-20"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(
    pieces: list[ChainPiece], seen: set[tuple[date, str]], short: int, words: str
) -> None:
    """By date and root, by piece, by number; more than what is listed is no fault."""
    assert shortfall(LISTED, pieces, seen, short) == words


def test_an_empty_list_proves_nothing() -> None:
    """Contracts without one listed expiration are not proven; without contracts there is nothing to prove."""
    assert "list of expirations is empty" in shortfall(frozenset(), WHOLE, {(NEAR, "XYZ")}, 0)
    assert shortfall(frozenset(), WHOLE, set(), 0) == ""


def test_many_missing_expirations_are_shown_in_part() -> None:
    """Six are named, the rest counted."""
    listed = frozenset((date(2026, 1, number), frozenset({"XYZ"})) for number in range(1, 10))
    assert shortfall(listed, WHOLE, set(), 0).endswith("2026-01-06 XYZ and 3 more")


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({(NEAR, "SPX"), (FAR, "SPXW")}, ""),
        ({(NEAR, "SPXW"), (FAR, "SPXW")}, ""),
        ({(NEAR, "SPY"), (FAR, "SPXW")}, "1 of 2 expirations missing: 2026-01-16 SPX or SPXW"),
    ],
)
def test_one_root_of_an_entry_is_enough(seen: set[tuple[date, str]], words: str) -> None:
    """The list names all roots an expiration may have; contracts of another root are none of them."""
    listed = frozenset({(NEAR, SPX | SPXW), (FAR, SPXW)})
    assert shortfall(listed, WHOLE, seen, 0) == words


@pytest.mark.parametrize(
    ("pieces", "seen", "words"),
    [
        (WHOLE, {(FAR, "SPXW")}, ""),
        (WHOLE, {(FAR, "SPXW"), (NEAR, "SPXW")}, "1 of 3 expirations missing: 2026-01-16 SPX"),
        (WHOLE, {(NEAR, "SPX"), (NEAR, "SPXW")}, "1 of 3 expirations missing: 2026-02-20 SPXW"),
        ([ChainPiece(first=FAR)], {(FAR, "SPXW")}, "a piece never came, with 2026-01-16"),
    ],
)
def test_the_day_itself_may_have_no_contracts_any_more(
    pieces: list[ChainPiece], seen: set[tuple[date, str]], words: str
) -> None:
    """On the day it expires none is no fault; some without the others, another day's, or a piece not there, are."""
    assert chain_completeness.shortfall(LISTED, pieces, seen, 0, session_date=NEAR) == words
