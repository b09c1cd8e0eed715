"""A line of the table of benchmarks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; `ratio` None where there is nothing to compare with."""

    name: str
    selection: str
    ours: str
    other: str = ""
    ratio: float | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the line."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return (self.name, f'make bench ARGS="{self.selection}"', self.ours, self.other, ratio)
