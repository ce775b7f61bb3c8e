"""`mlops demo`: the whole loop on real data, told step by step, with a summary at the end."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zebra_assets.control.demo import Told


def show(told: "Told") -> None:
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
        print("\nTry next, in two terminals:\n")
        print(f"  {told.serve}\n  {told.curl}\n")


def run(project: Path, *, until: str, as_json: bool) -> None:
    """Walk the loop and tell it."""
    from zebra_assets.control.demo import run_demo

    say = (lambda line: None) if as_json else (lambda line: print(line, flush=True))
    told = run_demo(project, say, until="promoted" if until == "promoted" else "end")
    if as_json:
        json.dump(
            {
                "seconds": round(told.seconds, 1),
                "manifests": [m.id for m in told.manifests],
                "versions": [p.version for p in told.promotions],
                "gates": [d.model_dump(mode="json") for d in told.decisions],
                "drift": told.drift.model_dump(mode="json", exclude={"columns"}) if told.drift else None,
                "sensor": told.sensor,
                "requests": told.requests,
                "failed": told.failed,
            },
            sys.stdout,
            indent=2,
        )
    else:
        show(told)
