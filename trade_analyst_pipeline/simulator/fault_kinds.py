"""The kinds of faults that a scenario may name, and the keys each needs and may have.

One line per kind; what it does to an answer is in `faults.py` and `body_faults.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trade_analyst_pipeline.simulator import body_faults, faults
from trade_analyst_pipeline.simulator.faults import Change


@dataclass(frozen=True)
class FaultKind:
    """One kind: what a client meets, how the change is made, and the keys it needs and takes besides."""

    summary: str
    build: Callable[..., Change]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def _answer_of(status: int, text: str = "", retry_after: str | None = None) -> Change:
    headers = {} if retry_after is None else {"retry_after": retry_after}
    return faults.answered(status, text.encode(), **headers)


def _omitted(fields: tuple[str, ...], count: int | None = None) -> Change:
    return body_faults.omitted(*fields, count=count)


def _as_text(fields: tuple[str, ...], count: int | None = None) -> Change:
    return body_faults.as_text(*fields, count=count)


def _as_number(fields: tuple[str, ...], count: int | None = None) -> Change:
    return body_faults.as_number(*fields, count=count)


FAULT_KINDS: Mapping[str, FaultKind] = {
    "answer": FaultKind("any status, with a text of your own", _answer_of, ("status",), ("text", "retry_after")),
    "rate-limited": FaultKind("429", faults.rate_limited, (), ("retry_after",)),
    "server-error": FaultKind("500 in the usual shape", faults.server_error),
    "unauthorized": FaultKind("401, as for a token just revoked", faults.unauthorized),
    "access-denied": FaultKind("403 page of the edge", faults.access_denied),
    "too-big": FaultKind("502 TooBigBody of the gateway", faults.body_too_big),
    "maintenance": FaultKind("503 page or message, or the gateway's 404", faults.under_maintenance, (), ("closure",)),
    "page": FaultKind("an HTML page where JSON was asked for", faults.html_page, (), ("status",)),
    "slow": FaultKind("the right answer, later", faults.slow, ("seconds",)),
    "dripping": FaultKind("the right answer, piece by piece", faults.dripping, ("piece_bytes", "seconds")),
    "cut": FaultKind("the connection breaks half way through the body", faults.cut_body),
    "truncated": FaultKind("a whole answer whose JSON ends early", faults.truncated_json, (), ("share",)),
    "oversized": FaultKind("the right answer, blown up with white space", faults.oversized, ("size_bytes",)),
    "bomb": FaultKind("a small gzip body that unpacks to zeros", faults.gzip_bomb, ("mebibytes",)),
    "empty-chain": FaultKind("a chain without contracts, status FAILED", faults.empty_chain),
    "empty-candles": FaultKind("a price history without candles", faults.empty_candles),
    "omitted": FaultKind("fields are missing", _omitted, ("fields",), ("count",)),
    "overwritten": FaultKind("fields hold other values", body_faults.overwritten, ("values",), ("count",)),
    "renamed": FaultKind("fields have other names", body_faults.renamed, ("values",), ("count",)),
    "as-text": FaultKind("numbers as text", _as_text, ("fields",), ("count",)),
    "as-number": FaultKind("text as numbers", _as_number, ("fields",), ("count",)),
    "sentinels": FaultKind(
        "volatility and Greeks hold -999, NaN, null or Infinity", body_faults.with_sentinels, (), ("sentinel", "count")
    ),
    "unknown-enums": FaultKind("enumerations hold unknown values", body_faults.with_unknown_enums, (), ("count",)),
    "unknown-fields": FaultKind("every object has one more field", body_faults.with_unknown_fields),
    "exponents": FaultKind("decimal numbers in exponent form", body_faults.in_exponent_form),
}
