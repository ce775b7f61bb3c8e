"""A candidate that hangs: its requests are the champion's in time, it goes back, and nobody else waits or remembers."""

import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.serving.conftest import MODEL, Bench, until
from tests.serving.test_routing import ask, candidate, metric, put, ramp, routed, went_back
from zebra_serving.app import App
from zebra_serving.doors import native
from zebra_serving.routing.lanes import Lanes
from zebra_serving.rows import Rows
from zebra_serving.served import Scored, Served

LANES = ["batcher", "pool"]
BRIEF = {"x-timeout-ms": "40"}
FORCE = "x-model-experiment"


class Held:
    """A model that answers when it is let; uncompiled, so that its small requests are the batcher's."""

    form = "held"

    def __init__(self, inner: Any, quick: bool, go: threading.Event | None) -> None:
        self._inner, self.quick, self._go, self.asked = inner, quick, go, 0

    def predict(self, batch: Rows) -> Scored:
        self.asked += 1
        assert self._go is None or self._go.wait(60)
        return self._inner.predict(batch)  # type: ignore[no-any-return]


def hold(served: Served | None, lane: str, go: threading.Event | None = None) -> Held:
    """Let a version answer in a thread, and not before ``go``."""
    assert served is not None
    held = Held(served.model, lane == "pool", go)
    object.__setattr__(served, "model", held)
    return held


def arm(app: App) -> Served:
    """The candidate's version."""
    return next(arm.served for arm in app.fleet.default.router.plan.arms() if arm.served)  # type: ignore[union-attr]


def lanes() -> set[threading.Thread]:
    """The threads that predict; a compiled champion needs none."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("predict")}


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Lets go whatever hangs, at the latest after the test: ask for it before the server starts."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is too large for the event loop, but for compiled models only: others' are the batcher's."""
    monkeypatch.setattr("zebra_serving.dataplane.INLINE_BYTES", 0)


@pytest.mark.parametrize(
    ("guards", "cause"),
    [({"errors": 0.05, "min_requests": 100}, "errors: failed"), ({"errors": 1.0, "p99_ms": 5, "min_requests": 6}, "latency: p99 of")],
)
def test_what_a_candidate_does_not_answer_in_time_the_champion_does_and_the_canary_goes_back(
    bench: Bench, go: threading.Event, guards: dict[str, Any], cause: str
) -> None:
    ramp(bench, **guards)
    with routed(bench) as (app, client):
        hold(arm(app), "batcher", go)
        assert {ask(client, **BRIEF) for _ in range(4)} == {"1"}
        told = went_back(client, lambda: ask(client, **BRIEF) == "1")
        assert told["reason"].startswith(cause)
        late = metric(client, "zebra_arm_errors_total", arm="candidate", version="2")
        assert late >= 6
        assert metric(client, "zebra_arm_requests_total", arm="candidate", version="2") == late
        assert metric(client, "zebra_arm_seconds_count", arm="candidate", version="2") == late
        assert metric(client, "zebra_arm_seconds_sum", arm="candidate", version="2") >= late * 0.02, "half of the patience each"
        go.set()


def test_half_of_the_patience_is_left_for_the_champion(bench: Bench, go: threading.Event) -> None:
    put(bench, candidate(bench, weight=1.0))
    with routed(bench) as (app, client):
        hold(app.loader.current, "batcher")
        hold(arm(app), "batcher", go)
        assert ask(client, **{"x-timeout-ms": "4000"}) == "1"
        go.set()


def test_a_full_queue_of_the_candidate_is_the_champions_work_too(bench: Bench, go: threading.Event) -> None:
    few = replace(bench, settings=bench.settings.model_copy(update={"serving_queue": 1}))
    put(few, candidate(few, weight=1.0))
    with routed(few) as (app, client), ThreadPoolExecutor(1) as pool:
        hold(arm(app), "batcher", go)
        first = pool.submit(ask, client)
        until(lambda: app.fleet.default.plane.waiting)
        assert {ask(client) for _ in range(5)} == {"1"}, "at once, with 30 s of patience"
        assert metric(client, "zebra_arm_errors_total", arm="candidate", version="2") == 5
        go.set()
        assert first.result() == "2"


def test_an_answer_that_comes_too_late_leaves_no_trace(bench: Bench, go: threading.Event) -> None:
    put(bench, candidate(bench, weight=1.0))
    with routed(bench) as (app, client):
        hold(arm(app), "batcher", go)
        assert ask(client, **BRIEF) == "1"
        go.set()
        until(lambda: "zebra_rows_total 2.0" in client.get("/metrics").text)  # the candidate's, too, was predicted
        until(lambda: metric(client, "zebra_events_total", outcome="sampled_out") == 1)
        assert ask(client) == "2"
    assert (bench.events.count(MODEL, version="1"), bench.events.count(MODEL, version="2")) == (1, 1)


def test_a_door_writes_nothing_for_a_version_that_was_left(bench: Bench, go: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write = list[str](), native._write

    def note(answer: Any) -> bytes:
        written.append(answer.served.promotion.version)
        return write(answer)

    monkeypatch.setattr("zebra_serving.doors.native._write", note)
    before = lanes()
    put(bench, candidate(bench, weight=1.0))
    with routed(bench) as (app, client):
        capture = app.fleet.default.capture
        offer, recorded = capture.offer, threading.Event()

        def slow(served: Served, *rest: Any) -> Any:
            assert served.promotion.version == "1" or go.wait(60)
            recorded.set() if served.promotion.version == "2" else None
            return offer(served, *rest)

        monkeypatch.setattr(capture, "offer", slow)
        hold(arm(app), "batcher")
        assert ask(client, **BRIEF) == "1"
        go.set()
        assert recorded.wait(60)
        put(bench, kind="stop")
        until(lambda: not lanes() - before)  # the lane has done whatever it would
    assert written == ["1"]


@pytest.mark.parametrize("lane", LANES)
def test_a_candidate_that_hangs_does_not_delay_an_uncompiled_champion(bench: Bench, go: threading.Event, apart: None, lane: str) -> None:
    single = replace(bench, settings=bench.settings.model_copy(update={"serving_threads": 1}))
    put(single, candidate(single, weight=0.0), force_header=FORCE)
    with routed(single) as (app, client), ThreadPoolExecutor(1) as pool:
        plane = app.fleet.default.plane
        hold(app.loader.current, lane)
        hanging = hold(arm(app), lane, go)
        asked = time.monotonic()
        first = pool.submit(ask, client, **{FORCE: "candidate"})
        until(lambda: hanging.asked)
        assert plane.used_at >= asked, "a candidate's requests keep a model from being put to sleep, too"
        assert (plane.waiting, app.fleet.default.busy) == (1, True)
        assert {ask(client, **{FORCE: "champion"}) for _ in range(5)} == {"1"}
        assert plane.waiting == 1, "it hangs still"
        go.set()
        assert first.result() == "2"
        until(lambda: plane.waiting == 0)


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_stays_with_its_candidate_and_ends_when_that_departs(bench: Bench, go: threading.Event, apart: None, lane: str) -> None:
    keeps, kept = Lanes.keep, list[set[str]]()
    before = lanes()
    put(bench, candidate(bench, weight=0.0), force_header=FORCE)
    with routed(bench) as (app, client), ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        hold(app.loader.current, lane)
        assert ask(client, **{FORCE: "champion"}) == "1"
        champions = lanes() - before
        models = [hold(arm(app), lane)]
        patch.setattr(Lanes, "keep", lambda mine, digests: kept.append({*digests}) or keeps(mine, digests))
        assert ask(client, **{FORCE: "candidate"}) == "2"
        threads = lanes() - champions - before
        assert len(threads) == 1
        until(lambda: len(kept) > 2)  # plans later
        models[0]._go = go
        last = pool.submit(ask, client, **{FORCE: "candidate"})
        until(lambda: models[0].asked == 2)
        threads, first = lanes() - champions - before, threads
        assert threads == first if lane == "batcher" else threads > first, "a pool's second thread comes with its second request"
        put(bench, kind="stop")
        until(lambda: set() in kept)
        assert app.fleet.default.plane.waiting == 1, "a request in a lane that was closed keeps the model awake still"
        assert ask(client) == "1"
        go.set()
        assert last.result() == "2", "what is with a lane when it ends is answered"
        until(lambda: not lanes() & threads)  # with no other request
        assert champions <= lanes()
        remembered = weakref.ref(models.pop())  # only a version refers to it
        until(lambda: remembered() is None)
