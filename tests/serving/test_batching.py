"""Slow models: requests that wait share a call, nobody pays for another's rows, and a full queue says so."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.serving.conftest import Bench, rows
from zebra_serving.batching import Batcher
from zebra_serving.capture import Capture
from zebra_serving.comers import Comers
from zebra_serving.metrics import Metrics
from zebra_serving.problems import InputInvalid, Overloaded
from zebra_serving.rows import Rows
from zebra_serving.served import Scored, Served


class Slow:
    """The version's own model, held back until told; it notes how many rows each call had."""

    form, quick = "slow", False

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls, self.go, self.seconds = inner, list[int](), threading.Event(), 0.0

    def predict(self, given: Rows) -> Scored:
        self.calls.append(len(given))
        self.go.wait(20)
        time.sleep(self.seconds)
        if any(row[0] == 13 for row in given.values):
            raise ValueError("13 is unlucky")
        found: Scored = self.inner.predict(given)
        return found


@pytest.fixture
def parts(bench: Bench) -> tuple[Served, Slow, Batcher, Metrics]:
    from dataclasses import replace

    bench.promote("1")
    app = bench.app()
    app.loader.poll()
    assert app.loader.current is not None
    slow, metrics = Slow(app.loader.current.model), Metrics()
    return replace(app.loader.current, model=slow), slow, Batcher(Capture(bench.events, metrics), metrics), metrics


def reader(served: Served, tenure: int) -> Callable[[Served], Rows]:
    return lambda _: Rows(served.schema, [(tenure, *list(rows(1)[0].values())[1:])])


async def ask(batcher: Batcher, served: Served, tenure: int, patience_s: float = 20.0) -> Any:
    try:
        return await batcher.answer(served, reader(served, tenure), lambda a: repr(a.scored).encode(), None, patience_s)
    except Exception as error:
        return error


async def gathered(slow: Slow, *asked: Any) -> list[Any]:
    """Start ``asked``, let the first one into the model, then let go."""
    tasks = [asyncio.ensure_future(asked[0])]
    while not slow.calls:
        await asyncio.sleep(0.005)
    tasks += [asyncio.ensure_future(a) for a in asked[1:]]
    await asyncio.sleep(0.05)
    slow.go.set()
    return list(await asyncio.gather(*tasks))


def test_what_waits_while_the_model_is_busy_shares_one_call_and_each_gets_its_own_answer(parts: Any) -> None:
    served, slow, batcher, metrics = parts
    found = asyncio.run(gathered(slow, *(ask(batcher, served, t) for t in (1, 40, 2, 50))))
    assert slow.calls == [1, 3]
    alone = [repr(slow.inner.predict(reader(served, t)(served))).split("scores")[0] for t in (1, 40, 2, 50)]
    assert [f.decode().split("scores")[0] for f in found] == alone and len(set(alone)) > 1
    assert 'zebra_batch_requests_bucket{le="1.0"} 1.0' in metrics.page()[0].decode()


def test_a_lone_request_waits_for_nobody(parts: Any) -> None:
    served, slow, batcher, _ = parts
    slow.go.set()
    slow.seconds = 0.3
    asyncio.run(ask(batcher, served, 1))
    asyncio.run(ask(batcher, served, 2))
    assert not batcher.comers.waited and slow.calls == [1, 1]


async def asking_again(batcher: Batcher, served: Served, clients: int, times: int) -> None:
    async def one(tenure: int) -> None:
        await asyncio.sleep(0.01 * (tenure % 2))  # two groups
        for _ in range(times):
            await asyncio.sleep(0.001)  # on the wire
            assert isinstance(await ask(batcher, served, tenure), bytes)

    await asyncio.gather(*(one(t) for t in range(clients)))


def test_clients_that_come_back_at_once_end_up_in_one_call_instead_of_two_groups(parts: Any) -> None:
    served, slow, batcher, _ = parts
    slow.go.set()
    slow.seconds = 0.02
    asyncio.run(asking_again(batcher, served, 6, 30))
    late = slow.calls[len(slow.calls) // 2 : -2]
    assert sum(late) / len(late) > 5, slow.calls  # 3 without waiting


def test_a_client_that_is_left_alone_waits_for_nobody_but_once(parts: Any) -> None:
    served, slow, batcher, _ = parts
    slow.go.set()
    slow.seconds = 0.02

    async def leaving() -> list[bool]:
        await asking_again(batcher, served, 6, 20)
        waits = []
        for _ in range(5):
            await ask(batcher, served, 1)
            waits.append(batcher.comers.waited)
        return waits

    assert asyncio.run(leaving())[1:] == [False] * 4


def waited(comers: Comers) -> bool:
    comers.wait()
    return comers.waited


def test_clients_are_waited_for_only_where_they_come_back_at_once() -> None:
    took = {}
    for pause in (0.0, 1.4):
        comers = Comers(64, lambda: 0)
        for _ in range(10):
            comers.answered(2, 2.0)
            comers.came(time.perf_counter() + pause)
            comers.came(time.perf_counter() + pause)
        comers.answered(2, 2.0)
        took[pause] = waited(comers)
    assert took == {0.0: True, 1.4: False}


def test_nobody_waits_any_more_where_waiting_gathered_nobody() -> None:
    queued = 0
    comers = Comers(64, lambda: queued)
    for _ in range(10):
        queued = 0
        comers.answered(2, 2.0)
        comers.came(time.perf_counter())
        comers.came(time.perf_counter())
    assert waited(comers)
    queued = 2  # others came meanwhile all the same
    comers.answered(2, 2.0)
    queued = 0
    assert not waited(comers)


def test_one_requests_bad_row_fails_that_request_only(parts: Any) -> None:
    served, slow, batcher, _ = parts
    found = asyncio.run(gathered(slow, *(ask(batcher, served, t) for t in (1, 2, 13, 3))))
    assert isinstance(found[2], InputInvalid) and all(isinstance(f, bytes) for f in (found[0], found[1], found[3]))


def test_a_full_queue_refuses_at_once_and_says_when_to_return(parts: Any, bench: Bench) -> None:
    served, slow, _, metrics = parts
    batcher = Batcher(Capture(bench.events, metrics), metrics, max_waiting=3)
    found = asyncio.run(gathered(slow, *(ask(batcher, served, t) for t in range(5))))
    refused = [f for f in found if isinstance(f, Overloaded)]
    assert len(refused) == 2 and refused[0].retry_after_s == 1 and sum(slow.calls) == 3


def test_a_request_that_waited_too_long_is_refused_and_not_predicted(parts: Any) -> None:
    served, slow, batcher, _ = parts
    found = asyncio.run(gathered(slow, ask(batcher, served, 1), ask(batcher, served, 2, patience_s=0.02)))
    assert isinstance(found[0], bytes) and isinstance(found[1], Overloaded)
    time.sleep(0.1)
    assert sum(slow.calls) == 1


def test_requests_to_a_model_that_hangs_pile_up_to_a_bound_though_nobody_waits_for_them_any_more(parts: Any, bench: Bench) -> None:
    served, slow, _, metrics = parts
    batcher = Batcher(Capture(bench.events, metrics), metrics, max_waiting=3)

    async def run() -> list[Any]:
        first = asyncio.ensure_future(ask(batcher, served, 0))
        while not slow.calls:
            await asyncio.sleep(0.005)
        found = [await ask(batcher, served, t, patience_s=0.01) for t in range(1, 8)]
        assert batcher._queue.qsize() == 3
        slow.go.set()
        found.append(await first)
        while batcher._queue.qsize():
            await asyncio.sleep(0.005)
        return [*found, await ask(batcher, served, 9)]

    *found, first, last = asyncio.run(run())
    assert [str(f) for f in found if isinstance(f, Overloaded) and "3 requests are waiting" in str(f)] == [str(f) for f in found[3:]]
    assert isinstance(first, bytes) and isinstance(last, bytes)


def test_a_slow_model_behind_the_server_answers_sixteen_at_once_and_swaps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from tests.serving.conftest import ROW

    monkeypatch.setattr("sys.executable", "/bin/false")  # no compiler: the plain form
    bench.settings.home.joinpath("serving", "compiled").unlink()
    bench.promote("1")
    with bench.client("1") as client:
        assert client.get("/model").json()["form"] == "scikit-learn"
        with ThreadPoolExecutor(16) as pool:
            first = list(pool.map(lambda _: client.post("/predict", json=ROW), range(64)))
            bench.promote("2")
            second = list(pool.map(lambda _: client.post("/predict", json=ROW), range(256)))
    assert {a.status_code for a in first + second} == {200}
    own = {v: bench.shelf.score(v, [ROW]) for v in ("1", "2")}
    for answer in first + second:
        told = answer.json()
        assert [(p["prediction"], p["score"]) for p in told["predictions"]] == own[told["version"]]
