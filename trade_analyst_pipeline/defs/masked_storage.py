"""Dagster's SQLite storage with a mask before it: no event is written with a secret in it.

Named in `dagster.yaml`, so that every process of an instance writes through it: an error's text and stack, a metadata
value and a log line are masked alike, whoever made them. What is secret is known to `ops/redaction.py`. The classes
underneath are Dagster's own (release 1.13), pinned by a test.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData, deserialize_value, serialize_value

from trade_analyst_pipeline.defs.event_log import BatchedEventLog
from trade_analyst_pipeline.ops.redaction import redact


class MaskedSqliteStorage(DagsterSqliteStorage):
    """Runs, schedules and events below one folder, as Dagster keeps them, the events masked."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = _MaskedEventLog(str(Path(base_dir) / "history" / "runs"))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "MaskedSqliteStorage":
        """The storage that `dagster.yaml` describes."""
        return cls.from_local(inst_data=inst_data, **config_value)


class _MaskedEventLog(BatchedEventLog):
    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(masked(event))


def masked(event: EventLogEntry) -> EventLogEntry:
    """The event with every text in it masked; the same object where nothing is to be masked."""
    text = serialize_value(event)
    if redact(text) == text:
        return event
    return deserialize_value(json.dumps(_masked(json.loads(text))), EventLogEntry)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {redact(name): _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return redact(value) if isinstance(value, str) else value
