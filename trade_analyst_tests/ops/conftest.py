"""Logging is global to a process: each test gets it as it was and leaves it so."""

import io
import logging
from collections.abc import Iterator

import pytest

from trade_analyst_pipeline.ops import logs, redaction


@pytest.fixture
def log_stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The text that JSON logging at DEBUG has written so far; nothing is registered as secret at the start."""
    monkeypatch.setattr(redaction, "_known", redaction._Known())
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    before = (root.level, root.handlers[:])
    levels = {name: logging.getLogger(name).level for name in logs.TALKATIVE_LOGGERS}
    stream = io.StringIO()
    logs.configure_logging(level="DEBUG", stream=stream)
    yield stream
    logging.setLogRecordFactory(factory)
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
