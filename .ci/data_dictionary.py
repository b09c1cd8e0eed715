"""Writes docs/tables.md: every table with its columns, key and rules, as the code declares them.

    python .ci/data_dictionary.py > docs/tables.md      (or: make docs)

A test compares the file with what this script would write.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator

from trade_analyst_pipeline import metrics
from trade_analyst_pipeline.datasets import TABLES
from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS, TRADE_SCHEMAS
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.quarantine import quarantine_schema

HEAD = """\
# Tables

<!-- Written by `make docs` from the declarations in the code; do not edit by hand. -->

Every table of the data folder, and those that functions make and nothing stores yet: what a row is (its key), each
column with type, unit and meaning, and the rules a row has to meet. **bold** columns are never null. A row that breaks
a rule marked *error* goes to quarantine with the rule's name; one that breaks a *warning* is kept and counted. One
column name means one quantity in one unit everywhere. Times are UTC, `session_date` is the exchange's date. Every
Parquet file carries `schema_name`, `schema_version`, `data_version`, `code_version`, `created_at`, `source_captures`
and `row_count` in its metadata.

## How a table changes

Each table has a version, `<major>.<minor>`. What was stored under any released version is read for ever, by SQL,
exports and the Python API alike:

- A column is added in a **minor** version. It may be null, and is null in rows stored before. No column goes, changes
  its type, its unit or what it means; the key stays.
- Anything else is a **major** version. It declares, beside its schema, how rows of the version before read in it,
  column by column (`Upgrade`); rows of still older versions go through one upgrade after the other. Upgrades are made
  while reading: stored files stay as they are until their partition is made anew, which the next run that touches it
  does, and `trade-analyst rebuild` for all.
- Rows of a **newer** version than the program knows are refused by name, as is a version that no upgrade leads from:
  what they mean is not guessed.

| table | version | what changed |
|---|---|---|
| tables/quotes | 1.1 | `requested_symbol` and `expiration_style` added |
| tables/ohlc | 2.0 | `session_part` says `pre` or `post`, not `extended`; old rows are told apart by New York's hours |
| | | weekly and monthly bars are of their first session; old rows keep the date of their stamp until made anew |

Key and columns of every version are on record in `trade_analyst_tests/storage/released_schemas.json`; a test writes
files of each version and reads them.
"""


def metric_schemas() -> list[TableSchema]:
    """The schemas of all metric tables, by module and then as written there."""
    modules = [
        importlib.import_module(f"{metrics.__name__}.{info.name}") for info in pkgutil.iter_modules(metrics.__path__)
    ]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, TableSchema)]
    return list({schema.name: schema for schema in found}.values())


def table_schemas() -> Iterator[tuple[str, TableSchema]]:
    """Every stored table as (stage/name, schema); quarantine, one shape for all datasets, last."""
    for name, dataset in TABLES.items():
        yield f"tables/{name}", dataset.schema
    for schema in metric_schemas():
        yield (
            f"metrics/{schema.name}" if schema in (*METRIC_SCHEMAS, *TRADE_SCHEMAS) else f"{schema.name} (not stored)",
            schema,
        )
    yield f"quarantine/ ({', '.join(TABLES)})", quarantine_schema(next(iter(TABLES)))


def dictionary() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(title, schema) for title, schema in table_schemas())])


def _section(title: str, schema: TableSchema) -> str:
    lines = [f"## {title}", "", f"Version {schema.version}. Key: {', '.join(f'`{name}`' for name in schema.key)}.", ""]
    lines += _times(schema)
    lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [_column_row(column, is_required=column.name in schema.required) for column in schema.columns]
    if schema.rules:
        lines += ["", "| rule | severity | a row passes when |", "|---|---|---|"]
        lines += [f"| `{rule.name}` | {rule.severity} | {_cell(rule.meaning)} |" for rule in schema.rules]
    return "\n".join([*lines, ""])


def _times(schema: TableSchema) -> list[str]:
    """What a read as of an instant goes by; nothing of a metric, which is computed from tables read so."""
    if schema.known_time is None:
        return []
    if schema.event_time == schema.known_time:
        return [f"Event and knowledge time: `{schema.known_time}`; rows correct nothing.", ""]
    event = ", ".join(f"`{name}`" for name in schema.event_key)
    text = f"Event time: `{schema.event_time}`. Knowledge time: `{schema.known_time}`: of rows that agree in {event} "
    return [f"{text}each corrects those known before it.", ""]


def _column_row(column: Column, *, is_required: bool) -> str:
    name = f"**`{column.name}`**" if is_required else f"`{column.name}`"
    return f"| {name} | {_type_name(column)} | {column.unit or ''} | {_cell(column.meaning)} |"


def _type_name(column: Column) -> str:
    return str(column.dtype).replace("time_unit='us', time_zone='UTC'", "us, UTC")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(dictionary())
