"""A `module` model: a team's train, initialization and predict, trained here and run in a process of their own."""

import json
import shutil
from pathlib import Path

import pytest

from tests.training.bench import Bench, rows
from zebra_assets.contracts.model_folder import model_digest, read_model_folder
from zebra_assets.contracts.module_folder import is_module_folder, read_module_folder
from zebra_assets.errors import Refused, TrainingFailed

MODULE = '''
import json
from pathlib import Path

import pyarrow.parquet as pq

from words import SEEN


class ModelException(Exception):
    """What the team says when it will not."""


def train(data, folder_path, secrets):
    rows = pq.read_table(data["datasets"]["train"]["path"]).to_pylist()
    yes = [r["age"] for r in rows if r["churn"] == "Yes" and r["age"] is not None]
    if data["params"].get("refuse"):
        raise ModelException("not enough customers")
    cut = sum(yes) / len(yes) + data["params"].get("shift", 0.0)
    Path(folder_path, "cut.json").write_text(json.dumps({"cut": cut}))
    return {"cut": cut, "said": SEEN}


def initialization(artifact_folder, secrets):
    print("read", artifact_folder)
    return json.loads(Path(artifact_folder, "cut.json").read_text())["cut"]


def predict(data, init_object, secrets):
    rows = data["input"]
    for row in rows:
        if row["visits"] == 666:
            raise ModelException("no such customer")
    scores = [1 / (1 + 2.718281828 ** (init_object - (row["age"] or 0.0) - (row["plan"] == "free"))) for row in rows]
    return {"prediction": ["Yes" if s > 0.5 else "No" for s in scores], "score": scores}
'''


def module_model(bench: Bench, source: str = MODULE, name: str = "by-module") -> Path:
    folder = bench.model(name, source, type="module", entrypoint="model.py")
    (folder / "train.py").rename(folder / "model.py")
    (folder / "words.py").write_text("SEEN = 'hello'\n")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Path]:
    bench = Bench(tmp_path_factory.mktemp("module"))
    done = bench.train(module_model(bench), params={"shift": 0.25})
    assert done.folder is not None
    return bench, done.folder


def test_a_module_is_trained_and_registered_with_the_code_that_was_trained(trained: tuple[Bench, Path], tmp_path: Path) -> None:
    bench, folder = trained
    run = bench.records.runs("by-module")[0]
    assert (run.state, run.version) == ("finished", "1")
    assert run.metrics["cut"] == json.loads((folder / "artifacts" / "cut.json").read_text())["cut"]
    assert bench.mlflow.get_run(run.mlflow_run_id).data.params["said"] == "hello"
    downloaded = bench.registry.download("by-module", "1", tmp_path)
    assert model_digest(downloaded) == run.model_digest
    assert read_module_folder(downloaded).code_digest == run.code.digest
    assert sorted(p.name for p in (downloaded / "code").iterdir()) == ["model.py", "words.py"]


def test_code_that_rewrites_itself_while_it_is_trained_is_not_registered(bench: Bench) -> None:
    sneaky = MODULE.replace("def train", "Path(__file__).with_name('more.py').write_text('')\n\n\ndef train", 1)
    with pytest.raises(Refused, match="changed while it was trained"):
        bench.train(module_model(bench, sneaky, "sneaky"))
    assert not bench.versions("sneaky")


def test_the_same_inputs_name_the_same_run_and_another_neighbour_another(trained: tuple[Bench, Path], tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    folder = module_model(bench)
    first = bench.train(folder)
    assert not bench.train(folder).created
    (folder / "words.py").write_text("SEEN = 'bye'\n")
    assert bench.train(folder).run.id != first.run.id


def test_what_the_module_refuses_is_said_in_its_own_words(bench: Bench) -> None:
    with pytest.raises(TrainingFailed, match="refused: not enough customers"):
        bench.train(module_model(bench), params={"refuse": True})
    with pytest.raises(TrainingFailed, match=r"no function initialization, predict"):
        bench.train(module_model(bench, "def train(data, folder_path, secrets): pass", "half"))
    with pytest.raises(TrainingFailed, match="wrote nothing into folder_path"):
        bench.train(module_model(bench, MODULE.replace('Path(folder_path, "cut.json")', 'Path("/dev/null")'), "empty"))
    assert not bench.versions("half")


@pytest.mark.parametrize(
    ("place", "text"),
    [("code/more.py", ""), ("code/model.pyc", ""), ("extra.txt", ""), ("code/registered_model_meta", ""), ("MLmodel", "loader_module: os")],
)
def test_a_folder_with_other_files_than_were_trained_is_refused(trained: tuple[Bench, Path], tmp_path: Path, place: str, text: str) -> None:
    folder = shutil.copytree(trained[1], tmp_path / "model")
    (folder / place).write_text(text)
    with pytest.raises(Refused):
        read_module_folder(folder)


def test_another_model_folder_is_no_module_and_a_module_is_no_other(trained: tuple[Bench, Path]) -> None:
    assert is_module_folder(trained[1])
    with pytest.raises(Refused):
        read_model_folder(trained[1])


@pytest.mark.filterwarnings("ignore::UserWarning")  # mlflow.pyfunc warns about its own type hints on import
def test_mlflow_opens_the_folder_and_the_module_answers(trained: tuple[Bench, Path], tmp_path: Path) -> None:
    import mlflow

    found = mlflow.pyfunc.load_model(str(shutil.copytree(trained[1], tmp_path / "model")))
    table = rows(40).drop_columns(["id", "churn"])
    answer = found.predict(table.to_pandas())
    assert set(answer["prediction"]) == {"Yes", "No"}
    assert [label == "Yes" for label in answer["prediction"]] == [score > 0.5 for score in answer["score"]]
    with pytest.raises(ValueError, match="no such customer"):
        found.predict(table.set_column(1, "visits", [[666] * 40]).to_pandas())
