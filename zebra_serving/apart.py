"""Threads for requests that would hold up others: too large for a batch, or too long for the event loop.

Bounded in three ways: so many threads a model, so many requests that wait for one, and a deadline for each of them.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zebra_serving.batching import MAX_WAITING, late, overloaded


class Apart:
    """One model's threads, started with the first request, also with the first one after `close`.

    Args:
        workers: predictions at once.

    Attributes:
        waiting: requests that wait or are being worked on.
    """

    def __init__(self, workers: int, max_waiting: int = MAX_WAITING) -> None:
        self._workers, self._max = workers, max_waiting
        self._pool: ThreadPoolExecutor | None = None
        self.waiting = 0

    async def answer(self, work: Callable[[], bytes], patience_s: float) -> bytes:
        """What ``work`` gives, from a thread.

        Raises:
            Overloaded: too many wait already, or ``work`` was not done within ``patience_s``; not begun then, it never is.
        """
        if self.waiting >= self._max:
            raise overloaded(self.waiting)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="predict")
        deadline = time.monotonic() + patience_s

        def begin() -> bytes:
            if time.monotonic() > deadline:
                raise late(patience_s)
            return work()

        self.waiting += 1
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._pool, begin), patience_s)
        except TimeoutError:
            raise late(patience_s) from None
        finally:
            self.waiting -= 1

    def close(self, wait: bool = True) -> None:
        """Let what runs end."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait)
            self._pool = None
