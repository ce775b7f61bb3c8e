"""Production becomes data: predictions of a window and the labels known by its end are rows to train on."""

import csv
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import sqlalchemy as sa
import uvicorn
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from tests.adapters.conftest import any_url as any_url
from tests.adapters.conftest import url as url
from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, people, plain, recipe
from zebra_assets.adapters.event_store import SqlEvents
from zebra_assets.cli.init import write_project
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.events import Event, IncidentEvent, LabelEvent, PredictionEvent
from zebra_assets.control import labels, operations
from zebra_assets.datasets.connectors._state_database import Database
from zebra_assets.datasets.ingest import revision_of
from zebra_assets.errors import DataInvalid, NotFound, SpecInvalid, Unavailable
from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings
from zebra_serving.app import create_app
from zebra_serving.endpoint import bind, url_of

T0 = datetime(2026, 3, 1, tzinfo=UTC)
LIVE = {"event_id": {"dtype": "string"}, "x": {"dtype": "float64"}, "truth": {"dtype": "string", "nullable": True}}


def prediction(i: int, at: datetime = T0, version: str = "1", model: str = "churn", **features: Any) -> PredictionEvent:
    return PredictionEvent(
        event_id=f"event-{i:05d}", ts=at, model=model, version=version, manifest_id="churn-0123456789abcdef",
        request_id=f"request-{i}", features=features or {"x": i / 4}, prediction="yes", score=0.5,
    )  # fmt: skip


def label(i: int, said: Any, at: datetime = T0, name: str = "") -> LabelEvent:
    return LabelEvent(event_id=f"label-{i:05d}-{name or said}", ts=at, model="churn", prediction_event_id=f"event-{i:05d}", label=said)


def live(url: str | None = None, **parameters: Any) -> DatasetSpec:
    """A recipe over events; all rows in train, whatever their number."""
    source = {"connector": "events", "url": url, "parameters": {"model": "churn", "label": "truth"} | parameters}
    return recipe(source=source, columns=LIVE, key=["event_id"], label=None, splits={"fractions": {"train": 1.0}})


def read(bench: Bench, spec: DatasetSpec) -> dict[str, str | None]:
    """Event id → label, as ingested."""
    return {r["event_id"]: r["truth"] for r in bench.split(bench.ingest(spec), "train").to_pylist()}


def test_labelled_predictions_have_the_manifest_id_of_the_same_rows_in_a_csv(bench: Bench, url: str) -> None:
    table, store = people(120), SqlEvents(url)
    rows = table.to_pylist()
    facts: list[Event] = []
    for i, row in enumerate(rows):
        features = {k: plain(v) for k, v in row.items() if k not in ("id", "left")}
        facts += [prediction(i, T0 + timedelta(minutes=i), **features), label(i, row["left"], T0 + timedelta(days=2))]
    random.Random(3).shuffle(facts)  # labels before predictions, all mixed
    store.append(facts)
    store.append(facts[:50])  # a retry
    store.append([IncidentEvent(event_id="incident-1", ts=T0, model="churn", severity="info", summary="x")])
    columns = {("event_id" if k == "id" else k): v for k, v in COLUMNS.items()}
    source = {"connector": "events", "url": url, "parameters": {"model": "churn", "label": "left"}}
    changed = {"columns": columns, "key": ["event_id"]}
    done = bench.ingest(recipe(source=source, **changed))
    bench.put("rows.csv", csv_bytes(table.set_column(0, "event_id", pa.array([f"event-{i:05d}" for i in range(120)]))))
    assert bench.ingest(recipe(**changed)).manifest.id == done.manifest.id
    assert done.manifest.source.location.startswith(url.split("@")[0].split(":")[0]) and "churn" in done.manifest.source.location
    assert done.manifest.source.revision == revision_of(recipe(source=source, **changed), project=bench.folder)


def test_a_label_counts_from_when_it_was_known_and_the_latest_before_the_end_holds(bench: Bench, url: str) -> None:
    day = timedelta(days=1)
    facts: list[Event] = [prediction(i, T0) for i in range(6)]
    facts += [
        label(0, "no", T0 + day),
        label(0, "yes", T0 + 2 * day),  # corrected within the window
        label(1, "no", T0 + day),
        label(1, "yes", T0 + 3 * day),  # corrected at the very end: too late
        label(2, "yes", T0 + 3 * day),  # known too late altogether
        label(3, "yes", T0 + 2 * day + timedelta(microseconds=500_000)),
        label(3, "no", T0 + 2 * day),  # arrives later, was known half a second earlier
        label(5, "yes", T0 + day),
        label(77, "yes", T0),  # of a prediction nobody captured
    ]
    SqlEvents(url).append(facts)
    until = (T0 + 3 * day).isoformat()
    assert read(bench, live(url, until=until)) == {"event-00000": "yes", "event-00001": "no", "event-00003": "yes", "event-00005": "yes"}
    assert read(bench, live(url))["event-00001"] == "yes"
    assert read(bench, live(url, until=until, labelled=False)) == {
        "event-00000": "yes", "event-00001": "no", "event-00002": None, "event-00003": "yes", "event-00004": None, "event-00005": "yes",
    }  # fmt: skip


def test_a_window_takes_predictions_from_its_begin_up_to_but_not_at_its_end(bench: Bench, url: str) -> None:
    moments = [T0 - timedelta(microseconds=1), T0, T0 + timedelta(milliseconds=1), T0 + timedelta(seconds=9.5), T0 + timedelta(seconds=10)]
    facts: list[Event] = [prediction(i, at, version=str(i % 2 + 1)) for i, at in enumerate(moments)]
    SqlEvents(url).append([*facts, *(label(i, "yes", T0 - timedelta(days=1)) for i in range(5))])
    window = {"since": "2026-03-01", "until": "2026-03-01T01:00:10+01:00"}
    assert sorted(read(bench, live(url, **window))) == ["event-00001", "event-00002", "event-00003"]
    assert sorted(read(bench, live(url, **window, versions=["1"]))) == ["event-00002"]
    days = live(url, days=1, until="2026-03-01")
    assert sorted(read(bench, days)) == ["event-00000"]


def test_whole_days_end_at_midnight(bench: Bench, url: str) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    inside, outside = midnight - timedelta(hours=1), midnight + timedelta(seconds=1)
    SqlEvents(url).append([prediction(1, inside), label(1, "yes", inside), prediction(2, outside), label(2, "yes", inside)])
    assert read(bench, live(url, days=2)) == {"event-00001": "yes"}


def test_the_revision_moves_with_the_window_and_with_nothing_outside_it(bench: Bench, url: str) -> None:
    store, spec = SqlEvents(url), live(url, until="2026-03-02")
    store.append([prediction(1), label(1, "no"), prediction(2)])
    first = revision_of(spec, project=bench.folder)
    assert first is not None
    after = T0 + timedelta(days=1)
    store.append([prediction(3, after), label(3, "yes", after), label(1, "yes", after), prediction(4), label(1, "no", T0, "no")])
    assert revision_of(spec, project=bench.folder) == first
    store.append([label(1, "yes", T0 + timedelta(hours=1), "sooner")])
    assert revision_of(spec, project=bench.folder) not in (None, first)
    assert revision_of(live(url, until="2020-01-01"), project=bench.folder) is None  # an empty window is nothing to ingest
    assert revision_of(live(f"sqlite:///{bench.folder}/none.db"), project=bench.folder) is None


def test_as_many_events_in_another_database_are_another_revision(bench: Bench) -> None:
    found = set()
    for i in range(3):
        database = f"sqlite:///{bench.folder}/{i}.db"
        SqlEvents(database).append([prediction(0), prediction(10 + i), label(0, "yes"), label(10 + i, "no")])
        found.add(revision_of(live(), project=bench.folder, secrets={"ZEBRA_STATE_URL": database}))
    assert None not in found and len(found) == 3


def test_all_of_a_read_is_of_one_moment(bench: Bench, url: str) -> None:
    SqlEvents(url).append([prediction(1), label(1, "yes")])
    database = Database(url, bench.folder)
    count = sa.select(sa.func.count()).select_from(Database.events)
    with database.reading() as connection:
        assert connection.execute(count).scalar_one() == 2
        SqlEvents(url).append([prediction(2)])
        assert connection.execute(count).scalar_one() == 2
    with database.reading() as connection:
        assert connection.execute(count).scalar_one() == 3


@hypothesis(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.sampled_from(["yes", "no"])), max_size=20),
    end=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_the_order_of_arrival_makes_no_difference(bench: Bench, said: list[tuple[int, int, str]], end: int, seed: int) -> None:
    """Against the definition, spelled out: for each prediction the label with the greatest time below the end."""
    said = list({(i, at): (i, at, word) for i, at, word in said}.values())
    number = time.monotonic_ns()  # events of earlier examples stay in the database
    model = f"m{number}"
    facts: list[Event] = [prediction(i).model_copy(update={"model": model, "event_id": f"{model}-{i}"}) for i in range(4)]
    facts += [
        LabelEvent(
            event_id=f"{model}-{i}-{at}", ts=T0 + timedelta(seconds=at / 2), model=model, prediction_event_id=f"{model}-{i}", label=word
        )
        for i, at, word in said
    ]
    random.Random(seed).shuffle(facts)
    database = f"sqlite:///{bench.folder}/state.db"
    SqlEvents(database).append(facts)
    wanted = {}
    for i, at, word in sorted(said, key=lambda fact: fact[1]):
        if i < 4 and at / 2 < end:
            wanted[f"{model}-{i}"] = word
    spec = live(database, model=model, until=(T0 + timedelta(seconds=end)).isoformat())
    if wanted:
        assert read(bench, spec) == wanted
    else:
        with pytest.raises(DataInvalid):
            read(bench, spec)


def test_an_empty_window_says_what_is_missing(bench: Bench, url: str) -> None:
    store = SqlEvents(url)
    with pytest.raises(NotFound, match="no prediction was captured"):
        bench.ingest(live(url))
    store.append([prediction(1, T0 + timedelta(days=9))])
    with pytest.raises(DataInvalid, match="1 predictions and no label") as none:
        bench.ingest(live(url))
    assert none.value.fix == "mlops label churn labels.csv"
    store.append([label(1, "yes")])
    with pytest.raises(DataInvalid, match="none fall together until 2026-03-02T00:00:00Z"):
        bench.ingest(live(url, until="2026-03-02"))
    assert bench.files() == {f for f in bench.files() if f.endswith(".db")}


def test_what_the_server_never_captures_cannot_be_declared(bench: Bench, url: str) -> None:
    SqlEvents(url).append([prediction(1), label(1, "yes")])
    spec = live(url).model_copy(update={"columns": {**live().columns, "gender": live().columns["x"]}})
    with pytest.raises(DataInvalid, match="hold no 'gender'") as refused:
        bench.ingest(spec)
    assert "sensitive" in refused.value.message


def test_versions_that_knew_other_features_or_types_still_make_one_table(bench: Bench, url: str) -> None:
    SqlEvents(url).append([
        prediction(1, x=1, y="a"), prediction(2, x=2.5), prediction(3, x=1e300), prediction(4, x=7, y=None), *(label(i, True) for i in range(5)),
    ])  # fmt: skip
    columns = {
        "event_id": {"dtype": "string"},
        "x": {"dtype": "float64"},
        "y": {"dtype": "string", "nullable": True},
        "truth": {"dtype": "bool"},
    }
    spec = live(url).model_copy(update={"columns": recipe(columns=columns, key=[], label=None).columns})
    rows = bench.split(bench.ingest(spec), "train").to_pylist()
    assert [(r["x"], r["y"], r["truth"]) for r in rows] == [(1.0, "a", True), (2.5, None, True), (1e300, None, True), (7.0, None, True)]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"modle": "churn"}, "Did you mean 'model'"),
        ({"days": 3, "since": "2026-01-01"}, "both say when the window begins"),
        ({"until": "2026-01-01T00:00:00.5"}, "whole seconds"),
        ({"since": "2026-01-02", "until": "2026-01-02"}, "not before"),
        ({"model": "../x"}, "legal name"),
        ({"versions": ["one"]}, "legal model version"),
    ],
)
def test_wrong_options_are_refused(bench: Bench, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecInvalid, match=says):
        bench.ingest(live("sqlite:///x.db", **parameters))


def test_a_database_that_is_none_or_away_is_told_apart(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no state database"):
        bench.ingest(live(), ZEBRA_STATE_URL=f"sqlite:///{bench.put('empty.db', b'')}")
    with pytest.raises(NotFound, match="There is no state database"):
        bench.ingest(live())
    with pytest.raises(Unavailable) as away:
        bench.ingest(live("postgresql://zebra:${WORD}@127.0.0.1:9/state"), WORD="hunter2")
    assert "hunter2" not in str(away.value)
    with pytest.raises(SpecInvalid, match="mysql"):
        bench.ingest(live("mysql://127.0.0.1/state"))


def test_reading_events_writes_nothing(bench: Bench) -> None:
    file = bench.folder / "state.db"
    SqlEvents(f"sqlite:///{file}").append([prediction(1), label(1, "yes")])
    before = file.read_bytes()
    read(bench, live("sqlite:///state.db"))
    assert file.read_bytes() == before


# From a real server to a candidate.


@contextmanager
def serving(parts: Parts, model: str) -> Iterator[httpx.Client]:
    """The model's server behind a real socket, and a client for it."""
    app = create_app(parts.settings, model)
    with bind("127.0.0.1", 0) as sock:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            with httpx.Client(base_url=url_of(sock), timeout=30) as client:
                deadline = time.monotonic() + 60
                while not (server.started and client.get("/ready").status_code == 200):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                yield client
        finally:
            server.should_exit = True
            thread.join(30)


def test_what_was_served_and_labelled_trains_the_next_candidate(tmp_path: Path) -> None:
    """Predict over HTTP, bring labels by event id and by request id, ingest the window, train on it."""
    name, folder = "nuclei", tmp_path / "nuclei"
    write_project(folder, name, "tabular")
    parts = Parts(load_settings(folder))
    operations.ingest(parts, name)
    operations.train(parts, name)
    operations.promote(parts, name, reason="first")
    with (folder / "data" / "nuclei.csv").open() as text:
        biopsies = [{k: v if k == "diagnosis" else float(v) for k, v in row.items() if k != "sample"} for row in csv.DictReader(text)]
    asked = [{k: v for k, v in row.items() if k != "diagnosis"} for row in biopsies]
    with serving(parts, name) as client:
        many = client.post("/predict", json={"rows": asked[:400]}).json()["predictions"]
        for i in range(400, 430):
            assert client.post("/predict", json=asked[i], headers={"x-request-id": f"case-{i}"}).status_code == 200
    by_event = tmp_path / "by-event.csv"
    by_event.write_text("event_id,diagnosis\n" + "".join(f"{p['event_id']},{biopsies[i]['diagnosis']}\n" for i, p in enumerate(many)))
    by_request = tmp_path / "by-request.csv"
    by_request.write_text("request_id,label\n" + "".join(f"case-{i},{biopsies[i]['diagnosis']}\n" for i in range(400, 430)))
    assert labels.label(parts, name, by_event) == labels.Labelled(rows=400, new=400, waiting=0)
    assert labels.label(parts, name, by_request) == labels.Labelled(rows=30, new=30, waiting=0)

    first = (folder / "manifests" / name / "dataset.yaml").read_text()
    live_recipe = first.replace("name: nuclei", "name: nuclei-live", 1).replace(
        "sample: {dtype: int64, unique: true}", "event_id: {dtype: string}"
    )
    live_recipe = live_recipe.replace("key: [sample]", "key: [event_id]").replace("connector: files", "connector: events")
    live_recipe = live_recipe.replace("path: data/nuclei.csv", "parameters: {model: nuclei, label: diagnosis}")
    (folder / "manifests" / "nuclei-live").mkdir()
    (folder / "manifests" / "nuclei-live" / "dataset.yaml").write_text(live_recipe)
    done = operations.ingest(parts, "nuclei-live")
    assert done.created and done.manifest.stats.rows == 430
    assert not operations.ingest(parts, "nuclei-live").created
    pairs = {p["event_id"]: biopsies[i]["diagnosis"] for i, p in enumerate(many)}
    facts = {e.event_id: e for e in parts.events.predictions(name)}
    assert all(facts[event].features == asked[i] for i, event in enumerate(pairs))

    model = folder / "models" / name / "model.yaml"
    model.write_text(model.read_text().replace("{train: nuclei, valid: nuclei, test: nuclei}", "{train: nuclei-live, valid: nuclei-live}"))
    trained = operations.train(parts, name)
    assert trained.run.state == "finished" and trained.run.manifest_id == done.manifest.id
    assert trained.run.metrics
