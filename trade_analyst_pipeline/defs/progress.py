"""What a run says on the console: its own progress lines and warnings, not Dagster's bookkeeping."""

from __future__ import annotations

import logging
import sys

import dagster as dg


@dg.logger(config_schema={"log_level": dg.Field(str, default_value="INFO")}, description="One plain line per message.")
def plain_console(context: dg.InitLoggerContext) -> logging.Logger:
    """A logger that writes time and message to standard error."""
    logger = logging.getLogger(f"trade_analyst.console.{context.run_id}")
    logger.propagate = False
    logger.setLevel(context.logger_config["log_level"])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MessageOnly("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger.handlers = [handler]
    return logger


class _MessageOnly(logging.Formatter):
    """Leaves out the run and step that Dagster writes before each message."""

    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", None)
        if meta and meta.get("orig_message"):
            record = logging.makeLogRecord(record.__dict__ | {"msg": meta["orig_message"], "args": None})
        return super().format(record)
