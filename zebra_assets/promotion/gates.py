"""Decide whether a model version may take an alias.

Pure: numbers in, GateDecision out, each rule with a sentence that holds its numbers. A figure that is missing or not a
number closes the gate. Moving the alias is promote.py's job.
"""

import json
import math

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.model_spec import MetricSpec, ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.verdicts import EvalReport, GateDecision, Rule

_SLACK = 1e-12  # 0.81 - 0.80 is 0.010000000000000009: a tolerance of 0.01 means to allow it


def decide(spec: ModelSpec, report: EvalReport) -> GateDecision:
    """Apply every rule of ``spec`` to ``report``; allowed only when all of them pass.

    The id is a digest of the figures and the rules, so the same evidence under the same spec is the same decision, and
    whoever holds both can check it.
    """
    rules = [_rows(report), *(_threshold(m, report) for m in spec.metrics if m.threshold is not None)]
    if report.champion is not None:
        rules.append(_champion(spec, report))
    evidence = {
        # By way of JSON, where a NaN is null: canonical JSON refuses NaN, and a gate must be able to say no to one.
        "report": json.loads(report.model_dump_json(exclude={"created_at", "html_uri"})),
        "metrics": [m.model_dump(mode="json") for m in spec.metrics],
        "tolerance": spec.promotion.tolerance,
    }
    return GateDecision(
        id=f"gate-{digest_of(evidence)[:24]}",
        model=report.model,
        run_id=report.run_id,
        version=report.candidate.version,
        model_digest=report.candidate.model_digest,
        manifest_id=report.manifest_id,
        report_id=report.id,
        champion_version=report.champion.version if report.champion else None,
        allowed=all(rule.passed for rule in rules),
        rules=rules,
        created_at=now(),
    )


def _rows(report: EvalReport) -> Rule:
    if report.split == "train":
        reason = "scored on the rows it was trained on, which says nothing about new ones"
    elif report.rows == 0:
        reason = f"no held-out rows in {report.split} of {report.manifest_id}"
    else:
        reason = f"scored on {report.rows:,} held-out rows ({report.split} of {report.manifest_id})"
    return Rule(name="rows", passed=report.split != "train" and report.rows > 0, value=float(report.rows), bound=1.0, reason=reason)


def _threshold(metric: MetricSpec, report: EvalReport) -> Rule:
    value, bound, best_high = report.candidate.metrics.get(metric.name), metric.threshold, metric.direction == "maximize"
    assert bound is not None
    if value is None or not math.isfinite(value):
        reason = f"{metric.name} is not defined for these rows, or the model gives no scores; the threshold is {_show(bound)}"
        return Rule(name=metric.name, passed=False, value=None, bound=bound, reason=reason)
    passed = value >= bound if best_high else value <= bound
    relation = (
        ("is at least" if best_high else "is at most") if passed else ("is below the threshold" if best_high else "is above the threshold")
    )
    shown, against = _apart(value, bound)
    return Rule(name=metric.name, passed=passed, value=value, bound=bound, reason=f"{metric.name} {shown} {relation} {against}")


def _champion(spec: ModelSpec, report: EvalReport) -> Rule:
    """Not worse than prod on the same rows, by more than the spec tolerates."""
    assert report.champion is not None
    metric, tolerance = spec.primary, spec.promotion.tolerance
    name, prod = f"{metric.name}_vs_{spec.promotion.alias_prod}", f"{spec.promotion.alias_prod} v{report.champion.version}"
    mine, theirs = report.candidate.metrics.get(metric.name), report.champion.metrics.get(metric.name)
    if mine is None or theirs is None or not (math.isfinite(mine) and math.isfinite(theirs)):
        return Rule(
            name=name, passed=False, value=None, bound=None, reason=f"{metric.name} cannot be compared with {prod}: a figure is missing"
        )
    worse = theirs - mine if metric.direction == "maximize" else mine - theirs
    passed = worse <= tolerance + _SLACK
    bound = theirs - tolerance if metric.direction == "maximize" else theirs + tolerance
    shown, against = _apart(mine, theirs)
    if passed:
        verdict = "is not worse than" if tolerance == 0 or worse <= 0 else f"is within {_show(tolerance)} of"
    else:
        verdict = "is worse than" if tolerance == 0 else f"is worse by more than {_show(tolerance)} than"
    reason = f"{metric.name} {shown} {verdict} {prod} at {against}{_interval(report)}"
    return Rule(name=name, passed=passed, value=mine, bound=bound, reason=reason)


def _interval(report: EvalReport) -> str:
    if report.difference is None:
        return ""
    low, point, high = report.difference
    return f" (difference {point:+.4f}, 95% interval {low:+.4f} to {high:+.4f}, same {report.rows:,} rows)"


def _apart(value: float, bound: float) -> tuple[str, str]:
    """Both numbers with as many digits as it takes to tell them apart: "0.7799 is below 0.7800", never "0.780 is below 0.780"."""
    for digits in range(3, 16):
        pair = _show(value, digits), _show(bound, digits)
        if pair[0] != pair[1] or value == bound:
            return pair
    return repr(value), repr(bound)


def _show(value: float, digits: int = 3) -> str:
    """Three decimals for 0.8125, fewer for 812.5, powers for the very large and very small."""
    size = abs(value)
    if size != 0 and not 1e-3 <= size < 1e9:
        return f"{value:.{digits}g}"
    return f"{value:,.{max(0, digits - (size >= 10) - (size >= 100) - (size >= 1000))}f}"
