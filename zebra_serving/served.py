"""What is being served: one version, verified, tested and ready. Swapped as one reference, so an answer names one version.

A `Model` is a promoted model in some executable form. `Plain` runs the scikit-learn estimator itself; a compiled form
needs the same `predict` and a name, and everything else in the house stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from zebra_assets.adapters.model_files import LoadedModel
from zebra_assets.contracts.promotion import Promotion
from zebra_serving.problems import ModelFailed
from zebra_serving.schema import Rows, RowSchema


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer per row. ``scores`` are probabilities of the positive class, 0 to 1; None unless the task is binary."""

    labels: list[Any]
    scores: list[float] | None


class Model(Protocol):
    """A promoted model in some executable form. Called from several threads at once."""

    form: str

    def predict(self, rows: Rows) -> Scored:
        """One answer per row, in order.

        Raises:
            ModelFailed: an answer is not a finite number.
        """
        ...


class Plain:
    """The scikit-learn estimator as it was trained, fed with a DataFrame: right by construction, and the slowest form."""

    form = "scikit-learn"

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def predict(self, rows: Rows) -> Scored:
        found = self._loaded.predict(rows.table())
        for values in (found.labels, found.scores):
            if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ModelFailed("The model's answer is not a finite number.", fix="roll back: mlops rollback MODEL")
        return Scored(found.labels.tolist(), None if found.scores is None else found.scores.tolist())


@dataclass(frozen=True, slots=True)
class Served:
    """A version in memory.

    Attributes:
        call_s: seconds of a warm call with one row, measured by the self-test; None when there was no stored example.
        self_test: what the self-test did, for people.
        metrics: the evaluation's figures, where the records have them.
    """

    promotion: Promotion
    schema: RowSchema
    model: Model
    loaded_at: datetime
    self_test: str
    call_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def is_version_of(self, promotion: Promotion) -> bool:
        """Whether ``promotion`` names these very bytes."""
        return (promotion.version, promotion.model_digest) == (self.promotion.version, self.promotion.model_digest)
