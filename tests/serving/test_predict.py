"""POST /predict: right answers, refusals that name the field, and the guard before it."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.serving.conftest import MODEL, ROW, Bench, Shelf, make_bench, rows, until
from zebra_assets.contracts.model_folder import ModelFeature
from zebra_assets.settings import Settings
from zebra_serving.problems import FieldError, InputInvalid
from zebra_serving.refusals import shown
from zebra_serving.schema import RowSchema

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Any:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    with bench.client("1") as client:
        yield client


def test_each_row_gets_the_answer_that_the_version_itself_gives(client: httpx.Client, shelf: Shelf) -> None:
    customers = rows(50)
    answer = client.post("/predict", json={"rows": customers})
    assert answer.status_code == 200
    said = answer.json()
    assert (said["model"], said["alias"], said["version"], said["manifest_id"]) == (MODEL, "prod", "1", f"{MODEL}-00000000000000a1")
    assert [(p["prediction"], p["score"]) for p in said["predictions"]] == shelf.score("1", customers)
    assert len({p["event_id"] for p in said["predictions"]}) == 50


def test_a_bare_row_is_a_request_of_one(client: httpx.Client) -> None:
    alone = client.post("/predict", json=ROW).json()["predictions"]
    listed = client.post("/predict", json={"rows": [ROW]}).json()["predictions"]
    assert [(p["prediction"], p["score"]) for p in alone] == [(p["prediction"], p["score"]) for p in listed]


def test_an_integer_is_welcome_where_a_float_is_asked_for_and_an_optional_column_may_be_left_out(client: httpx.Client) -> None:
    without = {k: v for k, v in ROW.items() if k != "monthly"}
    for row in ({**ROW, "monthly": 70}, {**ROW, "monthly": None}, without):
        assert client.post("/predict", json=row).status_code == 200, row


@pytest.mark.parametrize(
    ("change", "field", "expected", "got"),
    [
        ({"tenure": "5"}, "tenure", "integer", '"5"'),
        ({"tenure": 5.5}, "tenure", "integer", "5.5"),
        ({"tenure": True}, "tenure", "integer", "true"),
        ({"tenure": 2**63}, "tenure", "integer", str(2**63)),
        ({"tenure": None}, "tenure", "integer", "null"),
        ({"monthly": "70"}, "monthly", "number or null", '"70"'),
        ({"monthly": False}, "monthly", "number or null", "false"),
        ({"senior": 1}, "senior", "boolean", "1"),
        ({"contract": 3}, "contract", "string", "3"),
        ({"contract": ["monthly"]}, "contract", "string", '["monthly"]'),
        ({"tenurre": 1}, "tenurre", "no column of this name. Did you mean 'tenure'?", "1"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(client: httpx.Client, change: Any, field: str, expected: str, got: str) -> None:
    answer = client.post("/predict", json={"rows": [ROW, {**ROW, **change}]})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"row": 1, "field": field, "expected": expected, "got": got}]
    assert "request_id" in answer.json() and answer.json()["fix"]


def test_every_wrong_field_of_every_row_is_listed_at_once_up_to_a_hundred(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"rows": [{}, 7, {**ROW, "tenure": "x", "senior": "x"}]}).json()
    assert [(e["row"], e["field"], e["got"]) for e in answer["errors"]] == [
        (0, "tenure", "nothing"), (0, "contract", "nothing"), (0, "senior", "nothing"), (0, "gender", "nothing"),
        (1, None, "7"), (2, "tenure", '"x"'), (2, "senior", '"x"'),
    ]  # fmt: skip
    flood = client.post("/predict", json={"rows": [{}] * 1000}).json()
    assert len(flood["errors"]) == 100 and flood["error"].startswith("4000 values")


def test_hundreds_of_thousands_of_strange_names_are_refused_in_seconds_and_in_few_words(client: httpx.Client) -> None:
    body = json.dumps({**ROW, **{f"n{n}": 1 for n in range(400_000)}, "x" * 200_000: 1}).encode()
    began = time.monotonic()
    answer = client.post("/predict", content=body, headers=JSON)
    assert answer.status_code == 422 and time.monotonic() - began < 60
    assert len(answer.json()["errors"]) == 100 and len(answer.content) < 50_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400), (b'{"tenure": NaN}', 400), (b'{"tenure": Infinity}', 400),
        (b'{"rows":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (json.dumps({**ROW, "monthly": "@"}).replace('"@"', "1e999").encode(), 422), (b"null", 422), (b"[]", 422), (b'{"rows": []}', 422),
        (b'{"rows": 5}', 422), (json.dumps({"rows": [ROW], "more": 1}).encode(), 422),
        (json.dumps({"rows": [ROW] * 10_001}).encode(), 413), (b" " * (8 * 1024 * 1024 + 1), 413),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_the_clients_fault_and_says_so(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post("/predict", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] and answer.json()["fix"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-10:00"])
def test_a_time_that_its_zone_takes_out_of_the_calendar_is_a_wrong_value(moment: str) -> None:
    schema = RowSchema([ModelFeature(name="at", dtype="timestamp")])
    ways: list[Callable[[], Any]] = [
        lambda: schema.decode(json.dumps({"at": moment}).encode()),
        lambda: schema.decode(json.dumps({"rows": [{"at": moment}]}).encode()),
        lambda: schema.decode(json.dumps({"columns": {"at": [moment]}}).encode()),
        lambda: schema.convert([{"at": moment}]),
        lambda: schema.convert_columns({"at": [moment]}),
    ]
    for way in ways:
        with pytest.raises(InputInvalid) as refused:
            way()
        assert refused.value.errors == [FieldError(0, "at", schema.expected(schema.features[0]), f'"{moment}"')]
    assert schema.fitting([{"at": moment}]) is None and schema.decode(b'{"at": "0001-01-02T00:00:00+23:59"}').values[0][0].year == 1


def test_what_is_nested_too_deeply_to_be_shown_is_refused_all_the_same() -> None:
    deep_list, deep_object = list[Any](), dict[str, Any]()
    for _ in range(5000):
        deep_list, deep_object = [deep_list], {"a": deep_object}
    assert [shown(deep_list), shown(deep_object)] == [f"{kind}, nested too deeply to be shown" for kind in ("a list", "an object")]


@pytest.mark.parametrize("path", ["/predict", "/akerbp/predict", "/predict?explain=true", f"/v2/models/{MODEL}/infer"])
def test_no_depth_of_nesting_gets_more_than_a_refusal(client: httpx.Client, path: str) -> None:
    # Read near the beginning of the stack, shown further from it: the depths between the two are few, and where, the server's calls say.
    for depth in range(900, 1000):
        deep = "[" * depth + "]" * depth
        tensor = f'{{"inputs": [{{"name": "tenure", "shape": [1], "datatype": "INT64", "data": [{deep}]}}]}}'
        for body in (tensor,) if "v2" in path else (f'{{"tenure": {deep}}}', deep):
            assert client.post(path, content=body, headers=JSON).status_code in (400, 422), depth


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"row": ROW}, "none of the model's columns"), ({"instances": [ROW]}, "another protocol"), ({"inputs": []}, "another protocol"),
        ({"dataframe_split": {"columns": [], "data": []}}, "another protocol"), ([ROW, ROW], "is a list"), ("rows", "no object"),
        ({"rows": ROW}, "`rows` is no list"), ({"rows": [[5, 70.5], [6, 1.0]]}, "none of the model's columns"),
        ({"rows": [{"features": ROW}] * 300}, "none of the model's columns"), ({"data": {"rows": [ROW]}}, "none of the model's columns"),
    ],
)  # fmt: skip
def test_a_body_of_another_shape_gets_one_error_that_shows_the_right_one(client: httpx.Client, body: Any, says: str) -> None:
    answer = client.post("/predict", json=body)
    assert answer.status_code == 422 and says in answer.json()["error"], answer.text
    [error] = answer.json()["errors"]
    assert error["field"] is None and len(error["got"]) <= 60
    assert "rows" in answer.json()["fix"] or "/invocations" in answer.json()["fix"]


def test_rows_may_stand_after_what_does_not_belong_beside_them(client: httpx.Client) -> None:
    answer = client.post("/predict", content=json.dumps({"id": 7, "rows": [ROW]}), headers=JSON).json()
    assert answer["errors"] == [{"row": 0, "field": "id", "expected": "nothing beside `rows`", "got": "7"}]


def test_a_body_sent_in_pieces_without_a_length_is_limited_all_the_same(client: httpx.Client) -> None:
    pieces = (b" " * 1_000_000 for _ in range(9))
    assert client.post("/predict", content=pieces, headers=JSON).status_code == 413
    whole = json.dumps({"rows": [ROW]}).encode()
    assert client.post("/predict", content=iter([whole[:10], whole[10:]]), headers=JSON).status_code == 200


def test_ten_thousand_rows_are_answered(client: httpx.Client, shelf: Shelf) -> None:
    customers = rows(10_000)
    said = client.post("/predict", json={"rows": customers}).json()["predictions"]
    assert [(p["prediction"], p["score"]) for p in said] == shelf.score("1", customers)


def test_other_content_types_and_methods_are_turned_away(client: httpx.Client) -> None:
    assert client.post("/predict", content=json.dumps(ROW), headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/predict", content=json.dumps(ROW)).status_code == 415
    assert client.get("/predict").status_code == 405
    assert client.post("/health").status_code == 405
    missing = client.get("/predictt")
    assert missing.status_code == 404 and missing.json()["fix"]


def test_the_request_id_is_the_clients_if_it_is_decent_and_ours_if_not(client: httpx.Client) -> None:
    assert client.post("/predict", json=ROW, headers={"x-request-id": "order-17"}).headers["x-request-id"] == "order-17"
    ours = client.post("/predict", json=ROW, headers={"x-request-id": "<script>"}).headers["x-request-id"]
    assert len(ours) == 16
    refused = client.post("/predict", json={}, headers={"x-request-id": "order-18"})
    assert refused.headers["x-request-id"] == refused.json()["request_id"] == "order-18"


def test_a_foreign_host_header_is_refused_on_loopback(client: httpx.Client) -> None:
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
    assert client.post("/predict", json=ROW, headers={"host": "evil.example"}).status_code == 400
    for host in ("localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"):
        assert client.get("/health", headers={"host": host}).status_code == 200, host


def test_with_a_token_everything_but_health_asks_for_it(bench: Bench) -> None:
    bench.promote("1")
    bench.settings = Settings(**{**bench.settings.model_dump(), "serving_token": "s3cret"})
    with bench.client("1") as client:
        assert client.get("/health").status_code == 200
        for path in ("/ready", "/model", "/metrics", "/openapi.json", "/", "/nowhere"):
            assert client.get(path).status_code == 401, path
        for wrong in ("Bearer s3cre", "Bearer s3crett", "s3cret", "Basic s3cret", "Bearer \xff"):
            refused = client.post("/predict", json=ROW, headers={"authorization": wrong.encode("latin-1")})
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer", wrong
        assert client.post("/predict", json=ROW, headers={"authorization": "Bearer s3cret"}).status_code == 200


def test_the_figures_count_what_happened(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        client.post("/predict", json={"rows": rows(7)})
        client.post("/predict", json={})
        client.get("/what/ever")
        page = until(lambda: (text := client.get("/metrics").text) and 'outcome="captured"} 7.0' in text and text)
    for line in (
        'zebra_requests_total{route="/predict",status="200"} 1.0',
        'zebra_requests_total{route="/predict",status="422"} 1.0',
        'zebra_requests_total{route="other",status="404"} 1.0',
        "zebra_rows_total 7.0",
        "zebra_reloads_total 1.0",
        f'zebra_serving_model_info{{alias="prod",manifest_id="{MODEL}-00000000000000a1",model="{MODEL}",run_id="{MODEL}-run-0001",version="1"}}',
        'zebra_request_seconds_count{route="/predict"} 2.0',
    ):
        assert line in page, line


def test_the_interface_describes_the_columns_of_the_version_in_force(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"][1]
    assert set(body["properties"]) == set(ROW) and "monthly" not in body["required"]
    assert {"/health", "/ready", "/model", "/metrics"} <= set(document["paths"])
    page = client.get("/").text
    assert "POST /predict" in page and "http" not in page.replace("<!doctype html>", "")  # nothing to fetch from elsewhere
