"""The other doors: the Open Inference Protocol and MLflow's scoring protocol give the native door's answers."""

import json
from typing import Any

import httpx
import pytest

from tests.serving.conftest import COLUMNS, MODEL, ROW, Bench, Shelf, make_bench, rows
from zebra_assets.settings import Settings

TYPES = {"int64": "INT64", "float64": "FP64", "string": "BYTES", "bool": "BOOL"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Any:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    with bench.client("1") as client:
        yield client


def tensors(customers: list[dict[str, Any]], *, flat: bool = True) -> list[dict[str, Any]]:
    n = len(customers)
    return [
        {
            "name": name, "datatype": TYPES[str(c["dtype"])], "shape": [n] if flat else [n, 1],
            "data": [r[name] for r in customers] if flat else [[r[name]] for r in customers],
        }
        for name, c in COLUMNS.items()
    ]  # fmt: skip


def native(client: httpx.Client, customers: list[dict[str, Any]]) -> list[tuple[str, float]]:
    said = client.post("/predict", json={"rows": customers}).json()["predictions"]
    return [(p["prediction"], p["score"]) for p in said]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("path", [f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/versions/1/infer"])
def test_v2_infers_what_the_native_door_predicts(client: httpx.Client, path: str, flat: bool) -> None:
    customers = rows(20)
    answer = client.post(path, json={"id": "q-1", "inputs": tensors(customers, flat=flat)})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["model_name"], said["model_version"], said["id"]) == (MODEL, "1", "q-1")
    outputs = {o["name"]: o for o in said["outputs"]}
    assert list(zip(outputs["predict"]["data"], outputs["score"]["data"], strict=True)) == native(client, customers)
    assert [(o["datatype"], o["shape"]) for o in said["outputs"]] == [("BYTES", [20]), ("FP64", [20])]
    some = client.post(path, json={"inputs": tensors(customers, flat=flat), "outputs": [{"name": "score"}]}).json()["outputs"]
    assert [o["name"] for o in some] == ["score"]


def test_v2_tells_whether_it_lives_is_ready_and_what_it_reads(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True} and client.get("/v2/health/ready").json() == {"ready": True}
    for below in (f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/versions/1"):
        assert client.get(f"{below}/ready").json() == {"name": MODEL, "ready": True}
        about = client.get(below).json()
        assert {i["name"]: i["datatype"] for i in about["inputs"]} == {n: TYPES[str(c["dtype"])] for n, c in COLUMNS.items()}
        assert [(o["name"], o["datatype"]) for o in about["outputs"]] == [("predict", "BYTES"), ("score", "FP64")]
    assert client.get("/v2").json()["name"] == "zebra_serving"


@pytest.mark.parametrize(
    "path", ["/v2/models/other", f"/v2/models/{MODEL}/versions/7/ready", f"/v2/models/{MODEL}/explain", "/v2/what", "/v2/models"]
)
def test_v2_knows_no_other_model_version_or_verb(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"datatype": "BYTES"}, "INT64"),
        ({"shape": [3]}, "shape"),
        ({"shape": [2, 2]}, "shape"),
        ({"data": [1]}, "2 values"),
        ({"data": [1, 2.5]}, "integer"),
        ({"data": [1, "x"]}, "integer"),
        ({"name": "tenurre"}, "a column of the model"),
    ],
)
def test_v2_names_the_tensor_that_does_not_fit(client: httpx.Client, change: dict[str, Any], says: str) -> None:
    inputs = [{**t, **change} if t["name"] == "tenure" else t for t in tensors(rows(2))]
    # The others come first, so that it is this tensor that differs from the rest.
    inputs.sort(key=lambda t: t["name"] in ("tenure", "tenurre"))
    answer = client.post(f"/v2/models/{MODEL}/infer", json={"inputs": inputs})
    assert answer.status_code == 422 and says in json.dumps(answer.json()["errors"]), answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"inputs": 1}', b'{"inputs": []}', b'{"inputs": [{"name": "tenure"}]}', b"\xff"]
)
def test_v2_and_mlflow_refuse_what_is_no_request_without_falling_over(client: httpx.Client, body: bytes) -> None:
    for path in (f"/v2/models/{MODEL}/infer", "/invocations"):
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422) and answer.json()["error"], (path, answer.text)


def test_v2s_binary_extension_is_refused_politely(client: httpx.Client) -> None:
    answer = client.post(f"/v2/models/{MODEL}/infer", content=b"x", headers={"inference-header-content-length": "1"})
    assert answer.status_code == 415 and "binary" in answer.json()["error"]


def test_mlflows_four_kinds_of_body_get_the_same_labels(client: httpx.Client) -> None:
    customers = rows(12)
    wanted = {"predictions": [label for label, _ in native(client, customers)]}
    names = list(COLUMNS)
    for body in (
        {"dataframe_split": {"columns": names[::-1], "data": [[r[n] for n in names[::-1]] for r in customers], "index": list(range(12))}},
        {"dataframe_records": customers},
        {"instances": customers},
        {"inputs": customers},
        {"inputs": {n: [r[n] for r in customers] for n in names}},
        {"instances": [[r[n] for n in names] for r in customers]},
        {"dataframe_records": [{**r, "not a column": 1} for r in customers]},
        {"dataframe_records": customers, "params": {}},
    ):
        answer = client.post("/invocations", json=body)
        assert (answer.status_code, answer.json()) == (200, wanted), answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [ROW], "instances": [ROW]},
        {"rows": [ROW]},
        {"dataframe_records": []},
        {"dataframe_records": [{**ROW, "tenure": "5"}]},
        {"dataframe_records": [{"tenure": 5}]},
        {"dataframe_split": {"columns": ["tenure"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["tenure", "tenure"], "data": [[1, 2]]}},
        {"inputs": {"tenure": [1, 2], "monthly": [1.0]}},
        {"inputs": 3},
    ],
)
def test_mlflow_bodies_that_do_not_fit_are_refused(client: httpx.Client, body: Any) -> None:
    assert client.post("/invocations", json=body).status_code in (400, 422)


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_mlflows_own_client_is_content(client: httpx.Client, bench: Bench) -> None:
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    theirs = ScoringServerClient(client.base_url.host, client.base_url.port)
    theirs.ping()
    assert theirs.get_version()
    found = theirs.invoke(pd.DataFrame(rows(5))).get_predictions()
    assert found.iloc[:, 0].tolist() == [label for label, _ in native(client, rows(5))]


def test_every_door_is_guarded_counted_and_captured(bench: Bench) -> None:
    bench.promote("1")
    bench.settings = Settings(**{**bench.settings.model_dump(), "serving_token": "s3cret"})
    with bench.client("1") as client:
        for path in ("/invocations", f"/v2/models/{MODEL}/infer", "/v2", "/v2/health/ready", "/ping", "/version"):
            assert client.post(path, json={}).status_code == 401, path
        client.headers["authorization"] = "Bearer s3cret"
        client.post("/invocations", json={"dataframe_records": rows(3)})
        client.post(f"/v2/models/{MODEL}/infer", json={"inputs": tensors(rows(4))})
        page = client.get("/metrics").text
        paths = set(client.get("/openapi.json").json()["paths"])
    assert bench.events.count(MODEL) == 7
    assert 'route="/invocations",status="200"} 1.0' in page and 'route="/v2",status="200"} 1.0' in page
    assert {"/invocations", "/ping", "/version", "/v2/models/{model}/infer", "/v2/health/ready", "/predict"} <= paths


def test_a_door_asked_the_wrong_way_says_so(client: httpx.Client) -> None:
    for method, path in (("GET", "/invocations"), ("POST", "/ping"), ("DELETE", "/v2"), ("GET", f"/v2/models/{MODEL}/infer")):
        assert client.request(method, path).status_code == 405, path
    assert client.post("/invocations", content=b"a,b\n1,2", headers={"content-type": "text/csv"}).status_code == 415
