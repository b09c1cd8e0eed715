"""Pieces of a full chain are planned so that each fits, none is asked twice and there are as few as can be."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_analyst_pipeline.market.chain_pieces import ChainPiece, chain_scope, halves
from trade_analyst_pipeline.market.chain_windows import expected_sizes, planned_pieces, uncovered

SESSION = date(2026, 1, 5)


def day(offset: int) -> date:
    """A date that many days after the session."""
    return SESSION + timedelta(days=offset)


def dated(*sizes: int) -> dict[date, int]:
    """Expirations a week apart that weigh so much."""
    return {day(7 * number): size for number, size in enumerate(sizes)}


def test_a_chain_that_fits_is_asked_as_a_whole() -> None:
    """No bounds where none are needed: an expiration that the list forgot comes too."""
    sizes = dated(3, 3, 3)
    assert planned_pieces(sizes, [], sizes, room=9) == [ChainPiece()]


def test_windows_are_the_fewest_that_fit_and_even() -> None:
    """Twelve of 2 with room for 9 take three windows of four; a heavy first date leaves the rest to the second."""
    sizes = dated(*[2] * 12)
    assert planned_pieces(sizes, [], sizes, room=9) == [
        ChainPiece(None, day(21)),
        ChainPiece(day(22), day(49)),
        ChainPiece(day(50), None),
    ]
    sizes = dated(6, 1, 1, 1, 1, 1, 1)
    assert [piece.last for piece in planned_pieces(sizes, [], sizes, room=9)] == [day(0), None]


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (10, [("CALL", "ALL"), ("PUT", "ALL")]),
        (18, [("CALL", "ALL"), ("PUT", "ALL")]),
        (19, [("CALL", "ITM"), ("CALL", "OTM"), ("PUT", "ITM"), ("PUT", "OTM")]),
    ],
)
def test_an_expiration_too_large_alone_is_split_by_type_then_by_the_money(
    size: int, parts: list[tuple[str, str]]
) -> None:
    """Over the room by type, over twice the room by the side of the money as well; its neighbours stay whole."""
    sizes = dated(4, size, 4)
    first, *middle, last = planned_pieces(sizes, [], sizes, room=9)
    assert (first, last) == (ChainPiece(None, day(0)), ChainPiece(day(8), None))
    assert [(piece.first, piece.last) for piece in middle] == [(day(1), day(7))] * len(parts)
    assert [(piece.contract_type, piece.moneyness) for piece in middle] == parts


def test_only_what_is_not_covered_is_planned() -> None:
    """Between pieces that came, the window of the missing dates joins both without a hole."""
    sizes = dated(2, 2, 2, 2, 2)
    answered = [ChainPiece(None, day(7)), ChainPiece(day(22), None)]
    missing = planned_pieces(sizes, answered, sizes, room=9)
    assert missing == [ChainPiece(day(8), day(21))]
    assert chain_scope([*answered, *missing], SESSION) == "full"
    assert planned_pieces(sizes, [*answered, *missing], sizes, room=9) == []


def test_of_a_date_that_came_in_part_the_rest_is_planned() -> None:
    """Calls came and one side of the puts: the other side of the puts is asked for, alone."""
    sizes = dated(2, 2, 2)
    single = ChainPiece(day(8), day(14), None, "PUT", "ITM")
    answered = [ChainPiece(None, day(7)), ChainPiece(day(8), day(14), None, "CALL"), single]
    assert uncovered(day(14), answered) == [("PUT", "OTM")]
    assert planned_pieces(sizes, answered, sizes, room=9) == [ChainPiece(day(14), day(14), None, "PUT", "OTM")]
    assert planned_pieces(sizes, answered[:2], sizes, room=9) == [ChainPiece(day(14), day(14), None, "PUT")]


def test_strikes_around_the_money_cover_nothing() -> None:
    """A bounded piece is no part of a full chain."""
    assert len(uncovered(day(0), [ChainPiece(strike_count=15)])) == 4


def test_sizes_are_those_of_the_pieces_that_came_before() -> None:
    """A piece's bytes are shared out among its dates; types of one date add up; an unknown date weighs the mean."""
    known = {
        ChainPiece(None, day(7)): 40,
        ChainPiece(day(8), day(14), None, "CALL"): 30,
        ChainPiece(day(8), day(14), None, "PUT"): 32,
    }
    assert expected_sizes([day(0), day(7), day(14), day(700)], known) == {
        day(0): 20,
        day(7): 20,
        day(14): 62,
        day(700): 34,
    }


def test_the_first_guess_grows_with_the_number_of_expirations() -> None:
    """A stock's chain is asked for whole at first, an index's in three: 17 and 50 expirations."""
    for count, pieces in ((17, 1), (31, 1), (41, 2), (50, 3)):
        sizes = expected_sizes(map(day, range(count)), {})
        assert len(planned_pieces(sizes, [], sizes)) == pieces


@st.composite
def chains(draw: st.DrawFn) -> tuple[dict[date, int], list[ChainPiece]]:
    """Sizes of a chain's dates, and pieces of it that came, as chance would have it."""
    dates = sorted(draw(st.sets(st.integers(0, 900), min_size=1, max_size=40)))
    sizes = {day(offset): draw(st.integers(1, 30)) for offset in dates}
    pieces = planned_pieces(sizes, [], sizes, room=10)
    for _ in range(draw(st.integers(0, 6))):
        chosen = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        try:
            pieces += halves(chosen, SESSION, list(sizes))
        except ValueError:
            pieces.append(chosen)
    return sizes, draw(st.lists(st.sampled_from(pieces), unique=True))


@settings(max_examples=300, deadline=None)
@given(chains())
def test_with_what_came_all_is_asked_exactly_once(chain: tuple[dict[date, int], list[ChainPiece]]) -> None:
    """Whatever came, it and the plan together hold each type and side of each date exactly once, and are full."""
    sizes, answered = chain
    planned = planned_pieces(sizes, answered, sizes, room=10)
    for expiration in sizes:
        for side in ("CALL", "PUT"):
            for money in ("ITM", "OTM"):
                holding = [
                    piece
                    for piece in (*answered, *planned)
                    if piece.spans(expiration)
                    and piece.contract_type in {"ALL", side}
                    and piece.moneyness in {"ALL", money}
                ]
                assert len(holding) == 1
    if not answered:
        assert chain_scope(planned, SESSION) == "full"
        alone = [piece for piece in planned if piece.contract_type == "ALL"]
        assert all(sum(size for each, size in sizes.items() if piece.spans(each)) <= 10 for piece in alone)
