"""Is the candidate better than the champion? A test on labelled outcomes that one may look at after every one of them.

Pure: arrays in, `Finding` out. Collecting the outcomes is `loop/verdict`'s job, acting on them the canary's.

Each outcome lies between 0 (wrong) and 1 (right), and its arm was drawn with a known chance. From outcome x of a row that
went to the candidate with chance p comes an unbiased estimate of the difference between the two versions,

    d = (x - m) (A / p - (1 - A) / (1 - p)),      A = 1 where the candidate answered, else 0,

whatever m was settled before the row (here the mean of the outcomes so far: it takes variance away and adds no bias), and
however p changes on the way: importance weighting as in Karampatziakis, Mineiro and Ramdas, "Off-policy confidence sequences",
ICML 2021. If the candidate is not better, a gambler who stakes a part of his wealth on every d > 0 does not get rich:

    E_t = mean over stakes of prod (1 + stake d_i)      has expectation <= 1 at every t,

a mixture of the capital processes of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
JRSS-B 86, 2024. By Ville's inequality (1939) E_t ever reaches 2 / alpha with chance at most alpha / 2: that is the error rate of
`promote`, and with the bets reversed that of `keep`, for any number of looks. No normal approximation is involved.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Stakes as parts of the most that can be staked without ruin: half of it, and ever less for ever smaller differences.
STAKES = 0.5 * 1.6 ** -np.arange(16.0)
MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class Outcomes:
    """Labelled outcomes in the order in which their labels came; the last axis is time, others are replays.

    Attributes:
        value: (…, n) from 0 to 1; more is better.
        candidate: (…, n) whether the candidate answered; else the champion did.
        share: (…, n) the chance with which the candidate was drawn, above 0 and below 1.
    """

    value: Array
    candidate: NDArray[np.bool_]
    share: Array


@dataclass(frozen=True)
class Finding:
    """See `contracts.route.Verdict`; ``at`` is after how many outcomes it was decided."""

    decision: Literal["promote", "keep", "more"]
    because: str
    at: int | None
    rows: tuple[int, int]
    means: tuple[float, float]
    difference: tuple[float, float, float]
    evidence: tuple[float, float]
    more: int | None


@dataclass(frozen=True)
class _Bets:
    """Estimates of the difference, and how far below and above 0 each could have been."""

    d: Array
    below: Array
    above: Array

    def better(self, than: float = 0.0) -> tuple[Array, Array]:
        """Gains of who bets on a difference above ``than``, in units of the greatest possible loss, and that unit."""
        return (self.d - than) / (self.below + than), self.below + than

    def worse(self, than: float = 0.0) -> tuple[Array, Array]:
        """The same of who bets on one below ``than``."""
        return (than - self.d) / (self.above - than), self.above - than


def wealth(outcomes: Outcomes, margin: float = 0.0) -> tuple[Array, Array]:
    """Natural logarithms of the e-values after each outcome, (…, n) each: for "better than 0" and for "worse than ``margin``"."""
    bets = _bets(outcomes)
    return _mixture(bets.better()[0]), _mixture(bets.worse(margin)[0])


def decided(outcomes: Outcomes, alpha: float = 0.05, margin: float = 0.0) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """After how many outcomes each replay says `promote`, and `keep`: (…) each; n + 1 where it never does. The first one counts."""
    return tuple(_first(log_e >= math.log(2 / alpha)) for log_e in wealth(outcomes, margin))  # type: ignore[return-value]


def verdict(outcomes: Outcomes, alpha: float = 0.05, margin: float = 0.0) -> Finding:
    """What one stream of outcomes, (n,), says.

    Args:
        alpha: the error rate, both sides together.
        margin: the least gain worth a promotion, 0 or more: `keep` is also said when the gain is surely smaller.
    """
    n = outcomes.value.shape[-1]
    if n == 0:
        return Finding("more", "no labelled outcome yet", None, (0, 0), (math.nan, math.nan), (-1.0, 0.0, 1.0), (1.0, 1.0), None)
    bets, bar = _bets(outcomes), math.log(2 / alpha)
    better, worse = wealth(outcomes, margin)
    promote, keep = int(_first(better >= bar)), int(_first(worse >= bar))
    low, high = _interval(bets, bar)
    estimate = float(bets.d.mean())
    arms = tuple(outcomes.value[mask] for mask in (~outcomes.candidate, outcomes.candidate))
    seen = {
        "rows": tuple(len(arm) for arm in arms),
        "means": tuple(float(arm.mean()) if len(arm) else math.nan for arm in arms),
        "difference": (low, min(max(estimate, low), high), high),
        "evidence": (math.exp(min(700.0, float(better.max()))), math.exp(min(700.0, float(worse.max())))),
    }
    if min(promote, keep) > n:
        more = _more(bets, bar, margin)
        return Finding("more", f"the difference lies between {low:+.4f} and {high:+.4f}: that may still be either", None, more=more, **seen)  # type: ignore[arg-type]
    if promote < keep:
        return Finding("promote", f"the candidate is better, decided after {promote:,} outcomes", promote, more=None, **seen)  # type: ignore[arg-type]
    why = "the candidate is worse" if margin == 0 or high < 0 else f"the candidate gains less than {margin:g}"
    return Finding("keep", f"{why}, decided after {keep:,} outcomes", keep, more=None, **seen)  # type: ignore[arg-type]


def _bets(outcomes: Outcomes) -> _Bets:
    x, p = outcomes.value, outcomes.share
    before = np.cumsum(x, axis=-1) - x
    m = (0.5 + before) / (1.0 + np.arange(x.shape[-1]))
    d = (x - m) * np.where(outcomes.candidate, 1 / p, -1 / (1 - p))
    return _Bets(d, np.maximum(m / p, (1 - m) / (1 - p)), np.maximum((1 - m) / p, m / (1 - p)))


def _mixture(gains: Array) -> Array:
    """log of the mean wealth over `STAKES` after each of (…, n) gains >= -1."""
    total = np.full(gains.shape, -np.inf)
    for stake in STAKES:
        np.logaddexp(total, np.cumsum(np.log1p(stake * gains), axis=-1), out=total)
    return total - math.log(len(STAKES))


def _first(crossed: NDArray[np.bool_]) -> NDArray[np.int_]:
    """1 + the first True along the last axis; its length + 1 where there is none."""
    return np.where(crossed.any(axis=-1), crossed.argmax(axis=-1), crossed.shape[-1]) + 1


def _interval(bets: _Bets, bar: float) -> tuple[float, float]:
    """The differences that neither gambler has refuted by now: wealth falls as the claim gets bolder, so bisection finds the ends."""

    def refuted(gains: Array) -> bool:
        logs = [float(np.log1p(stake * gains).sum()) for stake in STAKES]
        return float(np.logaddexp.reduce(logs)) - math.log(len(STAKES)) >= bar

    ends = []
    for bet, open_end in ((bets.better, -1.0), (bets.worse, 1.0)):
        surely, never = open_end, -open_end
        for _ in range(16):  # to 3e-5
            middle = (surely + never) / 2
            if refuted(bet(middle)[0]):
                surely = middle
            else:
                never = middle
        ends.append(surely)
    low, high = ends
    return (low, high) if low <= high else (high, low)


def _more(bets: _Bets, bar: float, margin: float) -> int | None:
    """How many outcomes more, if they go on like these: the wealth of the luckiest stake grows by so much an outcome."""
    n = bets.d.shape[-1]
    growth = max(float(np.log1p(stake * gains).sum()) / n for gains in (bets.better()[0], bets.worse(margin)[0]) for stake in STAKES)
    needed = (bar + math.log(len(STAKES))) / growth if growth > 0 else math.inf
    return max(1, round(needed) - n) if needed < MAX_ROWS else None
