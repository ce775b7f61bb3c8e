import re
import struct
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from zebra_assets.adapters.report_charts import calibration, precision_recall, roc, ticks
from zebra_assets.adapters.reports import evaluation_html, metrics_plot_png
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.verdicts import EvalReport, GateDecision, Rule, Scores

DIGEST, N = "a" * 64, 500
RNG = np.random.default_rng(4)
TRUTH = (RNG.random(N) < 0.4).astype(np.int8)
SCORE = np.round(np.clip(0.3 * TRUTH + 0.7 * RNG.random(N), 0, 1), 2)
BINARY = pa.table({"label": TRUTH, "prediction": (SCORE > 0.5).astype(np.int8), "score": SCORE})
NUMBERS = pa.table({"label": RNG.normal(5e4, 1e4, N), "prediction": RNG.normal(5e4, 1e4, N), "score": pa.nulls(N, pa.float64())})
WORDS = pa.table(
    {"label": RNG.choice(["a", "b", "<i>"], N), "prediction": RNG.choice(["a", "b", "<i>"], N), "score": pa.nulls(N, pa.float64())}
)
NO_SCORES = BINARY.set_column(2, "score", pa.nulls(N, pa.float64()))
CONSTANT = pa.table({"label": np.ones(5), "prediction": np.ones(5), "score": pa.nulls(5, pa.float64())})


def spec(metric: str = "roc_auc", threshold: float | None = 0.78) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "churn",
            "type": "python",
            "entrypoint": "train.py",
            "datasets": {"train": "churn", "valid": "churn"},
            "tracking": {"experiment_name": "churn"},
            "metrics": [{"name": metric, "direction": "maximize", "threshold": threshold}],
        }
    )


def report(rows: int = N, champion: bool = True, **metrics: float) -> EvalReport:
    given = metrics or {"roc_auc": 0.8123}
    intervals = {k: (v - 0.02, v + 0.02) for k, v in given.items()}
    beside = {k: v - 0.01 for k, v in given.items()}
    return EvalReport(
        id="eval-1",
        model="churn",
        run_id="churn-run-1",
        manifest_id="churn-0123456789abcdef",
        split="test",
        rows=rows,
        candidate=Scores(version="2", model_digest=DIGEST, metrics=given, intervals=intervals),
        champion=Scores(version="1", model_digest=DIGEST, metrics=beside) if champion else None,
        difference=(-0.01, 0.01, 0.03) if champion else None,
        created_at=now(),
    )


def decision(*rules: tuple[bool, str]) -> GateDecision:
    return GateDecision(
        id="gate-1",
        model="churn",
        run_id="churn-run-1",
        version="2",
        model_digest=DIGEST,
        manifest_id="churn-0123456789abcdef",
        report_id="eval-1",
        champion_version="1",
        allowed=all(passed for passed, _ in rules),
        rules=[Rule(name="r", passed=passed, value=1.0, bound=1.0, reason=reason) for passed, reason in rules],
        created_at=now(),
    )


class Page(HTMLParser):
    """What a browser would make of it: text, tags, and whether every tag that was opened was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_the_verdict_stands_on_top_with_what_failed_first() -> None:
    page = evaluation_html(
        spec(), report(), BINARY, BINARY, decision((True, "rows are there"), (False, "f1 0.628 is below the threshold 0.780"))
    )
    assert page.index("gate closed") < page.index("f1 0.628 is below") < page.index("rows are there") < page.index("<table>")
    assert "gate open" in evaluation_html(spec(), report(), BINARY, BINARY, decision((True, "fine")))


def test_the_table_shows_candidate_interval_prod_threshold_and_verdict() -> None:
    text = Page(evaluation_html(spec(), report(), BINARY, BINARY)).text
    for shown in ("0.8123", "0.7923 to 0.8323", "0.8023", "+0.0100", "≥ 0.7800", "pass", "zero lies inside"):
        assert shown in re.sub(r"\s+", " ", text), shown
    assert "fail" in evaluation_html(spec(threshold=0.9), report(), BINARY)
    assert "fail" in evaluation_html(spec("pr_auc", 0.1), report(), BINARY), "a figure that is missing fails"


@pytest.mark.parametrize(
    ("table", "figures"),
    [(BINARY, 5), (NUMBERS, 2), (WORDS, 1), (NO_SCORES, 1), (CONSTANT, 2), (BINARY.slice(0, 0), 0), (BINARY.slice(0, 1), 5)],
    ids=["binary", "regression", "multiclass", "no scores", "constant", "no rows", "one row"],
)
@pytest.mark.parametrize("champion", [True, False])
def test_every_kind_of_model_has_a_well_formed_page(table: pa.Table, figures: int, champion: bool) -> None:
    html = evaluation_html(spec(), report(table.num_rows, champion), table, table if champion else None)
    page = Page(html)
    assert page.open == [] and html.count("<figure>") == figures
    assert "nan" not in html.replace("nance", "") and "inf" not in re.sub(r"[a-z]+inf|inf[a-z]+", "", html)
    assert metrics_plot_png(report(table.num_rows, champion), table).startswith(b"\x89PNG")


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    html = evaluation_html(spec(), report(), BINARY, BINARY, decision((True, "fine")))
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "img", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import|javascript:|\son\w+=", html)
    assert len(html) < 60_000


def test_text_from_elsewhere_is_escaped() -> None:
    evil = "</title><script>alert(1)</script>'\"&"
    closed = decision((False, evil)).model_copy(update={"manifest_id": evil, "id": evil})
    judged = report().model_copy(update={"run_id": evil, "split": evil, "manifest_id": evil, "model": evil})
    page = Page(evaluation_html(spec(), judged, WORDS, WORDS, closed))
    assert "script" not in {tag for tag, _ in page.tags} and "i" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 4


def test_the_picture_is_small() -> None:
    for table in (BINARY, NUMBERS):
        png = metrics_plot_png(report(), table)
        assert len(png) < 50_000
        width, height = struct.unpack(">II", png[16:24])
        assert (width, height) == (576, 232)


def test_curves_enclose_scikit_learns_areas() -> None:
    truth, score = TRUTH.astype(float), SCORE
    x, y = roc(truth, score)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert sk.auc(x, y) == pytest.approx(sk.roc_auc_score(TRUTH, SCORE), abs=1e-9)
    recall, precision = precision_recall(truth, score)
    step = float(np.sum(np.diff(np.r_[0.0, recall]) * precision))
    assert step == pytest.approx(sk.average_precision_score(TRUTH, SCORE), abs=1e-9)


def test_long_curves_are_thinned_without_moving() -> None:
    score = RNG.random(20_000)
    truth = (RNG.random(20_000) < score).astype(float)
    x, y = roc(truth, score)
    assert len(x) <= 200 and sk.auc(x, y) == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-3)


def test_calibration_bins_hold_every_row_and_its_share() -> None:
    mean, share, rows = calibration(TRUTH.astype(float), SCORE)
    assert rows.sum() == N and (np.diff(mean) > 0).all()
    assert (share * rows).sum() == pytest.approx(TRUTH.sum()) and (mean * rows).sum() == pytest.approx(SCORE.sum())
    assert [len(v) for v in calibration(np.ones(5), np.full(5, 0.3))] == [1, 1, 1]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 4.1), (0, 0.004), (1e5, 9e5), (-1e-9, 1e-9)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 8 and low - 1e-12 <= found[0] and found[-1] <= high + 1e-12
    assert len({f"{t:.2g}" for t in found}) == len(found)
