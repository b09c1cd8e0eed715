"""Conditions of sale of consolidated tapes of stocks (CTA and UTP): whose price was set against the current quote."""

from __future__ import annotations

import polars as pl

CLASSIFIED = " @FEI"
"""Regular (blank or @), intermarket sweep, automatic execution, odd lot."""


def is_excluded(conditions: pl.Expr) -> pl.Expr:
    """Whether a print says nothing about the current quote: true if one of its characters is not one of `CLASSIFIED`.

    Such are averages, derivatively priced and late prints, crosses, openings, closings and extended hours. False for
    null.
    """
    return conditions.fill_null("").str.contains(f"[^{CLASSIFIED}]")
