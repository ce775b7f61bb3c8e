"""What the child writes beside a compiled model and the server reads: which form, why not a quicker one, how to encode.

One folder per model digest: `form.json`, `model.onnx` where that is the form, and the server's `seal`. Complete or not there
at all.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import msgspec

from zebra_assets.contracts.model_folder import Task
from zebra_serving.compile.recipe import Recipe
from zebra_serving.compile.seal import unsealed

FORMAT = 3
ONNX, NUMPY, PLAIN = "onnx", "scikit-learn on numpy", "scikit-learn"
FORM_FILE, GRAPH_FILE = "form.json", "model.onnx"
# Scores may differ by this much from scikit-learn's own; labels not at all.
TOLERANCE = 1e-5
_MAKERS = ("scikit-learn", "skl2onnx", "onnxruntime", "numpy")


class Golden(msgspec.Struct, frozen=True):
    """What scikit-learn said to the rows of the input example."""

    labels: list[Any]
    scores: list[float] | None


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A model in executable form.

    Attributes:
        refused: quicker forms that were tried, each with the reason it was not taken.
        checked: what the comparison with scikit-learn's own answers covered, for people.
        positive: index of the positive class; None unless the task is binary.
        dtype: of the matrix that the graph reads.
        made_with: versions of the packages that made it; others make it anew.
    """

    model_digest: str
    form: Literal["onnx", "scikit-learn on numpy", "scikit-learn"]
    refused: dict[str, str]
    checked: str
    task: Task
    classes: list[Any]
    positive: int | None
    recipe: Recipe | None = None
    dtype: str = "float64"
    golden: Golden | None = None
    made_with: dict[str, str]
    format: int = FORMAT


def toolchain() -> dict[str, str]:
    """Versions of what compiles and runs a form here."""
    return {name: _installed(name) for name in _MAKERS}


@cache
def _installed(name: str) -> str:
    """Asked once: the library that is loaded stays the same, and each question leaves cycles behind."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def write_form(folder: Path, form: Form, graph: bytes | None) -> None:
    """Write a form below ``folder``, which is made; whoever asked for it seals it."""
    folder.mkdir(parents=True)
    if graph is not None:
        (folder / GRAPH_FILE).write_bytes(graph)
    (folder / FORM_FILE).write_bytes(msgspec.json.encode(form))


def read_form(folder: Path, model_digest: str, key: bytes) -> tuple[Form, bytes | None] | None:
    """The form and its graph.

    None when there is none, it is not as it was sealed, or it was made for other bytes or by other versions.
    """
    files = unsealed(folder, model_digest, key)
    if files is None or FORM_FILE not in files:
        return None
    try:
        form = msgspec.json.decode(files[FORM_FILE], type=Form)
    except msgspec.DecodeError:  # another release's
        return None
    if (form.format, form.model_digest, form.made_with) != (FORMAT, model_digest, toolchain()):
        return None
    return form, files.get(GRAPH_FILE)
