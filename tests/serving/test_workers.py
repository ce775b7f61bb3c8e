"""Several processes on one port: one server to everybody outside, whatever becomes of a worker."""

import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tests.serving.conftest import MODEL, REPO, ROW, Bench, note_of, until
from zebra_serving import figures
from zebra_serving.figures import Figures, figures_folder, forget
from zebra_serving.herald import Herald
from zebra_serving.supervisor import MAX_PAUSE_S, Supervisor, Worker


def value(page: str, series: str) -> float:
    """A series' value on a page of figures; 0 where it is absent."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.M)
    return float(found.group(1)) if found else 0.0


def ask(url: str) -> dict[str, Any]:
    """One prediction over a connection of its own; the kernel may give it to any worker."""
    return httpx.post(f"{url}/predict", json=ROW, timeout=30).raise_for_status().json()


def process_of(said: dict[str, Any]) -> str:
    """Which process answered: the random half of an event's id."""
    return str(said["predictions"][0]["event_id"]).partition("-")[0]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; one may end, and be buried, while it is asked."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_two_workers_are_one_server_that_outlives_either_of_them(bench: Bench) -> None:
    bench.promote("1")
    with bench.server("--workers", "2") as (process, client):
        url = str(client.base_url).rstrip("/")
        answers = [ask(url) for _ in range(60)]
        assert len({process_of(said) for said in answers}) == 2
        assert note_of(bench) == {"pid": process.pid, "url": url, "version": "1"}
        served = 'zebra_requests_total{route="/predict",status="200"}'
        until(lambda: value(httpx.get(f"{url}/metrics").text, served) == 60)

        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        workers[0].kill()
        until(lambda: len(living(psutil.Process(process.pid).children())) == 2)
        again = [ask(url) for _ in range(40)]
        assert {said["version"] for said in again} == {"1"}
        page = until(lambda: value((p := httpx.get(f"{url}/metrics").text), served) == 100 and p)
        assert value(page, 'zebra_request_seconds_bucket{le="+Inf",route="/predict"}') == 100

        bench.promote("2")
        until(lambda: {ask(url)["version"] for _ in range(12)} == {"2"})
        page = httpx.get(f"{url}/metrics").text
        assert 'version="2"} 1.0' in page and (until(lambda: 'version="1"' not in httpx.get(f"{url}/metrics").text))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert note_of(bench) is None and not list((bench.settings.home / "serving" / "figures").iterdir())
    assert not living(workers)


def test_workers_end_with_a_supervisor_that_is_killed(bench: Bench) -> None:
    bench.promote("1")
    with bench.server("--workers", "2") as (process, _):
        workers = psutil.Process(process.pid).children()
        process.kill()
        psutil.wait_procs(workers, timeout=30)
    assert not [w for w in workers if w.is_running()]


def test_a_server_that_cannot_serve_at_all_ends_with_the_reason(bench: Bench) -> None:
    spec = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text().replace("sensitive:", "sensitiv:"))
    with bench.start("--port", "0", "--workers", "2") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3 and "Did you mean 'sensitive'?" in said


def test_a_port_that_one_server_of_workers_has_is_taken_for_another(bench: Bench) -> None:
    bench.events.count(MODEL)
    with bench.server("--workers", "2") as (_, client):
        with bench.start("--port", str(client.base_url.port), "--workers", "2") as other:
            _, said = other.communicate(timeout=60)
        assert other.returncode == 9 and "is taken by another process" in said


@pytest.fixture
def counted() -> tuple[CollectorRegistry, Counter, Gauge, Histogram]:
    registry = CollectorRegistry()
    return (
        registry,
        Counter("c", "Things.", ["kind"], registry=registry),
        Gauge("g", "Now.", ["version"], registry=registry),
        Histogram("h", "Spread.", buckets=(1, 2), registry=registry),
    )


def test_figures_of_workers_add_up_and_gauges_of_the_dead_go(tmp_path: Any, counted: Any) -> None:
    registry, counter, gauge, histogram = counted
    one, two = Figures(tmp_path, "one", registry), Figures(tmp_path, "two", registry)
    counter.labels("a").inc(2)
    gauge.labels("1").set(1)
    for seen in (0.5, 1.5, 9):
        histogram.observe(seen)
    one.write()
    gauge.clear()
    gauge.labels("2").set(1)
    page = two.page()[0].decode()  # the same counts again, and another version
    assert value(page, 'c_total{kind="a"}') == 4 and value(page, "h_count") == 6 and value(page, "h_sum") == 22
    assert [value(page, f'h_bucket{{le="{le}"}}') for le in ("1.0", "2.0", "+Inf")] == [2, 4, 6]
    assert value(page, 'g{version="1"}') == value(page, 'g{version="2"}') == 1
    forget(tmp_path, "one")
    page = two.page()[0].decode()
    assert 'g{version="1"}' not in page and value(page, 'c_total{kind="a"}') == 4
    one.write()
    assert 'version="1"' not in two.page()[0].decode()


def test_figures_that_somebody_takes_away_are_written_again(tmp_path: Any, counted: Any) -> None:
    registry, counter, gauge, _ = counted
    counter.labels("a").inc(2)
    gauge.labels("1").set(1)
    one = Figures(tmp_path / "server", "one", registry)
    for taken in (lambda: shutil.rmtree(tmp_path / "server"), lambda: (tmp_path / "server" / "counter_one.db").unlink()):
        one.write()
        taken()
        page = one.page()[0].decode()
        assert value(page, 'c_total{kind="a"}') == 2 and value(page, 'g{version="1"}') == 1


def test_figures_go_on_after_a_write_that_failed(tmp_path: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counts:
        asked = 0

        def collect(self) -> list[Any]:
            self.asked += 1
            if self.asked in (1, 2):
                raise OSError(28, "No space left on device")
            return []

    monkeypatch.setattr(figures, "INTERVAL_S", 0.001)
    counts = Counts()
    one = Figures(tmp_path, "one", counts)
    one.start()
    until(lambda: counts.asked > 5)
    one.stop()
    assert caplog.text.count("are not written") == 1, "said once"


def test_a_servers_figures_are_left_alone_by_others_until_it_is_gone(tmp_path: Any) -> None:
    code = f"import pathlib, sys; from zebra_serving.figures import figures_folder as f; x = f(pathlib.Path({str(tmp_path)!r}))"
    code += "; print(x.__enter__(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        (theirs.parent / "77").mkdir()  # as servers named theirs once
        with figures_folder(tmp_path) as ours:
            assert ours != theirs and theirs.is_dir() and {*theirs.parent.iterdir()} == {ours, theirs}
        other.kill()
        other.wait()
    with figures_folder(tmp_path) as ours:
        assert {*theirs.parent.iterdir()} == {ours}
    assert not [*theirs.parent.iterdir()]


def test_a_worker_that_died_two_thousand_times_is_still_started_again(tmp_path: Any) -> None:
    supervisor = Supervisor([], ("127.0.0.1", 0), 0, tmp_path, Herald(tmp_path, [MODEL], "prod", ""), 0.0)
    worker = Worker(None, SimpleNamespace(stdin=None), settled=True, began=time.monotonic(), deaths=2000)  # type: ignore[arg-type]
    supervisor._bury(worker, -9)
    assert worker.process is None and 0 < worker.start_at - time.monotonic() <= MAX_PAUSE_S
