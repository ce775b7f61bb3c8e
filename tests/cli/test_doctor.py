"""Doctor finds what is wrong, says how to mend it, and changes nothing."""

import socket
from pathlib import Path

from tests.cli.conftest import Mlops, tree


def found(said: object) -> dict[str, dict[str, str]]:
    return {c["name"]: c for c in said.json["checks"]}  # type: ignore[attr-defined]


def test_a_fresh_project_is_healthy_and_every_warning_says_what_to_do(mlops: Mlops, fresh: Path) -> None:
    said = mlops("doctor", "--json", project=fresh)
    assert said.code == 0, said.out
    assert said.json["healthy"]
    for check in said.json["checks"]:
        assert check["state"] in ("ok", "info") or check["fix"], check
    checks = found(said)
    assert checks["specs"]["detail"] == "1 models, 1 datasets"
    assert checks["object store"]["state"] == "ok" and "If-None-Match" in checks["object store"]["detail"]


def test_doctor_writes_nothing_but_its_probe(mlops: Mlops, fresh: Path) -> None:
    before = tree(fresh)
    mlops("doctor", project=fresh)
    after = tree(fresh)
    new = {path for path in after if path not in before}
    assert {path: after[path] for path in before} == before
    assert all("doctor/probe" in path or path.startswith(".zebraops/objects") for path in new), new


def test_a_walked_project_is_healthy(mlops: Mlops, walked: Path) -> None:
    checks = found(mlops("doctor", "--json", project=walked))
    assert {name: checks[name]["state"] for name in ("state database", "object store", "mlflow", "aliases")} == dict.fromkeys(
        ("state database", "object store", "mlflow", "aliases"), "ok"
    )


def test_a_misspelled_spec_is_named_with_its_line_and_fails(mlops: Mlops, fresh: Path) -> None:
    spec = fresh / "models" / "nuclei" / "model.yaml"
    spec.write_text(spec.read_text().replace("entrypoint:", "entrypont:"))
    said = mlops("doctor", project=fresh)
    assert said.code == 1
    assert f"{spec}:5: unknown field 'entrypont'. Did you mean 'entrypoint'?" in said.out
    assert f"${{EDITOR:-vi}} {spec}" in said.out


def test_a_missing_entrypoint_fails(mlops: Mlops, fresh: Path) -> None:
    (fresh / "models" / "nuclei" / "train.py").unlink()
    said = mlops("doctor", "--json", project=fresh)
    assert said.code == 1 and any("train.py does not exist" in c["detail"] for c in said.json["checks"])


def test_a_folder_that_is_no_project_fails_with_init_as_the_fix(mlops: Mlops, tmp_path: Path) -> None:
    said = mlops("doctor", "--json", project=tmp_path)
    assert said.code == 1
    assert "mlops init" in found(said)["project"]["fix"]


def test_an_unknown_profile_fails(mlops: Mlops, fresh: Path) -> None:
    said = mlops("doctor", "--json", "--profile", "shraed", project=fresh)
    assert said.code == 1 and "shraed" in found(said)["settings"]["detail"]


def test_unreachable_stores_fail_within_seconds_and_hide_nothing_else(mlops: Mlops, fresh: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = sock.getsockname()[1]
    (fresh / ".env").write_text(f"ZEBRA_MLFLOW_TRACKING_URI=http://127.0.0.1:{nobody}\nZEBRA_STATE_URL=sqlite:////proc/none/state.db\n")
    said = mlops("doctor", "--json", project=fresh)
    assert said.code == 1
    checks = found(said)
    for name in ("mlflow", "state database"):
        assert checks[name]["state"] == "fail" and checks[name]["fix"], checks[name]
    assert checks["object store"]["state"] == "ok"


def test_an_alias_moved_by_hand_is_found_and_reconcile_is_the_fix(mlops: Mlops, walked: Path) -> None:
    from zebra_assets.parts import Parts
    from zebra_assets.settings import load_settings

    parts = Parts(load_settings(walked))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(parts.settings.tracking, parts.settings.tracking)
    client.delete_registered_model_alias("nuclei", "prod")
    said = mlops("doctor", "--json", project=walked)
    assert said.code == 1
    assert found(said)["aliases"]["fix"] == "mlops reconcile"
    healed = mlops("reconcile", "--json", project=walked)
    assert healed.code == 0 and len(healed.json["healed"]) == 1
    assert mlops("doctor", "--json", project=walked).code == 0


def test_a_taken_port_is_a_warning_that_names_its_holder(mlops: Mlops, fresh: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        (fresh / ".env").write_text(f"ZEBRA_SERVING_PORT={port}\n")
        check = found(mlops("doctor", "--json", project=fresh))[f"port {port}"]
    assert check["state"] == "warn" and "by process" in check["detail"] and f"--serving-port {port + 1}" in check["fix"]


def test_a_password_is_never_shown(mlops: Mlops, fresh: Path) -> None:
    (fresh / ".env").write_text("ZEBRA_STATE_URL=postgresql://zebra:hunter2@127.0.0.1:1/state\n")
    assert "hunter2" not in mlops("doctor", project=fresh).out
