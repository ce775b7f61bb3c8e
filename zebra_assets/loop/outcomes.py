"""A route's candidates against its champion, by the labels that have come: outcomes gathered, judged, and the verdict kept.

Asked for by `mlops route verdict` and by the verdict sensor; the servers read what rests.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zebra_assets.contracts.dataset_spec import ColumnSpec, DatasetSpec, LabelSpec
from zebra_assets.contracts.events import Outcome
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.route import Candidate, Guards, Verdict
from zebra_assets.errors import NotFound, SpecInvalid, UsageError
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    from zebra_assets.evaluation.verdict import Outcomes

METRICS = {"binary": ("brier", "accuracy"), "multiclass": ("accuracy",), "regression": ("error",)}


def judge_route(
    parts: Parts,
    dataset: DatasetSpec,
    model: str,
    alias: str,
    *,
    metric: str | None = None,
    alpha: float | None = None,
    margin: float | None = None,
) -> list[Verdict]:
    """Judge each candidate of the route in force, or of the last one that had any, and let the verdicts rest.

    All drawn outcomes of the two versions count, under whatever routes: each carries its own chances.

    Args:
        dataset: says what the label is.
        metric: `brier` (the default where every answer has a score) or `accuracy` of a class, `error` of a number.
        alpha, margin: default the canary's, else 5 % and 0.

    Raises:
        NotFound: nothing is routed, or the alias names nothing.
        UsageError: the metric does not fit the label.
        SpecInvalid: the label of a regression has no `min` and `max`, and the test needs bounded outcomes.
    """
    champion = parts.ledger.head(model, alias)
    route = next((row for row in parts.routes.history(model, alias) if row.kind in ("set", "canary")), None)
    if route is None or champion is None:
        raise NotFound(f"No candidate stands beside {alias} of {model}.", fix=f"mlops route canary {model}")
    guards = route.canary.guards if route.canary else Guards()
    asked = {name: value for name, value in (("alpha", alpha), ("margin", margin)) if value is not None}
    held = guards.model_copy(update=asked)
    outcomes = parts.events.outcomes(model)
    verdicts = [_judge(candidate, alias, champion.version, outcomes, dataset, model, metric, held) for candidate in route.candidates]
    for verdict in verdicts:
        parts.routes.save_verdict(verdict)
    return verdicts


def _judge(
    candidate: Candidate,
    alias: str,
    champion: str,
    outcomes: list[Outcome],
    dataset: DatasetSpec,
    model: str,
    metric: str | None,
    guards: Guards,
) -> Verdict:
    from zebra_assets.evaluation.verdict import verdict

    between = list(_between(outcomes, champion, candidate.version))
    assert dataset.label is not None
    chosen = _metric(metric, dataset.label, between)
    found = verdict(_values(between, candidate.version, champion, chosen, dataset), guards.alpha, guards.margin)
    pair = (champion, candidate.version)
    return Verdict(
        model=model, alias=alias, champion=champion, candidate=candidate.version, decision=found.decision, because=found.because,
        metric=chosen, alpha=guards.alpha, margin=guards.margin, rows=dict(zip(pair, found.rows, strict=True)),
        means={v: mean for v, mean, rows in zip(pair, found.means, found.rows, strict=True) if rows}, difference=found.difference,
        evidence=found.evidence, more=found.more, created_at=now(),
    )  # fmt: skip


def _between(outcomes: Iterable[Outcome], champion: str, candidate: str) -> Iterable[Outcome]:
    """What the lot decided between these two, one outcome of each unit: a key's further rows say nothing independent."""
    seen = set[str]()
    for outcome in outcomes:
        shares = outcome.drawn.shares
        drawn = outcome.version in (champion, candidate) and shares.get(champion, 0) > 0 and shares.get(candidate, 0) > 0
        if drawn and outcome.drawn.unit not in seen:
            seen.add(outcome.drawn.unit)
            yield outcome


def _metric(wanted: str | None, label: LabelSpec, outcomes: list[Outcome]) -> str:
    known = METRICS[label.type]
    if wanted is None:
        return known[0] if label.type != "binary" or all(o.score is not None for o in outcomes) else "accuracy"
    if wanted not in known:
        raise UsageError(f"'{wanted}' is no outcome of a {label.type} label.", fix=f"--metric {known[0]}")
    return wanted


def _values(outcomes: list[Outcome], candidate: str, champion: str, metric: str, dataset: DatasetSpec) -> "Outcomes":
    """Each outcome from 0 to 1, more is better."""
    import numpy as np

    from zebra_assets.evaluation.verdict import Outcomes

    assert dataset.label is not None
    column, positive = dataset.columns[dataset.label.column], dataset.label.positive
    if metric == "brier":
        value = [1 - ((o.score or 0.0) - (o.label == positive)) ** 2 for o in outcomes]
    elif metric == "accuracy":
        value = [float(o.prediction == o.label) for o in outcomes]
    else:
        span = _span(dataset, column)
        value = [1 - min(1.0, abs(float(o.prediction) - float(o.label)) / span) for o in outcomes]
    mine = [o.version == candidate for o in outcomes]
    # Of more than two arms, these two: given that the lot fell on one of them, each has its part of what they have together.
    share = [o.drawn.shares[candidate] / (o.drawn.shares[candidate] + o.drawn.shares[champion]) for o in outcomes]
    return Outcomes(np.array(value, float), np.array(mine, bool), np.array(share, float))


def _span(dataset: DatasetSpec, column: ColumnSpec) -> float:
    if column.min is None or column.max is None or column.max <= column.min:
        raise SpecInvalid(
            f"The label of '{dataset.name}' has no min and max, and a verdict that holds at any time needs bounded outcomes.",
            fix=f"add min: and max: to the label's column in manifests/{dataset.name}/dataset.yaml",
        )
    return column.max - column.min
