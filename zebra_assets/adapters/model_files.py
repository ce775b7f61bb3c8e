"""From a model folder to something that predicts, without running what the folder says.

Order of suspicion: the bytes must have the promised digest, the folder must pass `contracts/model_folder`, the model file
must hold trusted types only; then it is opened. Shared by evaluation and the server. Loads with skops alone: importing
mlflow would cost each process 1.5 s and would take its list of trusted types from the model itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zebra_assets.contracts.model_folder import (
    MODEL_FILE,
    TRUSTED_TYPES,
    ModelFeature,
    ModelFolder,
    Task,
    model_digest,
    verify_model_folder,
)
from zebra_assets.errors import DataInvalid, Refused

__all__ = ["LoadedModel", "ModelFeature", "Predictions", "columns_of", "load_model", "model_digest"]

MOST_UNPACKED = 50
FEW = 10_000

_ARROW = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us"),
    "date": pa.timestamp("us"),
}


@dataclass(frozen=True)
class Predictions:
    """One prediction per row.

    Attributes:
        labels: (n,) predicted classes, or values for a regression.
        scores: (n,) probability of the positive class, 0 to 1; None unless the task is binary and the model has probabilities.
        probabilities: (n, k) in the order of `LoadedModel.classes`; None where the model has none.
    """

    labels: np.ndarray
    scores: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict, and what its folder says about it."""

    features: list[ModelFeature]
    task: Task
    classes: list[Any]
    positive: Any | None
    label: str | None
    digest: str
    estimator: Any

    def predict(self, table: pa.Table) -> Predictions:
        """Predict each row of ``table``; other columns than the features are ignored, order does not matter.

        Raises:
            DataInvalid: a feature is missing or has values that do not fit its type.
        """
        return self.answer(self.rows(table))

    def answer(self, rows: Any) -> Predictions:
        """Predict from what the estimator itself reads; see `rows`."""
        estimator, rows = _last_step(self.estimator, rows)
        raw = np.asarray(estimator.predict(rows))
        if self.task == "regression":
            return Predictions(raw)
        labels = np.asarray(self.classes, dtype=object)[np.searchsorted(estimator.classes_, raw)]
        if not hasattr(estimator, "predict_proba"):
            return Predictions(labels)
        probabilities = np.asarray(estimator.predict_proba(rows))
        scores = probabilities[:, self.classes.index(self.positive)] if self.task == "binary" else None
        return Predictions(labels, scores, probabilities)

    def rows(self, table: pa.Table) -> Any:
        """``table`` as the estimator reads it: a DataFrame, or a bare array where it was fitted on one. Raises `DataInvalid`."""
        # For a few rows, waking Arrow's threads costs more than the rows.
        frame = columns_of(self.features, table).to_pandas(use_threads=len(table) > FEW)
        # Fitted on a bare array: scikit-learn would warn about names that it cannot check.
        return frame if hasattr(self.estimator, "feature_names_in_") else frame.to_numpy()


def columns_of(features: Sequence[ModelFeature], table: pa.Table) -> pa.Table:
    """The model's columns of ``table``, in its order and types. Raises `DataInvalid`."""
    given = set(table.column_names)
    if missing := [f.name for f in features if f.name not in given]:
        raise DataInvalid(f"The rows lack the model's column{'s'[: len(missing) > 1]} {', '.join(missing)}.", fix="add the columns")
    columns = []
    for feature in features:
        column, kind = table.column(feature.name), _ARROW[feature.dtype]
        try:
            columns.append(column if column.type == kind else column.cast(kind))
        except pa.ArrowInvalid as error:
            raise DataInvalid(f"Column {feature.name} does not fit {feature.dtype}: {error}.", fix="mend the values") from error
    return pa.table(columns, names=[f.name for f in features])


def load_model(folder: Path, digest: str | None) -> LoadedModel:
    """Open the model in ``folder``.

    Args:
        folder: as `Registry.download` returned it.
        digest: what its files must hash to; None only for bytes that this process made itself.

    Raises:
        Refused: other bytes than promised, anything in the folder that could run code, or a type that is not trusted.
    """
    card = verify_model_folder(folder, digest)
    estimator = open_skops(folder / MODEL_FILE)
    return _loaded(card, estimator, digest or model_digest(folder))


def open_skops(path: Path) -> Any:
    """Open one skops file after checking its types. Raises `Refused`."""
    import zipfile

    from skops.io import get_untrusted_types, load

    try:
        _check_size(path)
        unknown = set(get_untrusted_types(file=path))
    except (zipfile.BadZipFile, RuntimeError, KeyError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise Refused(f"{path.name} is not a skops file: {error}.", fix="save it with `run.save_model(model)`") from error
    if strange := sorted(unknown - TRUSTED_TYPES):
        raise Refused(
            f"{path.name} holds types that are not trusted: {', '.join(strange)}.",
            fix="build the model from scikit-learn's own classes; classes of your own cannot be loaded safely",
        )
    try:
        return load(path, trusted=sorted(unknown))
    except Exception as error:  # a stranger's file: whatever breaks while it is opened is its own doing
        raise Refused(
            f"{path.name} does not open: {type(error).__name__}: {error}.", fix="train the model again with today's libraries"
        ) from error


def _check_size(path: Path) -> None:
    """skops stores without compressing; what unpacks to many times its size is a bomb. Raises `Refused`."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MOST_UNPACKED * path.stat().st_size:
        raise Refused(
            f"{path.name} would unpack to {unpacked:,} bytes, more than {MOST_UNPACKED} times its size.",
            fix="save it with `run.save_model(model)`",
        )


def _last_step(estimator: Any, rows: Any) -> tuple[Any, Any]:
    """The step of a pipeline that predicts, and what the steps before it make of the rows.

    A pipeline takes the same steps for labels and for probabilities, each time anew; for one row they are nine tenths of the cost.
    """
    while type(estimator).__name__ == "Pipeline":
        for _, step in estimator.steps[:-1]:
            if step not in (None, "passthrough"):
                rows = step.transform(rows)
        estimator = estimator.steps[-1][1]
    return estimator, rows


def _loaded(card: ModelFolder, estimator: Any, digest: str) -> LoadedModel:
    """Marry what the folder says to what the estimator knows; a model fitted on 0 and 1 answers in the label's own words."""
    fitted = {str(name) for name in getattr(estimator, "feature_names_in_", [])}
    if fitted and (strange := sorted(fitted ^ {f.name for f in card.features})):
        raise Refused(
            f"The model was fitted on other columns than its signature names: {', '.join(strange)[:300]}.",
            fix="save it with `run.save_model(model)`, which writes the signature",
        )
    known = [c.item() if isinstance(c, np.generic) else c for c in getattr(estimator, "classes_", [])]
    classes = list(card.classes) or known
    task: Task = card.task or ("regression" if not known else "binary" if len(known) == 2 else "multiclass")
    positive = card.positive if card.positive is not None else classes[-1] if task == "binary" else None
    if len(classes) != len(known) or (task == "binary" and positive not in classes):
        raise Refused(
            f"The model file knows the classes {known}, its folder says {classes} with positive {positive!r}.",
            fix="train on rows that have every class, and save the model with `run.save_model(model)`",
        )
    return LoadedModel(card.features, task, classes, positive, card.label, digest, estimator)
