"""What one server saw of one arm of a route: counts that add up over servers and restarts, and name no row."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Self

from pydantic import Field

from zebra_assets.contracts.names import Name, Version
from zebra_assets.contracts.noun import Noun

# Upper bounds, each inclusive; one more bucket holds what is beyond.
SECONDS = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075,
    0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
DELTAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


class Spread(Noun):
    """How values are distributed over fixed buckets.

    Attributes:
        counts: of each bucket, and of what lies beyond the last bound; empty while nothing was seen.
        total: the values' sum.
    """

    counts: list[int] = Field(default_factory=list)
    total: float = 0.0

    @property
    def rows(self) -> int:
        return sum(self.counts)

    def __add__(self, other: "Spread") -> "Spread":
        if not (self.counts and other.counts):
            return self if self.counts else other
        return Spread(counts=[a + b for a, b in zip(self.counts, other.counts, strict=True)], total=self.total + other.total)


class Differences(Noun):
    """A shadow's answers beside those that were given.

    Attributes:
        rows: compared.
        flips: rows whose label differs.
        failed: rows that only the shadow could not answer.
        dropped: rows that the shadow was too busy for.
        deltas: distance between the two scores, 0 to 1, over `DELTAS`; of models with scores.
        drift: sum of the signed differences, shadow minus given: over `deltas.rows`, the mean shift of the scores.
    """

    rows: int = 0
    flips: int = 0
    failed: int = 0
    dropped: int = 0
    deltas: Spread = Field(default_factory=Spread)
    drift: float = 0.0

    def __add__(self, other: "Differences") -> "Differences":
        counts = {name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields}
        return Differences(**counts)


class ArmTally(Noun):
    """One arm, one server, one route.

    Attributes:
        id: of the server and what it counted; saved again as it goes on.
        requests: that this arm was to answer.
        errors: of those, the ones it failed and the champion answered; the champion's own: those nobody answered.
        seconds: inside the server, over `SECONDS`; a candidate's also where they passed without an answer.
        scores: over `SHARES`; of models with scores.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{8,200}$")
    model: Name
    alias: Name
    route: int
    name: Name
    version: Version
    requests: int = 0
    errors: int = 0
    seconds: Spread = Field(default_factory=Spread)
    scores: Spread = Field(default_factory=Spread)
    shadow: Differences = Field(default_factory=Differences)

    def __add__(self, other: "ArmTally") -> "Self":
        added = {name: getattr(self, name) + getattr(other, name) for name in ("requests", "errors", "seconds", "scores", "shadow")}
        return self.model_copy(update=added)


def by_arm(tallies: Iterable[ArmTally]) -> dict[str, ArmTally]:
    """The sum over servers, by the arm's name and version: ``candidate/7``."""
    found: dict[str, ArmTally] = {}
    for tally in tallies:
        key = f"{tally.name}/{tally.version}"
        found[key] = found[key] + tally if key in found else tally
    return found


def quantile(spread: Spread, bounds: tuple[float, ...], share: float) -> float | None:
    """Upper bound of the bucket in which a quantile lies, infinite beyond the last; None of nothing."""
    if not spread.rows:
        return None
    cumulated, held = [], 0
    for count in spread.counts:
        held += count
        cumulated.append(held)
    at = bisect_left(cumulated, share * held)
    return bounds[at] if at < len(bounds) else float("inf")
