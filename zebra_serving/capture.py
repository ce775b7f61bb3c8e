"""Predictions become events and sketches, off the hot path.

`offer` costs a request two list appends. One background thread turns what was offered into `prediction_event`s and appends them
to the event store every half second or 500 events; another folds every row into its version's sketches (`memory`), so that rows
do not pile up while the store waits for its disk. Events are a sample: the share that model.yaml asks for, at most so many a
second, the rest counted as sampled out. When the store cannot be reached the queue fills, by rows or by the bytes of their texts,
and then predictions go on uncaptured and counted: an answer never waits for its event. Columns that are sensitive, or not on the
list of recorded ones, never become an event (`recording`).
"""

import itertools
import logging
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import get_ident

from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import EventStore
from zebra_assets.contracts.sketch import Sketches
from zebra_assets.errors import Unavailable, ZebraError
from zebra_serving.budget import Budget
from zebra_serving.memory import Memory
from zebra_serving.metrics import Metrics
from zebra_serving.offered import Offered, text_of
from zebra_serving.recording import NOTHING, Recording
from zebra_serving.rows import Rows
from zebra_serving.served import Scored, Served

log = logging.getLogger(__name__)

# 20,000 events of 20 columns are about 30 MB: two full requests, or three minutes of 100 predictions a second.
MAX_QUEUED = 20_000
MAX_BATCH = 500
# And bytes of their texts, eight times the largest JSON body. What is written at once is in memory as JSON, too.
MAX_QUEUED_TEXT = 64 * 1024 * 1024
MAX_BATCH_TEXT = 8 * 1024 * 1024
MAX_BACKOFF_S = 30.0
# What is recorded of a quiet model before the limit per second counts: one window of drift.
BURST_EVENTS = 5000
WRITE_SKETCHES_S = 10.0
# Of a bulk request at least so many rows or none: one row out of its columns costs nearly as much as fifty.
LUMP = 50


class Capture:
    """A bounded queue with one writer behind it.

    Args:
        recording: what may be recorded.
        sketches: where the sketches go; None to keep none.
        reachable: raises `Unavailable` when the stores should not be asked now.
    """

    def __init__(
        self,
        store: EventStore,
        metrics: Metrics,
        recording: Recording = NOTHING,
        *,
        sketches: Sketches | None = None,
        reachable: Callable[[], None] = lambda: None,
        flush_s: float = 0.5,
        max_queued: int = MAX_QUEUED,
        max_text: int = MAX_QUEUED_TEXT,
    ) -> None:
        self._store, self._recording, self._reachable = store, recording, reachable
        self._flush_s, self._max, self._max_text = flush_s, max_queued, max_text
        self._budget = Budget(recording.per_second, BURST_EVENTS)
        self._memory = Memory(sketches, recording)
        self._queue: deque[Offered] = deque()
        self._queued = self._text = 0
        self._lock = threading.Lock()
        self._wake, self._due = threading.Event(), threading.Event()
        self._stopping = threading.Event()
        self._outcomes = metrics.events
        self._away, self._loop = False, 0
        self._deadline = self._sketched_at = 0.0
        # An id is a process's 64 random bits and a count: as unique as random ones, and 7 us cheaper.
        self._process, self._count = secrets.token_hex(8), itertools.count()
        self._threads = [threading.Thread(target=run, name=run.__name__.strip("_"), daemon=True) for run in (self._fold, self._record)]

    def offer(self, served: Served, rows: Rows, scored: Scored, request_id: str | None) -> list[str | None] | None:
        """Queue the rows that the sample takes, and remember them all; the event id of each row, None where it is not captured.

        Returns:
            None where no row is captured.
        """
        if self._memory.add(served, rows, scored):
            self._due.set()
        wanted = self._sample(len(rows))
        if not wanted:
            return None
        prefix = f"{self._process}-{next(self._count):x}"
        taken = [(i, values, *said) for i, values, said in zip(wanted, rows.at(wanted), scored.at(wanted), strict=True)]
        # The event loop answers requests of at most 16 KiB only (`dataplane`): 500 of them are little, and need no look at their texts.
        text = text_of(taken) if self._queued >= MAX_BATCH or get_ident() != self._loop else 0
        with self._lock:
            if self._queued + len(taken) > self._max or (text and self._text + text > self._max_text):
                self._outcomes["dropped"].inc(len(taken))
                return None
            self._queue.append(Offered(prefix, now(), served.promotion, request_id, rows.schema, taken, text))
            self._queued += len(taken)
            if text:
                self._text += text
            due = self._queued >= MAX_BATCH and not self._away
        if due:
            self._wake.set()
        ids: list[str | None] = [None] * len(rows)
        for i in wanted:
            ids[i] = f"{prefix}-{i}"
        return ids

    def start(self) -> None:
        """Begin to write. In the event loop."""
        self._loop = get_ident()
        for thread in self._threads:
            thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Write what is queued, for at most ``patience_s``; what could not be written by then is counted as lost."""
        self._deadline = time.monotonic() + patience_s
        self._stopping.set()
        self._due.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(patience_s + 5.0)
        self._memory.close()
        with self._lock:
            left, self._max = self._queued, 0  # what is answered from now on is dropped
            self._queue.clear()
            self._queued = self._text = 0
        if left:
            log.error("%d prediction events were lost: the event store could not be reached", left)
            self._outcomes["lost"].inc(left)

    def _sample(self, rows: int) -> Sequence[int]:
        """Which rows become events: the share asked for, thinned to what the limit per second leaves."""
        share = self._recording.share
        # As many as the share says, the rest of the division by chance: every row is as likely, and none costs a random number.
        wanted = rows if share >= 1.0 else int(rows * share + random.random())  # noqa: S311 - a sample
        part = self._budget.take(wanted, LUMP) if wanted else 0
        if part < rows:
            self._outcomes["sampled_out"].inc(rows - part)
        if not part:
            return ()
        return range(rows) if part == rows else sorted(random.sample(range(rows), part))

    def _fold(self) -> None:
        while not self._stopping.is_set():
            self._due.wait(self._flush_s)
            self._due.clear()
            self._memory.fold()

    def _record(self) -> None:
        pause = retry_at = 0.0
        while not self._stopping.is_set():
            self._wake.wait(self._flush_s)
            self._wake.clear()
            if time.monotonic() < retry_at:
                continue
            try:
                self._away = not (self._flush() and self._write_sketches(WRITE_SKETCHES_S))
            except Exception:  # a fault of ours: without this thread nothing would be recorded until the next start
                log.exception("prediction events wait")
                self._away = True
            # Asked again after 1, 2, 4 … 30 s; a full batch does not hurry a store that is down.
            pause = min(max(pause * 2, 2 * self._flush_s), MAX_BACKOFF_S) if self._away else 0.0
            retry_at = time.monotonic() + pause
        self._memory.fold()
        while not (self._flush() and self._write_sketches(0.0)) and time.monotonic() < self._deadline:
            time.sleep(0.1)

    def _flush(self) -> bool:
        """Write batches until the queue is empty; False when the store cannot be reached (the batch stays queued)."""
        while batch := self._batch():
            count = sum(len(offered.rows) for offered in batch)
            try:
                events = [event for offered in batch for event in offered.events(self._recording)]
                self._reachable()
                self._store.append(events)
                self._outcomes["captured"].inc(count)
            except Unavailable as error:
                # The outcome is unknown; the same event ids again are stored once.
                log.warning("prediction events wait: %s", error.message)
                return False
            except Exception:
                log.exception("%d prediction events were lost", count)
                self._outcomes["lost"].inc(count)
            with self._lock:
                for offered in batch:
                    self._queue.popleft()
                    self._text -= offered.text
                self._queued -= count
        return True

    def _batch(self) -> list[Offered]:
        """The oldest requests with 500 rows and 8 MiB of texts together, or one that has more."""
        with self._lock:  # an iterator over a deque dies of an append: after half a minute at 7,000 requests a second
            oldest = list(itertools.islice(self._queue, MAX_BATCH))
        batch: list[Offered] = []
        count = text = 0
        for offered in oldest:
            count += len(offered.rows)
            text += offered.text
            if batch and (count > MAX_BATCH or text > MAX_BATCH_TEXT):
                break
            batch.append(offered)
        return batch

    def _write_sketches(self, after_s: float) -> bool:
        """Write the sketches if the last time is ``after_s`` seconds ago; False when the store cannot be reached."""
        if time.monotonic() < self._sketched_at + after_s:
            return True
        try:
            self._reachable()
            self._memory.flush()
        except ZebraError as error:
            log.warning("sketches wait: %s", error.message)
            return False
        self._sketched_at = time.monotonic()
        return True
