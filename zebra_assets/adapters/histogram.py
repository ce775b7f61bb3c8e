"""Two histograms as one small picture, bar beside bar: what a page shows of a column's two distributions.

Colours are the page's: it defines `--base`, `--now` and `--line`. Called by `drift_page` and `diff_page`.
"""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from zebra_assets.adapters.element import el
from zebra_assets.contracts.verdicts import DriftBin

_BAR, _GAP, _HEIGHT = 7, 5, 44  # pixels: a bar's width, the gap between bins, the tallest bar


def histogram(bins: Sequence[DriftBin], height: int = _HEIGHT) -> Element:
    """Two bars a bin, to one scale; the bin's label and shares appear on hovering and are read out."""
    tallest = max((max(b.baseline, b.window) for b in bins), default=0) or 1
    step = 2 * _BAR + _GAP
    width = step * len(bins)
    said = "; ".join(shares(b) for b in bins).replace("<", "below ")  # as it is read out
    picture = el("svg", width=width, height=height + 1, viewBox=f"0 0 {width} {height + 1}", role="img", aria_label=said)
    for i, one in enumerate(bins):
        group = el("g", el("title", shares(one)), el("rect", x=i * step, y=0, width=step, height=height, fill="transparent"))
        for offset, share, ink in ((0, one.baseline, "var(--base)"), (_BAR, one.window, "var(--now)")):
            tall = share / tallest * height
            group.append(el("rect", x=i * step + offset, y=f"{height - tall:.1f}", width=_BAR, height=f"{tall:.1f}", style=f"fill:{ink}"))
        picture.append(group)
    picture.append(el("line", x1=0, x2=width, y1=height + 0.5, y2=height + 0.5, style="stroke:var(--line)"))
    return picture


def legend(baseline: str, window: str, rest: str) -> Element:
    """Which colour is which."""
    base, now = el("span", class_="key", style="background:var(--base)"), el("span", class_="key", style="background:var(--now)")
    base.tail, now.tail = baseline, window
    return el("p", "Share of rows per bin:", base, now, rest, class_="soft")


def shares(one: DriftBin) -> str:
    """A bin in words."""
    return f"{one.label}: {one.baseline:.1%} → {one.window:.1%}"
