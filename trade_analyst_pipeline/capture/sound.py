"""The captures that can be read; one that cannot is a finding, named by its file, and keeps nobody from the others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from typing import TypeVar

from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.storage.archive import Archive, Capture

T = TypeVar("T")


class SoundCaptures:
    """An archive as it can be read; `damaged` holds, by their words, the errors of what was met that cannot be."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.damaged: dict[str, CaptureDamagedError] = {}

    def ids(self, dataset: str, day: date) -> list[str] | CaptureDamagedError:
        """The ids of the sealed captures of a session, ascending; the damage where they cannot be told."""
        return self._read(partial(self.archive.capture_ids, dataset, day))

    def at(self, dataset: str, capture_id: str) -> Capture | CaptureDamagedError:
        """A capture by its id, or the damage to it."""
        return self._read(partial(self.archive.find, dataset, capture_id))

    def of(self, dataset: str, day: date) -> list[Capture]:
        """The sealed captures of a session that can be read, ascending by id."""
        ids = self.ids(dataset, day)
        found = [] if isinstance(ids, CaptureDamagedError) else [self.at(dataset, each) for each in ids]
        return [capture for capture in found if not isinstance(capture, CaptureDamagedError)]

    def reading(self, read: Callable[[], T]) -> T | None:
        """What `read` gives; None where it meets damage, which is noted."""
        found = self._read(read)
        return None if isinstance(found, CaptureDamagedError) else found

    def _read(self, read: Callable[[], T]) -> T | CaptureDamagedError:
        try:
            return read()
        except CaptureDamagedError as error:
            self.damaged[str(error)] = error
            return error
