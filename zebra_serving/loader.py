"""Alias -> model: follows the ledger, prepares what it names beside what serves, then swaps one reference.

    poll ledger -> same head? done -> kept warm? swap -> else staging.prepare -> swap
                                                          └ bad: the old one stays, the reason is kept, tried again later

The ledger is the truth; MLflow's alias is only looked at, by `alias_watch`. Whatever fails here, the version in force
goes on answering; requests in flight keep the version they began with, which is freed when the last of them ends.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Ledger
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import ZebraError
from zebra_serving.files import write_atomically
from zebra_serving.metrics import Metrics
from zebra_serving.problems import NotReady
from zebra_serving.served import Served
from zebra_serving.staging import BadCandidate, Staging
from zebra_serving.weight import give_back

log = logging.getLogger(__name__)

MAX_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Failure:
    """The last attempt to change version that failed, and when it is tried again."""

    version: str
    seq: int
    reason: str
    message: str
    fix: str | None
    at: datetime
    attempts: int
    retry_at: float


@dataclass(frozen=True)
class Standing:
    """What the loader knows, replaced as a whole.

    Attributes:
        ledger_seen: monotonic seconds when the ledger last answered.
        stale_since: since when the ledger cannot be reached, while something serves.
        failure: why the ledger's head is not what serves.
        waiting: why nothing serves.
    """

    ledger_seen: float | None = None
    stale_since: datetime | None = None
    stale_reason: str | None = None
    failure: Failure | None = None
    waiting: tuple[str, str | None] = ("The model is being loaded.", None)


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
        self._lock = threading.Lock()
        self._ended = threading.Event()  # of the life that goes on; the next one has its own
        self._thread: threading.Thread | None = None
        metrics.ledger_age.set_function(lambda: self.ledger_age_s or 0.0)

    @property
    def ledger_age_s(self) -> float | None:
        """Seconds since the ledger last answered; None before it did."""
        seen = self.standing.ledger_seen
        return None if seen is None else time.monotonic() - seen

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
        # A download that hangs must not hold the process: the thread is a daemon and leaves nothing half-visible.
        if self._thread is not None:
            self._thread.join(2.0)

    def sleep(self, waiting: str) -> None:
        """Stop without waiting and forget the versions; requests in flight keep theirs. ``waiting`` is said until `start`."""
        with self._lock:
            self._ended.set()
            self.current = self.previous = None
            self.standing = Standing(waiting=(waiting, None))
        self._metrics.serving(None)

    def cool(self) -> None:
        """Forget the version that is kept for a rollback."""
        self.previous = None

    def poll(self) -> None:
        """Ask the ledger once and do what it says. Never raises: what went wrong is kept in `standing`."""
        try:
            self._reachable()
            head = self._ledger.head(self.model, self.alias)
        except Exception as error:
            self._ledger_is_away(error)
            return
        self.standing = replace(self.standing, ledger_seen=time.monotonic())
        if head is not None:
            self.standing = replace(self.standing, stale_since=None, stale_reason=None)
            self._follow(head)
        elif self.current is not None:
            self._ledger_is_away(ZebraError(f"The ledger has no row for '{self.model}' any more; rows are never deleted."))
        else:
            fix = f"mlops promote {self.model} --to {self.alias}"
            self.standing = replace(self.standing, waiting=(f"Nothing is promoted to '{self.alias}' of '{self.model}' yet.", fix))

    def _run(self, ended: threading.Event) -> None:
        self.poll()
        self._on_settled(self.current)
        while not ended.wait(self._interval_s):
            before = self.current
            self.poll()
            if self.current is not before and not ended.is_set():
                self._on_settled(self.current)
                give_back()  # what the version before the last one held, and what opening this one took

    def _follow(self, head: Promotion) -> None:
        current, previous, failure = self.current, self.previous, self.standing.failure
        if current is not None and current.is_version_of(head):
            if head.seq != current.promotion.seq:  # moved away and back between two polls
                self.current = replace(current, promotion=head)
            self.standing = replace(self.standing, failure=None)
        elif previous is not None and previous.is_version_of(head) and self._staging.still_stands(previous):
            self._swap(replace(previous, promotion=head), self._ended)
        elif failure is None or failure.seq != head.seq or time.monotonic() >= failure.retry_at:
            self._try(head, failure)

    def _try(self, head: Promotion, failure: Failure | None) -> None:
        ended = self._ended
        try:
            candidate = self._staging.prepare(head)
        except Exception as cause:
            error = cause if isinstance(cause, BadCandidate) else BadCandidate("fault", cause)
            attempts = failure.attempts + 1 if failure and failure.seq == head.seq else 1
            pause = min(self._interval_s * 2**attempts, MAX_BACKOFF_S)
            kept = Failure(head.version, head.seq, error.reason, error.message, error.fix, now(), attempts, time.monotonic() + pause)
            waiting = (f"Version {head.version} of '{self.model}' cannot be served: {error.message}", error.fix)
            self.standing = replace(self.standing, failure=kept, waiting=waiting)
            self._metrics.reload_failures.labels(error.reason).inc()
            log.error("version %s not taken (%s, attempt %d): %s", head.version, error.reason, attempts, error.message)
        else:
            self._swap(candidate, ended)

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

    def _ledger_is_away(self, error: Exception) -> None:
        message = error.message if isinstance(error, ZebraError) else f"{type(error).__name__}: {error}"
        if self.standing.stale_since is None:
            log.warning("the ledger cannot be reached: %s", message)
            self.standing = replace(self.standing, stale_since=now())
        self.standing = replace(self.standing, stale_reason=message)
        if self.current is not None:
            return
        remembered = self._remembered()
        failure = self.standing.failure
        if remembered is not None and (failure is None or time.monotonic() >= failure.retry_at):
            self._try(remembered, failure)
        elif remembered is None:
            fix = error.fix if isinstance(error, ZebraError) else None
            waiting = f"The ledger cannot be reached and nothing was served from here before: {message}"
            self.standing = replace(self.standing, waiting=(waiting, fix))

    def _remembered(self) -> Promotion | None:
        """The promotion that served last from here, if any; the model's files are verified by its digest."""
        try:
            return Promotion.model_validate(json.loads(self._last_good.read_bytes()))
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s is damaged and ignored: %s", self._last_good, error)
            return None
