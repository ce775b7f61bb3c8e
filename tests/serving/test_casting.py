"""The MLflow door casts values as MLflow, pandas and numpy cast them, and what it cast is what is captured."""

import json
import logging
import random
import tracemalloc
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import MODEL, ROW, Bench, Shelf, until
from zebra_assets.contracts.model_folder import FROM_MLFLOW, verify_model_folder
from zebra_assets.settings import Settings
from zebra_serving.doors.casting import cast, cast_to
from zebra_serving.doors.frames import inferred
from zebra_serving.problems import TooLarge
from zebra_serving.schema import RowSchema

TYPES = ["long", "integer", "double", "float", "string", "boolean", "datetime"]
CELLS: list[Any] = [
    None, True, False, 0, 5, -1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 1.5, -2.7,
    1e19, 1e308, float("nan"), float("inf"), "", "5", "1.5", " 12 ", "1_000", "nan", "inf", "0x10", "٣", "true", "word", "\ud800", [], [1], {},
    "2020-01-31", "2020-01-31T12:30:00", "2020-01-31 12:30", "2020-01-31T12:30:00.25", "2020-02-31", "1500-01-01", "2020-01-31T12:00:00Z",
]  # fmt: skip


def theirs(kind: str, cells: list[Any]) -> list[Any] | None:
    """What MLflow casts a column to; None where it refuses."""
    import pandas as pd
    from mlflow.models.utils import _enforce_schema
    from mlflow.types import ColSpec, Schema
    from mlflow.utils.proto_json_utils import dataframe_from_parsed_json

    schema = Schema([ColSpec(kind, "x")])
    try:
        frame = dataframe_from_parsed_json({"columns": ["x"], "data": [[cell] for cell in cells]}, "split", schema)  # type: ignore[no-untyped-call]
        found = _enforce_schema(frame, schema)["x"]
        hash(tuple(found))  # what every encoder of scikit-learn does
    except Exception:
        return None
    if kind == "datetime":
        return [None if pd.isna(value) else value.to_pydatetime(warn=False) for value in found]
    return list(found.tolist())


def same(dtype: str, ours: Any, other: Any) -> bool:
    if dtype == "float64" and other != other:
        return ours is None
    if isinstance(other, str) and "\ud800" in other:
        return bool(ours == other.replace("\ud800", "\ufffd"))
    return type(ours) is type(other) and (ours == other or (ours != ours and other != other))


@pytest.mark.filterwarnings("ignore")  # pandas' about dates it would rather have in another order
@pytest.mark.parametrize("kind", TYPES)
def test_a_column_is_cast_to_what_mlflow_casts_it_to_or_refused_as_there(kind: str) -> None:
    dtype, narrow = FROM_MLFLOW[kind], kind in ("integer", "float")
    draw = random.Random(kind)
    columns = [[cell] for cell in CELLS] + [draw.choices(draw.sample(CELLS, 3), k=draw.randint(2, 4)) for _ in range(400)]
    for cells in columns:
        if dtype == "timestamp" and any(type(cell) is not str and cell is not None for cell in cells) and len(cells) > 1:
            continue  # numbers beside moments are refused here, and now and then parsed there
        try:
            ours = cast_to(dtype, inferred(cells), narrow)
        except (ValueError, TypeError, OverflowError):
            ours = None
        wanted = theirs(kind, cells)
        assert (ours is None) == (wanted is None), (cells, ours, wanted)
        assert ours is None or all(map(same, [dtype] * len(cells), ours, wanted or [])), (cells, ours, wanted)


ODD = {"tenure": 5.9, "monthly": True, "contract": 7, "senior": "no", "gender": "\ud800"}
CAST = {"tenure": 5, "monthly": 1.0, "contract": 7, "senior": True}


def test_what_was_cast_is_captured_as_it_was_predicted_on(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    log = bench.settings.home / "access.jsonl"
    bench.settings = Settings(**{**bench.settings.model_dump(), "serving_access_log": str(log)})
    spec = bench.settings.project_dir / "models" / MODEL / "model.yaml"
    spec.write_text(spec.read_text().replace("sensitive: {attributes: [gender]}\n", "serving: {hashed: [gender]}\n"))
    bench.promote("1")
    with caplog.at_level(logging.ERROR), bench.client("1") as client:
        odd = [ODD, {**ODD, "contract": "m\udc00", "extra": "\ud800"}, {**ODD, "monthly": float("inf")}, {**ODD, "monthly": float("nan")}]
        head = {"content-type": "application/json"}
        answers = [client.post("/invocations", content=json.dumps({"dataframe_records": [row]}), headers=head) for row in odd]
        native = client.post("/predict", content=json.dumps({**ROW, "contract": "\ud800"}), headers=head)
        assert [answer.status_code for answer in answers] == [200, 200, 422, 200], [answer.text for answer in answers]
        assert native.status_code == 400  # the native door stays strict
        until(lambda: len(bench.events.predictions(MODEL)) == 3)
    seen = sorted((e.features for e in bench.events.predictions(MODEL)), key=lambda f: str(f["contract"]))
    assert {**CAST, "gender": seen[0]["gender"]} in seen and seen[0]["gender"].startswith("hmac-")
    assert seen[-1]["contract"] == "m\ufffd" and any(f["monthly"] is None for f in seen)
    window = bench.sketches.windows(MODEL)[0]
    assert window.sketched == 3 and window.columns["contract"].rows == 3
    assert [json.loads(line)["status"] for line in log.read_text().splitlines() if "invocations" in line] == [200, 200, 422, 200]
    assert not caplog.records, caplog.text


def test_no_body_makes_the_server_fall_over(client: httpx.Client) -> None:
    leaf = st.sampled_from([*CELLS, *ROW, *ROW.values()])
    value = st.recursive(
        leaf, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from([*ROW, "columns", "data", "index", "x"]), v)
    )
    keys = st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances", "params", "messages"])

    @settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(keys, value, min_size=1, max_size=2))
    def ask(body: dict[str, Any]) -> None:
        answer = client.post("/invocations", content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code < 500, (body, answer.text)
        assert answer.status_code == 200 or (answer.json()["error"] and answer.json()["fix"])

    ask()
    deep = b'{"inputs": ' + b"[" * 100_000
    for raw in (
        deep,
        b"\xef\xbb\xbf{}",
        json.dumps({"inputs": 1}).encode("utf-16"),
        b'{"inputs": ' + b"9" * 5000 + b"}",
        b"\xed\xa0\x80",
        b"NaN",
    ):
        answer = client.post("/invocations", content=raw, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), (raw[:40], answer.text)


MANY = 400_000
BOMBS: dict[str, Any] = {
    "short rows beside a wide one": {
        "dataframe_split": {"columns": list(map(str, range(MANY))), "data": [list(range(MANY)), *[[]] * 9_000]}
    },
    "one value for each of many": {"dataframe_split": {"columns": list(map(str, range(MANY))), "data": 1, "index": list(range(9_000))}},
    "records of one key each": {"dataframe_records": [{f"k{i * 40 + j}": 1 for j in range(40)} for i in range(9_000)]},
    "more rows than there may be": {"inputs": [{}] * 2_000_000},
    "a long text among short ones": {"inputs": {"contract": ["x" * 4_000_000, *["y"] * 9_000]}},
    "the same in a column nobody knows": {"inputs": {"note": [["x" * 4_000_000, *["y"] * 9_000]]}},
    "the same row by row": {"instances": [{"contract": "x" * 4_000_000}, *[{"contract": "y"}] * 9_000]},
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_body_that_would_grow_in_memory_is_refused_at_once(shelf: Shelf, name: str) -> None:
    schema = RowSchema(verify_model_folder(shelf.folders["1"], shelf.digests["1"]).features)
    body = json.dumps(BOMBS[name]).encode()
    assert len(body) < 8 << 20
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            cast(schema, body)
        grown = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert grown < 300 << 20
