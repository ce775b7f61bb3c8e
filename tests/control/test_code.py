"""`mlops code`: an approver looks at a version's own bytes, says so in the audit log, and may take it back; evaluations ask for it."""

from pathlib import Path

import pytest
import yaml

from tests.control.conftest import NAME
from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.contracts.model_folder import model_digest
from zebra_assets.contracts.run import Run
from zebra_assets.control import code, operations
from zebra_assets.errors import NotFound, Refused, UsageError
from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings

OWN = """
class Model:
    def predict(self, rows, params=None):
        return [FIRST] * len(rows)
def _load_pyfunc(path):
    return Model()
"""


def with_own_code(parts: Parts) -> Run:
    """The trained run's model again, registered as a version that brings its code."""
    run = operations.chosen_run(parts, NAME, None)
    assert run.version is not None
    folder = parts.registry.download(NAME, run.version, parts.settings.home / "own")
    (folder / "model.skops").unlink()
    (folder / "code").mkdir()
    document = yaml.safe_load((folder / "MLmodel").read_text())
    (folder / "code" / "own_model.py").write_text(OWN.replace("FIRST", repr(document["metadata"]["zebra"]["classes"][0])))
    document["flavors"] = {"python_function": {"loader_module": "own_model", "code": "code"}}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    digest = model_digest(folder)
    mine = run.model_copy(update={"id": f"{NAME}-own-code-1", "model_digest": digest, "version": None})
    mine = mine.model_copy(update={"version": parts.registry.register(mine, folder, digest)})
    parts.records.save(mine)
    return mine


@pytest.fixture(scope="module")
def own(trained: Parts) -> Run:
    return with_own_code(trained)


def test_a_version_is_evaluated_once_its_code_is_approved_and_no_longer_when_that_is_revoked(trained: Parts, own: Run) -> None:
    assert own.version is not None
    seen = code.show(trained, NAME, own.version)
    assert "code/own_model.py" in seen.files and seen.approval is None and seen.model_digest == own.model_digest
    with pytest.raises(Refused, match="Nobody has approved") as refused:
        operations.evaluate(trained, NAME, own.id, "valid")
    assert refused.value.fix == f"mlops code approve {NAME} {own.version} --reason WHY"
    with pytest.raises(UsageError, match="reason"):
        code.approve(trained, NAME, own.version, " ")
    word = code.approve(trained, NAME, own.version, "read by me")
    assert word.granted and word.model_digest == own.model_digest and word.actor == trained.settings.who
    report, _ = operations.evaluate(trained, NAME, own.id, "valid")
    assert report.candidate.version == own.version and report.rows > 0
    revoked = code.revoke(trained, NAME, own.version, "it calls home")
    assert not revoked.granted and revoked.seq > word.seq
    with pytest.raises(Refused, match=r"revoked the approval of version .* code: it calls home"):
        operations.evaluate(trained, NAME, own.id, "test")
    with pytest.raises(NotFound, match="is not approved"):
        code.revoke(trained, NAME, own.version, "")
    assert SqlAudit(trained.settings.state).verify() is None


def test_what_brings_no_code_and_what_does_not_exist_cannot_be_approved(trained: Parts) -> None:
    with pytest.raises(UsageError, match="brings no code"):
        code.approve(trained, NAME, "1", "because")
    for version in ("99", "1; rm", "latest"):
        with pytest.raises(NotFound, match="has no version"):
            code.approve(trained, NAME, version, "because")


def test_with_four_eyes_a_version_is_approved_by_another_than_its_trainer(
    trained: Parts, own: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.version is not None

    def as_(who: str) -> Parts:
        monkeypatch.setenv("ZEBRA_ACTOR", who)
        monkeypatch.setenv("ZEBRA_FOUR_EYES", "true")
        return Parts(load_settings(trained.settings.project_dir))

    with pytest.raises(Refused, match="nobody knows who trained it"):
        code.approve(as_("ann"), NAME, own.version, "read")
    trained.audit.append("ann", "model.trained", f"run/{own.id}", {"model": NAME, "version": own.version})
    with pytest.raises(Refused, match="ann trained it"):
        code.approve(as_("ann"), NAME, own.version, "read")
    assert code.approve(as_("bob"), NAME, own.version, "read").actor == "bob"


def test_training_says_in_the_audit_log_who_trained(trained: Parts) -> None:
    run = next(r for r in trained.records.runs(NAME) if r.version == "1")
    [entry] = trained.audit.entries(subject=f"run/{run.id}", action="model.trained")
    assert entry.said()["actor"] == trained.settings.who and entry.said()["facts"]["model_digest"] == run.model_digest


def test_other_bytes_in_the_registry_than_the_run_made_cannot_be_approved(trained: Parts, own: Run, tmp_path: Path) -> None:
    assert own.version is not None
    trained.records.save(own.model_copy(update={"model_digest": "0" * 64}))
    try:
        with pytest.raises(Refused, match="its bytes were changed"):
            code.approve(trained, NAME, own.version, "read")
    finally:
        trained.records.save(own)
