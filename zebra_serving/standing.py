"""What a loader knows about itself besides its versions: when the ledger answered, what went wrong, what is waited for."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from zebra_assets.contracts.noun import now

# A connection that froze fails no question, it leaves it open: after so long the ledger is away. Or after five intervals, if longer.
SILENT_S = 10.0
MAX_BACKOFF_S = 60.0


def pause_s(interval_s: float, attempts: int) -> float:
    """Seconds until what failed so many times is tried again: twice as long each time, at most a minute."""
    return min(interval_s * 2.0 ** min(attempts, 16), MAX_BACKOFF_S)


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
        stale_since: since when the ledger cannot be reached, while something serves. Readers want `Loader.stale`.
        failure: why the ledger's head is not what serves.
        waiting: why nothing serves.
    """

    ledger_seen: float | None = None
    stale_since: datetime | None = None
    stale_reason: str | None = None
    failure: Failure | None = None
    waiting: tuple[str, str | None] = ("The model is being loaded.", None)

    @property
    def ledger_age_s(self) -> float | None:
        """Seconds since the ledger last answered; None before it did."""
        return None if self.ledger_seen is None else time.monotonic() - self.ledger_seen

    def stale(self, interval_s: float) -> tuple[datetime | None, str | None]:
        """Since when the ledger is away, and why: it cannot be reached, or it is asked every ``interval_s`` and says nothing at all."""
        age = self.ledger_age_s
        if self.stale_since is not None or age is None or age <= max(SILENT_S, 5 * interval_s):
            return self.stale_since, self.stale_reason
        return (now() - timedelta(seconds=age)).replace(microsecond=0), f"The ledger has not answered for {age:.0f} s."
