"""Asking a chain in pieces: halves that lose nothing, and the scope that pieces have together."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from trade_analyst_pipeline.market.chain_pieces import ChainPiece, chain_scope, halves, piece_of

SESSION = date(2026, 1, 5)


def day(number: int) -> date:
    """That many days after the session."""
    return SESSION + timedelta(days=number)


@pytest.mark.parametrize(
    ("piece", "params"),
    [
        (ChainPiece(), ()),
        (ChainPiece(strike_count=15), (("strikeCount", "15"),)),
        (ChainPiece(day(0), day(7)), (("fromDate", "2026-01-05"), ("toDate", "2026-01-12"))),
        (
            ChainPiece(day(1), day(1), 5, "PUT", "OTM"),
            (
                ("contractType", "PUT"),
                ("strikeCount", "5"),
                ("range", "OTM"),
                ("fromDate", "2026-01-06"),
                ("toDate", "2026-01-06"),
            ),
        ),
    ],
)
def test_piece_and_its_query(piece: ChainPiece, params: tuple[tuple[str, str], ...]) -> None:
    """A piece states only the bounds it has, and its query says the same piece again."""
    assert piece.params() == params
    assert piece_of((("symbol", "XYZ"), ("includeUnderlyingQuote", "true"), *params)) == piece


@pytest.mark.parametrize(
    "params",
    [
        (),
        (("fromDate", "2026-01-05"),),
        (("symbol", "XYZ"), ("strategy", "VERTICAL")),
        (("symbol", "XYZ"), ("fromDate", "tomorrow")),
        (("symbol", "XYZ"), ("strikeCount", "many")),
    ],
)
def test_query_that_is_no_piece(params: tuple[tuple[str, str], ...]) -> None:
    """Without a symbol, with another parameter or with a bound that cannot be read nothing is known of the question."""
    assert piece_of(params) is None


def test_window_is_halved_at_the_middle_of_the_known_expirations() -> None:
    """Of four known expirations inside the window two go to each half; those outside do not count."""
    piece = ChainPiece(day(0), day(100), 15)
    listed = [day(-3), day(4), day(11), day(18), day(95), day(400)]
    assert halves(piece, SESSION, listed) == [ChainPiece(day(0), day(11), 15), ChainPiece(day(12), day(100), 15)]


def test_window_without_known_expirations_is_halved_by_days() -> None:
    """Four days become two and two."""
    assert halves(ChainPiece(day(1), day(4)), SESSION) == [ChainPiece(day(1), day(2)), ChainPiece(day(3), day(4))]


def test_open_window_stays_open_outside() -> None:
    """A full chain is cut in its first quarter of 1,464 days; the outer ends have no bound."""
    assert halves(ChainPiece(), SESSION) == [ChainPiece(None, day(366)), ChainPiece(day(367), None)]


def test_single_day_is_halved_by_type_then_by_moneyness_then_not_at_all() -> None:
    """A day goes into calls and puts, each of these into in and out of the money, and then nothing is left."""
    one = ChainPiece(day(4), day(4))
    calls, puts = halves(one, SESSION)
    assert (calls, puts) == (ChainPiece(day(4), day(4), None, "CALL"), ChainPiece(day(4), day(4), None, "PUT"))
    inside, outside = halves(puts, SESSION)
    assert inside == ChainPiece(day(4), day(4), None, "PUT", "ITM")
    assert outside == ChainPiece(day(4), day(4), None, "PUT", "OTM")
    with pytest.raises(ValueError, match="still too large"):
        halves(inside, SESSION)


def test_day_before_the_session_is_not_halved_by_days() -> None:
    """What has expired takes no part: a window of which only the session is left is a single day."""
    piece = ChainPiece(day(-9), day(0))
    assert [part.contract_type for part in halves(piece, SESSION)] == ["CALL", "PUT"]


@pytest.mark.parametrize("listed", [[], [day(number) for number in (0, 2, 4, 7, 9, 11, 14, 40, 165, 347, 711)]])
@pytest.mark.parametrize("whole", [ChainPiece(), ChainPiece(day(0), day(60), 15), ChainPiece(day(3), None)])
def test_halving_to_the_end_asks_each_day_of_each_type_exactly_once(whole: ChainPiece, listed: list[date]) -> None:
    """Splitting every piece as far as it goes ends, and no contract is asked for twice or not at all."""
    waiting, leaves = [whole], []
    while waiting:
        piece = waiting.pop()
        parts = [] if piece.contract_type == "ALL" and piece.first and piece.first > day(70) else _parts(piece, listed)
        waiting += parts
        leaves += [] if parts else [piece]
    assert chain_scope(leaves, SESSION) == chain_scope([whole], SESSION)
    for when in (day(3), day(9), day(60)):
        asked = [
            (kind, money)
            for leaf in leaves
            if (leaf.first or date.min) <= when <= (leaf.last or date.max)
            for kind in (("CALL", "PUT") if leaf.contract_type == "ALL" else (leaf.contract_type,))
            for money in (("ITM", "OTM") if leaf.moneyness == "ALL" else (leaf.moneyness,))
        ]
        assert sorted(asked) == [("CALL", "ITM"), ("CALL", "OTM"), ("PUT", "ITM"), ("PUT", "OTM")]


def _parts(piece: ChainPiece, listed: list[date]) -> list[ChainPiece]:
    try:
        return halves(piece, SESSION, listed)
    except ValueError:
        return []


@pytest.mark.parametrize(
    ("pieces", "scope"),
    [
        ([], "unknown"),
        ([None], "unknown"),
        ([ChainPiece(), None], "unknown"),
        ([ChainPiece()], "full"),
        ([ChainPiece(), ChainPiece()], "full"),
        ([ChainPiece(strike_count=15)], "bounded strikes=15"),
        ([ChainPiece(day(0), day(60), 15)], "bounded strikes=15 days=0..60"),
        ([ChainPiece(day(0), day(60), 15, "CALL")], "bounded strikes=15 days=0..60 type=CALL"),
        ([ChainPiece(None, day(9)), ChainPiece(day(10), None)], "full"),
        ([ChainPiece(day(10), None), ChainPiece(None, day(9))], "full"),
        ([ChainPiece(None, day(9)), ChainPiece(day(11), None)], "partial"),
        ([ChainPiece(None, day(9))], "partial"),
        ([ChainPiece(day(0), day(9)), ChainPiece(day(5), day(20))], "bounded days=0..20"),
        ([ChainPiece(day(0), day(20)), ChainPiece(day(5), day(9)), ChainPiece(day(21), day(30))], "bounded days=0..30"),
        ([ChainPiece(strike_count=15), ChainPiece(strike_count=20)], "partial"),
        ([ChainPiece(contract_type="CALL"), ChainPiece(contract_type="PUT")], "full"),
        ([ChainPiece(contract_type="CALL")], "bounded type=CALL"),
        ([ChainPiece(contract_type="CALL"), ChainPiece(None, day(9), None, "PUT")], "partial"),
        ([ChainPiece(moneyness="ITM"), ChainPiece(moneyness="OTM")], "full"),
        ([ChainPiece(moneyness="ITM")], "partial"),
    ],
)
def test_scope_of_pieces_together(pieces: list[ChainPiece | None], scope: str) -> None:
    """Pieces that leave no hole have the scope of the whole; any hole, mixture or unknown question is named as such."""
    assert chain_scope(pieces, SESSION) == scope
