"""What benchmarks leave behind: the same four words for each claim, and a page for people beside it."""

import json
from pathlib import Path

import pytest

from tests.conftest import REPO

RESULTS = sorted(p for p in (REPO / "benchmarks" / "results").glob("*.json") if not p.stem.endswith("-samples"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_result_is_a_list_of_claims_beside_a_page_and_make_finds_what_made_it(path: Path) -> None:
    claims = json.loads(path.read_text())
    assert claims and all(set(claim) == {"claim", "value", "bound", "holds"} for claim in claims)
    assert len({claim["claim"] for claim in claims}) == len(claims)
    assert path.with_suffix(".md").is_file()
    assert (REPO / "benchmarks" / path.stem / "run.py").is_file()  # where `make bench-%` looks
