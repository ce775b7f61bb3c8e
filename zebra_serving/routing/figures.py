"""What people and Prometheus are told of a route: the view in `GET /model`, and the metrics of each arm."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from zebra_assets.contracts.arm import DELTAS, SECONDS, SHARES, ArmTally, Spread, by_arm
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.route import CHAMPION
from zebra_serving.routing.router import Router


class CandidateView(BaseModel):
    """A version beside the champion; ``problem`` says why it is no arm although the route wants it."""

    name: str
    version: str
    weight: float
    shadow: float
    serving: bool
    problem: str | None = None
    fix: str | None = None


class RouteView(BaseModel):
    """The route in force. ``next`` is what to do when a canary has taken its last step."""

    entry: int
    kind: str
    by: str
    since: datetime
    reason: str
    candidates: list[CandidateView]
    canary_minutes_left: float | None = None
    next: str | None = None


def view(router: Router) -> RouteView | None:
    """None while there has never been a route."""
    route, plan, at = router.route, router.plan, now()
    if route is None:
        return None
    weights, arms = route.weights(at), set(plan.shares) - {plan.champion.version} if plan else set()
    candidates = []
    for c in route.candidates:
        refusal = router.refusals.get(c.name)
        told = {"problem": refusal.message, "fix": refusal.fix} if refusal else {}
        candidates.append(
            CandidateView(name=c.name, version=c.version, weight=weights[c.name], shadow=c.shadow, serving=c.version in arms, **told)
        )
    left = route.canary.ends_in(at) if route.canary else None
    done = f"mlops promote {route.model} --run {route.candidates[0].run_id} --to {route.alias}" if left == 0 else None
    return RouteView(
        entry=route.seq, kind=route.kind, by=route.actor, since=route.created_at, reason=route.reason, candidates=candidates,
        canary_minutes_left=left, next=done,
    )  # fmt: skip


class RouteFigures(Collector):
    """The arms' counters and histograms, and the weights; nothing until there is a route."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def collect(self) -> Iterator[Metric]:
        router = self._router
        arms = sorted(by_arm(router.tallies()).values(), key=lambda tally: (tally.name, tally.version))
        yield _counter("zebra_arm_requests", "Requests by the arm that was to answer.", arms, lambda t: t.requests)
        yield _counter(
            "zebra_arm_errors",
            "Requests that a candidate failed and the champion answered; of the champion: failed.",
            arms,
            lambda t: t.errors,
        )
        yield _histogram(
            "zebra_arm_seconds",
            "Seconds inside the server by the arm that answered, or did not in time.",
            arms,
            SECONDS,
            lambda t: t.seconds,
        )
        yield _histogram(
            "zebra_arm_score", "Scores by the arm that answered, of at most 64 rows a request.", arms, SHARES, lambda t: t.scores
        )
        yield self._weights()
        shadows = [tally for tally in arms if tally.name != CHAMPION]
        rows = CounterMetricFamily(
            "zebra_shadow_rows", "Rows offered to a shadow, by what became of them.", labels=["arm", "version", "outcome"]
        )
        for t in shadows:
            for outcome, count in (("compared", t.shadow.rows), ("failed", t.shadow.failed), ("dropped", t.shadow.dropped)):
                rows.add_metric([t.name, t.version, outcome], count)
        yield rows
        yield _counter("zebra_shadow_flips", "Rows to which a shadow gave another label.", shadows, lambda t: t.shadow.flips)
        said = "Distance between a shadow's score and the one that was given."
        yield _histogram("zebra_shadow_score_distance", said, shadows, DELTAS, lambda t: t.shadow.deltas)
        backs = CounterMetricFamily("zebra_canary_rollbacks", "Canaries that this server sent back, by cause.", labels=["cause"])
        for cause in ("errors", "latency", "verdict"):
            backs.add_metric([cause], router.rollbacks.get(cause, 0))
        yield backs

    def _weights(self) -> Metric:
        family = GaugeMetricFamily("zebra_arm_weight", "Share of the requests that an arm answers now.", labels=["arm", "version"])
        plan = self._router.plan
        if plan is not None:
            names = {arm.version: arm.name for arm in plan.arms()}
            for version, share in plan.shares.items():
                family.add_metric([names[version], version], share)
        return family


def _counter(name: str, said: str, arms: Sequence[ArmTally], read: Callable[[ArmTally], float]) -> Metric:
    family = CounterMetricFamily(name, said, labels=["arm", "version"])
    for tally in arms:
        family.add_metric([tally.name, tally.version], read(tally))
    return family


def _histogram(name: str, said: str, arms: Sequence[ArmTally], bounds: Sequence[float], read: Callable[[ArmTally], Spread]) -> Metric:
    family = HistogramMetricFamily(name, said, labels=["arm", "version"])
    for tally in arms:
        spread = read(tally)
        if spread.counts:
            family.add_metric([tally.name, tally.version], _buckets(spread, bounds), spread.total)
    return family


def _buckets(spread: Spread, bounds: Sequence[float]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    found, held = [], 0
    for bound, count in zip([*map(str, bounds), "+Inf"], spread.counts, strict=True):
        held += count
        found.append((bound, float(held)))
    return found
