"""A table and its schema to valid rows, and quarantined rows each with the rules it broke. The rules are not here.

pandera judges. It refuses wrong column types before any row is looked at; then one check evaluates every rule in one
pass, and the outcome of each rule for each row is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData
from pandera.errors import SchemaErrors

from trade_analyst_pipeline.errors import SchemaMismatchError, VerdictError
from trade_analyst_pipeline.market.columns import Column, Rule, TableSchema
from trade_analyst_pipeline.market.tolerance import Tolerance

DUPLICATE_KEY: Final = "duplicate_key"
NOT_FINITE: Final = "not_finite"
BROKEN_RULES: Final = "broken_rules"


@dataclass(frozen=True)
class Validated:
    """The rows that hold, the rows that do not with `broken_rules`, and how many rows broke each rule.

    `rule_counts` has every rule of the schema, warnings and zeros included. A row that broke only warnings is valid.
    """

    valid: pl.DataFrame
    quarantined: pl.DataFrame
    rule_counts: dict[str, int]

    @property
    def offered_rows(self) -> int:
        """Rows judged."""
        return self.valid.height + self.quarantined.height


def all_rules(schema: TableSchema) -> list[Rule]:
    """Every rule of a schema: required columns, finite numbers, the key, then its own, in the order reported."""
    required = [
        Rule(f"required_{name}", pl.col(name).is_not_null(), f"`{name}` has a value.")
        for name in schema.names
        if name in schema.required
    ]
    numbers = [pl.col(column.name).is_finite() for column in schema.columns if column.dtype == pl.Float64()]
    finite = pl.all_horizontal(numbers) if numbers else pl.lit(value=True)
    unique = pl.struct(schema.key).is_duplicated().not_()
    return [
        *required,
        Rule(NOT_FINITE, finite, "Every number is finite."),
        Rule(DUPLICATE_KEY, unique, f"No other row has the same {', '.join(schema.key)}."),
        *schema.rules,
    ]


def validate(frame: pl.DataFrame, schema: TableSchema) -> Validated:
    """Judge each row by the schema.

    Raises SchemaMismatchError, before any row is judged, when columns or types are not those of the schema. Rows that
    share a key are all quarantined; of rows equal in every column the first is kept.
    """
    _require_types(schema.name, schema.columns, tuple(frame.schema.items()))
    rules = all_rules(schema)
    outcomes = _outcomes(frame, schema, rules)
    if not outcomes[DUPLICATE_KEY].all():
        outcomes = outcomes.with_columns(_is_only_copy(frame, schema) | outcomes[DUPLICATE_KEY])
    counts = {name: outcomes.height - held for name, held in outcomes.sum().row(0, named=True).items()}
    errors = [rule.name for rule in rules if rule.severity == "error"]
    if not any(counts[name] for name in errors):
        return Validated(frame, _with_broken(frame.clear(), outcomes.clear(), errors), counts)
    held = outcomes.select(pl.all_horizontal(errors)).to_series()
    bad = _with_broken(frame.filter(~held), outcomes.filter(~held), errors)
    return Validated(frame.filter(held), bad, counts)


def verdict(validated: Validated, schema: TableSchema, *, tolerance: Tolerance, rejected_rows: int = 0) -> None:
    """Return when the good rows may replace what is stored; raise VerdictError, saying why, when they may not.

    `rejected_rows` are rows that could not even be typed. Refused: more rows are bad than `tolerance` allows, or rows
    were offered and none is valid.
    """
    bad = validated.quarantined.height + rejected_rows
    offered = validated.offered_rows + rejected_rows
    if tolerance.allows(bad, offered):
        return
    warnings = {rule.name for rule in schema.rules if rule.severity == "warning"}
    errors = [(name, count) for name, count in validated.rule_counts.items() if name not in warnings]
    most_broken = sorted(errors, key=lambda item: (-item[1], item[0]))[:5]
    rules = [f"{name} {count:,}" for name, count in most_broken if count]
    rules += [f"could not be typed {rejected_rows:,}"] if rejected_rows else []
    message = (
        f"{schema.name}: {bad:,} of {offered:,} rows are bad, more than the {tolerance.rows:,} or "
        f"{tolerance.share:.1%} allowed "
        f"({', '.join(rules)}). The last good data stays; see the quarantine of this session."
    )
    raise VerdictError(message)


@lru_cache(maxsize=256)
def _require_types(name: str, columns: tuple[Column, ...], found: tuple[tuple[str, pl.DataType], ...]) -> None:
    """Let pandera compare the types of a table with the schema's; remembered, for they are the same every time."""
    declared = {column.name: pa.Column(column.dtype, nullable=True) for column in columns}
    try:
        pa.DataFrameSchema(declared, strict=True, ordered=True, name=name).validate(
            pl.DataFrame(schema=dict(found)), lazy=True
        )
    except SchemaErrors as errors:
        problems = "; ".join(str(error).splitlines()[0] for error in errors.schema_errors)
        message = f"table {name} does not have the columns of its schema: {problems}. No row was looked at"
        raise SchemaMismatchError(message) from errors


def _outcomes(frame: pl.DataFrame, schema: TableSchema, rules: list[Rule]) -> pl.DataFrame:
    """One column per rule, true where the row meets it."""
    evaluated: list[pl.DataFrame] = []
    errors = [rule.name for rule in rules if rule.severity == "error"]

    def meets_rules(data: PolarsData) -> pl.LazyFrame:
        passing = [rule.passes.fill_null(value=True).alias(rule.name) for rule in rules]
        evaluated.append(data.lazyframe.select(passing).collect())
        return evaluated[-1].lazy().select(errors)

    check = pa.Check(meets_rules, name="rules", n_failure_cases=1)
    try:
        pa.DataFrameSchema(name=schema.name, checks=[check]).validate(frame, lazy=True)
    except SchemaErrors:
        if not evaluated:
            raise
    return evaluated[-1]


def _is_only_copy(frame: pl.DataFrame, schema: TableSchema) -> pl.Series:
    """True for the first of rows that are equal in every column, where no other row has its key."""
    copies = frame.select(
        pl.struct(pl.all()).is_first_distinct().alias("first"),
        pl.struct(pl.all()).n_unique().over(schema.key).eq(1).alias("equal"),
    )
    return (copies["first"] & copies["equal"]).alias(DUPLICATE_KEY)


def _with_broken(rows: pl.DataFrame, outcomes: pl.DataFrame, errors: list[str]) -> pl.DataFrame:
    broken = [pl.when(pl.col(name).not_()).then(pl.lit(name)) for name in errors]
    return rows.with_columns(outcomes.select(pl.concat_list(broken).list.drop_nulls().alias(BROKEN_RULES)))
