"""`mlops demo`: the whole loop on real data, told step by step, with a summary at the end."""

from typing import TYPE_CHECKING, Any, Literal

import click

from zebra_assets.cli.verb import Call, verb

if TYPE_CHECKING:
    from zebra_assets.control.demo_walk import Told


@verb()
@click.option(
    "--until",
    type=click.Choice(["promoted", "end"]),
    default="end",
    show_default=True,
    help="Stop once the first version is in prod, or walk on.",
)
def demo(call: Call, until: Literal["promoted", "end"]) -> None:
    """Walk the whole loop once, on real data, in a project of its own (.zebraops/demo): about three minutes.

    Cut short on the way to the first version it resumes; later it starts anew.
    """
    from zebra_assets.control.demo import run_demo

    say = (lambda line: None) if call.as_json else click.echo
    told = run_demo(call.settings.project_dir, say, until=until)
    call.answer(_facts(told), lambda: _show(told))


def _facts(told: "Told") -> dict[str, Any]:
    return {
        "seconds": round(told.seconds, 1),
        "manifests": [m.id for m in told.manifests],
        "versions": [p.version for p in told.promotions],
        "gates": told.decisions,
        "drift": told.drift,
        "sensor": told.sensor,
        "requests": told.requests,
        "failed": told.failed,
    }


def _show(told: "Told") -> None:
    """The summary table, and what to type next."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"The loop, walked in {told.seconds:.0f} s", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for n, manifest in enumerate(told.manifests, 1):
        table.add_row(f"manifest {n}", f"{manifest.id} ({manifest.stats.rows:,} rows)")
    for decision in told.decisions:
        table.add_row(f"gate v{decision.version}", "\n".join(f"{'yes' if r.passed else 'no '}  {r.reason}" for r in decision.rules))
    if told.drift is not None:
        table.add_row("drift", f"score {told.drift.score:.2f}, {told.drift.state}: {told.drift.reason}")
    for promotion in told.promotions:
        table.add_row(f"{promotion.alias} moved", f"v{promotion.from_version or '–'} -> v{promotion.version} by {promotion.actor}")
    if told.sensor is not None:
        table.add_row("moved by", f"the run that {told.sensor} started")
        table.add_row("requests", f"{told.requests:,} served, {told.failed} failed, across the swap ({told.versions_seen})")
    Console().print(table)
    if told.curl:
        click.echo("\nTry next, in two terminals:\n")
        click.echo(f"  {told.serve}\n  {told.curl}\n")
