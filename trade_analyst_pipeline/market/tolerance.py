"""How many bad rows a capture may hold and still be used: each dataset says it, `validation.py` applies it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """A capture is used while its bad rows are no more than `rows`, or no more than `share` (0 to 1) of all its rows.

    `rows` keeps a small capture from being lost to a handful of bad rows, which are in quarantine anyway; `share`
    tells a large one in which some rows are bad from one that was not understood. One row has to be good in any case.
    """

    share: float = 0.01
    rows: int = 10

    def allows(self, bad: int, offered: int) -> bool:
        """Whether so many bad rows among those offered may be left out."""
        return not bad or (bad < offered and bad <= max(self.rows, self.share * offered))
