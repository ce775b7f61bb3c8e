"""Where a request's time goes: queue, parse, predict, capture, serialise. Read by /metrics, told by the data plane and the batcher.

    queue      wait for a turn: nothing for quick models, else for the worker, or for the thread of a large request
    parse      decode the body and check it against the model's columns
    predict    the model's call; requests answered together each waited for the whole of it
    capture    hand the rows to the events' queue and the sketches
    serialise  write the answer

Requests that are answered within the event loop take some 50 us altogether, so one in `ONE_IN` of them is timed, and counts
for as many. What goes through a queue is timed each time.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from zebra_serving.tally import Spread

ONE_IN = 16
STAGES = ("queue", "parse", "predict", "capture", "serialise")
# From a decoder's microseconds to a queue's seconds.
_SECONDS = (
    0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timed:
    """One request's seconds by stage, and when the last of them ended, in Unix nanoseconds."""

    seconds: dict[str, float]
    ended_ns: int


class Stages:
    """One histogram a stage; from any thread.

    Attributes:
        traced: ids of requests whose stages somebody waits for (`tracing`), and where they are left.
    """

    def __init__(self) -> None:
        self._spreads = {stage: Spread(_SECONDS) for stage in STAGES}
        self._lock = threading.Lock()
        self._turn = 0
        self.traced: dict[str, Timed | None] = {}

    def due(self, request_id: str | None) -> int | None:
        """As how many requests this one is timed; 0 for its trace alone, None for one that is not.

        A count that two threads lose now and then is good enough.
        """
        self._turn = turn = (self._turn + 1) % ONE_IN
        if not turn:
            return ONE_IN
        return 0 if self.traced and request_id in self.traced else None

    def saw(
        self,
        queue: float,
        parse: float,
        predict: float,
        capture: float,
        serialise: float,
        *,
        times: int = 1,
        request_id: str | None = None,
    ) -> None:
        """Count an answered request's seconds by stage, as ``times`` requests."""
        seconds = (queue, parse, predict, capture, serialise)
        if request_id is not None and request_id in self.traced:
            self.traced[request_id] = Timed(dict(zip(STAGES, seconds, strict=True)), time.time_ns())
        with self._lock:
            for spread, value in zip(self._spreads.values(), seconds, strict=True):
                spread.see(value, times)

    def read(self) -> Iterator[tuple[tuple[str], Spread]]:
        """What has been seen, for Prometheus."""
        return (((stage,), spread) for stage, spread in self._spreads.items())
