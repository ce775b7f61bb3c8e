"""What the child writes beside a compiled model and the server reads: which form, why not a quicker one, how to encode.

One folder per model digest: `form.json`, and `model.onnx` where that is the form. Complete or not there at all.
"""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import msgspec

from zebra_assets.contracts.model_folder import Task
from zebra_serving.compile.recipe import Recipe

FORMAT = 1
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
        graph_sha256: of `model.onnx`.
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
    graph_sha256: str | None = None
    golden: Golden | None = None
    made_with: dict[str, str]
    format: int = FORMAT


def toolchain() -> dict[str, str]:
    """Versions of what compiles and runs a form here."""
    found = {}
    for name in _MAKERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def write_form(folder: Path, form: Form, graph: bytes | None) -> None:
    """Write a form below ``folder``, which is made."""
    folder.mkdir(parents=True)
    if graph is not None:
        (folder / GRAPH_FILE).write_bytes(graph)
        form = msgspec.structs.replace(form, graph_sha256=hashlib.sha256(graph).hexdigest())
    body = msgspec.json.encode(form)
    (folder / FORM_FILE).write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def read_form(folder: Path, model_digest: str) -> tuple[Form, bytes | None] | None:
    """The form and its graph; None when there is none, it is damaged, or it was made for other bytes or by other versions."""
    try:
        said, _, body = (folder / FORM_FILE).read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != said:
            return None
        form = msgspec.json.decode(body, type=Form)
        graph = (folder / GRAPH_FILE).read_bytes() if form.graph_sha256 else None
    except (OSError, msgspec.DecodeError):
        return None
    if (form.format, form.model_digest, form.made_with) != (FORMAT, model_digest, toolchain()):
        return None
    if graph is not None and hashlib.sha256(graph).hexdigest() != form.graph_sha256:
        return None
    return form, graph
