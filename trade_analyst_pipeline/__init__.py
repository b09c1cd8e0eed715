"""trade-analyst: a scheduled, traceable market-data pipeline over the Charles Schwab Trader API."""
