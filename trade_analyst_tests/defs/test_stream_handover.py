"""Segments of the stream on their way into tables: each once, whenever and however often it comes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from trade_analyst_pipeline.datasets import TIMESALES
from trade_analyst_pipeline.definitions import assemble
from trade_analyst_pipeline.defs.resources import StorageResource
from trade_analyst_pipeline.defs.stream_handover import closed_segments, sealed_segments
from trade_analyst_pipeline.market.stream_blocks import StreamMessage
from trade_analyst_pipeline.settings import Settings, load_settings
from trade_analyst_pipeline.storage.segments import NAME, StreamBlock, StreamGap, StreamGapReason

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]

DAY = date(2025, 12, 9)
OPEN = datetime(2025, 12, 9, 14, 30, tzinfo=UTC)


@pytest.fixture
def settings(repository: Path) -> Settings:
    """Settings of an empty project folder."""
    shutil.copy(repository / "config.toml", "config.toml")
    return load_settings()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance of its own."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def message(minute: int, second: int, **fields: float) -> StreamMessage:
    """One item of AAPL, received at that second; a trade's time is the second before."""
    at = OPEN + timedelta(minutes=minute, seconds=second)
    ms = round(at.timestamp() * 1000)
    item = {"key": "AAPL", "35": ms - 1000, **{name.removeprefix("f"): value for name, value in fields.items()}}
    part = {"service": "LEVELONE_EQUITIES", "timestamp": ms, "command": "SUBS", "content": [item]}
    return StreamMessage(ms * 1_000_000, json.dumps({"data": [part]}).encode())


def seal(storage: StorageResource, minute: int, *messages: StreamMessage, carried: StreamMessage | None = None) -> None:
    """A segment of that minute."""
    moment = OPEN + timedelta(minutes=minute)
    with storage.archive.begin(dataset=NAME, session_date=DAY, scheduled_time=moment, started_time=moment) as writer:
        if carried is not None:
            writer.append(StreamBlock(1, True, (carried,)).as_record())
        writer.append(StreamBlock(1, False, messages).as_record())
        writer.note_gap(StreamGap(StreamGapReason.SILENCE, moment, moment, "nothing came").as_gap())
        writer.seal(moment + timedelta(minutes=1))


def taken_in(settings: Settings, instance: dg.DagsterInstance) -> tuple[list[tuple[float, float]], str]:
    """The trades (price, size) after a run of the job, and the content hash of the partition."""
    job = assemble(settings).resolve_job_def("stream")
    run = job.execute_in_process(partition_key=DAY.isoformat(), instance=instance)
    assert run.success
    tables = StorageResource(settings).tables
    rows = tables.scan("tables", "timesales", schema=TIMESALES.schema).collect()
    shown = rows.filter(rows["volume_kind"] == "shown").sort("trade_time")
    manifest = tables.manifest("tables", "timesales", DAY)
    assert manifest is not None
    return list(shown.select("trade_price", "trade_size").iter_rows()), manifest.content_hash


def asked(storage: StorageResource, instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[str], str | None]:
    """The partitions the sensor starts a run for, and its new cursor."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"storage": storage})
    found = closed_segments(context)
    assert isinstance(found, dg.SensorResult)
    return [str(request.partition_key) for request in found.run_requests or ()], found.cursor


def test_each_segment_is_taken_once_whenever_it_comes(settings: Settings, instance: dg.DagsterInstance) -> None:
    """A later one is added, a late one too, and taking the same in again changes nothing."""
    storage = StorageResource(settings)
    assert asked(storage, instance, None) == ([], "{}")
    image = {"f1": 10.0, "f2": 10.02, "f3": 10.01, "f4": 3, "f5": 4, "f8": 1000, "f9": 100, "f34": 0}
    seal(storage, 0, message(0, 1, **image), message(0, 5, f3=10.02, f8=1100, f9=100))
    days, cursor = asked(storage, instance, None)
    assert days == ["2025-12-09"]
    first, first_hash = taken_in(settings, instance)
    assert first == [(10.02, 100.0)]
    assert asked(storage, instance, cursor) == ([], cursor)

    later = message(2, 0, **(image | {"f3": 10.0, "f8": 1400, "f9": 300}))
    seal(storage, 2, message(2, 7, f3=10.01, f8=1450, f9=50), carried=later)
    days, cursor = asked(storage, instance, cursor)
    assert days == ["2025-12-09"]
    assert taken_in(settings, instance)[0] == [(10.02, 100.0), (10.01, 50.0)]

    seal(storage, 1, message(1, 5, f3=10.0, f8=1400, f9=300), carried=message(1, 0, **(image | {"f8": 1100})))
    days, cursor = asked(storage, instance, cursor)
    assert days == ["2025-12-09"]
    whole, whole_hash = taken_in(settings, instance)
    assert whole == [(10.02, 100.0), (10.0, 300.0), (10.01, 50.0)]
    assert whole_hash != first_hash

    assert taken_in(settings, instance) == (whole, whole_hash)
    assert asked(storage, instance, cursor) == ([], cursor)


def test_the_asset_tells_what_is_sealed(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Segments and gaps by reason; a session without a segment is none."""
    storage = StorageResource(settings)
    seal(storage, 0, message(0, 1, f8=1000))
    seal(storage, 1, message(1, 1, f8=1001))
    job = assemble(settings).resolve_job_def("stream")
    keys = [dg.AssetKey(["raw", "stream"])]
    assert job.execute_in_process(partition_key="2025-12-09", instance=instance, asset_selection=keys).success
    event = instance.get_latest_materialization_event(keys[0])
    assert event is not None
    assert event.asset_materialization is not None
    told = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (told["segments"], told["gaps"], told["gaps_silence"]) == (2, 2, 2)
    assert list(sealed_segments(storage.archive)) == ["2025-12-09"]


def test_no_second_run_is_started_beside_one(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Two would make the same partition; the sensor looks again when the first is done, with the cursor as it was."""
    storage = StorageResource(settings)
    seal(storage, 0, message(0, 1, f8=1000))
    job = assemble(settings).resolve_job_def("stream")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    context = dg.build_sensor_context(instance=instance, cursor=None, resources={"storage": storage})
    assert isinstance(closed_segments(context), dg.SkipReason)
