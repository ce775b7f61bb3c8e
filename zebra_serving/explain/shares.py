"""Shapley values of one version's answers, by lightshap. Runs in the helper only.

A column that is "absent" takes the value it has in each row of the background, and what the model then says is averaged: the
interventional Shapley values of Lundberg and Lee, 2017 (arXiv:1705.07874). Up to `EXACT` columns all coalitions are asked about.
Beyond, permutations are drawn forward and backward (Mitchell et al., 2022, arXiv:2104.12199) in rounds of four times as many, so
that there is an answer for every row early and a better one for as long as there is time. Each permutation's shares sum to
``value - base``, so they add up however few were drawn.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zebra_serving.compile.forms import NumpyModel, OnnxModel, Plain
from zebra_serving.explain.words import Share, Told
from zebra_serving.problems import NotExplainable, TooSlow
from zebra_serving.rows import Columns, Listed, Rows

# 2**8 coalitions of 32 background rows: 8,128 rows to ask about; the next column would double them.
EXACT = 8
# Below it there is nothing to draw: there are hardly more coalitions than draws.
LEAST_DRAWN = 4
FIRST_DRAWS, MORE = 2, 4
# Of the range of the contributions: there are no more rounds when the largest standard error is below it.
TOLERANCE = 0.02
# The clock is looked at between calls, which are cut to last about as long.
CALL_S, FEWEST_ROWS, MOST_ROWS = 0.05, 64, 4096
SEED = 20260321

Output = Callable[[Rows], np.ndarray]


class _TimeIsUp(Exception):
    """Leaves lightshap's loops; what earlier rounds have found stays."""


@dataclass
class Shares:
    """Explains rows of one version.

    Args:
        model: the form that serves.
        background: rows that travel with the version.
    """

    model: OnnxModel | NumpyModel | Plain
    background: Rows
    _row_s: float = field(default=0.0, init=False)

    def of(self, rows: Rows, seconds: float) -> Told:
        """Explain ``rows``, all of them roughly before any of them finely.

        Raises:
            NotExplainable: the model gives labels and no number for them.
            TooSlow: time was up before every row had a rough answer.
            InputInvalid, ModelFailed: the model will not have the rows.
        """
        ends = time.monotonic() + seconds
        scored = self.model.predict(rows)
        name, outputs = self._outputs(scored.labels, scored.scores is not None)
        found: list[Share | None] = [None] * len(rows)
        try:
            for how, draws in _rounds(rows.schema.width):
                for i, (label, score) in enumerate(scored.at(range(len(rows)))):
                    known = found[i]
                    if known is None or not known.complete:
                        found[i] = self._share(rows.part(slice(i, i + 1)), (label, score), outputs[i], how, draws, ends)
        except _TimeIsUp:
            if None in found:
                done = len(found) - found.count(None)
                said = f"Of {len(found)} rows {done} were explained within {seconds:g} s."
                raise TooSlow(said, fix="send fewer rows, or raise ZEBRA_SERVING_EXPLAIN_S") from None
        method = "exact Shapley values" if rows.schema.width <= EXACT else "Shapley values by sampled permutations"
        return Told(name, method, len(self.background), [share for share in found if share is not None])

    def _outputs(self, labels: list[Any], scores: bool) -> tuple[str, list[Output]]:
        """What is explained, in words and for each row as a function."""
        if not self.model.classes:
            return "the predicted value", [lambda rows: np.asarray(self.model.predict(rows).labels, dtype=float)] * len(labels)
        if scores:
            return "the score", [lambda rows: np.asarray(self.model.predict(rows).scores)] * len(labels)
        if self.model.chances(self.background) is None:
            raise NotExplainable(
                "The model gives labels without probabilities, so there is no number to share out.",
                fix="train a classifier that has predict_proba",
            )
        return "the probability of the predicted class", [self._chance_of(label) for label in labels]

    def _chance_of(self, label: Any) -> Output:
        place = self.model.classes.index(label)

        def chance(rows: Rows) -> np.ndarray:
            found = self.model.chances(rows)
            assert found is not None
            return found[:, place]

        return chance

    def _share(self, row: Rows, said: tuple[Any, float | None], output: Output, how: str, draws: int, ends: float) -> Share:
        from lightshap import explain_any

        def ask(matrix: np.ndarray) -> np.ndarray:
            return self._ask(output, matrix, ends)

        one, background = _matrix(row), _matrix(self.background)
        value = float(ask(one)[0])
        if row.schema.width == 1:  # which lightshap does not take, and which has one answer
            base = float(ask(background).mean())
            return Share(*said, base, value, [value - base], 0.0, True)
        # Its own tolerance may be met by luck after two draws; all of them are made instead, and the error is looked at here.
        found = explain_any(
            ask, one, bg_X=background, method="permutation", how=how, max_iter=draws, tol=0.0, random_state=SEED, verbose=False
        )
        shares, error = np.ravel(found.shap_values), float(np.max(found.standard_errors))
        precise = how == "exact" or (draws > FIRST_DRAWS and error <= TOLERANCE * float(np.ptp(shares)))
        return Share(*said, float(np.ravel(found.baseline)[0]), value, shares.tolist(), error, precise)

    def _ask(self, output: Output, matrix: np.ndarray, ends: float) -> np.ndarray:
        """(rows,) what the version says to the rows of ``matrix``. Raises `_TimeIsUp` between two calls."""
        found, at = [], 0
        while at < len(matrix):
            began = time.monotonic()
            if began > ends:
                raise _TimeIsUp
            part = matrix[at : at + (min(MOST_ROWS, max(FEWEST_ROWS, int(CALL_S / self._row_s))) if self._row_s else FEWEST_ROWS)]
            columns = [Listed(cells) for cells in part.T.tolist()]
            found.append(output(Columns(self.background.schema, columns, len(part))))
            self._row_s = (time.monotonic() - began) / len(part)
            at += len(part)
        return np.concatenate(found)


def _rounds(width: int) -> Iterator[tuple[str, int]]:
    """(how, most draws) for lightshap, from rough to fine."""
    draws = FIRST_DRAWS
    if width <= EXACT:
        if width >= LEAST_DRAWN:
            yield "sampling", draws
        yield "exact", 1
        return
    while draws < 10 * width:
        yield "sampling", draws
        draws *= MORE
    yield "sampling", 10 * width


def _matrix(rows: Rows) -> np.ndarray:
    """(rows, columns) Python values."""
    made = np.empty((len(rows), rows.schema.width), dtype=object)
    for i, values in enumerate(rows.values):
        made[i] = values[: rows.schema.width]
    return made
