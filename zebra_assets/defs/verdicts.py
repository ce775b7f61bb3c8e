"""Labels that come for routed predictions are judged: the sensor behind a canary's quality guard.

Judging is `loop.judge_route`; acting on what rests is the servers' matter, so nothing is asked of Dagster here.
"""

import json

import dagster as dg

from zebra_assets.defs.resources import House
from zebra_assets.project import Project


def verdict_sensor(project: Project, every_s: int) -> dg.SensorDefinition:
    """Where a route has candidates, each batch of new labels is judged; what rests may send a canary back."""

    @dg.sensor(name="verdict_sensor", minimum_interval_seconds=every_s, default_status=dg.DefaultSensorStatus.RUNNING, target=None)
    def sensor(context: dg.SensorEvaluationContext, house: House) -> dg.SkipReason:
        from zebra_assets.loop import judge_route

        parts, said = house.parts, []
        judged: dict[str, str] = json.loads(context.cursor or "{}")
        for spec in project.models.values():
            dataset, alias = project.datasets.get(spec.datasets.train), spec.promotion.alias_prod
            route, head = parts.routes.head(spec.name, alias), parts.ledger.head(spec.name, alias)
            if dataset is None or dataset.label is None or route is None or not route.candidates or head is None:
                continue
            seen = f"{route.seq}/{head.version}/{parts.events.count(spec.name, 'label_event')}"
            if judged.get(spec.name) == seen:
                said.append(f"{spec.name}: no new labels")
                continue
            found = judge_route(parts, dataset, spec.name, alias)
            said += [f"{spec.name} v{v.candidate} against v{v.champion}: {v.decision}, {v.because}" for v in found]
            judged[spec.name] = seen
        context.update_cursor(json.dumps(judged))
        return dg.SkipReason("; ".join(said) or "no model has candidates")

    return sensor
