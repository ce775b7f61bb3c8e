"""Large requests in threads of their own: they hold up nobody, neither while the server runs nor when it ends."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.serving.conftest import MODEL, REPO, ROW, Bench, until
from zebra_serving import deployment as deployment_module
from zebra_serving.answer import predict
from zebra_serving.apart import Apart
from zebra_serving.problems import Overloaded


class Work:
    """Begins, waits until told, and answers."""

    def __init__(self) -> None:
        self.begun, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> bytes:
        self.begun.set()
        assert self.go.wait(60)
        self.done.set()
        return b"done"


async def asked(apart: Apart, work: Callable[[], bytes], patience_s: float = 60.0) -> Any:
    try:
        return await apart.answer(work, patience_s)
    except Exception as error:
        return error


async def begun(work: Work) -> None:
    while not work.begun.is_set():
        await asyncio.sleep(0.005)


def test_as_many_as_there_are_threads_are_worked_on_at_once_and_the_next_one_waits_its_turn() -> None:
    async def run() -> list[Any]:
        apart, works = Apart(2), [Work() for _ in range(3)]
        tasks = [asyncio.ensure_future(asked(apart, work)) for work in works]
        await begun(works[0])
        await begun(works[1])
        await asyncio.sleep(0)
        assert not works[2].begun.is_set() and apart.waiting == 3
        works[1].go.set()
        await begun(works[2])
        for work in works:
            work.go.set()
        found = await asyncio.gather(*tasks)
        assert apart.waiting == 0
        apart.close()
        return found

    assert asyncio.run(run()) == [b"done"] * 3


def test_an_error_is_the_answer_and_who_has_gone_is_not_worked_for() -> None:
    async def run() -> list[Any]:
        apart, first, late, left = Apart(1, max_waiting=3), Work(), Work(), Work()
        tasks = [asyncio.ensure_future(asked(apart, first))]
        await begun(first)
        tasks.append(asyncio.ensure_future(asked(apart, late, patience_s=0.01)))
        gone = asyncio.ensure_future(asked(apart, left))
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(asked(apart, first)))  # one too many
        await tasks[1]
        gone.cancel()
        await asyncio.wait([gone])
        first.go.set()
        found = await asyncio.gather(*tasks)
        found.append(await asked(apart, lambda: bytes(1 // 0)))
        apart.close()
        assert not late.begun.is_set() and not left.begun.is_set()
        return found

    done, late, full, wrong = asyncio.run(run())
    assert done == b"done" and isinstance(late, Overloaded) and isinstance(full, Overloaded) and isinstance(wrong, ZeroDivisionError)


def test_work_that_nobody_waits_for_any_more_piles_up_to_a_bound() -> None:
    async def run() -> list[Any]:
        apart, stuck = Apart(1, max_waiting=3), Work()
        first = asyncio.ensure_future(asked(apart, stuck))
        await begun(stuck)
        found = [await asked(apart, lambda: b"late", patience_s=0.01) for _ in range(7)]
        assert apart._queue.qsize() == 3
        stuck.go.set()
        found.append(await first)
        while apart._queue.qsize():
            await asyncio.sleep(0.005)
        found.append(await asked(apart, lambda: b"on time"))
        apart.close()
        return found

    *found, first, last = asyncio.run(run())
    assert all("3 requests are waiting" in str(f) for f in found[3:]) and (first, last) == (b"done", b"on time")


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_kept_of_a_request_that_is_over(fails: bool) -> None:
    async def run() -> None:
        apart, work = Apart(1), Work()
        gone = weakref.ref(work)
        work.go.set()

        def call(work: Work = work) -> bytes:
            if fails:
                raise LookupError
            return work()

        with suppress(LookupError):
            await apart.answer(call, 60.0)
        del work, call
        gc.disable()  # what holds itself would go with the next collection, which a server puts off
        try:
            until(lambda: gone() is None, 20)
        finally:
            gc.enable()
            apart.close()

    asyncio.run(run())


def test_closing_answers_what_waits_but_is_not_held_up_by_what_never_ends() -> None:
    async def run() -> None:
        apart, stuck, quick = Apart(2), Work(), Work()
        task = asyncio.ensure_future(asked(apart, stuck))
        await begun(stuck)
        queued = [asyncio.ensure_future(asked(apart, lambda: b"in time")) for _ in range(3)]
        await asyncio.sleep(0)
        apart.close(0.05)
        assert not stuck.done.is_set()
        assert await asyncio.gather(*queued) == [b"in time"] * 3
        quick.go.set()
        assert await asked(apart, quick) == b"done", "the next request starts new threads"
        stuck.go.set()
        assert await task == b"done"
        apart.close()

    asyncio.run(run())


def test_a_process_ends_whatever_a_prediction_does() -> None:
    code = (
        "import asyncio, threading\n"
        "from zebra_serving.apart import Apart\n"
        "async def run():\n"
        "    apart, begun = Apart(1), threading.Event()\n"
        "    asking = asyncio.ensure_future(apart.answer(lambda: (begun.set(), threading.Event().wait()), 60))\n"
        "    while not begun.is_set(): await asyncio.sleep(0.005)\n"
        "    apart.close(0.01)\n"
        "asyncio.run(run())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPO, timeout=60, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_was_captured_is_written_before_a_prediction_that_hangs_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_module, "CLOSE_S", 0.01)
    bench.promote("1")
    app = bench.app(MODEL + "-eu")
    go, ended = threading.Event(), []

    def hangs() -> None:
        go.wait(60)
        ended.append("the plane")

    for deployment in app.fleet:
        bench.promote("1", model=deployment.model) if deployment.model != MODEL else None
        deployment.loader.poll()
        deployment.plane.close = hangs  # type: ignore[method-assign,assignment]
        deployment.capture.start()
        deployment._capturing = True
    served = app.loader.current
    assert served is not None
    one = served.schema.convert([ROW])
    app.capture.offer(served, one, predict(served, one), None)
    app.fleet.stop()
    assert bench.events.count(MODEL) == 1 and not ended
    assert app.capture.offer(served, one, predict(served, one), None) is None
    assert {name: tally.value for name, tally in app.metrics.events.items()} == {"captured": 1, "sampled_out": 0, "dropped": 1, "lost": 0}
    go.set()
