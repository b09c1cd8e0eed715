"""The content hash of a table: what it says, whatever the files, row order and capture ids behind it.

SHA-256 over: the names of the key, the row count, and for each column, in order of name, its name, its type and the
SHA-256 of its values in key order. Values are fixed-width little-endian (text: lengths, then UTF-8), nulls a bit mask
over zeroed values, -0.0 counts as 0.0, and NaN has no place in a table. Rows with equal keys are ordered by all their
other columns, so the hash never depends on the order they came in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl

from trade_analyst_pipeline.errors import SchemaMismatchError
from trade_analyst_pipeline.market.columns import TableSchema

_HASHING_THREADS = 2

_TYPE_NAMES: dict[pl.DataType, str] = {
    pl.Boolean(): "boolean",
    pl.Int8(): "int8",
    pl.Int16(): "int16",
    pl.Int32(): "int32",
    pl.Int64(): "int64",
    pl.UInt8(): "uint8",
    pl.UInt16(): "uint16",
    pl.UInt32(): "uint32",
    pl.UInt64(): "uint64",
    pl.Float32(): "float32",
    pl.Float64(): "float64",
    pl.String(): "text",
    pl.Date(): "date",
    pl.Datetime("us", "UTC"): "time[us,UTC]",
    pl.Datetime("ns", "UTC"): "time[ns,UTC]",
    pl.Duration("us"): "duration[us]",
    pl.List(pl.String()): "list[text]",
}


def type_name(dtype: pl.DataType) -> str:
    """Our own stable name of a storable type; raises SchemaMismatchError for any other."""
    try:
        return _TYPE_NAMES[dtype]
    except KeyError:
        message = f"columns of type {dtype} are not stored; known types: {', '.join(_TYPE_NAMES.values())}"
        raise SchemaMismatchError(message) from None


def dtype_of(name: str) -> pl.DataType:
    """The type that we call so; raises SchemaMismatchError for any other name."""
    for dtype, known in _TYPE_NAMES.items():
        if known == name:
            return dtype
    message = f"no type of ours is called {name!r}; known types: {', '.join(_TYPE_NAMES.values())}"
    raise SchemaMismatchError(message)


def column_types(schema: TableSchema) -> dict[str, str]:
    """Column names of a schema with our names of their types, in order."""
    return {column.name: type_name(column.dtype) for column in schema.columns}


def require_schema(frame: pl.DataFrame, schema: TableSchema) -> None:
    """Raise SchemaMismatchError naming each column that is missing, not declared or of another type."""
    wanted, found = schema.polars_schema, frame.schema
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not declared" for name in found if name not in wanted]
    problems += [
        f"{name} is {found[name]}, not {dtype}" for name, dtype in wanted.items() if found.get(name, dtype) != dtype
    ]
    if problems:
        message = f"table {schema.name} {schema.version}: " + "; ".join(problems)
        raise SchemaMismatchError(message)


def canonical(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """The frame as it is stored and hashed: columns in the schema's order, rows in key order, -0.0 as 0.0.

    Raises SchemaMismatchError when its columns or types are not those of the schema.
    """
    require_schema(frame, schema)
    frame = _without_negative_zero(frame.select(schema.names)).sort(schema.key)
    if frame.height < 2 or frame.select(pl.struct(schema.key).rle_id().last()).item() == frame.height - 1:
        return frame
    return frame.sort([*schema.key, *(name for name in sorted(schema.names) if name not in schema.key)])


def _without_negative_zero(frame: pl.DataFrame) -> pl.DataFrame:
    """Adding 0.0 would do by IEEE 754, but Polars leaves such a sum out; and hardly any table has a -0.0 at all."""
    found = [column for column in frame.get_columns() if column.dtype.is_float() and _has_negative_zero(column)]
    zero = pl.lit(0.0, pl.Float32)
    return frame.with_columns(
        pl.when(pl.col(column.name) == 0).then(zero).otherwise(pl.col(column.name)).alias(column.name)
        for column in found
    )


def _has_negative_zero(column: pl.Series) -> bool:
    numbers = column.to_numpy()
    return bool((np.signbit(numbers) & (numbers == 0)).any())


def content_hash(frame: pl.DataFrame, schema: TableSchema) -> str:
    """SHA-256, in hexadecimal, over the canonical values of a table; its columns must be exactly those of the schema.

    Raises SchemaMismatchError for other columns or types, or for NaN.
    """
    return hash_of_canonical(canonical(frame, schema), schema)


def hash_of_canonical(frame: pl.DataFrame, schema: TableSchema) -> str:
    """The content hash of a frame that `canonical` has already been applied to; raises SchemaMismatchError for NaN."""
    parts = _parts(frame, schema.name)
    whole = hashlib.sha256(json.dumps([list(schema.key), frame.height]).encode())
    columns = sorted(column_types(schema).items())
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:  # hashing lets other threads run
        for (name, kind), digest in zip(columns, pool.map(lambda each: _digest(parts[each[0]]), columns), strict=True):
            whole.update(json.dumps([name, kind]).encode() + digest)
    return whole.hexdigest()


def _digest(parts: Sequence[bytes | memoryview]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _parts(frame: pl.DataFrame, table: str) -> dict[str, list[bytes | memoryview]]:
    """The bytes of each column: whether it has nulls, which, then its values. One query for all columns of a kind."""
    nulls = {name for name, count in frame.null_count().row(0, named=True).items() if count}
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String()]
    lists = [name for name, dtype in frame.schema.items() if dtype == pl.List(pl.String())]
    masks = frame.select(pl.col(sorted(nulls)).is_null())
    fixed = frame.select(_fixed_width(name, dtype, has_nulls=name in nulls) for name, dtype in frame.schema.items())
    joined = frame.select(pl.col(texts).fill_null("").str.join(""))
    parts: dict[str, list[bytes | memoryview]] = {}
    for column in fixed.get_columns():
        name, numbers = column.name, column.to_numpy()
        if column.dtype.is_float() and np.isnan(numbers).any():
            message = f"table {table}: column {name} holds NaN; what is unknown is null"
            raise SchemaMismatchError(message)
        mask = [np.packbits(masks[name].to_numpy(), bitorder="little").data] if name in nulls else []
        parts[name] = [b"\x01" if mask else b"\x00", *mask, _little_endian(numbers)]
    for name in texts:
        parts[name].append(joined[name].item().encode())
    for name in lists:
        items = frame[name].fill_null([]).explode(empty_as_null=False).alias(name).to_frame()
        parts[name] += _parts(items, table)[name]
    return parts


def _fixed_width(name: str, dtype: pl.DataType, *, has_nulls: bool) -> pl.Expr:
    values = pl.col(name)
    if dtype == pl.String():
        return (values.fill_null("") if has_nulls else values).str.len_bytes()
    if dtype == pl.List(pl.String()):
        return (values.fill_null([]) if has_nulls else values).list.len()
    values = values.cast(pl.UInt8) if dtype == pl.Boolean() else values.to_physical()
    return values.fill_null(0) if has_nulls else values


def _little_endian(numbers: np.ndarray) -> memoryview:
    return np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<")).data
