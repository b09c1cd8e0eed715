"""The content hash: equal for equal tables, different for any difference."""

import hashlib
import io
import json
import struct
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_analyst_pipeline.errors import SchemaMismatchError
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.storage.content_hash import canonical, content_hash

KINDS: dict[str, pl.DataType] = {
    "key": pl.Int64(),
    "price": pl.Float64(),
    "text": pl.String(),
    "flag": pl.Boolean(),
    "seen": pl.Datetime("us", "UTC"),
    "rules": pl.List(pl.String()),
}


def schema(kinds: dict[str, pl.DataType], key: tuple[str, ...] = ("key",)) -> TableSchema:
    """A schema of these columns."""
    columns = tuple(Column(name, dtype, None, "") for name, dtype in kinds.items())
    return TableSchema("samples", "1.0", key, columns, frozenset(key))


def hashed(**columns: pl.Series) -> str:
    """The hash of a table of these columns, keyed by the first."""
    frame = pl.DataFrame(columns)
    return content_hash(frame, schema(dict(frame.schema), (frame.columns[0],)))


def test_the_hash_is_what_its_page_says() -> None:
    """Worked out by hand from the written definition, with nothing but hashlib and struct."""
    columns = {
        "key": ("int64", b"\x00" + struct.pack("<qq", 1, 2)),
        "price": ("float64", b"\x01" + b"\x02" + struct.pack("<dd", 2.5, 0.0)),
        "text": ("text", b"\x00" + struct.pack("<II", 1, 2) + "aé".encode()),
    }
    whole = hashlib.sha256(json.dumps([["key"], 2]).encode())
    for name, (kind, content) in columns.items():
        whole.update(json.dumps([name, kind]).encode() + hashlib.sha256(content).digest())
    frame = pl.DataFrame({"key": [2, 1], "text": ["é", "a"], "price": [None, 2.5]})
    assert hashed(**frame.to_dict()) == whole.hexdigest()


moments = st.integers(0, 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.integers(0, 4),
            "price": st.none() | st.floats(allow_nan=False, width=64),
            "text": st.none() | st.text(max_size=3),
            "flag": st.none() | st.booleans(),
            "seen": st.none() | moments,
            "rules": st.none() | st.lists(st.none() | st.sampled_from(["a", "b", ""]), max_size=2),
        }
    ),
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_order_and_layout_do_not_matter(values: list[dict[str, object]], rng: object) -> None:
    """Shuffled rows, shuffled columns, other chunks and a trip through Parquet leave the hash alone, equal keys too."""
    frame = pl.DataFrame(values, schema=KINDS)
    expected = content_hash(frame, schema(KINDS))
    shuffled, names = list(values), list(KINDS)
    rng.shuffle(shuffled)
    rng.shuffle(names)
    parts = pl.concat([pl.DataFrame([row], schema=KINDS) for row in shuffled] or [frame], rechunk=False)
    assert content_hash(parts.select(names), schema(KINDS)) == expected
    assert content_hash(frame, schema({name: KINDS[name] for name in names})) == expected
    buffer = io.BytesIO()
    canonical(parts, schema(KINDS)).write_parquet(buffer)
    buffer.seek(0)
    assert content_hash(pl.read_parquet(buffer), schema(KINDS)) == expected


@settings(max_examples=100, deadline=None)
@given(rows, rows)
def test_equal_hashes_mean_equal_rows(one: list[dict[str, object]], two: list[dict[str, object]]) -> None:
    """Two tables hash the same exactly when they hold the same rows, each as often."""

    def plain(values: list[dict[str, object]]) -> list[str]:
        # `or 0.0` makes one zero of -0.0 and 0.0; the columns are taken in order, as the rows' own order is random.
        cleaned = [row | {"price": None if row["price"] is None else row["price"] or 0.0} for row in values]
        return sorted(repr([row[name] for name in KINDS]) for row in cleaned)

    frames = [pl.DataFrame(values, schema=KINDS) for values in (one, two)]
    same = content_hash(frames[0], schema(KINDS)) == content_hash(frames[1], schema(KINDS))
    assert same == (plain(one) == plain(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (pl.Series([1.0, None]), pl.Series([1.0, 0.0])),
        (pl.Series(["a", None]), pl.Series(["a", ""])),
        (pl.Series(["ab", "c"]), pl.Series(["a", "bc"])),
        (pl.Series([True, None]), pl.Series([True, False])),
        (pl.Series([1, 2], dtype=pl.Int64), pl.Series([1, 2], dtype=pl.Int32)),
        (pl.Series([1, 2], dtype=pl.Int64), pl.Series([1, 2], dtype=pl.UInt64)),
        (pl.Series([1.0, 1.0]), pl.Series([1.0, 1.0000000000000002])),
        (pl.Series([["a"], ["b"]]), pl.Series([["a", "b"], []], dtype=pl.List(pl.String))),
        (pl.Series([[], None], dtype=pl.List(pl.String)), pl.Series([None, []], dtype=pl.List(pl.String))),
        (pl.Series([[""], []], dtype=pl.List(pl.String)), pl.Series([[None], []], dtype=pl.List(pl.String))),
    ],
)
def test_small_differences_count(one: pl.Series, two: pl.Series) -> None:
    """Null is no zero and no empty text; borders between texts, types and the last bit of a float matter."""
    key = pl.Series([1, 2])
    assert hashed(key=key, value=one) != hashed(key=key, value=two)


def test_names_and_keys_count() -> None:
    """The same values under another column name, or with another key, are another table."""
    frame = pl.DataFrame({"a": [1, 2], "b": [1, 2]})
    kinds = dict(frame.schema)
    assert content_hash(frame, schema(kinds, ("a",))) != content_hash(frame, schema(kinds, ("b",)))
    renamed = frame.rename({"b": "c"})
    assert content_hash(frame, schema(kinds, ("a",))) != content_hash(renamed, schema(dict(renamed.schema), ("a",)))


def test_negative_zero_is_zero() -> None:
    """-0.0 and 0.0 are one value, in the hash and in what is stored, also where they only order rows."""
    frame = pl.DataFrame({"key": [1, 1], "price": [-0.0, 0.0], "text": ["a", "b"]})
    kinds = dict(frame.schema)
    assert content_hash(frame, schema(kinds)) == content_hash(frame.with_columns(price=0.0), schema(kinds))
    assert [str(value) for value in canonical(frame, schema(kinds))["price"]] == ["0.0", "0.0"]
    narrow = pl.Series([-0.0, None], dtype=pl.Float32)
    key = pl.Series([1, 2])
    assert hashed(key=key, price=narrow) == hashed(key=key, price=narrow.abs())


def test_nan_is_refused() -> None:
    """NaN has no place in a table; infinity is a value."""
    with pytest.raises(SchemaMismatchError, match="price holds NaN"):
        hashed(key=pl.Series([1]), price=pl.Series([float("nan")]))
    assert hashed(key=pl.Series([1]), price=pl.Series([float("inf")]))


def test_columns_must_be_those_of_the_schema() -> None:
    """A missing, a surplus and a wrongly typed column are each named, and a type that is never stored."""
    wanted = schema({"key": pl.Int64(), "price": pl.Float64(), "text": pl.String()})
    frame = pl.DataFrame({"key": [1], "price": [1], "extra": [1]})
    with pytest.raises(
        SchemaMismatchError, match=r"text is missing; extra is not declared; price is Int64, not Float64"
    ):
        content_hash(frame, wanted)
    with pytest.raises(SchemaMismatchError, match="Time are not stored"):
        hashed(key=pl.Series([1]), at=pl.Series([None], dtype=pl.Time))
