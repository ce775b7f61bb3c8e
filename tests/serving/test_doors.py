"""The other doors: the Open Inference Protocol and MLflow's scoring protocol give the native door's answers."""

import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving.conftest import COLUMNS, MODEL, ROW, Bench, Shelf, in_the_loop, make_bench, rows, until
from tests.serving.test_routing import ramp
from zebra_assets.settings import Settings
from zebra_serving.dataplane import INLINE_BYTES
from zebra_serving.doors import open_inference
from zebra_serving.doors.tensors import inference
from zebra_serving.problems import InputInvalid, TooLarge

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


@pytest.mark.parametrize("with_route", [False, True])
def test_v2_refuses_outputs_before_it_predicts_and_captures_nothing_of_it(bench: Bench, with_route: bool) -> None:
    if with_route:
        ramp(bench)
    bench.promote("1")
    app = bench.app()
    with bench.running(app) as client:
        until(lambda: app.loader.current and (app.fleet.default.router.plan or not with_route))
        for outputs, says in (([{"name": "probability"}], "an output: predict, score"), ([{"name": "score"}] * 2, "each output once")):
            answer = client.post(f"/v2/models/{MODEL}/infer", json={"inputs": tensors(rows(3)), "outputs": outputs})
            assert answer.status_code == 422 and says in answer.json()["errors"][0]["expected"], answer.text
        many = client.post(f"/v2/models/{MODEL}/infer", json={"inputs": tensors([ROW]), "outputs": [{"name": "x"}] * 5000})
        assert many.status_code == 422 and len(many.json()["errors"]) == 100
        good = client.post(f"/v2/models/{MODEL}/infer", json={"inputs": tensors(rows(4)), "outputs": [{"name": "predict"}]})
        assert good.status_code == 200 and "zebra_rows_total 4.0" in client.get("/metrics").text
    assert bench.events.count(MODEL) == 4


def test_v2_reads_a_large_request_beside_the_event_loop(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def watched(body: bytes, length: bytes | None) -> Any:
        seen.append(in_the_loop())
        return inference(body, length)

    monkeypatch.setattr(open_inference, "inference", watched)
    for count in (2, 2000):
        body, headers = binary(rows(count))
        assert (len(body) <= INLINE_BYTES) == (count == 2)
        assert client.post(f"/v2/models/{MODEL}/infer", content=body, headers=headers).status_code == 200
    assert seen == [True, False]


def test_v2_stops_reading_texts_when_there_are_more_than_rows_may_be() -> None:
    def texts(count: int) -> bytes:
        data = bytes(4) * count + b"\xff"  # and a length that is cut off, which is noticed by whoever reads so far
        head = {"name": "contract", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": len(data)}}
        return json.dumps({"inputs": [head]}).encode() + data

    def read(count: int) -> None:
        body = texts(count)
        inference(body, str(body.index(b"]}") + 2).encode())

    with pytest.raises(InputInvalid):
        read(10_000)
    with pytest.raises(TooLarge, match="more than 10,000 texts"):
        read(10_001)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"inputs": 1}', b'{"inputs": []}', b'{"inputs": [{"name": "tenure"}]}', b"\xff"]
)
def test_v2_and_mlflow_refuse_what_is_no_request_without_falling_over(client: httpx.Client, body: bytes) -> None:
    for path in (f"/v2/models/{MODEL}/infer", "/invocations"):
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422) and answer.json()["error"], (path, answer.text)


def binary(customers: list[dict[str, Any]], **more: Any) -> tuple[bytes, dict[str, str]]:
    """A request with every tensor binary, and the header that says where the JSON ends; no Content-Type, as Triton's client."""
    kinds = {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}
    inputs, parts = [], []
    for tensor in tensors(customers):
        data = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            parts.append(b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in data))
        else:
            parts.append(np.array(data, kinds[tensor["datatype"]]).tobytes())
        inputs.append({**tensor, "parameters": {"binary_data_size": len(parts[-1])}})
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(parts), {"inference-header-content-length": str(len(head))}


def unpacked(answer: httpx.Response) -> dict[str, list[Any]]:
    """The outputs of an answer, binary or not."""
    at = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    found = {}
    for output in json.loads(answer.content[:at])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = output["data"]
            continue
        data, at = answer.content[at : at + size], at + size
        if output["datatype"] == "FP64":
            found[output["name"]] = np.frombuffer(data, "<f8").tolist()
            continue
        texts = []
        while data:
            length = struct.unpack_from("<I", data)[0]
            texts.append(data[4 : 4 + length].decode())
            data = data[4 + length :]
        found[output["name"]] = texts
    assert at == len(answer.content)
    return found


def test_v2s_binary_tensors_get_the_same_answers_in_the_form_that_was_asked_for(client: httpx.Client) -> None:
    url, customers = f"/v2/models/{MODEL}/infer", rows(40)
    wanted = [list(column) for column in zip(*native(client, customers), strict=True)]
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]
    for more, header in (
        ({"parameters": {"binary_data_output": True}}, True),
        ({}, False),
        ({"outputs": [{"name": "predict", "parameters": {"binary_data": True}}, {"name": "score"}]}, True),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "predict", "parameters": {"binary_data": False}}, {"name": "score"}],
            },
            True,
        ),
    ):
        body, headers = binary(customers, **more)
        answer = client.post(url, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert ("inference-header-content-length" in answer.headers) == header
        assert unpacked(answer) == dict(zip(("predict", "score"), wanted, strict=True))
    plain = client.post(url, json={"inputs": tensors(customers), "parameters": {"binary_data_output": True}})
    assert unpacked(plain) == dict(zip(("predict", "score"), wanted, strict=True))


def test_v2s_binary_data_that_lies_is_refused(client: httpx.Client) -> None:
    body, headers = binary(rows(3))
    head = int(headers["inference-header-content-length"])
    for wrong, length in (
        (body[:-1], head), (body + b"x", head), (body, len(body) + 1), (body, "x"), (body, "9" * 5000), (body, head - 1), (body[:head], head), (b"", 0),
        (body.replace(struct.pack("<I", 7), struct.pack("<I", 2**31), 1), head), (body.replace(b"monthly\x06", b"\xff" * 7 + b"\x06"), head),
        (body.replace(b'"INT64"', b'"INT1x"'), head),
    ):  # fmt: skip
        answer = client.post(f"/v2/models/{MODEL}/infer", content=wrong, headers={"inference-header-content-length": str(length)})
        assert answer.status_code in (400, 422) and answer.json()["error"], answer.text
    infinite = body.replace(struct.pack("<d", 21.0), struct.pack("<d", float("inf")))
    answer = client.post(f"/v2/models/{MODEL}/infer", content=infinite, headers=headers)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == "monthly"
    missing = body.replace(struct.pack("<d", 21.0), struct.pack("<d", float("nan")))
    found = unpacked(client.post(f"/v2/models/{MODEL}/infer", content=missing, headers=headers))["score"]
    assert found[1] == native(client, [{**rows(3)[1], "monthly": None}])[0][1]


def test_v2_without_a_content_type_is_for_programs_not_for_pages(client: httpx.Client) -> None:
    body, headers = binary(rows(2))
    for said in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"content-encoding": "gzip"}):
        assert client.post(f"/v2/models/{MODEL}/infer", content=body, headers={**headers, **said}).status_code == 415
    bare = json.dumps({"inputs": tensors(rows(2))}).encode()
    assert client.post(f"/v2/models/{MODEL}/infer", content=bare).status_code == 200
    assert client.post(f"/v2/models/{MODEL}/infer", content=bare, headers={"content-type": "text/plain"}).status_code == 415


def test_akerbps_service_contract_says_ok_with_a_prediction_or_error_with_a_message(client: httpx.Client) -> None:
    customers = rows(20)
    labels, scores = ([*column] for column in zip(*native(client, customers), strict=True))
    wanted = {"status": "ok", "prediction": labels, "score": scores, "model_id": f"{MODEL}-prod-1"}
    by_column = {"columns": {name: [row[name] for row in customers] for name in COLUMNS}}
    for path in ("/akerbp/predict", f"/akerbp/{MODEL}/predict"):
        for body in ({"rows": customers}, by_column):
            assert client.post(path, json=body).json() == wanted
        assert client.post(path, json=ROW).json()["status"] == "ok"
    for body, status in (({**ROW, "tenure": "x"}, 422), ({}, 422), ({"rows": [ROW] * 10_001}, 413)):
        answer = client.post("/akerbp/predict", json=body)
        said = answer.json()
        assert answer.status_code == status and said["status"] == "error" and said["message"] and said["fix"] and "prediction" not in said
    assert said["request_id"] == answer.headers["x-request-id"]
    for answer in (client.get("/akerbp/predict"), client.post("/akerbp/predict", content=b"{}", headers={"content-type": "text/plain"})):
        assert answer.status_code in (405, 415) and answer.json()["status"] == "error"
    assert client.post("/akerbp/other/predict", json=ROW).status_code == 404


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
        {"dataframe_records": [{**ROW, "tenure": "five"}]},
        {"dataframe_records": [{name: value for name, value in ROW.items() if name != "monthly"}]},
        {"instances": [list(ROW.values())]},
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
    assert 'route="/invocations",status="200"} 1.0' in page and 'route="/v2/infer",status="200"} 1.0' in page
    assert {"/invocations", "/ping", "/version", "/v2/models/{model}/infer", "/v2/health/ready", "/predict"} <= paths


def test_a_door_asked_the_wrong_way_says_so(client: httpx.Client) -> None:
    for method, path in (("GET", "/invocations"), ("POST", "/ping"), ("DELETE", "/v2"), ("GET", f"/v2/models/{MODEL}/infer")):
        assert client.request(method, path).status_code == 405, path
    assert client.post("/invocations", content=b"a,b\n1,2", headers={"content-type": "text/csv"}).status_code == 415
