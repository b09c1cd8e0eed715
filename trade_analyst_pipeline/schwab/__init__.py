"""The source: the only code that knows HTTP, tokens and the streamer protocol."""
