"""Predict: the one room behind every door.

A door hands in how to read its protocol and how to write the answer; which version answers, where the work runs and
what is captured is decided here. Knows nothing of HTTP, files or the ledger.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from zebra_assets.errors import ZebraError
from zebra_serving.capture import Capture
from zebra_serving.metrics import Metrics
from zebra_serving.problems import InputInvalid, ModelFailed, NotReady, Overloaded
from zebra_serving.schema import Rows
from zebra_serving.served import Scored, Served

# A hop to a thread and back costs about 0.1 ms: worth it only when the loop would stand still for longer than that.
INLINE_S = 0.001
INLINE_BYTES = 16 * 1024
MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door writes down. ``event_ids[i]`` is None where row i was not captured."""

    served: Served
    scored: Scored
    event_ids: list[str | None]


class DataPlane:
    """Answers requests with whatever `current()` serves at the moment the request is looked at.

    Args:
        current: the version in force; None while there is none.
        not_ready: the reason to give while there is none.
    """

    def __init__(self, current: Callable[[], Served | None], not_ready: Callable[[], NotReady], capture: Capture, metrics: Metrics) -> None:
        self._current, self._not_ready = current, not_ready
        self._capture, self._metrics = capture, metrics
        self._pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="predict")
        self._waiting = 0

    async def answer(
        self, read: Callable[[Served], Rows], write: Callable[[Answer], bytes], *, size: int, request_id: str | None = None
    ) -> bytes:
        """Read, predict, capture, write: with one version from beginning to end.

        Args:
            read: the request's rows, checked against that version's columns.
            write: the protocol's answer.
            size: bytes of the request; small ones for quick models are answered without leaving the event loop.

        Raises:
            NotReady, Overloaded, InputInvalid, ModelFailed, and whatever ``read`` raises.
        """
        served = self._current()
        if served is None:
            raise self._not_ready()
        if served.model.quick and served.call_s is not None and served.call_s < INLINE_S and size <= INLINE_BYTES:
            return self._work(served, read, write, request_id)
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"{self._waiting} requests are waiting already.", fix="ask again in a second, or more slowly")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, served, read, write, request_id)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the running predictions end."""
        self._pool.shutdown(wait=True)

    def _work(self, served: Served, read: Callable[[Served], Rows], write: Callable[[Answer], bytes], request_id: str | None) -> bytes:
        rows = read(served)
        scored = predict(served, rows)
        self._metrics.rows.inc(len(rows))
        return write(Answer(served, scored, self._capture.offer(served, rows, scored, request_id)))


def predict(served: Served, rows: Rows) -> Scored:
    """The version's answers to rows that fit its columns; also what the loader's self-test calls.

    Raises:
        InputInvalid: the model knows the columns but refuses the values, such as a category it never saw.
        ModelFailed: anything else went wrong inside.
    """
    try:
        return served.model.predict(rows)
    except ZebraError:
        raise
    except ValueError as error:
        raise InputInvalid([], message=f"The model refuses these values: {str(error).splitlines()[0]}") from error
    except Exception as error:
        raise ModelFailed(
            f"Version {served.promotion.version} failed on these rows: {type(error).__name__}.", fix="see the server's log; mlops rollback"
        ) from error
