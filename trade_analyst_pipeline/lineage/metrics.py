"""Tables to metrics: compute what has changed, commit.

A metric is brought up to date when a table partition it was made from has another content hash, or the code another
version. Per-snapshot metrics are kept by the session; series by the year, with `session_date` as a column. Fences are
taken before anything is read that a metric is made from, and what it was made from is noted as of then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

import polars as pl

from trade_analyst_pipeline.datasets import ohlc, options
from trade_analyst_pipeline.lineage.built import (
    Built,
    BuiltSeries,
    combined_reference,
    reference,
    why_stale,
)
from trade_analyst_pipeline.lineage.code_versions import is_made_by, made_by
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.metrics import (
    exposure,
    forward,
    implied_volatility,
    iv_history,
    iv_rank,
    put_call_ratio,
    realized_volatility,
    surface_check,
    term_structure,
    volatility_index,
)
from trade_analyst_pipeline.storage.tables import Manifest, Partition, TableStore

CHUNK_SESSIONS = 40


class Reader(Protocol):
    """Whatever metrics are computed from: the tables as they are stored, or as of an instant."""

    def scan(
        self, stage: str, name: str, *, partitions: Collection[Partition] | None = None, schema: TableSchema
    ) -> pl.LazyFrame:
        """The rows of all partitions of a table, or of those given."""
        ...


@dataclass(frozen=True)
class SnapshotMetric:
    """A metric kept by the session that is computed from the same session of `sources`, each a stage and a name."""

    schema: TableSchema
    sources: tuple[tuple[str, str], ...]
    compute: Callable[[Reader, Sequence[date]], pl.DataFrame]

    @property
    def step(self) -> str:
        """The step that makes it."""
        return f"metrics/{self.schema.name}"


def _put_call_ratio(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    scan = store.scan("tables", "options", partitions=days, schema=options.SCHEMA)
    return put_call_ratio.put_call_ratio(scan.select(put_call_ratio.INPUT_COLUMNS).collect())


def _forward(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    scan = store.scan("tables", "options", partitions=days, schema=options.SCHEMA)
    return forward.forward(scan.select(forward.INPUT_COLUMNS).collect())


def _implied_volatility(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    scan = store.scan("tables", "options", partitions=days, schema=options.SCHEMA)
    forwards = store.scan("metrics", "forward", partitions=days, schema=forward.SCHEMA)
    return implied_volatility.implied_volatility(
        scan.select(implied_volatility.INPUT_COLUMNS).collect(), forwards.collect()
    )


def _term_structure(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    scan = store.scan("tables", "options", partitions=days, schema=options.SCHEMA)
    volatilities = store.scan("metrics", "implied_volatility", partitions=days, schema=implied_volatility.SCHEMA)
    forwards = store.scan("metrics", "forward", partitions=days, schema=forward.SCHEMA)
    return term_structure.term_structure(
        scan.select(term_structure.OPTION_COLUMNS).collect(),
        volatilities.select(term_structure.VOLATILITY_COLUMNS).collect(),
        forwards.select(term_structure.FORWARD_COLUMNS).collect(),
    )


def _surface_check(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    options_of = store.scan("tables", "options", partitions=days, schema=options.SCHEMA)
    forwards = store.scan("metrics", "forward", partitions=days, schema=forward.SCHEMA)
    volatilities = store.scan("metrics", "implied_volatility", partitions=days, schema=implied_volatility.SCHEMA)
    return surface_check.surface_check(
        volatilities.collect(),
        forwards.select(surface_check.FORWARD_COLUMNS).collect(),
        options_of.select(surface_check.OPTION_COLUMNS).collect(),
    )


def _exposure(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    scan = store.scan("tables", "options", partitions=days, schema=options.SCHEMA)
    volatilities = store.scan("metrics", "implied_volatility", partitions=days, schema=implied_volatility.SCHEMA)
    return exposure.exposure(
        scan.select(exposure.OPTION_COLUMNS).collect(), volatilities.select(exposure.VOLATILITY_COLUMNS).collect()
    )


PUT_CALL_RATIO = SnapshotMetric(put_call_ratio.SCHEMA, (("tables", "options"),), _put_call_ratio)
FORWARD = SnapshotMetric(forward.SCHEMA, (("tables", "options"),), _forward)
IMPLIED_VOLATILITY = SnapshotMetric(
    implied_volatility.SCHEMA, (("tables", "options"), ("metrics", "forward")), _implied_volatility
)
TERM_STRUCTURE = SnapshotMetric(
    term_structure.SCHEMA,
    (("tables", "options"), ("metrics", "forward"), ("metrics", "implied_volatility")),
    _term_structure,
)
SURFACE_CHECK = SnapshotMetric(
    surface_check.SCHEMA,
    (("tables", "options"), ("metrics", "forward"), ("metrics", "implied_volatility")),
    _surface_check,
)
EXPOSURE = SnapshotMetric(exposure.SCHEMA, (("tables", "options"), ("metrics", "implied_volatility")), _exposure)
# Each after those it is made of.
SNAPSHOT_METRICS = (PUT_CALL_RATIO, FORWARD, IMPLIED_VOLATILITY, TERM_STRUCTURE, SURFACE_CHECK, EXPOSURE)


def build_snapshot_metric(
    store: TableStore, metric: SnapshotMetric, sessions: Sequence[date], *, created_time: datetime, again: bool = False
) -> Iterator[Built]:
    """Bring a metric up to date with what it is made from in each session, yielding results in order.

    With `again` every one of them is computed, whatever is stored.
    """
    name = metric.schema.name
    for chunk in batched(sessions, CHUNK_SESSIONS):
        sources = snapshot_sources(store, metric, chunk)
        present = {day: None if again else store.manifest("metrics", name, day) for day in chunk}
        stale = [day for day in chunk if sources[day] and why_stale(present[day], metric.step, sources[day])]
        fences = {day: store.take_fence("metrics", name, day) for day in stale}
        sources |= snapshot_sources(store, metric, stale)
        made = snapshot_rows(store, metric, stale)
        for day in chunk:
            held = present[day]
            if not sources[day]:
                missing = " and ".join("/".join(source) for source in metric.sources)
                yield Built(name, day, "empty", detail=f"{missing} holds nothing of this session")
            elif day in made:
                manifest = _write_metric(store, made[day], metric.schema, day, fences[day], sources[day], created_time)
                yield _built(manifest, day, "built")
            elif held is not None:
                yield _built(held, day, "unchanged")


def snapshot_sources(store: TableStore, metric: SnapshotMetric, days: Sequence[date]) -> dict[date, list[str]]:
    """What the metric of each session is made from, as manifests name it; nothing where any of it is not there."""
    found = {}
    for day in days:
        manifests = [store.manifest(stage, name, day) for stage, name in metric.sources]
        found[day] = [reference(made) for made in manifests if made] if all(manifests) else []
    return found


def snapshot_rows(store: Reader, metric: SnapshotMetric, days: Sequence[date]) -> dict[date, pl.DataFrame]:
    """The metric of each of these sessions."""
    if not days:
        return {}
    parts = metric.compute(store, days).partition_by("session_date", as_dict=True)
    return {day: parts.get((day,), metric.schema.empty()) for day in days}


def _built(manifest: Manifest, day: date, status: Literal["built", "unchanged"]) -> Built:
    return Built(
        manifest.name,
        day,
        status,
        manifest.row_count,
        content_hash=manifest.content_hash,
        size_bytes=manifest.size_bytes,
        first_time=manifest.first_time,
        last_time=manifest.last_time,
    )


def refresh_iv_history(store: TableStore, *, created_time: datetime, again: bool = False) -> BuiltSeries:
    """Bring `metrics/iv_history` up to date with `tables/options`, computing only sessions that have changed.

    With `again` all of them are computed, whatever is stored.
    """
    schema = iv_history.SCHEMA
    wanted = option_sources(store)
    held = set() if again else _iv_history_sources(store)
    stale = [day for day, source in wanted.items() if source not in held]
    if not stale:
        return _series(store, schema, ())
    fences = _take_fences(store, schema, years_of(stale))
    wanted = option_sources(store)
    kept = schema.empty() if again else _iv_history_besides(store, stale)
    sources = {year: [source for day, source in wanted.items() if day.year == year] for year in fences}
    return _write_years(store, pl.concat([kept, iv_history_of(store, stale)]), schema, fences, sources, created_time)


def _iv_history_sources(store: TableStore) -> set[str]:
    """What the stored series was made of by this code version."""
    manifests = store.manifests("metrics", iv_history.SCHEMA.name)
    own = [manifest for manifest in manifests if is_made_by(manifest, f"metrics/{iv_history.SCHEMA.name}")]
    return {source for manifest in own for source in manifest.source_captures}


def _iv_history_besides(store: TableStore, days: Sequence[date]) -> pl.DataFrame:
    stored = store.scan("metrics", iv_history.SCHEMA.name, schema=iv_history.SCHEMA)
    return stored.filter(~pl.col("session_date").is_in(days)).collect()


def option_sources(store: TableStore) -> dict[date, str]:
    """The sessions of `tables/options`, each with its content as a metric names what it was made from."""
    tables = store.manifests("tables", "options")
    return {made.partition: reference(made) for made in tables if isinstance(made.partition, date)}


def iv_history_of(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    """`iv_history` of these sessions, from `tables/options`."""
    parts = [_iv_history_of(store, chunk) for chunk in batched(days, CHUNK_SESSIONS)]
    return pl.concat([iv_history.SCHEMA.empty(), *parts])


def _iv_history_of(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    scan = store.scan("tables", "options", partitions=days, schema=options.SCHEMA)
    return iv_history.iv_history(scan.select(iv_history.INPUT_COLUMNS).collect())


@dataclass(frozen=True)
class WholeSeries:
    """A metric kept by the year that is computed from `sources`, each a stage and a name.

    A row is made of its own session and of at most `lookback` sessions before. `compute` takes the rows of all
    partitions, or of those given, which are enough for the years that `made_of` gives them for.
    """

    schema: TableSchema
    sources: tuple[tuple[str, str], ...]
    lookback: int
    compute: Callable[[Reader, Collection[Partition] | None], pl.DataFrame]

    @property
    def step(self) -> str:
        """The step that makes it."""
        return f"metrics/{self.schema.name}"

    def made_of(self, store: TableStore) -> dict[int, list[Manifest]]:
        """By year, the partitions of the sources that its sessions and the `lookback` sessions before lie in."""
        manifests = [made for source in self.sources for made in store.manifests(*source)]
        years = years_of(manifest.partition for manifest in manifests)
        return {year: [made for made in manifests if self.reaches(made.partition, year)] for year in years}

    def reaches(self, partition: Partition, year: int) -> bool:
        """Whether a row of that year may be made of a partition of the source."""
        first, last = sessions_ending(date(year, 1, 1), self.lookback)[0], date(year, 12, 31)
        return _lies_in(partition, first, last)


def _lies_in(partition: Partition, first: date, last: date) -> bool:
    if isinstance(partition, date):
        return first <= partition <= last
    return first.year <= partition <= last.year


def _iv_rank(store: Reader, partitions: Collection[Partition] | None = None) -> pl.DataFrame:
    scans = [
        store.scan("metrics", schema.name, partitions=partitions, schema=schema).select(iv_rank.INPUT_COLUMNS)
        for schema in (iv_history.SCHEMA, volatility_index.SCHEMA)
    ]
    return iv_rank.iv_rank(pl.concat(scans).collect())


def _put_call_ratio_daily(store: Reader, partitions: Collection[Partition] | None = None) -> pl.DataFrame:
    ratios = store.scan("metrics", "put_call_ratio", partitions=partitions, schema=put_call_ratio.SCHEMA)
    wanted = pl.col("scope").is_in(["underlying", put_call_ratio.UNIVERSE])
    return put_call_ratio.put_call_ratio_daily(ratios.filter(wanted).collect())


def _realized_volatility(store: Reader, partitions: Collection[Partition] | None = None) -> pl.DataFrame:
    bars = store.scan("tables", "ohlc", partitions=partitions, schema=ohlc.SCHEMA)
    return realized_volatility.realized_volatility(bars.filter(pl.col("frequency") == "daily").collect())


def _volatility_index(store: Reader, partitions: Collection[Partition] | None = None) -> pl.DataFrame:
    bars = store.scan("tables", "ohlc", partitions=partitions, schema=ohlc.SCHEMA)
    wanted = (pl.col("frequency") == "daily") & pl.col("symbol").is_in(list(volatility_index.INDICES))
    return volatility_index.volatility_index(bars.filter(wanted).select(volatility_index.INPUT_COLUMNS).collect())


VOLATILITY_INDEX = WholeSeries(volatility_index.SCHEMA, (("tables", "ohlc"),), 1, _volatility_index)
IV_RANK = WholeSeries(
    iv_rank.SCHEMA,
    (("metrics", "iv_history"), ("metrics", "volatility_index")),
    max(iv_rank.WINDOWS),
    _iv_rank,
)
PUT_CALL_RATIO_DAILY = WholeSeries(
    put_call_ratio.DAILY_SCHEMA,
    (("metrics", "put_call_ratio"),),
    max(put_call_ratio.SMOOTHED_SESSIONS),
    _put_call_ratio_daily,
)
REALIZED_VOLATILITY = WholeSeries(
    realized_volatility.SCHEMA, (("tables", "ohlc"),), max(realized_volatility.WINDOWS), _realized_volatility
)
WHOLE_SERIES = (VOLATILITY_INDEX, IV_RANK, PUT_CALL_RATIO_DAILY, REALIZED_VOLATILITY)


# Of each metric, what it is made of; each after those it is made of.
SOURCES: Mapping[str, tuple[str, ...]] = {
    **{metric.step: tuple("/".join(source) for source in metric.sources) for metric in SNAPSHOT_METRICS},
    f"metrics/{iv_history.SCHEMA.name}": ("tables/options",),
    **{series.step: tuple("/".join(source) for source in series.sources) for series in WHOLE_SERIES},
}
_SNAPSHOTS = {metric.schema.name: metric for metric in SNAPSHOT_METRICS}
_WHOLE = {series.schema.name: series for series in WHOLE_SERIES}


def wanted_sources(store: TableStore, name: str) -> Mapping[Partition, Sequence[str]]:
    """What each partition of a metric is to be made of, as its manifest names it."""
    if name in _WHOLE:
        return {year: [combined_reference(made)] for year, made in _WHOLE[name].made_of(store).items()}
    sources = option_sources(store)
    if name in _SNAPSHOTS:
        found = snapshot_sources(store, _SNAPSHOTS[name], list(sources))
        return {day: made_of for day, made_of in found.items() if made_of}
    return {year: [made for day, made in sources.items() if day.year == year] for year in years_of(sources)}


def followers(name: str, held: Iterable[Partition], above: Sequence[Partition]) -> dict[Partition, list[Partition]]:
    """The partitions of a metric that may be made of those `above`, each with those; `held` is all of its source."""
    if name in _SNAPSHOTS:
        return {partition: [partition] for partition in above}
    series = _WHOLE.get(name)
    reached = {
        year: [each for each in above if (series.reaches(each, year) if series else years_of([each]) == [year])]
        for year in years_of(held)
    }
    return {year: of for year, of in reached.items() if of}


def refresh_iv_rank(store: TableStore, *, created_time: datetime, again: bool = False) -> BuiltSeries:
    """Bring `metrics/iv_rank` up to date with `metrics/iv_history` and `metrics/volatility_index`."""
    return _refresh_whole(store, IV_RANK, created_time, again=again)


def refresh_volatility_index(store: TableStore, *, created_time: datetime, again: bool = False) -> BuiltSeries:
    """Bring `metrics/volatility_index` up to date with the daily bars of `tables/ohlc`."""
    return _refresh_whole(store, VOLATILITY_INDEX, created_time, again=again)


def refresh_put_call_ratio_daily(store: TableStore, *, created_time: datetime, again: bool = False) -> BuiltSeries:
    """Bring `metrics/put_call_ratio_daily` up to date with `metrics/put_call_ratio`."""
    return _refresh_whole(store, PUT_CALL_RATIO_DAILY, created_time, again=again)


def refresh_realized_volatility(store: TableStore, *, created_time: datetime, again: bool = False) -> BuiltSeries:
    """Bring `metrics/realized_volatility` up to date with the daily bars of `tables/ohlc`."""
    return _refresh_whole(store, REALIZED_VOLATILITY, created_time, again=again)


def _refresh_whole(store: TableStore, series: WholeSeries, created_time: datetime, *, again: bool) -> BuiltSeries:
    """Compute the years of a series that were not made from their sources as these stand; all of them with `again`.

    They are computed once the fences are held, and files are looked for only then.
    """
    schema, stale = series.schema, []
    for year, made in series.made_of(store).items():
        present = None if again else store.manifest("metrics", schema.name, year)
        if why_stale(present, series.step, [combined_reference(made)]):
            stale.append(year)
    if not stale:
        return _series(store, schema, ())
    fences = _take_fences(store, schema, stale)
    made_of = series.made_of(store)
    rows = series.compute(store, {made.partition for year in fences for made in made_of[year]})
    sources = {year: [combined_reference(made_of[year])] for year in fences}
    return _write_years(store, rows, schema, fences, sources, created_time)


def _take_fences(store: TableStore, schema: TableSchema, years: Iterable[int]) -> dict[int, int]:
    return {year: store.take_fence("metrics", schema.name, year) for year in years}


def _write_years(
    store: TableStore,
    frame: pl.DataFrame,
    schema: TableSchema,
    fences: Mapping[int, int],
    sources: Mapping[int, Sequence[str]],
    created_time: datetime,
) -> BuiltSeries:
    for year, fence in fences.items():
        rows = frame.filter(pl.col("session_date").dt.year() == year)
        _write_metric(store, rows, schema, year, fence, sources[year], created_time)
    return _series(store, schema, tuple(fences))


def _series(store: TableStore, schema: TableSchema, written_years: tuple[int, ...]) -> BuiltSeries:
    dates = store.scan("metrics", schema.name, schema=schema).select("session_date").collect()["session_date"]
    last = dates.max()
    return BuiltSeries(
        schema.name, len(dates), dates.n_unique(), last if isinstance(last, date) else None, written_years
    )


def _write_metric(
    store: TableStore,
    frame: pl.DataFrame,
    schema: TableSchema,
    partition: Partition,
    fence: int,
    sources: Sequence[str],
    created_time: datetime,
) -> Manifest:
    return store.write(
        "metrics",
        frame,
        schema=schema,
        partition=partition,
        fence=fence,
        source_captures=sources,
        **made_by(f"metrics/{schema.name}"),
        created_time=created_time,
    )


def batched(days: Sequence[date], size: int) -> Iterator[list[date]]:
    """The days in lists of that many, the last one shorter."""
    return (list(days[start : start + size]) for start in range(0, len(days), size))


def years_of(partitions: Iterable[Partition]) -> list[int]:
    """The years that these sessions lie in, ascending."""
    return sorted({partition if isinstance(partition, int) else partition.year for partition in partitions})


# By the dataset that they are made of, each after those it is made of: iv_rank is made of bars as well.
SERIES_OF: Mapping[str, Mapping[str, Callable[..., BuiltSeries]]] = {
    "ohlc": {
        realized_volatility.SCHEMA.name: refresh_realized_volatility,
        volatility_index.SCHEMA.name: refresh_volatility_index,
    },
    "options": {
        iv_history.SCHEMA.name: refresh_iv_history,
        iv_rank.SCHEMA.name: refresh_iv_rank,
        put_call_ratio.DAILY_SCHEMA.name: refresh_put_call_ratio_daily,
    },
}
SERIES = tuple(refresh for made_of in SERIES_OF.values() for refresh in made_of.values())
