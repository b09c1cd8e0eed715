"""How the stream collector stands, by what it told last and by whether its process lives."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.ops.health.report import Finding, ok, skipped, warn
from trade_analyst_pipeline.storage.stream_status import StreamStatus, last_status, stream_process, told_seconds_ago

QUIET_SECONDS: Final = 120.0  # it tells how it stands every five, thirty between sessions
_START: Final = "Start `trade-analyst stream`."


def check_stream(data_folder: Path, now: datetime) -> Finding:
    """The collector lives, tells how it stands, and receives what it asked for; skipped where none ever ran."""
    try:
        status = last_status(data_folder)
    except StorageError as error:
        return warn(str(error), _START)
    if status is None:
        return skipped("`trade-analyst stream` has not run here")
    if stream_process(data_folder) is None:
        told = f"{status.told_time:%Y-%m-%d %H:%M} UTC"
        if status.state == "stopped":
            return warn(f"no collector runs; the last was stopped {told}", _START)
        return warn(f"no collector runs; the last ended without a goodbye after {told}", _START)
    quiet = told_seconds_ago(data_folder, now)
    if quiet > QUIET_SECONDS:
        detail = f"process {status.process} has told nothing for {quiet:.0f} s"
        return warn(
            detail, "Look at the disk of data_root, which may be stalled; else end that process and start it anew."
        )
    return _living(status)


def _living(status: StreamStatus) -> Finding:
    if status.state == "waiting":
        return ok(f"waiting for session {status.session_date}, which begins {status.begins_time:%Y-%m-%d %H:%M} UTC")
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(status.gaps.items())) or "none"
    detail = (
        f"session {status.session_date}: {status.symbols} symbols, {status.messages:,} messages, "
        f"{status.segments} segments, {status.connections} connections, gaps: {counts}"
    )
    if status.state != "streaming":
        return warn(f"not connected; {status.detail or 'connecting'}; {detail}", "It connects again by itself.")
    if status.detail:
        return warn(f"{status.detail}; {status.held_bytes:,} bytes are held; {detail}", "Free the disk of data_root.")
    if status.left_out:
        remedy = "docs/operations.md, 'The stream': watch less, or leave the symbols out that do not stream."
        return warn(f"{status.left_out} symbols are left out; {detail}", remedy)
    return ok(detail)
