"""How far a figure might be off: percentile bootstrap over rows (Efron & Tibshirani 1993, ch. 13), many replicates at once.

Assumes that rows are independent. Rows of one customer or one day are not, and their true intervals are wider.
"""

from collections.abc import Iterator

import numpy as np

from zebra_assets.evaluation.metrics import Array, Metric, Scored

REPLICATES = 400  # the ends of two such intervals, drawn anew, lie some 5% of the interval's width apart
_CELLS = 2_000_000  # weights held at once: 16 MB


def replicates(metrics: list[Metric], subjects: list[Scored], seed: int) -> Array:
    """(metrics, subjects, replicates) figures, every subject drawn with the same rows so that they can be paired.

    1,000 rows take 0.07 s, 20,000 some 2 s. Beyond that the replicates fall to a quarter: with many rows the interval is
    narrow, and its own noise narrower.

    Args:
        subjects: scored rows, all of the same n rows; the same weights meet the same row in each.
        seed: the same seed gives the same draws.
    """
    rows = len(subjects[0].truth)
    count = max(REPLICATES // 4, min(REPLICATES, REPLICATES * 20_000 // rows))
    figures = np.full((len(metrics), len(subjects), count), np.nan)
    done = 0
    for weights in _draws(rows, seed, count):
        part = slice(done, done := done + len(weights))
        for i, metric in enumerate(metrics):
            for j, subject in enumerate(subjects):
                if not (metric.needs_score and subject.score is None):
                    figures[i, j, part] = metric.figure(subject, weights)
    return figures


def interval(figures: Array) -> tuple[float, float] | None:
    """The middle 95% of replicates; None when fewer than half of them are defined."""
    defined = figures[np.isfinite(figures)]
    if len(defined) * 2 < len(figures):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def _draws(rows: int, seed: int, count: int) -> Iterator[Array]:
    """Row counts of ``count`` draws of ``rows`` rows with replacement, a slice at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // rows)
    for start in range(0, count, step):
        size = min(step, count - start)
        drawn = rng.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(float)
