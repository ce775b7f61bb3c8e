"""How routes and verdicts look to a person. Never imported for --help or --json."""

from typing import Any

from zebra_assets.cli.show import say, table
from zebra_assets.contracts.arm import SECONDS, ArmTally, quantile
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.route import Route, Verdict
from zebra_assets.control.routes import Shown


def route_page(shown: Shown) -> None:
    """What is in force, the arms' figures, the verdicts, the log."""
    if shown.route is None:
        say(f"no route: every request goes to version {shown.champion}", "dim")
        return
    in_force(shown.route, champion=shown.champion)
    if shown.arms:
        columns = ["arm", "requests", "errors", "p99 ms", "mean score", "shadow rows", "flips", "score distance", "dropped", "failed"]
        table(columns, [_arm(name, arm) for name, arm in sorted(shown.arms.items())])
    if shown.verdicts:
        verdicts(shown.verdicts)
    rows = [[f"{r.created_at:%Y-%m-%d %H:%M:%S}", r.seq, r.kind, _shares(r), r.actor, r.reason] for r in shown.history[:10]]
    table(["at (UTC)", "entry", "what", "candidates", "by", "reason"], rows)


def in_force(route: Route, champion: str | None = None) -> None:
    """One route in a few lines."""
    at = now()
    weights = route.weights(at)
    rest = 1 - sum(weights.values())
    say(f"{route.model} {route.alias}, route {route.seq} ({route.kind} by {route.actor})", "bold")
    say(f"  champion{f' v{champion}' if champion else ''}: {rest:.4g} of the requests")
    for candidate in route.candidates:
        shadow = f", in the shadow of {candidate.shadow:.4g}" if candidate.shadow else ""
        say(f"  {candidate.name} v{candidate.version}: {weights[candidate.name]:.4g}{shadow}")
    if route.canary is not None:
        left = route.canary.ends_in(at)
        run = route.candidates[0].run_id
        if left:
            say(f"  canary: {' -> '.join(f'{s.weight:.4g} for {s.minutes:g} min' for s in route.canary.steps)}; {left:.0f} min to go")
        else:
            say(f"  canary: all steps done. Next: mlops promote {route.model} --run {run} --to {route.alias}")
    if route.reason:
        say(f"  {route.reason}")


def verdicts(found: list[Verdict]) -> None:
    """The numbers behind each verdict, then the verdict."""
    for v in found:
        low, middle, high = v.difference
        bar = 2 / v.alpha
        rows = [[f"v{version}", v.rows[version], v.means.get(version)] for version in (v.champion, v.candidate)]
        table(["version", "outcomes", f"mean ({v.metric}, 1 is best)"], rows)
        say(f"candidate minus champion: {middle:+.4f}, between {low:+.4f} and {high:+.4f} at any time with {1 - v.alpha:.0%}")
        say(f"evidence for promote {v.evidence[0]:.3g}, for keep {v.evidence[1]:.3g}; decides at {bar:.3g}")
        say(_said(v), {"promote": "bold green", "keep": "bold red"}.get(v.decision, "bold"))


def _said(v: Verdict) -> str:
    if v.decision != "more":
        return f"{v.decision}: {v.because} (error rate {v.alpha / 2:.3g})"
    many = f"about {v.more:,} outcomes more" if v.more else "how many more cannot be told yet"
    return f"{many}: {v.because}"


def _arm(name: str, arm: ArmTally) -> list[Any]:
    p99, shadow = quantile(arm.seconds, SECONDS, 0.99), arm.shadow
    score = arm.scores.total / arm.scores.rows if arm.scores.rows else None
    apart = shadow.deltas.total / shadow.deltas.rows if shadow.deltas.rows else None
    seen = [shadow.rows, shadow.flips, apart, shadow.dropped, shadow.failed] if shadow.rows + shadow.failed + shadow.dropped else [None] * 5
    return [name, arm.requests, arm.errors, None if p99 is None else p99 * 1e3, score, *seen]


def _shares(route: Route) -> str:
    weights = route.weights(now()) if route.canary is None else {c.name: c.weight for c in route.candidates}
    said = [f"{c.name}:{c.version}={weights[c.name]:.4g}{f' shadow {c.shadow:.4g}' if c.shadow else ''}" for c in route.candidates]
    return ", ".join(said) or "-"
