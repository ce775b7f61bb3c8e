"""The page of what changed between two manifests: rows, definitions, columns, examples. One self-contained file, no script."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from zebra_assets.adapters.element import el, page
from zebra_assets.adapters.histogram import histogram, legend
from zebra_assets.contracts.provenance import ColumnDiff, ManifestDiff, RowExample

_STYLE = """
:root { --ink:#1c2430; --soft:#5d6979; --line:#dde3ea; --ground:#fff; --shift:#b3261e;
  --base:#8aa0b8; --now:#d9622b }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaf0; --soft:#9aa6b5; --line:#323b47; --ground:#14181e; --shift:#ff8a80;
  --base:#6f87a3; --now:#f08a55 } }
body { font:15px/1.5 system-ui,sans-serif; color:var(--ink); background:var(--ground); max-width:70rem; margin:2rem auto; padding:0 1rem }
h1 { font-size:1.3rem; margin:0 0 .2rem; overflow-wrap:anywhere } h2 { font-size:1.05rem; margin:1.6rem 0 .3rem }
.soft { color:var(--soft); font-size:.9rem } .scroll { overflow-x:auto }
table { border-collapse:collapse; min-width:24rem } .scroll table { width:100% }
th,td { text-align:left; padding:.35rem .8rem .35rem 0; border-bottom:1px solid var(--line); overflow-wrap:anywhere }
th { font-size:.85rem; color:var(--soft); font-weight:600 }
.key { display:inline-block; width:.8em; height:.8em; margin:0 .3em 0 .8em } svg { display:block }
.number { text-align:right; font-variant-numeric:tabular-nums }
b { color:var(--shift) }
"""


def diff_html(diff: ManifestDiff) -> str:
    """The page, as text."""
    title = f"{diff.before} → {diff.after}"
    body = el("body", el("h1", title), el("p", sentence(diff)), el("h2", "Rows"), _rows(diff))
    if diff.definitions:
        rows = [[d.what, d.before, d.after] for d in diff.definitions]
        body.extend([el("h2", "Definitions"), _table(["what", "before", "after"], rows)])
    said = ". Distances are between the rows of the two train splits, over the bins of the older one's summary."
    body.extend([el("h2", "Columns"), legend("before", "after", said), _columns(diff)])
    if diff.examples:
        rows = [[e.kind, key_of(e), cells_of(e)] for e in diff.examples]
        body.extend([el("h2", "Examples"), _table(["row", "key" if diff.by == "key" else "first cells", "was → is"], rows)])
    return page(title, _STYLE, body)


def sentence(diff: ManifestDiff) -> str:
    """The difference in one line."""
    if diff.same:
        return "The same rows under the same definitions."
    how = f"{diff.changed:,} changed" if diff.by == "key" else "compared as whole rows, for want of a common key"
    moved = f", {diff.moved:,} in another split" if diff.moved else ""
    return f"{diff.added:,} rows added, {diff.removed:,} removed, {how}{moved}; {diff.unchanged:,} unchanged."


def moved_first(diff: ManifestDiff) -> list[ColumnDiff]:
    """The columns, what shifted or became something else first: of 200 columns, nobody reads the last."""
    return sorted(diff.columns, key=lambda c: (not c.shifted, c.before == c.after, -(c.psi or 0), -(c.cells or 0)))


def key_of(example: RowExample) -> str:
    """A row's key as ``name=value`` pairs."""
    return ", ".join(f"{name}={value}" for name, value in example.key.items())


def cells_of(example: RowExample) -> str:
    """What was and is in a changed row's cells."""
    return "; ".join(f"{name}: {was} → {now}" for name, (was, now) in example.cells.items())


def _rows(diff: ManifestDiff) -> Element:
    names = list(dict.fromkeys([*diff.splits_before, *diff.splits_after]))
    rows: list[list[str | int | None]] = [[name, diff.splits_before.get(name), diff.splits_after.get(name)] for name in names]
    return _table(["split", "before", "after"], [*rows, ["all", diff.rows_before, diff.rows_after]])


def _columns(diff: ManifestDiff) -> Element:
    names = ["column", "dtype", "before and after", "changed cells", "missing before", "after", "PSI", "JS", ""]
    return el("div", _table(names, [_column(c) for c in moved_first(diff)]), class_="scroll")


def _column(c: ColumnDiff) -> list[str | int | float | Element | None]:
    dtype = c.after if c.before == c.after else f"{c.before or 'absent'} → {c.after or 'absent'}"
    picture = histogram(c.bins, height=30) if c.bins else ""
    psi, js = (None if distance is None else round(distance, 4) for distance in (c.psi, c.js))
    return [c.name, dtype, picture, c.cells, c.nulls_before, c.nulls_after, psi, js, "shifted" if c.shifted else ""]


def _table(names: list[str], rows: Sequence[Sequence[str | int | float | Element | None]]) -> Element:
    figures = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(names))]
    head = el("tr", *(el("th", name, class_="number" if right else "") for name, right in zip(names, figures, strict=True)))
    return el("table", el("thead", head), el("tbody", *(el("tr", *map(_cell, row)) for row in rows)))


def _cell(value: str | int | float | Element | None) -> Element:
    if isinstance(value, Element):
        return el("td", value)
    if isinstance(value, str):
        return el("td", el("b", value) if value == "shifted" else value)
    return el("td", "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}", class_="number")
