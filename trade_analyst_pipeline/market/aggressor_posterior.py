"""What a table of posteriors is: how often the aggressor was on the side where a trade stands; and the one we publish.

How trades get into a table, and probabilities out of it, `metrics/aggressor_confidence` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trade_analyst_pipeline.errors import TapeError
from trade_analyst_pipeline.market.trade_locations import QUOTE_QUALITIES

# A cell: steps from the mid, or no quote; and the tick against that side, none, or with it.
STEPS: Final = ("mid", "near", "outer", "at", "beyond", "far", "no_quote")
TICKS: Final = ("against", "none", "with")
AGAINST, NONE, WITH = range(3)
_SIDED = slice(STEPS.index("near"), STEPS.index("far") + 1)

PRIOR_WEIGHT: Final = 5.0
HIGHEST: Final = 0.995
FEWEST_TRADES: Final = 20
# A quality without cells of its own: whose cells it takes, and the highest confidence inside the quotes and elsewhere.
CAPPED: Final = {"option_prior": ("strict", 0.75, 0.90), "block": ("strict", 0.60, 0.60)}
_INSIDE = [STEPS.index(step) for step in ("mid", "near", "outer", "no_quote")]

Cells = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """How often the aggressor was on the side where a trade stands, by quality of the quote, step and tick.

    `cells` has for each quality an array of `STEPS` by `TICKS` by two: trades whose aggressor was on that side, and all
    trades. At the mid and without a quote the side is that of the tick. By symmetry sellers count with buyers.
    """

    version: str
    fitted_on: tuple[str, ...]
    cells: Mapping[str, Cells]

    def probabilities(self, quality: str) -> Floats:
        """Of each cell, the probability of that side, within the highest confidence of the quality (0.995 of most).

        A cell of k among n trades has (k + m q) / (n + m), m = 5. q is 1/2; in cells of fewer than 20 trades it is what
        wider cells say: all steps off the mid with that tick; without a tick, that step with any; without a quote, the
        tick alone. Raises ValueError for a quality the table has no cells of.
        """
        source, inside, elsewhere = CAPPED.get(quality, (quality, HIGHEST, HIGHEST))
        if source not in self.cells:
            message = (
                f"posterior {self.version} was not fitted on quotes of quality {source!r} (it has "
                f"{', '.join(self.cells)}): fit one on a labelled tape of that kind with trade-analyst calibrate"
            )
            raise ValueError(message)
        found = self.cells[source]
        same, trades = found[..., 0], found[..., 1]
        mean = np.where(trades < FEWEST_TRADES, _wider(found), 0.5)
        highest = np.full((len(STEPS), 1), elsewhere)
        highest[_INSIDE] = inside
        shares: Floats = np.clip(_shrunk(same, trades, mean), 1 - highest, highest)
        return shares

    def to_json(self) -> str:
        """The table as one JSON document, cells without trades left out."""
        cells = {quality: _named(found) for quality, found in self.cells.items()}
        document = {"version": self.version, "fitted_on": list(self.fitted_on), "cells": cells}
        return json.dumps(document, indent=1) + "\n"


def _wider(found: Cells) -> Floats:
    """Of each cell, the probability from all cells it belongs to more loosely."""
    same, trades = found[..., 0], found[..., 1]
    off_mid = _shrunk(same[_SIDED].sum(axis=0), trades[_SIDED].sum(axis=0), 0.5)
    mean = np.full(same.shape, 0.5)
    mean[_SIDED] = off_mid
    mean[_SIDED, NONE] = _shrunk(same[_SIDED].sum(axis=1), trades[_SIDED].sum(axis=1), 0.5)
    like_tick = same[:, WITH].sum() + (trades - same)[:, AGAINST].sum()
    mean[STEPS.index("no_quote"), WITH] = _shrunk(like_tick, trades[:, [AGAINST, WITH]].sum(), 0.5)
    return mean


def _shrunk(same: Any, trades: Any, mean: Any) -> Any:
    return (same + PRIOR_WEIGHT * mean) / (trades + PRIOR_WEIGHT)


def _named(found: Cells) -> dict[str, dict[str, list[int]]]:
    rows = {
        step: {tick: pair.tolist() for tick, pair in zip(TICKS, row, strict=True) if pair[1]}
        for step, row in zip(STEPS, found, strict=True)
    }
    return {step: row for step, row in rows.items() if row}


def posterior_from_json(text: str, *, name: str = "the posterior table") -> Posterior:
    """The table in a document of `Posterior.to_json`. Raises TapeError, naming `name`, for anything else."""
    try:
        document = json.loads(text)
        cells = {quality: _array(quality, rows) for quality, rows in document["cells"].items()}
        return Posterior(str(document["version"]), tuple(map(str, document["fitted_on"])), cells)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        message = f"{name} is not a posterior table ({error!r}): give a file that trade-analyst calibrate has written"
        raise TapeError(message) from error


def _array(quality: str, rows: Mapping[str, Any]) -> Cells:
    if quality not in QUOTE_QUALITIES or quality in CAPPED:
        message = f"no quality is named {quality!r}"
        raise ValueError(message)
    found = np.zeros((len(STEPS), len(TICKS), 2), dtype=np.int64)
    for step, row in rows.items():
        for tick, (same, trades) in row.items():
            if not (isinstance(same, int) and isinstance(trades, int) and 0 <= same <= trades):
                message = f"{quality} {step} {tick}: {same!r} of {trades!r} trades"
                raise ValueError(message)
            found[STEPS.index(step), TICKS.index(tick)] = same, trades
    return found


@cache
def default_posterior() -> Posterior:
    """The table that comes with the package; its page in docs/metrics/ says what it was fitted on, how far it holds."""
    text = (files(__package__) / "aggressor_posterior.json").read_text(encoding="utf-8")
    return posterior_from_json(text, name="aggressor_posterior.json of the package")
