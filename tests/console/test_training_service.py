"""The training service: akerbp.mlops' contract over this platform's own training, in a real process with a real store."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from zebra_assets.cli.init import write_project
from zebra_assets.control import operations, tokens
from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings

NAME = "nuclei"
MODULE = '''
import json
from pathlib import Path


class ModelException(Exception):
    """What the team says when it will not."""


def train(data, folder_path, secrets):
    depth = data["params"].get("depth", 1)
    if depth == "deep":
        raise ModelException("no such depth")
    if depth == 13:
        raise KeyError("s3cret")
    Path(folder_path, "depth.json").write_text(json.dumps(depth))
    return {"depth": depth}


def initialization(artifact_folder, secrets):
    return json.loads(Path(artifact_folder, "depth.json").read_text())


def predict(data, init_object, secrets):
    return [None for row in data["input"]]
'''


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A project with a manifest and a `module` model, and a token file."""
    folder = tmp_path_factory.mktemp("service") / NAME
    write_project(folder, NAME, "tabular")
    home = folder / "models" / NAME
    (home / "model.py").write_text(MODULE)
    spec = (home / "model.yaml").read_text()
    (home / "model.yaml").write_text(spec.replace("type: python", "type: module").replace("entrypoint: train.py", "entrypoint: model.py"))
    found = Parts(load_settings(folder))
    operations.ingest(found, NAME)
    return found


@pytest.fixture(scope="module")
def secrets(parts: Parts) -> dict[str, str]:
    return {scope: tokens.create(parts, scope, [scope], timedelta(days=1)).secret for scope in ("train", "read", "predict")}


@contextmanager
def running(parts: Parts) -> Iterator[httpx.Client]:
    command = [sys.executable, "-m", "zebra_assets.console.training_service", "--port", "0", "--project", str(parts.settings.project_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("training service on http"), line
            with httpx.Client(base_url=line.split()[-1], timeout=60) as client:
                yield client
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def client(parts: Parts, secrets: dict[str, str]) -> Iterator[httpx.Client]:
    with running(parts) as found:
        found.headers["authorization"] = f"Bearer {secrets['train']}"
        yield found


def train(client: httpx.Client, data: Any = None, **headers: str) -> httpx.Response:
    return client.post(f"/akerbp/{NAME}/train", json={"data": data or {}}, headers=headers)


def test_a_model_is_trained_and_the_answer_has_the_contract_s_form(client: httpx.Client, parts: Parts) -> None:
    answer = train(client, {"depth": 2})
    said = answer.json()
    run = operations.chosen_run(parts, NAME, said["training"]["run_id"])
    assert (answer.status_code, said["status"], said["model_id"]) == (200, "ok", f"{NAME}-{run.version}")
    assert said["training"]["metrics"] == {"depth": 2.0} == run.metrics
    assert (run.params["depth"], run.state) == (2, "finished")
    assert client.get(f"/akerbp/{NAME}/train/{run.id}").json() == said
    assert [entry.said()["actor"] for entry in parts.audit.entries(subject=f"run/{run.id}")] == ["train"]  # the token's name


def test_the_same_content_is_one_run_however_many_ask_at_once(client: httpx.Client, parts: Parts) -> None:
    before, answers = len(parts.records.runs(NAME)), list[Any]()
    askers = [threading.Thread(target=lambda: answers.append(train(client, {"depth": 3}).json())) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len({a["training"]["run_id"] for a in answers}) == 1
    assert train(client, {"depth": 3}).json() == answers[0]
    assert len(parts.records.runs(NAME)) == before + 1


def test_who_does_not_want_to_wait_is_told_where_to_look(client: httpx.Client) -> None:
    answer = train(client, {"depth": 4}, prefer="wait=0")
    assert (answer.status_code, answer.json()["status"], answer.json()["model_id"]) == (202, "ok", None)
    assert answer.json()["training"]["state"] == "running"
    assert train(client, {"depth": 4}).json()["training"]["run_id"] == answer.json()["training"]["run_id"]
    assert client.get(answer.headers["location"]).json()["training"]["state"] == "finished"


@pytest.mark.parametrize(("depth", "said"), [("deep", "refused: no such depth"), (13, "KeyError")])
def test_a_training_that_fails_is_an_error_without_a_traceback(client: httpx.Client, depth: Any, said: str) -> None:
    answer = train(client, {"depth": depth})
    assert (answer.status_code, answer.json()["status"]) == (500, "error")
    assert said in answer.json()["message"]
    assert "Traceback" not in answer.text
    assert "\n" not in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/akerbp/{NAME}/train", '{"data": {"not a name": 1}}', 400),
        (f"/akerbp/{NAME}/train", '{"data": 1}', 400),
        (f"/akerbp/{NAME}/train", '{"secrets": {}}', 400),
        (f"/akerbp/{NAME}/train", "{", 400),
        (f"/akerbp/{NAME}/train", '{"manifest_id": "nuclei-0000000000000000"}', 404),
        ("/akerbp/nobody/train", "{}", 404),
        ("/akerbp/..%2F..%2Fetc/train", "{}", 403),
        ("/elsewhere", "{}", 403),
    ],
)
def test_what_does_not_fit_is_refused_in_the_contract_s_form(client: httpx.Client, path: str, body: str, status: int) -> None:
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (status, "error"), answer.text
    assert answer.json()["message"]


def test_only_a_token_with_the_scope_trains(client: httpx.Client, secrets: dict[str, str], parts: Parts) -> None:
    before = len(parts.records.runs(NAME))
    asked = {who: train(client, {"depth": 9}, authorization=f"Bearer {secrets.get(who, 'x')}") for who in ("read", "predict", "nobody")}
    assert {who: answer.status_code for who, answer in asked.items()} == {"read": 403, "predict": 403, "nobody": 401}
    assert all(answer.json()["status"] == "error" for answer in asked.values())
    assert client.get("/health", headers={"authorization": ""}).status_code == 200
    assert len(parts.records.runs(NAME)) == before


def test_the_service_says_what_it_is_before_it_binds_to_strangers(tmp_path: Path) -> None:
    write_project(tmp_path / NAME, NAME, "tabular")
    command = [sys.executable, "-m", "zebra_assets.console.training_service", "--host", "0.0.0.0", "--project", str(tmp_path / NAME)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 10
    assert "without a token" in done.stderr
