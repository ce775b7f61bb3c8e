"""Charts for `reports`: curves out of predictions, drawn as inline SVG.

Drawn here and not by a plotting library, because the page should be small (some 30 KB), sharp at any zoom, follow the
reader's light or dark theme and need no script. Colours are the page's CSS classes: `a` candidate, `b` prod.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array = NDArray[np.float64]
Curve = tuple[Array, Array]
_POINTS = 200  # vertices a curve: more cannot be told apart at this size
W, H = 340, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 40


def columns(table: pa.Table) -> tuple[Array, Array, Array | None]:
    """``(truth, answer, score)`` as floats; score None where the model gave none."""
    score = table["score"].to_numpy()
    known = table.num_rows > 0 and bool(np.isfinite(score).all())
    return table["label"].to_numpy().astype(float), table["prediction"].to_numpy().astype(float), score if known else None


def roc(truth: Array, score: Array) -> Curve:
    """False positive rate and true positive rate over falling thresholds."""
    hits, alarms = _found(truth, score)
    return _thin(alarms / max(alarms[-1], 1), hits / max(hits[-1], 1))


def precision_recall(truth: Array, score: Array) -> Curve:
    """Recall and precision over falling thresholds."""
    hits, alarms = (v[1:] for v in _found(truth, score))
    return _thin(hits / max(hits[-1], 1), hits / (hits + alarms))


def calibration(truth: Array, score: Array) -> tuple[Array, Array, Array]:
    """Mean score, share of positives and rows in ten bins of equally many rows (fewer where scores are tied)."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, 11)))
    which = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = np.bincount(which)
    kept = rows > 0
    return np.bincount(which, score)[kept] / rows[kept], np.bincount(which, truth)[kept] / rows[kept], rows[kept].astype(float)


def _found(truth: Array, score: Array) -> tuple[Array, Array]:
    """Positives and negatives at or above each distinct score, from the highest, with a leading 0."""
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.flatnonzero(np.r_[score[order][1:] != score[order][:-1], True])
    hits = np.cumsum(truth[order])[last_of_ties]
    return np.r_[0.0, hits], np.r_[0.0, last_of_ties + 1 - hits]


def _thin(x: Array, y: Array) -> Curve:
    if len(x) <= _POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, _POINTS).astype(int))
    return x[kept], y[kept]


class Chart:
    """One set of axes; each method adds to it and returns it. ``x`` and ``y`` are the ranges shown."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], xlabel: str, ylabel: str) -> None:
        self.x, self.y = (_widened(*r) for r in (x, y))
        self.parts: list[str] = []
        for value in ticks(*self.x):
            at = self._px(value)
            self.parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{H - _BOTTOM}"/>')
            self.parts.append(f'<text x="{at:.1f}" y="{H - _BOTTOM + 15}" text-anchor="middle">{_tick(value)}</text>')
        for value in ticks(*self.y):
            at = self._py(value)
            self.parts.append(f'<line class="grid" x1="{_LEFT}" x2="{W - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            self.parts.append(f'<text x="{_LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{_tick(value)}</text>')
        middle = (_TOP + H - _BOTTOM) / 2
        self.parts.append(f'<text class="label" x="{(_LEFT + W - _RIGHT) / 2}" y="{H - 6}" text-anchor="middle">{escape(xlabel)}</text>')
        self.parts.append(
            f'<text class="label" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(ylabel)}</text>'
        )

    def line(self, x: Array, y: Array, style: str) -> "Chart":
        points = " ".join(f"{self._px(a):.1f},{self._py(b):.1f}" for a, b in zip(x, y, strict=True))
        self.parts.append(f'<polyline class="line {style}" points="{points}"/>')
        return self

    def dots(self, x: Array, y: Array, style: str, titles: Sequence[str] = (), radius: float = 3.2) -> "Chart":
        for i, (a, b) in enumerate(zip(x, y, strict=True)):
            title = f"<title>{escape(titles[i])}</title>" if titles else ""
            self.parts.append(f'<circle class="dot {style}" cx="{self._px(a):.1f}" cy="{self._py(b):.1f}" r="{radius}">{title}</circle>')
        return self

    def bars(self, edges: Array, heights: Array, style: str, title: str) -> "Chart":
        floor = self._py(max(self.y[0], 0))
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height > 0:
                left, right, top = self._px(low), self._px(high), self._py(height)
                what = f"{escape(title)}, {low:.3g} to {high:.3g}: {height:.3g}"
                self.parts.append(
                    f'<rect class="bar {style}" x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
                    f'height="{max(floor - top, 0):.1f}"><title>{what}</title></rect>'
                )
        return self

    def svg(self, name: str) -> str:
        """The finished drawing; ``name`` is read out to people who do not see it."""
        return f'<svg viewBox="0 0 {W} {H}" role="img" aria-label="{escape(name)}">{"".join(self.parts)}</svg>'

    def _px(self, value: float) -> float:
        return _LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (W - _LEFT - _RIGHT)

    def _py(self, value: float) -> float:
        return H - _BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (H - _BOTTOM - _TOP)


def ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers within the range, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    return [i * step for i in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _tick(value: float) -> str:
    if abs(value) >= 1e4:  # five digits would run into the axis' name
        return f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:.3g}k"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.3g}"
