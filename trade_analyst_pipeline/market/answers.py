"""How a response becomes something a dataset can use: read strictly, else tolerantly, else a problem with a name.

What the members of an answer are called belongs to the datasets; the two ways of reading JSON are in `wire_json` and
`tolerant_json`, what is collected on the way in `normalized`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.normalized import Intake, request_text
from trade_analyst_pipeline.market.tolerant_json import entries, parse_tolerant
from trade_analyst_pipeline.market.wire_json import NOT_STRICT, RowShape, Unknown, unknown_field

ERROR_MEMBERS: Final = frozenset({"errors", "fault", "message"})


class Asked(Protocol):
    """What is needed of a request."""

    @property
    def path(self) -> str:
        """Path below the source's address."""

    @property
    def params(self) -> tuple[tuple[str, str], ...]:
        """Query pairs."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """What was asked for."""


class Answered(Protocol):
    """What is needed of a response."""

    @property
    def request(self) -> Asked:
        """What was asked."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def body(self) -> bytes:
        """Bytes as they arrived."""

    @property
    def received_time(self) -> datetime:
        """When the last of them was there."""


Response = TypeVar("Response", bound=Answered)
Answer = TypeVar("Answer")


def usable_answers(
    responses: Iterable[Response], read: Callable[[Response], Answer], intake: Intake
) -> Iterator[tuple[Response, Answer, str]]:
    """Each response with what `read` made of it and its request as text.

    A response that `read` refuses (ResponseRejectedError) is noted in the intake as a problem of its symbols.
    """
    for response in responses:
        text = request_text(response.request.path, response.request.params)
        try:
            answer = read(response)
        except ResponseRejectedError as error:
            intake.note_problem(error, symbols=response.request.symbols, request=text)
        else:
            yield response, answer, text


def read_body(
    response: Answered, *, strict: Callable[[bytes], Answer | None], tolerant: Callable[[bytes], Answer]
) -> Answer:
    """The body read by the fast path, or by the slow one where the fast one fails or gives None.

    Raises ResponseRejectedError, http_status, under any status but 200, and whatever `tolerant` raises.
    """
    if response.status != 200:
        raise ResponseRejectedError("http_status", f"answered {response.status}")
    try:
        answer = strict(response.body)
    except NOT_STRICT:
        answer = None
    return tolerant(response.body) if answer is None else answer


def tolerant_object(body: bytes, what: str) -> dict[str, Any]:
    """A body that has to be an object, `what` in words; raises as `parse_tolerant`, and not_an_object."""
    document = parse_tolerant(body)
    if not isinstance(document, dict):
        raise ResponseRejectedError("not_an_object", f"{type(document).__name__} where {what} belongs")
    return document


def required_members(document: dict[str, Any], names: Collection[str]) -> list[Any]:
    """The values of the members with these names, each time they came.

    Raises ResponseRejectedError when there is none: error_body where the source says what went wrong, else
    missing_field.
    """
    found = [value for name, value in entries(document) if name in names]
    if not found:
        refuse_error_body(document)
        raise ResponseRejectedError("missing_field", f"no {' or '.join(sorted(names))}: {_excerpt(document)}")
    return found


def refuse_error_body(document: dict[str, Any], members: Collection[str] = ERROR_MEMBERS) -> None:
    """Raise ResponseRejectedError, error_body, when the object has one of the members that say what went wrong."""
    if not document.keys().isdisjoint(members):
        raise ResponseRejectedError("error_body", _excerpt(document))


def _excerpt(document: dict[str, Any]) -> str:
    return json.dumps(document)[:200]


def require_symbol(answered: str, asked: Sequence[str]) -> None:
    """Raise ResponseRejectedError, other_symbol, unless the symbol is among those asked for, if any were."""
    if asked and answered not in asked:
        raise ResponseRejectedError("other_symbol", f"asked for {asked[0]}, answered {answered[:40]}")


def unknown_around(unknown: Unknown, rows: RowShape) -> Counter[str]:
    """Undeclared members found by a strict decode outside the rows; those of rows are counted as rows are collected."""
    return Counter(unknown_field(*found) for found in unknown if found.shape != rows.name)
