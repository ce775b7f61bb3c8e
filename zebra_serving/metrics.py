"""The server's own figures, in Prometheus' words. One registry per app, so that two apps in one process do not add up."""

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zebra_assets.contracts.promotion import Promotion
from zebra_serving.stages import Stages
from zebra_serving.tally import Spread, Spreads, Tallies, Tally

# From "compiled model, inline" (0.1 ms) to "10,000 rows through a DataFrame" (seconds).
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OF_THE_SERVER = frozenset({"zebra_requests", "zebra_request_seconds"})
OUTCOMES = ("captured", "sampled_out", "dropped", "lost")


class Metrics:
    """Counters and gauges of one app; each attribute is safe to touch from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.rows = Tally()
        self.events = {outcome: Tally() for outcome in OUTCOMES}
        self.stages = Stages()
        self._answers: dict[tuple[str, int], list[int]] = {}
        self._seconds: dict[str, Spread] = {}
        r.register(Tallies("zebra_requests", "Answers by route and status.", ["route", "status"], self._requests))
        r.register(Spreads("zebra_request_seconds", "Seconds from the request's head to its answer.", ["route"], self._latencies))
        said = "Seconds of an answered request by stage; of quick models one request in 16 is timed and counts for 16."
        r.register(Spreads("zebra_request_stage_seconds", said, ["stage"], self.stages.read))
        r.register(Tallies("zebra_rows", "Rows predicted.", [], lambda: iter([((), self.rows.value)])))
        r.register(Tallies("zebra_events", "Predictions by what became of their event.", ["outcome"], self._outcomes))
        self.batch = Histogram(
            "zebra_batch_requests", "Requests answered by one call of a slow model.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=r
        )
        self.explanations = Counter("zebra_explanations", "Requests for explanations, by status.", ["status"], registry=r)
        said = "Seconds from a request for explanations to its answer."
        self.explanation = Histogram(
            "zebra_explanation_seconds", said, buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0), registry=r
        )
        self.reloads = Counter("zebra_reloads", "Versions that took over.", registry=r)
        self.reload_failures = Counter("zebra_reload_failures", "Versions that could not take over, by reason.", ["reason"], registry=r)
        self.ledger_age = Gauge("zebra_ledger_age_seconds", "Seconds since the ledger last answered.", registry=r)
        self.alias_drift = Gauge("zebra_alias_drift", "1 while MLflow's alias names another version than the ledger.", registry=r)
        self.evictions = Counter("zebra_evictions", "Times the model left memory to make room for another one.", registry=r)
        self.weight = Gauge("zebra_model_memory_bytes", "Memory of the versions that are loaded, as measured at load.", registry=r)
        self._info = Gauge(
            "zebra_serving_model_info", "1 for the version in force.", ["model", "alias", "version", "manifest_id", "run_id"], registry=r
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer; called from the event loop only. ``route`` is a known path or 'other', never what a client made up."""
        cell = self._answers.get((route, status))
        if cell is None:
            cell = self._answers[route, status] = [0]
            self._seconds.setdefault(route, Spread(_SECONDS))
        cell[0] += 1
        self._seconds[route].see(seconds)

    def serving(self, promotion: Promotion | None) -> None:
        """Name the version in force, if there is one."""
        self._info.clear()
        if promotion is not None:
            self._info.labels(promotion.model, promotion.alias, promotion.version, promotion.manifest_id, promotion.run_id).set(1)

    def page(self) -> tuple[bytes, str]:
        """The exposition text and its content type."""
        return page_of(self.registry)

    def _requests(self) -> Iterator[tuple[tuple[str, str], float]]:
        return (((route, str(status)), cell[0]) for (route, status), cell in sorted(self._answers.items()))

    def _latencies(self) -> Iterator[tuple[tuple[str], Spread]]:
        return (((route,), spread) for route, spread in sorted(self._seconds.items()))

    def _outcomes(self) -> Iterator[tuple[tuple[str], float]]:
        return (((outcome,), tally.value) for outcome, tally in self.events.items())


class Fleetwide(Collector):
    """Families of several models as one page: each sample says its model. Requests are the server's, counted by the first one."""

    def __init__(self, models: Mapping[str, Metrics]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        for model, metrics in self._models.items():
            for family in metrics.registry.collect():
                kept = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                label = {} if family.name in _OF_THE_SERVER else {"model": model}
                kept.samples += [sample._replace(labels={**label, **sample.labels}) for sample in family.samples]
        yield from found.values()


def collected(models: Mapping[str, Metrics]) -> Collector:
    """The models' families as one collector. One model's samples say no model, as there is no other."""
    return Fleetwide(models) if len(models) > 1 else next(iter(models.values())).registry


def page_of(collector: Collector) -> tuple[bytes, str]:
    """The exposition text and its content type."""
    return generate_latest(collector), CONTENT_TYPE_LATEST
