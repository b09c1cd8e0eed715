"""Small archives to copy, and what tests look at in them."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.copy_in import import_copy
from trade_analyst_pipeline.storage.copy_manifest import Moved
from trade_analyst_pipeline.storage.copy_out import export_copy

DAYS = (date(2026, 1, 5), date(2026, 1, 6))
CREATED = datetime(2026, 1, 8, tzinfo=UTC)


def small_archive(folder: Path, *, captures: int = 2, body_bytes: int = 900, seed: int = 1) -> Path:
    """A data folder with so many captures of two datasets and a plan in each of two sessions; bodies are noise."""
    noise, archive = random.Random(seed), Archive(folder / "raw")  # noqa: S311  seeded noise
    for day in DAYS:
        for dataset in ("options", "plan", "quotes"):
            for number in range(captures if dataset != "plan" else 1):
                moment = datetime(day.year, day.month, day.day, 20, number, tzinfo=UTC)
                writer = archive.begin(dataset=dataset, session_date=day, scheduled_time=moment, started_time=moment)
                for symbol in ("AAPL", "$SPX"):
                    request = MarketDataRequest(dataset, "/chains", (("symbol", symbol),), (symbol,))
                    writer.append(RawResponse(request, 200, noise.randbytes(body_bytes), (), moment, moment))
                writer.seal(moment)
    return folder


def export(data_folder: Path, destination: Path | BinaryIO, *, environment: str = "simulate") -> list[Moved]:
    """All of an archive copied."""
    return list(
        export_copy(data_folder, destination, environment=environment, wanted=lambda *_: True, created_time=CREATED)
    )


def take_in(data_folder: Path, source: Path | BinaryIO, *, environment: str = "simulate") -> list[Moved]:
    """All of a copy taken in."""
    return list(
        import_copy(data_folder, source, environment=environment, wanted=lambda *_: True, now=CREATED.timestamp())
    )


def outcomes(found: list[Moved]) -> dict[str, int]:
    """How often each outcome came."""
    return {outcome: sum(each.outcome == outcome for each in found) for outcome in {each.outcome for each in found}}


def contents(data_folder: Path) -> dict[str, str]:
    """The SHA-256 of every visible file of an archive, by its name below the data folder; hidden ones left out."""
    return {
        path.relative_to(data_folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((data_folder / "raw").rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
