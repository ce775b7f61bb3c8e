"""`up --lite` and `down` for real: Dagster, MLflow and the server of a project in which nothing is promoted yet."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import NAME, Mlops
from zebra_assets.cli import ports
from zebra_assets.cli.processes import birth
from zebra_assets.control.processes import free_port


@pytest.mark.e2e
def test_the_lite_stack_comes_up_answers_and_goes_down_without_a_trace(process: Mlops, ready: Path) -> None:
    taken = {"dagster": free_port(), "mlflow": free_port(), "serving": free_port()}
    words = ["up", "--lite", "--json", *(word for name, port in taken.items() for word in (f"--{name}-port", str(port)))]
    try:
        up = process(*words, project=ready)
        assert up.code == 0, up.out + up.err
        first = {s["name"]: s for s in up.json["services"]}
        assert {name: s["url"] for name, s in first.items()} == {name: f"http://127.0.0.1:{port}" for name, port in taken.items()}
        assert "dagster_version" in httpx.get(f"{first['dagster']['url']}/server_info").text
        assert httpx.get(f"{first['mlflow']['url']}/health").text == "OK"
        assert httpx.get(f"{first['serving']['url']}/health").status_code == 200
        assert httpx.get(f"{first['serving']['url']}/ready").status_code == 503  # nothing in prod

        again = {s["name"]: s["pid"] for s in process(*words, project=ready).json["services"]}
        assert again == {name: s["pid"] for name, s in first.items()}
    finally:
        down = process("down", "--json", project=ready)
    assert down.code == 0 and sorted(down.json["stopped"]) == sorted(taken)
    assert not any(ports.taken(port) for port in taken.values())
    assert all(birth(pid) is None for pid in again.values())


def test_the_lite_s3_server_holds_the_objects_of_a_project_and_keeps_its_secret(tmp_path: Path, ready: Path) -> None:
    from zebra_assets.cli import s3
    from zebra_assets.cli.services import Services

    home = tmp_path / "home"
    # Up to 21,700 none of its ports (the last is 11,003 above) is one that the system gives to a connection between this look and its start.
    port = next(p for p in range(20_000, 21_700) if s3.service(home, p, {}).in_the_way(p) is None)
    env = s3.environment(home, port)
    assert (home / "s3.env").stat().st_mode & 0o777 == 0o600
    assert s3.environment(home, port) == env
    services = Services(home, tmp_path)
    wanted = s3.service(home, port, env)
    assert not any(env["AWS_SECRET_ACCESS_KEY"] in word for word in wanted.argv)
    try:
        services.up([wanted], timeout_s=60, tick=lambda text: None)
        argv = [sys.executable, "-m", "zebra_assets.cli.main", "--project", str(ready), "ingest", NAME, "--json"]
        done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert all(a["uri"].startswith("s3://zebra/blobs/") for a in json.loads(done.stdout)["manifest"]["artifacts"])
    finally:
        assert services.down() == ["s3"]


def test_serve_becomes_the_server_itself(walked: Path) -> None:
    """One pid to watch: what answers on the port is the process that was started."""
    port = free_port()
    argv = [sys.executable, "-m", "zebra_assets.cli.main", "serve", NAME, "--port", str(port)]
    with subprocess.Popen(argv, cwd=walked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + 60
            while not (up := ports.taken(port)) and time.monotonic() < end and server.poll() is None:
                time.sleep(0.1)
            assert up and (held := ports.holder(port)) is not None and held[0] == server.pid
            assert b"GLIBC_TUNABLES=glibc.malloc.tcache_count=0" in Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        finally:
            server.terminate()


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_stopped_leaves_no_process_and_a_cancelled_run(
    ready: Path, mlops: Mlops, sign: signal.Signals, code: int
) -> None:
    assert mlops("ingest", NAME, project=ready).code == 0
    script = "import os, pathlib, time\npathlib.Path(os.environ['ZEBRA_OUTPUT_DIR'], 'pid').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    (ready / "models" / NAME / "train.py").write_text(script)
    argv = [sys.executable, "-m", "zebra_assets.cli.main", "train", NAME, "--json"]
    with subprocess.Popen(argv, cwd=ready, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        end = time.monotonic() + 60
        while not (seen := [p for p in (ready / ".zebraops" / "runs").glob("*/*/output/pid") if p.read_text()]) and time.monotonic() < end:
            time.sleep(0.05)
        child = int(seen[0].read_text())
        training.send_signal(sign)
        training.communicate(timeout=30)
    assert training.returncode == code
    assert birth(child) is None
    runs = mlops("list", "runs", "--json", project=ready).json["runs"]
    assert [(r["state"], r["version"]) for r in runs] == [("cancelled", None)]
