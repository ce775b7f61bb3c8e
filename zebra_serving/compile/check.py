"""Try the forms from the quickest down, and take the first one that answers like the model itself.

Runs in the compiling child only. Two comparisons: the encoder's matrix against the pipeline's own first steps, bit for bit,
through the tail; and the form's answers, labels exactly and scores within `form.TOLERANCE`. A form that differs is refused
with its worst row.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zebra_assets.adapters.model_files import LoadedModel, ModelFeature, Predictions
from zebra_serving.compile.form import NUMPY, ONNX, PLAIN, TOLERANCE, Form, Golden, toolchain
from zebra_serving.compile.graph import graph_of, thresholds
from zebra_serving.compile.plan import CannotCompile, Plan, any_value, plan
from zebra_serving.compile.probes import probe_rows
from zebra_serving.compile.recipe import Encoder, Table
from zebra_serving.compile.runtime import Graph, answers
from zebra_serving.examples import request_of
from zebra_serving.problems import InputInvalid
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema


def compiled(loaded: LoadedModel, example: Path) -> tuple[Form, bytes | None]:
    """The quickest form of ``loaded`` that agrees with it, and its graph where it has one."""
    bench = _Bench(loaded, example)
    try:
        bench.take_apart()
    except Exception as error:  # a reason to serve the slow form, never a reason not to serve
        return bench.form(PLAIN, dict.fromkeys((ONNX, NUMPY), _first_line(error))), None
    refused: dict[str, str] = {}
    for dtype in ("float64", "float32"):
        try:
            graph = graph_of(bench.plan.tail, len(bench.plan.slots), dtype)
            bench.compare_graph(graph, dtype)
        except Exception as error:  # whatever skl2onnx or the runtime cannot do is a reason, not a fault
            refused[ONNX] = "; ".join(filter(None, [refused.get(ONNX), f"as {dtype}: {_first_line(error)}"]))
        else:
            return bench.form(ONNX, {}, dtype), graph
    try:
        bench.compare_tail()
    except Exception as error:
        return bench.form(PLAIN, {**refused, NUMPY: _first_line(error)}), None
    return bench.form(NUMPY, refused, "float64"), None


class _Bench:
    """One model on the bench, with the rows it is asked about."""

    plan: Plan

    def __init__(self, loaded: LoadedModel, example: Path) -> None:
        self.loaded, self.schema = loaded, RowSchema(loaded.features)
        self._example = self.schema.decode(request_of(example)).values if example.is_file() else []
        self._probed = 0

    def take_apart(self) -> None:
        self.plan = plan(self.loaded)
        self._limits()

    def _limits(self) -> None:
        """Which odd numbers the model takes: asked, because it depends on how each estimator was trained."""
        calm = np.zeros((2, len(self.plan.slots)))
        self._takes = {}
        for name, odd in (("nan", np.nan), ("inf", np.inf)):
            self._takes[name] = True
            for slot in range(calm.shape[1]):
                probe = calm.copy()
                probe[1, slot] = odd
                try:
                    self.plan.tail.predict(probe)
                except ValueError:
                    self._takes[name] = False
                    break
        self._takes["inf"] = self._takes["inf"] and self._steps_take_infinity()
        self.recipe = self.plan.recipe(**self._takes)

    def _steps_take_infinity(self) -> bool:
        """Whether the steps before the tail do, which a recipe passes over: an imputer may refuse what the trees behind it would take."""
        row = [any_value(f) if t is None else _known(f, t) for f, t in zip(self.schema.features, self.plan.tables, strict=True)]
        for j, (feature, table) in enumerate(zip(self.schema.features, self.plan.tables, strict=True)):
            if table is None and feature.dtype == "float64":
                try:
                    self.loaded.predict(Rows(self.schema, [(*row[:j], math.inf, *row[j + 1 :])]).table())
                except ValueError:
                    return False
        return True

    def compare_graph(self, graph: bytes, dtype: str) -> None:
        rows, truth = self._truth(thresholds(graph))
        encoder, run = Encoder(self.recipe, dtype), Graph(graph)
        labels, scores = answers(run(encoder.matrix(rows)), self._classes, self._positive)
        self._compare(rows, truth, labels, scores)

    def compare_tail(self) -> None:
        rows, truth = self._truth([])
        found = replace(self.loaded, estimator=self.plan.tail).answer(Encoder(self.recipe, "float64").matrix(rows))
        self._compare(rows, truth, found.labels.tolist(), None if found.scores is None else found.scores.tolist())

    def _truth(self, splits: list[tuple[int, float]]) -> tuple[Rows, Predictions]:
        """The probes that the model takes, and what it says to them; with the first steps of both compared on the way."""
        values = [*self._example, *probe_rows(self.schema, self.plan, splits, self._example)]
        if not self._takes["nan"]:
            values = [row for row in values if self._takes_row(row)]
        rows = Rows(self.schema, values)
        if not len(rows):
            raise CannotCompile("no row was found that the model takes")
        self._probed = len(rows)
        return rows, self.loaded.predict(rows.table())

    def _takes_row(self, row: tuple[Any, ...]) -> bool:
        try:
            Encoder(self.recipe, "float64").matrix(Rows(self.schema, [row]))
        except InputInvalid:
            return False
        return True

    def _compare(self, rows: Rows, truth: Predictions, labels: list[Any], scores: list[float] | None) -> None:
        if (scores is None) != (truth.scores is None):
            raise CannotCompile("it has scores where the model has none")
        if self.loaded.task == "regression":
            wanted = truth.labels.astype(float)
            _close(rows, wanted, np.array(labels, dtype=float), TOLERANCE * np.maximum(1.0, np.abs(wanted)))
        elif wrong := [i for i, (a, b) in enumerate(zip(truth.labels, labels, strict=True)) if a != b]:
            raise CannotCompile(f"{len(wrong)} of {len(rows)} rows get another label, such as {rows.values[wrong[0]]}"[:300])
        elif truth.scores is not None:
            _close(rows, truth.scores, np.array(scores), np.full(len(rows), TOLERANCE))

    @property
    def _classes(self) -> list[Any]:
        return self.loaded.classes

    @property
    def _positive(self) -> int | None:
        return self.loaded.classes.index(self.loaded.positive) if self.loaded.task == "binary" else None

    def form(self, name: Any, refused: dict[str, str], dtype: str = "float64") -> Form:
        golden = None
        if self._example:
            said = self.loaded.predict(Rows(self.schema, self._example).table())
            golden = Golden(said.labels.tolist(), None if said.scores is None else said.scores.tolist())
        what = "values" if self.loaded.task == "regression" else "labels exactly, scores"
        agreed = f"{self._probed} rows agree with scikit-learn: {what} within {TOLERANCE:g}"
        return Form(
            model_digest=self.loaded.digest, form=name, refused=refused, checked="nothing to compare" if name == PLAIN else agreed,
            task=self.loaded.task, classes=self.loaded.classes, positive=self._positive, recipe=None if name == PLAIN else self.recipe,
            dtype=dtype, golden=golden, made_with=toolchain(),
        )  # fmt: skip


def _known(feature: ModelFeature, table: Table) -> Any:
    """A value that the table takes."""
    return next((k for k, block in zip(table.keys, table.blocks, strict=True) if k is not None and block is not None), any_value(feature))


def _close(rows: Rows, wanted: np.ndarray, found: np.ndarray, bound: np.ndarray) -> None:
    away = np.abs(wanted - found)
    far = ~(away <= bound)
    if far.any():
        worst = int(np.argmax(np.where(np.isnan(away), np.inf, away - bound)))
        raise CannotCompile(f"{far.sum()} of {len(rows)} rows differ, row {rows.values[worst]} by {away[worst]:.2g}"[:300])


def _first_line(error: Exception) -> str:
    said = (str(error).strip().splitlines() or [""])[0][:200]
    return said if isinstance(error, CannotCompile) else f"{type(error).__name__}: {said}"
