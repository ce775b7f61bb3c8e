"""Follows a model's route: prepares its candidates, draws up the plan, saves what was seen, and sends a bad canary back.

    poll the log -> candidates prepared like any version -> guards -> plan
                     └ bad: no such arm, the reason in /model, tried again later

One thread, beside the loader's, so that a candidate that takes long to prepare holds up no promotion, and another one that prepares,
so that it holds up no other route. While the log cannot be reached the last plan stays, and a canary's weight with it; a guard that
breaks then is obeyed here and told later.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from zebra_assets.contracts.arm import ArmTally, by_arm
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.route import Route, Routes
from zebra_assets.errors import Conflict, ZebraError
from zebra_serving.routing.canary import Broken, back, broken
from zebra_serving.routing.candidates import Candidates, Refusal
from zebra_serving.routing.plan import Arm, Plan, champion
from zebra_serving.routing.seen import Seen
from zebra_serving.routing.shadow import Shadow
from zebra_serving.served import Served
from zebra_serving.staging import Staging

log = logging.getLogger(__name__)

SAVE_S = 2.0


class Router:
    """Keeps `plan` in step with the log.

    Args:
        in_force: the version that the ledger names, once it is loaded.
        reachable: raises `Unavailable` when the log should not be asked now.

    Attributes:
        plan: None while every request goes to what is in force.
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
        self.rollbacks: dict[str, int] = {}
        self._routes, self._reachable, self._interval_s = routes, reachable, interval_s
        self._candidates = Candidates(staging, model, interval_s)
        self._seen: dict[tuple[str, str], Seen] = {}
        self._past: list[ArmTally] = []
        self._saved: dict[str, ArmTally] = {}
        self._saved_at = 0.0
        self._known_at: datetime = now()
        self._fallen: Broken | None = None
        self._away = False
        self._server = secrets.token_hex(4)
        self._lock = threading.Lock()  # around the plan, so that a life that has ended leaves none
        self._ended = threading.Event()  # of the life that goes on; the next one has its own
        self._thread: threading.Thread | None = None

    @property
    def weight(self) -> int:
        """Bytes of the candidates in memory."""
        return self._candidates.weight

    @property
    def refusals(self) -> Mapping[str, Refusal]:
        """Candidates that are no arms, by name."""
        return self._candidates.refusals

    def start(self) -> None:
        """Begin to follow the log, also after `sleep` or `stop`."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._ended,), name="router", daemon=True)
        self._thread.start()

    def sleep(self) -> None:
        """End without waiting and forget the candidates; what was seen is kept, and written when the log is followed again."""
        self._end()

    def stop(self) -> None:
        """Write what was seen, let go of the candidates, and end."""
        self._end()
        if self._thread is not None:
            self._thread.join(2.0)
        self.shadow.stop()
        self._save(0.0)

    def poll(self) -> None:
        """Ask the log and do what it says, as long as it says the same. Never raises."""
        ended = self._ended
        try:
            self._poll(ended)
        except Exception:  # a fault of ours must not end the thread: who would send a canary back?
            log.exception("the route of %s is looked at again", self.model)

    def _poll(self, ended: threading.Event) -> None:
        head = self._head()
        in_force = self.champion()
        self._follow(head)
        if head is None or in_force is None or not _active(head):
            self._draw(None, ended)
            return
        self._candidates.prepare(head, in_force, ended, meanwhile=lambda: self._goes_on(head, ended))
        self._go_on(head, self.champion() or in_force, ended)

    def _goes_on(self, head: Route, ended: threading.Event) -> bool:
        """While a candidate is prepared: go on with the others, as long as the log says the same."""
        in_force = self.champion()
        if ended.is_set() or in_force is None or self._head() != head:
            return False
        self._go_on(head, in_force, ended)
        return True

    def _go_on(self, head: Route, in_force: Served, ended: threading.Event) -> None:
        self._judge(head, in_force)
        self._draw(self._drawn_up(head, in_force), ended)
        self._save(SAVE_S)

    def _head(self) -> Route | None:
        """The newest entry; while the log is away the last one that was read."""
        try:
            self._reachable()
            head = self._routes.head(self.model, self.alias)
        except Exception as error:
            if not self._away:
                log.warning("the route cannot be read, the last one stays: %s", error)
            self._away = True
            return self.route
        self._known_at, self._away = now(), False
        return head

    def _draw(self, plan: Plan | None, ended: threading.Event) -> None:
        with self._lock:
            if not ended.is_set():
                self.plan = plan
        self.redrawn()

    def _end(self) -> None:
        with self._lock:
            self._ended.set()
            self.plan = None
        self._candidates.end()

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
        self.route, self._seen, self._fallen = head, {}, None
        self._candidates.follow(head if head and _active(head) else None)

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
            served = self._candidates.loaded.get(candidate.model_digest)
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
