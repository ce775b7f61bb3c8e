"""A model folder: which files may lie in it, what its MLmodel may say, which types its model file may hold.

Reads text and names, never opens the model itself. `training/package` writes such folders, `adapters/model_files` loads
them; both believe this file. The format is MLflow's own, so `mlflow.pyfunc.load_model` reads the same folder. What a folder
must still be where an approver lets it bring code of its own is in `own_code`.
"""

import json
import stat
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.contracts.digest import tree_digest
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.yaml_source import load
from zebra_assets.errors import NotFound, Refused, SpecInvalid

MODEL_FILE = "model.skops"
# MLflow writes this into its own artifact store whenever somebody loads models:/name/1 by hand: neither bytes of the
# model nor read by us, so it is allowed and not counted.
NOT_COUNTED = "registered_model_meta"
FILES = frozenset(
    {
        "MLmodel",
        MODEL_FILE,
        "conda.yaml",
        "python_env.yaml",
        "requirements.txt",
        "constraints.txt",
        "input_example.json",
        "serving_input_example.json",
        NOT_COUNTED,
    }
)
MOST_ENTRIES = 200
PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill", ".pt", ".pth", ".npy", ".npz"})
_FLAVOURS = {"sklearn", "python_function"}

# What skops 0.16 does not trust by itself, found by saving some 45 common pipelines of scikit-learn 1.9. All are data
# holders or pure functions of scikit-learn, numpy and scipy: none runs what a file says.
TRUSTED_TYPES = frozenset(
    {
        "builtins.object",
        "functools.partial",  # HistGradientBoosting wraps check_array in it; the wrapped function must be on this list too
        "numpy.dtype",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer.make_column_selector",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.metrics._classification.accuracy_score",
        "sklearn.metrics._classification.balanced_accuracy_score",
        "sklearn.metrics._classification.f1_score",
        "sklearn.metrics._classification.log_loss",
        "sklearn.metrics._ranking.roc_auc_score",
        "sklearn.metrics._dist_metrics.EuclideanDistance32",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.metrics._scorer._CurveScorer",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils._metadata_requests.MetadataRequest",
        "sklearn.utils._metadata_requests.MethodMetadataRequest",
        "sklearn.utils.validation.check_array",
    }
)

Task = Literal["binary", "multiclass", "regression"]
# MLflow's word for a column's type, and ours.
FROM_MLFLOW: dict[str, Dtype] = {
    "long": "int64",
    "integer": "int64",
    "double": "float64",
    "float": "float64",
    "string": "string",
    "boolean": "bool",
    "datetime": "timestamp",
}
_NARROW = {"integer", "float"}
TO_MLFLOW: dict[Dtype, str] = {
    "int64": "long",
    "float64": "double",
    "string": "string",
    "bool": "boolean",
    "timestamp": "datetime",
    "date": "datetime",
}


class ModelFeature(Noun):
    """One input column of a model, in the words of the data contracts; ``narrow`` where the signature's own type has 32 bits."""

    name: str
    dtype: Dtype
    required: bool = True
    narrow: bool = False


class ModelFolder(Noun):
    """What a model folder says about itself. `label`, `positive` and `classes` are None or empty where it does not say."""

    features: list[ModelFeature]
    task: Task | None = None
    label: str | None = None
    positive: str | int | bool | float | None = None
    classes: list[str | int | bool | float] = Field(default_factory=list)


def model_digest(folder: Path) -> str:
    """Digest (64 hex) of a model folder's files."""
    return tree_digest(folder, [p for p in folder.rglob("*") if p.is_file() and p.name != NOT_COUNTED])


def verify_model_folder(folder: Path, digest: str | None) -> ModelFolder:
    """Check a folder's bytes, then read it.

    Raises:
        Refused: other bytes than ``digest`` promises (None promises nothing), and as `read_model_folder`.
    """
    check_bytes(folder, digest)
    return read_model_folder(folder)


def check_bytes(folder: Path, digest: str | None) -> None:
    """Raises `Refused` for other bytes than ``digest`` promises (None promises nothing), and for links, pipes and devices."""
    if folder.is_dir():
        check_kinds(folder)  # before anything is hashed: a link may lead to a file that never ends
    found = model_digest(folder) if folder.is_dir() else "nothing"
    if digest is not None and found != digest:
        raise Refused(
            f"Model folder {folder.name} has digest {found[:16]}, not the promised {digest[:16]}: its bytes were changed.",
            fix="mlops train the model again; find out who wrote to the artifact store",
        )


def read_model_folder(folder: Path) -> ModelFolder:
    """Check that a folder holds nothing that could run code, and read its signature.

    Raises:
        Refused: a link, a pipe, a folder, a pickle or any other unknown file inside; an MLmodel that names another flavour,
            loader or serialization, or code of its own; a signature that is absent or has types we do not know.
    """
    check_kinds(folder)
    _check_files(folder)
    document = read_mlmodel(folder)
    _check_flavours(folder, document.get("flavors"))
    return said_by(folder, document)


def read_mlmodel(folder: Path) -> dict[str, Any]:
    """What a folder's MLmodel says, unchecked. Raises `Refused` where it is no plain YAML mapping."""
    try:
        document, _ = load(folder / "MLmodel")
    except (NotFound, SpecInvalid) as error:
        raise refused(folder, f"its MLmodel cannot be read: {error.message}") from error
    if not isinstance(document, dict):
        raise refused(folder, "its MLmodel is not a mapping")
    return document


def said_by(folder: Path, document: dict[str, Any]) -> ModelFolder:
    """The signature and our own metadata of an MLmodel. Raises `Refused` where they do not fit."""
    features = _features(folder, document.get("signature") or {})
    try:
        about = (document.get("metadata") or {}).get("zebra") or {}
        return ModelFolder(features=features, **about)
    except (ValidationError, TypeError, AttributeError) as error:
        raise refused(folder, f"its MLmodel's metadata.zebra does not fit: {error}") from error


def check_kinds(folder: Path) -> None:
    """Plain files and folders only, each with one name: what has another name elsewhere can change after it was verified.

    Raises `Refused`.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise refused(folder, "it is not a plain folder")
    for count, path in enumerate(folder.rglob("*"), start=1):
        name, about = path.relative_to(folder).as_posix(), path.lstat()
        if count > MOST_ENTRIES:
            raise refused(folder, f"it holds more than {MOST_ENTRIES} files")
        if stat.S_ISLNK(about.st_mode):
            raise refused(folder, f"{name} is a symbolic link")
        if not stat.S_ISDIR(about.st_mode) and not stat.S_ISREG(about.st_mode):
            raise refused(folder, f"{name} is a pipe, a socket or a device")
        if stat.S_ISREG(about.st_mode) and about.st_nlink > 1:
            raise refused(folder, f"{name} is a hard link: it has another name elsewhere")


def _check_files(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in PICKLES:
            raise refused(folder, f"{name} is a pickle, which runs code when opened")
        if path.is_dir():
            raise refused(folder, f"it has a folder {name}/, which can bring code of its own")
        if name not in FILES:
            raise refused(folder, f"{name} does not belong there")
    if not (folder / MODEL_FILE).is_file():
        raise refused(folder, f"it has no {MODEL_FILE}")


def _check_flavours(folder: Path, flavours: Any) -> None:
    if not isinstance(flavours, dict) or "sklearn" not in flavours:
        raise refused(folder, "its MLmodel has no sklearn flavour")
    if unknown := sorted(set(flavours) - _FLAVOURS):
        raise refused(folder, f"its MLmodel offers the flavour '{unknown[0]}'; known: {', '.join(sorted(_FLAVOURS))}")
    for name, wanted in {
        "sklearn": {"serialization_format": "skops", "pickled_model": MODEL_FILE, "code": None},
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": MODEL_FILE, "code": None},
    }.items():
        flavour = flavours.get(name)
        if flavour is None and name == "python_function":
            continue
        if not isinstance(flavour, dict):
            raise refused(folder, f"its MLmodel's flavour '{name}' is not a mapping")
        for key, value in wanted.items():
            if flavour.get(key) != value:
                raise refused(folder, f"its MLmodel says {name}.{key}: {flavour.get(key)!r}, only {value!r} is safe")


def _features(folder: Path, signature: dict[str, Any]) -> list[ModelFeature]:
    try:
        columns = json.loads(signature["inputs"])
        found = [
            ModelFeature(name=c["name"], dtype=FROM_MLFLOW[c["type"]], required=c.get("required", True), narrow=c["type"] in _NARROW)
            for c in columns
        ]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise refused(folder, "its MLmodel has no signature of named, plain columns") from error
    if len({f.name for f in found}) != len(found):
        raise refused(folder, "its signature names a column twice")
    return found


def refused(folder: Path, why: str) -> Refused:
    """Why a folder is not opened."""
    return Refused(
        f"Model folder {folder.name} was refused: {why}.",
        fix="save it with `run.save_model(model)` from zebra_assets.training.sdk, which writes skops",
    )
