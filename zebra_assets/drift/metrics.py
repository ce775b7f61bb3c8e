"""Distances between a baseline and a window, as plain functions over one table of counts.

A metric registers with its threshold beside it. Each is a function of a `Binned` (rows per bin, both sides) and is defined
for numbers, categories or both. What chance alone gives is known in closed form for all three and is taken off before a
score meets its threshold: a window of 200 rows in 10 bins has an expected PSI of 0.05 without any drift. Called by `monitor`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray

from zebra_assets.drift.binning import Binned

Shares = NDArray[np.float64]
Distance = Callable[[Binned], float]

SMOOTHING = 0.5  # rows added to every bin for PSI (Jeffreys' prior): an empty bin stays finite, and weighs less the more rows there are


@dataclass(frozen=True)
class Metric:
    """A distance, the threshold it is usually read by, and what chance gives: ``E[distance ** power] = chance * (1/n + 1/N)``."""

    name: str
    threshold: float
    kinds: frozenset[str]
    distance: Distance
    power: int
    chance: Callable[[int], float]

    def net(self, table: Binned) -> float:
        """The distance with chance's share taken off, at least 0."""
        rows = 1 / max(table.baseline.sum(), 1) + 1 / max(table.window.sum(), 1)
        beyond: float = self.distance(table) ** self.power - self.chance(len(table.labels)) * rows
        return float(max(beyond, 0.0) ** (1 / self.power))


METRICS: dict[str, Metric] = {}


def drift_metric(
    name: str, *, threshold: float, kinds: tuple[str, ...] = ("numeric", "categorical"), power: int, chance: Callable[[int], float]
) -> Callable[[Distance], Distance]:
    """Register a distance under ``name``; ``chance`` maps the number of bins to the factor `Metric` explains."""

    def register(distance: Distance) -> Distance:
        METRICS[name] = Metric(name, threshold, frozenset(kinds), distance, power, chance)
        return distance

    return register


# PSI * 1/(1/n + 1/N) is about chi-square with bins - 1 degrees of freedom: Yurdakul & Naranjo, Statistical properties of the
# population stability index, Journal of Risk Model Validation 14(4), 2020.
@drift_metric("psi", threshold=0.2, power=1, chance=lambda bins: bins - 1)
def psi(table: Binned) -> float:
    """Population stability index, 0 up: ``sum((w - b) * ln(w / b))`` over smoothed shares; above 0.2 is usually read as a shift.

    It is the symmetrised Kullback-Leibler divergence (Jeffreys 1946) in nats. Nulls are a bin like any other.
    """
    base, now = _smoothed(table.baseline), _smoothed(table.window)
    return float(((now - base) * np.log(now / base)).sum())


# The divergence is PSI / 8 in nats for small shifts, hence both the factor and a threshold that agrees with PSI's:
# sqrt(0.2 / 8 / ln 2) = 0.19.
@drift_metric("js", threshold=0.2, power=2, chance=lambda bins: (bins - 1) / (8 * log(2)))
def js(table: Binned) -> float:
    """Jensen-Shannon distance, base 2, 0 to 1: the square root of the divergence (Lin 1991; Endres & Schindelin 2003)."""
    base, now = _shares(table.baseline), _shares(table.window)
    middle = (base + now) / 2
    return float(np.sqrt(max((_divergence(base, middle) + _divergence(now, middle)) / 2, 0.0)))


# E[K**2] = pi**2 / 12 for Kolmogorov's limit law (Marsaglia, Tsang & Wang 2003); bins only make the statistic smaller.
@drift_metric("ks", threshold=0.2, kinds=("numeric",), power=2, chance=lambda bins: pi**2 / 12)
def ks(table: Binned) -> float:
    """Kolmogorov-Smirnov statistic of the non-null numbers, 0 to 1, seen at the baseline's edges only.

    So it is at most the exact statistic, and short of it by at most the largest share that either side has in one bin.
    """
    if table.fine is None or not table.fine.any(axis=1).all():
        return 0.0
    base, now = (_shares(side).cumsum() for side in table.fine)
    return float(np.abs(base - now).max())


def _shares(counts: NDArray[np.int64]) -> Shares:
    return counts / counts.sum()


def _smoothed(counts: NDArray[np.int64]) -> Shares:
    padded = counts + SMOOTHING
    return padded / padded.sum()


def _divergence(shares: Shares, middle: Shares) -> float:
    """Kullback-Leibler divergence in bits; a bin without rows adds nothing."""
    held = shares > 0
    return float((shares[held] * np.log2(shares[held] / middle[held])).sum())
