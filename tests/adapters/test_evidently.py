"""Both drift pages: ours, which must open anywhere, and Evidently's, which may fail without harm."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.drift.baselines import events, manifest, spec
from zebra_assets.adapters.drift_page import drift_summary_html
from zebra_assets.adapters.evidently_report import drift_html
from zebra_assets.contracts.verdicts import DriftReport
from zebra_assets.drift.monitor import monitor
from zebra_assets.errors import Unavailable, UsageError

EVIL = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def drifted() -> DriftReport:
    rng = np.random.default_rng(0)
    baseline = {"tenure": rng.normal(30, 10, 2000), EVIL: rng.choice(["dsl", "none"], 2000).astype(object)}
    window = {"tenure": rng.normal(50, 10, 500), EVIL: rng.choice(["fibre", EVIL], 500).astype(object)}
    return monitor(spec(), manifest(baseline), "1", events(window))


class Page(HTMLParser):
    """Tags, texts and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.fetched: list[str] = []
        self.drawn: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.drawn.append((tag, {k: v or "" for k, v in attrs}))
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_verdict_stands_on_top_and_every_column_has_its_histogram(drifted: DriftReport) -> None:
    page = Page(drift_summary_html(drifted))
    said = [t for t in page.texts if t.strip()]
    assert said.index(drifted.reason) < said.index("tenure")
    assert page.tags.count("svg") == 2
    bars = sum(len(c.bins) * 3 for c in drifted.columns)
    assert page.tags.count("rect") == bars


def test_whatever_customers_send_stays_text(drifted: DriftReport) -> None:
    page = Page(drift_summary_html(drifted))
    assert "script" not in page.tags
    assert EVIL in page.texts
    assert any("never seen in training" in t and EVIL in t for t in page.texts)


def test_the_page_fetches_nothing_and_links_only_what_is_there(drifted: DriftReport) -> None:
    assert Page(drift_summary_html(drifted)).fetched == []
    assert Page(drift_summary_html(drifted, evidently_href="evidently.html")).fetched == ["evidently.html"]
    assert not re.search(r"url\(|@import|https?:", drift_summary_html(drifted))


def test_every_bar_is_inside_its_frame(drifted: DriftReport) -> None:
    frame = (0.0, 0.0)
    for tag, at in Page(drift_summary_html(drifted)).drawn:
        if tag == "svg":
            frame = (float(at["width"]), float(at["height"]))
        elif tag == "rect":
            assert 0 <= float(at["x"]) <= float(at["x"]) + float(at["width"]) <= frame[0]
            assert 0 <= float(at["y"]) <= float(at["y"]) + float(at["height"]) <= frame[1]


def test_a_window_that_is_unknown_says_no_verdict_and_shows_no_table() -> None:
    page = Page(drift_summary_html(monitor(spec(), manifest({"x": np.arange(50.0)}), "1", [])))
    assert "No verdict yet: churn v1" in page.texts
    assert "table" not in page.tags
    assert not any("No drift" in t for t in page.texts)


def test_control_characters_of_a_value_do_not_break_the_page() -> None:
    columns = {"x": ["a\x00b", "c\ud800d", "e\x1bf"] * 100}
    page = drift_summary_html(monitor(spec(), manifest({"x": ["a"] * 300}), "1", events(columns)))
    assert "\x00" not in page
    page.encode()


def test_evidently_draws_the_shared_columns_in_a_process_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    baseline = pa.table(
        {
            "tenure": rng.normal(30, 10, 3000),
            "service": rng.choice(["dsl", "none"], 3000),
            "paperless": rng.random(3000) < 0.5,
            "never": pa.nulls(3000, pa.float64()),
            "label": ["no"] * 3000,
        }
    )
    window = pa.table({"tenure": ["51.5", None] * 200, "service": ["fibre"] * 400, "paperless": [True] * 400, "never": [1.0] * 400})
    drift_html(baseline, window, tmp_path / "deep/evidently.html")
    page = (tmp_path / "deep/evidently.html").read_text()
    assert all(name in page for name in ("tenure", "service", "paperless"))
    assert "label" not in re.findall(r"column_name[^a-z]+([a-z]+)", page)
    assert not {"evidently", "plotly"} & set(sys.modules)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["evidently.html"]


def test_tables_that_share_nothing_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="share 0 columns"):
        drift_html(pa.table({"a": [1]}), pa.table({"b": [1]}), tmp_path / "page.html")


def test_a_report_that_takes_too_long_is_given_up_and_leaves_no_file(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, 2.0]})
    with pytest.raises(Unavailable, match=r"not drawn within 0\.05 s; the drift verdict stands"):
        drift_html(table, table, tmp_path / "page.html", timeout_s=0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_fails_says_why_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"a": [1.0, 2.0]})
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named evidently' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(Unavailable, match=r"No module named evidently.*the drift verdict stands") as caught:
        drift_html(table, table, tmp_path / "page.html")
    assert "zebraops[monitoring]" in str(caught.value.fix)
    assert not (tmp_path / "page.html").exists()
