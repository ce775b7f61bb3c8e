"""The services of docker-compose.yml as plain processes: their own commands and environments, their names turned into
loopback addresses, on a real PostgreSQL and a real S3 server. What containers add (images, mounts, users) stays unproven."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra import REPO
from tests.infra.test_compose import filled

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
BIN = Path(sys.executable).parent
SECRET = secrets.token_hex(12)
# Port inside its container, by service; code-location's is in infra/dagster/workspace.yaml too.
PORTS = {"postgres": 5432, "s3": 9000, "mlflow": 5000, "code-location": 4000, "dagster": 3000, "serving": 8080, "pushgateway": 9091}
READY_S = 180  # a loaded machine took MLflow 88 s

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(POSTGRES is None, reason="needs a PostgreSQL server: apt-get install postgresql"),
]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Stack:
    """Compose's services on this machine."""

    folder: Path
    project: Path
    services: dict[str, Any]
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def here(self, text: str) -> str:
        """A word of the compose file as it must read on this machine."""
        text = filled(text).replace("$$", "$")
        for name, port in PORTS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
        own = {"/dagster/": f"{self.folder}/dagster/", "/data": f"{self.folder}/s3", "/tmp/": f"{self.folder}/", "0.0.0.0": "127.0.0.1"}
        text = re.sub("|".join(map(re.escape, own)), lambda found: own[found.group()], text)
        return text.replace("-ip=s3", "-ip=127.0.0.1").replace("secret", SECRET)

    def environment(self, name: str) -> dict[str, str]:
        said = {key: self.here(str(value)) for key, value in self.services[name].get("environment", {}).items()}
        mine = {"ZEBRA_PROJECT_DIR": str(self.project), "DAGSTER_HOME": str(self.folder / "dagster"), "ZEBRA_SENSOR_INTERVAL_S": "1"}
        return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **said, **mine}

    def command(self, name: str) -> list[str]:
        words = [self.here(word) for word in self.services[name]["command"]]
        if name in PORTS:  # a port of its own stands alone or behind '='
            words = [re.sub(rf"(^|=){PORTS[name]}$", rf"\g<1>{self.ports[name]}", word) for word in words]
        return words

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def run(self, name: str, *words: str) -> str:
        """A one-shot command in a service's environment; its stdout."""
        done = subprocess.run(
            words or self.command(name),
            env=self.environment(name),
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def start(self, name: str, argv: list[str] | None = None, **options: Any) -> None:
        """Start a service and wait for its health, by compose's own check where that is a Python or Dagster command."""
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                argv or self.command(name), env=self.environment(name), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, **({"cwd": self.project} | options),
            )  # fmt: skip
        self.started.append(process)
        check = [self.here(word) for word in self.services[name]["healthcheck"]["test"][1:]]
        check = (
            [re.sub(rf"127\.0\.0\.1:{PORTS[name]}\b", f"127.0.0.1:{self.ports[name]}", word) for word in check] if name in PORTS else check
        )
        check = [str(self.ports[name]) if word == str(PORTS.get(name)) else word for word in check]
        if check[0] == "wget":
            check = ["python", "-c", f"import urllib.request as r; r.urlopen('{check[-1]}', timeout=4)"]
        elif check[0] == "pg_isready":
            check = [f"{POSTGRES}/pg_isready", *check[1:], f"--port={self.ports[name]}"]

        def healthy() -> bool:
            assert process.poll() is None, f"{name} ended: {self.log(name).read_text()[-3000:]}"
            return subprocess.run(check, env=self.environment(name), capture_output=True, timeout=60, check=False).returncode == 0

        self.until(healthy, f"{name} is healthy")

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if done():
                return
            time.sleep(0.2)
        logs = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(self.folder.glob("*.log")))
        pytest.fail(f"not within {READY_S} s: {what}\n{logs}")

    def get(self, url: str, body: Any = None, token: str | None = None) -> tuple[int, str]:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(self.here(url), json.dumps(body).encode() if body is not None else None, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self) -> None:
        """The newest first, each with what it started."""
        for process in reversed(self.started):
            process.send_signal(signal.SIGINT if process is self.started[0] else signal.SIGTERM)  # SIGINT: PostgreSQL's fast shutdown
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def start_postgres(stack: Stack) -> None:
    data = stack.folder / "postgres"
    options = {"cwd": data}
    data.mkdir()
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(data, "postgres")
        options["user"] = "postgres"
        for folder in (stack.folder, *stack.folder.parents):
            if folder.owner() == "root" and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o011)
    password = stack.folder / "password"
    password.write_text(SECRET)
    password.chmod(0o644)
    words = [f"{POSTGRES}/initdb", f"--pgdata={data}", "--username=zebra", f"--pwfile={password}", "--auth=scram-sha-256"]
    subprocess.run(words, check=True, capture_output=True, **options)  # type: ignore[call-overload]
    (data / "postgresql.auto.conf").write_text(
        f"listen_addresses = '127.0.0.1'\nport = {stack.ports['postgres']}\nunix_socket_directories = ''\n"
    )
    # pg_isready asks for a server, not for its databases; those come right after, as from the entrypoint of the image.
    stack.start("postgres", [f"{POSTGRES}/postgres", "-D", str(data)], **options)
    sql = "create database zebra;" + (REPO / "infra/docker/postgres-databases.sql").read_text()
    for statement in re.findall(r"create database \w+;", sql, re.I):
        environment = {**os.environ, "PGPASSWORD": SECRET}
        words = [
            f"{POSTGRES}/psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(stack.ports["postgres"]),
            "-U",
            "zebra",
            "-d",
            "postgres",
            "-c",
            statement,
        ]
        subprocess.run(words, check=True, capture_output=True, env=environment)


@pytest.fixture
def stack(tmp_path: Path, project: Path) -> Iterator[Stack]:
    folder = tmp_path / "stack"
    (folder / "dagster").mkdir(parents=True)
    made = Stack(folder, project, yaml.safe_load((REPO / "docker-compose.yml").read_text())["services"])
    shutil.copyfile(REPO / "infra/dagster/dagster.yaml", folder / "dagster/dagster.yaml")
    workspace = (REPO / "infra/dagster/workspace.yaml").read_text().replace("host: code-location", "host: 127.0.0.1")
    (folder / "dagster/workspace.yaml").write_text(workspace.replace("port: 4000", f"port: {made.ports['code-location']}"))
    try:
        yield made
    finally:
        made.stop()


def test_new_rows_end_in_a_served_version_on_postgres_and_s3(stack: Stack) -> None:
    start_postgres(stack)
    stack.start("s3", [str(BIN / "weed"), *stack.command("s3"), "-admin.ui=false"])
    stack.start("mlflow")
    stack.run("init")
    for name in ("code-location", "dagster", "daemon"):
        stack.start(name)
    serving = [sys.executable, "-m", "zebra_serving", *stack.command("serving")]
    stack.start("serving", serving)
    assert stack.get("http://serving:8080/ready", token=SECRET)[0] == 503, "there is nothing to serve yet"

    ingested = json.loads(stack.run("init", "mlops", "ingest", "tabular-churn", "--json"))
    manifest = ingested["manifest"]["id"]
    # From here on nobody is asked: the daemon's sensor sees the manifest, the run trains, the gate decides, the server follows.
    stack.until(lambda: stack.get("http://serving:8080/ready", token=SECRET)[0] == 200, "a version is served")
    status, model = stack.get("http://serving:8080/model", token=SECRET)
    assert status == 200
    assert json.loads(model)["manifest_id"] == manifest
    assert stack.get("http://serving:8080/model")[0] == 401, "a token is required beyond loopback and whenever one is set"
    assert "zebra_serving_model_info" in stack.get("http://serving:8080/metrics", token=SECRET)[1]
    assert stack.get("http://mlflow:5000/metrics")[0] == 200

    import boto3

    environment = stack.environment("code-location")
    s3 = boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    for bucket in ("zebra", "mlflow", "dagster-logs"):
        assert s3.list_objects_v2(Bucket=bucket).get("KeyCount"), f"nothing in s3://{bucket}"
