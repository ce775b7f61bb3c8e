"""Live counts of one arm under one route; they become an `ArmTally` when somebody looks."""

from bisect import bisect_left
from collections.abc import Sequence
from threading import Lock

from zebra_assets.contracts.arm import DELTAS, SECONDS, SHARES, ArmTally, Differences, Spread
from zebra_serving.served import Scored

# Of a large request so many scores tell how they are distributed; all of 10,000 would hold the event loop for 2 ms.
MAX_SCORES = 64


class Buckets:
    """How values are distributed over ascending, inclusive bounds; from one thread."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._counts, self._total = bounds, [0] * (len(bounds) + 1), 0.0

    def see(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def noun(self) -> Spread:
        counts = list(self._counts)
        return Spread(counts=counts, total=self._total) if any(counts) else Spread()


class Seen:
    """One arm's counts. Requests are counted in the event loop, comparisons in the shadow's thread."""

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self._seconds, self._scores = Buckets(SECONDS), Buckets(SHARES)
        self._compared = self._flips = self._failed = self._dropped = 0
        self._deltas, self._drift = Buckets(DELTAS), 0.0
        self._lock = Lock()

    def answered(self, seconds: float, scored: Scored | None, rows: int) -> None:
        """One request of so many rows, and what it was told."""
        self.requests += 1
        self._seconds.see(seconds)
        if scored is None:
            return
        some = scored if rows <= MAX_SCORES else scored.part(slice(None, None, -(-rows // MAX_SCORES)))
        for score in some.scores or ():
            self._scores.see(score)

    def late(self, seconds: float) -> None:
        """One request that was not answered, and how long it waited for that."""
        self.requests += 1
        self.errors += 1
        self._seconds.see(seconds)

    def dropped(self, rows: int) -> None:
        """Rows that the shadow was too busy for; from any thread."""
        with self._lock:
            self._dropped += rows

    def failed(self, rows: int) -> None:
        """Rows that the shadow could not answer."""
        self._failed += rows

    def compared(self, given: Scored, mine: Scored) -> None:
        """The shadow's answers beside those that were given."""
        self._compared += len(mine.labels)
        self._flips += sum(a != b for a, b in zip(given.labels, mine.labels, strict=True))
        if given.scores is not None and mine.scores is not None:
            for a, b in zip(given.scores, mine.scores, strict=True):
                self._deltas.see(abs(b - a))
                self._drift += b - a

    def tally(self, *, id: str, model: str, alias: str, route: int, name: str, version: str) -> ArmTally:
        """What is known so far."""
        shadow = Differences(
            rows=self._compared,
            flips=self._flips,
            failed=self._failed,
            dropped=self._dropped,
            deltas=self._deltas.noun(),
            drift=self._drift,
        )
        return ArmTally(
            id=id, model=model, alias=alias, route=route, name=name, version=version, requests=self.requests, errors=self.errors,
            seconds=self._seconds.noun(), scores=self._scores.noun(), shadow=shadow,
        )  # fmt: skip
