"""The words for where a trade stands against the quote in force, how that quote was had, and how volume was seen."""

from __future__ import annotations

from typing import Final

# From below to above; `mid` in the middle, so that place - MIDDLE is the signed distance in steps.
LOCATIONS: Final = (
    *("far_below", "below", "bid", "lower_outer", "lower_near", "mid"),
    *("upper_near", "upper_outer", "ask", "above", "far_above"),
)
MIDDLE: Final = LOCATIONS.index("mid")

QUOTE_QUALITIES: Final = (
    "exact",  # the last quote before the trade, clocks of 1 ms or finer
    "strict",  # the last quote before the trade, a coarser clock
    "concurrent",  # a quote with the trade's own time on a coarse clock may be one that the trade brought about
    "concurrent_fine",  # the same with clocks of 1 ms or finer
    "matched",  # the first quote in force within the clock's uncertainty that has the trade's price
    "arrival",  # the last quote to arrive before the trade, which may already show the trade's effect
    "previous_update",  # level one: the quote of the update before the one that showed the trade
    "unseen",  # level one: volume between two updates, placed with the trade that was shown
    "option_prior",  # an option trade: no labelled tape of options is public
    "block",  # a print far larger than the size shown, off the quotes
)

VOLUME_KINDS: Final = (
    "shown",  # a print
    "unseen",  # volume that rose without a print of its own, placed with the print that came with it
    "gap",  # volume of a stretch of which nothing was received
    "start",  # a state without a size: the tape begins here, or the volume began anew
)
