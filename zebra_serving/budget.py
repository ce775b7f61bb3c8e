"""How many may pass a second: a bucket of tokens that refills. Shared by the capture, the sketches and the guard."""

import threading
import time
from collections.abc import Callable


class Budget:
    """Lets ``burst`` pass at once and ``rate`` a second after that.

    Args:
        rate: per second; None for no limit.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float | None, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._seen = burst, clock()
        self._lock = threading.Lock()

    def take(self, wanted: int, least: int = 1) -> int:
        """How many of ``wanted`` may pass now: none rather than fewer than ``least``, where so many are wanted."""
        if self._rate is None:
            return wanted
        with self._lock:
            moment = self._clock()
            self._left = min(self._burst, self._left + (moment - self._seen) * self._rate)
            self._seen = moment
            taken = min(wanted, int(self._left))
            if taken < least <= wanted:
                return 0
            self._left -= taken
        return taken
