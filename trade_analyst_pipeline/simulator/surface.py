"""The true implied volatility of every option: term structure and skew, free of arbitrage by construction.

At the forward, total variance grows from today's instantaneous variance to the long-run one as a mean-reverting
variance does. Across strikes it follows the SSVI form of Gatheral and Jacquier (2014), with
phi = eta / sqrt(theta * (1 + theta)); eta * (1 + |rho|) <= 2 rules out butterfly arbitrage, and one rho and eta for
all maturities rule out calendar arbitrage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trade_analyst_pipeline.simulator.noise import Floats

VARIANCE_RETURN = 3.0
LONG_RUN_FACTOR = 1.06


@dataclass(frozen=True)
class Surface:
    """One instrument's surface at one instant.

    `variance` is the instantaneous and `long_run` the final variance a year, `rho` the skew, `eta` the curvature.
    """

    variance: float
    long_run: float
    rho: float
    eta: float

    def at_the_money_variance(self, years: Floats) -> Floats:
        """Total variance at the forward for times to expiry in years; 0 at or after expiry."""
        time = np.maximum(years, 0.0)
        early = -np.expm1(-VARIANCE_RETURN * time) / VARIANCE_RETURN
        return np.asarray(self.long_run * time + (self.variance - self.long_run) * early, dtype=np.float64)

    def total_variance(self, at_the_money: Floats, log_moneyness: Floats) -> Floats:
        """Total variance at ln(strike / forward), given that at the forward (greater than 0)."""
        phi_k = self.eta / np.sqrt(at_the_money * (1.0 + at_the_money)) * log_moneyness
        shape = 1.0 + self.rho * phi_k + np.sqrt((phi_k + self.rho) ** 2 + (1.0 - self.rho**2))
        return np.asarray(0.5 * at_the_money * shape, dtype=np.float64)


def surface_of(volatility: float, mean_volatility: float, skew: float, wing: float) -> Surface:
    """The surface for an instantaneous volatility and an instrument's character (annual fractions)."""
    return Surface(volatility**2, (LONG_RUN_FACTOR * mean_volatility) ** 2, skew, wing)
