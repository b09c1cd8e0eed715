"""Metrics: pure functions, table in, table out; no Schwab, no Dagster, no files."""
