"""Route: how one model's requests are shared between the version its alias names and candidates for its place.

A row of a log like the promotion ledger's: rows are only added, each with its audit entry; the newest one is in force. The
champion is always what the alias names, so a promotion or a rollback needs no route to change. Candidates are pinned by
version and digest: evidence is about bytes. Set by `promotion/route`, followed by `zebra_serving/routing`.
"""

from datetime import datetime
from typing import Literal, Protocol, Self

from pydantic import Field, model_validator

from zebra_assets.contracts.arm import ArmTally
from zebra_assets.contracts.names import Digest, ManifestId, Name, Version
from zebra_assets.contracts.noun import Noun

CHAMPION = "champion"
Kind = Literal["set", "canary", "rollback", "stop"]


class Candidate(Noun):
    """A version beside the champion.

    Attributes:
        name: what the metrics, the header and people call it.
        weight: share of the requests it answers; under a canary the schedule says so instead.
        shadow: share of the requests it is asked about, too, without anybody seeing its answer.
    """

    name: Name = "candidate"
    version: Version
    run_id: str
    manifest_id: ManifestId
    model_digest: Digest
    weight: float = Field(default=0.0, ge=0, le=1)
    shadow: float = Field(default=0.0, ge=0, le=1)


class Sticky(Noun):
    """What keeps its arm from request to request: a column of the row, or a header. Without either each request is drawn anew."""

    column: str | None = None
    header: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$", description="Lower case.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.column is None) == (self.header is None):
            raise ValueError("name either a column or a header")
        return self


class Step(Noun):
    """One step of a canary: a weight, and how long it lasts. The last step's weight stays."""

    weight: float = Field(gt=0, le=1)
    minutes: float = Field(ge=0)


class Guards(Noun):
    """What sends a canary back.

    Attributes:
        errors: greatest share of requests that the candidate fails and the champion answers.
        p99_ms: slowest 99th percentile of the time inside the server, milliseconds; None for no limit.
        verdict: whether a verdict 'keep' on labelled outcomes counts, with these `alpha` and `margin`.
        min_requests: fewer say nothing about the latency; errors are judged as if there had been as many.
    """

    errors: float = Field(default=0.01, ge=0, le=1)
    p99_ms: float | None = Field(default=None, gt=0)
    verdict: bool = True
    alpha: float = Field(default=0.05, gt=0, lt=1)
    margin: float = Field(default=0.0, ge=0, lt=1)
    min_requests: int = Field(default=100, ge=1)


class Canary(Noun):
    """A ramp. Its weight is a function of the clock alone, so every server agrees and a restart changes nothing."""

    candidate: Name
    steps: list[Step] = Field(min_length=1, max_length=50)
    guards: Guards = Field(default_factory=Guards)
    started_at: datetime

    def weight(self, at: datetime) -> float:
        """The weight at a moment."""
        minutes = (at - self.started_at).total_seconds() / 60
        for step in self.steps:
            if minutes < step.minutes:
                return step.weight
            minutes -= step.minutes
        return self.steps[-1].weight

    def ends_in(self, at: datetime) -> float:
        """Minutes until the last step is over; 0 when it is."""
        return max(0.0, sum(step.minutes for step in self.steps) - (at - self.started_at).total_seconds() / 60)


class Route(Noun):
    """One row. `seq` counts from 1 per model and alias and gives the order.

    Attributes:
        salt: seeds the draw; with the same salt a key keeps its arm while weights grow.
        force_header: a request may name its arm in this header, lower case; None: it may not.
    """

    model: Name
    alias: Name
    seq: int = Field(ge=1)
    kind: Kind
    salt: str = Field(pattern=r"^[0-9a-f]{16,64}$")
    candidates: list[Candidate] = Field(default_factory=list, max_length=8)
    sticky: Sticky | None = None
    force_header: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$")
    canary: Canary | None = None
    actor: str
    reason: str = ""
    created_at: datetime

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        names, versions = [c.name for c in self.candidates], [c.version for c in self.candidates]
        if len({CHAMPION, *names}) <= len(names) or len(set(versions)) < len(versions):
            raise ValueError("candidates need names and versions of their own, and 'champion' is taken")
        if sum(c.weight for c in self.candidates) > 1 + 1e-9:
            raise ValueError("the candidates' weights add up to more than 1")
        if self.canary is not None and [self.canary.candidate] != names:
            raise ValueError("a canary ramps the one candidate of its route")
        return self

    def weights(self, at: datetime) -> dict[str, float]:
        """Each candidate's share of the requests at a moment, by name; the champion has the rest."""
        if self.canary is not None:
            return {self.canary.candidate: self.canary.weight(at)}
        return {c.name: c.weight for c in self.candidates}

    @property
    def id(self) -> str:
        """Names the row to people and in the audit log."""
        return f"{self.model}/{self.alias}/route-{self.seq}"


class Verdict(Noun):
    """What labelled outcomes say about a candidate against the champion; see `evaluation/verdict` for the test behind it.

    Attributes:
        decision: `promote` and `keep` are each wrong with a chance of at most alpha / 2, however often one looks.
        because: in words, with the numbers.
        rows: labelled outcomes that counted, by version, one of each key.
        means: each version's mean outcome; every outcome lies between 0 and 1, and more is better.
        difference: candidate minus champion (low, estimate, high), the ends good at any time with chance 1 - alpha.
        evidence: e-values for `promote` and for `keep`; each decides at 2 / alpha.
        more: about how many further outcomes will decide; None when decided or not in sight.
    """

    model: Name
    alias: Name
    champion: Version
    candidate: Version
    decision: Literal["promote", "keep", "more"]
    because: str
    metric: str
    alpha: float
    margin: float
    rows: dict[Version, int]
    means: dict[Version, float]
    difference: tuple[float, float, float]
    evidence: tuple[float, float]
    more: int | None
    created_at: datetime


class Routes(Protocol):
    """Where routes rest, with what servers saw of their arms; a port. Every method may raise `Unavailable`."""

    def head(self, model: str, alias: str) -> Route | None:
        """The route in force: the row with the highest seq."""
        ...

    def append(self, route: Route) -> None:
        """Insert ``route`` as head with its audit entry; `Conflict` unless its seq is exactly head + 1."""
        ...

    def history(self, model: str, alias: str) -> list[Route]:
        """Rows, newest first."""
        ...

    def save_tally(self, tally: ArmTally) -> None:
        """Insert, or replace the tally of the same id."""
        ...

    def tallies(self, model: str, alias: str, route: int) -> list[ArmTally]:
        """What every server saw under one route."""
        ...

    def save_verdict(self, verdict: Verdict) -> None:
        """Keep it as the newest word on its two versions."""
        ...

    def verdict(self, model: str, alias: str, champion: str, candidate: str) -> Verdict | None:
        """The newest word on two versions."""
        ...
