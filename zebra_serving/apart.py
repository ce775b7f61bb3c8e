"""Threads for requests that would hold up others: too large for a batch, or too long for the event loop.

Bounded in three ways: so many threads a model, so many requests that wait for one, and a deadline for each of them. They are daemons:
the interpreter would wait without bound for those of a `ThreadPoolExecutor`, however it was shut down.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

from zebra_serving.batching import MAX_WAITING, late, overloaded

Told = bytes | BaseException


@dataclass(slots=True, eq=False)
class _Job:
    """One request on its way through a thread."""

    work: Callable[[], bytes]
    deadline: float
    future: "asyncio.Future[Told]"


class Apart:
    """One model's threads, started with the first requests, also with the first ones after `close`.

    Args:
        workers: predictions at once.

    Attributes:
        waiting: requests that wait or are being worked on.
    """

    def __init__(self, workers: int, max_waiting: int = MAX_WAITING) -> None:
        self._workers, self._max = workers, max_waiting
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.waiting = 0

    async def answer(self, work: Callable[[], bytes], patience_s: float) -> bytes:
        """What ``work`` gives, from a thread.

        Raises:
            Overloaded: too many wait already, or ``work`` was not done within ``patience_s``; not begun then, it never is.
        """
        if (waiting := max(self.waiting, self._queue.qsize())) >= self._max:  # as in `Batcher.answer`
            raise overloaded(waiting)
        if len(self._threads) < self._workers:  # one with each request until there are all
            self._threads.append(threading.Thread(target=_run, args=(self._queue,), name="predict", daemon=True))
            self._threads[-1].start()
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self.waiting += 1
        self._queue.put(_Job(work, time.monotonic() + patience_s, future))
        try:
            told = await asyncio.wait_for(future, patience_s)
        except TimeoutError:
            raise late(patience_s) from None
        finally:
            self.waiting -= 1
        if isinstance(told, bytes):
            return told
        try:
            raise told
        finally:
            del told, future  # the error holds this frame: with these it would hold itself, and what failed, the version too

    def close(self, patience_s: float = 10.0) -> None:
        """Answer what is queued, then end; wait for that, but no longer than ``patience_s``."""
        threads, queue, until = self._threads, self._queue, time.monotonic() + patience_s
        self._threads, self._queue = [], SimpleQueue()
        for _ in threads:
            queue.put(None)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _run(queue: "SimpleQueue[_Job | None]") -> None:
    while (job := queue.get()) is not None:
        _do(job)
        job = None  # while it waits, this thread keeps no version in memory


def _do(job: _Job) -> None:
    future = job.future
    if future.cancelled() or time.monotonic() > job.deadline:
        return  # whoever asked has gone
    try:
        told: Told = job.work()
    except BaseException as error:  # one that would end this thread, too: whoever asked is told
        told = error
    with suppress(RuntimeError):  # the loop has ended, and with it whoever asked
        future.get_loop().call_soon_threadsafe(_settle, future, told)
    del job, future, told  # as in `answer`


def _settle(future: "asyncio.Future[Told]", told: Told) -> None:
    if not future.done():
        future.set_result(told)
