"""Lanes: every candidate answers in threads of its own, so that one that hangs holds up nobody else.

    a candidate's request ──> its lane: a plain `DataPlane` (queue, batcher's thread, pool), kept from plan to plan by the digest
                                └ too late: the champion answers, and what the lane still finds is neither told nor recorded

A lane holds no version, and its threads start with the first request that needs them. Everything here runs in the event loop but the
end, which somebody else waits for; the router, which draws up plans in a thread of its own, only says there that lanes should be looked
through (`keep`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import cast

from zebra_serving.answer import Answer
from zebra_serving.batching import late
from zebra_serving.capture import Capture
from zebra_serving.dataplane import DataPlane, Headers
from zebra_serving.metrics import Metrics
from zebra_serving.rows import Rows
from zebra_serving.served import Scored, Served


class _Recorded:
    """The capture as a lane sees it: what nobody waits for any more is no prediction. Its lot would count in the verdict."""

    def __init__(self, capture: Capture, metrics: Metrics) -> None:
        self._capture, self._unrecorded = capture, metrics.events["sampled_out"]

    def offer(self, served: Served, rows: Rows, scored: Scored, request_id: str | None) -> list[str | None] | None:
        if getattr(request_id, "left", False):  # see `plane.RoutedId`
            self._unrecorded.inc(len(rows))  # so that recorded and unrecorded are all rows predicted
            raise late(0.0)
        return self._capture.offer(served, rows, scored, request_id)


class Lanes:
    """The candidates' planes. The arguments are `DataPlane`'s; each lane has as many threads and places.

    Attributes:
        waiting: requests that are with a lane, also with one that was closed meanwhile.
    """

    def __init__(
        self,
        choose: Callable[[Headers], Served | None],
        absent: Callable[[Headers, float], Awaitable[Served]],
        capture: Capture,
        metrics: Metrics,
        *,
        workers: int,
        max_waiting: int,
    ) -> None:
        recorded = cast(Capture, _Recorded(capture, metrics))
        self._make = partial(DataPlane, choose, absent, recorded, metrics, workers=workers, max_waiting=max_waiting)
        self._lanes: dict[str, DataPlane] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.waiting = 0

    async def answer(
        self,
        served: Served,
        read: Callable[[Served], Rows],
        write: Callable[[Answer], bytes],
        *,
        headers: Mapping[bytes, bytes],
        size: int,
        request_id: str,
        patience_s: float,
    ) -> bytes:
        """See `DataPlane.answer`; ``headers`` name ``served``."""
        digest = served.promotion.model_digest
        lane = self._lanes.get(digest)
        if lane is None:
            lane = self._lanes[digest] = self._make()
            self._loop = asyncio.get_running_loop()
        self.waiting += 1
        try:
            return await lane.answer(read, write, headers=headers, size=size, request_id=request_id, patience_s=patience_s)
        finally:
            self.waiting -= 1

    def redrawn(self, wanted: Callable[[], Collection[str]]) -> None:
        """From any thread: let `keep` be called in the event loop, with what ``wanted`` says there."""
        loop = self._loop
        if self._lanes and loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and nothing is asked of these lanes any more
                loop.call_soon_threadsafe(lambda: self.keep(wanted()))

    def keep(self, digests: Collection[str]) -> None:
        """End the lanes of all others, without waiting: what is queued there is still answered, what hangs ends when it can."""
        for digest in self._lanes.keys() - digests:
            if (lane := self._lanes.pop(digest, None)) is not None:  # `close` was not faster
                lane.close(wait=False)

    def close(self, wait: bool = True) -> None:
        """See `DataPlane.close`; from any thread."""
        while self._lanes:
            with suppress(KeyError):  # `keep` was faster
                self._lanes.popitem()[1].close(wait)
