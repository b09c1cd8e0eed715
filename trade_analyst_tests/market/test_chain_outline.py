"""What a body shows without being read: its mark, count and dates, and the expirations of a list in every spelling."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.chain_outline import (
    Outline,
    is_marked_short,
    listed_expirations,
    outline,
    plain_root,
)

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads" / "options"


def listing(*items: dict[str, Any]) -> bytes:
    """A list of expirations."""
    return json.dumps({"expirationList": list(items), "status": None}).encode()


def test_outline_of_a_chain() -> None:
    """The payload announces and holds four contracts of one date."""
    assert outline((PAYLOADS / "chain.json").read_bytes()) == Outline(4, 4, frozenset({date(2026, 1, 16)}))


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"callExpDateMap": 7}'])
def test_what_is_no_chain_has_no_outline(body: bytes) -> None:
    """Nothing is concluded from a body that cannot be read."""
    assert outline(body) is None
    assert not is_marked_short(body)


def test_a_key_that_is_no_date_is_passed_over() -> None:
    """Contracts are counted all the same; an announced count that is no number is not said."""
    body = b'{"numberOfContracts":"many","putExpDateMap":{"soon:3":{"5.0":[{"strikePrice":5.0},{"strikePrice":5.0}]}}}'
    assert outline(body) == Outline(2, None, frozenset())


def test_expirations_are_listed_by_date_and_root() -> None:
    """An entry may have several roots; both names of the date are read; roots are plain."""
    body = listing(
        {"expirationDate": "2026-01-16", "optionRoots": "SPX, SPXW"},
        {"expiration": "2026-01-23", "optionRoots": "BRK/B"},
        {"expirationDate": "2026-01-30", "optionRoots": "XYZ1,"},
        {"optionRoots": "XYZ"},
    )
    assert listed_expirations(body) == {
        (date(2026, 1, 16), frozenset({"SPX", "SPXW"})),
        (date(2026, 1, 23), frozenset({"BRKB"})),
        (date(2026, 1, 30), frozenset({"XYZ1"})),
    }


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"expirationList": null}', b'{"expirationList": [{"optionRoots": 5}]}']
)
def test_what_is_no_list_is_refused(body: bytes) -> None:
    """A body without a list names its reason."""
    with pytest.raises(ResponseRejectedError) as caught:
        listed_expirations(body)
    assert caught.value.reason == "no_expiration_list"


def test_roots_are_compared_as_letters_and_digits() -> None:
    """However the source writes it."""
    assert [plain_root(text) for text in ("$SPX", "brk.b", " XYZ1 ")] == ["SPX", "BRKB", "XYZ1"]
