"""A data plane in front of which lots are drawn. With no route it is the plain one.

A candidate cannot fail a request that the champion would have answered: where it does, or does not answer in time, the champion
answers, and the failure is counted against it. So that there is time left, a candidate gets half of a request's patience; and so
that the champion does not queue behind it, threads of its own (`lanes`). All rows of a request have one lot, for an answer names one
version; with a sticky column it is the first row's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from threading import Lock

from zebra_assets.contracts.events import Drawn
from zebra_serving.answer import Answer
from zebra_serving.batching import late
from zebra_serving.capture import Capture
from zebra_serving.dataplane import INLINE_BYTES, PATIENCE_S, DataPlane, Headers
from zebra_serving.metrics import Metrics
from zebra_serving.problems import InputInvalid, ModelFailed, Overloaded, Problem
from zebra_serving.routing.lanes import Lanes
from zebra_serving.routing.plan import Arm, Lot, Plan
from zebra_serving.routing.router import Router
from zebra_serving.rows import Rows
from zebra_serving.served import Scored, Served

Read = Callable[[Served], Rows]
Write = Callable[[Answer], bytes]

# Of a request's patience, what its candidate gets. The champion has as long after it: with less, a champion as slow as the candidate
# would fail the request; and a candidate that needs more than half of what clients wait for is nothing to promote.
CANDIDATE_PART = 0.5


class Chosen(dict[bytes, bytes]):
    """A request's headers, and the version that its lot fell on: what a `Chooser` finds in them."""

    __slots__ = ("served",)

    def __init__(self, headers: Mapping[bytes, bytes], served: Served) -> None:
        super().__init__(headers)
        self.served = served


class RoutedId(str):
    """A request's id that knows its lot, so that nothing between the draw and the event has to.

    Attributes:
        left: whether somebody else is asked by now, so that this answer must leave no trace.
    """

    __slots__ = ("drawn", "left")
    drawn: Drawn | None
    left: bool

    def __new__(cls, request_id: str, drawn: Drawn | None) -> "RoutedId":
        made = super().__new__(cls, request_id)
        made.drawn, made.left = drawn, False
        return made


class _Held:
    """One version's try at a request: the rows as they were read, and what they were told."""

    def __init__(self, read: Read, write: Write, known: tuple[Served, Rows] | None, request_id: RoutedId) -> None:
        self._read, self._write, self._known, self.request_id = read, write, known, request_id
        self._writing = Lock()
        self.rows: Rows | None = None
        self.scored: Scored | None = None

    def read(self, served: Served) -> Rows:
        known = self._known
        self.rows = known[1] if known is not None and known[0] is served else self._read(served)
        return self.rows

    def write(self, answer: Answer) -> bytes:
        with self._writing:
            if self.request_id.left:
                raise late(0.0)
            self.scored = answer.scored
            return self._write(answer)

    def leave(self) -> None:
        """Somebody else is asked. A thread that is still at it writes nothing from now on: doors remember what they wrote last."""
        with self._writing:
            self.request_id.left = True


class RoutedPlane(DataPlane):
    """See the module. The other arguments are `DataPlane`'s; its `choose` must know `Chosen`."""

    def __init__(
        self,
        router: Router,
        choose: Callable[[Headers], Served | None],
        absent: Callable[[Headers, float], Awaitable[Served]],
        capture: Capture,
        metrics: Metrics,
        *,
        workers: int,
        max_waiting: int,
    ) -> None:
        super().__init__(choose, absent, capture, metrics, workers=workers, max_waiting=max_waiting)
        self._router = router
        self._lanes = Lanes(choose, absent, capture, metrics, workers=workers, max_waiting=max_waiting)
        router.redrawn = lambda: self._lanes.redrawn(self._digests)

    @property
    def waiting(self) -> int:
        """See `DataPlane.waiting`; with the candidates' lanes."""
        return super().waiting + self._lanes.waiting

    def close(self, wait: bool = True) -> None:
        """See `DataPlane.close`; with the candidates' lanes."""
        super().close(wait)
        self._lanes.close(wait)

    def answer(  # type: ignore[override]  # a plain function that returns a coroutine saves one more frame
        self,
        read: Read,
        write: Write,
        *,
        headers: Headers,
        size: int,
        request_id: str | None = None,
        patience_s: float = PATIENCE_S,
        pinned: bool = False,
    ) -> Awaitable[bytes]:
        """See `DataPlane.answer`."""
        plan = self._router.plan
        if plan is None or pinned or (champion := self._router.champion()) is None:
            return super().answer(read, write, headers=headers, size=size, request_id=request_id, patience_s=patience_s)
        return self._routed(plan, champion, read, write, headers, size, request_id or "", patience_s)

    async def _routed(
        self, plan: Plan, champion: Served, read: Read, write: Write, headers: Headers, size: int, request_id: str, patience_s: float
    ) -> bytes:
        known: tuple[Served, Rows] | None = None
        arm, unit = plan.forced(headers), plan.unit(headers, request_id)
        by_lot = arm is None and plan.champion.version == champion.promotion.version
        if arm is None and plan.column is not None:
            rows = read(champion) if size <= INLINE_BYTES else await asyncio.to_thread(read, champion)
            known, unit = (champion, rows), _key(rows, plan.column) or unit
        lot = plan.lot(unit)
        arm = arm or plan.arm(lot.arm)
        held = _Held(read, write, known, RoutedId(request_id, plan.drawn(arm, lot) if by_lot else None))
        self.used_at, began = time.monotonic(), time.perf_counter()
        try:
            if arm.served is None:
                body = await self._champions(champion, held, headers, size, patience_s)
            else:
                body = await self._lanes.answer(
                    arm.served,
                    held.read,
                    held.write,
                    headers=Chosen(headers, arm.served),
                    size=size,
                    request_id=held.request_id,
                    patience_s=patience_s * CANDIDATE_PART,
                )
        except Exception as error:
            if arm.served is None:
                arm.seen.requests += 1
                arm.seen.errors += not isinstance(error, Problem) or isinstance(error, ModelFailed)
                raise
            if isinstance(error, Problem) and not isinstance(error, InputInvalid | ModelFailed | Overloaded):
                raise  # too large: the champion would say the same
            spent_s = time.perf_counter() - began
            if isinstance(error, Overloaded):
                # Counted before the champion is asked: whatever holds it up as well, a guard must hear of this.
                held.leave()
                arm.seen.late(spent_s)
                self._router.note(arm, error)
            held = _Held(read, write, known, RoutedId(request_id, None))
            body = await self._champions(champion, held, headers, size, max(0.0, patience_s - spent_s))
            if not isinstance(error, Overloaded):
                arm.seen.requests += 1
                arm.seen.errors += 1
                self._router.note(arm, error)
            arm = plan.champion
        else:
            arm.seen.answered(time.perf_counter() - began, held.scored, len(held.rows or ()))
        if plan.shadows:
            self._cast(plan, arm, lot, held)
        return body

    def _champions(self, champion: Served, held: _Held, headers: Headers, size: int, patience_s: float) -> Awaitable[bytes]:
        return super().answer(
            held.read, held.write, headers=Chosen(headers, champion), size=size, request_id=held.request_id, patience_s=patience_s
        )

    def _digests(self) -> set[str]:
        """The candidates that may be asked now."""
        plan = self._router.plan
        return {arm.served.promotion.model_digest for arm in plan.arms() if arm.served} if plan else set()

    def _cast(self, plan: Plan, answered: Arm, lot: Lot, held: _Held) -> None:
        if held.rows is None or held.scored is None:
            return
        for share, arm in plan.shadows:
            if lot.shadow < share and arm.version != answered.version:
                self._router.shadow.offer(arm, held.rows, held.scored)


def _key(rows: Rows, column: str) -> bytes | None:
    """The first row's value of a column; None where the rows have no such column or the row leaves it out."""
    names = rows.schema.recorded
    value = rows.at([0])[0][names.index(column)] if column in names else None
    return None if value is None else str(value).encode()
