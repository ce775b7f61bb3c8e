"""What is recorded of a prediction: listed columns, keyed hashes of others, and nothing of the rest, in events and in sketches."""

import re
import stat
from collections import Counter
from pathlib import Path

import pytest

from tests.serving.conftest import MODEL, Bench, rows
from tests.serving.test_sketches import counts
from zebra_assets.contracts.model_spec import load_model_spec
from zebra_assets.errors import Refused, SpecInvalid
from zebra_serving.recording import Recording


def declare(bench: Bench, serving: str) -> Path:
    """Add a serving section to model.yaml; the model's folder."""
    spec = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text() + f"serving: {serving}\n")
    return spec.parent


def test_listed_columns_are_kept_hashed_ones_are_keyed_and_the_rest_is_nowhere(bench: Bench) -> None:
    declare(bench, "{fields: [tenure], hashed: [contract, monthly]}")
    bench.promote("1")
    customers = rows(120)
    with bench.client("1") as client:
        client.post("/predict", json={"rows": customers})
    events = bench.events.predictions(MODEL)
    assert [e.features["tenure"] for e in events] == [c["tenure"] for c in customers]
    assert {tuple(e.features) for e in events} == {("tenure", "monthly", "contract")}
    for column in ("contract", "monthly"):
        said = [e.features[column] for e in events]
        assert all(re.fullmatch("hmac-[0-9a-f]{32}", text) for text in said)
        # Equal values stay equal: each hash stands for one value, and as often.
        pairs = set(zip(said, (c[column] for c in customers), strict=True))
        assert len(pairs) == len(set(said)) == len({c[column] for c in customers})
    [window] = bench.sketches.windows(MODEL)
    assert window.columns.keys() == {"tenure", "contract", "monthly"}
    assert counts(window.columns["contract"]) == Counter(e.features["contract"] for e in events)
    stored = b"".join(file.read_bytes() for file in bench.settings.home.glob("state.db*"))
    assert b"yearly" not in stored and b"senior" not in stored and b"gender" not in stored


def test_a_value_hashes_alike_after_a_restart_and_otherwise_in_another_column_or_project(bench: Bench, tmp_path: Path) -> None:
    spec = load_model_spec(declare(bench, "{hashed: [contract]}"))
    first, again = (Recording.of(spec, bench.settings) for _ in range(2))
    assert first.hash("contract", "yearly") == again.hash("contract", "yearly") != first.hash("other", "yearly")
    key = bench.settings.home / "serving" / "fields.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    elsewhere = Recording.of(spec, bench.settings.model_copy(update={"project_dir": tmp_path / "other"}))
    assert elsewhere.hash("contract", "yearly") != first.hash("contract", "yearly")
    assert first.kept("contract", None) is None and first.kept("tenure", 5) == 5


def test_projects_that_share_a_key_by_setting_hash_alike(bench: Bench, tmp_path: Path) -> None:
    spec = load_model_spec(declare(bench, "{hashed: [contract]}"))
    settings = [type(bench.settings)(project_dir=tmp_path / n, serving_hash_key="a shared secret of 1") for n in ("a", "b")]  # type: ignore[arg-type]
    assert len({Recording.of(spec, one).hash("contract", "yearly") for one in settings}) == 1
    assert not (tmp_path / "a").exists()


def test_a_key_that_cannot_be_kept_is_refused_before_anything_is_recorded(bench: Bench) -> None:
    spec = load_model_spec(declare(bench, "{hashed: [contract]}"))
    (bench.settings.home / "serving" / "fields.key").mkdir()
    with pytest.raises(Refused, match="key of hashed columns") as caught:
        Recording.of(spec, bench.settings)
    assert "ZEBRA_SERVING_HASH_KEY" in str(caught.value.fix)


@pytest.mark.parametrize("serving", ["{hashed: [gender]}", "{fields: [tenure], hashed: [tenure]}"])
def test_a_column_is_recorded_in_one_way_and_a_sensitive_one_in_none(bench: Bench, serving: str) -> None:
    folder = declare(bench, serving)
    with pytest.raises(SpecInvalid, match=r"gender: sensitive|tenure: in fields and in hashed"):
        load_model_spec(folder)
