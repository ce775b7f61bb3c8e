"""Ask candidates about rows that somebody else has answered, and compare: in a thread of its own, for a part of its time.

    a request ── offer ──> at most 2,000 rows that wait ── compare (a fifth of a core) ──> counts

Nobody waits for it: what does not fit into the queue is dropped and counted, and whatever a shadow raises is a count, too. Only
counts are kept of the rows.
"""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from zebra_serving.answer import predict
from zebra_serving.routing.plan import Arm
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema
from zebra_serving.served import Scored

log = logging.getLogger(__name__)

MAX_ROWS = 2000
MAX_OF_ONE = 500  # of a larger request a part is compared, the rest is dropped: one bulk request must not take all places
# Python's threads share an interpreter: a shadow that worked all the time would take half of it from those who wait for answers.
TIME_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class _Offered:
    arm: Arm
    rows: Rows
    given: Scored


class Shadow:
    """A bounded queue and the thread behind it, which starts with the first rows."""

    def __init__(self, max_rows: int = MAX_ROWS, time_share: float = TIME_SHARE) -> None:
        self._max, self._rest = max_rows, 1 / time_share - 1
        self._queue: deque[_Offered] = deque()
        self._queued = 0
        self._lock = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, arm: Arm, rows: Rows, given: Scored) -> None:
        """Queue answered rows for a shadow, or count them as dropped; never waits."""
        count = len(rows)
        if count > MAX_OF_ONE:
            step = slice(None, None, -(-count // MAX_OF_ONE))
            rows, given = rows.part(step), given.part(step)
            arm.seen.dropped(count - len(rows))
            count = len(rows)
        with self._lock:
            full = self._queued + count > self._max
            if not full:
                self._queue.append(_Offered(arm, rows, given))
                self._queued += count
        if full:
            arm.seen.dropped(count)
            return
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """End; what waits is forgotten. The next rows start it again."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None
        with self._lock:
            self._queue.clear()
            self._queued = 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            while self._queue and not self._stopping.is_set():
                began = time.perf_counter()
                one = self._queue[0]
                self._compare(one)
                with self._lock:
                    if self._queue and self._queue[0] is one:
                        self._queue.popleft()
                        self._queued -= len(one.rows)
                self._stopping.wait((time.perf_counter() - began) * self._rest)

    def _compare(self, one: _Offered) -> None:
        assert one.arm.served is not None
        try:
            one.arm.seen.compared(one.given, predict(one.arm.served, fitted(one.rows, one.arm.served.schema)))
        except Exception as error:
            log.debug("the shadow of version %s failed: %s", one.arm.version, error)
            one.arm.seen.failed(len(one.rows))


def fitted(rows: Rows, schema: RowSchema) -> Rows:
    """Rows that were read for one version's columns as another version's.

    Raises:
        LookupError: the other version wants a column that these rows do not have, or has it in another type.
    """
    mine, theirs = [(f.name, f.dtype) for f in schema.features], [(f.name, f.dtype) for f in rows.schema.features]
    if mine == theirs and len(schema.recorded) == len(rows.schema.recorded):
        return Rows(schema, rows.values)
    place = {column: at for at, column in enumerate(theirs)}
    wanted = [place[column] for column in mine]
    names = rows.schema.recorded
    keys = [names.index(key.name) if key.name in names else None for key in schema.keys]
    columns = [*wanted, *keys]
    return Rows(schema, [tuple(None if at is None else row[at] for at in columns) for row in rows.values])
