"""Rows of older schema versions: which can be read, and what makes rows of today's version of them.

`<major>.<minor>`: a minor version only adds columns, null in older rows; a major one changes what a column means, and
declares beside its schema how older rows read (`Upgrade`). Rows of a newer version are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

import polars as pl

from trade_analyst_pipeline.errors import SchemaMismatchError
from trade_analyst_pipeline.market.columns import TableSchema, Upgrade
from trade_analyst_pipeline.storage.content_hash import column_types
from trade_analyst_pipeline.storage.manifest import Manifest, folder_name

_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")


def readable_groups(manifests: Iterable[Manifest], schema: TableSchema) -> list[tuple[list[Upgrade], list[Manifest]]]:
    """Partitions in order, neighbours that are read alike together, with the upgrades their rows need.

    Those that need any have the same columns.
    Raises SchemaMismatchError, naming the partition, for a newer version, one that no upgrade leads from, none at all,
    and for a column of another type.
    """
    found = [(_upgrades(manifest, schema), manifest) for manifest in manifests]
    alike = groupby(found, key=lambda each: (each[0], tuple(each[1].columns.items()) if each[0] else ()))
    return [(upgrades, [manifest for _, manifest in group]) for (upgrades, _), group in alike]


def upgraded(rows: pl.LazyFrame, upgrades: Iterable[Upgrade], schema: TableSchema) -> pl.LazyFrame:
    """Rows as stored, made rows of the schema: columns it does not have are left out, those added since null."""
    for upgrade in upgrades:
        rows = rows.with_columns(pl.sql_expr(text).alias(name) for name, text in upgrade.columns.items())
    present = rows.collect_schema()
    return rows.select(
        (pl.col(name) if name in present else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in schema.polars_schema.items()
    )


def _upgrades(manifest: Manifest, schema: TableSchema) -> list[Upgrade]:
    """Those a partition needs, oldest first."""
    stored, read = (_VERSION.fullmatch(version) for version in (manifest.schema_version, schema.version))
    if stored is None or read is None:
        message = f"{_place(manifest)} does not say its schema version as 1.0; run `trade-analyst rebuild`"
        raise SchemaMismatchError(message)
    (major, minor), (read_major, read_minor) = (tuple(map(int, each.groups())) for each in (stored, read))
    if (major, minor) > (read_major, read_minor):
        message = (
            f"{_place(manifest)} was written with schema version {manifest.schema_version} by a newer program; this "
            f"one reads up to {schema.version}: update it"
        )
        raise SchemaMismatchError(message)
    known = {upgrade.from_major: upgrade for upgrade in schema.upgrades}
    needed = range(major, read_major)
    if not known.keys() >= set(needed):
        message = (
            f"{_place(manifest)} was written with schema version {manifest.schema_version}, from which nothing leads "
            f"to {schema.version}: run `trade-analyst rebuild`"
        )
        raise SchemaMismatchError(message)
    upgrades = [known[each] for each in needed]
    _require_types(manifest, schema, changed={name for upgrade in upgrades for name in upgrade.columns})
    return upgrades


def _require_types(manifest: Manifest, schema: TableSchema, *, changed: set[str]) -> None:
    types = column_types(schema)
    wrong = [
        f"{name} is {kind}, not {types[name]}"
        for name, kind in manifest.columns.items()
        if name not in changed and types.get(name, kind) != kind
    ]
    if wrong:
        message = f"{_place(manifest)}: {'; '.join(wrong)}. Run `trade-analyst rebuild`"
        raise SchemaMismatchError(message)


def _place(manifest: Manifest) -> str:
    return f"{manifest.stage}/{manifest.name} {folder_name(manifest.partition)}"
