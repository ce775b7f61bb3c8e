"""Alert rules and boards against what the code exports: by name always, by Prometheus itself where it is installed."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from tests.infra import REPO
from zebra_assets.adapters.prometheus import drift_metrics_text
from zebra_assets.contracts.arm import ArmTally
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.verdicts import ColumnDrift, DriftReport
from zebra_serving.metrics import Metrics
from zebra_serving.routing.figures import RouteFigures

PROMETHEUS = REPO / "infra/prometheus"
PROVISIONING = REPO / "infra/grafana/provisioning"
BOARDS = sorted((PROVISIONING / "dashboards").glob("*.json"))
ALERTS = [r for g in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for r in g["rules"]]
CASES = [c for t in yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"] for c in t["alert_rule_test"]]


def _tool(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")


def _exposition() -> str:
    """What a server that has seen everything and a drift check export."""
    served = Metrics()
    for route in ("/predict", "/model"):
        for status in (200, 422, 503):
            served.answered(route, status, 0.004)
    served.stages.saw(0.0, 0.00001, 0.00003, 0.000004, 0.000006, times=16)
    served.rows.inc(3)
    served.reloads.inc()
    served.reload_failures.labels("digest").inc()
    one = {"model": "churn", "version": "2", "manifest_id": "telco-0123456789abcdef"}
    zeros = "0" * 64
    moved = {"alias": "prod", "seq": 1, "kind": "promote", "from_version": None, "model_digest": zeros, "decision_id": "d", "actor": "a"}
    now = "2026-11-21T12:00:00Z"
    served.serving(Promotion.model_validate({**one, **moved, "run_id": "run-00000001", "reason": "", "created_at": now}))
    column = ColumnDrift(column="tenure", kind="numeric", score=0.4, threshold=0.2, drifted=True, psi=0.4, js=0.2)
    report = {"id": "r", "window_start": None, "window_end": None, "rows": 500, "state": "drifted", "score": 1.0, "columns": [column]}
    drift = DriftReport.model_validate({**one, **report, "recommendation": "retrain", "reason": "", "created_at": now})
    return served.page()[0].decode() + _routed() + drift_metrics_text(drift)


def _routed() -> str:
    """What a server exports whose route has a candidate with a shadow."""
    about: dict[str, Any] = {"model": "churn", "alias": "prod", "route": 1, "requests": 90, "errors": 1}
    arms = [ArmTally(id=f"churn-prod-1-{name}", name=name, version=version, **about) for name, version in (("champion", "2"), ("new", "3"))]
    registry = CollectorRegistry()
    registry.register(RouteFigures(SimpleNamespace(tallies=lambda: arms, rollbacks={}, plan=None)))  # type: ignore[arg-type]
    return generate_latest(registry).decode()


def _board(path: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads(path.read_text())
    return board


def _queries(path: Path) -> list[str]:
    """Every expression of a board, its variables filled in as Grafana would."""
    board = _board(path)
    found = [t["expr"] for p in board["panels"] for t in p["targets"]] + [a["expr"] for a in board["annotations"]["list"]]
    return [q.replace("$__rate_interval", "1m").replace("$model", ".*") for q in found]


def test_every_metric_that_is_asked_for_is_exported() -> None:
    exported = set(re.findall(r"^(zebra_\w+)", _exposition(), re.MULTILINE))
    asked = {r["alert"]: r["expr"] for r in ALERTS} | {f"{p.stem}: {q}": q for p in BOARDS for q in _queries(p)}
    unknown = {where: names for where, q in asked.items() if (names := set(re.findall(r"zebra_\w+", q)) - exported)}
    assert not unknown


@pytest.mark.parametrize("alert", [r["alert"] for r in ALERTS])
def test_every_alert_has_a_case_that_fires_one_that_stays_silent_and_a_fix(alert: str) -> None:
    expected = [bool(c["exp_alerts"]) for c in CASES if c["alertname"] == alert]
    assert set(expected) == {True, False}
    rule = next(r for r in ALERTS if r["alert"] == alert)
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["fix"]


@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "config", "prometheus.yml"],
        ["promtool", "check", "rules", "rules.yml"],
        ["promtool", "test", "rules", "rules_test.yml"],
        ["amtool", "check-config", "../alertmanager/alertmanager.yml"],
    ],
    ids=" ".join,
)
def test_the_tools_of_prometheus_find_nothing_wrong(command: list[str], tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS.parent, tmp_path / "infra")
    where = tmp_path / "infra/prometheus"
    token = tmp_path / "serving-token"  # its container writes it as it starts; promtool asks that it is there
    token.write_text("a-token")
    config = where / "prometheus.yml"
    config.write_text(config.read_text().replace("/tmp/serving-token", str(token)))
    done = subprocess.run([_tool(command[0]), *command[1:]], cwd=where, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_a_board_is_well_formed(path: Path) -> None:
    board = _board(path)
    assert board["uid"] == f"zebra-{path.stem}"
    assert all(link["url"].removeprefix("/d/zebra-") in {p.stem for p in BOARDS} for link in board["links"])
    sources = [yaml.safe_load(p.read_text()) for p in (PROVISIONING / "datasources").glob("*.yaml")]
    known = {s["uid"] for source in sources for s in source["datasources"]}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert {t["datasource"]["uid"] for t in panel["targets"]} <= known
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
    ids = [p["id"] for p in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_boards_are_where_grafana_is_told_to_look() -> None:
    provider = yaml.safe_load((PROVISIONING / "dashboards/boards.yaml").read_text())["providers"][0]
    mounts = yaml.safe_load((REPO / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    mounted = dict(m.split(":")[:2] for m in mounts if m.startswith("./"))
    assert mounted == {"./infra/grafana/provisioning": "/etc/grafana/provisioning"}
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that has scraped `_exposition` twice; its URL."""
    binary, folder, page = _tool("prometheus"), tmp_path_factory.mktemp("prometheus"), _exposition().encode()

    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Exporter) as exporter:
        threading.Thread(target=exporter.serve_forever, daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        job = {"job_name": "serving", "scrape_interval": "200ms", "scrape_timeout": "200ms"}
        target = [{"targets": [f"127.0.0.1:{exporter.server_address[1]}"]}]
        (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [{**job, "static_configs": target}]}))
        argv = [
            binary,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(150):
                if len(_ask(url, "zebra_rows_total > 0 and count_over_time(zebra_rows_total[1m]) >= 2")):
                    break
                time.sleep(0.2)
            else:
                pytest.fail((folder / "log").read_text()[-2000:])
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)
            exporter.shutdown()


def _ask(url: str, query: str) -> list[Any]:
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=5) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
            return result
    except urllib.error.HTTPError as error:
        if error.code == 503:  # not ready yet
            return []
        raise AssertionError(f"{query}: {json.load(error)['error']}") from error
    except urllib.error.URLError:  # not up yet
        return []


# Empty while all is well.
QUIET = {'ALERTS{alertstate="firing"}', "sum(increase(zebra_reloads_total[1m])) > 0"}


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_every_panel_of_a_board_has_something_to_show(path: Path, prometheus: str) -> None:
    empty = [q for q in _queries(path) if not _ask(prometheus, q) and q not in QUIET]
    assert not empty
