"""Many models in one server: each door reaches each of them, by name."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.serving.conftest import MODEL, ROW, SPEC, Bench, Shelf, make_bench, until
from zebra_assets.settings import Settings
from zebra_serving.app import App
from zebra_serving.staging import Staging

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
    with bench.running(bench.app(OTHER)) as client:
        until(lambda: client.get("/ready").status_code == 200)
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


@pytest.fixture
def fleet(bench: Bench) -> Callable[..., App]:
    """A server of ``churn`` and three more, each with a version of its own, and a budget in bytes."""
    for name in join(bench, *NAMES) or NAMES:
        bench.promote(str(1 + NAMES.index(name)), model=name)
    bench.promote("1")

    def make(memory_bytes: int | None = None, **more: object) -> App:
        settings = Settings(**{**bench.settings.model_dump(), "serving_memory_bytes": memory_bytes, **more})
        return Bench(settings, bench.shelf).app(*NAMES)

    return make


NAMES = ("churn-at", "churn-be", "churn-ch")


def ask(client: httpx.Client, model: str, **more: Any) -> httpx.Response:
    return client.post(f"/models/{model}/predict", json=ROW, **more)


def test_a_model_sleeps_until_it_is_asked_and_requests_that_come_together_load_it_once(bench: Bench, fleet: Callable[..., App]) -> None:
    app = fleet()
    with bench.running(app) as client:
        asleep = client.get("/models/churn-at/ready")
        assert asleep.status_code == 503 and "first request" in asleep.json()["error"]
        assert client.get("/models/churn-at").json()["version"] is None
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: ask(client, "churn-at"), range(16)))
        assert {a.status_code for a in answers} == {200} and {a.json()["model"] for a in answers} == {"churn-at"}
        about = client.get("/models/churn-at").json()
        page = client.get("/metrics").text
        assert client.get("/models/churn-at/ready").json()["version"] == "1" and about["memory_bytes"] > 0
    assert [one.asleep for one in app.fleet] == [False, False, True, True]
    assert 'zebra_reloads_total{model="churn-at"} 1.0' in page and 'zebra_rows_total{model="churn-at"} 16.0' in page
    assert 'zebra_requests_total{route="/models/churn-at/predict",status="200"} 16.0' in page
    assert bench.events.count("churn-at") == 16 and bench.events.count(MODEL) == 0


def test_v2_clients_that_ask_first_whether_a_model_is_ready_wake_it(bench: Bench, fleet: Callable[..., App]) -> None:
    with bench.running(fleet()) as client:
        assert client.get("/v2/models/churn-be/ready").status_code == 200
        assert client.get("/models/churn-be/ready").json()["version"] == "2"


def test_whoever_will_not_wait_for_the_load_is_told_when_to_return(bench: Bench, fleet: Callable[..., App], monkeypatch: Any) -> None:
    app = fleet()
    go = threading.Event()
    prepare = Staging.prepare
    monkeypatch.setattr(Staging, "prepare", lambda self, head: (head.model == MODEL or go.wait(20)) and prepare(self, head))
    with bench.running(app) as client:
        refused = ask(client, "churn-at", headers={"x-timeout-ms": "50"})
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        go.set()
        assert ask(client, "churn-at").status_code == 200


def test_a_model_without_a_version_says_what_to_do(bench: Bench) -> None:
    join(bench, OTHER)
    bench.promote("1")
    with bench.running(bench.app(OTHER)) as client:
        for _ in range(2):
            answer = ask(client, OTHER)
            assert answer.status_code == 503 and answer.json()["fix"] == f"mlops promote {OTHER} --to prod"


def test_beyond_the_budget_the_model_asked_longest_ago_goes_and_comes_back_when_asked(bench: Bench, fleet: Callable[..., App]) -> None:
    app = fleet(1)  # no model fits beside the default one
    with bench.running(app) as client:
        for name in ("churn-at", "churn-be", "churn-at", "churn-ch"):
            assert ask(client, name).json()["version"] == str(1 + NAMES.index(name))
            until(lambda name=name: client.get(f"/models/{name}/ready").status_code == 503 or not app.fleet[name].asleep)
        assert client.post("/predict", json=ROW).json()["model"] == MODEL
        page = client.get("/metrics").text
    assert sum(not one.asleep for one in app.fleet) <= 2 and not app.fleet.default.asleep
    assert 'zebra_reloads_total{model="churn-at"} 2.0' in page and 'zebra_evictions_total{model="churn-be"} 1.0' in page
    assert {name: bench.events.count(name) for name in NAMES} == {"churn-at": 2, "churn-be": 1, "churn-ch": 1}


def test_the_version_kept_for_a_rollback_goes_before_a_model_does(bench: Bench, fleet: Callable[..., App]) -> None:
    app = fleet(10**12)
    with bench.running(app) as client:
        assert ask(client, "churn-at").status_code == 200
        bench.promote("2")
        until(lambda: client.get("/model").json()["previous_version"] == "1")
        bench.promote("3", model="churn-at")
        until(lambda: client.get("/models/churn-at").json()["previous_version"] == "1")
        app.fleet._memory_bytes = app.fleet.weight - 1
        # Back to the one that was kept: what is in memory stays the same, whatever a version was found to weigh.
        bench.promote("1", model="churn-at")
        until(lambda: client.get("/model").json()["previous_version"] is None)
        until(lambda: client.get("/models/churn-at").json()["version"] == "1")
        assert client.get("/models/churn-at").json()["previous_version"] == "3"
    assert not app.fleet["churn-at"].asleep


def test_a_model_with_a_request_under_way_stays_until_it_has_answered(bench: Bench, fleet: Callable[..., App], monkeypatch: Any) -> None:
    monkeypatch.setattr("zebra_serving.fleet.LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr("zebra_serving.dataplane.INLINE_BYTES", 0)  # so that requests go to a thread
    app = fleet(1)
    go = threading.Event()
    with bench.running(app) as client, ThreadPoolExecutor(1) as pool:
        assert ask(client, "churn-at").status_code == 200
        app.fleet.make_room()  # asleep by now, or at once
        held = app.fleet["churn-at"]
        offer = held.capture.offer
        monkeypatch.setattr(held.capture, "offer", lambda *a: go.wait(20) and offer(*a))
        under_way = pool.submit(ask, client, "churn-at")
        until(lambda: held.plane.waiting)
        assert ask(client, "churn-be").status_code == 200
        assert not held.asleep and held.loader.current is not None
        go.set()
        assert under_way.result().json()["version"] == "1"
        until(lambda: held.asleep)
