"""docker-compose.yml without an engine: everything it names is there, and it keeps its promises about exposure."""

import re
from typing import Any

import pytest
import yaml

from tests.infra import REPO

COMPOSE = REPO / "docker-compose.yml"
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::?([-?])([^}]*))?\}")
SECRETS = {"POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "SERVING_TOKEN", "GRAFANA_PASSWORD"}
# By specification, container side.
PORTS = {
    "dagster": {"3000": "3000"},
    "mlflow": {"5000": "5000"},
    "postgres": {"5432": "5432"},
    "s3": {"9000": "9000", "9001": "9001"},
    "prometheus": {"9090": "9090"},
    "grafana": {"3030": "3000"},
    "serving": {"8080": "8080"},
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return data


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def environment_example() -> dict[str, tuple[str, bool]]:
    """Variable to its value and whether the line is commented out."""
    found = {}
    for line in (REPO / ".env.example").read_text().splitlines():
        if match := re.match(r"(# )?([A-Z][A-Z0-9_]*)=(.*)$", line):
            found[match[2]] = (match[3], bool(match[1]))
    return found


def filled(text: str) -> str:
    """Compose's interpolation with an empty environment; secrets become a word."""
    return VARIABLE.sub(lambda m: "secret" if m[2] == "?" else m[3] or "", text)


def test_the_services_of_the_specification_are_all_there(services: dict[str, Any]) -> None:
    assert set(services) == {
        "postgres", "s3", "mlflow", "init", "code-location", "dagster", "daemon", "serving", "pushgateway", "prometheus", "grafana",
    }  # fmt: skip


def test_every_dependency_exists_and_can_reach_the_state_that_is_waited_for(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}"
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for the health of {other}"
            if wanted["condition"] == "service_completed_successfully":
                assert services[other]["restart"] == "no", f"{name} waits for the end of {other}"


def test_whatever_opens_the_dagster_instance_waits_for_the_initialiser(services: dict[str, Any]) -> None:
    openers = {name for name, s in services.items() if any(":/dagster" in v for v in s.get("volumes", []))} - {"init"}
    assert openers == {"code-location", "dagster", "daemon"}
    for name in openers:
        assert services[name]["depends_on"]["init"]["condition"] == "service_completed_successfully"


def test_every_mounted_file_is_in_the_repository_and_every_volume_is_declared(compose: dict[str, Any]) -> None:
    # Written by people or by runs, so not in a fresh clone.
    made_later = {"./.zebraops/sources"}
    used = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert source in made_later or (REPO / source).exists(), volume
            else:
                used.add(source)
    assert used == set(compose["volumes"])


def test_every_image_is_built_from_a_dockerfile_here_or_pinned_to_a_tag(services: dict[str, Any]) -> None:
    for name, service in services.items():
        image = filled(service["image"])
        assert re.search(r":v?\d+(\.\d+)+", image), f"{name} runs {image}"
        assert VARIABLE.fullmatch(service["image"]), f"{name}: the image must be a variable"
        if "build" in service:
            assert (REPO / service["build"]["dockerfile"]).is_file()


def test_every_variable_is_in_the_example_with_the_default_compose_uses() -> None:
    example = environment_example()
    for match in VARIABLE.finditer(COMPOSE.read_text()):
        name, kind, default = match.groups()
        assert name in example, f"${{{name}}} is not in .env.example"
        if kind == "-" and not name.startswith("ZEBRA_"):
            assert example[name] == (default, True), name


def test_no_secret_stands_in_the_file_and_none_has_a_default() -> None:
    text = COMPOSE.read_text()
    required = {m[1] for m in VARIABLE.finditer(text) if m[2] == "?"}
    assert required == SECRETS
    for name in SECRETS:
        assert {m[2] for m in VARIABLE.finditer(text) if m[1] == name} == {"?"}, f"{name} has a default somewhere"
    example = environment_example()
    assert all(not example[name][1] for name in SECRETS), "a required variable must not be commented out"
    assert [name for name in SECRETS if example[name][0]] == ["S3_ACCESS_KEY"], "only the key's name has a value in the example"


def test_ports_are_those_of_the_specification_and_on_loopback(services: dict[str, Any]) -> None:
    published: dict[str, dict[str, str]] = {}
    for name, service in services.items():
        for port in service.get("ports", []):
            address, outer, inner = filled(port).split(":")
            assert address == "127.0.0.1", f"{name}: {port}"
            published.setdefault(name, {})[outer] = inner
    assert published == PORTS


def test_containers_run_without_privileges_and_with_a_read_only_root(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        if name != "s3":  # its entrypoint starts as root and hands over to its own user
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_mlflow_accepts_the_name_its_clients_use(services: dict[str, Any]) -> None:
    hosts = next(word for word in services["mlflow"]["command"] if word.startswith("--allowed-hosts="))
    assert "mlflow:5000" in filled(hosts).partition("=")[2].split(",")
    assert services["code-location"]["environment"]["ZEBRA_MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_every_zebra_variable_is_a_setting(services: dict[str, Any]) -> None:
    from zebra_assets.settings import Settings

    # Read by infra/dagster/dagster.yaml, not by the platform.
    known = {f"ZEBRA_{field.upper()}" for field in Settings.model_fields} | {"ZEBRA_DAGSTER_PG_URL", "ZEBRA_LOG_BUCKET"}
    for name, service in services.items():
        unknown = {key for key in service.get("environment", {}) if key.startswith("ZEBRA_")} - known
        assert not unknown, f"{name}: {unknown}"


def test_database_urls_name_their_driver() -> None:
    for path in (COMPOSE, *(REPO / "infra").rglob("*.yaml")):
        code = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
        assert not re.search(r"(?<!\w)postgres(ql)?://", code), path


def test_every_scraped_target_is_a_service_that_listens_there(services: dict[str, Any]) -> None:
    inner = {"serving": "8080", "mlflow": "5000", "pushgateway": "9091", "localhost": "9090"}
    config = yaml.safe_load((REPO / "infra/prometheus/prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            host, port = target.split(":")
            assert inner[host] == port
            assert host in services or host == "localhost"


def test_the_process_that_explains_takes_at_most_half_of_its_container(services: dict[str, Any]) -> None:
    serving = services["serving"]
    whole = int(serving["deploy"]["resources"]["limits"]["memory"].removesuffix("g")) << 30
    assert 2 * int(serving["environment"]["ZEBRA_SERVING_EXPLAIN_MEMORY_BYTES"]) <= whole
