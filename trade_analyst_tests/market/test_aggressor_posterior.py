"""A table of posteriors: what its cells mean, how it is kept, and that the published one is what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trade_analyst_pipeline.errors import TapeError
from trade_analyst_pipeline.market.aggressor_posterior import (
    STEPS,
    TICKS,
    Posterior,
    default_posterior,
    posterior_from_json,
)

# Published as fitted on the same order book: step, tick, quality and probability. Cells with |u| = 0.4 exactly stood
# one step nearer there, by a rounding error of floats: 4 trades of `exact`, 15 of `strict`, up to 36 of `concurrent`.
PUBLISHED = (
    *(("mid", "with", "exact", 0.639), ("near", "with", "exact", 0.816), ("near", "against", "exact", 0.497)),
    *(("outer", "with", "exact", 0.940), ("outer", "against", "exact", 0.857)),
    *(("at", "with", "strict", 0.992), ("at", "against", "strict", 0.919)),
    *(("near", "with", "strict", 0.640), ("near", "against", "strict", 0.452)),
    *(("outer", "with", "strict", 0.901), ("outer", "against", "strict", 0.743)),
    *(("beyond", "with", "strict", 0.982), ("beyond", "against", "strict", 0.682)),
    *(("far", "with", "strict", 0.944), ("far", "against", "strict", 0.617)),
    *(("mid", "with", "concurrent", 0.842), ("near", "with", "concurrent", 0.890)),
    *(("near", "against", "concurrent", 0.184), ("outer", "with", "concurrent", 0.913)),
    *(("outer", "against", "concurrent", 0.297), ("at", "with", "concurrent", 0.967)),
    *(("at", "against", "concurrent", 0.375), ("beyond", "with", "concurrent", 0.825)),
    *(("beyond", "against", "concurrent", 0.079), ("far", "with", "concurrent", 0.768)),
    ("far", "against", "concurrent", 0.024),
)


def table(**cells: tuple[str, str, int, int]) -> Posterior:
    """A table with the cells given: quality = (step, tick, same, trades)."""
    found = {quality: np.zeros((len(STEPS), len(TICKS), 2), dtype=np.int64) for quality in cells}
    for quality, (step, tick, same, trades) in cells.items():
        found[quality][STEPS.index(step), TICKS.index(tick)] = same, trades
    return Posterior("test", ("a tape",), found)


def chance(posterior: Posterior, quality: str, step: str, tick: str) -> float:
    """The probability in one cell."""
    return float(posterior.probabilities(quality)[STEPS.index(step), TICKS.index(tick)])


@pytest.mark.parametrize(("step", "tick", "quality", "published"), PUBLISHED)
def test_default_table_is_the_published_one(step: str, tick: str, quality: str, published: float) -> None:
    """Each published posterior comes out, to the digits printed where no trade stands at a bound of floats."""
    at_float_bound = step in ("near", "outer")
    assert chance(default_posterior(), quality, step, tick) == pytest.approx(
        published, abs=0.0055 if at_float_bound else 0.0006
    )


def test_default_table_at_the_quote_is_capped() -> None:
    """8,039 of 8,039 trades at the quote is 0.995: hidden orders exist on other tapes."""
    assert chance(default_posterior(), "exact", "at", "with") == 0.995


def test_shrinking() -> None:
    """30 of 40 trades, with five more of which half agree: (30 + 2.5) / 45."""
    assert chance(table(exact=("near", "with", 30, 40)), "exact", "near", "with") == pytest.approx(32.5 / 45)


@pytest.mark.parametrize(
    ("cell", "step", "tick", "expected"),
    [
        # a step without trades: all steps off the mid with that tick, itself shrunk to 82.5 / 95
        (("at", "with", 80, 90), "far", "with", 82.5 / 95),
        # no earlier price: the step with any tick
        (("at", "with", 80, 90), "at", "none", 82.5 / 95),
        # no quote: the tick alone; against the side of 80 of 90 trades it was right in ten
        (("at", "against", 80, 90), "no_quote", "with", 12.5 / 95),
        # 2 of 4 trades, and five like the 84.5 / 99 of that tick
        (("at", "with", 80, 90), "near", "with", (2 + 5 * 84.5 / 99) / 9),
    ],
)
def test_thin_cells_lean_on_wider_ones(cell: tuple[str, str, int, int], step: str, tick: str, expected: float) -> None:
    """A cell of fewer than 20 trades takes what wider ones say in place of one half."""
    posterior = table(exact=cell)
    if step == "near":
        posterior.cells["exact"][STEPS.index("near"), TICKS.index("with")] = 2, 4
    assert chance(posterior, "exact", step, tick) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("quality", "step", "expected"),
    [("option_prior", "at", 0.90), ("option_prior", "outer", 0.75), ("block", "at", 0.60), ("block", "outer", 0.60)],
)
def test_options_and_blocks_are_capped(quality: str, step: str, expected: float) -> None:
    """They take the cells of `strict`: 0.90 at the quotes and 0.75 inside for options, 0.60 for blocks."""
    assert chance(default_posterior(), "strict", step, "with") > expected
    assert chance(default_posterior(), quality, step, "with") == expected
    lowest = 1 - expected
    unlikely = table(strict=(step, "with", 0, 1000))
    assert chance(unlikely, quality, step, "with") == pytest.approx(lowest)


def test_a_quality_without_cells_is_refused_by_name() -> None:
    """What the table was not fitted on is not guessed."""
    with pytest.raises(ValueError, match=r"not fitted on quotes of quality 'strict' .it has exact.*calibrate"):
        table(exact=("at", "with", 1, 1)).probabilities("option_prior")


def test_json_keeps_a_table() -> None:
    """Written and read again it is the same, and so is the one that comes with the package."""
    default = default_posterior()
    again = posterior_from_json(default.to_json())
    assert (again.version, again.fitted_on) == (default.version, default.fitted_on)
    assert list(again.cells) == list(default.cells)
    assert all(np.array_equal(again.cells[quality], found) for quality, found in default.cells.items())


@pytest.mark.parametrize(
    "cells",
    [
        {"exakt": {}},
        {"option_prior": {}},
        {"exact": {"at": {"with": [3, 2]}}},
        {"exact": {"at": {"with": [1, 10**30]}}},
        {"exact": {"at": {"with": [0.5, 2]}}},
        {"exact": {"at": {"with": [-1, 2]}}},
        {"exact": {"at": {"with": [1]}}},
        {"exact": {"ask": {"with": [1, 2]}}},
        {"exact": {"at": {"up": [1, 2]}}},
        {"exact": 5},
        [],
    ],
)
def test_a_document_that_is_no_table_is_refused(cells: object) -> None:
    """Unknown words and impossible counts are refused, the file named."""
    document = json.dumps({"version": "1", "fitted_on": [], "cells": cells})
    with pytest.raises(TapeError, match=r"my\.json is not a posterior table .* trade-analyst calibrate"):
        posterior_from_json(document, name="my.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": {}}'])
def test_text_that_is_no_document_is_refused(text: str) -> None:
    """Neither is anything that is not a JSON object with version, tapes and cells."""
    with pytest.raises(TapeError, match="is not a posterior table"):
        posterior_from_json(text)
