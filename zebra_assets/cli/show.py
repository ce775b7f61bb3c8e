"""How answers look to a person: tables, figures, verdicts, the live line. Never imported for --help or --json."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import DIGEST
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision
from zebra_assets.control.ancestry import Lineage, Link


def out() -> Console:
    """Standard output as it is now. A pipe gets 200 columns, so that ids are never cut."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=200)


def say(text: str, style: str = "") -> None:
    """One line."""
    out().print(Text(text, style=style), soft_wrap=True)


def table(columns: list[str], rows: list[list[Any]], *, empty: str = "") -> None:
    """Rows under headings; figures to the right. ``empty`` is said when there are none."""
    if not rows:
        say(empty, "dim")
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        grid.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else Text(figure(cell)) for cell in row))
    out().print(grid)


def figure(value: Any) -> str:
    """A cell: 4 significant digits, thousands apart, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def verdict(good: bool, yes: str, no: str) -> Text:
    """A coloured word."""
    return Text(yes, style="bold green") if good else Text(no, style="bold red")


def metrics(spec: ModelSpec, values: dict[str, float]) -> None:
    """What a run reported, beside the thresholds the spec sets."""
    wanted = {m.name: m for m in spec.metrics}
    rows = [
        [name, value, _bound(wanted[plain].direction, wanted[plain].threshold) if plain in wanted else "-"]
        for name, plain, value in sorted(
            ((n, n.removeprefix("valid_"), v) for n, v in values.items()), key=lambda row: row[1] not in wanted
        )
    ]
    table(["metric", "value", "threshold"], rows, empty="the run reported no metrics")


def evaluation(spec: ModelSpec, report: EvalReport, decision: GateDecision) -> None:
    """Candidate beside prod with intervals, then each gate rule with its number, then the verdict."""
    champion = report.champion
    columns = ["metric", f"candidate v{report.candidate.version}", "95%"]
    if champion:
        columns += [f"prod v{champion.version}", "95%"]
    rows = []
    for name, value in report.candidate.metrics.items():
        row: list[Any] = [name, value, _interval(report.candidate.intervals.get(name))]
        if champion:
            row += [champion.metrics.get(name), _interval(champion.intervals.get(name))]
        rows.append(row)
    say(f"{report.model}, {report.split} split of {report.manifest_id}, {report.rows:,} rows")
    table(columns, rows)
    if report.difference is not None:
        low, point, high = report.difference
        say(f"{spec.primary.name}, candidate minus prod: {point:+.4g} (95% {low:+.4g} to {high:+.4g})")
    gate(decision)


def gate(decision: GateDecision) -> None:
    """The rules with their numbers, and the verdict."""
    rows = [[r.name, r.value, r.bound, verdict(r.passed, "pass", "FAIL"), r.reason] for r in decision.rules]
    table(["gate rule", "value", "bound", "", "reason"], rows)
    say(f"gate {'open' if decision.allowed else 'closed'} for version {decision.version}", "bold green" if decision.allowed else "bold red")


def drift(report: DriftReport) -> None:
    """Columns by distance, worst first, and what the window means."""
    rows = [
        [c.column, c.score, c.threshold, verdict(not c.drifted, "ok", "DRIFT"), c.psi, c.js, c.ks, ", ".join(c.new_values[:5]) or "-"]
        for c in sorted(report.columns, key=lambda c: -c.score)
    ]
    say(f"{report.model} v{report.version}: {report.rows:,} predictions against {report.manifest_id}, read from {report.source}")
    table(["column", "score", "threshold", "", "psi", "js", "ks", "new values"], rows, empty="no columns compared")
    if off := max((c.error for c in report.columns), default=0.0):
        say(f"sketched: a column's shares are within {off:.1%} of the rows, 99 times in 100")
    for name, why in report.not_watched.items():
        say(f"not watched: {name} ({why})")
    if report.score is not None:
        say(f"share of drifted columns: {report.score:.2f}")
    say(f"{report.state}: {report.reason} Recommendation: {report.recommendation}.", "bold red" if report.state == "drifted" else "bold")


def lineage(found: Lineage) -> None:
    """A tree with two limbs: what a thing came of, and what came of it."""
    root = Tree(_leaf(found.of))
    for title, links in (("came of", found.came_of), ("led to", found.led_to)):
        limb = root.add(Text(title if links else f"{title}: nothing yet", style="dim"))
        _grow(limb, links)
    out().print(root)


def _grow(limb: Tree, links: list[Link]) -> None:
    for link in links:
        _grow(limb.add(_leaf(link)), link.links)


def _leaf(link: Link) -> Text:
    """Kind and id, then what is known, without what is empty."""
    said = ", ".join(f"{name} {fact(value)}" for name, value in link.facts.items() if value not in (None, "", [], {}))
    return Text.assemble((f"{link.kind} ", "cyan"), (link.id, "bold"), f"  {said}")


def fact(value: Any) -> str:
    """A fact in a few words; digests by their first 12 digits."""
    if isinstance(value, dict):
        return " ".join(f"{name}={fact(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list):
        return "; ".join(map(fact, value))
    if isinstance(value, str) and DIGEST.fullmatch(value):
        return value[:12]
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else figure(value)


def _bound(direction: str, threshold: float | None) -> str:
    return "-" if threshold is None else f"{'>=' if direction == 'maximize' else '<='} {threshold:g}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.4g} to {bounds[1]:.4g}"


@contextmanager
def live(label: str) -> Iterator[Callable[..., None]]:
    """A line on stderr that shows the stage, the rows so far and the seconds, and vanishes at the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label)

        def tick(stage: str, rows: int | None = None) -> None:
            progress.update(task, description=f"{label}: {stage}{f', {rows:,} rows' if rows else ''}")

        yield tick
