"""Predict: the one room behind every door.

A door hands in how to read its protocol and how to write the answer; which version answers, where the work runs and
what is captured is decided here. Knows nothing of HTTP, files or the ledger.
"""

import time
from collections.abc import Awaitable, Callable, Mapping

from zebra_serving.access.log import ANSWERING
from zebra_serving.answer import Answer, predict
from zebra_serving.apart import Apart
from zebra_serving.batching import Batcher
from zebra_serving.capture import Capture
from zebra_serving.metrics import Metrics
from zebra_serving.rows import Rows
from zebra_serving.served import Served

# A hop to a thread and back costs about 0.1 ms: worth it only when the loop would stand still for longer than that.
INLINE_S = 0.001
INLINE_BYTES = 16 * 1024
# Larger ones have a thread to themselves: in a batch, small requests would wait for them.
BATCH_BYTES = 64 * 1024
PATIENCE_S = 30.0

Headers = Mapping[bytes, bytes]
NO_HEADERS: Headers = {}


class DataPlane:
    """Answers requests with the version that `choose` names at the moment the request is looked at.

    Args:
        choose: request headers -> the version that answers; None while there is none.
        absent: waits that many seconds for a version, where it pays to wait; raises `NotReady`.
        workers: threads for large requests and models that are slow.
        max_waiting: requests that may wait for the model; one more is refused.

    Attributes:
        used_at: monotonic seconds of the last request.
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
        self._choose, self._absent = choose, absent
        self.used_at = 0.0
        self._capture, self._metrics = capture, metrics
        self._batcher, self._apart = Batcher(capture, metrics, max_waiting), Apart(workers, max_waiting)

    async def serving(self, headers: Headers = NO_HEADERS, patience_s: float = PATIENCE_S) -> Served:
        """The version that answers a request with these headers, once there is one. Raises `NotReady`."""
        return self._choose(headers) or await self._absent(headers, patience_s)

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread or are with one; those answered in the event loop never are, between its turns."""
        return self._batcher.waiting + self._apart.waiting

    async def answer(
        self,
        read: Callable[[Served], Rows],
        write: Callable[[Answer], bytes],
        *,
        headers: Headers,
        size: int,
        request_id: str | None = None,
        patience_s: float = PATIENCE_S,
        pinned: bool = False,
    ) -> bytes:
        """Read, predict, capture, write: with one version from beginning to end.

        Args:
            read: the request's rows, checked against that version's columns.
            write: the protocol's answer.
            headers: the request's, with lower-case names; which version answers may depend on them.
            size: bytes of the request; small ones for quick models are answered without leaving the event loop.
            patience_s: how long the request may wait for its turn.
            pinned: whether the request insists on the version in force; a route is not asked then (`routing.plane`).

        Raises:
            NotReady, Overloaded, InputInvalid, ModelFailed, and whatever ``read`` raises.
        """
        served = self._choose(headers)
        if served is None:
            served = await self._absent(headers, patience_s)
        if (asked := ANSWERING.get()) is not None:
            asked.append(served)
        self.used_at = time.monotonic()
        if served.model.quick and served.call_s is not None and served.call_s < INLINE_S and size <= INLINE_BYTES:
            return self._work(served, read, write, request_id)
        if not served.model.quick and size <= BATCH_BYTES:
            return await self._batcher.answer(served, read, write, request_id, patience_s)
        arrived = time.perf_counter()
        return await self._apart.answer(lambda: self._timed(served, read, write, request_id, arrived, 1), patience_s)

    def close(self, wait: bool = True) -> None:
        """End the threads: let the running predictions end, and wait for that if asked to. The next request starts new ones."""
        self._batcher.close(10.0 if wait else 0.0)
        self._apart.close(10.0 if wait else 0.0)

    def _work(self, served: Served, read: Callable[[Served], Rows], write: Callable[[Answer], bytes], request_id: str | None) -> bytes:
        if (times := self._metrics.stages.due(request_id)) is not None:
            return self._timed(served, read, write, request_id, time.perf_counter(), times)
        rows = read(served)
        scored = predict(served, rows)
        self._metrics.rows.inc(len(rows))
        return write(Answer(served, scored, self._capture.offer(served, rows, scored, request_id)))

    def _timed(
        self,
        served: Served,
        read: Callable[[Served], Rows],
        write: Callable[[Answer], bytes],
        request_id: str | None,
        arrived: float,
        times: int,
    ) -> bytes:
        """The same with a look at the clock between the stages."""
        clock = time.perf_counter
        began = clock()
        rows = read(served)
        parsed = clock()
        scored = predict(served, rows)
        predicted = clock()
        self._metrics.rows.inc(len(rows))
        answer = Answer(served, scored, self._capture.offer(served, rows, scored, request_id))
        captured = clock()
        body = write(answer)
        self._metrics.stages.saw(
            began - arrived,
            parsed - began,
            predicted - parsed,
            captured - predicted,
            clock() - captured,
            times=times,
            request_id=request_id,
        )
        return body
