"""The three executable forms, quickest first. Each predicts from checked rows; which one serves is in `GET /model`."""

from typing import TYPE_CHECKING

import numpy as np

from zebra_serving.compile.form import NUMPY, ONNX, PLAIN, Form
from zebra_serving.compile.recipe import Encoder
from zebra_serving.compile.runtime import Graph, answers, arrays
from zebra_serving.problems import InputInvalid, ModelFailed
from zebra_serving.rows import Columns, Rows
from zebra_serving.served import Scored, ScoredColumns

if TYPE_CHECKING:
    from zebra_assets.adapters.model_files import LoadedModel, Predictions


class OnnxModel:
    """Encoder and graph: no scikit-learn, no DataFrame."""

    form = ONNX
    quick = True

    def __init__(self, form: Form, graph: bytes) -> None:
        assert form.recipe is not None
        self._encode, self._run = Encoder(form.recipe, form.dtype).matrix, Graph(graph)
        self.classes, self._positive = form.classes, form.positive

    def predict(self, rows: Rows) -> Scored:
        found = self._run(self._encode(rows))
        try:
            if isinstance(rows, Columns):
                return ScoredColumns(self.classes or None, *arrays(found, bool(self.classes), self._positive))
            labels, scores = answers(found, self.classes, self._positive)
        except ValueError as error:
            raise _not_finite() from error
        return Scored(labels, scores)

    def chances(self, rows: Rows) -> np.ndarray | None:
        """(rows, classes) probabilities in the order of `classes`; None where there are none."""
        return self._run(self._encode(rows)) if self.classes else None


class NumpyModel:
    """Encoder and scikit-learn's own estimator behind the preprocessing, fed with a bare array.

    Args:
        tail: the loaded model with its tail in the estimator's place.
    """

    form = NUMPY
    quick = False

    def __init__(self, form: Form, tail: "LoadedModel") -> None:
        assert form.recipe is not None
        self._encode, self._tail = Encoder(form.recipe, form.dtype).matrix, tail
        self.classes = tail.classes

    def predict(self, rows: Rows) -> Scored:
        return scored(self._tail.answer(self._encode(rows)))

    def chances(self, rows: Rows) -> np.ndarray | None:
        """As `OnnxModel.chances`."""
        return self._tail.answer(self._encode(rows)).probabilities


class Plain:
    """The scikit-learn estimator as it was trained, fed with a DataFrame: right by construction, and the slowest form."""

    form = PLAIN
    quick = False

    def __init__(self, loaded: "LoadedModel") -> None:
        self._loaded = loaded
        self.classes = loaded.classes

    def predict(self, rows: Rows) -> Scored:
        return scored(self._answers(rows))

    def chances(self, rows: Rows) -> np.ndarray | None:
        """As `OnnxModel.chances`."""
        return self._answers(rows).probabilities

    def _answers(self, rows: Rows) -> "Predictions":
        try:
            return self._loaded.predict(rows.table())
        except InputInvalid:
            return self._answers_to_anything(rows)

    def _answers_to_anything(self, rows: Rows) -> "Predictions":
        """Where a column of text holds numbers, as MLflow's door lets them pass: the model is to see those, not their digits."""
        cells = [column.at(range(len(rows))) for column in rows.columns()]
        strange = [
            j for j, kind in enumerate(rows.schema.arrow) if kind == "string" and not all(v is None or isinstance(v, str) for v in cells[j])
        ]
        tame = [[None] * len(rows) if j in strange else column for j, column in enumerate(cells)]
        read = self._loaded.rows(rows.schema.of_columns(tame).table())
        for j in strange:
            said = np.fromiter(cells[j], dtype=object, count=len(rows))
            if isinstance(read, np.ndarray):
                read[:, j] = said
            else:
                read[rows.schema.names[j]] = said
        try:
            return self._loaded.answer(read)
        except (TypeError, AttributeError) as error:
            raise InputInvalid([], message=f"The model refuses these values: {error}.") from error


def scored(found: "Predictions") -> Scored:
    """A loaded model's answers as the data plane passes them on. Raises `ModelFailed` for one that is not finite."""
    for values in (found.labels, found.scores):
        if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
            raise _not_finite()
    return Scored(found.labels.tolist(), None if found.scores is None else found.scores.tolist())


def _not_finite() -> ModelFailed:
    return ModelFailed("The model's answer is not a finite number.", fix="roll back: mlops rollback MODEL")
