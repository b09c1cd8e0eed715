"""The same source without an account: a Schwab-shaped server over a seeded market with known truth."""
