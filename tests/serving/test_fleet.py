"""Many models in one server: each door reaches each of them, by name."""

from collections.abc import Iterator

import httpx
import pytest

from tests.serving.conftest import MODEL, ROW, SPEC, Bench, Shelf, make_bench, until

OTHER = "churn-eu"


def join(bench: Bench, *models: str) -> None:
    """Further models of the project, whose versions are the shelf's."""
    for name in models:
        (bench.settings.models_dir / name).mkdir()
        (bench.settings.models_dir / name / "model.yaml").write_text(SPEC.replace("name: churn\n", f"name: {name}\n", 1))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[httpx.Client]:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    join(bench, OTHER)
    bench.promote("1")
    bench.promote("2", model=OTHER)
    app = bench.app(OTHER)
    with bench.running(app) as client:
        until(lambda: all(one.loader.current for one in app.fleet))
        yield client


def test_every_door_reaches_every_model_by_name(client: httpx.Client) -> None:
    assert client.post("/predict", json=ROW).json()["model"] == MODEL
    tensors = [
        {"name": name, "datatype": kind, "shape": [1], "data": [value]}
        for (name, value), kind in zip(ROW.items(), ("INT64", "FP64", "BYTES", "BOOL", "BYTES"), strict=True)
    ]
    for model, version in ((MODEL, "1"), (OTHER, "2")):
        said = client.post(f"/models/{model}/predict", json=ROW).json()
        assert (said["model"], said["version"]) == (model, version)
        said = client.post(f"/v2/models/{model}/infer", json={"inputs": tensors}).json()
        assert (said["model_name"], said["model_version"]) == (model, version)
        assert client.get(f"/models/{model}").json()["version"] == version
    assert [one["name"] for one in client.get("/models").json()] == [MODEL, OTHER]


@pytest.mark.parametrize("path", ["/models/churn-us", "/v2/models/churn-us"])
def test_another_name_is_told_which_there_are(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "Did you mean 'churn-eu'?" in answer.json()["error"]
