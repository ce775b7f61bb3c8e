"""`train`, `eval`, `promote`, `rollback`, `reconcile`, `history` and `monitor`: what happens to a model, with the numbers behind it."""

import json
from typing import Any

import click

from zebra_assets.cli.verb import Call, Name, verb

MODEL = click.argument("model", type=Name("model"))
RUN = click.option("--run", "run_id", type=Name("run"), help="Default: the newest finished run of the model.")
REASON = click.option("--reason", default="", help="Why, for the ledger and the audit log.")


@verb()
@MODEL
@click.argument("assignments", nargs=-1, metavar="[K=V]...")
@click.option("--manifest", "manifest_id", type=Name("manifest"), help="Default: the newest manifest of its dataset.")
@click.option("-p", "--params", "--param", "params", multiple=True, metavar="K=V", help="A hyper-parameter; may be repeated.")
@click.option("--again", is_flag=True, help="Train once more although the same inputs were trained already.")
def train(call: Call, model: str, assignments: tuple[str, ...], manifest_id: str | None, params: tuple[str, ...], again: bool) -> None:
    """Train a candidate of MODEL, log it to MLflow and register it. The same inputs give the same run."""
    from zebra_assets.control import operations, queries

    values = parse_params([*params, *assignments])
    with call.progress(f"train {model}") as tick:
        done = operations.train(call.parts, model, manifest_id, values, again, log=tick)
    run = done.run

    def show() -> None:
        from zebra_assets.cli.show import metrics, say

        what = "trained" if done.created else "already trained on the same inputs (--again trains once more):"
        say(f"{what} {run.id}, version {run.version}, on {run.manifest_id}", "bold")
        metrics(queries.model_spec(call.parts, model), run.metrics)
        say(f"Next: mlops eval {model}")

    call.answer({"run": run, "created": done.created}, show)


def parse_params(pairs: list[str]) -> dict[str, Any]:
    """``["C=0.1", "solver=lbfgs"]`` to ``{"C": 0.1, "solver": "lbfgs"}``: a value is JSON where it reads as JSON, else text.

    Raises:
        UsageError: no '=' in a pair, or a name stands twice.
    """
    from zebra_assets.errors import UsageError

    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"'{pair}' is not a hyper-parameter.", fix="write NAME=VALUE, e.g. --params C=0.1")
        if name in values:
            raise UsageError(f"Hyper-parameter '{name}' is given twice.", fix="keep one of the two")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


@verb("eval")
@MODEL
@RUN
@click.option("--split", type=click.Choice(["train", "valid", "test"]), help="Default: test, or valid for a model without a test role.")
def evaluate(call: Call, model: str, run_id: str | None, split: Any) -> None:
    """Score a run of MODEL beside prod on held-out rows and let the gate decide.

    A closed gate is a result, not a failure: exit code 0, unless the setting gate_closed_fails asks for 7.
    """
    from zebra_assets.control import operations, queries
    from zebra_assets.errors import GateClosed

    with call.progress(f"eval {model}") as tick:
        tick("scoring")
        report, decision = operations.evaluate(call.parts, model, run_id, split)

    def show() -> None:
        from zebra_assets.cli.show import evaluation, say

        evaluation(queries.model_spec(call.parts, model), report, decision)
        say(f"report {report.html_uri}")
        if decision.allowed:
            say(f"Next: mlops promote {model} --run {report.run_id} --to prod")

    if call.settings.gate_closed_fails and not decision.allowed:
        call.note("\n".join(decision.reasons))
        raise GateClosed(f"The gate is closed for version {decision.version}: {' '.join(decision.reasons)}", fix=f"mlops train {model}")
    call.answer({"report": report, "decision": decision, "allowed": decision.allowed}, show)


@verb()
@MODEL
@RUN
@click.option("--to", type=Name("alias"), default="prod", show_default=True, help="prod or staging.")
@REASON
def promote(call: Call, model: str, run_id: str | None, to: str, reason: str) -> None:
    """Move an alias to a run's version. The gate's decision is read again and must be open; a run without one is evaluated first."""
    from zebra_assets.control import operations

    with call.progress(f"promote {model}") as tick:
        tick("asking the gate")
        promotion, decision = operations.promote(call.parts, model, run_id, to, reason)

    def show() -> None:
        from zebra_assets.cli.show import gate, say

        gate(decision)
        _moved(promotion, say)

    call.answer({"promotion": promotion, "decision": decision}, show)


@verb()
@MODEL
@click.option("--to", "to_run_id", type=Name("run"), help="A run whose version the alias named before; default: the one before this.")
@click.option("--alias", type=Name("alias"), default="prod", show_default=True, help="prod or staging.")
@REASON
def rollback(call: Call, model: str, to_run_id: str | None, alias: str, reason: str) -> None:
    """Move MODEL's alias back to a version it named before. The gate is not asked: that version passed it once."""
    from zebra_assets.control import operations

    promotion = operations.rollback(call.parts, model, to_run_id, alias, reason)

    def show() -> None:
        from zebra_assets.cli.show import say

        _moved(promotion, say)

    call.answer({"promotion": promotion}, show)


def _moved(promotion: Any, say: Any) -> None:
    origin = f"v{promotion.from_version}" if promotion.from_version else "nothing"
    move = f"{promotion.model} {promotion.alias}: {origin} -> v{promotion.version}"
    say(f"{move}  (ledger row {promotion.seq}, {promotion.state}, by {promotion.actor})", "bold green")


@verb()
def reconcile(call: Call) -> None:
    """Make MLflow's aliases say what the ledger says, and report those that were edited by hand."""
    from zebra_assets.control import operations

    healed = [str(h) for h in operations.reconcile(call.parts)]

    def show() -> None:
        from zebra_assets.cli.show import say

        for line in healed or ["aliases agree with the ledger"]:
            say(line)

    call.answer({"healed": healed}, show)


@verb()
@MODEL
def history(call: Call, model: str) -> None:
    """Show which versions MODEL's aliases named, newest first."""
    from zebra_assets.control import queries

    rows = queries.history(call.parts, model)

    def show() -> None:
        from zebra_assets.cli.show import table

        cells = [
            [f"{r.created_at:%Y-%m-%d %H:%M:%S}", r.alias, r.seq, r.kind, r.from_version, r.version, r.run_id, r.actor, r.state, r.reason]
            for r in rows
        ]
        columns = ["at (UTC)", "alias", "seq", "kind", "from", "to", "run", "actor", "state", "reason"]
        table(columns, cells, empty=f"nothing was promoted yet: mlops promote {model}")

    call.answer({"history": rows}, show)


@verb()
@MODEL
@click.option("--html", is_flag=True, help="Also write Evidently's full report; takes some seconds.")
def monitor(call: Call, model: str, html: bool) -> None:
    """Compare MODEL's recent predictions with the data its prod version was trained on."""
    from zebra_assets.control import operations, queries

    with call.progress(f"monitor {model}") as tick:
        tick("comparing")
        report = operations.monitor(call.parts, model, html=html)

    def show() -> None:
        from zebra_assets.cli.show import drift, say

        drift(report)
        if report.html_uri:
            say(f"report {report.html_uri}")
        if evidently := queries.evidently_uri(call.parts, report):
            say(f"Evidently's report {evidently}")

    call.answer({"report": report, "evidently_uri": queries.evidently_uri(call.parts, report)}, show)
