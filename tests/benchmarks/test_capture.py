"""The benchmark of recording's cost: what it asks is answered, and what it says are claims."""

from pathlib import Path

import pytest

from benchmarks.capture import run


@pytest.mark.slow  # 50 s, of which the training of two models is most
def test_the_cost_of_recording_is_stated_for_each_model_and_setting(tmp_path: Path) -> None:
    claims = run.claims(run.measure(2, 3, tmp_path))
    assert len(claims) == 16 and all(claim["bound"] is None for claim in claims)
