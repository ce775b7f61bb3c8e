"""One queue and one worker for models that cost more than a millisecond: while it works, requests gather; then it takes them all.

A call answers as many as have arrived, because a DataFrame of 16 rows costs hardly more than one of 1; a lone request starts at
once. Clients that were answered together tend to come back together (`Comers`), and the next call waits a moment for them. The
queue is bounded and every request has a deadline; both end in a 503 that says when to return.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from zebra_serving.answer import Answer, predict
from zebra_serving.capture import Capture
from zebra_serving.comers import Comers
from zebra_serving.metrics import Metrics
from zebra_serving.problems import Overloaded
from zebra_serving.refusals import MAX_ROWS
from zebra_serving.rows import Columns, Rows
from zebra_serving.served import Served

MAX_WAITING = 256
MAX_TOGETHER = 64


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the worker."""

    served: Served
    read: Callable[[Served], Rows]
    write: Callable[[Answer], bytes]
    request_id: str | None
    deadline: float
    future: "asyncio.Future[bytes]"
    arrived: float = field(default_factory=time.perf_counter)
    queued_s: float = 0.0
    parse_s: float = 0.0
    rows: Rows | None = field(default=None)
    answer: bytes | Exception | None = field(default=None)


class Batcher:
    """The queue and its worker, which is started with the first request, also with the first one after `close`.

    Attributes:
        waiting: requests in the queue or with the worker.
    """

    def __init__(self, capture: Capture, metrics: Metrics, max_waiting: int = MAX_WAITING) -> None:
        self._capture, self._metrics, self._max = capture, metrics, max_waiting
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.waiting = 0
        self.comers = Comers(MAX_TOGETHER, self._queue.qsize)
        self._thread: threading.Thread | None = None

    async def answer(
        self, served: Served, read: Callable[[Served], Rows], write: Callable[[Answer], bytes], request_id: str | None, patience_s: float
    ) -> bytes:
        """Wait for the worker's answer.

        Raises:
            Overloaded: too many wait already, or this one waited longer than ``patience_s``.
        """
        # Who has gone waits no more, but its place in the queue, and its body, go when the worker gets there: never, of a model that hangs.
        if (waiting := max(self.waiting, self._queue.qsize())) >= self._max:
            raise overloaded(waiting)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="predict", daemon=True)
            self._thread.start()
        job = Job(served, read, write, request_id, time.monotonic() + patience_s, asyncio.get_running_loop().create_future())
        self.waiting += 1
        self._queue.put(job)
        self.comers.came(job.arrived)
        try:
            return await asyncio.wait_for(job.future, patience_s)
        except TimeoutError:
            raise late(patience_s) from None
        finally:
            self.waiting -= 1
            self.comers.went(time.perf_counter())

    def close(self, patience_s: float = 10.0) -> None:
        """Answer what is queued, then end; wait for that, but no longer than ``patience_s``."""
        if self._thread is not None:
            self._queue.put(None)
            self.comers.stop()
            self._thread.join(patience_s)
            self._thread = None

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            self.comers.wait()
            jobs: list[Job] = [job]
            following: Job | None = None
            ending = False
            while len(jobs) < MAX_TOGETHER:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ending = True
                    break
                jobs.append(following)
            began = time.perf_counter()
            self._work(jobs)
            self.comers.answered(len(jobs), time.perf_counter() - began)  # who asks again after the answer is not counted twice
            _send(jobs)
            job = following = None  # while it waits, this thread keeps no version in memory
            jobs = []
            if ending:
                return

    def _work(self, jobs: list[Job]) -> None:
        for job in jobs:
            if time.monotonic() > job.deadline or job.future.cancelled():
                job.answer = late(0.0)
                continue
            try:
                began = time.perf_counter()
                job.queued_s = began - job.arrived
                job.rows = job.read(job.served)
                job.parse_s = time.perf_counter() - began
            except Exception as error:
                job.answer = error
        for together in _groups([job for job in jobs if job.rows is not None]):
            self._predict(together)

    def _predict(self, jobs: list[Job]) -> None:
        """Predict the rows of ``jobs`` with one call; when that fails, each alone, so that nobody pays for another's rows."""
        served, began = jobs[0].served, time.perf_counter()
        try:
            scored = predict(served, _together([job.rows for job in jobs if job.rows is not None]))
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer = error
            else:
                for job in jobs:
                    self._predict([job])
            return
        predict_s = time.perf_counter() - began
        self._metrics.batch.observe(len(jobs))
        at = 0
        for job in jobs:
            assert job.rows is not None
            mine = slice(at, at + len(job.rows))
            at = mine.stop
            part = scored if len(jobs) == 1 else scored.part(mine)
            try:
                self._metrics.rows.inc(len(job.rows))
                predicted = time.perf_counter()
                answer = Answer(served, part, self._capture.offer(served, job.rows, part, job.request_id))
                captured = time.perf_counter()
                job.answer = job.write(answer)
                written = time.perf_counter() - captured
                self._metrics.stages.saw(job.queued_s, job.parse_s, predict_s, captured - predicted, written, request_id=job.request_id)
            except Exception as error:
                job.answer = error


def _together(parts: list[Rows]) -> Rows:
    return parts[0] if len(parts) == 1 else Rows(parts[0].schema, [row for part in parts for row in part.values])


def _groups(jobs: list[Job]) -> list[list[Job]]:
    """Neighbours that may share a call: the same version, and no more rows than one request may bring; columns gain nothing from it."""
    groups: list[list[Job]] = []
    count = 0
    for job in jobs:
        size = len(job.rows or ())
        bulk = isinstance(job.rows, Columns) or (groups and isinstance(groups[-1][0].rows, Columns))
        if groups and groups[-1][0].served is job.served and count + size <= MAX_ROWS and not bulk:
            groups[-1].append(job)
            count += size
        else:
            groups.append([job])
            count = size
    return groups


def _send(jobs: list[Job]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it whoever asked
        jobs[0].future.get_loop().call_soon_threadsafe(_settle, jobs)


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if isinstance(job.answer, bytes):
            job.future.set_result(job.answer)
        else:
            job.future.set_exception(job.answer or late(0.0))


def overloaded(waiting: int) -> Overloaded:
    """Too many wait already."""
    return Overloaded(f"{waiting} requests are waiting already.", fix="ask again in a second, or more slowly")


def late(patience_s: float) -> Overloaded:
    """It took too long; 0 for somebody who has gone anyway."""
    waited = f" within {patience_s:g} s" if patience_s else " in time"
    return Overloaded(f"The model could not answer{waited}.", fix="ask again in a second, or more slowly")
