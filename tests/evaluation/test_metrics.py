import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from zebra_assets.errors import SpecInvalid
from zebra_assets.evaluation.bootstrap import REPLICATES, interval, replicates
from zebra_assets.evaluation.metrics import METRICS, Scored, compute, metric

BINARY = {
    "roc_auc": lambda y, a, s: sk.roc_auc_score(y, s),
    "pr_auc": lambda y, a, s: sk.average_precision_score(y, s),
    "accuracy": lambda y, a, s: sk.accuracy_score(y, a),
    "precision": lambda y, a, s: sk.precision_score(y, a, zero_division=0),
    "recall": lambda y, a, s: sk.recall_score(y, a, zero_division=0),
    "f1": lambda y, a, s: sk.f1_score(y, a, zero_division=0),
    "log_loss": lambda y, a, s: sk.log_loss(y, s, labels=[0, 1]),
    "brier": lambda y, a, s: sk.brier_score_loss(y, s, pos_label=1),
}
REGRESSION = {
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "mape": sk.mean_absolute_percentage_error,
}


def binary(seed: int, n: int, decimals: int) -> Scored:
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(float)
    truth[:2] = 0, 1
    score = np.round(np.clip(0.25 * truth + 0.85 * rng.random(n), 0, 1), decimals)  # few decimals: many ties, and exact 0 and 1
    return Scored(truth, (score > 0.5).astype(float), score)


def test_the_tables_here_know_every_metric() -> None:
    assert {*BINARY, *REGRESSION} == set(METRICS)


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 400), decimals=st.integers(0, 6))
def test_binary_metrics_equal_scikit_learns_ties_included(name: str, seed: int, n: int, decimals: int) -> None:
    rows = binary(seed, n, decimals)
    assert compute(name, "binary", rows) == pytest.approx(BINARY[name](rows.truth, rows.answer, rows.score), abs=1e-9)


@pytest.mark.parametrize("name", REGRESSION)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 400), shift=st.sampled_from([0.0, 5.0, 1e4]))
def test_regression_metrics_equal_scikit_learns(name: str, seed: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(shift, 2, n)
    answer = truth + rng.normal(0, 1, n)
    assert compute(name, "regression", Scored(truth, answer)) == pytest.approx(REGRESSION[name](truth, answer), rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 100))
def test_weights_mean_the_row_repeated(seed: int, n: int) -> None:
    rows = binary(seed, n, 1)
    counts = np.random.default_rng(seed).integers(0, 4, n)
    assert rows.score is not None
    repeated = Scored(np.repeat(rows.truth, counts), np.repeat(rows.answer, counts), np.repeat(rows.score, counts))
    for name in BINARY:
        if len(np.unique(repeated.truth)) == 2:
            weighted = METRICS[name].figure(rows, counts[None, :].astype(float))[0]
            assert weighted == pytest.approx(compute(name, "binary", repeated), abs=1e-9), name


def test_multiclass_accuracy_counts_equal_labels() -> None:
    rows = Scored(np.array(["a", "b", "c", "a"], dtype=object), np.array(["a", "c", "c", "b"], dtype=object))
    assert compute("accuracy", "multiclass", rows) == 0.5


@pytest.mark.parametrize(
    ("name", "task", "rows"),
    [
        ("roc_auc", "binary", Scored(np.ones(5), np.ones(5), np.full(5, 0.3))),
        ("pr_auc", "binary", Scored(np.zeros(5), np.ones(5), np.full(5, 0.3))),
        ("roc_auc", "binary", Scored(np.array([0.0, 1.0]), np.ones(2))),
        ("r2", "regression", Scored(np.full(9, 0.1), np.full(9, 0.1))),
        ("rmse", "regression", Scored(np.empty(0), np.empty(0))),
    ],
    ids=["one class", "no positives", "no scores", "constant", "no rows"],
)
def test_a_figure_that_is_not_defined_is_nan_without_a_warning(name: str, task: str, rows: Scored) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(compute(name, task, rows))  # type: ignore[arg-type]


def test_an_unknown_metric_is_answered_with_the_nearest_and_one_for_other_labels_with_the_fitting() -> None:
    with pytest.raises(SpecInvalid, match=r"no metric 'roc_acu'. Did you mean 'roc_auc'"):
        metric("roc_acu", "binary")
    with pytest.raises(SpecInvalid, match=r"'rmse' is not for a binary label. Known: roc_auc"):
        metric("rmse", "binary")


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    truth = (np.arange(2000) % 10 < 3).astype(float)
    rows = Scored(truth, np.zeros(2000))  # accuracy 0.7, standard error sqrt(0.7 * 0.3 / 2000) = 0.01025
    low, high = interval(replicates([METRICS["accuracy"]], [rows], 1)[0, 0]) or (0, 0)
    assert low == pytest.approx(0.7 - 1.96 * 0.01025, abs=0.004) and high == pytest.approx(0.7 + 1.96 * 0.01025, abs=0.004)


def test_two_subjects_meet_the_same_rows() -> None:
    rows = binary(1, 300, 3)
    drawn = replicates([METRICS["roc_auc"]], [rows, rows], 7)
    assert (drawn[0, 0] == drawn[0, 1]).all() and len(np.unique(drawn[0, 0])) > REPLICATES // 2
    assert (replicates([METRICS["roc_auc"]], [rows, rows], 7) == drawn).all()
    assert (replicates([METRICS["roc_auc"]], [rows, rows], 8) != drawn).any()


def test_slices_of_replicates_are_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = binary(1, 50, 3)
    monkeypatch.setattr("zebra_assets.evaluation.bootstrap._CELLS", 50 * 7)
    drawn = replicates([METRICS["f1"]], [rows], 7)
    assert drawn.shape == (1, 1, REPLICATES) and np.isfinite(drawn).all() and len(np.unique(drawn)) > 50


def test_an_interval_needs_most_replicates_to_be_defined() -> None:
    assert interval(np.r_[np.full(60, np.nan), np.ones(40)]) is None
    assert interval(np.r_[np.full(40, np.nan), np.ones(60)]) == (1.0, 1.0)


def test_eight_metrics_of_two_models_on_a_thousand_rows_take_less_than_a_second() -> None:
    subjects = [binary(s, 1000, 4) for s in (1, 2)]
    began = time.process_time()
    replicates([METRICS[m] for m in BINARY], subjects, 1)
    assert time.process_time() - began < 1  # 0.07 s on an idle core
