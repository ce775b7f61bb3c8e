"""Capture: every captured prediction is one event, sensitive columns never are, and an answer never waits for it."""

import json
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import MODEL, ROW, Bench, rows, served, until
from zebra_assets.errors import Unavailable
from zebra_serving import capture as capture_module
from zebra_serving.answer import predict
from zebra_serving.budget import Budget
from zebra_serving.capture import MAX_BATCH, Capture, Recording
from zebra_serving.memory import FOLD_AT, MAX_FULL, MAX_OPEN, Memory
from zebra_serving.metrics import Metrics
from zebra_serving.rows import Rows
from zebra_serving.served import Served


def test_events_are_exactly_the_served_predictions_without_the_sensitive_column(bench: Bench) -> None:
    bench.promote("1")
    told = {}
    with bench.client("1") as client:
        for name in ("1", "2"):
            if name == "2":
                bench.promote("2")
                until(lambda: client.get("/model").json()["version"] == "2")
            customers = rows(30)
            said = client.post("/predict", json={"rows": customers}, headers={"x-request-id": f"asked-{name}"}).json()
            for customer, prediction in zip(customers, said["predictions"], strict=True):
                told[prediction["event_id"]] = (name, customer, prediction)
        client.post("/predict", json={"rows": [{**ROW, "tenure": "x"}]})  # refused: no event
    events = bench.events.predictions(MODEL)
    assert {e.event_id for e in events} == set(told) and len(events) == 60
    for event in events:
        name, customer, prediction = told[event.event_id]
        assert (event.version, event.manifest_id, event.request_id) == (name, f"{MODEL}-00000000000000a{name}", f"asked-{name}")
        assert event.features == {k: v for k, v in customer.items() if k != "gender"}
        assert (event.prediction, event.score) == (prediction["prediction"], prediction["score"])
    for file in bench.settings.home.glob("state.db*"):
        assert b"gender" not in file.read_bytes()


def test_a_sample_is_recorded_and_the_rest_is_counted(bench: Bench) -> None:
    spec = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text() + "serving: {sample_rate: 0.5}\n")
    bench.promote("1")
    with bench.client("1") as client:
        said = client.post("/predict", json={"rows": rows(2000)}).json()["predictions"]
        page = client.get("/metrics").text
    ids = {p["event_id"] for p in said if p["event_id"]}
    assert 850 < len(ids) < 1150
    assert f'zebra_events_total{{outcome="sampled_out"}} {float(2000 - len(ids))}' in page
    assert {e.event_id for e in bench.events.predictions(MODEL)} == ids


def test_a_server_without_model_yaml_captures_nothing_for_it_cannot_know_what_is_sensitive(bench: Bench) -> None:
    (bench.settings.models_dir / MODEL / "model.yaml").unlink()
    bench.promote("1")
    with bench.client("1") as client:
        said = client.post("/predict", json={"rows": rows(20)}).json()["predictions"]
    assert len(said) == 20
    assert bench.events.count(MODEL) == 0


def test_events_wait_while_the_store_is_away_and_arrive_once(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        bench.move_state(tmp_path / "away")
        until(lambda: client.get("/ready").json()["stale_since"])
        said = client.post("/predict", json={"rows": rows(40)}).json()["predictions"]
        until(lambda: not client.get("/ready").is_error)
        bench.move_state(tmp_path / "away", back=True)
        until(lambda: bench.events.count(MODEL) == 40)
    assert {e.event_id for e in bench.events.predictions(MODEL)} == {p["event_id"] for p in said}


@pytest.fixture
def answered(bench: Bench) -> tuple[Bench, tuple]:  # type: ignore[type-arg]
    bench.promote("1")
    app = bench.app()
    app.loader.poll()
    assert served(app) == "1" and app.loader.current is not None
    five = app.loader.current.schema.decode(b'{"rows": [' + b",".join([json.dumps(ROW).encode()] * 5) + b"]}")
    return bench, (app.loader.current, five, predict(app.loader.current, five))


def test_a_full_queue_drops_and_counts_instead_of_waiting(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    metrics = Metrics()
    capture = Capture(bench.events, metrics, Recording(share=1.0), max_queued=12)
    assert all((capture.offer(version, five, scored, None) or [None]) + (capture.offer(version, five, scored, None) or [None]))
    assert capture.offer(version, five, scored, None) is None
    two = Rows(five.schema, five.values[:2])
    assert all(capture.offer(version, two, scored, None) or [None])
    capture.start()
    capture.stop()
    assert bench.events.count(MODEL) == 12
    page = metrics.page()[0].decode()
    assert 'zebra_events_total{outcome="dropped"} 5.0' in page and 'zebra_events_total{outcome="captured"} 12.0' in page


def test_wide_texts_fill_the_queue_long_before_its_rows_do(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    asked, back = threading.Event(), threading.Event()

    def hangs() -> None:
        asked.set()
        assert back.wait(60)

    def wide(kilobytes: int) -> Rows:
        return Rows(five.schema, [(*five.values[0][:2], "x" * 1000 * kilobytes, *five.values[0][3:])])

    metrics = Metrics()
    capture = Capture(bench.events, metrics, Recording(share=1.0), reachable=hangs, flush_s=0.01, max_text=1_000_000)
    capture.start()
    capture._loop = 0  # large requests come from other threads
    assert capture.offer(version, wide(90), scored, None) and asked.wait(30)
    assert [bool(capture.offer(version, wide(90), scored, None)) for _ in range(60)] == [True] * 10 + [False] * 50
    assert capture.offer(version, five, scored, None), "what is small still fits"
    back.set()
    until(lambda: bench.events.count(MODEL) == 16)
    until(lambda: capture._queued == 0)
    assert capture.offer(version, wide(900), scored, None) and not capture.offer(version, wide(2000), scored, None)
    capture.stop()
    assert {name: tally.value for name, tally in metrics.events.items()} == {"captured": 17, "sampled_out": 0, "dropped": 51, "lost": 0}


def test_wide_texts_are_written_a_few_at_a_time(answered: tuple, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    monkeypatch.setattr(capture_module, "MAX_BATCH_TEXT", 1000)
    capture = Capture(bench.events, Metrics(), Recording(share=1.0))
    for length in (400, 400, 400, 2000, 10):
        capture.offer(version, Rows(five.schema, [(*five.values[0][:2], "x" * length, *five.values[0][3:])]), scored, None)
    sizes = []
    while batch := capture._batch():
        sizes.append(len(batch))
        for _ in batch:
            capture._queue.popleft()
    assert sizes == [2, 1, 1, 1]


def test_a_quick_models_texts_are_looked_at_only_while_nobody_writes(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    back = threading.Event()
    capture = Capture(bench.events, Metrics(), Recording(share=1.0), reachable=lambda: back.wait(60) and None)
    capture.start()  # this thread is the event loop's now

    def looked_at(requests: int) -> int:
        for _ in range(requests):
            capture.offer(version, five, scored, None)
        return capture._text

    assert looked_at(MAX_BATCH // 5) == 0 < looked_at(1) < looked_at(1)
    before = capture._text
    back.set()
    until(lambda: capture._queued == 0)
    assert before and capture._text == looked_at(1) == 0
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(looked_at, 1).result() > 0, "large requests come from other threads"
    capture.stop()


def test_what_waits_for_the_store_keeps_no_model_in_memory(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered

    class Model:
        form, quick = "stub", True

    model: Any = Model()
    gone = weakref.ref(model)
    capture = Capture(bench.events, Metrics(), Recording(share=1.0), sketches=bench.sketches)
    capture.offer(replace(version, model=model), five, scored, None)
    del model
    assert gone() is None
    capture.start()
    capture.stop()
    assert bench.events.count(MODEL) == sum(w.rows for w in bench.sketches.windows(MODEL)) == 5


def test_requests_that_come_while_events_are_written_do_not_end_the_writing(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    metrics = Metrics()
    capture = Capture(bench.events, metrics, Recording(share=1.0), flush_s=0.001)
    capture.start()
    often, done = sys.getswitchinterval(), threading.Event()
    sys.setswitchinterval(1e-6)

    def look() -> None:  # what the writer does all the time when events come all the time
        while not done.is_set():
            capture._batch()

    writer = ThreadPoolExecutor(1).submit(look)
    try:
        for _ in range(600):
            capture.offer(version, five, scored, None)
        done.set()
        writer.result()
    finally:
        done.set()
        sys.setswitchinterval(often)
        capture.stop(30)
    assert bench.events.count(MODEL) == 3000


def test_the_writer_outlives_a_fault_of_ours(answered: tuple, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    faults = [ZeroDivisionError("a fault")]

    def reachable() -> None:
        if faults:
            raise faults.pop()

    capture = Capture(bench.events, Metrics(), Recording(share=1.0), reachable=reachable, flush_s=0.01)
    capture.start()
    until(lambda: "a fault" in caplog.text)
    capture.offer(version, five, scored, None)
    until(lambda: bench.events.count(MODEL) == 5)
    capture.stop()


def test_rows_do_not_pile_up_while_the_store_takes_its_time(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    asked, back = threading.Event(), threading.Event()

    def slow() -> None:
        asked.set()
        assert back.wait(20)

    capture = Capture(bench.events, Metrics(), Recording(share=1.0), sketches=bench.sketches, reachable=slow, flush_s=0.01)
    capture.start()
    capture.offer(version, five, scored, None)
    assert asked.wait(10)
    for _ in range(3 * FOLD_AT // 5):
        capture.offer(version, five, scored, None)
    until(lambda: [w.sketched for w in capture._memory._windows.values()] == [5 + 3 * FOLD_AT // 5 * 5])
    back.set()
    capture.stop()
    assert [w.sketched for w in bench.sketches.windows(MODEL)] == [5 + 3 * FOLD_AT // 5 * 5]


def test_rows_that_nobody_folds_take_bounded_memory_and_are_counted(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, _, _) = answered
    many = version.schema.decode(b'{"rows": [' + b",".join([json.dumps(ROW).encode()] * 4096) + b"]}")
    scored = predict(version, many)
    memory = Memory(bench.sketches, Recording(share=1.0))
    memory._budget = Budget(1e9, 10**9)  # as if they came over minutes
    for _ in range(MAX_FULL + 100):
        memory.add(version, many, scored)
    assert len(memory._full) == MAX_FULL
    memory.fold()
    memory.flush()
    (window,) = bench.sketches.windows(MODEL)
    assert (window.rows, window.sketched) == ((MAX_FULL + 100) * 4096, MAX_FULL * 4096)
    memory.close()


def versions_of(version: Served, count: int) -> list[Served]:
    return [replace(version, promotion=version.promotion.model_copy(update={"version": str(i)})) for i in range(1, count + 1)]


def test_versions_that_answer_in_turn_lose_no_row_of_the_sketches(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    memory, arms, dues = Memory(bench.sketches, Recording(share=1.0)), versions_of(version, 9), 0  # a champion and eight candidates
    for i in range(9 * 300):
        if memory.add(arms[i % 9], five, scored):
            dues += 1
            memory.fold()
    assert dues == 9 * 300 * 5 // (FOLD_AT + 1), "versions share a lot, or a lot would cost as often as there are versions"
    memory.fold()
    memory.flush()
    assert {w.version: (w.rows, w.sketched) for w in bench.sketches.windows(MODEL)} == {str(i): (1500, 1500) for i in range(1, 10)}
    memory.close()


def test_versions_that_come_and_go_are_forgotten_folded_or_not(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    memory = Memory(bench.sketches, Recording(share=1.0))
    due = [memory.add(one, five, scored) for one in versions_of(version, 20 * MAX_OPEN)]
    assert any(due) and len(memory._full) <= MAX_FULL and all(len(lot) <= MAX_OPEN for lot in (memory._now, *memory._full))
    memory.fold()
    assert not memory._now and not memory._full and len(memory._windows) <= MAX_OPEN
    memory.close()


def test_a_store_that_stays_away_loses_events_audibly_and_in_bounded_time(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered

    def away() -> None:
        raise Unavailable("The store is away.")

    metrics = Metrics()
    capture = Capture(bench.events, metrics, Recording(share=1.0), reachable=away)
    capture.start()
    capture.offer(version, five, scored, None)
    capture.stop(patience_s=0.3)
    assert 'zebra_events_total{outcome="lost"} 5.0' in metrics.page()[0].decode()
    assert bench.events.count(MODEL) == 0


def test_beyond_the_limit_per_second_rows_are_sampled_out_and_every_one_is_accounted_for(answered: tuple) -> None:  # type: ignore[type-arg]
    bench, (version, five, scored) = answered
    metrics = Metrics()
    capture = Capture(bench.events, metrics, Recording(share=1.0, per_second=1.0))
    capture._budget = Budget(1.0, 12)
    ids = [capture.offer(version, five, scored, None) for _ in range(20)]
    assert [sum(map(bool, i or [])) for i in ids[:4]] == [5, 5, 2, 0]
    capture.start()
    capture.stop()
    kept = {name: tally.value for name, tally in metrics.events.items()}
    assert kept == {"captured": bench.events.count(MODEL), "sampled_out": 100 - bench.events.count(MODEL), "dropped": 0, "lost": 0}
    assert bench.events.count(MODEL) in (12, 13)
    assert {e.event_id for e in bench.events.predictions(MODEL)} == {one for some in ids for one in some or [] if one}


def test_only_the_listed_fields_are_recorded(bench: Bench) -> None:
    spec = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text() + "serving: {fields: [tenure, gender, nonsense]}\n")
    bench.promote("1")
    with bench.client("1") as client:
        client.post("/predict", json=ROW)
    [event] = bench.events.predictions(MODEL)
    assert event.features == {"tenure": 5}  # gender is listed, and sensitive all the same
    assert set(bench.sketches.windows(MODEL)[0].columns) == {"tenure"}


RECIPE = """\
schema_version: 1
name: churn
source: {connector: files, path: x.csv}
key: [customer_id, asked_on]
columns:
  customer_id: {dtype: string}
  asked_on: {dtype: date}
  tenure: {dtype: int64}
"""


def test_a_row_may_bring_its_datasets_key_which_the_event_keeps_and_the_model_never_sees(bench: Bench) -> None:
    (bench.settings.manifests_dir / "churn").mkdir()
    (bench.settings.manifests_dir / "churn" / "dataset.yaml").write_text(RECIPE)
    bench.promote("1")
    key = {"customer_id": "7590-VHVEG", "asked_on": "2026-03-01"}
    with bench.client("1") as client:
        plain = client.post("/predict", json=ROW).json()["predictions"][0]
        keyed = client.post("/predict", json={"rows": [{**ROW, **key}, {**key, **ROW, "customer_id": None}]}).json()["predictions"]
        assert {(p["prediction"], p["score"]) for p in keyed} == {(plain["prediction"], plain["score"])}
        theirs = client.post("/invocations", json={"dataframe_records": [{**ROW, **key, "more": 1}]})
        assert theirs.json() == {"predictions": [plain["prediction"]]}
        wrong = client.post("/predict", json={**ROW, "customer_id": 7590})
        assert wrong.json()["errors"] == [{"row": 0, "field": "customer_id", "expected": "string or null", "got": "7590"}]
        about = client.get("/model").json()
        shown = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert about["keys"] == ["customer_id", "asked_on"] and "customer_id" not in {c["name"] for c in about["columns"]}
    assert "asked_on" in shown["anyOf"][1]["properties"]
    features = [{k: v for k, v in e.features.items() if k in key} for e in bench.events.predictions(MODEL)]
    assert features == [{}, key, {"asked_on": "2026-03-01"}, key]
    assert "customer_id" not in bench.sketches.windows(MODEL)[0].columns


def test_a_recipe_that_cannot_be_read_costs_the_key_and_not_the_server(bench: Bench) -> None:
    (bench.settings.manifests_dir / "churn").mkdir()
    (bench.settings.manifests_dir / "churn" / "dataset.yaml").write_text("name: [")
    bench.promote("1")
    with bench.client("1") as client:
        assert client.post("/predict", json=ROW).status_code == 200
        assert client.post("/predict", json={**ROW, "customer_id": "x"}).status_code == 422
