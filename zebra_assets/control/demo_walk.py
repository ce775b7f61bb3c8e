"""The demo's walk, step by step: what is started, waited for and told. `demo` decides where and how far."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from zebra_assets import telemetry
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.verdicts import DriftReport, GateDecision
from zebra_assets.control import server
from zebra_assets.control.demo_load import Load, rows_of
from zebra_assets.control.processes import Service, free_port
from zebra_assets.errors import ZebraError
from zebra_assets.parts import Parts
from zebra_assets.project import load_project
from zebra_assets.settings import load_settings

MODEL = DATASET = "tabular-churn"
CHAIN = ("candidate", "predictions", "evaluation", "decision", "promotion")
# Seconds the loop may take from the first drifted prediction to the new version serving. On 2 quiet cores it takes about 60.
PATIENCE_S = 240

Say = Callable[[str], Any]


@dataclass
class Told:
    """What the demo saw, for the summary."""

    manifests: list[Manifest] = field(default_factory=list)
    decisions: list[GateDecision] = field(default_factory=list)
    promotions: list[Promotion] = field(default_factory=list)
    drift: DriftReport | None = None
    sensor: str | None = None
    requests: int = 0
    failed: int = 0
    versions_seen: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    serve: str = ""
    curl: str = ""


class Demo:
    """One walk of the loop in one folder."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder, self.say, self.told = folder, say, Told()
        self.parts = Parts(load_settings(folder))
        self.spec = load_project(folder).model(MODEL)
        self.env = {
            "ZEBRA_PROJECT_DIR": str(folder),
            "DAGSTER_HOME": str(folder / "dagster_home"),
            "ZEBRA_SENSOR_INTERVAL_S": "3",  # 30 by default; a demo is watched
            "ZEBRA_WATCH_SOURCES": "false",  # fresh rows wait at the source until drift asks for them
            "ZEBRA_ACTOR": "demo",
            **telemetry.OFF,
        }

    def first_version(self, stack: ExitStack, *, dagster: bool) -> None:
        """Source -> manifest -> model -> gate -> prod, through Dagster's own command line."""
        from zebra_assets.datasets.ingest import ingest

        self._python([f"models/{MODEL}/source.py", "--project", str(self.folder)], "source")
        dataset = load_project(self.folder).dataset(DATASET)
        done = ingest(dataset, project=self.folder, store=self.parts.store, manifests=self.parts.manifests)
        self._tell_manifest("ingest", done.manifest, done.seconds)
        self._python(["-m", "zebra_assets.defs.initialise"], "initialise")
        self.say("init     stores migrated, partition registered")
        if dagster:
            self.dagster = stack.enter_context(self._dagster())
        chain = ",".join([f'key:"{DATASET}/dataset"', *(f'key:"{MODEL}/{step}"' for step in CHAIN)]).replace(",", " or ")
        began = time.monotonic()
        materialize = ["-m", "dagster", "asset", "materialize", "-m", "zebra_assets.defs.definitions"]
        self._python([*materialize, "--select", chain, "--partition", done.manifest.id], "materialize")
        self.say(f"dagster  dataset -> {' -> '.join(CHAIN)} in {time.monotonic() - began:.0f} s")
        head = self.parts.ledger.head(MODEL, self.spec.promotion.alias_prod)
        if head is None:
            raise ZebraError("The first version did not reach prod.", fix=f"less {self._log('materialize')}")
        self._tell_promotion(head)

    def serve_and_drift(self, stack: ExitStack) -> None:
        """Serve v1, send it yesterday's customers, then tomorrow's, and watch the sensors do the rest."""
        port = free_port()
        argv = server.command(self.folder, [MODEL], port=port)
        serving = Service("serving", argv, env=server.environment(self.env), log=self._log("serving"), cwd=self.folder)
        stack.enter_context(serving)
        url = f"http://127.0.0.1:{port}"
        serving.wait_until(lambda: httpx.get(f"{url}/ready").status_code == 200, 60)
        self.say(f"serve    v{httpx.get(f'{url}/model').json()['version']} on {url}")
        self.dagster.wait_until(self._dagster_up, 90)
        self.say(f"dagster  webserver, daemon and sensors up on {self.dagster_url}")
        with Load(url) as load:
            before = self._rows(fibre=False)
            load.send(before[:600])
            stable = self._wait_for(lambda: self._report("stable"), "a drift report on known customers")
            self._tell_drift(stable)
            self._python([f"models/{MODEL}/source.py", "--fibre", "--project", str(self.folder)], "source")
            fibre = self._rows(fibre=True)
            self.say(f"launch   {len(fibre):,} fibre customers appear: in the requests, and at the source")
            load.send(fibre[:1500])
            drifted = self._wait_for(lambda: self._report("drifted"), "a drifted window")
            self._tell_drift(drifted)
            self.told.drift = drifted
            load.keep_going([row for pair in zip(before, fibre, strict=False) for row in pair])  # the company's customers as they now are
            head = self._wait_for(lambda: self._newer_head("1"), "the sensors' new version in prod")
            self._wait_for(lambda: httpx.get(f"{url}/model").json()["version"] == head.version, "the server to pick it up")
            load.send(fibre[:100])
        self._tell_manifest("ingest", self.parts.manifests.get(head.manifest_id), None)
        self._tell_promotion(head)
        self.told.sensor = self._sensor_of(head)
        self.told.requests, self.told.failed, self.told.versions_seen = load.requests, load.failed, dict(load.versions)
        self.say(f"swap     {load.requests:,} requests, {load.failed} failed; answered by {_counts(load.versions)}")
        if load.failed or self.told.sensor is None:
            raise ZebraError(
                f"The demo fell short: {load.failed} failed requests, sensor {self.told.sensor}.", fix=f"less {self._log('serving')}"
            )
        self.told.serve = f"mlops --project {self.folder} serve {MODEL}"
        body = json.dumps({"rows": [fibre[0]]})
        self.told.curl = f"curl -s http://127.0.0.1:8080/predict -H 'content-type: application/json' -d '{body}'"

    def _rows(self, *, fibre: bool) -> list[dict[str, Any]]:
        return rows_of(load_project(self.folder).dataset(DATASET), self.folder, lambda t: (t["internet_service"] == "Fiber optic") == fibre)

    def _dagster(self) -> Service:
        port = free_port()
        self.dagster_url = f"http://127.0.0.1:{port}"
        argv = [
            sys.executable,
            "-m",
            "dagster",
            "dev",
            "-w",
            "workspace.yaml",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "--log-level",
            "warning",
        ]
        return Service("dagster dev", argv, env=self.env, log=self._log("dagster"), cwd=self.folder)

    def _dagster_up(self) -> bool:
        return "__typename" in self._graphql("{ repositoriesOrError { __typename ... on RepositoryConnection { nodes { name } } } }")

    def _graphql(self, query: str) -> str:
        answer = httpx.post(f"{self.dagster_url}/graphql", json={"query": query}, timeout=10)
        return answer.text if answer.status_code == 200 and '"nodes": []' not in answer.text else ""

    def _sensor_of(self, head: Promotion) -> str | None:
        """The sensor that started the run which moved the alias, as Dagster itself recorded it."""
        run_id = head.reason.rsplit(" ", 1)[-1]
        raw = self._graphql(f'{{ runOrError(runId: "{run_id}") {{ __typename ... on Run {{ tags {{ key value }} }} }} }}')
        tags = {t["key"]: t["value"] for t in (json.loads(raw)["data"]["runOrError"].get("tags", []) if raw else [])}
        return tags.get("dagster/sensor_name")

    def _report(self, state: str) -> DriftReport | None:
        return next((r for _, r in reversed(self.parts.records.drifts(MODEL, limit=1000)) if r.state == state), None)

    def _newer_head(self, than: str) -> Promotion | None:
        head = self.parts.ledger.head(MODEL, self.spec.promotion.alias_prod)
        return head if head is not None and head.version != than else None

    def _wait_for(self, seen: Callable[[], Any], what: str) -> Any:
        for answer in _poll(seen, PATIENCE_S):
            if answer:
                return answer
            if not self.dagster.alive:
                break
        raise ZebraError(f"Waited {PATIENCE_S} s for {what}, in vain.", fix=f"less {self._log('dagster')}")

    def _python(self, argv: list[str], log: str) -> None:
        """Run a Python process of the demo to its end, in its own log."""
        with Service(log, [sys.executable, *argv], env=self.env, log=self._log(log), cwd=self.folder) as process:
            code = process.wait(300)
        if code:
            tail = "\n".join(self._log(log).read_text(errors="replace").splitlines()[-15:])
            raise ZebraError(f"`python {' '.join(argv[:4])} …` ended with {code}:\n{tail}", fix=f"less {self._log(log)}")

    def _log(self, name: str) -> Path:
        folder = self.folder / ".zebraops" / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def _tell_manifest(self, what: str, manifest: Manifest, seconds: float | None) -> None:
        self.told.manifests.append(manifest)
        splits = ", ".join(f"{name} {rows:,}" for name, rows in manifest.stats.rows_by_split.items())
        took = f" in {seconds:.1f} s" if seconds is not None else ""
        self.say(f"{what:<8} {manifest.id}: {manifest.stats.rows:,} rows ({splits}){took}")

    def _tell_promotion(self, promotion: Promotion) -> None:
        decision = self.parts.records.decision(promotion.decision_id)
        if decision is not None:
            self.told.decisions.append(decision)
            for reason in decision.reasons:
                self.say(f"gate     {reason}")
        self.told.promotions.append(promotion)
        self.say(f"promote  {promotion.alias}: v{promotion.from_version or '–'} -> v{promotion.version}")

    def _tell_drift(self, report: DriftReport) -> None:
        self.say(f"monitor  {report.state}: {report.reason}")


def _poll(seen: Callable[[], Any], seconds: float) -> Iterator[Any]:
    """Ask every half second until the time is up; a server that does not answer yet is a no."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            yield seen()
        except httpx.HTTPError:
            yield None
        time.sleep(0.5)


def _counts(versions: dict[str, int]) -> str:
    return ", ".join(f"v{v}: {n:,}" for v, n in sorted(versions.items()))
