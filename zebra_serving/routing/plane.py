"""A data plane in front of which lots are drawn. With no route it is the plain one.

A candidate cannot fail a request that the champion would have answered: where it does, the champion answers, and the failure is
counted against it. All rows of a request have one lot, for an answer names one version; with a sticky column it is the first row's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from zebra_assets.contracts.events import Drawn
from zebra_serving.answer import Answer
from zebra_serving.dataplane import INLINE_BYTES, PATIENCE_S, DataPlane, Headers
from zebra_serving.problems import InputInvalid, ModelFailed, Problem
from zebra_serving.routing.plan import Arm, Lot, Plan
from zebra_serving.routing.router import Router
from zebra_serving.rows import Rows
from zebra_serving.served import Scored, Served

Read = Callable[[Served], Rows]
Write = Callable[[Answer], bytes]


class Chosen(dict[bytes, bytes]):
    """A request's headers, and the version that its lot fell on: what a `Chooser` finds in them."""

    __slots__ = ("served",)

    def __init__(self, headers: Mapping[bytes, bytes], served: Served) -> None:
        super().__init__(headers)
        self.served = served


class RoutedId(str):
    """A request's id that knows its lot, so that nothing between the draw and the event has to."""

    __slots__ = ("drawn",)
    drawn: Drawn | None

    def __new__(cls, request_id: str, drawn: Drawn | None) -> "RoutedId":
        made = super().__new__(cls, request_id)
        made.drawn = drawn
        return made


class _Held:
    """One request on its way: the rows as they were read, and what they were told."""

    def __init__(self, read: Read, write: Write, known: tuple[Served, Rows] | None) -> None:
        self._read, self._write, self._known = read, write, known
        self.rows: Rows | None = None
        self.scored: Scored | None = None

    def read(self, served: Served) -> Rows:
        known = self._known
        self.rows = known[1] if known is not None and known[0] is served else self._read(served)
        return self.rows

    def write(self, answer: Answer) -> bytes:
        self.scored = answer.scored
        return self._write(answer)


class RoutedPlane(DataPlane):
    """See the module. The other arguments are `DataPlane`'s; its `choose` must know `Chosen`."""

    def __init__(self, router: Router, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._router = router

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
        held = _Held(read, write, known)
        began = time.perf_counter()

        async def ask(served: Served, drawn: Drawn | None) -> bytes:
            return await super(RoutedPlane, self).answer(
                held.read,
                held.write,
                headers=Chosen(headers, served),
                size=size,
                request_id=RoutedId(request_id, drawn),
                patience_s=patience_s,
            )

        try:
            body = await ask(arm.served or champion, plan.drawn(arm, lot) if by_lot else None)
        except Exception as error:
            if arm.served is None:
                arm.seen.requests += 1
                arm.seen.errors += not isinstance(error, Problem) or isinstance(error, ModelFailed)
                raise
            if isinstance(error, Problem) and not isinstance(error, InputInvalid | ModelFailed):
                raise  # too busy, or too large: the champion would say the same
            body = await ask(champion, None)
            arm.seen.requests += 1
            arm.seen.errors += 1
            self._router.note(arm, error)
            arm = plan.champion
        else:
            arm.seen.answered(time.perf_counter() - began, held.scored, len(held.rows or ()))
        if plan.shadows:
            self._cast(plan, arm, lot, held)
        return body

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
