"""Dataset -> candidate -> predictions -> evaluation -> decision -> promotion, through Dagster itself."""

import dagster as dg
import pytest

from zebra_assets.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore")

MODEL = "tabular-churn"
STEPS = ("candidate", "predictions", "evaluation", "decision", "promotion")


def close_the_gate(site):
    path = site.folder / "models" / MODEL / "model.yaml"
    path.write_text(path.read_text().replace("threshold: 0.78", "threshold: 0.999"))
    assert "0.999" in path.read_text()


def test_ci_walks_the_whole_group_green_and_prod_names_the_version(walked):
    site, done = walked
    assert done.returncode == 0, done.stderr[-3000:]
    assert (site.head.version, site.head.state, site.head.manifest_id) == ("1", "done", site.manifest_id)
    assert site.parts.registry.alias(MODEL, "prod") == "1"


def test_each_materialisation_shows_what_a_person_wants_to_see(walked):
    site, _ = walked
    wanted = {
        (MODEL, "dataset"): {"dagster/row_count", "dagster/column_schema", "splits", "content digest"},
        (MODEL, "candidate"): {"model version", "metrics", "code", "environment"},
        (MODEL, "predictions"): {"dagster/row_count", "uri"},
        (MODEL, "evaluation"): {"scores", "metric/roc_auc", "report", "plot"},
        (MODEL, "decision"): {"allowed", "reasons", "rules"},
        (MODEL, "promotion"): {"alias", "moved", "ledger seq"},
    }
    with site.instance() as instance:
        for key, names in wanted.items():
            event = instance.get_latest_materialization_event(dg.AssetKey(key))
            assert event is not None, key
            assert names <= set(event.asset_materialization.metadata), key


def test_the_data_version_of_a_dataset_is_its_content_digest(walked):
    site, _ = walked
    with site.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey([MODEL, "dataset"]))
    assert event.asset_materialization.tags["dagster/data_version"] == site.parts.manifests.get(site.manifest_id).hashes.content


def test_the_same_partition_again_trains_nothing_and_moves_nothing(walked):
    site, _ = walked
    before = site.parts.ledger.history(MODEL, "prod")
    result = site.run(*STEPS)
    assert result.success
    facts = result.asset_materializations_for_node(f"{MODEL.replace('-', '_')}__candidate")[0].metadata
    assert facts["reused"].value is True
    assert site.parts.ledger.history(MODEL, "prod") == before
    assert len(site.parts.records.runs(MODEL)) == 1


def test_a_closed_gate_is_a_green_run_that_leaves_prod_alone_and_alone_it_is_refused(site, monkeypatch):
    close_the_gate(site)
    chain = site.run("dataset", *STEPS)
    assert chain.success
    assert site.head is None
    assert site.parts.registry.alias(MODEL, "prod") is None
    decision = site.parts.records.decision_for(site.parts.records.runs(MODEL)[0].id)
    assert not decision.allowed
    assert any("roc_auc" in reason and "0.999" in reason for reason in decision.reasons)
    with site.instance() as instance:
        assert instance.get_latest_materialization_event(dg.AssetKey([MODEL, "promotion"])) is None

    alone = site.run("promotion", raise_on_error=False)
    assert not alone.success
    assert "0.999" in str(alone.failure_data_for_node(f"{MODEL.replace('-', '_')}__promotion").error)
    assert site.head is None

    monkeypatch.setenv("ZEBRA_GATE_CLOSED_FAILS", "true")
    assert not site.run("decision", "promotion", raise_on_error=False).success
    assert site.head is None


def test_an_edited_script_changes_the_code_version_of_the_candidate_only(site):
    from zebra_assets.defs.build import build_defs

    def versions():
        graph = build_defs(project_dir=site.folder).resolve_asset_graph()
        return {key.path[-1]: graph.get(key).code_version for key in graph.get_all_asset_keys()}

    before = versions()
    script = site.folder / "models" / MODEL / "train.py"
    script.write_text(script.read_text() + "\n# edited\n")
    after = versions()
    assert {step for step in before if before[step] != after[step]} == {"candidate"}


def test_a_damaged_blob_fails_the_dataset_and_names_the_command_that_mends_it(site):
    manifest = site.parts.manifests.get(site.manifest_id)
    blob = site.parts.store.fetch(manifest.artifacts[0].key)
    blob.chmod(0o644)
    raw = bytearray(blob.read_bytes())
    raw[len(raw) // 2] ^= 1
    blob.write_bytes(raw)
    result = site.run("dataset", raise_on_error=False)
    assert not result.success
    assert f"mlops ingest {MODEL}" in str(result.failure_data_for_node(f"{MODEL.replace('-', '_')}__dataset").error)


def test_initialising_twice_changes_nothing(site):
    from zebra_assets.defs.initialise import initialise

    assert set(initialise(load_settings(site.folder)).values()) == {0}
