"""A route's candidates in memory: prepared like any version, in a thread beside the router's, and kept while the route wants them.

    prepare -> the worker -> loaded, or refused with the reason and tried again later
                 └ hangs, and the route has changed: left alone, nothing of it counts

Called by the router only.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.route import Candidate, Route
from zebra_serving.preparing import Preparing
from zebra_serving.served import Served
from zebra_serving.staging import BadCandidate, Staging
from zebra_serving.standing import pause_s

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a candidate is no arm, and when it is tried again."""

    reason: str
    message: str
    fix: str | None
    attempts: int
    retry_at: float


class Candidates:
    """One model's.

    Attributes:
        loaded: versions by digest.
        refusals: candidates that are no arms, by name.
    """

    def __init__(self, staging: Staging, model: str, interval_s: float) -> None:
        self.loaded: dict[str, Served] = {}
        self.refusals: dict[str, Refusal] = {}
        self._staging, self._model, self._interval_s = staging, model, interval_s
        self._preparing = Preparing()
        self._lock = threading.Lock()

    @property
    def weight(self) -> int:
        """Bytes of memory."""
        return sum(served.weight for served in list(self.loaded.values()))

    def follow(self, route: Route | None) -> None:
        """Keep what this route wants of what is loaded; None wants nothing."""
        wanted = {candidate.model_digest for candidate in route.candidates} if route else set()
        with self._lock:
            self.refusals = {}
            self.loaded = {digest: served for digest, served in self.loaded.items() if digest in wanted}

    def end(self) -> None:
        """Forget all; what is being prepared by a life that has ended lands nowhere."""
        with self._lock:
            self.loaded = {}
        self._preparing.end()

    def prepare(self, route: Route, in_force: Served, ended: threading.Event, *, meanwhile: Callable[[], bool]) -> None:
        """Have those prepared that are not.

        Args:
            ended: after it nothing lands.
            meanwhile: called every interval; whether the route still wants them.
        """
        for candidate in route.candidates:
            refusal = self.refusals.get(candidate.name)
            named = _promotion(route, candidate)
            waits = refusal is not None and time.monotonic() < refusal.retry_at
            if waits or candidate.model_digest in self.loaded or in_force.is_version_of(named):
                continue
            running = self._preparing.begin(partial(self._prepared, candidate, named, ended))
            while running is not None and not running.over.wait(self._interval_s):
                if not meanwhile():
                    self._preparing.abandon(running)
                    return

    def _prepared(self, candidate: Candidate, named: Promotion, ended: threading.Event) -> Callable[[], None]:
        """In the other thread: what is to be done when the candidate, or why there is none, is still wanted."""
        try:
            return partial(self._arrived, candidate, self._staging.prepare(named), ended)
        except Exception as cause:
            return partial(self._refused, candidate, cause if isinstance(cause, BadCandidate) else BadCandidate("fault", cause), ended)

    def _arrived(self, candidate: Candidate, served: Served, ended: threading.Event) -> None:
        with self._lock:
            if ended.is_set():
                return
            self.loaded[candidate.model_digest] = served
            self.refusals.pop(candidate.name, None)
        log.info("version %s of %s is the arm '%s'", candidate.version, self._model, candidate.name)

    def _refused(self, candidate: Candidate, error: BadCandidate, ended: threading.Event) -> None:
        with self._lock:
            if ended.is_set():
                return
            last = self.refusals.get(candidate.name)
            attempts = last.attempts + 1 if last else 1
            retry_at = time.monotonic() + pause_s(self._interval_s, attempts)
            self.refusals[candidate.name] = Refusal(error.reason, error.message, error.fix, attempts, retry_at)
        log.error("version %s is no arm (%s, attempt %d): %s", candidate.version, error.reason, attempts, error.message)


def _promotion(route: Route, candidate: Candidate) -> Promotion:
    """The candidate as the ledger would name it, had it been promoted: what a version is prepared from."""
    return Promotion(
        model=route.model, alias=route.alias, seq=route.seq, kind="promote", version=candidate.version, from_version=None,
        run_id=candidate.run_id, manifest_id=candidate.manifest_id, model_digest=candidate.model_digest, decision_id=route.id,
        actor=route.actor, reason=route.reason, state="done", created_at=route.created_at,
    )  # fmt: skip
