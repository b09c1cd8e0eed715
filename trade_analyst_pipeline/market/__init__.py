"""The vocabulary of the market: columns, sessions, option symbols, clocks. No input or output."""
