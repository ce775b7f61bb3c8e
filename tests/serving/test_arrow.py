"""Bulk: rows by column, as JSON and as Arrow, get the answers of the same rows one by one, and are refused as clearly."""

import datetime as dt
import json
import struct
from collections import Counter
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from tests.serving.conftest import COLUMNS, MODEL, ROW, Bench, Shelf, make_bench, rows, until
from zebra_assets.adapters.sketches import SqlSketches
from zebra_assets.contracts.model_folder import ModelFeature
from zebra_serving.bulk import ArrowColumn, columns_of, schema_of
from zebra_serving.doors import arrow
from zebra_serving.doors.arrow import FILE, STREAM
from zebra_serving.problems import InputInvalid, Malformed, TooLarge
from zebra_serving.schema import RowSchema

SCHEMA = pa.schema(
    [("tenure", pa.int64()), ("monthly", pa.float64()), ("contract", pa.string()), ("senior", pa.bool_()), ("gender", pa.string())]
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Any:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    with bench.client("1") as client:
        yield client


def stream(table: pa.Table, *, compression: str | None = None, file: bool = False, chunk: int | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    new = pa.ipc.new_file if file else pa.ipc.new_stream
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return sink.getvalue().to_pybytes()


def post(client: httpx.Client, body: bytes, kind: bytes = STREAM) -> httpx.Response:
    return client.post("/predict", content=body, headers={"content-type": kind.decode()})


def said(answer: httpx.Response) -> tuple[list[Any], pa.Schema]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == STREAM.decode()
    table = pa.ipc.open_stream(answer.content).read_all()
    return list(zip(table["prediction"].to_pylist(), table["score"].to_pylist(), strict=True)), table.schema


def table(count: int = 50) -> pa.Table:
    return pa.Table.from_pylist(rows(count), SCHEMA)


@pytest.mark.parametrize("version", ["1", "3"])
def test_rows_by_column_get_the_answers_of_the_version_itself(bench: Bench, shelf: Shelf, version: str) -> None:
    bench.promote(version)
    customers = [{**r, "monthly": None if i % 7 == 0 else r["monthly"]} for i, r in enumerate(rows(200))]
    whole = pa.Table.from_pylist(customers, SCHEMA)
    with bench.client(version) as client:
        wanted = shelf.score(version, customers)
        found, schema = said(post(client, stream(whole)))
        assert found == wanted
        named = {k.decode(): v.decode() for k, v in schema.metadata.items()}
        assert named == {"model": MODEL, "alias": "prod", "version": version, "manifest_id": f"{MODEL}-00000000000000a{version}"}
        assert (schema.field("prediction").type, schema.field("score").type, schema.field("event_id").type) == (
            pa.string(),
            pa.float64(),
            pa.string(),
        )
        columns = {name: whole[name].to_pylist() for name in whole.column_names}
        answer = client.post("/predict", json={"columns": columns}).json()
        assert [(p["prediction"], p["score"]) for p in answer["predictions"]] == wanted and answer["version"] == version
        assert len({p["event_id"] for p in answer["predictions"]}) == 200


def test_a_form_without_a_graph_reads_columns_too(bench: Bench, shelf: Shelf) -> None:
    from zebra_assets.adapters.model_files import load_model
    from zebra_serving.compile.forms import Plain

    schema = RowSchema([ModelFeature(name=n, dtype=str(c["dtype"]), required=not c["nullable"]) for n, c in COLUMNS.items()])
    coded = table().set_column(2, "contract", table()["contract"].dictionary_encode())
    found = Plain(load_model(shelf.folders["1"], shelf.digests["1"])).predict(columns_of(schema, coded.to_batches()[0]))
    assert [(label, score) for label, score in zip(found.labels, found.scores or [], strict=True)] == shelf.score("1", rows(50))


def other_types() -> dict[str, pa.Table]:
    """The same 50 rows, as other libraries write them."""
    t = table()
    coded = t.set_column(2, "contract", t["contract"].dictionary_encode()).set_column(4, "gender", t["gender"].cast(pa.large_string()))
    odd = pa.DictionaryArray.from_arrays(
        [1 if c == "yearly" else 3 for c in t["contract"].to_pylist()], ["weekly", "yearly", "x" * 99, "monthly"]
    )
    return {
        "narrow numbers": t.set_column(0, "tenure", t["tenure"].cast(pa.uint8())).set_column(1, "monthly", t["monthly"].cast(pa.int16())),
        "dictionaries and large strings": coded,
        "a dictionary with words that no row has": t.set_column(2, "contract", odd),
        "views": t.set_column(2, "contract", t["contract"].cast(pa.string_view())),
        "another order, in five batches": t.select(["gender", "senior", "tenure", "monthly", "contract"]),
    }


@pytest.mark.parametrize("which", list(other_types()))
def test_the_ways_that_other_libraries_write_a_column_are_read(client: httpx.Client, which: str) -> None:
    wanted, _ = said(post(client, stream(table())))
    given = other_types()[which]
    found, _ = said(post(client, stream(given, chunk=10 if "batches" in which else None)))
    assert found == wanted
    assert said(post(client, stream(given, file=True), FILE))[0] == wanted


def test_a_batchs_dictionary_may_change_on_the_way(client: httpx.Client) -> None:
    wanted, _ = said(post(client, stream(table(20))))
    sink = pa.BufferOutputStream()
    parts = [table(20).slice(at, 5) for at in range(0, 20, 5)]
    coded = [p.set_column(2, "contract", p["contract"].dictionary_encode()) for p in parts]
    with pa.ipc.new_stream(sink, coded[0].schema) as writer:
        for part in coded:
            writer.write_table(part)
    assert said(post(client, sink.getvalue().to_pybytes()))[0] == wanted


def test_not_a_number_is_missing_and_an_optional_column_may_be_left_out(client: httpx.Client) -> None:
    nan = table(3).set_column(1, "monthly", pa.array(np.array([np.nan, 1.0, np.nan])))
    null = table(3).set_column(1, "monthly", pa.array([None, 1.0, None], pa.float64()))
    assert said(post(client, stream(nan)))[0] == said(post(client, stream(null)))[0]
    gone, empty = table(3).drop(["monthly"]), table(3).set_column(1, "monthly", pa.nulls(3))
    assert said(post(client, stream(gone)))[0] == said(post(client, stream(empty)))[0]


@pytest.mark.parametrize(
    ("name", "cells", "row", "expected", "got"),
    [
        ("tenure", pa.array([1.0, 2.0]), 0, "integer", "double"),
        ("tenure", pa.array([1, None]), 1, "integer", "null"),
        ("tenure", pa.array([1, 2**63], pa.uint64()), 1, "integer", str(2**63)),
        ("tenure", pa.nulls(2), 0, "integer", "null"),
        ("monthly", pa.array(["a", "b"]), 0, "number or null", "string"),
        ("monthly", pa.array([1.0, np.inf]), 1, "a finite number", "infinity"),
        ("contract", pa.array([1, 2]), 0, "string", "int64"),
        ("contract", pa.array(["monthly", None]), 1, "string", "null"),
        ("contract", pa.array([["a"], []]), 0, "string", "list<item: string>"),
        ("contract", pa.array(["a", None]).dictionary_encode(), 1, "string", "null"),
        ("contract", pa.array([1, 2]).dictionary_encode(), 0, "string", "dictionary<values=int64, indices=int32, ordered=0>"),
        ("contract", pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None])), 1, "string", "null"),
        ("senior", pa.array([0, 1]), 0, "boolean", "int64"),
        ("tenurre", pa.array([0, 1]), 0, "no column of this name. Did you mean 'tenure'?", "int64"),
    ],
)  # fmt: skip
def test_a_column_that_does_not_fit_is_named_with_what_was_expected(
    client: httpx.Client, name: str, cells: pa.Array, row: int, expected: str, got: str
) -> None:
    given = table(2).drop([name]) if name in SCHEMA.names else table(2)
    answer = post(client, stream(given.append_column(name, cells)))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0] == {"row": row, "field": name, "expected": expected, "got": got}


def test_missing_columns_and_names_given_twice_are_told_before_any_data_is_read(client: httpx.Client) -> None:
    missing = post(client, stream(table(2).drop(["tenure", "contract"]))).json()["errors"]
    assert [(e["field"], e["expected"], e["got"]) for e in missing] == [("tenure", "integer", "nothing"), ("contract", "string", "nothing")]
    twice = post(client, stream(table(2).append_column("tenure", pa.array([1, 2]))))
    assert twice.status_code == 422 and twice.json()["errors"][0]["got"] == "a name twice"
    nulls = pa.array([None] * 300, pa.int64())
    flood = post(client, stream(table(300).set_column(0, "tenure", nulls))).json()
    assert len(flood["errors"]) == 100 and flood["error"].startswith("300 values")


def test_a_compressed_body_is_refused_before_it_is_opened(client: httpx.Client) -> None:
    bomb = table(50_000).set_column(0, "tenure", pa.array(np.zeros(50_000, np.int64)))
    for compression in ("lz4", "zstd"):
        for file, kind in ((False, STREAM), (True, FILE)):
            answer = post(client, stream(bomb, compression=compression, file=file), kind)
            assert answer.status_code == 400 and "compressed" in answer.json()["error"], answer.text
    packed = client.post("/predict", content=b"x", headers={"content-type": STREAM.decode(), "content-encoding": "gzip"})
    assert packed.status_code == 415


def test_more_rows_than_the_limit_are_refused_by_what_the_body_announces(client: httpx.Client) -> None:
    many = pa.table({n: pa.nulls(100_001) for n in SCHEMA.names})
    answer = post(client, stream(many, chunk=10_000))
    assert answer.status_code == 413 and "100,001 rows" in answer.json()["error"]
    assert post(client, stream(table(0))).status_code == 422
    assert post(client, stream(pa.table({}))).status_code == 422


def lying() -> dict[str, bytes]:
    """Bodies that are not what they say."""
    good = stream(table(100))
    wrong_index = pa.DictionaryArray.from_arrays(pa.array([0, 9], pa.int8()), ["monthly"], safe=False)
    honest = stream(table(2))
    assert honest.count(struct.pack("<3i", 0, 7, 13)) == 1  # where "monthly" and "yearly" end
    offsets = honest.replace(struct.pack("<3i", 0, 7, 13), struct.pack("<3i", 0, 7, 2**30))
    text = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(struct.pack("<3i", 0, 1, 2)), pa.py_buffer(b"\xff\xfe")])
    return {
        "nothing": b"", "noise": b"\x00\x01" * 500, "half": good[: len(good) // 2], "json": json.dumps(ROW).encode(),
        "only a schema's head": good[:64], "an index beyond its dictionary": stream(table(2).set_column(2, "contract", wrong_index)),
        "an offset beyond its text": offsets,
        "text that is no UTF-8": stream(table(2).set_column(2, "contract", text)),
        "a column's name that is no UTF-8": honest.replace(b"contract", b"\xffontract"),
    }  # fmt: skip


@pytest.mark.parametrize("which", list(lying()))
def test_a_body_that_lies_is_the_clients_fault(client: httpx.Client, which: str) -> None:
    for kind in (STREAM, FILE):
        answer = post(client, lying()[which], kind)
        assert answer.status_code in (400, 422) and answer.json()["error"] and answer.json()["fix"], answer.text


def test_a_time_zone_that_is_no_text_is_no_arrow() -> None:
    body = stream(pa.table({"at": pa.array([1], pa.timestamp("s", "Europe/Oslo"))})).replace(b"Europe", b"\xffurope")
    with pytest.raises(Malformed, match="cannot be read as Arrow"):
        arrow.read(SimpleNamespace(schema=RowSchema([ModelFeature(name="at", dtype="timestamp")])), body, STREAM)  # type: ignore[arg-type]


def test_no_flipped_byte_gets_more_than_a_refusal_or_an_answer(client: httpx.Client) -> None:
    good, chance = stream(table(20)), np.random.default_rng(11)
    for at in chance.integers(len(good), size=300).tolist():
        bad = bytearray(good)
        bad[at] ^= 1 << int(chance.integers(8))
        assert post(client, bytes(bad)).status_code in (200, 400, 413, 422), at
    assert post(client, good).status_code == 200


def test_one_long_word_in_a_dictionary_is_not_written_out(client: httpx.Client) -> None:
    word = pa.DictionaryArray.from_arrays(pa.array(np.zeros(90_000, np.int8)), ["x" * 1_000_000])
    answer = post(client, stream(table(90_000).set_column(2, "contract", word)))
    assert answer.status_code == 413 and "dictionary" in answer.json()["error"]


def test_dates_and_keys_are_read_as_json_reads_them() -> None:
    features = [ModelFeature(name="day", dtype="date"), ModelFeature(name="at", dtype="timestamp", required=False)]
    schema = RowSchema(features, [ModelFeature(name="id", dtype="string")])
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    for day in (pa.date32(), pa.date64()):
        for at in (pa.timestamp("s", "UTC"), pa.timestamp("ns", "Europe/Oslo"), pa.timestamp("us")):
            moments = pa.array([noon if at.tz else noon.replace(tzinfo=None), None], at)
            batch = pa.record_batch({"day": pa.array([noon.date()] * 2, day), "at": moments, "id": pa.array(["a", None])})
            schema_of(schema, batch.schema)
            assert columns_of(schema, batch).values == [(noon.date(), noon.replace(tzinfo=None), "a"), (noon.date(), None, None)]
    plain = pa.record_batch({"day": pa.array([noon.date()]), "at": pa.array([noon.date()])})
    assert columns_of(schema, plain).values == [(noon.date(), dt.datetime(2026, 3, 1), None)]  # noqa: DTZ001 - as decoded
    late = pa.record_batch({"day": pa.array([noon.date()]), "at": pa.array([2**62], pa.int64()).cast(pa.timestamp("s"))})
    with pytest.raises(InputInvalid) as refused:
        columns_of(schema, late)
    assert refused.value.errors[0].expected == "a date of the years 1 to 9999"
    views = pa.Array.from_buffers(
        pa.string_view(), 60, [None, pa.py_buffer(struct.pack("<i4sii", 2**23, b"xxxx", 0, 0) * 60), pa.py_buffer(b"x" * 2**23)]
    )
    with pytest.raises(TooLarge):
        columns_of(RowSchema([ModelFeature(name="id", dtype="string")]), pa.record_batch({"id": views}))


def test_a_dictionary_as_long_as_its_index_can_count_may_have_nulls_beside_it() -> None:
    cells = pa.DictionaryArray.from_arrays(pa.array([0, None, 127, 5] * 50, pa.int8()), [str(i) for i in range(128)])
    for some in (cells, cells[:3]):
        assert dict(ArrowColumn(some).counts()) == Counter(some.to_pylist())


def test_columns_are_captured_as_rows_are(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        answer = post(client, stream(table(300)))
        ids = pa.ipc.open_stream(answer.content).read_all()["event_id"].to_pylist()
        client.post("/predict", json={"columns": {n: table(100)[n].to_pylist() for n in SCHEMA.names}})
        until(lambda: bench.events.count(MODEL) == 400)
    events = {e.event_id: e for e in bench.events.predictions(MODEL)}
    for event_id, row in zip(ids, rows(300), strict=True):
        assert events[event_id].features == {k: v for k, v in row.items() if k != "gender"}
    [window] = SqlSketches(bench.settings.state).windows(MODEL)
    assert window.rows == window.sketched == 400 and window.columns["tenure"].mean == pytest.approx(
        np.mean([r["tenure"] for r in [*rows(300), *rows(100)]])
    )
    assert window.columns.keys() == {"tenure", "monthly", "contract", "senior"}


@pytest.mark.parametrize(
    ("body", "field", "expected", "got"),
    [
        ({"tenure": [5, "x"]}, "tenure", "integer", '"x"'),
        ({"tenure": 5}, "tenure", "a list, each integer", "5"),
        ({"tenure": None}, "tenure", "a list, each integer", "null"),
        ({"senior": [True]}, "senior", "2 values, as the first column has", "1"),
        ({"tenurre": [1, 2]}, "tenurre", "no column of this name. Did you mean 'tenure'?", "[1,2]"),
    ],
)
def test_a_wrong_value_of_the_column_form_is_named(client: httpx.Client, body: Any, field: str, expected: str, got: str) -> None:
    columns = {name: [value, value] for name, value in ROW.items()}
    answer = client.post("/predict", json={"columns": {**columns, **body}})
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    assert (error["field"], error["expected"], error["got"]) == (field, expected, got)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"columns": {}}, 422), ({"columns": {"tenure": []}}, 422), ({"columns": {"a": [1]}}, 422), ({"columns": []}, 422),
        ({"columns": {n: [] for n in ROW}}, 422), ({"columns": {n: [v] * 10_001 for n, v in ROW.items()}}, 413),
        ({"columns": {n: [v] for n, v in ROW.items()}, "more": 1}, 422), ({"columns": ROW}, 422),
    ],
)  # fmt: skip
def test_a_column_form_that_cannot_be_read_says_so(client: httpx.Client, body: Any, status: int) -> None:
    answer = client.post("/predict", json=body)
    assert answer.status_code == status and answer.json()["error"] and answer.json()["fix"], answer.text
