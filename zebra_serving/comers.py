"""How long the batcher's next call waits for the clients that the last one answered: nothing, unless they are known to come back.

Clients that ask again as soon as they are answered split into groups: while the model works for one, the others queue, and
every call answers half of what it could. Waiting for those who are on their way puts them into one call again. It is done only where

- the clients of the last calls did come back promptly, which is counted whether or not anybody waits for them; and
- waiting gathered them: where others arrive while the model works all the same, these are not groups but a stream, and the
  calls that follow wait for nobody.

A wait ends when as many are there as were answered or queued, when half of the last call's time passes without anything being
sent or received, or when one call's time has passed since the last answer was sent. A client alone is never waited with.
Used by `batching`; knows no requests, only their number.
"""

import threading
import time
from collections.abc import Callable

# Of the last call's seconds: silence that ends a wait, and the longest wait.
SILENCE, LONGEST = 0.5, 1.0
# The share of answered clients that has to come back.
TRUST = 0.75
_PACE = 0.3
# Calls that wait for nobody after a wait that was of no use.
REST = 8


class Comers:
    """Who is expected. `came` and `went` are for the event loop, the others for the worker.

    Args:
        most: requests that share a call.
        queued: how many wait for the worker.

    The two threads write plain numbers without a lock: one lost now and then makes a wait a little longer or shorter.
    """

    def __init__(self, most: int, queued: Callable[[], int]) -> None:
        self._most, self._queued = most, queued
        self._enough = threading.Event()
        self._expected = self._answered = self._back = self._rest = 0
        self._share = self._took = 0.0
        self._moved = self._until = 0.0
        self.waited = False  # the last call of `wait` did

    def came(self, moment: float) -> None:
        """A request was queued; ``moment`` is `time.perf_counter()`."""
        if moment <= self._ends():
            self._back += 1
        self._moved = moment
        if self._expected and self._queued() + 1 >= self._expected:
            self._enough.set()

    def went(self, moment: float) -> None:
        """An answer is on its way."""
        self._moved, self._until = moment, moment + LONGEST * self._took

    def wait(self) -> None:
        """Return when the worker should begin, with one request in its hands and the others in the queue."""
        self.waited = False
        while self._queued() + 1 < self._expected and (left := self._ends() - time.perf_counter()) > 0:
            self.waited = True
            self._enough.clear()
            if self._queued() + 1 < self._expected:
                self._enough.wait(left)

    def answered(self, count: int, seconds: float) -> None:
        """A call of that many requests is over, and took so long."""
        if self._answered:
            self._share += _PACE * (min(1.0, self._back / self._answered) - self._share)
        others = self._queued()
        useless = self.waited and others > count / 2
        self._rest = REST if useless else max(0, self._rest - 1)
        known = self._share >= TRUST and not self._rest
        self._expected = min(self._most, count + others) if known else 0
        self._answered, self._back, self._took = count, 0, seconds
        self._moved = time.perf_counter()
        self._until = self._moved + LONGEST * seconds

    def stop(self) -> None:
        """Wait for nobody any more."""
        self._expected = 0
        self._enough.set()

    def _ends(self) -> float:
        return min(self._moved + SILENCE * self._took, self._until)
