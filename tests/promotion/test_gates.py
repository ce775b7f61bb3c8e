import math
from typing import Any

import pytest

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.verdicts import EvalReport, Scores
from zebra_assets.promotion.gates import decide


def spec(*metrics: dict[str, Any], tolerance: float = 0.0) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "churn",
            "type": "python",
            "entrypoint": "train.py",
            "datasets": {"train": "churn", "valid": "churn"},
            "tracking": {"experiment_name": "churn"},
            "metrics": list(metrics) or [{"name": "roc_auc", "direction": "maximize", "threshold": 0.78}],
            "promotion": {"tolerance": tolerance},
        }
    )


def report(champion: dict[str, float] | None = None, *, rows: int = 200, split: str = "test", **metrics: float) -> EvalReport:
    return EvalReport(
        id="eval-1",
        model="churn",
        run_id="churn-run-1",
        manifest_id="churn-0123456789abcdef",
        split=split,
        rows=rows,
        candidate=Scores(version="2", model_digest="a" * 64, metrics=metrics),
        champion=None if champion is None else Scores(version="1", model_digest="b" * 64, metrics=champion),
        difference=None,
        created_at=now(),
    )


def test_a_metric_beyond_its_threshold_opens_the_gate_and_says_by_what() -> None:
    decision = decide(spec(), report(roc_auc=0.812))
    assert decision.allowed
    assert "roc_auc 0.812 is at least 0.780" in decision.reasons
    assert (decision.version, decision.report_id, decision.champion_version) == ("2", "eval-1", None)


def test_a_metric_below_its_threshold_closes_it_and_is_the_reason() -> None:
    decision = decide(spec(), report(roc_auc=0.701))
    assert not decision.allowed
    assert decision.reasons == ["roc_auc 0.701 is below the threshold 0.780"]


@pytest.mark.parametrize(("value", "allowed"), [(0.30, True), (0.25, True), (0.301, False)])
def test_a_metric_to_be_minimised_passes_at_and_below_its_threshold(value: float, allowed: bool) -> None:
    decision = decide(spec({"name": "log_loss", "direction": "minimize", "threshold": 0.3}), report(log_loss=value))
    assert decision.allowed is allowed
    assert ("is at most 0.300" if allowed else "is above the threshold 0.300") in decision.rules[1].reason


@pytest.mark.parametrize(
    "metrics", [{}, {"accuracy": 0.99}, {"roc_auc": math.nan}, {"roc_auc": math.inf}], ids=["none", "other", "nan", "inf"]
)
def test_a_figure_that_is_missing_or_not_a_number_closes_the_gate(metrics: dict[str, float]) -> None:
    decision = decide(spec(), report(**metrics))
    assert not decision.allowed and "roc_auc is not defined" in decision.reasons[0]


def test_numbers_in_a_reason_are_told_apart() -> None:
    assert decide(spec(), report(roc_auc=0.7799996)).reasons == ["roc_auc 0.7799996 is below the threshold 0.7800000"]
    money = spec({"name": "rmse", "direction": "minimize", "threshold": 1500})
    assert decide(money, report(rmse=1009.4)).reasons[1] == "rmse 1,009 is at most 1,500"
    assert decide(money, report(rmse=1500.2)).reasons == ["rmse 1,500.2 is above the threshold 1,500.0"]


@pytest.mark.parametrize(("split", "rows"), [("train", 200), ("test", 0)])
def test_rows_that_were_not_held_out_or_not_there_close_the_gate(split: str, rows: int) -> None:
    decision = decide(spec(), report(roc_auc=0.9, split=split, rows=rows))
    assert not decision.allowed and [r.name for r in decision.rules if not r.passed] == ["rows"]


@pytest.mark.parametrize(
    ("mine", "tolerance", "allowed", "words"),
    [
        (0.82, 0.0, True, "0.820 is not worse than prod v1 at 0.810"),
        (0.81, 0.0, True, "0.810 is not worse than prod v1 at 0.810"),
        (0.80, 0.01, True, "0.800 is within 0.010 of prod v1 at 0.810"),
        (0.80, 0.0, False, "0.800 is worse than prod v1 at 0.810"),
        (0.79, 0.01, False, "0.790 is worse by more than 0.010 than prod v1 at 0.810"),
    ],
)
def test_a_candidate_may_be_worse_than_prod_by_the_tolerance_and_no_more(mine: float, tolerance: float, allowed: bool, words: str) -> None:
    decision = decide(spec(tolerance=tolerance), report({"roc_auc": 0.81}, roc_auc=mine))
    assert decision.allowed is allowed
    assert words in decision.rules[-1].reason and decision.champion_version == "1"


def test_lower_is_better_turns_the_comparison_with_prod_round() -> None:
    loss = spec({"name": "log_loss", "direction": "minimize"})
    assert decide(loss, report({"log_loss": 0.5}, log_loss=0.4)).allowed
    assert not decide(loss, report({"log_loss": 0.4}, log_loss=0.5)).allowed


@pytest.mark.parametrize("champion", [{}, {"roc_auc": math.nan}])
def test_a_champion_without_the_figure_closes_the_gate(champion: dict[str, float]) -> None:
    assert decide(spec(), report(champion, roc_auc=0.99)).reasons == ["roc_auc cannot be compared with prod v1: a figure is missing"]


def test_the_reason_shows_the_paired_interval() -> None:
    judged = report({"roc_auc": 0.8}, roc_auc=0.82).model_copy(update={"difference": (-0.0101, 0.02, 0.0498)})
    assert "(difference +0.0200, 95% interval -0.0101 to +0.0498, same 200 rows)" in decide(spec(), judged).rules[-1].reason


def test_the_same_evidence_is_the_same_decision_and_any_other_is_another() -> None:
    first = decide(spec(), report(roc_auc=0.8))
    assert decide(spec(), report(roc_auc=0.8).model_copy(update={"created_at": now(), "html_uri": "file:///x"})).id == first.id
    others = [
        decide(spec(), report(roc_auc=0.8000001)),
        decide(spec(tolerance=0.1), report(roc_auc=0.8)),
        decide(spec({"name": "roc_auc", "direction": "maximize", "threshold": 0.7}), report(roc_auc=0.8)),
        decide(spec(), report({"roc_auc": 0.8}, roc_auc=0.8)),
    ]
    assert len({d.id for d in (first, *others)}) == 5
