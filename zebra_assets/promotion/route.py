"""Change a model's route: who shares its requests, by which weights, and how a canary ramps.

A candidate that strangers see answers of must have passed the gate, as for an alias: otherwise a weight of 1 would be a
promotion by the back door. A shadow's answers nobody sees, so it need not. A route never moves an alias: at the end of a
canary the way to `prod` is `promote`, which asks the gate about the champion of that day.
"""

import secrets
from dataclasses import dataclass

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Ledger, Records
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.route import Canary, Candidate, Guards, Kind, Route, Routes, Step, Sticky
from zebra_assets.contracts.run import Run
from zebra_assets.errors import Conflict, GateClosed, NotFound
from zebra_assets.promotion.promote import standing_decision


@dataclass(frozen=True)
class Board:
    """What a change of a route needs to see, and who asks for it."""

    spec: ModelSpec
    alias: str
    routes: Routes
    ledger: Ledger
    records: Records
    actor: str

    @property
    def model(self) -> str:
        return self.spec.name

    def champion(self) -> Promotion:
        """What the alias names. Raises `NotFound`."""
        head = self.ledger.head(self.model, self.alias)
        if head is None:
            fix = f"mlops promote {self.model} --to {self.alias}"
            raise NotFound(f"{self.alias} of {self.model} names no version, so there is nothing to share requests with.", fix=fix)
        return head

    def admit(self, run: Run, *, name: str, weight: float, shadow: float) -> Candidate:
        """A run's version as a candidate.

        Raises:
            Conflict: it is the champion.
            GateClosed: it would answer requests, and the gate's newest decision does not let it.
            NotFound: the run has no registered version.
        """
        if run.version is None or run.model_digest is None:
            raise NotFound(f"Run {run.id} has no registered version ({run.state}).", fix=f"mlops train {self.model}")
        if run.version == self.champion().version:
            raise Conflict(f"Version {run.version} is what {self.alias} names already.", fix=f"mlops list runs --model {self.model}")
        if weight > 0 and self._never_named(run):
            try:
                standing_decision(run, self.spec, self.records)
            except GateClosed as no:
                message = f"{no.message} A candidate that answers requests must have passed the gate; a shadow need not."
                raise GateClosed(message, fix=no.fix) from no
        facts = {"version": run.version, "run_id": run.id, "manifest_id": run.manifest_id, "model_digest": run.model_digest}
        return Candidate(name=name, weight=weight, shadow=shadow, **facts)

    def _never_named(self, run: Run) -> bool:
        """Whether the alias has never named this version: one that it has passed the gate then, as for a rollback."""
        return all(
            (row.version, row.model_digest) != (run.version, run.model_digest) for row in self.ledger.history(self.model, self.alias)
        )


def share(board: Board, candidates: list[Candidate], sticky: Sticky | None, force_header: str | None, reason: str = "") -> Route:
    """Put candidates beside the champion, with fixed weights. The lots are drawn anew.

    Raises:
        Conflict: somebody else changed the route meanwhile.
    """
    return _append(board, "set", candidates=candidates, sticky=sticky, force_header=force_header, reason=reason)


def ramp(
    board: Board,
    candidate: Candidate,
    steps: list[Step],
    guards: Guards,
    sticky: Sticky | None,
    force_header: str | None,
    reason: str = "",
) -> Route:
    """Start a canary; raises like `share`."""
    canary = Canary(candidate=candidate.name, steps=steps, guards=guards, started_at=now())
    first = candidate.model_copy(update={"weight": 0.0})
    return _append(board, "canary", candidates=[first], sticky=sticky, force_header=force_header, canary=canary, reason=reason)


def stop(board: Board, reason: str = "") -> Route:
    """Give all requests to the champion, and ask no shadow. Stopped already, it stays as it is.

    Raises:
        NotFound: there has never been a route.
        Conflict: somebody else changed the route meanwhile.
    """
    head = board.routes.head(board.model, board.alias)
    if head is None:
        raise NotFound(f"{board.model} has no route at {board.alias}: every request goes to the champion.", fix="mlops route --help")
    return head if not head.candidates else _append(board, "stop", candidates=[], reason=reason)


def _append(
    board: Board,
    kind: Kind,
    *,
    candidates: list[Candidate],
    sticky: Sticky | None = None,
    force_header: str | None = None,
    canary: Canary | None = None,
    reason: str,
) -> Route:
    head = board.routes.head(board.model, board.alias)
    route = Route(
        model=board.model,
        alias=board.alias,
        seq=head.seq + 1 if head else 1,
        kind=kind,
        salt=secrets.token_hex(16),
        candidates=candidates,
        sticky=sticky,
        force_header=force_header,
        canary=canary,
        actor=board.actor,
        reason=reason,
        created_at=now(),
    )
    board.routes.append(route)
    return route
