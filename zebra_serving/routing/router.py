"""Follows a model's route: prepares its candidates, draws up the plan, saves what was seen, and sends a bad canary back.

    poll the log -> candidates prepared like any version -> guards -> plan
                     └ bad: no such arm, the reason in /model, tried again later

One thread, beside the loader's, so that a candidate that takes long to prepare holds up no promotion. While the log cannot be
reached the last plan stays, and a canary's weight with it; a guard that breaks then is obeyed here and told later.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from zebra_assets.contracts.arm import ArmTally, by_arm
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.route import Candidate, Route, Routes
from zebra_assets.errors import Conflict, ZebraError
from zebra_serving.routing.canary import Broken, back, broken
from zebra_serving.routing.plan import Arm, Plan, champion
from zebra_serving.routing.seen import Seen
from zebra_serving.routing.shadow import Shadow
from zebra_serving.served import Served
from zebra_serving.staging import BadCandidate, Staging

log = logging.getLogger(__name__)

SAVE_S = 2.0
MAX_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Refusal:
    """Why a candidate is no arm, and when it is tried again."""

    reason: str
    message: str
    fix: str | None
    attempts: int
    retry_at: float


class Router:
    """Keeps `plan` in step with the log.

    Args:
        in_force: the version that the ledger names, once it is loaded.
        reachable: raises `Unavailable` when the log should not be asked now.

    Attributes:
        plan: None while every request goes to what is in force.
        refusals: candidates that are no arms, by name.
        rollbacks: canaries that this server sent back, by cause.
        redrawn: called with each new plan, or none, in the router's thread.
    """

    def __init__(
        self,
        model: str,
        alias: str,
        *,
        routes: Routes,
        staging: Staging,
        in_force: Callable[[], Served | None],
        interval_s: float,
        reachable: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.alias, self.champion, self.shadow = model, alias, in_force, Shadow()
        self.plan: Plan | None = None
        self.redrawn: Callable[[], None] = lambda: None
        self.route: Route | None = None
        self.refusals: dict[str, Refusal] = {}
        self.rollbacks: dict[str, int] = {}
        self._routes, self._staging, self._reachable, self._interval_s = routes, staging, reachable, interval_s
        self._loaded: dict[str, Served] = {}
        self._seen: dict[tuple[str, str], Seen] = {}
        self._past: list[ArmTally] = []
        self._saved: dict[str, ArmTally] = {}
        self._saved_at = 0.0
        self._known_at: datetime = now()
        self._fallen: Broken | None = None
        self._away = False
        self._server = secrets.token_hex(4)
        self._ended = threading.Event()  # of the life that goes on; the next one has its own
        self._thread: threading.Thread | None = None

    @property
    def weight(self) -> int:
        """Bytes of the candidates in memory."""
        return sum(served.weight for served in list(self._loaded.values()))

    def start(self) -> None:
        """Begin to follow the log, also after `sleep` or `stop`."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._ended,), name="router", daemon=True)
        self._thread.start()

    def sleep(self) -> None:
        """End without waiting and forget the candidates; what was seen is kept, and written when the log is followed again."""
        self._ended.set()
        self.plan, self._loaded = None, {}

    def stop(self) -> None:
        """Write what was seen, let go of the candidates, and end."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2.0)
        self.shadow.stop()
        self._save(0.0)
        self.plan, self._loaded = None, {}

    def poll(self) -> None:
        """Ask the log once and do what it says. Never raises."""
        try:
            self._reachable()
            head = self._routes.head(self.model, self.alias)
            self._known_at = now()
        except Exception as error:
            if not self._away:
                log.warning("the route cannot be read, the last one stays: %s", error)
            self._away, head = True, self.route
        else:
            self._away = False
        in_force = self.champion()
        if head is None or in_force is None or not _active(head):
            self._follow(head)
            self.plan = None
            self.redrawn()
            return
        self._follow(head)
        self._prepare(head, in_force)
        self._judge(head, in_force)
        self.plan = self._drawn_up(head, in_force)
        self.redrawn()
        self._save(SAVE_S)

    def note(self, arm: Arm, error: Exception) -> None:
        """A candidate failed a request that the champion has answered."""
        if arm.seen.errors <= 5:
            log.warning("version %s failed where the champion answered: %s: %s", arm.version, type(error).__name__, error)

    def tallies(self) -> Iterator[ArmTally]:
        """What this server saw: of the route in force, and, under the same names, of those before."""
        yield from self._past
        yield from self._live()

    def _run(self, ended: threading.Event) -> None:
        self.poll()
        while not ended.wait(self._interval_s):
            self.poll()

    def _follow(self, head: Route | None) -> None:
        """Another entry begins its own counts."""
        if head is not None and self.route is not None and head.seq == self.route.seq:
            return
        if self.route is not None:
            self._save(0.0)
            self._past = list(by_arm([*self._past, *self._live()]).values())
        # The dictionary is replaced: requests that still run count in the old one, which nobody reads any more.
        self.route, self._seen, self.refusals, self._fallen = head, {}, {}, None
        wanted = {candidate.model_digest for candidate in head.candidates} if head and _active(head) else set()
        self._loaded = {digest: served for digest, served in self._loaded.items() if digest in wanted}

    def _prepare(self, route: Route, in_force: Served) -> None:
        for candidate in route.candidates:
            refusal = self.refusals.get(candidate.name)
            named = _promotion(route, candidate)
            waits = refusal is not None and time.monotonic() < refusal.retry_at
            if waits or candidate.model_digest in self._loaded or in_force.is_version_of(named):
                continue
            try:
                self._loaded[candidate.model_digest] = self._staging.prepare(named)
                self.refusals.pop(candidate.name, None)
                log.info("version %s of %s is the arm '%s'", candidate.version, self.model, candidate.name)
            except Exception as cause:
                error = cause if isinstance(cause, BadCandidate) else BadCandidate("fault", cause)
                attempts = refusal.attempts + 1 if refusal else 1
                pause = min(self._interval_s * 2**attempts, MAX_BACKOFF_S)
                self.refusals[candidate.name] = Refusal(error.reason, error.message, error.fix, attempts, time.monotonic() + pause)
                log.error("version %s is no arm (%s, attempt %d): %s", candidate.version, error.reason, attempts, error.message)

    def _judge(self, route: Route, in_force: Served) -> None:
        """Look at a canary's guards, and send it back when one does not hold; whichever server is first writes the entry."""
        if route.canary is None:
            return
        if self._fallen is None:
            found = self._broken(route, in_force)
            if found is None:
                return
            self._fallen = found
            log.error("the canary of %s goes back: %s", self.model, found.reason)
        self._save(0.0)
        try:
            self._reachable()
            self._routes.append(back(route, self._fallen))
            self.rollbacks[self._fallen.cause] = self.rollbacks.get(self._fallen.cause, 0) + 1
        except Conflict:
            log.info("another server was first, or somebody changed the route")
        except Exception as error:
            log.warning("the canary has gone back here; the log will be told: %s", error)

    def _broken(self, route: Route, in_force: Served) -> Broken | None:
        assert route.canary is not None
        (candidate,) = route.candidates
        mine = {tally.id: tally for tally in self._live()}
        others: list[ArmTally] = []
        verdict = None
        try:
            self._reachable()
            others = self._routes.tallies(self.model, self.alias, route.seq)
            verdict = self._routes.verdict(self.model, self.alias, in_force.promotion.version, candidate.version)
        except ZebraError as error:
            log.warning("only what this server saw is known of the canary: %s", error.message)
        tallies = by_arm([*mine.values(), *(tally for tally in others if tally.id not in mine)])
        seen = tallies.get(f"{candidate.name}/{candidate.version}")
        empty = ArmTally(id="nothing-", model=self.model, alias=self.alias, route=route.seq, name=candidate.name, version=candidate.version)
        return broken(route.canary.guards, seen or empty, verdict)

    def _drawn_up(self, route: Route, in_force: Served) -> Plan | None:
        weights = route.weights(self._known_at)
        arms: list[tuple[float, Arm]] = []
        shadows: list[tuple[float, Arm]] = []
        for candidate in route.candidates:
            served = self._loaded.get(candidate.model_digest)
            if served is None or self._fallen is not None or served.is_version_of(in_force.promotion):
                continue  # not ready, gone back, or promoted meanwhile: its share is the champion's
            arm = Arm(candidate.name, candidate.version, served, self._counted(candidate.name, candidate.version))
            arms.append((weights[candidate.name], arm))
            if candidate.shadow:
                shadows.append((candidate.shadow, arm))
        if not arms:
            return None
        version = in_force.promotion.version
        return Plan(route, champion(version, self._counted("champion", version)), arms, shadows)

    def _counted(self, name: str, version: str) -> Seen:
        return self._seen.setdefault((name, version), Seen())

    def _live(self) -> list[ArmTally]:
        route = self.route
        if route is None:
            return []
        about = {"model": self.model, "alias": self.alias, "route": route.seq}
        stem = f"{self.model}-{self.alias}-{route.seq}-{self._server}"
        return [
            seen.tally(id=f"{stem}-{name}-{version}", name=name, version=version, **about)  # type: ignore[arg-type]
            for (name, version), seen in list(self._seen.items())
        ]

    def _save(self, after_s: float) -> None:
        """Write the tallies that changed, if the last time is ``after_s`` seconds ago; a store that is away gets them later."""
        if time.monotonic() < self._saved_at + after_s:
            return
        self._saved_at = time.monotonic()
        try:
            for tally in self._live():
                if self._saved.get(tally.id) != tally:
                    self._reachable()
                    self._routes.save_tally(tally)
                    self._saved[tally.id] = tally
        except ZebraError as error:
            log.warning("what was seen of the arms waits: %s", error.message)


def _active(route: Route) -> bool:
    return route.kind in ("set", "canary") and bool(route.candidates)


def _promotion(route: Route, candidate: Candidate) -> Promotion:
    """The candidate as the ledger would name it, had it been promoted: what a version is prepared from."""
    return Promotion(
        model=route.model, alias=route.alias, seq=route.seq, kind="promote", version=candidate.version, from_version=None,
        run_id=candidate.run_id, manifest_id=candidate.manifest_id, model_digest=candidate.model_digest, decision_id=route.id,
        actor=route.actor, reason=route.reason, state="done", created_at=route.created_at,
    )  # fmt: skip
