"""Failures inside any JSON answer."""

import json
import math
from typing import Any

import pytest

from trade_analyst_pipeline.simulator import body_faults, faults
from trade_analyst_pipeline.simulator.answers import Answer, html_answer
from trade_analyst_pipeline.simulator.faults import Change

BODY = '{"a":1.5,"b":[{"a":2.5,"c":"7"},{"a":3.5,"c":"x"}],"status":404}'


def after(change: Change, body: str = BODY) -> str:
    """The text of an answer after a change."""
    return change(Answer(200, body.encode())).body.decode()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (body_faults.omitted("a"), '{"b":[{"c":"7"},{"c":"x"}],"status":404}'),
        (body_faults.omitted("a", "c", count=2), '{"b":[{"c":"7"},{"a":3.5,"c":"x"}],"status":404}'),
        (body_faults.overwritten({"a": None}, count=1),
         '{"a":null,"b":[{"a":2.5,"c":"7"},{"a":3.5,"c":"x"}],"status":404}'),
        (body_faults.renamed({"status": "code"}), '{"a":1.5,"b":[{"a":2.5,"c":"7"},{"a":3.5,"c":"x"}],"code":404}'),
        (body_faults.as_text("status"), BODY.replace("404", '"404"')),
        (body_faults.as_number("c"), BODY.replace('"7"', "7")),
        (body_faults.with_unknown_fields("z", 0),
         '{"a":1.5,"b":[{"a":2.5,"c":"7","z":0},{"a":3.5,"c":"x","z":0}],"status":404,"z":0}'),
        (body_faults.in_exponent_form(),
         '{"a":1.5E+0,"b":[{"a":2.5E+0,"c":"7"},{"a":3.5E+0,"c":"x"}],"status":404}'),
    ],
)  # fmt: skip
def test_fields_change_wherever_they_stand(change: Change, expected: str) -> None:
    """At any depth, in the order of the answer, at most `count` of them; everything else stays."""
    assert after(change) == expected


@pytest.mark.parametrize("text", ["301570298.0", "0.00066691", "-0.01804133", "4.478", "0.0", "-0.0", "123456789.125"])
def test_exponent_form_keeps_the_value(text: str) -> None:
    """The number read back is the same double, and its text has an exponent."""
    shown = after(body_faults.in_exponent_form(), f'{{"x":{text}}}')
    assert "E" in shown
    assert json.loads(shown)["x"] == float(text)


def test_numbers_within_texts_keep_their_form() -> None:
    """A description with a decimal point is no number, not even after a comma or a colon."""
    body = '{"description":"META 01/31/2025 525.00 P","note":"from,1.5 to:2.5 more"}'
    assert after(body_faults.in_exponent_form(), body) == body


@pytest.mark.parametrize(
    ("sentinel", "text"),
    [("-999", "-999.0"), ("NaN", "NaN"), ("NaN as text", '"NaN"'), ("null", "null"), ("Infinity", "Infinity")],
)
def test_sentinels_stand_in_the_models_fields(sentinel: Any, text: str) -> None:
    """Volatility and the five Greeks, in chains and quotes alike; prices stay."""
    body = '{"bid":1.0,"volatility":20.0,"delta":0.5,"gamma":0.1,"theta":-0.1,"vega":0.2,"rho":0.3}'
    shown = after(body_faults.with_sentinels(sentinel), body)
    assert shown.count(f":{text}") == 6
    assert '"bid":1.0' in shown


def test_enumerations_hold_what_nobody_knows() -> None:
    """Each enumeration gets a value outside the source's own list; `count` bounds how many."""
    body = '{"assetMainType":"EQUITY","reference":{"exchangeName":"NASDAQ"},"symbol":"AAPL"}'
    shown = json.loads(after(body_faults.with_unknown_enums(), body))
    assert shown == {"assetMainType": "CRYPTO", "reference": {"exchangeName": "MARS"}, "symbol": "AAPL"}
    assert json.loads(after(body_faults.with_unknown_enums(count=1), body))["reference"]["exchangeName"] == "NASDAQ"


def test_what_is_no_json_passes_unchanged() -> None:
    """A page has no fields."""
    page = html_answer(503, "Maintenance", "soon")
    assert body_faults.omitted("a")(page) is page


def test_nan_is_a_bare_token_that_json_does_not_know() -> None:
    """A reader that keeps to JSON refuses it; Python's reads it."""
    shown = after(body_faults.overwritten({"status": math.nan}))
    assert '"status":NaN' in shown


def test_timing_and_size_leave_the_content_alone() -> None:
    """Slow adds up, dripping says how, oversized only adds white space behind."""
    answer = Answer(200, BODY.encode())
    slow = faults.slow(1.0)(faults.slow(0.5)(answer))
    assert (slow.delay_seconds, slow.body) == (1.5, answer.body)
    dripping = faults.dripping(7, 0.1)(answer)
    assert (dripping.drip_bytes, dripping.drip_seconds, dripping.body) == (7, 0.1, answer.body)
    large = faults.oversized(5000)(answer)
    assert len(large.body) == 5000
    assert json.loads(large.body) == json.loads(BODY)
