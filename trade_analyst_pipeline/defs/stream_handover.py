"""From sealed segments to tables while the session goes on: the asset `raw/stream` and the sensor that starts its runs.

The archive says which segments there are and a table's manifest which it was made of, so each is taken once, however
often a run is started: a segment that comes late is added, one that comes again changes nothing. The sensor only saves
runs that would find nothing new.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date

import dagster as dg
import msgspec

from trade_analyst_pipeline.defs.partitions import session_of
from trade_analyst_pipeline.defs.reporting import Event, SessionResult, report_sessions
from trade_analyst_pipeline.defs.resources import StorageResource
from trade_analyst_pipeline.defs.run_tags import urgency_tag
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.schwab.budget import Priority
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.segments import NAME, stream_gaps

STREAM_ASSETS = (
    *("raw/stream", "tables/timesales", "metrics/aggressor_side", "metrics/aggressor_confidence"),
    *("metrics/trade_location", "exports/classification"),
)
JOB = "stream"
_SENSOR_SECONDS = 60
_SESSIONS_WATCHED = 10  # a segment that comes later still is for `trade-analyst rebuild`
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

Storage = dg.ResourceParam[StorageResource]


def raw_stream_asset(partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`raw/stream`: what the collector sealed of a session; a run of it asks nobody for anything."""
    key = dg.AssetKey(["raw", NAME])

    @dg.asset(
        key=key,
        group_name="raw",
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=(
            "Segments of the stream, sealed by `trade-analyst stream`: every message as it arrived. Its partitions are "
            "all sessions since start_date, so most may be empty."
        ),
        kinds={"raw"},
    )
    def raw(context: dg.AssetExecutionContext, storage: Storage) -> Iterator[Event]:
        sessions = [session_of(each, MachineClock().now()) for each in context.partition_keys]
        yield from report_sessions(context, key, [session_result(storage.archive, day) for day in sessions])

    return raw


def session_result(archive: Archive, session_date: date) -> SessionResult:
    """What is reported of the segments of a session."""
    try:
        captures = archive.captures(NAME, session_date)
    except CaptureDamagedError as error:
        return SessionResult(session_date, failure=str(error))
    if not captures:
        return SessionResult(session_date, failure="no segment is sealed; `trade-analyst stream` collects them")
    gaps = Counter(str(gap.reason) for capture in captures for gap in stream_gaps(capture))
    return SessionResult(
        session_date,
        {
            "segments": len(captures),
            "bytes": sum(capture.body_bytes for capture in captures),
            "stored_bytes": sum(capture.stored_bytes for capture in captures),
            "gaps": sum(gaps.values()),
            **{f"gaps_{reason}": count for reason, count in sorted(gaps.items())},
            "from_time": dg.MetadataValue.timestamp(min(capture.started_time for capture in captures)),
            "to_time": dg.MetadataValue.timestamp(max(capture.finished_time for capture in captures)),
        },
        data_version=_digest([capture.capture_id for capture in captures]),
    )


@dg.sensor(
    name="closed_segments",
    job_name=JOB,
    minimum_interval_seconds=_SENSOR_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes segments of the stream into their session's tables soon after they are sealed.",
)
def closed_segments(context: dg.SensorEvaluationContext, storage: Storage) -> dg.SensorResult | dg.SkipReason:
    """Start a run for each session that has other segments than when it was last started; one at a time."""
    if context.instance.get_run_records(dg.RunsFilter(job_name=JOB, statuses=_UNDER_WAY), limit=1):
        return dg.SkipReason("segments are being taken in just now")
    taken: dict[str, str] = msgspec.json.decode(context.cursor) if context.cursor else {}
    present = sealed_segments(storage.archive)
    wanted = [day for day, digest in present.items() if taken.get(day) != digest]
    return dg.SensorResult(
        [
            dg.RunRequest(
                run_key=f"stream/{day}/{present[day]}", partition_key=day, tags=urgency_tag(Priority.INTRADAY)
            )
            for day in wanted
        ],
        skip_reason=None if wanted else "no new segment",
        cursor=msgspec.json.encode(present).decode(),
    )


def sealed_segments(archive: Archive) -> Mapping[str, str]:
    """The latest sessions with segments, each with a digest of the segments' ids."""
    days = [day for day, _ in zip(archive.sessions_back(NAME, date.max), range(_SESSIONS_WATCHED), strict=False)]
    found: dict[str, str] = {}
    for day in days:
        try:
            found[day.isoformat()] = _digest(archive.capture_ids(NAME, day))
        except CaptureDamagedError:
            continue  # `verify` tells of it; the other sessions go on
    return found


def _digest(ids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
