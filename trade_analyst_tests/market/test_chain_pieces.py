"""Pieces of a chain: halving loses and repeats nothing, and all pieces together have the scope of the whole."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_analyst_pipeline.market.chain_pieces import ChainPiece, Snapshots, chain_scope, halves, piece_of

SESSION = date(2026, 1, 5)


def day(offset: int) -> date:
    """A date that many days after the session."""
    return SESSION + timedelta(days=offset)


def times_covered(pieces: list[ChainPiece], expiration: date, side: str, moneyness: str) -> int:
    """How many pieces ask for the contracts of one expiration, type and side of the money."""
    return sum(
        (piece.first or date.min) <= expiration <= (piece.last or date.max)
        and piece.contract_type in {"ALL", side}
        and piece.moneyness in {"ALL", moneyness}
        for piece in pieces
    )


@st.composite
def pieces_of_a_whole(draw: st.DrawFn) -> tuple[ChainPiece, list[ChainPiece]]:
    """A question, and the pieces it was halved into as chance would have it."""
    first = draw(st.none() | st.integers(0, 40).map(day))
    last = None if first is None else first + timedelta(days=draw(st.integers(0, 20)))
    whole = ChainPiece(first, last, draw(st.none() | st.integers(1, 30)), draw(st.sampled_from(["ALL", "CALL", "PUT"])))
    expirations = draw(st.lists(st.integers(0, 60).map(day), max_size=8))
    pieces = [whole]
    for _ in range(draw(st.integers(0, 14))):
        chosen = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        try:
            pieces += halves(chosen, SESSION, expirations)
        except ValueError:
            pieces.append(chosen)
    return whole, pieces


@settings(max_examples=200, deadline=None)
@given(pieces_of_a_whole(), st.integers(0, 2000).map(day))
def test_pieces_ask_for_everything_exactly_once(halved: tuple[ChainPiece, list[ChainPiece]], expiration: date) -> None:
    """However often a question is halved, each contract it asks for is asked in exactly one piece, others in none."""
    whole, pieces = halved
    for side in ("CALL", "PUT"):
        for moneyness in ("ITM", "OTM"):
            asked = times_covered([whole], expiration, side, moneyness)
            assert times_covered(pieces, expiration, side, moneyness) == asked


@settings(max_examples=200, deadline=None)
@given(pieces_of_a_whole(), st.randoms())
def test_pieces_have_the_scope_of_the_whole(halved: tuple[ChainPiece, list[ChainPiece]], chance: object) -> None:
    """The scope of all pieces, in any order, is that of the question; with one missing it is another."""
    whole, pieces = halved
    chance.shuffle(pieces)  # type: ignore[attr-defined]
    assert chain_scope(pieces, SESSION) == chain_scope([whole], SESSION)
    if len(pieces) > 1:
        assert chain_scope(pieces[1:], SESSION) != chain_scope([whole], SESSION)


def test_window_is_cut_at_the_middle_expiration() -> None:
    """With known expirations each half holds as many of them."""
    expirations = [day(1), day(2), day(3), day(300), day(400), day(1400)]
    near, far = halves(ChainPiece(), SESSION, expirations)
    assert (near.first, near.last) == (None, day(3))
    assert (far.first, far.last) == (day(4), None)


def test_open_window_without_expirations_is_cut_in_its_first_quarter() -> None:
    """Expirations thin out with time, so an open window is cut early; it stays open at both ends."""
    near, far = halves(ChainPiece(), SESSION)
    assert near.first is None
    assert far.last is None
    assert near.last == day(366)


def test_closed_window_is_cut_in_the_middle_of_its_days() -> None:
    """Two days become one and one, expired days before the session do not count."""
    assert [(piece.first, piece.last) for piece in halves(ChainPiece(day(-10), day(1)), SESSION)] == [
        (day(-10), day(0)),
        (day(1), day(1)),
    ]


def test_single_day_is_split_by_type_then_by_the_money_then_not_at_all() -> None:
    """The last resorts come in order, and at the end the refusal says so."""
    single = ChainPiece(day(3), day(3), 5)
    calls, puts = halves(single, SESSION)
    assert (calls.contract_type, puts.contract_type) == ("CALL", "PUT")
    inside, outside = halves(puts, SESSION)
    assert (inside.moneyness, outside.moneyness) == ("ITM", "OTM")
    assert outside == ChainPiece(day(3), day(3), 5, "PUT", "OTM")
    with pytest.raises(ValueError, match="still too large"):
        halves(outside, SESSION)


@pytest.mark.parametrize(
    ("pieces", "scope"),
    [
        ([ChainPiece()], "full"),
        ([ChainPiece(day(1), day(60), 15)], "bounded strikes=15 days=1..60"),
        ([ChainPiece(strike_count=15)], "bounded strikes=15"),
        ([ChainPiece(day(0), day(0))], "bounded days=0..0"),
        ([ChainPiece(contract_type="PUT")], "bounded type=PUT"),
        ([ChainPiece(contract_type="CALL"), ChainPiece(contract_type="PUT")], "full"),
        ([ChainPiece(), ChainPiece()], "full"),
        ([ChainPiece(last=day(5)), ChainPiece(first=day(6))], "full"),
        ([ChainPiece(last=day(5)), ChainPiece(first=day(7))], "partial"),
        ([ChainPiece(last=day(5))], "partial"),
        ([ChainPiece(first=day(5))], "partial"),
        ([ChainPiece(day(1), day(5)), ChainPiece(day(6), day(9), contract_type="CALL")], "partial"),
        ([ChainPiece(day(1), day(5), 3), ChainPiece(day(6), day(9), 4)], "partial"),
        ([ChainPiece(moneyness="ITM")], "partial"),
        ([ChainPiece(moneyness="ITM"), ChainPiece(moneyness="OTM")], "full"),
        ([None], "unknown"),
        ([ChainPiece(), None], "unknown"),
        ([], "unknown"),
    ],
)
def test_scope(pieces: list[ChainPiece | None], scope: str) -> None:
    """Scopes are told in words that do not change from session to session."""
    assert chain_scope(pieces, SESSION) == scope


def test_equal_questions_of_two_sessions_read_alike() -> None:
    """The same bounds counted from another session give the same scope."""
    later = SESSION + timedelta(days=100)
    shifted = ChainPiece(later + timedelta(days=1), later + timedelta(days=60), 15)
    assert chain_scope([shifted], later) == chain_scope([ChainPiece(day(1), day(60), 15)], SESSION)


@pytest.mark.parametrize(
    "piece",
    [
        ChainPiece(),
        ChainPiece(day(1), day(60), 15),
        ChainPiece(day(1), None, None, "PUT"),
        ChainPiece(None, day(2), 1, "CALL", "OTM"),
    ],
)
def test_piece_is_read_back_from_its_query(piece: ChainPiece) -> None:
    """A query made from a piece means that piece again."""
    assert piece_of((("symbol", "X"), ("includeUnderlyingQuote", "true"), *piece.params())) == piece


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"fromDate": "2026-01-06"},
        {"symbol": "X", "strategy": "VERTICAL"},
        {"symbol": "X", "fromDate": "tomorrow"},
        {"symbol": "X", "strikeCount": "many"},
    ],
)
def test_query_of_another_kind_is_no_piece(query: dict[str, str]) -> None:
    """A recording without its query, another strategy or an unreadable bound is not guessed at."""
    assert piece_of(query.items()) is None


NOON = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)


def test_pieces_of_one_chain_have_the_time_of_the_last_and_the_scope_of_all() -> None:
    """Two halves that came a minute apart, in either order, are one full snapshot as of the later."""
    near, far = (piece.params() for piece in halves(ChainPiece(), SESSION))
    for first, second in ((0, 60), (60, 0)):
        snapshots = Snapshots()
        for params, seconds in ((near, first), (far, second)):
            query = (("symbol", "XYZ"), *params)
            snapshots.add("XYZ", query, received_time=NOON + timedelta(seconds=seconds))
        assert snapshots.each(SESSION) == [("full", NOON + timedelta(seconds=60))] * 2


def test_piece_asked_again_belongs_to_another_snapshot() -> None:
    """A chain that was asked twice in one capture is two snapshots; other symbols have their own."""
    snapshots = Snapshots()
    for symbol, seconds in (("XYZ", 0), ("ABC", 5), ("XYZ", 90)):
        snapshots.add(symbol, (("symbol", symbol),), received_time=NOON + timedelta(seconds=seconds))
    assert [time - NOON for _, time in snapshots.each(SESSION)] == [timedelta(seconds=n) for n in (0, 5, 90)]
    assert {scope for scope, _ in snapshots.each(SESSION)} == {"full"}


@pytest.mark.parametrize(
    ("held", "wanted", "covers", "holds_part"),
    [
        (ChainPiece(), ChainPiece(), True, True),
        (ChainPiece(), ChainPiece(day(0), day(60), 15), True, False),
        (ChainPiece(day(0), day(60), 15), ChainPiece(), False, False),
        (ChainPiece(day(0), day(60), 15), ChainPiece(day(0), day(45), 10), True, False),
        (ChainPiece(day(0), day(60), 10), ChainPiece(day(0), day(60), 15), False, False),
        (ChainPiece(day(0), day(60), 15), ChainPiece(day(0), day(90), 15), False, False),
        (ChainPiece(), ChainPiece(last=day(9), contract_type="CALL", moneyness="ITM"), True, True),
        (ChainPiece(contract_type="PUT"), ChainPiece(contract_type="CALL"), False, False),
        (ChainPiece(first=day(5)), ChainPiece(last=day(9)), False, False),
    ],
)
def test_what_a_piece_covers(held: ChainPiece, wanted: ChainPiece, covers: bool, holds_part: bool) -> None:
    """More strikes, expirations, types or sides cover fewer; parts of one split have the same strikes."""
    assert held.covers(wanted) is covers
    assert held.holds_part(wanted) is holds_part
