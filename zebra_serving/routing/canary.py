"""Whether a canary must go back: its guards against what all servers saw, and against the newest verdict. Pure."""

from dataclasses import dataclass
from typing import Literal

from zebra_assets.contracts.arm import SECONDS, ArmTally, quantile
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.route import Guards, Route, Verdict

Cause = Literal["errors", "latency", "verdict"]


@dataclass(frozen=True)
class Broken:
    """A guard that no longer holds, in words with its numbers."""

    cause: Cause
    reason: str


def broken(guards: Guards, seen: ArmTally, verdict: Verdict | None) -> Broken | None:
    """The first guard that does not hold.

    Errors are judged as if there had been `min_requests` already: a candidate that fails every request goes back after a few.

    Args:
        seen: the candidate's tally, summed over servers.
        verdict: the newest one on the champion and the candidate; it counts if it was at least as strict as the guards ask.
    """
    allowed = guards.errors * max(seen.requests, guards.min_requests)
    if seen.errors > allowed:
        said = f"failed {seen.errors:,} of {seen.requests:,} requests, and the champion answered them; at most {guards.errors:.3g}"
        return Broken("errors", said)
    if guards.p99_ms is not None and seen.seconds.rows >= guards.min_requests:
        p99 = quantile(seen.seconds, SECONDS, 0.99)
        if p99 is not None and p99 * 1e3 > guards.p99_ms:
            said = f"p99 of {seen.seconds.rows:,} requests is up to {p99 * 1e3:.4g} ms; at most {guards.p99_ms:.4g} ms"
            return Broken("latency", said)
    if guards.verdict and verdict is not None and verdict.decision == "keep" and _strict(verdict, guards):
        return Broken("verdict", f"keep version {verdict.champion}: {verdict.because}")
    return None


def _strict(verdict: Verdict, guards: Guards) -> bool:
    return verdict.alpha <= guards.alpha and verdict.margin <= guards.margin


def back(route: Route, found: Broken) -> Route:
    """The route's next entry: every request to the champion again."""
    candidates = [candidate.model_copy(update={"weight": 0.0, "shadow": 0.0}) for candidate in route.candidates]
    changed = {
        "seq": route.seq + 1, "kind": "rollback", "candidates": candidates, "canary": None, "force_header": None,
        "actor": "serving", "reason": f"{found.cause}: {found.reason}", "created_at": now(),
    }  # fmt: skip
    return route.model_copy(update=changed)
