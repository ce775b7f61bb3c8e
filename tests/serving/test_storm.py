"""Versions that change and stores that go away while people ask: nobody notices.

The short forms run with every test; `-m slow` runs 600 swaps in a minute, and outages of ZEBRA_TEST_OUTAGE_S (300) seconds each.
"""

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import MODEL, ROW, Bench, rows, until
from zebra_serving.dataplane import DataPlane
from zebra_serving.served import Scored

OUTAGE_S = float(os.environ.get("ZEBRA_TEST_OUTAGE_S", "300"))


@dataclass
class Asked:
    """What a crowd was answered."""

    versions: Counter[str] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    events: set[str] = field(default_factory=set)


@contextmanager
def crowd(bench: Bench, url: str, people: int, pause_s: float = 0.0) -> Iterator[Asked]:
    """``people`` who ask about five customers each, without end, and recompute every answer with the version it names."""
    customers = rows(5)
    own = {v: bench.shelf.score(v, customers) for v in ("1", "2", "3")}
    asked, done = Asked(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not done.wait(pause_s):
                try:
                    said = client.post("/predict", json={"rows": customers}).json()
                    if [(p["prediction"], p["score"]) for p in said["predictions"]] != own[said["version"]]:
                        asked.wrong.append(said)
                    asked.versions[said["version"]] += 1
                    asked.events |= {p["event_id"] for p in said["predictions"] if p["event_id"]}
                except Exception as error:
                    asked.wrong.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("swaps", "seconds"), [pytest.param(40, None, id="short"), pytest.param(600, 60.0, marks=pytest.mark.slow)])
def test_hot_swaps_under_load_fail_no_request_and_mix_no_versions(bench: Bench, swaps: int, seconds: float | None) -> None:
    bench.promote("1")
    with bench.server(ZEBRA_RELOAD_INTERVAL_S="0.01") as (_, client):
        for version in ("2", "3", "1"):  # downloaded and compiled once; each swap below verifies, opens and tests anew
            bench.promote(version)
            until(lambda version=version: client.get("/ready").json()["version"] == version)
        with crowd(bench, str(client.base_url), 3) as asked:
            began = time.monotonic()
            for version in itertools.islice(itertools.cycle("231"), swaps):
                bench.promote(version)
                until(lambda version=version: client.get("/ready").json()["version"] == version)
            took = time.monotonic() - began
        reloads = next(line for line in client.get("/metrics").text.splitlines() if line.startswith("zebra_reloads_total"))
    assert asked.wrong == [] and set(asked.versions) == {"1", "2", "3"}
    assert reloads == f"zebra_reloads_total {swaps + 4}.0"
    assert seconds is None or took <= seconds, f"{swaps} swaps took {took:.1f} s with {asked.versions.total()} requests between"


def test_a_rollback_fetches_checks_and_loads_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        bench.promote("2")
        until(lambda: client.get("/model").json()["version"] == "2")
        assert client.get("/model").json()["previous_version"] == "1"
        monkeypatch.delattr("zebra_serving.staging.Staging.prepare")
        bench.promote("1")
        until(lambda: client.post("/predict", json=ROW).json()["version"] == "1")


def test_what_is_under_way_when_versions_change_ends_with_the_version_it_began_with(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra_serving.dataplane.INLINE_BYTES", 0)  # so that it goes to a thread
    bench.promote("1")
    app = bench.app()
    with bench.running(app) as client:
        until(lambda: app.loader.current)
        slow, answers = Held(app.loader.current.model), []  # type: ignore[union-attr]
        object.__setattr__(app.loader.current, "model", slow)
        asking = threading.Thread(target=lambda: answers.append(client.post("/predict", json=ROW).json()))
        asking.start()
        assert slow.entered.wait(20)
        bench.promote("2")
        with httpx.Client(base_url=str(client.base_url)) as other:
            until(lambda: other.get("/ready").json()["version"] == "2")
            assert other.post("/predict", json=ROW).json()["version"] == "2"
        slow.go.set()
        asking.join(20)
    assert answers[0]["version"] == "1"
    assert [(p["prediction"], p["score"]) for p in answers[0]["predictions"]] == bench.shelf.score("1", [ROW])


class Held:
    """A model that is held back until told; it computes meanwhile if ``burn`` says so."""

    form = "held"

    def __init__(self, inner: Any, quick: bool = True, burn_s: float = 0.0) -> None:
        self.inner, self.quick, self.burn_s = inner, quick, burn_s
        self.entered, self.go = threading.Event(), threading.Event()

    def predict(self, given: Any) -> Scored:
        self.entered.set()
        until = time.perf_counter() + self.burn_s
        while time.perf_counter() < until:
            sum(range(1000))
        if not self.burn_s:
            self.go.wait(20)
        return self.inner.predict(given)  # type: ignore[no-any-return]


def test_a_slow_model_that_is_overrun_does_not_starve_another_one_of_the_server(bench: Bench) -> None:
    from tests.serving.test_fleet import OTHER, join

    join(bench, OTHER)
    bench.promote("1")
    bench.promote("1", model=OTHER)
    settings = bench.settings.model_copy(update={"serving_queue": 8})
    app = Bench(settings, bench.shelf).app(OTHER)
    with bench.running(app) as client:
        assert client.post(f"/models/{OTHER}/predict", json=ROW).status_code == 200
        current = app.fleet[OTHER].loader.current
        object.__setattr__(current, "model", Held(current.model, quick=False, burn_s=0.05))  # type: ignore[union-attr]
        done, statuses = threading.Event(), Counter[int]()

        def overrun() -> None:
            with httpx.Client(base_url=str(client.base_url), timeout=30) as mine:
                while not done.is_set():
                    answer = mine.post(f"/models/{OTHER}/predict", json=ROW)
                    statuses[answer.status_code] += 1
                    assert answer.status_code == 200 or answer.headers["retry-after"] == "1"

        crowd_of_16 = [threading.Thread(target=overrun) for _ in range(16)]
        for one in crowd_of_16:
            one.start()
        took = []
        for _ in range(60):
            began = time.perf_counter()
            assert client.post("/predict", json=ROW).status_code == 200
            took.append(time.perf_counter() - began)
        done.set()
        for one in crowd_of_16:
            one.join()
    assert statuses[200] and statuses[503] and set(statuses) == {200, 503}
    assert sorted(took)[30] < 0.25, "its neighbour computes all the time, and refuses what it cannot"


def test_a_large_request_that_no_thread_takes_in_time_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra_serving.dataplane.INLINE_BYTES", 0)
    bench.promote("1")
    app = Bench(bench.settings.model_copy(update={"serving_threads": 1}), bench.shelf).app()
    with bench.running(app) as client:
        until(lambda: app.loader.current)
        held = Held(app.loader.current.model)  # type: ignore[union-attr]
        object.__setattr__(app.loader.current, "model", held)
        first: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: first.append(client.post("/predict", json=ROW)))
        asking.start()
        assert held.entered.wait(20)
        with httpx.Client(base_url=str(client.base_url)) as other:
            late = other.post("/predict", json=ROW, headers={"x-timeout-ms": "100"})
        held.go.set()
        asking.join(20)
    assert late.status_code == 503 and late.headers["retry-after"] == "1" and first[0].status_code == 200
    assert isinstance(app.fleet.default.plane, DataPlane) and app.fleet.default.plane.waiting == 0


@contextmanager
def ledger_away(bench: Bench, away: Path) -> Iterator[None]:
    bench.move_state(away)
    yield
    bench.move_state(away, back=True)


@contextmanager
def mlflow_away(bench: Bench, away: Path) -> Iterator[None]:
    """Nothing answers where MLflow's database was; a folder stands there, so that nobody makes an empty one."""
    database = Path(bench.shelf.uri.removeprefix("sqlite:///"))
    database.rename(away)
    database.mkdir()
    try:
        yield
    finally:
        database.rmdir()
        away.rename(database)


@contextmanager
def objects_away(bench: Bench, away: Path) -> Iterator[None]:
    artifacts = Path(bench.shelf.uri.removeprefix("sqlite:///")).parent / "artifacts"
    artifacts.rename(away)
    try:
        yield
    finally:
        if artifacts.exists():
            artifacts.rmdir()
        away.rename(artifacts)


@pytest.mark.parametrize("seconds", [pytest.param(2.0, id="short"), pytest.param(OUTAGE_S, marks=pytest.mark.slow, id="long")])
@pytest.mark.timeout(3 * int(OUTAGE_S) + 600)
def test_outages_of_ledger_mlflow_and_objects_fail_no_prediction_and_lose_no_event(bench: Bench, tmp_path: Path, seconds: float) -> None:
    spec = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text() + "serving: {events_per_second: null}\n")
    bench.promote("1")
    with bench.server() as (_, client), crowd(bench, str(client.base_url), 2, pause_s=0.2) as asked:
        until(lambda: asked.versions.total() > 4)
        for outage, version in ((mlflow_away, "2"), (objects_away, "3"), (ledger_away, "1")):
            serving = client.get("/ready").json()["version"]
            with outage(bench, tmp_path / "away"):
                before, others = asked.versions.total(), asked.versions.total() - asked.versions[serving]
                if outage is not ledger_away:
                    bench.promote(version)  # not to be had before the outage is over
                time.sleep(seconds)
                assert asked.versions.total() - before >= seconds * 2
                assert asked.versions.total() - asked.versions[serving] == others
            if outage is ledger_away:
                bench.promote(version)
            until(lambda version=version: client.get("/ready").json()["version"] == version, 150)
            assert client.get("/ready").json()["stale_since"] is None
        until(lambda: bench.events.count(MODEL) == len(asked.events) or None, 60)
    assert asked.wrong == [] and set(asked.versions) == {"1", "2", "3"}
