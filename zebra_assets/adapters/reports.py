"""An evaluation as a page that a person wants to look at: the verdict and its reasons, the figures, the curves behind them.

One self-contained HTML file without scripts: it opens from disk, from the object store and in a mail. Every text that comes
from a spec, a run or a file is escaped. The decision itself is made in `promotion/gates`; this only shows it.
"""

from html import escape
from pathlib import Path

import pyarrow as pa

from zebra_assets.adapters.report_figures import figures_of, metrics_plot_png
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.verdicts import EvalReport, GateDecision

__all__ = ["evaluation_html", "metrics_plot_png"]


def evaluation_html(
    spec: ModelSpec, report: EvalReport, predictions: pa.Table, champion: pa.Table | None = None, decision: GateDecision | None = None
) -> str:
    """The page about one evaluation.

    Args:
        predictions: of the candidate, as `evaluation.predict` returns them.
        champion: of prod on the same rows, for the second curve.
        decision: what the gate made of the report; without it the page shows thresholds but no verdict.
    """
    title = f"{spec.name} v{report.candidate.version}"
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    body = [
        _header(spec, report, title, decision),
        _reasons(decision),
        _figures(spec, report),
        _charts(spec, report, predictions, champion),
        _footer(report, decision),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} · evaluation</title><style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(spec: ModelSpec, report: EvalReport, title: str, decision: GateDecision | None) -> str:
    verdict = "" if decision is None else _pill(decision.allowed, "gate open", "gate closed")
    against = (
        f"beside {spec.promotion.alias_prod} v{report.champion.version}"
        if report.champion
        else f"nothing in {spec.promotion.alias_prod} yet"
    )
    facts = f"{report.rows:,} {report.split} rows of {report.manifest_id} · {against} · {report.created_at:%Y-%m-%d %H:%M} UTC"
    return f"<header><h1>{escape(title)} {verdict}</h1><p class=muted>{escape(facts)}</p></header>"


def _pill(good: bool, yes: str, no: str) -> str:
    return f'<span class="pill {"good" if good else "bad"}">{"✓" if good else "✗"} {escape(yes if good else no)}</span>'


def _reasons(decision: GateDecision | None) -> str:
    if decision is None:
        return ""
    # What failed first: a reader of a closed gate looks for nothing else.
    rows = "".join(
        f'<li class="{"good" if r.passed else "bad"}"><b>{"✓" if r.passed else "✗"}</b> {escape(r.reason)}</li>'
        for r in sorted(decision.rules, key=lambda r: r.passed)
    )
    return f"<section><ul class=reasons>{rows}</ul></section>"


def _figures(spec: ModelSpec, report: EvalReport) -> str:
    gates = {m.name: m for m in spec.metrics}
    prod = report.champion
    names = [*gates, *(n for n in report.candidate.metrics if n not in gates)]
    head = [
        "metric",
        f"v{report.candidate.version}",
        "95% interval",
        "",
        *([f"v{prod.version}", "difference"] if prod else []),
        "threshold",
        "",
    ]
    rows = []
    for name in names:
        value, bound = report.candidate.metrics.get(name), gates[name].threshold if name in gates else None
        theirs = prod.metrics.get(name) if prod else None
        interval = report.candidate.intervals.get(name)
        passed = "" if bound is None else _pill(value is not None and _passes(value, bound, gates[name].direction), "pass", "fail")
        cells = [f"<b>{escape(name)}</b>" if name in gates else escape(name), f"<b>{_number(value)}</b>"]
        cells += [f"{_number(interval[0])} to {_number(interval[1])}" if interval else "–", _range(value, interval, theirs, bound)]
        if prod:
            cells += [_number(theirs), _signed(value - theirs) if value is not None and theirs is not None else "–"]
        sign = {"maximize": "≥", "minimize": "≤"}[gates[name].direction] if name in gates else ""
        cells += [f"{sign} {_number(bound)}" if bound is not None else "", passed]
        rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    header = "".join(f"<th>{escape(h)}</th>" for h in head)
    return (
        f"<section><h2>Figures</h2><div class=scroll><table><tr>{header}</tr>{''.join(rows)}</table></div>{_paired(spec, report)}</section>"
    )


def _paired(spec: ModelSpec, report: EvalReport) -> str:
    if report.difference is None or report.champion is None:
        return ""
    low, point, high = report.difference
    told = "zero lies outside: the difference is more than chance" if low > 0 or high < 0 else "zero lies inside: it may be chance"
    text = f"{spec.primary.name}, same rows redrawn for both: {point:+.4f}, 95% interval {low:+.4f} to {high:+.4f}; {told}."
    return f"<p class=muted>{escape(text)}</p>"


def _passes(value: float, bound: float, direction: str) -> bool:
    return value >= bound if direction == "maximize" else value <= bound


def _range(value: float | None, interval: tuple[float, float] | None, theirs: float | None, bound: float | None) -> str:
    """A thin bar: the interval, the figure as a dot, prod as a tick, the threshold as a line."""
    if value is None or interval is None:
        return ""
    points = [v for v in (*interval, value, theirs, bound) if v is not None]
    low, high = min(points), max(points)
    pad = (high - low) * 0.08 or 0.5
    x = [f"{(v - low + pad) / (high - low + 2 * pad) * 130:.1f}" if v is not None else "" for v in (*interval, value, theirs, bound)]
    marks = f'<line class="axis" x1="0" x2="130" y1="9" y2="9"/><line class="whisker" x1="{x[0]}" x2="{x[1]}" y1="9" y2="9"/>'
    marks += f'<circle class="dot a" cx="{x[2]}" cy="9" r="3.6"/>'
    marks += f'<line class="tick b" x1="{x[3]}" x2="{x[3]}" y1="3" y2="15"><title>prod</title></line>' if theirs is not None else ""
    marks += f'<line class="bound" x1="{x[4]}" x2="{x[4]}" y1="1" y2="17"><title>threshold</title></line>' if bound is not None else ""
    return f'<svg class=range viewBox="0 0 130 18" aria-hidden=true>{marks}</svg>'


def _charts(spec: ModelSpec, report: EvalReport, mine: pa.Table, theirs: pa.Table | None) -> str:
    if mine.num_rows == 0:
        return ""
    figures = figures_of(mine, theirs)
    other = (
        f'<span class="key b"></span>v{escape(report.champion.version)} ({escape(spec.promotion.alias_prod)})'
        if report.champion and theirs is not None
        else ""
    )
    key = f'<p class=muted><span class="key a"></span>v{escape(report.candidate.version)} {other}</p>'
    return f"<section><h2>Behind the figures</h2>{key}<div class=charts>{''.join(figures)}</div></section>"


def _footer(report: EvalReport, decision: GateDecision | None) -> str:
    facts = {
        "run": report.run_id,
        "model digest": report.candidate.model_digest,
        "manifest": report.manifest_id,
        "report": report.id,
        **({"decision": decision.id} if decision else {}),
    }
    rows = "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(v)}</code></dd>" for k, v in facts.items())
    return f"<footer><dl>{rows}</dl></footer>"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.1f}" if abs(value) < 1e9 else f"{value:.4g}"
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3g}"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "−" if value < 0 else "±") + _number(abs(value))
