"""Alias -> model: follows the ledger, prepares what it names beside what serves, then swaps one reference.

    poll ledger -> same head? done -> kept warm? swap -> else staging.prepare, in a thread of its own -> swap
                                                          ├ the head moves on: abandoned, the new head is followed
                                                          └ bad: the old one stays, the reason is kept, tried again later

The ledger is the truth; MLflow's alias is only looked at, by `alias_watch`. It goes on being asked while a version is prepared, so
that one which hangs keeps nobody from a rollback. Whatever fails here, the version in force goes on answering; requests in flight
keep the version they began with, which is freed when the last of them ends.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Ledger
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import ZebraError
from zebra_serving.files import write_atomically
from zebra_serving.metrics import Metrics
from zebra_serving.preparing import Preparing
from zebra_serving.problems import NotReady
from zebra_serving.served import Served
from zebra_serving.staging import BadCandidate, Staging
from zebra_serving.standing import Failure, Standing, pause_s
from zebra_serving.weight import give_back

log = logging.getLogger(__name__)


class Loader:
    """Keeps `current` in step with the ledger.

    Args:
        last_good: file that remembers the last promotion served, for a start while the ledger is away.
        reachable: raises `Unavailable` when the ledger should not be asked now.
        on_settled: called in the loader's thread after the first poll and after each change of version.
    """

    def __init__(
        self,
        model: str,
        alias: str,
        *,
        ledger: Ledger,
        staging: Staging,
        last_good: Path,
        interval_s: float,
        metrics: Metrics,
        reachable: Callable[[], None] = lambda: None,
        on_settled: Callable[[Served | None], None] = lambda served: None,
    ) -> None:
        self.model, self.alias = model, alias
        self.current: Served | None = None
        self.previous: Served | None = None
        self.standing = Standing()
        self._ledger, self._staging, self._last_good, self._reachable = ledger, staging, last_good, reachable
        self._interval_s, self._metrics, self._on_settled = interval_s, metrics, on_settled
        self._preparing = Preparing()
        self._lock = threading.Lock()
        self._ended = threading.Event()  # of the life that goes on; the next one has its own
        self._thread: threading.Thread | None = None
        metrics.ledger_age.set_function(lambda: self.ledger_age_s or 0.0)

    @property
    def ledger_age_s(self) -> float | None:
        """Seconds since the ledger last answered; None before it did."""
        return self.standing.ledger_age_s

    @property
    def stale(self) -> tuple[datetime | None, str | None]:
        """As `Standing.stale`."""
        return self.standing.stale(self._interval_s)

    def not_ready(self) -> NotReady:
        """Why there is nothing to answer with."""
        reason, fix = self.standing.waiting
        return NotReady(reason, fix=fix)

    @property
    def weight(self) -> int:
        """Bytes of the versions in memory."""
        return sum(served.weight for served in (self.current, self.previous) if served is not None)

    def start(self) -> None:
        """Begin to follow the ledger, also after `sleep`."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._ended,), name="loader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        # A download that hangs must not hold the process: the threads are daemons and leave nothing half-visible.
        self._preparing.end()
        if self._thread is not None:
            self._thread.join(2.0)

    def sleep(self, waiting: str) -> None:
        """Stop without waiting and forget the versions; requests in flight keep theirs. ``waiting`` is said until `start`."""
        with self._lock:
            self._ended.set()
            self.current = self.previous = None
            self.standing = Standing(waiting=(waiting, None))
        self._preparing.end()
        self._metrics.serving(None)

    def cool(self) -> None:
        """Forget the version that is kept for a rollback."""
        self.previous = None

    def poll(self) -> None:
        """Ask the ledger and do what it says, until that serves or cannot. Never raises: what went wrong is kept in `standing`."""
        self._poll(self._ended)

    def _run(self, ended: threading.Event) -> None:
        self._poll(ended)
        if not ended.is_set():
            self._on_settled(self.current)
        while not ended.wait(self._interval_s):
            before = self.current
            self._poll(ended)
            if self.current is not before and not ended.is_set():
                self._on_settled(self.current)
                give_back()  # what the version before the last one held, and what opening this one took

    def _poll(self, ended: threading.Event) -> None:
        try:
            self._look(ended)
        except Exception:  # a fault of ours must not end the thread: nothing would be promoted or taken back any more
            log.exception("the ledger is looked at again")

    def _look(self, ended: threading.Event) -> None:
        head, away = self._asked(ended)
        if away is not None and self.current is None:
            head = self._without_ledger(away, ended)
        while head is not None and self._is_new(head, ended):
            head = self._prepare(head, ended)

    def _asked(self, ended: threading.Event) -> tuple[Promotion | None, ZebraError | None]:
        """The ledger's head, or why it cannot be known."""
        try:
            self._reachable()
            head = self._ledger.head(self.model, self.alias)
        except Exception as error:
            return None, self._away(error if isinstance(error, ZebraError) else ZebraError(f"{type(error).__name__}: {error}"), ended)
        self._know(ended, ledger_seen=time.monotonic())
        if head is None and self.current is not None:
            return None, self._away(ZebraError(f"The ledger has no row for '{self.model}' any more; rows are never deleted."), ended)
        self._know(ended, stale_since=None, stale_reason=None)
        if head is None:
            nothing = f"Nothing is promoted to '{self.alias}' of '{self.model}' yet."
            self._know(ended, waiting=(nothing, f"mlops promote {self.model} --to {self.alias}"))
        return head, None

    def _is_new(self, head: Promotion, ended: threading.Event) -> bool:
        """Whether the head is to be prepared now: it neither serves nor is kept warm, and did not fail a moment ago."""
        current, previous, failure = self.current, self.previous, self.standing.failure
        if current is not None and current.is_version_of(head):
            with self._lock:
                if head.seq != current.promotion.seq and not ended.is_set():  # moved away and back between two polls
                    self.current = replace(current, promotion=head)
            self._know(ended, failure=None)
            return False
        if previous is not None and previous.is_version_of(head) and self._staging.still_stands(previous):
            self._swap(replace(previous, promotion=head), ended)
            return False
        return failure is None or failure.seq != head.seq or time.monotonic() >= failure.retry_at

    def _prepare(self, head: Promotion, ended: threading.Event) -> Promotion | None:
        """Have the head prepared and ask the ledger meanwhile; the new head, once there is one."""
        newest, work, running = head, partial(self._prepared, head, ended), None
        while not ended.is_set():
            running = running or self._preparing.begin(work)
            if running is None:
                log.error("version %s waits: too many preparations hang", head.version)
                ended.wait(self._interval_s)
            elif running.over.wait(self._interval_s):
                break
            newest = self._asked(ended)[0] or newest
            if (newest.version, newest.model_digest) != (head.version, head.model_digest):
                if running is not None and not self._preparing.abandon(running):
                    running.over.wait()  # it takes effect at this moment, and is followed by the new one
                return newest
        if ended.is_set() and running is not None:  # it was begun just after the end
            self._preparing.abandon(running)
        return newest if newest.seq != head.seq else None

    def _prepared(self, head: Promotion, ended: threading.Event) -> Callable[[], None]:
        """In the other thread: what is to be done when the version, or why there is none, is still wanted."""
        try:
            return partial(self._swap, self._staging.prepare(head), ended)
        except Exception as cause:
            return partial(self._failed, head, cause if isinstance(cause, BadCandidate) else BadCandidate("fault", cause), ended)

    def _failed(self, head: Promotion, error: BadCandidate, ended: threading.Event) -> None:
        last = self.standing.failure
        attempts = last.attempts + 1 if last and last.seq == head.seq else 1
        pause = pause_s(self._interval_s, attempts)
        kept = Failure(head.version, head.seq, error.reason, error.message, error.fix, now(), attempts, time.monotonic() + pause)
        self._know(ended, failure=kept, waiting=(f"Version {head.version} of '{self.model}' cannot be served: {error.message}", error.fix))
        self._metrics.reload_failures.labels(error.reason).inc()
        log.error("version %s not taken (%s, attempt %d): %s", head.version, error.reason, attempts, error.message)

    def _swap(self, served: Served, ended: threading.Event) -> None:
        with self._lock:
            if ended.is_set():  # put to sleep while this version was prepared
                return
            self.previous, self.current = self.current, served
            self.standing = replace(self.standing, failure=None)
        self._metrics.reloads.inc()
        self._metrics.serving(served.promotion)
        log.info("version %s of %s serves as %s", served.promotion.version, self.model, self.alias)
        try:
            write_atomically(self._last_good, served.promotion.to_json().encode())
        except OSError as error:
            log.warning("%s was not written, so a start without the ledger would find an older version: %s", self._last_good, error)

    def _know(self, ended: threading.Event, **news: Any) -> None:
        """Change `standing`, unless the life that found this out is over."""
        with self._lock:
            self.standing = self.standing if ended.is_set() else replace(self.standing, **news)

    def _away(self, error: ZebraError, ended: threading.Event) -> ZebraError:
        if self.standing.stale_since is None:
            log.warning("the ledger cannot be reached: %s", error.message)
            self._know(ended, stale_since=now())
        self._know(ended, stale_reason=error.message)
        return error

    def _without_ledger(self, error: ZebraError, ended: threading.Event) -> Promotion | None:
        """What to serve as long as nothing serves and the ledger cannot be asked."""
        remembered = self._remembered()
        if remembered is None:
            waiting = f"The ledger cannot be reached and nothing was served from here before: {error.message}"
            self._know(ended, waiting=(waiting, error.fix))
        return remembered

    def _remembered(self) -> Promotion | None:
        """The promotion that served last from here, if any; the model's files are verified by its digest."""
        try:
            return Promotion.model_validate(json.loads(self._last_good.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read and is ignored: %s", self._last_good, error)
            return None
