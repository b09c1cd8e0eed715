"""All benchmarks as one table: what was measured, how to measure it alone, ours, the peer or the limit, the ratio.

`python -m benchmarks [NAME…]` (`make bench`, `make bench ARGS="NAME…"`). Ratios are ours over the other side: for times
and shares below 1 is better, for speeds above 1. `dagster` needs the data of the main job, and runs it first.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

from benchmarks import aggressor, metrics, session
from benchmarks.american import american_figures
from benchmarks.chains import LIMIT, chain_figures
from benchmarks.dagster_overhead import dagster_overhead
from benchmarks.hostile import hostile_figures
from benchmarks.ledger import ledger_figures
from benchmarks.main_job import DAGSTER, MainJob, main_job
from benchmarks.normalize import measure_normalize
from benchmarks.row import Row
from benchmarks.storage import storage_figures
from benchmarks.stream_source import LIMIT as STREAM_LIMIT
from benchmarks.stream_source import SYMBOLS as STREAM_SYMBOLS
from benchmarks.stream_source import source_figures
from benchmarks.timesales import AIM as TAPE_AIM
from benchmarks.timesales import tape_figures
from benchmarks.volatility import volatility_rows
from benchmarks.wire_to_table import measure_wire_to_table
from trade_analyst_pipeline.ops.health.examination import CHECK_SECONDS

PACKAGES = ("polars", "dagster", "duckdb", "pandera", "msgspec", "orjson", "httpx", "pandas", "numpy")
FIRST_LIMIT, SECOND_LIMIT, DAGSTER_LIMIT = 120.0, 15.0, 1 / 3
WIRE_AIM, WIRE_MEMORY_LIMIT = 1.5, 3.0
WHOLE_WAY_AIM = 3.0
LIMIT_CHAIN_MILLISECONDS = 15
COMMIT_LIMIT, REBUILD_LIMIT, QUERY_LIMIT = 1.5, 0.7, 0.050


def main_job_rows(job: MainJob) -> Iterator[Row]:
    """Both runs against their limits, and the parts of the first."""
    yield Row("main job", "main_job", _seconds(job.first), f"limit {_seconds(FIRST_LIMIT)}", job.first / FIRST_LIMIT)
    yield Row(
        "second run", "main_job", _seconds(job.second), f"limit {_seconds(SECOND_LIMIT)}", job.second / SECOND_LIMIT
    )
    for part, seconds in job.parts.items():
        limited = part == DAGSTER
        yield Row(
            f"  of the main job: {part}",
            "main_job",
            f"{_seconds(seconds)}, {seconds / job.first:.0%}",
            f"limit {DAGSTER_LIMIT:.0%}" if limited else "",
            job.dagster_share / DAGSTER_LIMIT if limited else None,
        )
    for kind, seconds in job.processor.items():
        yield Row(f"  processor time of the {kind}", "main_job", _seconds(seconds))


def dagster_rows(job: MainJob) -> Iterator[Row]:
    """What Dagster adds to each asset partition of a range."""
    found = dagster_overhead(job.folder)
    each = 1000 / found.asset_partitions
    yield Row(
        f"asset partition of a range ({found.asset_partitions} of them), everything built",
        "dagster",
        f"{found.with_dagster * each:.1f} ms",
        f"without Dagster {found.without_dagster * each:.1f} ms",
        found.with_dagster / found.without_dagster,
    )
    yield Row("  of it Dagster's", "dagster", f"{found.milliseconds_each:.1f} ms")


def normalize_rows() -> Iterator[Row]:
    """A chain to its validated table beside a full decode of the same bytes."""
    found = measure_normalize()
    decoders = {"msgspec": found.msgspec_decode, "orjson": found.orjson_decode}
    name, fastest = min(decoders.items(), key=lambda pair: pair[1])
    yield Row(
        f"chain of {found.contracts:,} contracts to validated table",
        "normalize",
        f"{1e6 / found.normalize_and_validate:,.0f} contracts/s",
        f"{name} decode {1e6 / fastest:,.0f}/s (aim 0.50)",
        fastest / found.normalize_and_validate,
    )


def chain_rows() -> Iterator[Row]:
    """Requests of a large whole chain beside the fewest that could do."""
    first, *later = chain_figures()
    for found, when in ((first, "first capture"), (max(later, key=lambda each: each.ratio), "worst of the next three")):
        yield Row(
            f"requests of a whole chain of {found.contracts:,} contracts, {when}",
            "chains",
            f"{found.requests} for {found.body_bytes / 1e6:.1f} MB",
            f"fewest {found.fewest} (limit {LIMIT} times)",
            found.ratio,
        )


def session_rows() -> Iterator[Row]:
    """A session under the request limit: as the source counts it, and beside its timetable."""
    found, planned = session.session()
    size = f"{session.PROCESSES} processes, {session.SYMBOLS} symbols, {session.TIME_SCALE:.0f} times as fast"
    yield from _limit_rows(f"session of {found.minutes:.0f} minutes, {size}", found)
    for dataset, age in planned.worst_age.items():
        ours = found.worst_age(dataset, planned.closes)
        yield Row(
            f"  greatest age of {dataset}", "session", _seconds(ours), f"plan {_seconds(age)} (at most 1.1)", ours / age
        )
    for priority, plan in (("CLOSING", planned.closing), ("INTRADAY", planned.intraday)):
        ours = found.slowest("options", priority)
        yield Row(
            f"  slowest {priority.lower()} chains", "session", _seconds(ours), f"plan {_seconds(plan)}", ours / plan
        )
    yield from _halved_rows(session.halved())
    bodies = session.with_bodies()
    yield from _limit_rows(f"{bodies.minutes:.0f} minutes of real bodies ({bodies.megabytes:.0f} MB)", bodies)


def _limit_rows(what: str, found: session.SessionFigures) -> Iterator[Row]:
    yield Row(f"{what}: refused", "session", f"{found.refused} of {found.arrivals:,}", "limit 0")
    limit, worst = session.LIMIT, found.worst_window
    yield Row("  requests in the busiest 60 s", "session", f"{worst}", f"limit {limit}", worst / limit)
    yield Row("  of the limit used while work waits", "session", f"{found.used / limit:.1%}", "at least 95 %")


def _halved_rows(found: session.SessionFigures) -> Iterator[Row]:
    adopting = [at - session.HALVED_AT for at in found.refused_seconds if at <= session.HALVED_AT + 120.0]
    name = "limit halved in mid-run, no Retry-After: until it is kept by all"
    took = max(adopting, default=0.0)
    yield Row(name, "session", f"{_seconds(took)}, {len(adopting)} refused", "limit 120.0 s", took / 120.0)


def wire_to_table_rows() -> Iterator[Row]:
    """A whole chain's way from bytes to its validated table: time, memory, and the same by json and pandas."""
    found = measure_wire_to_table()
    for kind, times in (("time", found.elapsed), ("processor time", found.processor)):
        ours, decoder = times["ours"], found.faster_decode(times)
        for other, aim in ((decoder, f" decode (aim {WIRE_AIM})"), ("pandas", " and json")):
            yield Row(
                f"{found.contracts:,} contracts, bytes to validated table: {kind}",
                "wire_to_table",
                f"{ours:.1f} µs each",
                f"{other}{aim} {times[other]:.1f} µs",
                ours / times[other],
            )
    yield Row(
        "  peak memory",
        "wire_to_table",
        f"{found.memory['ours']:.2f} x the bodies of {found.body_bytes / 1e6:.1f} MB",
        f"limit {WIRE_MEMORY_LIMIT:.0f} x",
        found.memory["ours"] / WIRE_MEMORY_LIMIT,
    )
    others = ", ".join(f"{name} {found.memory[name]:.2f} x" for name in ("pandas", "msgspec", "orjson"))
    yield Row("  peak memory of the others", "wire_to_table", "", others)


def hostile_rows() -> Iterator[Row]:
    """Bodies made to hurt beside a plain decode of as many bytes."""
    for found in hostile_figures():
        yield Row(
            f"hostile body: {found.name} ({found.outcome})",
            "hostile",
            f"{found.seconds * 1000:,.0f} ms",
            f"plain decode {found.plain_seconds * 1000:,.0f} ms",
            found.seconds / found.plain_seconds,
        )


def storage_rows() -> Iterator[Row]:
    """A durable commit, tables from the archive, stored bytes, a query and compaction."""
    found = storage_figures()
    yield Row(
        f"durable commit of {found.commit.of:,} rows",
        "storage",
        _milliseconds(found.commit.ours),
        f"pyarrow and one sync {_milliseconds(found.commit.other)} (limit {COMMIT_LIMIT} times)",
        found.commit.ratio,
    )
    yield Row(
        f"table of {found.rebuild.of:,} rows from the archive",
        "storage",
        f"{found.rebuild.of / found.rebuild.ours:,.0f} rows/s",
        f"decode and validate alone {found.rebuild.of / found.rebuild.other:,.0f} rows/s (at least {REBUILD_LIMIT})",
        1 / found.rebuild.ratio,
    )
    archive = found.bytes_each["archive"]
    for other in ("gzip", "table"):
        yield Row(
            "  archived bytes per contract and snapshot",
            "storage",
            f"{archive:.1f}",
            f"{other} {found.bytes_each[other]:.1f}",
            archive / found.bytes_each[other],
        )
    yield Row(
        f"one symbol of {found.query.of:,} rows of iv_history by SQL, compacted (limit {_milliseconds(QUERY_LIMIT)})",
        "storage",
        _milliseconds(found.query.ours),
        f"one plain file {_milliseconds(found.query.other)}",
        found.query.ratio,
    )
    before, after = found.before, found.after
    yield Row(
        f"compaction of {before.files} captures, {found.compaction.of / 1e6:.1f} MB",
        "storage",
        _milliseconds(found.compaction.ours),
        f"plain copy and one sync {_milliseconds(found.compaction.other)}",
        found.compaction.ratio,
    )
    yield Row(
        f"  bytes of the disk, {before.files} files to {after.files}",
        "storage",
        f"{after.disk_bytes:,}",
        f"before {before.disk_bytes:,}",
        after.disk_bytes / before.disk_bytes,
    )


def ledger_rows() -> Iterator[Row]:
    """The ledger of gaps: the plans of a day beside the same bytes read plainly, and a session looked at."""
    found = ledger_figures()
    yield Row(
        f"two plans of {found.symbols:,} symbols out of {found.plans_on_record} on record, for the ledger of gaps",
        "ledger",
        f"{1000 * found.plans:.1f} ms",
        f"the same {found.plan_bytes:,} bytes read plainly {1000 * found.plain:.1f} ms",
        found.plans / found.plain,
    )
    for name, seconds in (("quotes, as a check does", found.one), ("all datasets, as healthcheck does", found.whole)):
        yield Row(
            f"  ledger of a session: {name}",
            "ledger",
            f"{seconds:.2f} s",
            f"limit of all health checks {CHECK_SECONDS} s",
            seconds / CHECK_SECONDS,
        )


def stream_source_rows() -> Iterator[Row]:
    """What the simulator's streamer can send, beside what a collector has to take."""
    found = source_figures()
    for what, each in (("second", found.per_second), ("processor second of the server", found.per_processor_second)):
        yield Row(
            f"field updates of {STREAM_SYMBOLS} symbols sent in a {what}",
            "stream_source",
            f"{each:,.0f}",
            f"a collector has to take {STREAM_LIMIT:,}",
            each / STREAM_LIMIT,
        )


def timesales_rows() -> Iterator[Row]:
    """From a segment to classified trades, beside decoding its messages."""
    found = tape_figures()
    for what, each in (
        ("segment to classified trades", found.classified_per_second),
        ("  of it, segment to rows", found.rows_per_second),
    ):
        yield Row(
            f"{what}, {found.trades:,} trades",
            "timesales",
            f"{each:,.0f} trades/s of the processor",
            f"msgspec alone, to dictionaries {found.decoded_per_second:,.0f}",
            each / found.decoded_per_second,
        )
    yield Row(
        "segment to classified trades",
        "timesales",
        f"{found.classified_per_second:,.0f} trades/s of the processor",
        f"aim {TAPE_AIM:,}",
        found.classified_per_second / TAPE_AIM,
    )


def metric_rows() -> Iterator[Row]:
    """The metrics, one of them beside pandas."""
    found = metrics.iv_rank_against_pandas()
    yield Row(
        "iv_rank, window of 252",
        "metrics",
        f"{found['rows_per_second']:,.0f} rows/s",
        f"pandas {found['pandas_rows_per_second']:,.0f} rows/s",
        float(found["ratio"]),
    )
    for name, measure in (("put_call_ratio", metrics.put_call_ratio_speed), ("iv_history", metrics.iv_history_speed)):
        yield Row(f"{name} of chains", "metrics", f"{measure()['rows_per_second']:,.0f} contracts/s")
    chain = metrics.european_chain_speed()
    milliseconds = 1e3 * float(chain["seconds"])
    yield Row(
        f"European chain of {chain['rows']:,} contracts, table to series",
        "metrics",
        f"{milliseconds:.1f} ms",
        f"limit {LIMIT_CHAIN_MILLISECONDS} ms",
        milliseconds / LIMIT_CHAIN_MILLISECONDS,
    )


def american_rows() -> Iterator[Row]:
    """American options beside QuantLib's engine, both held against that engine iterated to the end."""
    found = american_figures()
    yield Row(
        f"price of an American option, {found.count} of them, processor time",
        "american",
        f"{1e6 * found.price:,.0f} µs, error {found.error:.0e} dollars",
        f"QuantLib {version('QuantLib')} QD+ {1e6 * found.peer_price:,.0f} µs, error {found.peer_error:.0e}",
        found.price / found.peer_price,
    )
    yield Row("  its volatility from the price", "american", f"{1e6 * found.volatility:,.0f} µs")


def aggressor_rows() -> Iterator[Row]:
    """Trade classification: speed beside tclf, memory and Polars; accuracy on labelled tapes."""
    for count in (10**6, 10**7):
        for stack in aggressor.OURS:
            measured = aggressor.kernel_figures(stack, count)
            if measured is not None:
                yield from _kernel_rows(f"{stack} of {count:,} trades", measured)
    for what, found in aggressor.whole_way_figures().items():
        for name, ratio in ((f"from trades and quotes to {what}", "ratio"), ("  by processor time", "processor_ratio")):
            yield Row(
                name,
                "aggressor",
                f"{float(found['per_second']) / 1e6:.1f} M trades/s",
                f"Polars join_asof {float(found['polars_per_second']) / 1e6:.1f} M/s (aim {WHOLE_WAY_AIM})",
                float(found[ratio]),
            )
    emo = aggressor.emo_on_the_perpetual()
    if emo is not None:
        ours, other = float(emo["accuracy_pct"]), float(emo["tclf_accuracy_pct"])
        name = f"EMO right on a perpetual of {emo['rows']:,} trades"
        yield Row(name, "aggressor", f"{ours:.2f} %", f"tclf {emo['tclf']} {other:.2f} %", ours / other)
    for join, each in aggressor.accuracy_by_join().items():
        gained = f"Brier {each['brier']:.4f} of {each['constant_brier']:.4f}, ECE {each['ece']:.4f}"
        ours, rule = float(each["accuracy_pct"]), float(each["lee_ready_pct"])
        yield Row(f"AMZN, {join}", "aggressor", f"{ours:.2f} % right, {gained}", f"Lee-Ready {rule:.2f} %", ours / rule)


def _kernel_rows(name: str, found: aggressor.Figures) -> Iterator[Row]:
    ours, peer = float(found["per_second"]) / 1e6, float(found["tclf_per_second"]) / 1e6
    theirs = f"tclf {found['tclf']} {peer:.1f} M/s; {found['differing']:,} rows differ, all by rounding or tolerance"
    yield Row(name, "aggressor", f"{ours:,.0f} M trades/s", theirs, float(found["ratio"]))
    if "of_nothing" in found:
        limit = f"a loop that does nothing {float(found['nothing_per_second']) / 1e6:,.0f} M/s (at least 0.9)"
        yield Row("  of the speed of memory", "aggressor", f"{ours:,.0f} M trades/s", limit, float(found["of_nothing"]))


QUICK: dict[str, Callable[[], Iterator[Row]]] = {
    "normalize": normalize_rows,
    "wire_to_table": wire_to_table_rows,
    "hostile": hostile_rows,
    "chains": chain_rows,
    "storage": storage_rows,
    "ledger": ledger_rows,
    "stream_source": stream_source_rows,
    "timesales": timesales_rows,
    "metrics": metric_rows,
    "aggressor": aggressor_rows,
    "american": american_rows,
    "volatility": volatility_rows,
    "session": session_rows,
}
NAMES = (*QUICK, "main_job", "dagster")


def rows(wanted: set[str]) -> Iterator[Row]:
    """The rows of the benchmarks asked for."""
    for name, measure in QUICK.items():
        if name in wanted:
            _say(name)
            yield from measure()
    if wanted & {"main_job", "dagster"}:
        _say("main_job, twice")
        with main_job() as job:
            if "main_job" in wanted:
                yield from main_job_rows(job)
            if "dagster" in wanted:
                _say("dagster")
                yield from dagster_rows(job)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="Benchmarks; all of them unless named.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    wanted = set(parser.parse_args().names or NAMES)
    if strange := wanted.difference(NAMES):
        parser.error(f"no benchmark is named {', '.join(sorted(strange))}; there are {', '.join(NAMES)}")
    table = [("what", "command", "ours", "peer or limit", "ratio"), *(row.cells for row in rows(wanted))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(
        f"\nPython {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, ",
        end="",
    )
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _milliseconds(value: float) -> str:
    return f"{1000 * value:.0f} ms"


def _say(name: str) -> None:
    print(f"measuring {name} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
