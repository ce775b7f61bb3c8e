"""A model folder is suspected until its bytes, its files and its types have been looked at."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from zebra_assets.adapters.model_files import load_model, model_digest
from zebra_assets.errors import DataInvalid, Refused
from zebra_assets.training.package import write_model

TABLE = pa.table({"a": [0.0, 1.0, 2.0, 3.0], "b": [1, 2, 1, 2], "y": ["n", "n", "p", "p"]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(TABLE, tmp_path / "train.parquet")
    values = {
        "label": {"column": "y", "type": "binary", "positive": "p"},
        "features": ["a", "b"],
        "columns": {n: {"dtype": t, "nullable": False} for n, t in {"a": "float64", "b": "int64", "y": "string"}.items()},
        "pip_requirements": [],
        "datasets": {"train": {"path": str(tmp_path / "train.parquet")}},
    }
    frame = TABLE.to_pandas()
    return write_model(LogisticRegression().fit(frame[["a", "b"]], frame.y), tmp_path / "model", values)


class Bomb:
    """Leaves a canary when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def test_a_good_folder_predicts(folder: Path) -> None:
    model = load_model(folder, model_digest(folder))
    assert list(model.predict(TABLE).labels) == ["n", "n", "p", "p"] and model.digest == model_digest(folder)


def flip(folder: Path) -> None:
    path = folder / "model.skops"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": flip,
    "an added file": lambda f: (f / "extra.txt").write_text("x"),
    "a removed file": lambda f: (f / "conda.yaml").unlink(),
    "a renamed file": lambda f: (f / "conda.yaml").rename(f / "constraints.txt"),
}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_bytes_that_differ_from_their_digest_are_refused(folder: Path, change: str) -> None:
    digest = model_digest(folder)
    CHANGES[change](folder)
    with pytest.raises(Refused, match="its bytes were changed"):
        load_model(folder, digest)


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        document = yaml.safe_load((folder / "MLmodel").read_text())
        change(document)
        (folder / "MLmodel").write_text(yaml.safe_dump(document))

    return edit


def replaced_by_pickle(folder: Path) -> None:
    (folder / "model.skops").write_bytes(pickle.dumps(Bomb(folder.parent / "canary")))


def linked(folder: Path) -> None:
    (folder / "model.skops").rename(folder.parent / "elsewhere")
    (folder / "model.skops").symlink_to(folder.parent / "elsewhere")


def untrusted(folder: Path) -> None:
    """A skops file whose schema asks for a function of the operating system."""
    data = io.BytesIO()
    with zipfile.ZipFile(folder / "model.skops") as old, zipfile.ZipFile(data, "w") as new:
        for name in old.namelist():
            body = old.read(name)
            if name == "schema.json":
                schema = json.loads(body)
                schema["content"]["content"]["tol"] = {
                    "__class__": "system",
                    "__module__": "posix",
                    "__loader__": "FunctionNode",
                    "__id__": 1,
                    "content": "",
                }
                body = json.dumps(schema).encode()
            new.writestr(name, body)
    (folder / "model.skops").write_bytes(data.getvalue())


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "extra file": (lambda f: (f / "notes.txt").write_text("x"), "notes.txt does not belong"),
    "symlink": (linked, "symbolic link"),
    "link to a folder": (lambda f: (f / "data").symlink_to("/etc"), "symbolic link"),
    "code folder": (lambda f: (f / "code").mkdir(), "code/"),
    "python file": (lambda f: (f / "model.py").write_text("x"), "model.py"),
    "pickle beside": (lambda f: (f / "model.pkl").write_bytes(b"x"), "pickle"),
    "joblib beside": (lambda f: (f / "MODEL.JOBLIB").write_bytes(b"x"), "pickle"),
    "pickle under the skops name": (replaced_by_pickle, "not a skops file"),
    "untrusted type": (untrusted, "posix.system"),
    "loader module": (edited(lambda d: d["flavors"]["python_function"].update(loader_module="os")), "loader_module"),
    "code in the pyfunc flavour": (edited(lambda d: d["flavors"]["python_function"].update(code="code")), "python_function.code"),
    "code in the sklearn flavour": (edited(lambda d: d["flavors"]["sklearn"].update(code="code")), "sklearn.code"),
    "another flavour": (edited(lambda d: d["flavors"].update(keras={"x": 1})), "'keras'"),
    "no sklearn flavour": (edited(lambda d: d["flavors"].pop("sklearn")), "no sklearn"),
    "pickle serialization": (edited(lambda d: d["flavors"]["sklearn"].update(serialization_format="pickle")), "serialization_format"),
    "path outside": (edited(lambda d: d["flavors"]["sklearn"].update(pickled_model="../model.skops")), "pickled_model"),
    "flavours as a list": (edited(lambda d: d.update(flavors=["sklearn"])), "sklearn"),
    "no signature": (edited(lambda d: d.pop("signature")), "signature"),
    "tensor signature": (
        edited(lambda d: d["signature"].update(inputs=json.dumps([{"type": "tensor", "name": "x"}]))),
        "signature",
    ),
    "strange metadata": (edited(lambda d: d["metadata"]["zebra"].update(hook="x")), "metadata.zebra"),
    "yaml tag": (lambda f: (f / "MLmodel").write_text("!!python/object/apply:os.system ['true']"), "MLmodel"),
    "yaml bomb": (lambda f: (f / "MLmodel").write_text("a: &a [1]\nb: *a"), "anchors"),
    "no MLmodel": (lambda f: (f / "MLmodel").unlink(), "MLmodel"),
    "no model": (lambda f: (f / "model.skops").unlink(), "no model.skops"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_could_run_code_is_refused_even_with_its_digest(folder: Path, name: str) -> None:
    harm, why = HOSTILE[name]
    harm(folder)
    with pytest.raises(Refused) as caught:
        load_model(folder, model_digest(folder))
    assert why in str(caught.value) and caught.value.fix
    assert not (folder.parent / "canary").exists()


def test_classes_that_contradict_the_model_are_refused(folder: Path) -> None:
    edited(lambda d: d["metadata"]["zebra"].update(classes=["n", "p", "q"]))(folder)
    with pytest.raises(Refused, match="classes"):
        load_model(folder, None)


def test_a_folder_without_our_metadata_speaks_for_itself(folder: Path) -> None:
    edited(lambda d: d.pop("metadata"))(folder)
    model = load_model(folder, None)
    assert (model.task, model.classes, model.positive, model.label) == ("binary", ["n", "p"], "p", None)


def test_rows_that_do_not_fit_are_named(folder: Path) -> None:
    model = load_model(folder, None)
    with pytest.raises(DataInvalid, match="lack the model's columns a, b"):
        model.predict(TABLE.select(["y"]))
    with pytest.raises(DataInvalid, match="Column b does not fit int64"):
        model.predict(pa.table({"a": [1.0], "b": ["many"]}))


def test_loading_a_model_imports_no_mlflow(folder: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from pathlib import Path; from zebra_assets.adapters.model_files import load_model; load_model(Path(sys.argv[1]), None)"
    check = code + "; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check, str(folder)], check=False).returncode == 0
