"""The page people open after a drift check: the verdict in a sentence, then each column's baseline beside its window.

One self-contained file of some 30 KB: no script, no font, no request. It is built as an element tree, so every value in it
is escaped by construction (`element`). `evidently_report` renders the 4 MB page that this one may link to.
"""

from xml.etree.ElementTree import Element

from zebra_assets.adapters.element import el as _el
from zebra_assets.adapters.element import page
from zebra_assets.adapters.histogram import histogram, legend, shares
from zebra_assets.contracts.verdicts import ColumnDrift, DriftReport

_SAID = {"stable": "No drift", "drifted": "Drift", "unknown": "No verdict yet"}
_NEXT = {"none": "Nothing to do.", "retrain": "Fresh data is worth asking for.", "wait": "Wait for more predictions."}

_STYLE = """
:root { --ink:#1c2430; --soft:#5d6979; --line:#dde3ea; --ground:#fff; --base:#8aa0b8; --now:#d9622b;
  --drifted:#b3261e; --stable:#1d7a46; --unknown:#6b5b00 }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaf0; --soft:#9aa6b5; --line:#323b47; --ground:#14181e; --base:#6f87a3;
  --now:#f08a55; --drifted:#ff8a80; --stable:#6fd39b; --unknown:#e3cf6b } }
body { font:15px/1.5 system-ui,sans-serif; color:var(--ink); background:var(--ground); max-width:70rem; margin:2rem auto; padding:0 1rem }
h1 { font-size:1.3rem; margin:0 0 .2rem }
.soft { color:var(--soft); font-size:.9rem }
.verdict { border-left:.35rem solid; padding:.3rem .9rem; margin:1rem 0; font-size:1.05rem }
.verdict p { margin:.2rem 0; overflow-wrap:anywhere }
.drifted { border-color:var(--drifted) } .stable { border-color:var(--stable) } .unknown { border-color:var(--unknown) }
.key { display:inline-block; width:.8em; height:.8em; margin:0 .3em 0 .8em }
.scroll { overflow-x:auto }
table { border-collapse:collapse; width:100% }
th,td { text-align:left; padding:.45rem .8rem .45rem 0; border-bottom:1px solid var(--line); vertical-align:middle }
th { font-size:.85rem; color:var(--soft); font-weight:600 }
td.number,th.number { text-align:right; font-variant-numeric:tabular-nums }
b.yes { color:var(--drifted) } svg { display:block } a { color:inherit }
"""


def drift_summary_html(report: DriftReport, *, evidently_href: str | None = None) -> str:
    """The page of one report, as text.

    Args:
        report: the verdict with its columns' histograms.
        evidently_href: where Evidently's report of the same window is, if there is one; a relative link will do.
    """
    title = f"{_SAID[report.state]}: {report.model} v{report.version}"
    body = _el("body", _el("h1", title), _verdict(report), _facts(report, evidently_href))
    if report.columns:
        said = ". Score: the distance with what chance alone gives taken off."
        body.append(legend("baseline (training data)", "window (recent predictions)", said))
        body.append(_el("div", _table(report), class_="scroll"))
    return page(title, _STYLE, body)


def _verdict(report: DriftReport) -> Element:
    return _el("div", _el("p", report.reason), _el("p", _NEXT[report.recommendation]), class_=f"verdict {report.state}")


def _facts(report: DriftReport, evidently_href: str | None) -> Element:
    when = "no predictions"
    if report.window_start and report.window_end:
        when = f"{report.window_start:%Y-%m-%d %H:%M:%S} to {report.window_end:%Y-%m-%d %H:%M:%S} UTC"
    said = _el(
        "p", f"Window: {report.rows:,} predictions, {when}, {_read_from(report)}. Baseline: {report.manifest_id}. Report: {report.id}.",
        class_="soft",
    )  # fmt: skip
    for name, why in report.not_watched.items():
        said.extend([_el("br"), _el("span", f"Not watched: {name}, {why}.")])
    if evidently_href:
        said.extend([_el("br"), _el("a", "Evidently's report of the same window", href=evidently_href)])
    return said


def _read_from(report: DriftReport) -> str:
    if report.source == "events":
        return "from their events"
    off = max((c.error for c in report.columns), default=0.0)
    exact = f"shares within {off:.1%} of the rows, 99 times in 100" if off else "exact"
    return f"from sketches of {report.predictions or report.rows:,} ({exact})"


def _table(report: DriftReport) -> Element:
    columns = sorted(report.columns, key=lambda c: (not c.drifted, -c.score, c.column))
    if report.prediction:
        columns.insert(0, report.prediction)
    names = ("Column", "Drifted", "Baseline and window", "Score", "Threshold", "PSI", "JS", "KS")
    head = _el("tr", *(_el("th", name, class_="" if i < 3 else "number") for i, name in enumerate(names)))
    return _el("table", _el("thead", head), _el("tbody", *(_row(c, c is report.prediction) for c in columns)))


def _row(column: ColumnDrift, is_prediction: bool) -> Element:
    name = _el("td", column.column)
    if is_prediction:
        name.append(_el("div", "what the model answered; not counted in the share", class_="soft"))
    if column.new_values:
        name.append(_el("div", "never seen in training: " + ", ".join(column.new_values[:5]), class_="soft"))
    figures = (column.score, column.threshold, column.psi, column.js, column.ks)
    return _el(
        "tr",
        name,
        _el("td", _el("b", "yes", class_="yes") if column.drifted else "no"),
        _el("td", histogram(column.bins), _el("div", _largest_move(column), class_="soft")),
        *(_el("td", "–" if f is None else f"{f:.3f}", class_="number") for f in figures),
    )


def _largest_move(column: ColumnDrift) -> str:
    moved = max(column.bins, key=lambda b: abs(b.window - b.baseline), default=None)
    return shares(moved) if moved and column.drifted else ""
