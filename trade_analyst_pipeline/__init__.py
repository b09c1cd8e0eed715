"""trade-analyst: a scheduled, traceable market-data pipeline over the Charles Schwab Trader API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trade_analyst_pipeline.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> object:
    """What a user imports from the package itself, imported when it is first asked for: commands start without it."""
    if name in __all__:
        from trade_analyst_pipeline import loading

        return getattr(loading, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
