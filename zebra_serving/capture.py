"""Predictions become events, off the hot path.

`offer` costs a request a list append; one background thread turns what was offered into `prediction_event`s and appends
them to the event store every half second or 500 events. When the store cannot be reached the queue fills, and then
predictions go on uncaptured and counted: an answer never waits for its event. Columns named sensitive never enter the queue.
"""

import logging
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from zebra_assets.contracts.events import Event, PredictionEvent
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import EventStore
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import Unavailable
from zebra_serving.metrics import Metrics
from zebra_serving.schema import Rows
from zebra_serving.served import Scored, Served

log = logging.getLogger(__name__)

# 20,000 events of 20 columns are about 30 MB: two full requests, or a minute of 300 predictions a second.
MAX_QUEUED = 20_000
MAX_BATCH = 500
MAX_BACKOFF_S = 30.0


@dataclass(frozen=True, slots=True)
class _Offered:
    """One captured row, still as cheap as it came."""

    event_id: str
    ts: datetime
    promotion: Promotion
    request_id: str | None
    names: list[str]
    values: tuple[Any, ...]
    label: Any
    score: float | None

    def event(self, hidden: frozenset[str]) -> PredictionEvent:
        features = {n: v for n, v in zip(self.names, self.values, strict=True) if n not in hidden}
        p = self.promotion
        return PredictionEvent(
            event_id=self.event_id, ts=self.ts, model=p.model, version=p.version, manifest_id=p.manifest_id,
            request_id=self.request_id, features=features, prediction=self.label, score=self.score,
        )  # fmt: skip


class Capture:
    """A bounded queue with one writer behind it.

    Args:
        sample_rate: share of predictions captured, 0 to 1.
        hidden: columns that are not captured.
        reachable: raises `Unavailable` when the store should not be asked now.
    """

    def __init__(
        self,
        store: EventStore,
        metrics: Metrics,
        *,
        sample_rate: float = 1.0,
        hidden: frozenset[str] = frozenset(),
        reachable: Callable[[], None] = lambda: None,
        flush_s: float = 0.5,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._store, self._rate, self._hidden, self._reachable = store, sample_rate, hidden, reachable
        self._flush_s, self._max = flush_s, max_queued
        self._queue: deque[_Offered] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._outcomes = {o: metrics.events.labels(o) for o in ("captured", "sampled_out", "dropped", "lost")}
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def offer(self, served: Served, rows: Rows, scored: Scored, request_id: str | None) -> list[str | None]:
        """Queue the rows that the sample takes; the event id of each row, None where it is not captured."""
        wanted = self._sample(len(rows))
        ids: list[str | None] = [None] * len(rows)
        if not wanted:
            return ids
        ts, prefix, promotion, names = now(), secrets.token_hex(12), served.promotion, rows.schema.names
        taken = []
        for i in wanted:
            ids[i] = event_id = f"{prefix}-{i}"
            score = scored.scores[i] if scored.scores is not None else None
            taken.append(_Offered(event_id, ts, promotion, request_id, names, rows.values[i], scored.labels[i], score))
        with self._lock:
            if len(self._queue) + len(taken) > self._max:
                self._outcomes["dropped"].inc(len(taken))
                return [None] * len(rows)
            self._queue.extend(taken)
            full = len(self._queue) >= MAX_BATCH
        if full:
            self._wake.set()
        return ids

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Write what is queued, for at most ``patience_s``; what could not be written by then is counted as lost."""
        self._deadline = time.monotonic() + patience_s
        self._stopping.set()
        self._wake.set()
        self._thread.join(patience_s + 5.0)
        if self._queue:
            log.error("%d prediction events were lost: the event store could not be reached", len(self._queue))
            self._outcomes["lost"].inc(len(self._queue))
            self._queue.clear()

    def _sample(self, rows: int) -> list[int]:
        if self._rate >= 1.0:
            return list(range(rows))
        chosen = [i for i in range(rows) if random.random() < self._rate]  # noqa: S311 - a sample, not a secret
        self._outcomes["sampled_out"].inc(rows - len(chosen))
        return chosen

    def _run(self) -> None:
        backoff = self._flush_s
        while not self._stopping.is_set():
            self._wake.wait(self._flush_s)
            self._wake.clear()
            if self._flush():
                backoff = self._flush_s
            else:  # asked again after 1, 2, 4 … 30 s; a full batch does not hurry a store that is down
                backoff = min(backoff * 2, MAX_BACKOFF_S)
                self._stopping.wait(backoff)
        while self._queue and not self._flush() and time.monotonic() < self._deadline:
            time.sleep(0.1)

    def _flush(self) -> bool:
        """Write batches until the queue is empty; False when the store cannot be reached (the batch stays queued)."""
        while batch := [self._queue[i] for i in range(min(MAX_BATCH, len(self._queue)))]:
            try:
                events: list[Event] = [offered.event(self._hidden) for offered in batch]
                self._reachable()
                self._store.append(events)
                self._outcomes["captured"].inc(len(batch))
            except Unavailable as error:
                # The outcome is unknown; the same event ids again are stored once.
                log.warning("prediction events wait: %s", error.message)
                return False
            except Exception:
                log.exception("%d prediction events were lost", len(batch))
                self._outcomes["lost"].inc(len(batch))
            with self._lock:
                for _ in batch:
                    self._queue.popleft()
        return True
