"""Metrics by name: what a `metrics:` entry of model.yaml may say, and how each is computed.

Every metric takes the scored rows and a matrix of row weights, one row of weights a replicate, and returns one figure a
replicate. All ones give the metric itself; counts drawn with replacement give a bootstrap of it, hundreds at a time in a
few matrix products. A figure that is not defined for the rows at hand (one class only, a constant truth) is NaN, and what
reads it must not let that pass. The figures agree with scikit-learn's, which is not imported: it would cost 1.3 s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zebra_assets.errors import SpecInvalid, did_you_mean

Task = Literal["binary", "multiclass", "regression"]
Array = NDArray[np.float64]
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Scored:
    """Rows with the truth and what a model said.

    Attributes:
        truth: (n,) 1.0 where the label is positive else 0.0; values for a regression; anything comparable for multiclass.
        answer: (n,) the predicted labels or values, spelled like ``truth``.
        score: (n,) probability of the positive class; None where the model gives none.
    """

    truth: NDArray[Any]
    answer: NDArray[Any]
    score: Array | None = None

    @cached_property
    def ranking(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """``(order, starts)``: rows by falling score, and where in that order each run of equal scores begins."""
        assert self.score is not None
        order = np.argsort(-self.score, kind="stable")
        ranked = self.score[order]
        return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def ranked(self, weights: Array) -> tuple[Array, Array]:
        """(b, groups) weight of positive and of negative rows within each run of equal scores, best scores first."""
        order, starts = self.ranking
        ordered, positive = weights[:, order], self.truth[order] == 1
        return np.add.reduceat(ordered * positive, starts, axis=1), np.add.reduceat(ordered * ~positive, starts, axis=1)


@dataclass(frozen=True)
class Metric:
    """A metric: for which labels it is, whether it reads scores, and its function ``(rows, weights (b, n)) -> (b,)``."""

    name: str
    tasks: tuple[Task, ...]
    needs_score: bool
    figure: Callable[[Scored, Array], Array]


METRICS: dict[str, Metric] = {}


def _metric(*tasks: Task, score: bool = False) -> Callable[[Callable[[Scored, Array], Array]], Callable[[Scored, Array], Array]]:
    def register(figure: Callable[[Scored, Array], Array]) -> Callable[[Scored, Array], Array]:
        METRICS[figure.__name__] = Metric(figure.__name__, tasks, score, figure)
        return figure

    return register


def metric(name: str, task: Task) -> Metric:
    """The metric of that name, if it fits the label.

    Raises:
        SpecInvalid: no such metric, or one for other labels.
    """
    fitting = [m.name for m in METRICS.values() if task in m.tasks]
    if name not in METRICS:
        raise SpecInvalid(
            f"metrics: no metric '{name}'.{did_you_mean(name, list(METRICS))} For a {task} label: {', '.join(fitting)}.",
            fix=f"name: {fitting[0]}",
        )
    if name not in fitting:
        raise SpecInvalid(f"metrics: '{name}' is not for a {task} label. Known: {', '.join(fitting)}.", fix=f"name: {fitting[0]}")
    return METRICS[name]


def compute(name: str, task: Task, rows: Scored) -> float:
    """One figure over all rows; NaN where it is not defined or the model gives no scores it would need."""
    chosen = metric(name, task)
    if len(rows.truth) == 0 or (chosen.needs_score and rows.score is None):
        return float("nan")
    return float(chosen.figure(rows, np.ones((1, len(rows.truth))))[0])


def _share(part: Array, whole: Array, undefined: float = float("nan")) -> Array:
    """``part / whole``, and ``undefined`` where the whole is nothing."""
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), undefined), where=whole > 0)


@_metric("binary", score=True)
def roc_auc(rows: Scored, weights: Array) -> Array:
    """Chance that a positive row scores above a negative one, ties counted half (Mann-Whitney U; Hanley & McNeil 1982)."""
    positive, negative = rows.ranked(weights)
    below = negative.sum(axis=1, keepdims=True) - np.cumsum(negative, axis=1)
    wins = (positive * (below + negative / 2)).sum(axis=1)
    return _share(wins, positive.sum(axis=1) * negative.sum(axis=1))


@_metric("binary", score=True)
def pr_auc(rows: Scored, weights: Array) -> Array:
    """Average precision: sum of precision times gain in recall over falling thresholds, no interpolation (Zhu 2004)."""
    positive, negative = rows.ranked(weights)
    found, alarms = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
    return _share((positive * _share(found, alarms, 0.0)).sum(axis=1), found[:, -1])


@_metric("binary", "multiclass")
def accuracy(rows: Scored, weights: Array) -> Array:
    """Share of rows answered right."""
    return _share(weights @ (rows.truth == rows.answer).astype(float), weights.sum(axis=1))


@_metric("binary")
def precision(rows: Scored, weights: Array) -> Array:
    """Share of rows called positive that are; 0 when none is called positive."""
    return _share(weights @ _hits(rows), weights @ (rows.answer == 1).astype(float), 0.0)


@_metric("binary")
def recall(rows: Scored, weights: Array) -> Array:
    """Share of positive rows that are called so; 0 when there is none."""
    return _share(weights @ _hits(rows), weights @ (rows.truth == 1).astype(float), 0.0)


@_metric("binary")
def f1(rows: Scored, weights: Array) -> Array:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979); 0 when all three are 0."""
    return _share(2 * (weights @ _hits(rows)), weights @ ((rows.answer == 1).astype(float) + (rows.truth == 1)), 0.0)


def _hits(rows: Scored) -> Array:
    return ((rows.truth == 1) & (rows.answer == 1)).astype(float)


@_metric("binary", score=True)
def log_loss(rows: Scored, weights: Array) -> Array:
    """Mean negative log-likelihood in nats, probabilities kept 2.2e-16 away from 0 and 1 (Good 1952)."""
    assert rows.score is not None
    sure = np.clip(rows.score, _EPS, 1 - _EPS)
    return _share(weights @ -np.where(rows.truth == 1, np.log(sure), np.log1p(-sure)), weights.sum(axis=1))


@_metric("binary", score=True)
def brier(rows: Scored, weights: Array) -> Array:
    """Mean squared distance of the probability from 0 or 1 (Brier 1950)."""
    assert rows.score is not None
    return _share(weights @ np.square(rows.score - rows.truth), weights.sum(axis=1))


@_metric("regression")
def rmse(rows: Scored, weights: Array) -> Array:
    """Root of the mean squared error, in the label's unit."""
    return np.sqrt(_share(weights @ np.square(rows.truth - rows.answer), weights.sum(axis=1)))


@_metric("regression")
def mae(rows: Scored, weights: Array) -> Array:
    """Mean absolute error, in the label's unit."""
    return _share(weights @ np.abs(rows.truth - rows.answer), weights.sum(axis=1))


@_metric("regression")
def r2(rows: Scored, weights: Array) -> Array:
    """Share of the label's variance that is explained, 1 - SSE/SST; not defined for a constant label."""
    total = weights.sum(axis=1)
    centred = rows.truth - rows.truth.mean()  # keeps the subtraction below from cancelling where the mean is far from 0
    spread = weights @ np.square(centred) - np.square(weights @ centred) / total
    # Rounding leaves some 1e-16 of the squares where the truth is constant.
    spread = np.where(spread > 1e-13 * (weights @ np.square(rows.truth)), spread, 0.0)
    return 1 - _share(weights @ np.square(rows.truth - rows.answer), spread)


@_metric("regression")
def mape(rows: Scored, weights: Array) -> Array:
    """Mean absolute error relative to the truth, 0.1 for 10%; rows whose truth is 0 count by 1 / 2.2e-16, as in scikit-learn."""
    return _share(weights @ (np.abs(rows.truth - rows.answer) / np.maximum(np.abs(rows.truth), _EPS)), weights.sum(axis=1))
