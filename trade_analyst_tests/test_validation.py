"""Judging rows by a schema: every rule counted, bad rows apart with the rules they broke, wrong types refused."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import SchemaMismatchError, VerdictError
from trade_analyst_pipeline.market.columns import Column, Rule, TableSchema
from trade_analyst_pipeline.market.tolerance import Tolerance
from trade_analyst_pipeline.validation import BROKEN_RULES, Validated, all_rules, validate, verdict

SCHEMA = TableSchema(
    name="trades",
    version="1.0",
    key=("name", "turn"),
    columns=(
        Column("name", pl.String(), None, "Who."),
        Column("turn", pl.Int64(), "turns", "When."),
        Column("price", pl.Float64(), "dollars", "How much; null: unknown."),
        Column("size", pl.Int64(), "shares", "How many; null: unknown."),
    ),
    required=frozenset({"name", "turn", "size"}),
    rules=(
        Rule("negative_size", pl.col("size") >= 0, "The size is not negative."),
        Rule("price_too_high", pl.col("price") < 1000, "The price is below 1000."),
        Rule("odd_lot", pl.col("size") % 100 == 0, "The size is a round lot.", "warning"),
    ),
)
NOTHING_BROKEN = {
    "required_name": 0,
    "required_turn": 0,
    "required_size": 0,
    "not_finite": 0,
    "duplicate_key": 0,
    "negative_size": 0,
    "price_too_high": 0,
    "odd_lot": 0,
}


def table(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Rows of (name, turn, price, size)."""
    return pl.DataFrame(list(rows), schema=SCHEMA.polars_schema, orient="row")


def test_rules_are_listed_in_order() -> None:
    """Required columns come first in the order of the table, then finite numbers, the key, and the schema's own."""
    assert [rule.name for rule in all_rules(SCHEMA)] == list(NOTHING_BROKEN)
    assert {rule.name for rule in all_rules(SCHEMA) if rule.severity == "warning"} == {"odd_lot"}


def test_good_rows_are_kept_as_they_are() -> None:
    """A table that breaks nothing comes back unchanged; every rule is reported with zero."""
    frame = table(("a", 1, 2.5, 100), ("a", 2, None, 0))
    found = validate(frame, SCHEMA)
    assert found.valid.equals(frame)
    assert found.quarantined.is_empty()
    assert found.quarantined.schema == pl.Schema({**SCHEMA.polars_schema, BROKEN_RULES: pl.List(pl.String)})
    assert found.rule_counts == NOTHING_BROKEN


def test_empty_table_is_valid() -> None:
    """No rows break no rule."""
    found = validate(SCHEMA.empty(), SCHEMA)
    assert (found.valid.height, found.quarantined.height, found.offered_rows) == (0, 0, 0)
    assert found.rule_counts == NOTHING_BROKEN


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        ((None, 9, 1.0, 100), ["required_name"]),
        (("z", None, 1.0, 100), ["required_turn"]),
        (("z", 9, 1.0, None), ["required_size"]),
        (("z", 9, math.nan, 100), ["not_finite", "price_too_high"]),
        (("z", 9, math.inf, 100), ["not_finite", "price_too_high"]),
        (("z", 9, -math.inf, 100), ["not_finite"]),
        (("z", 9, 1.0, -100), ["negative_size"]),
        (("z", 9, 1000.0, 100), ["price_too_high"]),
        (("z", 9, 1000.0, -100), ["negative_size", "price_too_high"]),
    ],
)
def test_bad_row_is_quarantined_with_every_rule_it_broke(row: tuple[Any, ...], broken: list[str]) -> None:
    """One bad row among good ones goes to quarantine with all its rules by name; the others stay in order."""
    good = [("a", 1, 2.5, 100), ("b", 1, None, 200)]
    found = validate(table(good[0], row, good[1]), SCHEMA)
    assert found.valid.equals(table(*good))
    assert found.quarantined[BROKEN_RULES].to_list() == [broken]
    assert found.quarantined.drop(BROKEN_RULES).equals(table(row))
    assert found.rule_counts == {name: int(name in broken) for name in NOTHING_BROKEN}
    assert found.offered_rows == 3


def test_null_breaks_no_rule_but_required() -> None:
    """An unknown value is acceptable to every rule about it, unless the column is required."""
    assert validate(table(("a", 1, None, 100)), SCHEMA).valid.height == 1


def test_warning_is_counted_and_its_row_kept() -> None:
    """A row that only breaks a warning is valid; with an error besides, the warning is not among its broken rules."""
    found = validate(table(("a", 1, 1.0, 150), ("b", 1, 1.0, -150)), SCHEMA)
    assert found.valid["name"].to_list() == ["a"]
    assert found.quarantined[BROKEN_RULES].to_list() == [["negative_size"]]
    assert found.rule_counts["odd_lot"] == 2


def test_rows_that_share_a_key_and_differ_are_all_refused() -> None:
    """Of two rows with one key nobody knows which is right, so neither stays."""
    found = validate(table(("a", 1, 1.0, 100), ("a", 1, 2.0, 100), ("a", 2, 1.0, 100)), SCHEMA)
    assert found.valid.equals(table(("a", 2, 1.0, 100)))
    assert found.quarantined[BROKEN_RULES].to_list() == [["duplicate_key"]] * 2


def test_equal_rows_are_kept_once() -> None:
    """Rows equal in every column, nulls included, say the same thing: the first stays, the copies go."""
    found = validate(table(("a", 1, None, 100), ("a", 1, None, 100), ("a", 1, None, 100)), SCHEMA)
    assert found.valid.equals(table(("a", 1, None, 100)))
    assert found.rule_counts["duplicate_key"] == 2


def test_equal_rows_beside_a_different_one_are_all_refused() -> None:
    """A copy does not make its row right when a third row of the same key says something else."""
    found = validate(table(("a", 1, 1.0, 100), ("a", 1, 1.0, 100), ("a", 1, 2.0, 100)), SCHEMA)
    assert found.valid.is_empty()
    assert found.rule_counts["duplicate_key"] == 3


@pytest.mark.parametrize(
    "frame",
    [
        table(("a", 1, 1.0, 100)).with_columns(pl.col("size").cast(pl.Float64)),
        table(("a", 1, 1.0, 100)).with_columns(pl.col("price").cast(pl.String)),
        table(("a", 1, 1.0, 100)).drop("price"),
        table(("a", 1, 1.0, 100)).with_columns(extra=1),
        table(("a", 1, 1.0, 100)).select("turn", "name", "price", "size"),
        pl.DataFrame(),
    ],
    ids=["type", "text", "missing", "extra", "order", "nothing"],
)
def test_wrong_columns_abort_before_any_row(frame: pl.DataFrame) -> None:
    """Another type, order or set of columns is refused as a whole, naming the table."""
    with pytest.raises(SchemaMismatchError, match="trades does not have the columns of its schema"):
        validate(frame, SCHEMA)


def test_refusal_is_not_remembered_for_the_right_columns() -> None:
    """A table refused once is refused again, and a right one passes in between."""
    wrong = table(("a", 1, 1.0, 100)).drop("price")
    for _ in range(2):
        with pytest.raises(SchemaMismatchError):
            validate(wrong, SCHEMA)
        assert validate(table(("a", 1, 1.0, 100)), SCHEMA).valid.height == 1


def test_pandera_does_the_judging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the types and the rows pass through pandera's own validate, with the rules as its check."""
    seen: list[tuple[int, int]] = []
    original = pa.DataFrameSchema.validate

    def watched(schema: Any, check_obj: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((len(schema.columns), len(schema.checks)))
        return original(schema, check_obj, *args, **kwargs)

    monkeypatch.setattr(pa.DataFrameSchema, "validate", watched)
    other = TableSchema("others", "1.0", SCHEMA.key, SCHEMA.columns, SCHEMA.required, SCHEMA.rules)
    validate(table(("a", 1, 1.0, 100)), other)
    assert seen == [(4, 0), (0, 1)]


def test_a_rule_that_cannot_be_evaluated_is_an_error_not_a_pass() -> None:
    """A rule over a column that is not there fails loudly; no row counts as valid."""
    broken = TableSchema(
        "typo", "1.0", SCHEMA.key, SCHEMA.columns, SCHEMA.required, (Rule("r", pl.col("prize") > 0, ""),)
    )
    with pytest.raises(Exception, match="prize"):
        validate(table(("a", 1, 1.0, 100)), broken)


ONE_PERCENT = Tolerance(share=0.01, rows=0)


def judged(good: int, bad: int) -> Validated:
    """A judgement with that many good rows, and bad ones with a negative size."""
    rows = [("a", turn, 1.0, 100) for turn in range(good)]
    return validate(table(*rows, *[("b", turn, 1.0, -100) for turn in range(bad)]), SCHEMA)


@pytest.mark.parametrize(
    ("good", "bad", "rejected"),
    [(0, 0, 0), (1, 0, 0), (99, 1, 0), (99, 0, 1), (198, 1, 1)],
)
def test_up_to_one_in_a_hundred_may_be_bad(good: int, bad: int, rejected: int) -> None:
    """Rows may replace what is stored while at most 1 % of all offered, typed or not, are bad."""
    verdict(judged(good, bad), SCHEMA, tolerance=ONE_PERCENT, rejected_rows=rejected)


@pytest.mark.parametrize(("good", "bad", "rejected"), [(98, 1, 0), (98, 0, 1), (0, 1, 0), (0, 0, 1), (197, 1, 1)])
def test_more_than_one_in_a_hundred_is_refused(good: int, bad: int, rejected: int) -> None:
    """Beyond 1 %, or with nothing valid among rows offered, the verdict is no."""
    with pytest.raises(VerdictError, match="The last good data stays"):
        verdict(judged(good, bad), SCHEMA, tolerance=ONE_PERCENT, rejected_rows=rejected)


@pytest.mark.parametrize(
    ("good", "bad", "is_allowed"), [(1, 10, True), (90, 10, True), (500, 11, False), (1, 11, False)]
)
def test_a_handful_of_bad_rows_never_costs_the_good_ones(good: int, bad: int, is_allowed: bool) -> None:
    """Up to ten bad rows are left out whatever their share; from there on the share decides."""
    with nullcontext() if is_allowed else pytest.raises(VerdictError):
        verdict(judged(good, bad), SCHEMA, tolerance=Tolerance(share=0.01, rows=10))


@pytest.mark.parametrize(("good", "bad", "is_allowed"), [(11, 1, True), (1, 1, True), (6, 6, True), (5, 7, False)])
def test_quotes_are_used_while_half_of_them_are_good(good: int, bad: int, is_allowed: bool) -> None:
    """One bad quote of a watch list of twelve leaves the other eleven; when most are bad, none is trusted."""
    with nullcontext() if is_allowed else pytest.raises(VerdictError):
        verdict(judged(good, bad), SCHEMA, tolerance=DATASETS["quotes"].tolerance)


def test_nothing_valid_is_refused_at_any_share() -> None:
    """Even where every row may be bad, one has to be valid."""
    verdict(judged(1, 9), SCHEMA, tolerance=Tolerance(share=1.0))
    with pytest.raises(VerdictError):
        verdict(judged(0, 9), SCHEMA, tolerance=Tolerance(share=1.0, rows=10))


def test_verdict_says_how_many_rows_and_which_rules() -> None:
    """The message counts rows and names errors only, the most broken first."""
    rows = [("b", turn, 1.0, -150) for turn in range(1500)] + [("c", 1, 2000.0, 150)]
    with pytest.raises(VerdictError) as refused:
        verdict(validate(table(*rows), SCHEMA), SCHEMA, tolerance=Tolerance(), rejected_rows=7)
    assert str(refused.value) == (
        "trades: 1,508 of 1,508 rows are bad, more than the 10 or 1.0% allowed "
        "(negative_size 1,500, price_too_high 1, could not be typed 7). "
        "The last good data stays; see the quarantine of this session."
    )
