"""What `reports` draws from predictions: curves, histograms and confusion as HTML figures, and a small picture as PNG."""

import io
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa

from zebra_assets.adapters.report_charts import Array, Chart, calibration, columns, precision_recall, roc
from zebra_assets.contracts.verdicts import EvalReport

_MULTICLASS_SHOWN = 12  # classes a confusion matrix shows
_SCATTER = 600  # dots: more make a blot
_A, _B = "#2f6fde", "#e07b1a"  # candidate and prod, as in report.css


def figures_of(mine: pa.Table, theirs: pa.Table | None) -> list[str]:
    """The figures that fit the label of the candidate's predictions, with prod's curves beside where there are any."""
    label = mine.schema.field("label").type
    if pa.types.is_string(label):
        return [_confusion(mine)]
    if label == pa.float64():
        return _regression(mine)
    return [*_curves(mine, theirs), _confusion(mine)]


def metrics_plot_png(report: EvalReport, predictions: pa.Table) -> bytes:
    """A small picture of the same, for places that show images only: intervals and ROC curve, or a regression's errors.

    Some 20 KB; costs the import of matplotlib (0.5 s).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.9), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    label = predictions.schema.field("label").type
    if predictions.num_rows and label == pa.float64():
        _errors_png(left, right, predictions)
    else:
        _intervals_png(left, report)
        _roc_png(right, predictions)
    figure.suptitle(f"{report.model} v{report.candidate.version} on {report.rows:,} {report.split} rows", fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
        axes.title.set_fontsize(8)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _intervals_png(axes: Any, report: EvalReport) -> None:
    names = list(report.candidate.intervals)[::-1]
    for row, name in enumerate(names):
        axes.plot(report.candidate.intervals[name], [row, row], color=_A, lw=5, alpha=0.35, solid_capstyle="butt")
        axes.plot(report.candidate.metrics[name], row, "o", color=_A, ms=5, label=None if row else f"v{report.candidate.version}")
        if report.champion and name in report.champion.metrics:
            axes.plot(report.champion.metrics[name], row, "|", color=_B, ms=12, mew=2, label=None if row else f"v{report.champion.version}")
    axes.set_yticks(range(len(names)), names)
    axes.set_title("95% intervals")
    if names:
        axes.legend(fontsize=7, frameon=False)


def _roc_png(axes: Any, predictions: pa.Table) -> None:
    score = None
    if predictions.num_rows and predictions.schema.field("label").type == pa.int8():
        truth, _, score = columns(predictions)
    if score is None:
        axes.set_axis_off()
        return
    axes.plot(*roc(truth, score), color=_A, lw=1.6)
    axes.plot([0, 1], [0, 1], color="#888", lw=0.8, ls="--")
    axes.set_title("ROC curve")


def _errors_png(left: Any, right: Any, predictions: pa.Table) -> None:
    truth, answer, _ = columns(predictions)
    kept = _sample(len(truth))
    left.plot(truth[kept], answer[kept], ".", color=_A, ms=3, alpha=0.5)
    left.axline((truth.mean(), truth.mean()), slope=1, color="#888", lw=0.8, ls="--")
    left.set_title("predicted against actual")
    right.hist(answer - truth, 30, color=_A, alpha=0.75)
    right.set_title("predicted minus actual")


def _figure(title: str, note: str, drawing: str) -> str:
    return f"<figure><figcaption><b>{escape(title)}</b><br><span class=muted>{escape(note)}</span></figcaption>{drawing}</figure>"


def _curves(mine: pa.Table, theirs: pa.Table | None) -> list[str]:
    truth, _, score = columns(mine)
    if score is None:
        return []
    unit, diagonal = (0.0, 1.0), np.array([0.0, 1.0])
    shown = [(truth, score, "a")]
    if theirs is not None and (other := columns(theirs)[2]) is not None:
        shown.insert(0, (truth, other, "b"))
    receiver = Chart(unit, unit, "false positive rate", "true positive rate").line(diagonal, diagonal, "guess")
    retrieval = Chart(unit, unit, "recall", "precision").line(diagonal, np.full(2, truth.mean()), "guess")
    reliable = Chart(unit, unit, "mean score", "share of positives").line(diagonal, diagonal, "guess")
    for y, s, style in shown:
        receiver.line(*roc(y, s), style)
        retrieval.line(*precision_recall(y, s), style)
        mean, share, rows = calibration(y, s)
        titles = [f"score {a:.3f}, positives {b:.3f}, {n:,.0f} rows" for a, b, n in zip(mean, share, rows, strict=True)]
        reliable.line(mean, share, style).dots(mean, share, style, titles)
    return [
        _figure("ROC curve", "further up and left is better; dashes are guessing", receiver.svg("ROC curve")),
        _figure("Precision and recall", "further up and right is better; dashes are guessing", retrieval.svg("precision-recall curve")),
        _figure("Calibration", "on the dashes, 70% means 7 in 10", reliable.svg("calibration curve")),
        _figure("Scores by class", "share of each class; apart is better", _scores(truth, score)),
    ]


def _scores(truth: Array, score: Array) -> str:
    edges = np.linspace(0, 1, 26)
    shares = [np.histogram(score[truth == c], edges)[0] / max((truth == c).sum(), 1) for c in (0, 1)]
    chart = Chart((0, 1), (0, float(max(s.max() for s in shares)) * 1.05), "score", "share of rows")
    chart.bars(edges, shares[0], "negative", "negative").bars(edges, shares[1], "positive", "positive")
    key = '<p class=muted><span class="key positive"></span>positive <span class="key negative"></span>negative</p>'
    return chart.svg("histogram of scores by class") + key


def _regression(mine: pa.Table) -> list[str]:
    truth, answer, _ = columns(mine)
    low, high = float(min(truth.min(), answer.min())), float(max(truth.max(), answer.max()))
    ends, kept = np.array([low, high]), _sample(len(truth))
    scatter = (
        Chart((low, high), (low, high), "actual", "predicted")
        .line(ends, ends, "guess")
        .dots(truth[kept], answer[kept], "a faint", radius=2.2)
    )
    heights, edges = np.histogram(answer - truth, 30)
    residuals = Chart((float(edges[0]), float(edges[-1])), (0, float(heights.max()) * 1.05), "predicted minus actual", "rows")
    note = "on the dashes is right" + (f"; {_SCATTER} of {len(truth):,} rows" if len(truth) > _SCATTER else "")
    return [
        _figure("Predicted against actual", note, scatter.svg("predicted against actual")),
        _figure("Errors", "centred on 0 is unbiased", residuals.bars(edges, heights.astype(float), "a", "rows").svg("histogram of errors")),
    ]


def _sample(rows: int) -> np.ndarray:
    return np.arange(rows) if rows <= _SCATTER else np.random.default_rng(0).choice(rows, _SCATTER, replace=False)


def _confusion(mine: pa.Table) -> str:
    truth, answer = (mine[c].to_numpy() for c in ("label", "prediction"))
    classes, counts = np.unique(truth, return_counts=True)
    words = {0: "other", 1: "positive"} if truth.dtype.kind == "i" else {}
    shown = [0, 1] if words else sorted(classes[np.argsort(-counts)[:_MULTICLASS_SHOWN]].tolist())
    rows = []
    for actual in shown:
        total = int((truth == actual).sum())
        cells = [f"<th>{escape(str(words.get(actual, actual)))}</th>"]
        for said in shown:
            count = int(((truth == actual) & (answer == said)).sum())
            share = count / total if total else 0.0
            cells.append(
                f'<td style="--share:{share:.3f}" class="{"hit" if actual == said else "miss"}"><b>{count:,}</b><br>{share:.0%}</td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(str(words.get(c, c)))}</th>" for c in shown)
    hidden = f"; the {_MULTICLASS_SHOWN} most frequent of {len(classes)} classes" if len(classes) > len(shown) else ""
    table = f"<table class=confusion><tr><th>actual \\ said</th>{head}</tr>{''.join(rows)}</table>"
    return _figure("Confusion", f"share of each actual class{hidden}", table)
