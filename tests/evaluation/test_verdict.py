"""The verdict is right about versions of known quality, and as rarely wrong as it says."""

import numpy as np
import pytest

from benchmarks.verdict.replay import Array, lives, qualities
from zebra_assets.evaluation.verdict import STAKES, Outcomes, decided, verdict, wealth

REPLAYS = 200


@pytest.fixture(scope="module")
def brier() -> tuple[Array, Array]:
    """Both versions' outcomes on every held-out customer of the shipped example."""
    return qualities()["brier"]


def said(champion: Array, candidate: Array, *, share: float = 0.5, rows: int = 5000, alpha: float = 0.05) -> tuple[int, int]:
    """How many of 200 replays say `promote`, and `keep`."""
    promote, keep = decided(lives(champion, candidate, share=share, rows=rows, replays=REPLAYS, seed=3), alpha)
    return int(((promote < keep) & (promote <= rows)).sum()), int(((keep < promote) & (keep <= rows)).sum())


def test_the_better_of_two_real_versions_is_promoted_and_the_worse_one_is_not(brier: tuple[Array, Array]) -> None:
    before, after = brier
    assert after.mean() - before.mean() > 0.03, "the example's second version is known to be better"
    for champion, candidate, right in ((before, after, 0), (after, before, 1)):
        found = said(champion, candidate)
        assert found[right] >= REPLAYS * 0.95
        assert found[1 - right] <= REPLAYS * 0.05


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_one_version_against_itself_is_hardly_ever_told_apart_from_itself(brier: tuple[Array, Array], share: float) -> None:
    # 5 % of 200 are 10. Looked at after every single outcome; a t-test would be wrong in half of them.
    assert sum(said(brier[0], brier[0], share=share)) <= 10


def test_an_outcome_is_measured_from_what_was_known_before_it() -> None:
    # First outcome: m = 1/2, so d = (1 - 1/2) / (1/2) = 1, and at most 1 could have been lost. Second: m = 3/4, d = (1 - 3/4) / (-1/2).
    right = Outcomes(np.ones(2), np.array([True, False]), np.full(2, 0.5))
    better, worse = wealth(right)
    assert np.exp(better) == pytest.approx([np.mean(1 + STAKES), np.mean((1 + STAKES) * (1 - STAKES * 0.5 / 1.5))])
    assert np.exp(worse) == pytest.approx([np.mean(1 - STAKES), np.mean((1 - STAKES) * (1 + STAKES * 0.5 / 1.5))])


def test_a_stricter_error_rate_asks_for_more_outcomes(brier: tuple[Array, Array]) -> None:
    outcomes = lives(*brier, share=0.5, rows=5000, replays=20, seed=5)
    loose, strict = (decided(outcomes, alpha)[0] for alpha in (0.1, 0.001))
    assert (loose <= strict).all()
    assert loose.mean() < strict.mean()


def test_a_share_that_changes_on_the_way_makes_no_version_look_better() -> None:
    # Simpson's paradox: the candidate's share grows just as easier customers begin to come. Naively it would look better.
    rng, replays, rows = np.random.default_rng(7), 200, 4000
    share = np.where(np.arange(rows) < rows // 2, 0.05, 0.6) * np.ones((replays, 1))
    ease = np.where(np.arange(rows) < rows // 2, 0.6, 0.9)
    drawn = rng.random((replays, rows)) < share
    value = (rng.random((replays, rows)) < ease).astype(float)
    naive = value[0][drawn[0]].mean() - value[0][~drawn[0]].mean()
    assert naive > 0.1
    promote, keep = decided(Outcomes(value, drawn, share))
    assert (np.minimum(promote, keep) <= rows).sum() <= 10


def test_the_interval_holds_the_true_difference_and_shrinks(brier: tuple[Array, Array]) -> None:
    truth = float(brier[1].mean() - brier[0].mean())
    widths = []
    for rows in (300, 3000):
        outcomes = lives(*brier, share=0.5, rows=rows, replays=40, seed=11)
        ends = [verdict(Outcomes(*parts)).difference for parts in zip(outcomes.value, outcomes.candidate, outcomes.share, strict=True)]
        assert sum(low <= truth <= high for low, _, high in ends) >= 38
        assert all(low <= middle <= high for low, middle, high in ends)
        widths.append(np.mean([high - low for low, _, high in ends]))
    assert widths[1] < widths[0] / 2


def test_a_finding_tells_what_it_rests_on_and_how_far_it_is_from_the_end(brier: tuple[Array, Array]) -> None:
    stream = lives(*brier, share=0.5, rows=6000, replays=1, seed=2)
    value, candidate, share = stream.value[0], stream.candidate[0], stream.share[0]

    def after(n: int) -> Outcomes:
        return Outcomes(value[:n], candidate[:n], share[:n])

    done = verdict(stream_all := after(6000))
    assert done.decision == "promote" and done.at is not None and done.more is None
    assert done.rows == (int((~candidate).sum()), int(candidate.sum()))
    assert done.evidence[0] >= 40 > done.evidence[1]
    assert float(np.exp(wealth(stream_all)[0].max())) == pytest.approx(done.evidence[0])
    early = verdict(after(done.at - 1))
    assert early.decision == "more" and early.more is not None and early.more < 5 * done.at
    assert verdict(after(done.at)).decision == "promote", "decided at this outcome and not before"
    assert verdict(after(0)).decision == "more"


def test_a_gain_too_small_to_matter_keeps_the_champion() -> None:
    rng = np.random.default_rng(1)
    value = (rng.random(20000) < 0.8).astype(float)
    same = Outcomes(value, rng.random(20000) < 0.5, np.full(20000, 0.5))
    assert verdict(same).decision == "more"
    found = verdict(same, margin=0.05)
    assert found.decision == "keep"
    assert "less than 0.05" in found.because
